"""A whole installation on loopback for one test: Consul, Prometheus servers, targets, promring."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from testbed.consul import ConsulProcess
from testbed.etcd import EtcdProcess
from testbed.proxy import FaultProxy

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.demo.targets import Farm
from promring.runtime.http_client import new_session, request
from tests.waiting import until

BELIEVED = {"shrink_threshold": 0, "growth_threshold": None}
"""A guard that takes a much shorter or longer list for right at once."""
CONSUL_SERVICE = "scrape_prometheus_node_exporter"
SERVICE = "node_exporter"
CHECK_TIMEOUT = "1s"
"""As long as the interval allows, so that a busy machine calls few dead; who is killed refuses at once."""


@dataclass
class Stage:
    folder: Path
    session: aiohttp.ClientSession
    consul: ConsulProcess
    farm: Farm
    scrapers: list[ScraperProcess]
    controller: Controller
    allowed: set[str] = field(default_factory=set)
    """``msg`` of warnings and errors that the test brings about on purpose."""
    others: list[Controller] = field(default_factory=list)
    proxy: FaultProxy | None = None
    agents: bool = False
    """Whether the slices are where an agent beside each scraper writes them."""

    def slices(self) -> dict[str, list[str]]:
        """The addresses in each slice file, by scraper id."""
        return {s.id: self.slice_of(s) for s in self.scrapers if self.path_of(s).exists()}

    def slice_of(self, scraper: ScraperProcess) -> list[str]:
        return [address for group in json.loads(self.path_of(scraper).read_bytes()) for address in group["targets"]]

    def path_of(self, scraper: ScraperProcess) -> Path:
        return place_of(self.folder, scraper.id, agents=self.agents)

    def stamps(self) -> dict[str, tuple[int, int, bytes]]:
        """What tells a rewritten file from one left alone: inode, mtime and bytes."""
        paths = [self.path_of(s) for s in self.scrapers if self.path_of(s).exists()]
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in paths}

    def placed_on(self, *scrapers: ScraperProcess) -> bool:
        """Whether every target is in exactly one slice of these scrapers."""
        slices = self.slices()
        if not all(s.id in slices for s in scrapers):
            return False
        return sorted(a for s in scrapers for a in slices[s.id]) == sorted(self.farm.addresses)

    @property
    def between(self) -> FaultProxy:
        """What is between promring and Consul."""
        assert self.proxy is not None, "a stage that is proxied"
        return self.proxy

    async def generation(self) -> str:
        return str((await self.controller.ask(self.session, f"services/{SERVICE}"))["generation"])

    async def held(self) -> str:
        """The reason why the whole plan is held, or an empty text."""
        described = await self.controller.ask(self.session, f"services/{SERVICE}")
        return str(described["held"]["reason"]) if described and described["held"] else ""

    async def quiet(self, controller: Controller | None = None) -> None:
        """Wait until no hand-over is going on, and what is decided is written: what is held is let go later. ``controller``:
        who says so, else the first.
        """
        await asyncio.sleep(0.5)

        async def written() -> bool:
            described = await (controller or self.controller).ask(self.session, f"services/{SERVICE}")
            if not described or described["handing_over"]:
                return False
            decided = {s["id"]: s["sha256"] for s in described["scrapers"] if s["sha256"]}
            files = {s.id: self.path_of(s) for s in self.scrapers if s.id in decided}
            return all(hashlib.sha256(p.read_bytes()).hexdigest() == decided[name] for name, p in files.items())

        await until(written, "hand-overs are over, and every slice is written")

    async def taken(self) -> None:
        """Wait until every scraper that answers has exactly its slice: Prometheus takes a new list some seconds later, and
        a controller that does not know who has what asks the scrapers, and counts what they still have.
        """

        async def has_it(scraper: ScraperProcess) -> bool:
            if not scraper.running or not self.path_of(scraper).exists():
                return True
            answer = await request(self.session, "GET", f"{scraper.url}/api/v1/targets?state=active", timeout_s=5)
            active = [t["discoveredLabels"]["__address__"] for t in json.loads(answer.body)["data"]["activeTargets"]]
            return sorted(active) == sorted(self.slice_of(scraper))

        for scraper in self.scrapers:
            await until(lambda s=scraper: has_it(s), f"{scraper.id} has its slice, and no more")  # type: ignore[misc]

    async def join_in(self, name: str, consul: ConsulProcess | None = None) -> Controller:
        """One more controller with the same configuration, started, with a state of its own; ``consul``: its own agent."""
        config = yaml.safe_load(self.controller.config_file.read_text())
        if consul is not None:
            config["consul"]["address"] = consul.address
        other = Controller(self.folder / name, config, port=free_port())
        self.others.append(other)
        await other.start()
        await other.until(lambda: other.is_ready(self.session), name)
        return other

    @property
    def controllers(self) -> list[Controller]:
        return [self.controller, *self.others]

    async def leaders(self) -> list[Controller]:
        """Those that say they lead."""
        said = [(c, await c.ask(self.session, "status")) for c in self.controllers if c.running]
        return [c for c, status in said if status and status["leader"]]

    async def call_dead(self, scraper: ScraperProcess, *, back: bool = False) -> None:
        """Consul's view of it is cut: its check fails although it lives; ``back``: not any more."""
        service_id = f"{CONSUL_SERVICE}-{scraper.id.replace(':', '-')}"
        there = await self.consul.get(self.session, f"/v1/agent/service/{service_id}")
        host = scraper.id if back else "127.0.0.1:1"
        check = {"HTTP": f"http://{host}/-/healthy", "Interval": "1s", "Timeout": CHECK_TIMEOUT}
        definition = {"ID": service_id, "Name": CONSUL_SERVICE, **{k: there[k] for k in ("Address", "Port", "Meta")}}
        definition["Check"] = check | {"Status": "passing" if back else "critical"}
        await self.consul.put(self.session, "/v1/agent/service/register", definition)

    async def answer_watches(self, scraper: ScraperProcess) -> None:
        """Consul answers whoever waits for a change, although nothing changes: a second check of this one passes."""
        service_id = f"{CONSUL_SERVICE}-{scraper.id.replace(':', '-')}"
        check = {"Name": "answers", "ServiceID": service_id, "TTL": "10m", "Status": "passing"}
        await self.consul.put(self.session, "/v1/agent/check/register", check)

        async def known() -> bool:
            checks = await self.consul.get(self.session, f"/v1/health/checks/{CONSUL_SERVICE}")
            return any(one["Name"] == "answers" for one in checks)

        await until(known, "Consul's servers know that check")

    async def drain(self, scraper: ScraperProcess, *, back: bool = False) -> None:
        answer = await self.controller.post(
            self.session, f"/api/v1/fleets/{SERVICE}/scrapers/{scraper.id}/{'undrain' if back else 'drain'}"
        )
        assert answer.status == 200, answer.text()

    async def scraped_by_now(self, timeout_s: float = 60.0) -> float:
        """Wait until every target is scraped once more; seconds to the last of them."""
        found = await self.farm.scraped_since(self.farm.addresses, time.monotonic(), timeout_s)
        lost = [a for a, s in found.items() if s is None]
        assert not lost, f"{len(lost)} targets were not scraped within {timeout_s:g} s"
        return max(s for s in found.values() if s is not None)

    async def members(self) -> list[str]:
        """The scrapers that Consul says are passing."""
        entries = await self.consul.get(self.session, f"/v1/health/service/{CONSUL_SERVICE}?passing=1")
        return sorted(f"{e['Service']['Address']}:{e['Service']['Port']}" for e in entries)

    def unlisted(self) -> list[str]:
        """Warnings and errors in promring's log that the test did not list."""
        return unlisted(self.controllers, self.allowed)


def place_of(folder: Path, scraper: str, *, agents: bool) -> Path:
    """The file of its slice."""
    name = scraper.replace(":", "_")
    return folder / "agents" / name / f"{SERVICE}.json" if agents else folder / "out" / SERVICE / f"{name}.json"


USUAL = {
    "stopping",
    "plan_held",
    "service_has_no_healthy_node",
    "audit_failed",
    "job_missing",
    "coverage",
    "scrapers_held_back",
    "stood_still",  # a test stopped the process, or the machine is very busy
}


def unlisted(controllers: Sequence[Controller], allowed: set[str]) -> list[str]:
    """Warnings and errors in their logs that are not ``allowed``, by their ``msg`` or by words that are in them, and lines
    that are none of a log.
    """
    files = [c.log_file for c in controllers if c.log_file.exists()]
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    bad = [line for line in lines if " level=warn " in line or " level=error " in line or not line.startswith("ts=")]
    bad = [line for line in bad if (m := re.search(r" msg=(\S+)", line)) is None or m[1] not in allowed]
    return [line for line in bad if not any(" " in words and words in line for words in allowed)]


def configuration(stage_folder: Path, consul: ConsulProcess, nodes: list[Any], **changes: Any) -> dict[str, Any]:
    service = {
        "name": SERVICE,
        "scrapers": {
            "consul": {
                "service": CONSUL_SERVICE,
                "register": {"nodes": nodes, "check": {"path": "/-/healthy", "interval": "1s", "timeout": CHECK_TIMEOUT}},
            }
        },
        "targets": [{"file": {"files": [str(stage_folder / "targets.json")]}}],
        "join_delay": "500ms",
        "delivery": [{"http_sd": {}}, {"file": {"path": str(stage_folder / "out/{service}/{scraper}.json")}}],
        **changes,
    }
    return {"consul": {"address": consul.address}, "shard_services": [service]}


@asynccontextmanager
async def stage(
    folder: Path,
    consul_program: Path,
    prometheus: Path | None,
    *,
    scrapers: int = 3,
    running: int | None = None,
    count: int = 60,
    reconcile_interval: str = "2s",
    interval_s: float = 1.0,
    http_sd: int = 1,
    start: bool = True,
    hosts: Sequence[str] = (),
    nodes: Sequence[dict[str, Any]] = (),
    kinds: Sequence[tuple[Path, bool]] = (),
    lock: dict[str, Any] | None = None,
    etcd: EtcdProcess | None = None,
    consul: ConsulProcess | None = None,
    proxied: bool = False,
    env: dict[str, str] | None = None,
    agents: bool = False,
    remote_write: str | None = None,
    **changes: Any,
) -> AsyncIterator[Stage]:
    """``running`` scrapers of ``scrapers`` are started; the last ``http_sd`` ones read their slice by http_sd. ``hosts``:
    the address of each, else 127.0.0.1; ``nodes`` has more about each, such as its zone; ``kinds`` its program, and whether
    in agent mode. ``lock``: its settings, in ``etcd`` if that is given, else in Consul. ``consul``: one that runs already;
    ``proxied``: promring reaches Consul through ``Stage.proxy``; ``env``: promring's environment; ``remote_write``: where
    scrapers send what they scrape.

    With ``start`` it is entered when all targets are placed. At exit the log must hold no unlisted warning.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        if consul is None:
            consul = ConsulProcess(consul_program, folder / "consul")
            await consul.start()
            stack.push_async_callback(consul.stop)
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", consul.port)) if proxied else None
        farm = await stack.enter_async_context(Farm(count))
        write_targets(folder, farm.addresses)
        (folder / "out" / SERVICE).mkdir(parents=True)
        controller_port = free_port()
        made = []
        for i in range(scrapers):
            host = hosts[i] if hosts else "127.0.0.1"
            port = free_port(host)
            sd = SdConfig(file=place_of(folder, f"{host}:{port}", agents=agents))
            if agents and sd.file is not None:
                sd.file.parent.mkdir(parents=True)
            if i >= scrapers - http_sd:
                sd = SdConfig(url=f"http://127.0.0.1:{controller_port}/sd/{SERVICE}/{host}:{port}")
            place = folder / f"scraper-{i}"
            program, agent = kinds[i] if kinds else (prometheus, False)
            options: dict[str, Any] = {
                "interval_s": interval_s,
                "job": SERVICE,
                "agent": agent,
                "remote_write": remote_write,
            }
            made.append(ScraperProcess(program, place, sd, host=host, port=port, **options))
            stack.push_async_callback(made[-1].stop)
        for scraper in made[:running]:
            await scraper.start()
        listed = [{"address": s.id, **nodes[i]} if nodes else s.id for i, s in enumerate(made)]
        config = configuration(folder, consul, listed, **changes)
        if proxy is not None:
            config["consul"]["address"] = proxy.address
        config["global"] = {"reconcile_interval": reconcile_interval}
        if lock is not None:
            config["controllers"] = {"lock": {"consul" if etcd is None else "etcd": lock}}
        if etcd is not None:
            config["etcd"] = {"endpoints": [etcd.address]}
        controller = Controller(folder, config, port=controller_port, env=env)
        stack.push_async_callback(controller.stop)
        result = Stage(folder, session, consul, farm, made, controller, set(USUAL), proxy=proxy, agents=agents)
        await consul.until(lambda: consul.is_ready(session), "Consul")
        for scraper in made[:running]:
            await scraper.until(lambda s=scraper: s.is_ready(session), scraper.id)  # type: ignore[misc]
        if start:
            await controller.start()
            await until(lambda: result.placed_on(*made[:running]), "every target placed at the start")
            await result.quiet()
        try:
            yield result
        finally:
            for one in result.controllers:
                await one.stop()
        said = "\n".join(result.unlisted())
        assert not said, f"not listed by the test:\n{said}"


def write_targets(folder: Path, addresses: list[str], *, labels: dict[str, str] | None = None, per_group: int = 3) -> None:
    """The target list, several addresses a group, put in place by rename as a careful producer does."""
    groups = [
        {"targets": addresses[i : i + per_group], "labels": labels or {"env": "test"}}
        for i in range(0, len(addresses), per_group)
    ]
    temporary = folder / "targets.new"
    temporary.write_text(json.dumps(groups))
    temporary.replace(folder / "targets.json")
