"""The world around the controllers: scrapers with their disks, sources, Consul, the network; and what must always be true.

Everything here is a fake but the receiver of a slice, which is ``delivery.envelope`` on a real folder. ``World.broken``
collects what must not happen, as it happens.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from promring.consul.lock import LEASE_MOST_S
from promring.delivery import envelope
from promring.delivery.envelope import Envelope
from promring.httpclient import HttpError, RefusedError, Response
from promring.model import Generation, Slice
from tests.sim.consul import Consul
from tests.sim.faketime import HERE, WALL_S, Clock, FakeLoop, Process
from tests.sim.scraper import PORT, Scraper, Source, targets_of

if TYPE_CHECKING:
    from tests.sim.controller import Controller

SCRAPERS = 8
OVERLAP_S = 15.0
SETTLING_S = 10.0
"""A scraper that came up less than this ago may not scrape all of its slice yet."""


@dataclass
class Given:
    """What a controller gives one scraper: ``since`` when it is in the plan; the slice's digest; its targets, since when."""

    since: float
    digest: str = ""
    targets: dict[str, float] = field(default_factory=dict)


class World:
    def __init__(self, loop: FakeLoop, rng: random.Random, folder: Path, *, strict: bool) -> None:
        self.loop, self.rng, self.folder = loop, rng, folder
        self.clock = Clock(loop)
        hosts = [f"scraper-{n}" for n in range(SCRAPERS)]
        self.scrapers = {f"{h}:{PORT}": Scraper(h, folder / "sinks" / h / f"{PORT}.json") for h in hosts}
        self.sources: dict[str, Source] = {}
        self.consul = Consul(loop.time, self._passes)
        self.controllers: dict[str, Controller] = {}
        self.cut_off: set[tuple[str, str]] = set()
        """Who does not reach whom."""
        self.broken: list[str] = []
        self.trace: list[str] = []
        self.writes: list[tuple[float, str]] = []
        """When which sink's bytes changed."""
        self.notes = 0
        """How often a receiver noted a generation."""
        self.strict = strict
        """Whether known weaknesses count, too; see ``_excused``."""
        self._made: dict[tuple[str, str, Generation], Process] = {}
        """Who made which slice: scraper, digest, generation."""
        self._given: dict[Process, dict[str, Given]] = {}
        """What each controller gives each scraper of its plan."""
        self._pusher: tuple[Process | None, float] = (None, 0.0)
        """Who pushes, and since when."""
        self.ever: set[str] = set()
        """Every target that was ever listed."""
        self.locked = False
        """Whether the controllers have a lock."""

    @property
    def now(self) -> float:
        return self.loop.time()

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now - 1000:9.3f}  {text}")

    def wrong(self, text: str) -> None:
        self.say(f"BROKEN {text}")
        self.broken.append(text)

    def truth(self) -> set[str]:
        return {t for source in self.sources.values() for t in source.targets}

    # --- network -----------------------------------------------------------------------------------------------------

    async def request(
        self,
        _: object,
        method: str,
        url: str | URL,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        json: object = None,
        data: bytes | None = None,
        **__: object,
    ) -> Response:
        """In the place of ``httpclient.request``."""
        process, url = HERE.get(), URL(url)
        assert process is not None
        assert url.host is not None
        try:
            async with asyncio.timeout(timeout_s):
                if process.dead:
                    raise HttpError("dead")
                await asyncio.sleep(self.rng.uniform(0.0005, 0.005))
                await self._through(process.name, url.host)
                query = dict(url.query) | (params or {})
                answer = await self._route(process.name, method, url, query, json if data is None else data, headers or {})
                await self._through(process.name, url.host)
                return answer
        except TimeoutError:
            raise HttpError(f"no whole answer within {timeout_s:g} s") from None

    async def _through(self, who: str, host: str) -> None:
        """What is lost on the way is sent again, as TCP does."""
        await _until(lambda: (who, host) not in self.cut_off)

    async def _route(
        self, who: str, method: str, url: URL, query: dict[str, str], body: Any, headers: dict[str, str]
    ) -> Response:
        host = str(url.host)
        if host == "consul":
            return await self.consul.answer(who, method, url.path, query, body)
        if host == "cmdb":
            return await self.sources[url.path.strip("/")].answer()
        if host in self.controllers:
            return await self.controllers[host].serve(url, headers)
        scraper = self.scrapers[f"{host}:{PORT}"]
        if not scraper.up:
            raise RefusedError(f"cannot connect to {scraper.id}: Connection refused")
        await _until(lambda: not scraper.frozen)
        date = format_datetime(datetime.fromtimestamp(int(WALL_S + self.now), UTC), usegmt=True)
        return Response(200, {"date": date}, scraper.active_targets() if url.path.endswith("/targets") else b"OK")

    def _passes(self, url: str) -> bool:
        scraper = self.scrapers[f"{URL(url).host}:{PORT}"]
        return scraper.answers and not scraper.hidden

    # --- receivers ---------------------------------------------------------------------------------------------------

    def made(self, slices: Sequence[Slice]) -> None:
        """A controller put these in force."""
        process = HERE.get()
        assert process is not None
        before = self._given.get(process, {})
        self._given[process] = {}
        for one in slices:
            self._made.setdefault((one.scraper.id, one.sha256, one.generation), process)
            given = before.get(one.scraper.id) or Given(self.now)
            if given.digest != one.sha256:
                given = Given(given.since, one.sha256, {t: given.targets.get(t, self.now) for t in targets_of(one.body)})
            self._given[process][one.scraper.id] = given

    def pushes(self) -> None:
        """A controller begins to write. It may, as long as it was told less than a lease ago that it has the lock."""
        process = HERE.get()
        assert process is not None
        if self._pusher[0] is not process:
            self._pusher = process, self.now
        told_at = self.consul.confirmed_at.get(process.name, float("-inf"))
        if self.locked and self.now - told_at > LEASE_MOST_S + 0.001:
            self.wrong(f"lease: {process.name} pushes {self.now - told_at:.1f} s after it last heard that it leads")

    def install(self, real: Callable[..., None]) -> Callable[..., None]:
        """Looks at what ``disk.install`` leaves behind."""

        def install(path: Path, body: bytes, **options: int) -> None:
            scraper = next((s for s in self.scrapers.values() if path.parent == s.file.parent), None)
            if scraper is None:
                real(path, body, **options)
                return
            process = HERE.get()
            if process is not None and process.name in self.controllers:
                self.pushes()
            if scraper.disk == "full":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            real(path, body, **options)
            if path == scraper.file:
                self._installed(scraper)
            else:
                self.notes += 1

        return install

    def _installed(self, scraper: Scraper) -> None:
        """A sink has other bytes: I3, I7, I8, and no target is taken from the only one who has it."""
        body = scraper.file.read_bytes()
        note = envelope.noted(scraper.file)
        assert note is not None
        have = generation, sha256 = note.generation, note.sha256
        self.writes.append((self.now, scraper.id))
        maker = self._made.get((scraper.id, sha256, generation))
        if maker is None or not Envelope(body, sha256, generation).is_whole():
            self.wrong(f"I8: {scraper.id} has {len(body)} bytes that are no slice that was made, as {generation}")
            return
        back = generation < scraper.accepted[0] or (generation == scraper.accepted[0] and sha256 != scraper.accepted[1])
        if note.rank[0] < scraper.term or (back and not scraper.pulls):  # an agent may go back in a term
            self.wrong(f"I7: {scraper.id} went from {scraper.accepted[0]} to {generation}")
        scraper.term = note.rank[0]
        if maker is not scraper.maker:
            scraper.maker, scraper.maker_since = maker, self.now
        scraper.accepted = have
        now = set(targets_of(body))
        if strange := now - self.ever:
            self.wrong(f"I8: {scraper.id} got {len(strange)} targets that nobody listed")
        taken = (scraper.in_file.keys() - now) & self.truth()
        scraper.in_file = {t: scraper.in_file.get(t, self.now) for t in sorted(now)}
        self.say(f"{scraper.id} installed {generation} of {maker.name}: {len(now)} targets, {len(taken)} taken")
        others = {t for s in self.scrapers.values() if s is not scraper for t in s.in_file}
        lost = [t for t in sorted(taken - others) if not self._excused(scraper, t)]
        if scraper.answers and lost:
            self.wrong(f"I3: {len(lost)} targets were taken from {scraper.id}, and nobody else has them")

    def _excused(self, scraper: Scraper, target: str) -> bool:
        """Whether who took the target from ``scraper`` gave it to another one an overlap ago: longer is not waited.

        Known weaknesses, which count when ``strict``: a controller that begins to lead delivers its own plan at once, also
        what it takes away; and a scraper that comes back is not waited for with what it still has.
        """
        maker = scraper.maker
        assert maker is not None
        gives = self._given.get(maker, {})
        others = [given for name, given in gives.items() if name != scraper.id]
        if any(self.now - given.targets.get(target, self.now) >= OVERLAP_S - 1.0 for given in others):
            return True
        began = self._pusher[1] if self._pusher[0] is maker else scraper.maker_since
        if scraper.id in gives:
            began = max(began, gives[scraper.id].since)
        return not self.strict and self.now - began < OVERLAP_S

    def look(self) -> None:
        """Once a second: the scrapers load their files. I2: what one of them drops, another one scrapes."""
        for scraper in self.scrapers.values():
            if scraper.answers:
                for target in scraper.look(self.now) & self.truth():
                    if not self._may_drop(scraper, target) and not self._excused(scraper, target):
                        self.wrong(f"I2: {scraper.id} drops {target}, and nobody else scrapes it")

    def _may_drop(self, scraper: Scraper, target: str) -> bool:
        """Whether somebody else has it, and scrapes it, or did until it was gone a moment ago."""
        for other in self.scrapers.values():
            if other is scraper or target not in other.in_file:
                continue
            if target in other.scraped or not other.answers or self.now - other.started_at < SETTLING_S:
                return True
        return False


async def _until(over: Callable[[], bool]) -> None:
    while not over():  # noqa: ASYNC110  # several things end it, and looking costs no time here
        await asyncio.sleep(0.5)
