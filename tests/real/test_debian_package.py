"""The Debian package, made and installed on a machine of its own as the page says: a controller and an agent run from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed.machines import Machine, Machines, available

from tests.blocks import ROOT, Block, blocks, commands
from tests.real.conftest import server
from tests.waiting import RUN_S, patient, until

HOST, SCRAPER = "promring.example", "10.0.0.1"
PAGE = list(blocks(ROOT / "docs/install.md"))
EDITOR = """#!/bin/sh
# Somebody who has a single server.
sed -i 's/, 10.0.0.2:9090, 10.0.0.3:9090//' "$1"
mkdir -p /etc/promring/targets
echo '[{"targets": ["10.1.2.3:9100", "10.1.2.4:9100"]}]' > /etc/promring/targets/a.json
"""


def by(words: str) -> Block:
    (found,) = (one for one in PAGE if words in one.text)
    return found


def made(folder: Path) -> Path:
    """The package, of the libraries in the lock and of this tree."""
    venv, pip = folder / "venv", [str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    for line in (
        [sys.executable, "-m", "venv", str(venv)],
        [*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")],
        [*pip, "--no-deps", str(ROOT)],
        [str(ROOT / "scripts/make-deb"), str(venv), str(folder / "dist")],
    ):
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=patient(300))
        assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (folder / "dist").glob("promring_*.deb")
    return package


def typed(machine: Machine, line: str) -> str:
    """What it prints; it must succeed."""
    done = machine.run(f"set -e; {line}", timeout_s=patient(120))
    assert done.returncode == 0, f"{line}: {done.stdout}"
    return done.stdout


@pytest.fixture
def machine() -> Iterator[Machine]:
    if why := available():
        pytest.skip(why)
    if subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"], check=False
    ).returncode:
        pytest.skip("no Debian 12 here")
    with Machines({HOST: ["10.0.0.9", SCRAPER]}) as machines:
        machines[HOST].furnish_system()
        yield machines[HOST]


@pytest.mark.long
@pytest.mark.timeout(1200)  # it makes the package, which may take minutes on a busy machine
async def test_the_package_is_installed_runs_and_is_removed_as_the_page_says(machine: Machine, tmp_path: Path) -> None:
    package = made(tmp_path)
    machine.write("/usr/local/bin/editor", EDITOR)
    machine.write("/etc/prometheus/prometheus.yml", "global: {}\n")
    typed(
        machine,
        f"chmod +x /usr/local/bin/editor; cp {package} .; ln -s {ROOT}/deploy deploy; useradd --system prometheus || true",
    )
    prometheus = f"{server('prometheus')} --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/p"
    with (
        (tmp_path / "prometheus.log").open("ab") as log,
        machine.start(f"{prometheus} --web.listen-address={SCRAPER}:9090", log),
    ):
        try:
            await installed_and_run(machine)
            await with_an_agent(machine)
            removed(machine)
        finally:
            machine.leave()


async def installed_and_run(machine: Machine) -> None:
    block = by("apt-get install")
    for line in commands(block):
        typed(machine, line.replace("apt-get install", "apt-get install --yes"))
    await until(lambda: machine.run("promring status").returncode == 0, "ready", look_s=RUN_S)
    status = json.loads(typed(machine, "promring status --output json"))
    assert [one["id"] for one in status["fleets"][0]["scrapers"]] == [f"{SCRAPER}:9090"]
    assert typed(machine, "stat -c '%U %a' /etc/promring/token /var/lib/promring").split() == [
        "promring",
        "600",
        "promring",
        "700",
    ]
    assert "systemctl enable --now promring" in block.text


async def with_an_agent(machine: Machine) -> None:
    """The steps of the page, which are those of a virtual environment; the program is where the package has put it."""
    typed(machine, by("PROMRING_SCRAPER=").text)

    def brought() -> bool:
        done = machine.run("cat /etc/prometheus/sd/node_exporter.json")
        return done.returncode == 0 and {one["targets"][0] for one in json.loads(done.stdout)} == {
            "10.1.2.3:9100",
            "10.1.2.4:9100",
        }

    await until(brought, "the agent has the slice in its file", 90, look_s=RUN_S)
    assert typed(machine, "stat -c %U /etc/prometheus/sd").strip() == "prometheus"


def removed(machine: Machine) -> None:
    typed(machine, "kill $(cat /var/tmp/promring.pid) $(cat /var/tmp/promring-agent.pid)")
    typed(machine, "apt-get purge --yes promring")
    left = typed(machine, "find /etc/promring /opt/promring /var/lib/promring /usr/bin/promring 2>/dev/null || true").split()
    assert sorted(left) == [
        "/etc/promring",
        "/etc/promring/promring.yml",
        "/etc/promring/targets",
        "/etc/promring/targets/a.json",
    ]
