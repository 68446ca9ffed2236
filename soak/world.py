"""The fleet that is soaked: a Consul behind a proxy, scrapers, three controllers with a lock, and two sources of targets.

The third controller, the witness, is never killed or frozen, so that its gauges have one long life.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fakes.source import TargetSource
from tests.gaps import gaps
from tests.real.stage import SERVICE, Stage, stage

from promring.demo.controller import Controller
from promring.demo.process import find
from promring.demo.scraper import ScraperProcess
from promring.runtime.http_client import HttpError
from soak.gauges import Sample, sample

INTERVAL_S, AUDIT_S = 2.0, 10.0
TARGETS, FROM_FILE = 90, 60
SAMPLED_S = 5.0
TICK_S = 0.1
SETTLE_S = 120.0


@dataclass
class World:
    """``lag``: when this process itself came late, and by how much: scrapes are noted that much later."""

    stage: Stage
    source: TargetSource
    rng: Random
    listed: list[str]
    absent: set[str] = field(default_factory=set)
    """Targets that were not listed for a moment since the last fault began: nobody has to scrape them."""
    lives: dict[str, list[list[Sample]]] = field(default_factory=dict)
    """By controller, a list for each of its processes."""
    coverage: list[tuple[float, float]] = field(default_factory=list)
    """Monotonic seconds, and the share of the listed targets that somebody scraped within two intervals."""
    lag: list[tuple[float, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _pids: dict[str, int] = field(default_factory=dict)

    @property
    def mortal(self) -> list[Controller]:
        return self.stage.controllers[:2]

    @property
    def witness(self) -> Controller:
        return self.stage.controllers[2]

    async def leader(self) -> Controller:
        """Who leads; the first one when nobody does."""
        return next(iter(await self.stage.leaders()), self.stage.controller)

    def list_targets(self, addresses: Sequence[str]) -> None:
        """In the file, in groups of three, and from the HTTP source."""
        self.listed = list(addresses)
        self.absent |= set(self.stage.farm.addresses) - set(addresses)
        in_file = [address for address in addresses if address in set(self.stage.farm.addresses[:FROM_FILE])]
        groups = [{"targets": in_file[i : i + 3], "labels": {"env": "test"}} for i in range(0, len(in_file), 3)]
        temporary = self.stage.folder / "targets.new"
        temporary.write_text(json.dumps(groups))
        temporary.replace(self.stage.folder / "targets.json")
        self.source.groups = [{"targets": [a for a in addresses if a not in set(in_file)]}]

    def scraped_lately(self) -> list[str]:
        """The listed targets that somebody scraped within two intervals."""
        since = time.monotonic() - 2 * INTERVAL_S
        return [address for address in self.listed if (self.stage.farm.scrapes(address)[-1:] or [0.0])[0] >= since]

    def longest_gap(self, since: float, until: float) -> float:
        """Of the listed targets, in seconds, without what this process itself was late."""
        late = max((by for at, by in self.lag if since <= at <= until), default=0.0)
        farm = self.stage.farm
        steady = [address for address in self.listed if address not in self.absent]
        return max(max(gaps(farm.scrapes(address), since, until)) for address in steady) - late

    async def settle(self) -> float:
        """Wait until every listed target is scraped again and no hand-over is going on; seconds. Raises ``TimeoutError``
        that says what is still going on.
        """
        began, why = time.monotonic(), "targets that are not scraped"
        try:
            async with asyncio.timeout(SETTLE_S):
                await self.stage.farm.scraped_since(self.listed, began, SETTLE_S)
                while why := await self._unrest():  # noqa: ASYNC110 - the fleet is another process
                    await asyncio.sleep(0.5)
        except TimeoutError as error:
            raise TimeoutError(why) from error
        return time.monotonic() - began

    async def _unrest(self) -> str:
        """What is still going on; empty: nothing. A scraper that died often waits up to five minutes for targets."""
        leader = await self.leader()
        found = await leader.ask(self.stage.session, f"services/{SERVICE}")
        if not found:
            return f"{leader} does not answer"
        if found["handing_over"] or found["held"]:
            return f"handing over {found['handing_over']}, held: {found['held']}"
        without = [one["trouble"] or one for one in found["scrapers"] if not one["targets"] and not one["joins_at"]]
        missing = len(self.stage.scrapers) - len(found["scrapers"])
        return f"{missing} scrapers missing, without targets: {without}" if missing or without else ""

    async def freeze(self, process: Controller | ScraperProcess, seconds: float) -> None:
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.signal(signal.SIGCONT)

    async def restart(self, process: Controller | ScraperProcess, seconds: float, *, kill: bool = True) -> None:
        await (process.kill() if kill else process.stop())
        await asyncio.sleep(seconds)
        await process.start()
        await process.until(lambda: process.is_ready(self.stage.session), "ready again", SETTLE_S)

    # --- watched all the time ----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Note gauges, coverage and our own lateness, for ever."""
        sampled = expected = time.monotonic()
        while True:
            expected += TICK_S
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            if now - expected > TICK_S:
                self.lag.append((now, now - expected))
            expected = max(expected, now - TICK_S)
            if now - sampled >= SAMPLED_S:
                sampled = now
                self.coverage.append((now, len(self.scraped_lately()) / len(self.listed)))
                for controller in self.stage.controllers:
                    await self._sample(controller, now)

    async def _sample(self, controller: Controller, now: float) -> None:
        name = controller.folder.name if controller is not self.stage.controller else "first"
        if not controller.running:
            return
        found = sample(controller.pid, now, await self._tasks(controller))
        if found is None:
            return
        lives = self.lives.setdefault(name, [])
        if self._pids.get(name) != controller.pid:
            self._pids[name] = controller.pid
            lives.append([])
        lives[-1].append(found)

    async def _tasks(self, controller: Controller) -> int | None:
        if controller is not self.witness:
            return None  # it may be frozen
        try:
            text = (await controller.get(self.stage.session, "/metrics")).body.decode()
        except HttpError:
            return None
        found = re.search(r"^promring_tasks (\S+)$", text, re.MULTILINE)
        return round(float(found[1])) if found else None


@asynccontextmanager
async def world(folder: Path, rng: Random) -> AsyncIterator[World]:
    """Entered when every target is placed."""
    consul, two, three = find("consul"), find("prometheus"), find("prometheus3")
    if consul is None or two is None:
        raise SystemExit("soak: needs Consul and Prometheus (make servers)")
    kinds = [(two, False), (two, False), (three or two, False), (three or two, False)]
    async with TargetSource([]) as source:
        files = {"file": {"files": [str(folder / "targets.json")]}}
        listed = {"http": {"url": source.url, "refresh_interval": "1s", "timeout": "2s"}}
        async with stage(
            folder,
            consul,
            None,
            scrapers=len(kinds),
            count=TARGETS,
            interval_s=INTERVAL_S,
            kinds=kinds,
            lock={},
            proxied=True,
            start=False,
            targets=[files, listed],
            audit={"interval": f"{AUDIT_S:g}s", "timeout": "5s"},
        ) as made:
            found = World(made, source, rng, [])
            found.list_targets(made.farm.addresses)
            await made.controller.start()
            await made.controller.until(lambda: made.controller.is_ready(made.session), "the first controller")
            for name in ("second", "witness"):
                await made.join_in(name)
            await found.settle()
            yield found
            made.allowed |= _said(made.controllers) - {"unforeseen"}


def _said(controllers: Sequence[Controller]) -> set[str]:
    """The ``msg`` of every line of their logs."""
    return {msg for one in controllers for msg in re.findall(r" msg=(\S+)", one.log_file.read_text(errors="replace"))}
