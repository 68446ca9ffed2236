"""Membership from Consul: the health watch, and the registration beside it when the configuration has one.

Flow: ``consul/watch.py`` finds the passing instances, this hands them to the loop; an empty service wakes the registrar.
"""

from __future__ import annotations

import asyncio

from promring.consul.client import Client
from promring.consul.registration import Node, Registrar, Registration
from promring.consul.watch import HealthWatch, MakeScraper
from promring.log import Logger
from promring.membership import Publish
from promring.model import Answer, Empty, Known, Members, NodeState, Unknown


class ConsulMembership:
    """The passing instances of one Consul service."""

    def __init__(
        self,
        client: Client,
        service: str,
        make_scraper: MakeScraper,
        registration: Registration | None,
        log: Logger,
        last: Members = (),
    ) -> None:
        self._watch = HealthWatch(client, service, make_scraper, log)
        self._registrar = Registrar(client, registration, self._alive, log) if registration else None
        self._expected = [make_scraper(node) for node in registration.nodes] if registration else []
        self._newest: Answer[Members] = Unknown("not asked yet")
        self._last = last

    async def run(self, publish: Publish) -> None:
        def hand_on(answer: Answer[Members]) -> None:
            self._newest = answer
            if isinstance(answer, Known):
                self._last = answer.value
            if isinstance(answer, Empty) and self._registrar is not None:
                self._registrar.look_now()
            publish(answer)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(hand_on))
            if self._registrar is not None:
                group.create_task(self._registrar.run())

    def nodes(self) -> list[NodeState]:
        if isinstance(self._newest, Unknown):
            return [NodeState(s.id, "unknown", self._newest.reason) for s in sorted({*self._last, *self._expected})]
        up = {s.id for s in self._last} if isinstance(self._newest, Known) else set()
        down = {s.id for s in [*self._expected, *self._last]} - up
        return sorted([NodeState(i, "up") for i in up] + [NodeState(i, "down", "not passing in Consul") for i in down])

    def _alive(self) -> frozenset[Node]:
        return frozenset((s.host, s.port) for s in self._last)
