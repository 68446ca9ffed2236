"""What is shipped: the wheel has every file, units and Dockerfile name what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from promring import __version__
from promring.cli import COMMANDS, main
from promring.config.load import load
from tests.promql import ROOT
from tests.waiting import patient

UNITS = {"run": ROOT / "deploy/promring.service", "agent": ROOT / "deploy/promring-agent.service"}
ENVIRONMENTS = {"run": ROOT / "deploy/debian/promring.env", "agent": ROOT / "deploy/debian/agent.env"}


def variables(command: str) -> set[str]:
    """The environment variables of a command's options, as its page has them."""
    page = (ROOT / "docs/commands.md").read_text()
    section = page.split(f"## promring {command}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`(PROMRING_\w+)`", section))


@pytest.mark.parametrize("command", UNITS)
def test_a_unit_sets_options_that_its_command_has(command: str) -> None:
    unit = UNITS[command].read_text()
    assert f"ExecStart=/opt/promring/bin/promring {command}\n" in unit
    assert command in COMMANDS
    said = set(re.findall(r"^Environment=(\w+)=", unit, re.MULTILINE))
    said |= set(re.findall(r"^#(PROMRING_\w+)=", ENVIRONMENTS[command].read_text(), re.MULTILINE))
    assert said
    assert said <= variables(command)
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "WatchdogSec=30", "Type=notify"):
        assert line in unit.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here (apt-get install systemd)")
@pytest.mark.parametrize("command", UNITS)
def test_systemd_knows_every_line_of_a_unit_and_finds_it_hardened(command: str) -> None:
    analyze = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(UNITS[command])]
    done = subprocess.run(analyze, capture_output=True, text=True, timeout=patient(60), check=False)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout.splitlines()[-1]  # above 2.0 of 10 it is 1


def test_the_source_archive_has_all_that_the_repository_has() -> None:
    """But what CI needs; the builder itself adds the last two."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=patient(60), check=False)
    if listed.returncode:
        pytest.skip("no git checkout here")
    names = {f"/{name.split('/')[0]}" for name in listed.stdout.splitlines()}
    left = {name for name in names if not any(fnmatch(name, pattern) for pattern in taken)}
    assert left == {"/.ci", "/.gitignore", "/pyproject.toml"}


def test_the_image_is_made_of_files_that_are_here_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    copied = [word for line in copies for word in line.split() if not word.startswith("--")]
    assert copied
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert set(copied) <= kept
    assert all((ROOT / name).exists() for name in kept)
    last = text.split("\nFROM ")[-1]
    assert re.search(r"^USER [1-9]", last, re.MULTILINE)
    assert set(re.findall(r"(PROMRING_\w+)=", last)) <= variables("run")


def test_an_agent_in_the_image_has_a_port_of_its_own() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/scrapers.yaml").read_text())
    pods = [one["spec"]["template"]["spec"] for one in documents if one["kind"] == "StatefulSet"]
    agents = [one for pod in pods for one in pod["initContainers"] if one["args"][0] == "agent"]
    assert [one["ports"][0]["containerPort"] for one in agents] == [9601]
    assert "--web.listen-address=:9601" in agents[0]["args"]


def test_the_example_is_a_valid_configuration() -> None:
    settings = load(ROOT / "deploy/promring.example.yml")
    assert [service.name for service in settings.shard_services] == ["node_exporter"]


def test_version_is_said_in_one_line() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"promring, version {__version__}\n"
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.real  # the builder is fetched
def test_the_wheel_has_every_file_and_runs_from_it(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "--no-deps", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=patient(120), check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("promring/")}
        metadata = archive.read(f"promring-{__version__}.dist-info/METADATA").decode()
        archive.extractall(tmp_path / "unpacked")
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert names == {str(path.relative_to(ROOT / "src")) for path in files if not path.name.startswith(".")}
    assert "promring/py.typed" in names
    assert "Requires-Python: >=3.11" in metadata
    code = "import promring, sys; from promring.cli import main; print(promring.__file__); main(['simulate', *sys.argv[1:]])"
    simulate = [sys.executable, "-c", code, "--scrapers", "3", "--targets", "300"]
    ran = subprocess.run(
        simulate,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "unpacked")},
        timeout=patient(60),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{tmp_path}/unpacked/")
