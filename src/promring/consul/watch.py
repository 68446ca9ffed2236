"""Watches one service's passing instances by blocking queries.

Promises: every answer is handed on, an equal one too (it says that it still is so); a change is handed on within
milliseconds of Consul knowing it; after any error, and when the index goes back, the next read starts without an index
(Consul was restarted, the old index would hide changes for a whole wait); a full read now and then; at most
``RATE_PER_S`` reads a second after a burst of two; back-off with full jitter from 0.25 to 8 s without an answer.
Does not promise: that each state in between is seen. An empty answer is handed on as ``Empty``, never as members; but when
the whole catalogue is empty, as it is to a token that may not read it, nothing was answered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping

from promring.consul.client import WAIT_S, Client, HealthEntry
from promring.log import Logger, difference
from promring.model import Answer, ConsulError, Empty, Known, Members, Scraper, Unknown
from promring.rate import Bucket

RATE_PER_S = 10.0
BURST = 2
FULL_READ_S = 300.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 8.0  # so that a Consul that comes back is heard within 10 s

HIDDEN = "Consul shows no service at all, not even its own: may the token read services and nodes?"

MakeScraper = Callable[[tuple[str, int], Mapping[str, str]], Scraper]
"""From address and metadata."""


class HealthWatch:
    """The passing instances of one Consul service, as ``Members``."""

    def __init__(self, client: Client, service: str, make_scraper: MakeScraper, log: Logger) -> None:
        self._client = client
        self._service = service
        self.make = make_scraper
        self._log = log
        self._last: Answer[Members] | None = None
        self._said: list[str] = []
        """The scrapers of the last log line about them."""
        self._refused: dict[str, str] = {}
        """Instances that are left out, and why."""
        self._bucket = Bucket(RATE_PER_S, BURST)

    async def run(self, publish: Callable[[Answer[Members]], None]) -> None:
        """For ever: read, compare, hand on."""
        index: int | None = None
        full_read_at = failures = 0.0
        while True:
            await self._bucket.take()
            if time.monotonic() >= full_read_at:
                index, full_read_at = None, time.monotonic() + FULL_READ_S
            try:
                entries, new_index = await self._client.health(self._service, index=index, wait_s=WAIT_S)
                if not entries and not await self._client.sees_services():
                    raise ConsulError(HIDDEN)
            except ConsulError as error:
                index, failures = None, failures + 1
                self._hand_on(Unknown(str(error)), publish)
                most = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10))
                await asyncio.sleep(random.uniform(BACKOFF_FIRST_S / 2, most))
                continue
            failures = 0
            if index is not None and new_index < index:
                self._log.warning("consul_index_went_back", srv_name=self._service, old=index, new=new_index)
                index = None
                continue  # what came with a lower index may be half a catalogue: read it again in full
            index = max(new_index, 1)
            self._hand_on(self._members(entries), publish)

    def _members(self, entries: Iterable[HealthEntry]) -> Answer[Members]:
        found: dict[str, tuple[str, Scraper]] = {}
        refused: dict[str, str] = {}
        for entry in sorted(entries, key=lambda e: (e.service.id, e.node.node)):
            if not entry.host or not 0 < entry.service.port < 65536:
                refused[entry.service.id] = "no address or port"
                continue
            scraper = self.make((entry.host, entry.service.port), entry.metadata)
            first_id, first = found.setdefault(scraper.id, (entry.service.id, scraper))
            if first_id != entry.service.id or first != scraper:
                refused[entry.service.id] = f"it has the identity {scraper.id} of {first_id}"
        for service_id, why in refused.items():
            if self._refused.get(service_id) != why:  # once while it lasts, not at each read
                self._log.error("consul_instance_refused", srv_name=self._service, id=service_id, why=why)
        self._refused = refused
        members = tuple(sorted(scraper for _, scraper in found.values()))
        return Known(members) if members else Empty()

    def _hand_on(self, answer: Answer[Members], publish: Callable[[Answer[Members]], None]) -> None:
        last, self._last = self._last, answer
        publish(answer)
        if answer == last:
            return
        if isinstance(last, Unknown):
            self._log.info("consul_answers_again", srv_name=self._service)
        match answer:
            case Known(members):
                before, self._said = self._said, [m.id for m in members]
                self._log.info(
                    "service_node_change_by_healthy_check",
                    srv_name=self._service,
                    num=len(members),
                    detail=" ".join(self._said),
                    **difference(before, self._said),
                )
            case Empty():
                self._said = []
                self._log.warning("service_has_no_healthy_node", srv_name=self._service)
            case Unknown(reason):
                self._log.warning("consul_gives_no_answer", srv_name=self._service, error=reason)
