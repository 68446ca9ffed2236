"""``promring check`` finds what building would find, and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest
from click.testing import CliRunner

from promring.cli import main
from promring.delivery.ansible_run import find_program

SERVICE = """shard_services:
  - name: node
    scrapers:
      probe: {nodes: [10.0.0.1:9090]}
    targets:
      - %s
    delivery:
      - %s
"""
FILES = "file: {files: [targets/*.json]}"
OUT = 'file: {path: "out/{service}/{scraper}.json"}'
SSH = 'ssh: {user: u, path: "/x/{host}.json", identity_file: key, known_hosts: known_hosts}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a key, known hosts and targets."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    (tmp_path / "known_hosts").write_text(f"a {key.export_public_key().decode()}")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/a.json").write_text("[]")
    (tmp_path / "good.py").write_text("def targets(): raise SystemExit('it was called')\nnot_one = 3\n")
    return tmp_path


def check(folder: Path, targets: str = FILES, delivery: str = OUT, **env: str) -> tuple[int, list[str]]:
    """Exit status and lines of ``promring check``; in a process of its own when that has an environment of its own."""
    file = folder / "x.yml"
    file.write_text(SERVICE % (targets, delivery))
    if not env:
        result = CliRunner().invoke(main, ["check", str(file)])
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result.exit_code, result.output.replace(f"{file}:", "x.yml:").splitlines()
    command = [sys.executable, "-m", "promring", "check", "x.yml"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, (done.stderr + done.stdout).splitlines()


def without_a_module(folder: Path, name: str) -> dict[str, str]:
    """The environment of a Python in which this library is not installed."""
    shim = folder / "shim"
    shim.mkdir()
    (shim / f"{name}.py").write_text(f"raise ImportError('No module named {name}', name='{name}')\n")
    return {"PYTHONPATH": str(shim)}


def test_what_can_be_built_is_valid_and_nothing_is_written(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for targets, delivery in ((FILES, OUT), (FILES, SSH), ("python: {callable: 'good:targets'}", OUT)):
        assert check(folder, targets, delivery) == (0, ["x.yml: valid, 1 shard service: node"])
    assert [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts and p.name != "x.yml"] == before


def test_a_glob_that_matches_nothing_is_valid_and_said(folder: Path) -> None:
    status, (warning, valid) = check(folder, "file: {files: [targets/*.json, targts/*.yml]}")
    assert (status, valid) == (0, "x.yml: valid, 1 shard service: node")
    assert warning == (
        f"x.yml:6: shard_services[0].targets[0].file.files[1]: warning: no file matches '{folder}/targts/*.yml' yet"
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("10.0.0.1:9090", "'[::]:9090'", 4, "scrapers.probe.nodes[0]: warning: is an address to listen on, not to ask"),
        (
            "targets:",
            "wait_for: {scrapers: 2}\n    targets:",
            5,
            "wait_for.scrapers: warning: only 1 scraper listed: each cold start lasts 60 s",
        ),
        (
            "targets:",
            "placement: {replication_factor: 2}\n    targets:",
            5,
            "placement.replication_factor: warning: only 1 scraper listed: a target is on that many at most",
        ),
        (FILES, FILES[:-1] + ", refresh_interval: 5ms}", 6, "file.refresh_interval: warning: asks every 5ms: ms are mill"),
        (FILES, "file_sd_configs: [{files: [targets/*.json], refresh_interval: 5ms}]", 6, "_configs[0].refresh_interval: w"),
        (
            FILES,
            'http: {url: "http://x/", refresh_interval: 5s, timeout: 9s}',
            6,
            "http.timeout: warning: longer than re",
        ),
        (
            FILES,
            'http: {url: "http://x/", basic_auth: {username: u}}',
            6,
            "http.basic_auth: warning: no password: an empt",
        ),
        (
            FILES,
            'http_sd_configs: [{url: "http://x/", basic_auth: {username: u}}]',
            6,
            "_configs[0].basic_auth: warning: n",
        ),
        (FILES, 'file: {files: ["~/x/*.json"]}', 6, "x/*.json' yet; ~ is no home folder here"),
        (
            "targets:",
            "scraper_api: {basic_auth: {username: u}}\n    targets:",
            5,
            "scraper_api.basic_auth: warning: no p",
        ),
    ],
)
def test_what_is_hardly_meant_is_said(folder: Path, old: str, new: str, line: int, said: str) -> None:
    text = SERVICE % (FILES, OUT)
    assert text.count(old) == 1
    (folder / "x.yml").write_text(text.replace(old, new))
    result = CliRunner().invoke(main, ["check", str(folder / "x.yml")])
    warning, valid = result.output.splitlines()
    assert result.exit_code == 0
    assert valid.endswith("valid, 1 shard service: node")
    assert warning.startswith(f"{folder}/x.yml:{line}: "), warning
    assert said in warning


def test_an_address_to_listen_on_is_said_in_a_list_of_scrapers_too(folder: Path) -> None:
    (folder / "s.json").write_text('["a:1", "0.0.0.0:9090"]')
    (folder / "x.yml").write_text(
        (SERVICE % (FILES, OUT)).replace("probe: {nodes: [10.0.0.1:9090]}", "file: {path: s.json}")
    )
    result = CliRunner().invoke(main, ["check", str(folder / "x.yml")])
    assert (result.exit_code, f"{folder}/s.json: 0.0.0.0:9090 is an address to listen on" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("callable", "why"),
    [
        ("absent:targets", "ModuleNotFoundError: No module named 'absent'"),
        ("good:absent", "AttributeError: module 'good' has no attribute 'absent'"),
        ("good:not_one", "TypeError: good:not_one is not a function"),
        ("broken:targets", "SyntaxError: "),
        ("dies:targets", "its process was killed by SIGKILL"),
        ("hangs:targets", "not imported within 1 s"),
    ],
)
def test_a_python_function_that_is_not_there_is_an_error(folder: Path, callable: str, why: str) -> None:
    (folder / "broken.py").write_text("def targets(:\n")
    (folder / "dies.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    (folder / "hangs.py").write_text("import time\ntime.sleep(1000)\n")
    timeout = ", timeout: 1s" if callable.startswith("hangs") else ", timeout: 60s, interval: 60s"
    status, (line,) = check(folder, f"python: {{callable: '{callable}'{timeout}}}")
    assert status == 2
    assert line.startswith(f"x.yml:6: shard_services[0].targets[0].python.callable: {why}")


def test_libraries_and_programs_that_are_not_installed_are_errors(folder: Path) -> None:
    status, (line,) = check(folder, delivery=SSH, **without_a_module(folder, "asyncssh"))
    assert status == 2
    assert line.startswith("x.yml:8: shard_services[0].delivery[0].ssh: delivery.ssh needs asyncssh")


@pytest.mark.parametrize(("name", "key"), [("key", "identity_file"), ("known_hosts", "known_hosts")])
def test_key_files_that_are_garbage_are_errors(folder: Path, name: str, key: str) -> None:
    (folder / name).write_bytes(b"\xff\x00garbage\n" * 3)
    status, (line,) = check(folder, delivery=SSH)
    assert status == 2
    assert line.startswith(f"x.yml:8: shard_services[0].delivery[0].ssh.{key}: {folder}/{name}: ")


def test_a_playbook_that_ansible_does_not_take_and_a_bad_line_are_found(folder: Path) -> None:
    public = asyncssh.read_private_key(folder / "key").export_public_key().decode()
    (folder / "known_hosts").write_text(f"garbage\na {public}")
    status, lines = check(folder, delivery=SSH)
    assert status == 0
    assert any("known_hosts" in line and "1 of 2 lines are left out: line 1: " in line for line in lines), lines
    if find_program() is None:
        pytest.skip("ansible-playbook is not here")
    (folder / "play.yml").write_text("- hosts: all\n  tasks: [{nonsense: }]\n")
    status, (line,) = check(folder, delivery="ansible: {playbook: play.yml}")
    assert (status, "delivery[0].ansible.playbook: " in line, "nonsense" in line) == (2, True, True), line


def test_an_ssh_certificate_that_is_over_and_hops_that_are_none_are_found(folder: Path) -> None:
    key = asyncssh.read_private_key(folder / "key")
    over = key.generate_user_certificate(key, "x", valid_after=0, valid_before=1)
    over.write_certificate(folder / "key-cert.pub")
    status, (line,) = check(folder, delivery=SSH)
    assert (status, line.endswith("key-cert.pub: Certificate expired")) == (2, True), line
    for hop in ("-oProxyCommand=x", "a:99999", "a b"):
        status, lines = check(folder, delivery=f"{SSH[:-1]}, proxy_jump: ['{hop}']}}")
        assert status == 2
        assert any("[user@]host[:port]" in line for line in lines), lines


def test_a_folder_that_cannot_be_written_to_is_an_error(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "loose").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    for place, why in (
        ("file", f"{folder}/file: not a folder"),
        ("file/deeper", f"{folder}/file: not a folder"),
        ("loose", f"{folder}/loose: a link that leads nowhere"),
        ("loop", f"{folder}/loop: Too many levels of symbolic links"),
        ("x" * 300, f"{folder}/{'x' * 300}: File name too long"),
    ):
        status, (line,) = check(folder, delivery=f'file: {{path: "{place}/{{scraper}}.json"}}')
        assert (status, line) == (2, f"x.yml:8: shard_services[0].delivery[0].file.path: {why}")


FLEET = """fleets:
  - name: main
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    scraper_api: {bearer_token_file: token}
    placement: {loads: {promql: {url: "http://p:1", query: x, bearer_token_file: token}}}
    delivery:
      - ssh: {user: u, path: "/x/{service}.json", identity_file: key, known_hosts: known_hosts}
shard_services:
  - {name: a, fleet: main, targets: [{file: {files: [targets/*.json]}}]}
  - {name: b, fleet: main, targets: [{file: {files: [targets/*.json]}}]}
"""


def test_what_is_wrong_with_a_fleet_is_said_once_and_there_however_many_services_it_has(folder: Path) -> None:
    (folder / "x.yml").write_text(FLEET)
    told = CliRunner().invoke(main, ["check", str(folder / "x.yml")])
    missing = f"{folder / 'token'}: No such file or directory"
    assert (told.exit_code, told.output.replace(f"{folder / 'x.yml'}:", "").splitlines()) == (
        2,
        [
            f"4: fleets[0].scraper_api.bearer_token_file: {missing}",
            f"5: fleets[0].placement.loads.promql.bearer_token_file: {missing}",
        ],
    )
    (folder / "token").write_text("x")
    (folder / "key").write_text("no key")
    told = CliRunner().invoke(main, ["check", str(folder / "x.yml")])
    [line] = told.output.splitlines()
    assert ":7: fleets[0].delivery[0].ssh" in line


OF_A_FLEET = """fleets:
  - name: f
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    delivery:
      - %s
shard_services:
  - {name: a, fleet: f, targets: [{file: {files: ["targets/*.json"]}}]}
  - {name: b, fleet: f, targets: [{file: {files: ["targets/*.json"]}}]}
"""


def of_a_fleet(folder: Path, delivery: str) -> list[str]:
    file = folder / "x.yml"
    file.write_text(OF_A_FLEET % delivery)
    return CliRunner().invoke(main, ["check", str(file)]).output.replace(f"{file}:", "x.yml:").splitlines()


def test_a_file_name_that_no_disk_takes_is_an_error(folder: Path) -> None:
    said = of_a_fleet(folder, f'file: {{path: "out/{"x" * 240}{{service}}-{{scraper}}.json"}}')
    assert said == ["x.yml:5: fleets[0].delivery[0].file.path: gives file names of 260 bytes, 231 are possible"]
    long = f'file: {{path: "{folder}/out/{"x" * 211}{{service}}-{{scraper}}.json"}}'  # 231 bytes
    assert of_a_fleet(folder, long) == ["x.yml: valid, 2 shard services: a, b"]


@pytest.mark.parametrize("name", ["[prod]", "a*", "a?", "a\\\\b"])
def test_a_path_that_prometheus_reads_as_a_pattern_is_doubted(folder: Path, name: str) -> None:
    """A Prometheus 2.42 or 3.5 finds no list in a folder ``[prod]``."""
    said = of_a_fleet(folder, f'file: {{path: "{name}/{{service}}/{{scraper}}.json"}}')
    assert "x.yml:5: fleets[0].delivery[0].file.path: warning: Prometheus reads " in said[0], said
    said = of_a_fleet(
        folder, f'ssh: {{path: "/{name}/{{service}}.json", user: a, identity_file: key, known_hosts: known_hosts}}'
    )
    assert any("fleets[0].delivery[0].ssh.path: warning: Prometheus reads " in line for line in said), said


@pytest.mark.parametrize("folder_name", ["~", "~promring", "$HOME"])
def test_a_home_that_is_not_replaced_is_doubted(folder: Path, folder_name: str) -> None:
    said = of_a_fleet(folder, f'file: {{path: "{folder_name}/{{service}}/{{scraper}}.json"}}')
    assert f"x.yml:5: fleets[0].delivery[0].file.path: warning: {folder_name!r} is a name here" in said[0], said
