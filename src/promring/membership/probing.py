"""Active HTTP checks of the scrapers of a list, with rise and fall counts and jitter.

Promises: says ``Unknown`` until every scraper that was listed at the start has its first verdict, then always the whole set
of live ones. A probe that does not answer within its time-out, answers anything but 2xx, or redirects, has failed: so a
frozen scraper is noticed. Until a scraper has its first verdict it is probed in quick succession, so that a start takes no
``healthy_after`` intervals. A probe that could not be made (no descriptor, port or thread on this machine, no address for
the name, no file with the password) keeps the verdict. A scraper that answers, and refuses our credentials or our TLS,
lives: that is said, and is trouble of a configuration (decision 53).

The list may change at any time: a scraper that stays keeps its verdict, one that is new is not alive until its first one,
and the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from promring.config.kinds import Problem
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.config.values import HttpPath, Interval, Model
from promring.membership import Publish
from promring.membership.kept import KeptProbe, idle_most
from promring.model import Answer, Empty, Known, Members, NodeState, Scraper, Waiting
from promring.runtime.http_client import DistrustError, HttpError, NotAskedError, UnresolvedError, credentials_refused
from promring.runtime.unforeseen import Quiet, Unforeseen
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

FIRST_PAUSE_S = 0.2
JITTER = 0.1


class ProbeKeys(Model):
    """``path`` answers 2xx while a scraper lives; counts are probes in a row."""

    path: HttpPath = "/-/ready"
    interval: Interval = 2.0
    timeout: Interval = 1.0
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 2

    def problems(self) -> Iterator[Problem]:
        """What is impossible between its values."""
        if self.timeout > self.interval:
            yield ("timeout",), "must not be longer than interval"


class Health:
    """Rise and fall of one node: a pure state machine. ``up`` is None before the first verdict."""

    def __init__(self, healthy_after: int, unhealthy_after: int) -> None:
        self._needed = {True: healthy_after, False: unhealthy_after}
        self._undecided = 2 * (healthy_after + unhealthy_after)
        self._run = 0
        self._last: bool | None = None
        self.up: bool | None = None

    def seen(self, ok: bool) -> bool:
        """Count one probe. True when the verdict changed."""
        self._run = self._run + 1 if ok is self._last else 1
        self._last = ok
        if ok is self.up or self._run < self._needed[ok]:
            return self.undecided()
        self.up = ok
        return True

    def undecided(self) -> bool:
        """Count one look that led to no verdict; the one there is stays. True when the verdict changed."""
        if self.up is not None:
            return False
        self._undecided -= 1
        if self._undecided > 0:
            return False
        self.up = False  # neither nor: whoever cannot be told to live is down
        return True


class ProbeMembership:
    """Probes ``scrapers``, until ``list_now`` names others; an attribute for each thing that is kept of them."""

    def __init__(self, name: str, scrapers: Members, settings: ProbeKeys, log: Logger, api: ScraperApi = PLAIN) -> None:
        self._name, self._settings, self._log, self._api = name, settings, log, api
        self._listed = tuple(sorted(scrapers))
        """Kept, since each probe asks for it, and sorting a thousand takes longer than a probe."""
        self._scrapers = {s.id: s for s in scrapers}
        self._health = {name: self._new_health() for name in self._scrapers}
        self._why: dict[str, str] = {}
        self._settled = False
        """Whether every scraper had its first verdict once."""
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._publish: Publish = lambda _: None
        self.probed = dict.fromkeys(("success", "failure", "not_made", "distrusted"), 0)
        self._newest = self._answer()
        self._faults, self._quiet = Unforeseen("probe", log), Quiet()

    async def run(self, publish: Publish) -> None:
        self._publish = publish
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for scraper in self._scrapers.values():
                    self._begin(scraper)
                await asyncio.Event().wait()
            finally:
                self._group = None
                self._probing.clear()

    def list_now(self, scrapers: Members) -> None:
        """These are the scrapers from now on, and what is known of them is published."""
        before, self._scrapers = self._scrapers, {s.id: s for s in scrapers}
        self._listed = tuple(sorted(scrapers))
        for name, scraper in before.items():
            now = self._scrapers.get(name)
            if now is None or now.address != scraper.address:
                self._health.pop(name, None)
                self._why.pop(name, None)
                if task := self._probing.pop(name, None):
                    task.cancel()
        for name, scraper in self._scrapers.items():
            if name not in self._health:
                self._health[name] = self._new_health()
                self._begin(scraper)
        self._hand_on(changed=True)

    def up(self, name: str) -> bool | None:
        """The verdict about one of them; None: there is none yet."""
        return self._health[name].up if name in self._health else None

    def nodes(self) -> list[NodeState]:
        names: Mapping[bool | None, str] = {True: "up", False: "down", None: "unknown"}
        return [NodeState(name, names[self._health[name].up], self._why.get(name, "")) for name in self._scrapers]

    def listed(self) -> Members:
        return self._listed

    def silent(self) -> str:
        """Never: each probe ends, and is an answer."""
        return ""

    def _new_health(self) -> Health:
        return Health(self._settings.healthy_after, self._settings.unhealthy_after)

    def _begin(self, scraper: Scraper) -> None:
        """Probe it from now on, where the membership runs; else when it does."""
        if self._group is not None:
            self._probing[scraper.id] = self._group.create_task(self._probe_for_ever(scraper))

    async def _probe_for_ever(self, scraper: Scraper) -> None:
        asking = KeptProbe(scraper.address, self._settings.path, idle_most=idle_most(), api=self._api)
        health, interval = self._health[scraper.id], self._settings.interval
        try:
            while True:
                self._hand_on(changed=await self._look(asking, scraper, health))
                pause = interval if health.up is not None else min(interval, FIRST_PAUSE_S)
                await asyncio.sleep(pause * random.uniform(1 - JITTER, 1 + JITTER))
        finally:
            asking.close()

    async def _look(self, asking: KeptProbe, scraper: Scraper, health: Health) -> bool:
        """One probe and what follows from it. True when the verdict changed."""
        try:
            failure = await self._probe(asking)
        except UnresolvedError as error:
            self._not_made(error, scraper.id)
            return health.undecided()  # a name that never had an address must not keep the others waiting
        except NotAskedError as error:
            self._not_made(error, scraper.id, of_all=True)
            return False
        except DistrustError as error:
            self._distrusted(error, scraper.id)
            return health.seen(True)
        except Exception as error:  # whatever a scraper answers, the loop goes on
            self._why[scraper.id] = self._faults.note(error, scraper=scraper.id)
            return False
        self._why[scraper.id] = failure
        self.probed["failure" if failure else "success"] += 1
        return health.seen(not failure)

    async def _probe(self, asking: KeptProbe) -> str:
        """Why the probe failed, or an empty text. Raises ``NotAskedError``, ``DistrustError``."""
        try:
            status = await asking.status(self._settings.timeout)
        except (NotAskedError, DistrustError):
            raise
        except HttpError as error:
            return str(error)
        if refused := credentials_refused(status):
            raise DistrustError(refused)
        if 200 <= status < 300:
            return ""
        elsewhere = self._api.elsewhere(status, self._settings.path)
        return f"status {status}: {elsewhere}" if elsewhere else f"status {status}"

    def _not_made(self, error: NotAskedError, scraper: str, *, of_all: bool = False) -> None:
        """``of_all``: the trouble is this machine's, so it is said once for all scrapers."""
        self.probed["not_made"] += 1
        self._why[scraper] = str(error)
        if self._quiet.is_news(None if of_all else scraper):
            self._log.warning(
                "probe_not_made", srv_name=self._name, scraper=scraper, error=str(error), note="the verdict stays"
            )

    def _distrusted(self, error: DistrustError, scraper: str) -> None:
        self.probed["distrusted"] += 1
        self._why[scraper] = f"{error}; it answers, so it counts as alive"
        if self._quiet.is_news((scraper, wording(str(error)))):
            self._log.warning(
                "probe_distrusted",
                srv_name=self._name,
                scraper=scraper,
                error=str(error),
                note="it answers, so it counts as alive: look at scraper_api and at its certificate",
            )

    def _hand_on(self, *, changed: bool) -> None:
        if changed:
            self._newest = self._answer()  # of a thousand scrapers it takes longer than a probe
        self._publish(self._newest)

    def _answer(self) -> Answer[Members]:
        waiting = [name for name in self._scrapers if self._health[name].up is None]
        live = tuple(sorted(s for s in self._scrapers.values() if self._health[s.id].up))
        self._settled = self._settled or (bool(self._scrapers) and not waiting)
        if waiting and not (self._settled and live):
            return Waiting(f"no verdict yet about {', '.join(waiting)}")
        return Known(live) if live else Empty()
