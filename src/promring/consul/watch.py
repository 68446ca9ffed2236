"""Watches one service's instances by blocking queries, and says who of them lives.

Promises: every answer is handed on, an equal one too (it says that it still is so); a change is handed on within
milliseconds of Consul knowing it (within a second when Consul's answers do not wait); after any error, and when the
index goes back, the next read starts without an index (Consul was restarted, the old index would hide changes for a
whole wait); a full read now and then, and every few seconds for a while after trouble (a client agent of 1.14 that lost
its servers answers from what it has); at most ``RATE_PER_S`` reads a second after a burst of two; back-off with full
jitter from 0.25 to 8 s without an answer.
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
from collections.abc import Callable
from dataclasses import replace

from promring.consul.catalogue import Catalogue
from promring.consul.client import WAIT_S, Client, answer_within
from promring.consul.instances import FILTERED, READ_RULES, Instances
from promring.model import LONG_AGO, Answer, ConsulError, Empty, Known, Members, Unknown
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
HURRIED_S, HURRIED_MOST, PAUSE_S = 0.5, 10, 1.0
"""After so many answers in a row that bring no newer index, and do not wait for one either, there is a pause after each: a
proxy between answers from what it has, or asks servers that know different indexes."""
SAID_AGAIN_S = 60.0
SAID_MOST = 20
"""Instances that are named at once in the log."""

HIDDEN = "Consul shows no service at all, not even its own: may the token read services and nodes?"


class HealthWatch:
    """The live instances of one Consul service, as ``Members``. ``catalogue``: what their entries mean."""

    def __init__(
        self,
        client: Client,
        service: str,
        catalogue: Catalogue,
        log: Logger,
        *,
        cautious_wait_s: float = CAUTIOUS_WAIT_S,
    ) -> None:
        self._client = client
        self.service = service
        self._log = log
        self._cautious_wait_s = cautious_wait_s
        self.catalogue = catalogue
        self._last: Answer[Members] | None = None
        self._refused: dict[str, str] = {}
        """Instances that are left out, and why."""
        self._newest: Instances | None = None
        self._bucket = Bucket(RATE_PER_S, BURST)
        self._hurried = 0
        """Answers in a row that should have waited for news, and had none."""
        self._said_back_at = LONG_AGO
        self._publish: Callable[[Answer[Members]], None] = lambda _: None
        self.answered_at = time.monotonic()
        """When Consul last gave an answer; at first, when this object, or the one before a reload, was made."""

    async def run(self, publish: Callable[[Answer[Members]], None]) -> None:
        """For ever: read, compare, hand on."""
        self._publish = publish
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
                self.catalogue.own_node = None
                self._hand_on(Unknown(why))
                most = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10))
                await asyncio.sleep(random.uniform(BACKOFF_FIRST_S / 2, most))
                continue
            failures, self.answered_at = 0, time.monotonic()
            await self._slow_down(index, found.index, time.monotonic() - now)
            if back:  # what came with a lower index may be half a catalogue: read it again in full
                self._say_back(index, found.index)
                index, cautious_until = None, time.monotonic() + CAUTIOUS_S
                continue
            self._say_refused(refused)
            index = None if cautious and found.index == index else max(found.index, 1)

    async def _slow_down(self, asked: int | None, found: int, took_s: float) -> None:
        """What a full read takes says nothing, and does not end a row."""
        if asked is None:
            return
        self._hurried = self._hurried + 1 if found <= asked and took_s < HURRIED_S else 0
        if self._hurried == HURRIED_MOST:
            self._log.warning("consul_does_not_wait", srv_name=self.service, pause_s=PAUSE_S)
        if self._hurried >= HURRIED_MOST:
            await asyncio.sleep(PAUSE_S)

    def put_probed(self, scraper: str, *, alive: bool) -> None:
        """Somebody who is ``unsure`` answers a direct probe, or does not."""
        news = self.catalogue.put_probed(scraper, alive=alive)
        if news and self._newest is not None and not isinstance(self._last, Unknown):
            self._hand_on_newest(self._newest)

    async def _read(self, index: int | None, wait_s: float) -> Instances:
        """Raises ``ConsulError`` when the answer is none, or lacks what the token may not see."""
        found = await self._client.instances(self.service, index=index, wait_s=wait_s)
        if not found.filtered and not found.entries and not found.broken:
            named = await self._client.services()
            if not named:
                raise ConsulError(f"{HIDDEN} {READ_RULES.format(service=self.service)}")
            if self.service in named:  # registered a moment ago; or, before 1.11, on nodes that are hidden from us
                found = await self._client.instances(self.service)
                found = replace(found, filtered=not found.entries and not found.broken)
        if found.filtered:
            raise ConsulError(f"{self._client.where}: {FILTERED.format(service=self.service)}")
        if self.catalogue.own_node is None:
            self.catalogue.own_node = await self._node_of_agent()
        return found

    async def _node_of_agent(self) -> str:
        """Empty: it is not known, as without ``agent`` read. Then what promring registered is known by its mark only."""
        try:
            return (await self._client.agent()).node
        except ConsulError:
            return ""

    def _hand_on_newest(self, found: Instances) -> dict[str, str]:
        """Those who are refused, and why."""
        members, refused = self.catalogue.members(found.entries)
        self._newest = found
        self._hand_on(Known(members) if members else Empty())
        return {**found.broken, **refused}

    # --- say ---------------------------------------------------------------------------------------------------------

    def _say_back(self, old: int | None, new: int) -> None:
        """Once a minute: servers that know different indexes take turns."""
        if (now := time.monotonic()) - self._said_back_at >= SAID_AGAIN_S:
            self._said_back_at = now
            self._log.warning("consul_index_went_back", srv_name=self.service, old=old, new=new)

    def _say_refused(self, refused: dict[str, str]) -> None:
        """Once while it lasts, not at each read; and not all of a thousand."""
        new = {name: why for name, why in refused.items() if self._refused.get(name) != why}
        for name, why in list(new.items())[:SAID_MOST]:
            self._log.error("consul_instance_refused", srv_name=self.service, id=name, why=why)
        if len(new) > SAID_MOST:
            self._log.error("consul_instance_refused", srv_name=self.service, more=len(new) - SAID_MOST)
        self._refused = refused

    def _hand_on(self, answer: Answer[Members]) -> None:
        self._last = answer
        self._publish(answer)
