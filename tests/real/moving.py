"""A fleet of real scrapers with several jobs, each a shard service with its own delivery and interval, for planned moves.

Each service has a fleet of its own, with the same scrapers, or all are services of one (``together``).
The targets note who scraped them (``promring.demo.exporter``); ``Lab.tally`` says what a move cost. Every lab has addresses
of its own on loopback, so several run beside each other.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
from testbed.agent import AgentProcess
from testbed.front import Front
from testbed.replay import HeldReplay
from testbed.sshd import SshdProcess, make_key

from promring.demo.controller import Controller
from promring.demo.exporter import Exporter
from promring.demo.process import find, free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import Response, new_session, request
from tests.gaps import Tally, scrapers_now, tally
from tests.waiting import until

HALF = [{"source_labels": ["half"], "regex": "kept", "action": "keep"}]
"""``relabel_configs`` that drop every other target."""
Means = Literal["file", "http_sd", "agent", "ssh"]
FLEET = "main"
"""The name of the one fleet of all jobs, where they have one together."""


class Kind(NamedTuple):
    """A program, in agent mode or not; ``check``: how often vmagent looks at its lists, None as it likes."""

    program: Path
    agent: bool = False
    check: str | None = "1s"


@dataclass(frozen=True, slots=True)
class Job:
    """One shard service and the scrape job of its name. ``service`` and ``scrape`` have more keys of each."""

    name: str
    delivery: Means = "file"
    interval_s: float = 1.0
    refresh: str = "1s"
    count: int = 15
    halved: bool = False
    service: Mapping[str, Any] = field(default_factory=dict)
    scrape: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Lab:
    folder: Path
    net: str
    session: aiohttp.ClientSession
    exporter: Exporter
    jobs: dict[str, Job]
    targets: dict[str, list[str]]
    scrapers: list[ScraperProcess]
    controller: Controller
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the configuration says of each job's service; ``reload`` puts it in force."""
    fleet: dict[str, Any] = field(default_factory=dict)
    """The same of the one fleet of all jobs; empty: each has its own."""
    http_sd_at: str = ""
    """Where scrapers ask for their list."""
    sshd_port: int = 0
    copies: dict[str, int] = field(default_factory=dict)
    fronts: dict[str, Front] = field(default_factory=dict)

    def live(self, job: str) -> list[str]:
        """The targets of this job that are scraped at all."""
        step = 2 if self.jobs[job].halved else 1
        return self.targets[job][::step]

    def file_of(self, job: str, scraper: ScraperProcess) -> Path:
        if job in self.jobs and self.jobs[job].delivery == "agent":
            return self.folder_of(scraper) / f"{job}.json"
        return self.folder / "out" / job / f"{scraper.id.replace(':', '_')}.json"

    def folder_of(self, scraper: ScraperProcess) -> Path:
        """Where its agent writes."""
        return self.folder / "agents" / scraper.id.replace(":", "_")

    def slice_of(self, job: str, scraper: ScraperProcess) -> list[str]:
        file = self.file_of(job, scraper)
        groups = json.loads(file.read_bytes()) if file.exists() else []
        return [address for group in groups for address in group["targets"]]

    def scrape_job(self, job: Job, scraper: ScraperProcess) -> dict[str, Any]:
        source: dict[str, Any] = {"file_sd_configs": [{"files": [str(self.file_of(job.name, scraper))]}]}
        if job.delivery == "http_sd":
            url = f"{self.http_sd_at}/sd/{job.name}/{scraper.id}"
            source = {"http_sd_configs": [{"url": url, **({} if scraper.is_vmagent else {"refresh_interval": job.refresh})}]}
        return {
            "job_name": job.name,
            "scrape_interval": f"{round(job.interval_s * 1000)}ms",
            "scrape_timeout": f"{round(min(job.interval_s, 2.0) * 1000)}ms",
            "params": {"scraper": [scraper.id]},
            **source,
            **({"relabel_configs": HALF} if job.halved else {}),
            **job.scrape,
        }

    def configure(self, scraper: ScraperProcess) -> None:
        """Its jobs as they are now; a running one takes them at SIGHUP."""
        scraper.configure([self.scrape_job(job, scraper) for job in self.jobs.values()])

    def write_targets(self, job: str, listed: Sequence[str] | None = None) -> None:
        """The list of this job's source, put in place by rename; all of its targets unless some are named."""
        kept = set(self.live(job))
        groups = [
            {"targets": [address], "labels": {"env": "test", "half": "kept" if address in kept else "gone"}}
            for address in (self.targets[job] if listed is None else listed)
        ]
        temporary = self.folder / "new-targets"
        temporary.write_text(json.dumps(groups))
        temporary.replace(self.folder / "targets" / f"{job}.json")

    def config(self) -> dict[str, Any]:
        return {
            "global": {"reconcile_interval": "5s", "debounce": "50ms"},
            "fleets": [{"name": FLEET, **self.fleet}] if self.fleet else [],
            "shard_services": [{"name": name, **service} for name, service in self.services.items()],
        }

    def fleet_of(self, job: str) -> str:
        """The name of the fleet that scrapes it."""
        return FLEET if self.fleet else job

    async def reload(self) -> Response:
        """What ``services`` says now, taken by a reload; the answer, whatever it is."""
        self.controller.configure(self.config())
        headers = {"Authorization": f"Bearer {self.controller.token}"}
        return await request(self.session, "POST", f"{self.controller.url}/-/reload", timeout_s=60, headers=headers)

    async def drain(self, scraper: ScraperProcess, jobs: Iterable[str], *, back: bool = False) -> None:
        for fleet in dict.fromkeys(map(self.fleet_of, jobs)):
            path = f"/api/v1/fleets/{fleet}/scrapers/{scraper.id}/{'undrain' if back else 'drain'}"
            answer = await self.controller.post(self.session, path)
            assert answer.status == 200, answer.text()

    async def coverage(self, job: str) -> dict[str, Any]:
        found = await self.controller.ask(self.session, f"services/{job}/coverage", limit="1000")
        return dict(found) if found else {}

    async def described(self, job: str) -> dict[str, Any]:
        found = await self.controller.ask(self.session, f"services/{job}")
        return dict(found) if found else {}

    def scraping(self, job: str) -> dict[str, set[str]]:
        """Who scrapes each live target now."""
        now, interval_s = time.monotonic(), self.jobs[job].interval_s
        return {address: scrapers_now(self.exporter.hits[address], now, interval_s) for address in self.live(job)}

    def load_of(self, job: str, scraper: ScraperProcess) -> int:
        """How many targets it scrapes now."""
        return sum(scraper.id in who for who in self.scraping(job).values())

    def settled(self, job: str) -> bool:
        """Every live target is scraped by as many scrapers as it shall be, no more."""
        return all(len(who) == self.copies.get(job, 1) for who in self.scraping(job).values())

    def tally(self, job: str, since: float, till: float | None = None) -> Tally:
        hits = {address: list(self.exporter.hits[address]) for address in self.live(job)}
        now = time.monotonic() if till is None else till
        return tally(hits, self.jobs[job].interval_s, since, now, copies=self.copies.get(job, 1))

    async def quiet(self, timeout_s: float = 90.0) -> None:
        """Wait until all jobs are settled."""
        await until(lambda: all(map(self.settled, self.jobs)), "every target is scraped, by nobody too many", timeout_s)

    async def start(self, scraper: ScraperProcess) -> None:
        await scraper.start()
        await scraper.until(lambda: scraper.is_ready(self.session), scraper.id)

    async def start_with_replay(self, scraper: ScraperProcess, hold_s: float) -> None:
        """A Prometheus that ran before is started, and replays its log for this long."""
        held = HeldReplay(scraper.storage)
        held.hold()
        try:
            await scraper.start()
            await asyncio.sleep(hold_s)
        finally:
            held.release()
        await scraper.until(lambda: scraper.is_ready(self.session), scraper.id)

    def log_has(self, *words: str) -> list[str]:
        """The lines of promring's log with all of these in them."""
        lines = self.controller.log_file.read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]


def kind(name: str, *, agent: bool = False, check: str | None = "1s") -> Kind | None:
    """None when this server is not here."""
    program = find(name)
    return None if program is None else Kind(program, agent, check)


def nets() -> tuple[str, str]:
    """Two networks on loopback that nobody else has by chance: for scrapers, and for targets."""
    return tuple(f"127.{random.randrange(64, 250)}.{random.randrange(1, 250)}" for _ in range(2))  # type: ignore[return-value]


def service_of(lab: Lab, job: Job) -> dict[str, Any]:
    """The shard service of a job as it is at the start."""
    own = {"fleet": FLEET} if lab.fleet else fleet_keys(lab, [job])
    return {**own, "targets": [{"file": {"files": [str(lab.folder / "targets" / f"{job.name}.json")]}}], **job.service}


def fleet_keys(lab: Lab, jobs: Iterable[Job]) -> dict[str, Any]:
    """What is said of the scrapers, and of how the slices of these jobs get to them."""
    means = dict.fromkeys("http_sd" if job.delivery == "agent" else job.delivery for job in jobs)
    nodes = [scraper.id for scraper in lab.scrapers]
    return {
        "scrapers": {"probe": {"nodes": nodes, "interval": "1s", "timeout": "1s"}},
        "join_delay": "1s",
        "audit": {"interval": "5s"},
        "delivery": [{name: _delivery(lab, name)} for name in means],
    }


def _delivery(lab: Lab, means: str) -> dict[str, Any]:
    path = str(lab.folder / "out" / "{service}" / "{scraper}.json")
    if means == "file":
        return {"path": path}
    if means == "ssh":
        ssh = {"port": lab.sshd_port, "path": path, "known_hosts": str(lab.folder / "known_hosts")}
        return {**ssh, "user": "root", "identity_file": str(lab.folder / "key")}
    return {}


@asynccontextmanager
async def lab(
    folder: Path,
    kinds: Sequence[Kind],
    jobs: Sequence[Job],
    *,
    running: int | None = None,
    fronted: Sequence[int] = (),
    start: bool = True,
    settle_s: float = 120.0,
    together: Mapping[str, Any] | None = None,
    one_port: bool = False,
) -> AsyncIterator[Lab]:
    """``running`` scrapers of ``kinds`` are started. ``fronted``: those that promring reaches through a ``Front``, with its
    port as their identity. ``together``: one fleet for all jobs, with these keys besides. ``one_port``: all scrapers
    have the same port. Entered when every target is
    scraped. Nothing of it is left at exit.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        net, targets_net = nets()
        targets, count = {}, 0
        port = free_port()
        for job in jobs:
            numbers = range(count, count + job.count)
            base, third = targets_net.rsplit(".", 1)
            targets[job.name] = [f"{base}.{(int(third) + n // 250) % 256}.{n % 250 + 1}:{port}" for n in numbers]
            count += job.count
            (folder / "out" / job.name).mkdir(parents=True)
        (folder / "targets").mkdir()
        exporter = await stack.enter_async_context(Exporter([a for each in targets.values() for a in each]))
        controller = Controller(folder, "", port=free_port())
        stack.push_async_callback(controller.stop)
        made = Lab(folder, net, session, exporter, {job.name: job for job in jobs}, targets, [], controller)
        made.http_sd_at = controller.url
        for i, one in enumerate(kinds):
            await _add_scraper(made, stack, i, one, fronted=i in fronted, port=_port(made) if one_port else None)
        if any(job.delivery == "ssh" for job in jobs):
            await _start_sshds(made, stack)
        if together is not None:
            made.fleet = {**fleet_keys(made, jobs), **together}
        for job in jobs:
            made.write_targets(job.name)
            made.services[job.name] = service_of(made, job)
        started = made.scrapers[:running]
        for scraper in made.scrapers:
            made.configure(scraper)
        await asyncio.gather(*(made.start(scraper) for scraper in started))
        if any(job.delivery == "agent" for job in jobs):
            await _start_agents(made, stack)
        if start:
            controller.configure(made.config())
            await controller.start()
            await controller.until(lambda: controller.is_ready(session), "promring")
            await made.quiet(settle_s)
        yield made


def _port(made: Lab) -> int | None:
    """That of the scrapers there are."""
    return int(made.scrapers[0].id.rpartition(":")[2]) if made.scrapers else None


async def _add_scraper(made: Lab, stack: AsyncExitStack, number: int, one: Kind, *, fronted: bool, port: int | None) -> None:
    host = f"{made.net}.{number + 2}"
    port = port or free_port(host)
    scraper = ScraperProcess(
        one.program,
        made.folder / f"scraper-{number}",
        SdConfig(url="http://127.0.0.1:1/"),
        host=host,
        port=port,
        agent=one.agent,
        vmagent_check=one.check,
    )
    if fronted:
        front = Front(host, free_port(host), scraper.id)
        await stack.enter_async_context(front)
        scraper.id = f"{host}:{front.port}"
        made.fronts[scraper.id] = front
    made.folder_of(scraper).mkdir(parents=True)
    stack.push_async_callback(scraper.stop)
    made.scrapers.append(scraper)


async def _start_sshds(made: Lab, stack: AsyncExitStack) -> None:
    program = find("sshd")
    assert program is not None, "sshd is here"
    key, made.sshd_port = make_key(made.folder / "key"), free_port()
    hosts = [scraper.id.rpartition(":")[0] for scraper in made.scrapers]
    made_sshds = [SshdProcess(program, made.folder / f"sshd-{h}", key, address=h, port=made.sshd_port) for h in hosts]
    (made.folder / "known_hosts").write_text("".join(sshd.known_hosts_line() for sshd in made_sshds))
    for sshd in made_sshds:
        await sshd.start()
        stack.push_async_callback(sshd.stop)
    for sshd in made_sshds:
        await sshd.until(sshd.is_ready, "sshd")


async def _start_agents(made: Lab, stack: AsyncExitStack) -> None:
    for scraper in made.scrapers:
        folder = made.folder / f"agent-{scraper.id.replace(':', '_')}"
        agent = AgentProcess(folder, [made.controller.url], scraper.id, made.folder_of(scraper), port=free_port())
        await agent.start()
        stack.push_async_callback(agent.stop)
