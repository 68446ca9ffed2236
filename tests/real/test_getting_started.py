"""A newcomer with nothing but the documentation: four machines, three real Prometheus, and what the pages say to type.

The files and commands are those of the pages, read from them and run as they stand, but for the scrape interval. After each
step every target must be scraped: the targets themselves say so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from testbed.machines import SYSTEMCTL, Machine, Machines, available

from promring import __version__
from tests.blocks import ROOT, Block, blocks, commands
from tests.real.conftest import server
from tests.waiting import RUN_S, patient, until

SERVERS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
TARGETS = [f"10.1.2.{n}" for n in range(3, 9)]
PROMRING = "promring.example"
NEXT = "0.2.0"
"""The version that the page upgrades to."""
STARTED = list(blocks(ROOT / "docs/getting-started.md"))
INSTALL = list(blocks(ROOT / "docs/install.md"))


class Walk:
    """The machines, and what was typed on them so far."""

    def __init__(self, folder: Path, machines: Machines, running: ExitStack) -> None:
        self.machines, self._running = machines, running
        self._scrapes, self._log = folder / "scrapes", folder / "log"
        self._exported: list[str] = []
        self.followed: list[str] = []

    def on(self, name: str) -> Machine:
        return self.machines[name]

    def type(self, line: str, machine: str = PROMRING) -> str:
        """What it prints; it must succeed."""
        done = self.ask(line, machine)
        assert done.returncode == 0, f"{machine}: {line}: {done.stdout}\n{self._log.read_text()[-3000:]}"
        return done.stdout

    def ask(self, line: str, machine: str = PROMRING) -> subprocess.CompletedProcess[str]:
        return self.on(machine).run("\n".join([*self._exported, line]), timeout_s=patient(120))

    def follow(self, block: Block) -> str:
        """What a block prints, on each of the machines that its first line names."""
        self.followed.append(block.text)
        self._exported += [line for line in commands(block) if line.startswith("export ")]
        if block.text.split("\n")[1].startswith("promring run"):
            self.background(*commands(block))
            return ""
        return "".join(self.type(block.text, machine) for machine in block.machines)

    def background(self, line: str, machine: str = PROMRING) -> subprocess.Popen[bytes]:
        log = self._running.enter_context(self._log.open("ab"))
        process = self.on(machine).start(f"exec {line}", log)
        self._running.callback(process.wait)
        return process

    def begin(self) -> None:
        """Targets, and on each server a Prometheus that has no jobs."""
        self._scrapes.touch()
        self.background(f"env PYTHONPATH={ROOT} {sys.executable} -m testbed.exporters {self._scrapes}")
        for address in SERVERS:
            self.on(address).write("/etc/prometheus/prometheus.yml", "global: {scrape_interval: 1s}\n")
            self.start_prometheus(address)

    def start_prometheus(self, address: str) -> None:
        self.background(
            f"{server('prometheus')} --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus "
            "--web.listen-address=:9090 --log.level=error",
            address,
        )

    async def all_scraped(self) -> None:
        """Wait until each target is scraped once more."""
        begun = time.monotonic()

        def scraped() -> bool:
            lines = [line.split(" ") for line in self._scrapes.read_text().splitlines() if line.count(" ") == 1]
            return {address for at, address in lines if float(at) > begun} == set(TARGETS)

        await until(scraped, "every target is scraped")

    def targets_of(self, address: str) -> int:
        """How many its Prometheus scrapes, as it says itself."""
        answer = json.loads(self.on(address).fetch("http://127.0.0.1:9090/api/v1/targets?state=active"))
        return len(answer["data"]["activeTargets"])

    def fleet(self) -> dict[str, Any]:
        """What promring says of it."""
        (found,) = json.loads(self.on(PROMRING).fetch("http://127.0.0.1:9600/api/v1/fleets"))["data"]
        return dict(found)

    def state_of(self, scraper: str) -> str:
        return {one["id"]: str(one["state"]) for one in self.fleet()["scrapers"]}[scraper]

    async def owners(self) -> dict[str, int]:
        """How many targets each server has, as soon as no target has two owners."""

        def settled() -> bool:
            return not self.fleet()["handing_over"] and sum(map(self.targets_of, SERVERS)) == len(TARGETS)

        await until(settled, "no target is being handed over")
        return {address: self.targets_of(address) for address in SERVERS}


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # what is installed there is tried, and not what lies here
    if why := available():
        pytest.skip(why)
    server("prometheus")
    addresses = {PROMRING: ["10.0.0.9", *TARGETS]} | {address: [address] for address in SERVERS}
    with Machines(addresses) as machines, ExitStack() as running:
        found = Walk(tmp_path, machines, running)
        try:
            found.begin()
            yield found
        finally:
            for name in addresses:
                machines[name].leave()


def by_words(words: str, page: list[Block] = STARTED) -> Block:
    """The only block of a page that has these words."""
    (found,) = (block for block in page if words in block.text)
    return found


def configurations() -> list[Block]:
    return [block for block in STARTED if block.file == "/etc/promring/promring.yml"]


async def all_answer(walk: Walk) -> None:
    """Sources and scrapers, a Prometheus that has just been started in a moment."""
    check = by_words("promring check --online")
    await until(lambda: walk.ask(check.text).returncode == 0, "all answer", look_s=RUN_S)
    walk.followed.append(check.text)


async def connect(walk: Walk, start: Block | str) -> None:
    """Steps 1 to 6 of the page, from the targets on."""
    walk.follow(by_words("mkdir -p /etc/promring/targets"))
    walk.follow(by_words("openssl rand"))
    if isinstance(start, Block):
        await all_answer(walk)
        walk.follow(start)
    else:  # with Consul, which knows of no scraper before promring has registered them
        walk.type(start)
        await all_answer(walk)
    await until(lambda: walk.ask("promring status").returncode == 0, "ready", look_s=RUN_S)
    shown = by_words("external_labels")
    assert shown.file == "/etc/prometheus/prometheus.yml"
    printed = walk.follow(by_words("promring scrape-config"))
    assert "external_labels: {shard: '10.0.0.1:9090'}" in printed.splitlines()[0]
    assert yaml.safe_load(printed)["scrape_configs"] == yaml.safe_load(shown.text)["scrape_configs"]
    for address in SERVERS:
        text = shown.text.replace("10.0.0.1", address).replace("scrape_interval: 15s", "scrape_interval: 1s")
        walk.on(address).write(shown.file, text)
    walk.follow(by_words("kill -HUP"))
    await walk.all_scraped()
    assert "10.0.0.3:9090  up" in walk.follow(by_words("# on promring.example\npromring status"))


async def try_it(walk: Walk) -> None:
    """What the page says to do before it is trusted with more."""
    walk.follow(by_words("export PROMRING_TOKEN_FILE"))
    assert "would move" in walk.follow(by_words("promring plan --without"))
    walk.follow(by_words("kill -9"))
    await walk.all_scraped()
    assert walk.state_of("10.0.0.2:9090") == "down"
    walk.start_prometheus("10.0.0.2")
    await until(lambda: walk.state_of("10.0.0.2:9090") == "up" and walk.targets_of("10.0.0.2") > 0, "it has targets again")
    walk.follow(by_words("promring drain"))
    await until(lambda: walk.targets_of("10.0.0.1") == 0, "it has taken its empty list")
    await walk.all_scraped()
    walk.follow(by_words("promring undrain"))
    await until(lambda: walk.targets_of("10.0.0.1") > 0, "it has targets again")
    walk.follow(by_words("echo '[]'"))
    await until(
        lambda: "it answered with an empty list" in walk.type("promring status"), "the empty list was read", look_s=RUN_S
    )
    await walk.all_scraped()


async def without_promring(walk: Walk, start: str) -> None:
    """It is stopped, everything goes on being scraped; it is started, and nothing moves."""
    owners = await walk.owners()
    walk.type("kill $(pgrep -f '[p]romring run')")  # the brackets: not the shell that says so
    await until(lambda: walk.ask("pgrep -f '[p]romring run'").returncode == 1, "promring has stopped", look_s=RUN_S)
    await walk.all_scraped()
    walk.background(start)
    await until(lambda: walk.ask("promring status").returncode == 0, "ready again", look_s=RUN_S)
    await walk.all_scraped()
    assert await walk.owners() == owners


def is_held(status: str) -> bool:
    """Also with the time when that ends by itself."""
    return re.search(r"held(: | until .*: )", status) is not None


async def other_pages(walk: Walk) -> None:
    """The commands of other pages, in the middle of what they are for: an empty list is held."""
    walk.type("cp /etc/promring/promring.yml new.yml && cp /etc/promring/promring.yml /etc/promring/token .")
    for page in ("docs/runbooks.md", "docs/operations.md", "docs/questions.md", "README.md"):
        for block in blocks(ROOT / page):
            if block.language == "sh" and not block.marker:
                for line in commands(block):
                    if "release" in line:  # a reload, a line before, decides anew what is held
                        await until(lambda: is_held(walk.type("promring status")), "the empty list is held", look_s=RUN_S)
                    walk.type(line)
                    if "release" in line:
                        walk.follow(by_words("cp /tmp/web.json /etc"))
                        await walk.all_scraped()


def with_the_old_server(walk: Walk) -> None:
    """What the pages tell to ask a Prometheus that scrapes the targets today: one of the three is that one here."""
    walk.type("echo '10.0.0.2 prometheus old.example' >> /etc/hosts")
    walk.type("set -e; mkdir -p ~/figures; cd ~/figures; " + by_words("simulate", list(blocks(ROOT / "docs/loads.md"))).text)
    shown = walk.type("cd ~/figures; promring simulate --scrapers 2 --loads figures.json")
    assert "most over mean" in shown
    for program in ("prometheus", "promtool"):
        walk.type(f"ln -sf {server(program)} /usr/local/bin/{program}")
    jobs = [{"job_name": "node_exporter", "static_configs": [{"targets": [f"{one}:9100" for one in TARGETS]}]}]
    walk.on(PROMRING).write("/root/old/prometheus.yml", yaml.safe_dump({"scrape_configs": jobs}))
    page = list(blocks(ROOT / "docs/import.md"))
    looked = walk.type("cd ~/old; " + by_words("--dry-run --from", page).text)
    assert "1 job: 1 sharded natively" in looked
    assert not walk.type("ls ~/old").split()[1:], "nothing is written"
    assert "1 job: 1 sharded natively" in walk.type("cd ~/old; " + by_words("--out new --verify", page).text)
    assert "promring.yml" in walk.type("ls ~/old/new")


async def test_the_pages_are_followed_by_a_newcomer_on_four_machines(walk: Walk) -> None:
    configuration, _ = configurations()
    walk.type(f"ln -s {Path(sys.executable).parent}/promring /usr/local/bin/promring")
    walk.on(PROMRING).write(configuration.file, configuration.text)
    start = by_words("promring run")
    await connect(walk, start)
    await try_it(walk)
    await other_pages(walk)
    with_the_old_server(walk)
    await without_promring(walk, *commands(start))
    assert [str(one) for one in STARTED if one.language == "sh" and one.text not in walk.followed] == [], "nobody typed it"


def wheels(folder: Path) -> Path:
    """A folder with all that pip takes: promring as 0.1.0 and as 0.2.0, and the libraries of the lock."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "-w", str(folder)]
    made = [[*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")]]
    for version in (__version__, NEXT):
        source = folder / "source" / version
        for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            source.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, source / name)
        init = source / "src/promring/__init__.py"
        init.write_text(init.read_text().replace(f'"{__version__}"', f'"{version}"'))
        made.append([*pip, "--no-deps", str(source)])
    for arguments in made:
        subprocess.run(arguments, check=True, timeout=patient(300))
    return folder


def install(walk: Walk, folder: Path) -> None:
    """What the page on installing says of a virtual environment, on a machine that reaches no index of packages."""
    walk.on(PROMRING).write("/etc/pip.conf", f"[global]\nno-index = true\nfind-links = {folder}\n")
    walk.on(PROMRING).write("/usr/local/bin/systemctl", SYSTEMCTL.read_text())
    walk.type(f"chmod +x /usr/local/bin/systemctl; cp -rL {ROOT}/deploy {ROOT}/requirements.lock {folder}/promring-*.whl .")
    for words in ("python3 -m venv", "useradd"):
        walk.type("set -e; unset PIP_FIND_LINKS; " + by_words(words, INSTALL).text)


@pytest.mark.long
@pytest.mark.timeout(1800)  # it builds, installs and upgrades, each of which may have minutes on a busy machine
async def test_the_wheel_is_installed_with_consul_and_upgraded_as_the_pages_say(walk: Walk, tmp_path: Path) -> None:
    _, configuration = configurations()
    install(walk, wheels(tmp_path / "wheels"))
    walk.on(PROMRING).write(configuration.file, configuration.text)
    walk.background(f"{server('consul')} agent -dev -bind=127.0.0.1 -log-level=warn")
    await connect(walk, "systemctl enable --now promring")
    await try_it(walk)
    walk.follow(by_words("cp /tmp/web.json /etc"))
    owners = await walk.owners()
    for words in (f"promring-{NEXT}", "systemctl restart"):
        walk.type("set -e; unset PIP_FIND_LINKS; " + by_words(words, INSTALL).text.replace("promring status", "true"))
    await until(
        lambda: f"promring {NEXT}: ready" in walk.ask("promring status").stdout, "the new version is ready", look_s=RUN_S
    )
    await walk.all_scraped()
    assert await walk.owners() == owners
