"""Watches one service's instances by blocking queries, and says who of them lives.

Promises: every answer is handed on, an equal one too (it says that it still is so); a change is handed on within
milliseconds of Consul knowing it; after any error, and when the index goes back, the next read starts without an index
(Consul was restarted, the old index would hide changes for a whole wait); a full read now and then, and every few seconds
for a while after trouble (a client agent of 1.14 that lost its servers answers from what it has); at most ``RATE_PER_S``
reads a second after a burst of two; back-off with full jitter from 0.25 to 8 s without an answer.
Does not promise: that each state in between is seen. An answer without a live scraper is handed on as ``Empty``, never as
members; but when the whole catalogue is empty, as it is to a token that may not read it, or when Consul says that it has
left something out for the token, nothing was answered.
Flow: ``consul/instances.py`` says what an instance's checks mean; who has to be asked directly is asked by
``membership/consul.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from promring.consul.client import WAIT_S, Client, answer_within
from promring.consul.instances import FILTERED, READ_RULES, Condition, HealthEntry, Instances
from promring.model import Answer, ConsulError, Empty, Known, Members, Scraper, Unknown
from promring.runtime.backoff import Bucket
from promring.telemetry.log import Logger

RATE_PER_S = 10.0
BURST = 2
FULL_READ_S = 60.0
CAUTIOUS_S = 120.0
"""So long after trouble waits are short, and every second read is a full one."""
CAUTIOUS_WAIT_S = 5.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 8.0  # so that a Consul that comes back is heard within 10 s
SILENT_S = answer_within(WAIT_S) + 10.0
"""Longer than any answer may take, with a second try."""
SAID_MOST = 20
"""Instances that are named at once in the log."""

HIDDEN = "Consul shows no service at all, not even its own: may the token read services and nodes?"
MakeScraper = Callable[[tuple[str, int], Mapping[str, str]], Scraper]
"""From address and metadata."""


class HealthWatch:
    """The live instances of one Consul service, as ``Members``. ``warning_is_dead``: a warning takes a scraper away;
    ``weight_most``: what a weight of Consul's own counts at most.
    """

    def __init__(
        self,
        client: Client,
        service: str,
        make_scraper: MakeScraper,
        log: Logger,
        *,
        warning_is_dead: bool = False,
        weight_most: float = 100.0,
        cautious_wait_s: float = CAUTIOUS_WAIT_S,
    ) -> None:
        self._client = client
        self._service = service
        self._make = make_scraper
        self._log = log
        self._cautious_wait_s = cautious_wait_s
        self._warning_is_dead, self._weight_most = warning_is_dead, weight_most
        self._own_node: str | None = None
        self._last: Answer[Members] | None = None
        self._alive: frozenset[str] = frozenset()
        self._refused: dict[str, str] = {}
        """Instances that are left out, and why."""
        self._newest: Instances | None = None
        self._bucket = Bucket(RATE_PER_S, BURST)
        self._publish: Callable[[Answer[Members]], None] = lambda _: None
        self.listed: Members = ()
        """Who is in the catalogue, alive or not."""
        self.why: Mapping[str, str] = {}
        """What is to be said of a scraper, by its id."""
        self.answered_at = time.monotonic()
        """When Consul last gave an answer; at first, when we began to ask."""
        self.unsure: Members = ()
        """Scrapers that only a direct probe can tell about."""
        self.unsure_changed = asyncio.Event()
        self._probed: dict[str, bool] = {}

    async def run(self, publish: Callable[[Answer[Members]], None]) -> None:
        """For ever: read, compare, hand on."""
        self._publish, self.answered_at = publish, time.monotonic()
        index, failures = None, 0
        full_read_at = cautious_until = 0.0
        while True:
            await self._bucket.take()
            now = time.monotonic()
            cautious = now < cautious_until
            if now >= full_read_at:
                index, full_read_at = None, now + FULL_READ_S
            try:
                found = await self._read(index, self._cautious_wait_s if cautious else WAIT_S)
                back = index is not None and found.index < index
                refused = {} if back else self._hand_on_newest(found)
            except Exception as error:  # nothing that Consul says may end the process: handed on as no answer, and logged
                why = str(error) if isinstance(error, ConsulError) else f"{type(error).__name__}: {error}"
                index, failures, cautious_until = None, failures + 1, time.monotonic() + CAUTIOUS_S
                self._own_node = None
                self._hand_on(Unknown(why))
                most = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10))
                await asyncio.sleep(random.uniform(BACKOFF_FIRST_S / 2, most))
                continue
            failures, self.answered_at = 0, time.monotonic()
            if back:  # what came with a lower index may be half a catalogue: read it again in full
                self._log.warning("consul_index_went_back", srv_name=self._service, old=index, new=found.index)
                index, cautious_until = None, time.monotonic() + CAUTIOUS_S
                continue
            self._say_refused(refused)
            index = None if cautious and found.index == index else max(found.index, 1)

    def put_probed(self, scraper: str, *, alive: bool) -> None:
        """Somebody who is ``unsure`` answers a direct probe, or does not."""
        if self._probed.get(scraper) is not alive and scraper in {s.id for s in self.unsure}:
            self._probed[scraper] = alive
            if self._newest is not None and not isinstance(self._last, Unknown):
                self._hand_on_newest(self._newest)

    def scraper_at(self, node: tuple[str, int]) -> Scraper:
        return self._make(node, {})

    async def _read(self, index: int | None, wait_s: float) -> Instances:
        """Raises ``ConsulError`` when the answer is none, or lacks what the token may not see."""
        found = await self._client.instances(self._service, index=index, wait_s=wait_s)
        if not found.filtered and not found.entries and not found.broken:
            named = await self._client.services()
            if not named:
                raise ConsulError(f"{HIDDEN} {READ_RULES.format(service=self._service)}")
            if self._service in named:  # registered a moment ago; or, before 1.11, on nodes that are hidden from us
                found = await self._client.instances(self._service)
                found = replace(found, filtered=not found.entries and not found.broken)
        if found.filtered:
            raise ConsulError(f"{self._client.where}: {FILTERED.format(service=self._service)}")
        if self._own_node is None:
            self._own_node = await self._node_of_agent()
        return found

    async def _node_of_agent(self) -> str:
        """Empty: it is not known, as without ``agent`` read. Then what promring registered is known by its mark only."""
        try:
            return (await self._client.agent()).node
        except ConsulError:
            return ""

    def _hand_on_newest(self, found: Instances) -> dict[str, str]:
        """Those who are refused, and why."""
        members, refused = self._members(found.entries)
        self._newest = found
        self._hand_on(Known(members) if members else Empty())
        return {**found.broken, **refused}

    def _members(self, entries: Iterable[HealthEntry]) -> tuple[Members, dict[str, str]]:
        """Who lives, and who is left out because its instance makes no sense."""
        chosen: dict[str, tuple[str, Scraper, Condition]] = {}
        refused: dict[str, str] = {}
        known = [(entry, self._condition(entry)) for entry in entries]
        for entry, condition in sorted(known, key=_first_best):
            name = entry.service.id
            try:
                place = entry.place()
            except ValueError as error:
                refused[name] = str(error)
                continue
            scraper = replace(self._make(place, entry.metadata), draining=condition.drained)
            if (weight := entry.weight(condition)) is not None:
                scraper = replace(scraper, weight=min(float(weight), self._weight_most))
            first_name, first, _ = chosen.setdefault(scraper.id, (name, scraper, condition))
            if first_name != name or (first.host, first.port) != place:
                one, other = sorted([first_name, name])
                refused[other] = f"it has the identity {scraper.id} of {one}"
        self._set_unsure(tuple(sorted(s for _, s, condition in chosen.values() if condition.alive is None)))
        alive = [s for _, s, condition in chosen.values() if self._lives(s, condition)]
        self.listed = tuple(sorted(s for _, s, _ in chosen.values()))
        self.why = {s.id: condition.why for _, s, condition in chosen.values() if condition.why}
        self._alive = frozenset(s.id for s in alive)
        return tuple(sorted(alive)), refused

    def _condition(self, entry: HealthEntry) -> Condition:
        return entry.condition(own_node=self._own_node or "", warning_is_dead=self._warning_is_dead)

    def _lives(self, scraper: Scraper, condition: Condition) -> bool:
        """Who has to be asked, and was not yet, is what it was."""
        if condition.alive is not None:
            return condition.alive
        return self._probed.get(scraper.id, scraper.id in self._alive)

    def _set_unsure(self, scrapers: Members) -> None:
        if scrapers != self.unsure:
            self.unsure = scrapers
            self._probed = {s.id: self._probed[s.id] for s in scrapers if s.id in self._probed}
            self.unsure_changed.set()

    # --- say ---------------------------------------------------------------------------------------------------------

    def _say_refused(self, refused: dict[str, str]) -> None:
        """Once while it lasts, not at each read; and not all of a thousand."""
        new = {name: why for name, why in refused.items() if self._refused.get(name) != why}
        for name, why in list(new.items())[:SAID_MOST]:
            self._log.error("consul_instance_refused", srv_name=self._service, id=name, why=why)
        if len(new) > SAID_MOST:
            self._log.error("consul_instance_refused", srv_name=self._service, more=len(new) - SAID_MOST)
        self._refused = refused

    def _hand_on(self, answer: Answer[Members]) -> None:
        self._last = answer
        self._publish(answer)


def _first_best(known: tuple[HealthEntry, Condition]) -> tuple[object, ...]:
    """Of several instances with one identity the first counts: one whose agent lives, then one that is checked at all, then
    one that lives.
    """
    entry, condition = known
    unchecked = not any(check.service_id for check in entry.checks or ())
    return (condition.alive is None, unchecked, not condition.alive, entry.service.id, entry.node.node)
