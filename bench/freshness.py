"""A fact changes: how long until the watch has it, and until every slice is on local disk.

A real Consul with 20 registered scrapers whose health this program sets (TTL checks), a real ``promring run`` with 10,000
targets and file delivery. The change is timed from the moment Consul has answered the write that made it; a slice is on
disk at its rename (ctime). Each outcome is compared with the slices that ``promring.core`` makes of the same facts.

Beside it: the same bytes written by a plain write, fsync and rename, nothing else; and for the watch a bare blocking read.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from testbed.consul import ConsulProcess
from tests.waiting import until

from bench.report import console, percentile, table
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.watch import HealthWatch
from promring.core.placement import Policy, place_living
from promring.core.plan import bodies
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.demo.controller import Controller
from promring.demo.process import find, free_port
from promring.discovery.looking import LOOK_S
from promring.model import Answer, Known, Members, Scraper, TargetGroup
from promring.runtime.http_client import new_session
from promring.telemetry import log

SCRAPERS, TARGETS, CHANGES = 20, 10_000, 200
DEBOUNCE_S = 0.2
SETTLE_S, LATE_S = DEBOUNCE_S + 0.35, 10.0
SERVICE = "bench"
SEED = 7

FLEET: Members = tuple(sorted(Scraper(f"10.0.0.{i}:9090", f"10.0.0.{i}", 9090) for i in range(SCRAPERS)))
ADDRESSES = [f"10.1.{i // 250}.{i % 250}:9100" for i in range(TARGETS)]


async def run(changes: int = CHANGES) -> None:
    program = find("consul")
    if program is None:
        console.print("freshness: needs consul; scripts/fetch-servers gets it")
        return
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as name:
        async with AsyncExitStack() as stack:
            folder = Path(name)
            session = await stack.enter_async_context(new_session())
            consul = ConsulProcess(program, folder / "consul")
            await consul.start()
            stack.push_async_callback(consul.stop)
            await consul.until(lambda: consul.is_ready(session), "Consul")
            for scraper in FLEET:
                check = {"TTL": "1h", "Status": "passing"}
                registered = {
                    "ID": scraper.id,
                    "Name": SERVICE,
                    "Address": scraper.host,
                    "Port": scraper.port,
                    "Check": check,
                }
                await consul.put(session, "/v1/agent/service/register", registered)
            await _watch(consul, session, changes)
            await _slices(folder, consul, session, changes)


async def _watch(consul: ConsulProcess, session: aiohttp.ClientSession, changes: int) -> None:
    """PUT answered -> the watch has handed the new members on."""
    arrived: list[tuple[float, Answer[Members]]] = []
    ours: list[float] = []
    bare: list[float] = []
    async with Client(Access(consul.address)) as client:
        watch = HealthWatch(client, SERVICE, Catalogue(lambda node, _: Scraper(f"{node[0]}:{node[1]}", *node)), log.get())
        task = asyncio.create_task(watch.run(lambda answer: arrived.append((time.monotonic(), answer))))
        await until(lambda: bool(arrived) and arrived[-1][1] == Known(FLEET), "the watch has all")
        index = (await client.instances(SERVICE)).index
        for turn in range(changes):
            reading = asyncio.create_task(client.instances(SERVICE, index=index))
            await asyncio.sleep(0.15)
            seen = len(arrived)
            await _set_health(consul, session, FLEET[turn // 2 % SCRAPERS], up=bool(turn % 2))
            moment = time.monotonic()
            index = (await reading).index
            bare.append(max(0.0, time.monotonic() - moment))
            await until(lambda n=seen: len(arrived) > n, "the change seen")  # type: ignore[misc]
            ours.append(max(0.0, arrived[-1][0] - moment))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    rows = [("promring's watch", ours, "<= 50"), ("a bare blocking read", bare, "")]
    table("a check changes in Consul -> seen", [(n, [v * 1000 for v in values], a) for n, values, a in rows], "ms", 1)


async def _slices(folder: Path, consul: ConsulProcess, session: aiohttp.ClientSession, changes: int) -> None:
    """Fact changed -> every slice on disk, for scrapers that die and return and for targets that come and go."""
    targets, out = folder / "targets.json", folder / "out"
    _write(targets, ADDRESSES)
    config = {
        "global": {"debounce": f"{round(DEBOUNCE_S * 1000)}ms"},
        "consul": {"address": consul.address},
        "shard_services": [
            {
                "name": SERVICE,
                "scrapers": {"consul": {"service": SERVICE}},
                "targets": [{"file": {"files": [str(targets)]}}],
                "join_delay": "0s",
                "handover": {"overlap": "0s"},  # these scrapers do not exist: nobody could confirm
                "audit": None,
                "delivery": [{"file": {"path": f"{out}/{{scraper}}.json"}}],
            }
        ],
    }
    controller = Controller(folder / "promring", config, port=free_port(), level="warn")
    await controller.start()
    try:
        await until(lambda: _holds(out, FLEET, ADDRESSES), "the first slices", 30)
        rng = random.Random(SEED)
        down: set[Scraper] = set()
        addresses = list(ADDRESSES)

        async def scraper_changes() -> str:
            scraper = rng.choice(FLEET)
            if scraper in down or len(down) > SCRAPERS // 4:
                scraper = scraper if scraper in down else next(iter(down))
                down.discard(scraper)
            else:
                down.add(scraper)
            await _set_health(consul, session, scraper, up=scraper not in down)
            return "dies" if scraper in down else "returns"

        async def target_changes() -> str:
            if len(addresses) == TARGETS:
                addresses.append(f"10.9.0.1:{rng.randrange(1024, 65535)}")
            else:
                addresses.pop()
            _write(targets, addresses)
            return "target"

        def expected() -> Mapping[str, bytes]:
            return _expected(tuple(s for s in FLEET if s not in down), addresses)

        scraper_s, alone_s = await _changes(out, changes, scraper_changes, expected)
        target_s, beside_s = await _changes(out, changes, target_changes, expected)
    finally:
        await controller.stop()
    asked = f"p99 <= debounce {DEBOUNCE_S:g} + 0.1"
    table(
        f"fact -> slices on disk: {TARGETS} targets, {SCRAPERS} scrapers",
        [
            ("a scraper dies (Consul): no debounce", scraper_s["dies"], "p99 <= 0.5, critical -> on disk"),
            ("  the same files written alone", alone_s["dies"], ""),
            ("a scraper returns (Consul)", scraper_s["returns"], asked),
            ("  the same files written alone", alone_s["returns"], ""),
            (f"a target comes or goes (file, looked at every {LOOK_S:g} s)", target_s["target"], f"{asked} + {LOOK_S:g}"),
            ("  the same files written alone", beside_s["target"], ""),
        ],
    )
    ratio = percentile(scraper_s["dies"], 50) / percentile(alone_s["dies"], 50)
    console.print(f"a death: {ratio:.1f} x writing the same files alone (medians)")


async def _changes(
    out: Path, changes: int, change: Callable[[], Awaitable[str]], expected: Callable[[], Mapping[str, bytes]]
) -> tuple[Mapping[str, list[float]], Mapping[str, list[float]]]:
    """Seconds of each change to its last slice, and of writing the same changed files alone, by what ``change`` was."""
    took: dict[str, list[float]] = defaultdict(list)
    alone: dict[str, list[float]] = defaultdict(list)
    scratch = out.parent / "alone"
    scratch.mkdir(exist_ok=True)
    for _ in range(changes):
        before = {p.name: p.stat().st_ino for p in out.iterdir()}
        what = await change()
        moment = time.time()
        await asyncio.sleep(SETTLE_S)
        wanted, ends = expected(), time.monotonic() + LATE_S
        while wrong := [name for name, body in wanted.items() if (out / name).read_bytes() != body]:
            if time.monotonic() > ends:
                raise AssertionError(f"slices are not those of the facts {LATE_S:g} s after a change: {wrong}")
            await asyncio.sleep(SETTLE_S)
        changed = [p for p in out.iterdir() if before.get(p.name) != p.stat().st_ino]
        took[what].append(max(p.stat().st_ctime_ns for p in changed) / 1e9 - moment)
        alone[what].append(_write_alone(scratch, {p.name: p.read_bytes() for p in changed}))
    return took, alone


def _write_alone(folder: Path, files: Mapping[str, bytes]) -> float:
    started = time.monotonic()
    for name, body in files.items():
        with open(folder / "tmp", "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        (folder / "tmp").rename(folder / name)
    return time.monotonic() - started


def _expected(members: Members, addresses: list[str]) -> dict[str, bytes]:
    pool = build_pool([(TargetGroup.of(addresses),)])
    placement = place_living(pool, Ring(members, 512), Ring(FLEET, 512), Policy())
    return {f"{placement.scrapers[i].id.replace(':', '_')}.json": body for i, body, _ in bodies(placement)}


def _holds(out: Path, members: Members, addresses: list[str]) -> bool:
    wanted = _expected(members, addresses)
    return all((out / name).exists() and (out / name).read_bytes() == body for name, body in wanted.items())


async def _set_health(consul: ConsulProcess, session: aiohttp.ClientSession, scraper: Scraper, *, up: bool) -> None:
    await consul.put(session, f"/v1/agent/check/{'pass' if up else 'fail'}/service:{scraper.id}")


def _write(path: Path, addresses: list[str]) -> None:
    path.with_suffix(".new").write_text(json.dumps([{"targets": addresses}]))
    path.with_suffix(".new").rename(path)
