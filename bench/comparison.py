"""promring beside other ways to share targets among scrapers: the same targets, deaths, returns and joins, on real servers.

  promring            Consul health checks, slices by file_sd, as it is
  the original        what promring began as: a watch in Consul, a ring of CRC-32 with 500 points a scraper, every slice file
                      written at once when the membership changes (here without Ansible, which took seconds more)
  hashmod             relabelling in each Prometheus; more servers: a new modulus and a reload, one server after the other
  vmagent cluster     -promscrape.cluster.membersCount; more members: each is started again with the new number
  … replication 2     the same, with every target scraped twice

Each has 60 targets, three scrapers and a scrape interval of 5 s. One scraper is killed with -9, started again, and then a
fourth one joins. The targets themselves note who scraped them. A missed scrape is a whole interval in which nobody did.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import tempfile
import time
import zlib
from abc import ABC, abstractmethod
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from testbed.consul import ConsulProcess
from tests.gaps import tally
from tests.real.stage import CONSUL_SERVICE, configuration

from bench.report import console
from promring.demo.controller import Controller
from promring.demo.exporter import Exporter
from promring.demo.process import find, free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session, request

TARGETS, INTERVAL_S, HOLD_S, SETTLE_S = 60, 5.0, 45.0, 30.0
ORIGINAL_POINTS = 500
DOUBLED = 1.5


@dataclass
class Row:
    """Of one system. ``again_s``: of each target of the killed scraper that was scraped again while it was dead."""

    system: str
    balance: float = 0.0
    scrapes: float = 0.0
    """A target and interval, in good times."""
    again_s: list[float] = field(default_factory=list)
    never: int = 0
    missed: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)


class System(ABC):
    """Four scrapers, of which three run at first, and whatever gives them their targets."""

    name: str
    program = "prometheus"

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.folder, self.session = folder, session
        self.exporter = Exporter([f"127.0.0.1:{free_port()}" for _ in range(TARGETS)])
        self.scrapers = [self._scraper(number) for number in range(4)]
        (folder / "all.json").write_text(json.dumps([{"targets": list(self.exporter.hits)}]))

    def _scraper(self, number: int) -> ScraperProcess:
        program = find(self.program)
        assert program is not None  # looked for before
        place = self.folder / f"scraper-{number}"
        return ScraperProcess(program, place, SdConfig(file=place), port=free_port(), interval_s=INTERVAL_S)

    def configure(self, scraper: ScraperProcess, file: Path, **more: object) -> None:
        """Its one job: the targets in ``file``."""
        job = {
            "job_name": "job",
            "scrape_interval": f"{INTERVAL_S:g}s",
            "scrape_timeout": "2s",
            "basic_auth": {"username": scraper.id.replace(":", "_"), "password": "none"},  # who asks; vmagent hashes params
            "file_sd_configs": [{"files": [str(file)]}],
            **more,
        }
        scraper.configure([job])

    async def open(self, stack: AsyncExitStack) -> None:
        """Three scrapers run, and are given their targets."""
        await stack.enter_async_context(self.exporter)
        for scraper in self.scrapers:
            stack.push_async_callback(scraper.stop)
        await self.prepare(stack)
        for scraper in self.scrapers[:3]:
            await self.start(scraper)

    async def start(self, scraper: ScraperProcess) -> None:
        await scraper.start()
        await scraper.until(lambda: scraper.is_ready(self.session), scraper.id)

    @abstractmethod
    async def prepare(self, stack: AsyncExitStack) -> None: ...

    @abstractmethod
    async def grow(self) -> None:
        """The fourth scraper joins."""


class Promring(System):
    name = "promring"

    async def prepare(self, stack: AsyncExitStack) -> None:
        self.consul = ConsulProcess(_program("consul"), self.folder / "consul")
        stack.push_async_callback(self.consul.stop)
        await self.consul.start()
        await self.consul.until(lambda: self.consul.is_ready(self.session), "Consul")
        config = configuration(self.folder, self.consul, [scraper.id for scraper in self.scrapers])
        service = config["shard_services"][0]
        service["targets"] = [{"file": {"files": [str(self.folder / "all.json")]}}]
        service["job"] = "job"
        controller = Controller(self.folder, config, port=free_port())
        out = self.folder / "out" / service["name"]
        out.mkdir(parents=True)  # Prometheus watches only a folder that is there when it starts
        for scraper in self.scrapers:
            self.configure(scraper, out / f"{scraper.id.replace(':', '_')}.json")
        stack.push_async_callback(controller.stop)
        await controller.start()

    async def grow(self) -> None:
        await self.start(self.scrapers[3])


class Original(System):
    name = "the original's algorithm"

    async def prepare(self, stack: AsyncExitStack) -> None:
        self.consul = ConsulProcess(_program("consul"), self.folder / "consul")
        stack.push_async_callback(self.consul.stop)
        await self.consul.start()
        await self.consul.until(lambda: self.consul.is_ready(self.session), "Consul")
        for scraper in self.scrapers:
            self.configure(scraper, self.folder / f"{scraper.id}.json")
            host, _, port = scraper.id.partition(":")
            check = {"HTTP": f"{scraper.url}/-/healthy", "Interval": "1s", "Timeout": "1s"}
            body = {"ID": scraper.id, "Name": CONSUL_SERVICE, "Address": host, "Port": int(port), "Check": check}
            await self.consul.put(self.session, "/v1/agent/service/register", body)
        watching = asyncio.create_task(self._watch())
        stack.callback(watching.cancel)

    async def grow(self) -> None:
        await self.start(self.scrapers[3])

    async def _watch(self) -> None:
        index = "0"
        while True:
            url = f"{self.consul.url}/v1/health/service/{CONSUL_SERVICE}?passing=1&wait=60s&index={index}"
            answer = await request(self.session, "GET", url, timeout_s=70)
            index = answer.headers["x-consul-index"]
            alive = [entry["Service"]["ID"] for entry in json.loads(answer.body)]
            if alive:
                self._write(alive)

    def _write(self, alive: Sequence[str]) -> None:
        slices: dict[str, list[str]] = {scraper: [] for scraper in alive}
        points = sorted((zlib.crc32(f"{scraper}{n}".encode()), scraper) for scraper in alive for n in range(ORIGINAL_POINTS))
        hashes = [point for point, _ in points]
        for address in self.exporter.hits:
            slices[points[bisect(hashes, zlib.crc32(address.encode())) % len(points)][1]].append(address)
        for scraper, addresses in slices.items():
            (self.folder / f"{scraper}.json").write_text(json.dumps([{"targets": addresses}]))


class Hashmod(System):
    name = "hashmod"

    async def prepare(self, stack: AsyncExitStack) -> None:
        self._shard(3)

    def _shard(self, modulus: int) -> None:
        for number, scraper in enumerate(self.scrapers):
            shard = {"source_labels": ["__address__"], "modulus": modulus, "target_label": "__tmp_hash", "action": "hashmod"}
            keep = {"source_labels": ["__tmp_hash"], "regex": str(number), "action": "keep"}
            self.configure(scraper, self.folder / "all.json", relabel_configs=[shard, keep])

    async def grow(self) -> None:
        self._shard(4)
        await self.start(self.scrapers[3])
        for scraper in self.scrapers[:3]:
            scraper.signal(signal.SIGHUP)
            await asyncio.sleep(2)


class Cluster(System):
    name = "vmagent cluster"
    program = "vmagent"
    copies = 1

    async def prepare(self, stack: AsyncExitStack) -> None:
        for scraper in self.scrapers:
            self.configure(scraper, self.folder / "all.json")
        self._of(3)

    def _of(self, members: int) -> None:
        for number, scraper in enumerate(self.scrapers):
            others = [one for one in scraper.arguments if "cluster" not in one]
            flags = {"membersCount": members, "memberNum": number, "replicationFactor": self.copies}
            scraper.arguments = [*others, *(f"-promscrape.cluster.{name}={value}" for name, value in flags.items())]

    async def grow(self) -> None:
        self._of(4)
        await self.start(self.scrapers[3])
        for scraper in self.scrapers[:3]:
            await scraper.stop()
            await self.start(scraper)


class Doubled(Cluster):
    name = "vmagent cluster, replication 2"
    copies = 2


SYSTEMS: tuple[type[System], ...] = (Promring, Original, Hashmod, Cluster, Doubled)


def _name(scraper: ScraperProcess) -> str:
    """As the targets know it."""
    return scraper.id.replace(":", "_")


def _program(name: str) -> Path:
    found = find(name)
    assert found is not None  # looked for before
    return found


async def run() -> None:
    missing = [name for name in ("consul", "prometheus", "vmagent") if find(name) is None]
    if missing:
        console.print(f"comparison: needs {', '.join(missing)}; scripts/fetch-servers gets them")
        return
    rows = await asyncio.gather(*map(_measured, SYSTEMS))
    print(markdown(rows))


async def _measured(kind: type[System]) -> Row:
    row = Row(kind.name)
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as folder:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session(keep_alive=False))
            system = kind(Path(folder), session)
            await system.open(stack)
            await asyncio.sleep(SETTLE_S + HOLD_S)
            _in_good_times(system, row)
            victim = max(_owners(system).values(), key=Counter(_owners(system).values()).__getitem__)
            await _step(system, row, "death", _kill(system, row, victim))
            await _step(system, row, "return", system.start(next(s for s in system.scrapers if _name(s) == victim)))
            await _step(system, row, "join", system.grow())
    return row


async def _step(system: System, row: Row, name: str, work: object) -> None:
    """What ``work`` costs until all is quiet again."""
    before, since = _owners(system), time.monotonic()
    await work  # type: ignore[misc]
    await asyncio.sleep(max(0.0, since + HOLD_S - time.monotonic()))
    hits = {
        address: list(system.exporter.hits[address]) for address in before
    }  # what nobody scraped before is not lost again
    counted = tally(hits, INTERVAL_S, since, time.monotonic())
    after = _owners(system)
    row.missed[name] = counted.missed
    row.moved[name] = sum(after.get(address, owner) != owner for address, owner in before.items())
    console.print(f"comparison: {row.system}: {name}: {row.missed[name]} missed, {row.moved[name]} moved")


async def _kill(system: System, row: Row, victim: str) -> None:
    orphans = [address for address, owner in _owners(system).items() if owner == victim]
    scraper = next(one for one in system.scrapers if _name(one) == victim)
    killed = time.monotonic()
    await scraper.kill()
    await asyncio.sleep(HOLD_S)
    for address in orphans:
        again = [hit.at - killed for hit in system.exporter.hits[address] if hit.good and hit.at > killed]
        if again:
            row.again_s.append(again[0])
        else:
            row.never += 1


def _owners(system: System) -> dict[str, str]:
    """Who scraped each target last, of those that were scraped within two intervals; the first by name where two do."""
    now = time.monotonic()
    owners = {}
    for address, hits in system.exporter.hits.items():
        recent = {hit.scraper for hit in hits if hit.good and hit.at > now - 1.5 * INTERVAL_S}
        if recent:
            owners[address] = min(recent)
    return owners


def _in_good_times(system: System, row: Row) -> None:
    now = time.monotonic()
    counts: Counter[str] = Counter()
    for hits in system.exporter.hits.values():
        counts.update(hit.scraper for hit in hits if hit.good and hit.at > now - HOLD_S / 2)
    row.balance = max(counts.values()) / (sum(counts.values()) / 3)
    row.scrapes = sum(counts.values()) / TARGETS / (HOLD_S / 2 / INTERVAL_S)


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| | most loaded / mean | scrapes a target and interval | death: scraped again after, median, max "
        "| … not at all | missed | return: moved, missed | join: moved, missed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        again = f"{statistics.median(row.again_s):.1f}, {max(row.again_s):.1f} s" if row.again_s else "-"
        moved: Mapping[str, int | str] = (
            dict.fromkeys(row.moved, "-") if row.scrapes > DOUBLED else row.moved
        )  # nobody is the one owner
        pairs = (f"{moved.get(step, 0)}, {row.missed.get(step, 0)}" for step in ("return", "join"))
        cells = (f"{row.balance:.2f}", f"{row.scrapes:.1f}", again, str(row.never), str(row.missed.get("death", 0)), *pairs)
        lines.append(f"| {row.system} | {' | '.join(cells)} |")
    return "\n".join(lines)
