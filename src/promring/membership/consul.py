"""Membership from Consul: the health watch, and the registration beside it when the configuration has one.

When Consul forgot its catalogue, the scrapers come back one by one as they are registered again. An answer that lacks one
of them is then ``Unknown``, not "it died", until all are back or ``SETTLE_S`` has passed.

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

SETTLE_S = 15.0


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
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(lambda answer: self._hand_on(answer, publish)))
            if self._registrar is not None:
                group.create_task(self._registrar.run())

    def _hand_on(self, answer: Answer[Members], publish: Publish) -> None:
        self._newest = answer
        registrar = self._registrar
        if registrar is not None and isinstance(answer, Empty):
            registrar.look_now()
        if registrar is not None and isinstance(answer, Known) and registrar.settling:
            if lost := registrar.settling - _nodes(answer.value):
                names = ", ".join(f"{host}:{port}" for host, port in sorted(lost))
                asyncio.get_running_loop().call_later(SETTLE_S, self._settled, answer, publish)
                publish(Unknown(f"Consul lost its catalogue; not back yet: {names}"))
                return
            registrar.settling = frozenset()
        if isinstance(answer, Known):
            self._last = answer.value
        publish(answer)

    def _settled(self, answer: Answer[Members], publish: Publish) -> None:
        """Whoever is not back by now did die."""
        if self._registrar is not None and self._newest is answer:
            self._registrar.settling = frozenset()
            self._hand_on(answer, publish)

    def nodes(self) -> list[NodeState]:
        if isinstance(self._newest, Unknown):
            return [NodeState(s.id, "unknown", self._newest.reason) for s in sorted({*self._last, *self._expected})]
        up = {s.id for s in self._last} if isinstance(self._newest, Known) else set()
        down = {s.id for s in [*self._expected, *self._last]} - up
        return sorted([NodeState(i, "up") for i in up] + [NodeState(i, "down", "not passing in Consul") for i in down])

    def _alive(self) -> frozenset[Node]:
        return _nodes(self._last)


def _nodes(members: Members) -> frozenset[Node]:
    return frozenset((s.host, s.port) for s in members)
