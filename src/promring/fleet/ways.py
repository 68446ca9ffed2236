"""Where the slices of a service are delivered to: which places a reload leaves, and who delivers there now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from promring.config.node import Node
from promring.config.settings import Settings, ShardService
from promring.delivery import Place as FilePlace
from promring.delivery.settings import DeliverySettings
from promring.model import Scraper

Place = tuple[str, int]
"""Host and port of a scraper."""


def delivers_to(delivery: DeliverySettings, service: ShardService, nodes: Collection[Place]) -> frozenset[FilePlace]:
    """The files for ``nodes``; none for what is no file, or not told."""
    places = (delivery.place(service.names, service.scraper(node)) for node in nodes)
    return frozenset(place for place in places if place is not None)


def places(nodes: Iterable[Node | Scraper]) -> frozenset[Place]:
    return frozenset((node.host, node.port) for node in nodes)


@dataclass(frozen=True, slots=True)
class OldWay:
    """A delivery of a configuration before, and what it was for: ``service`` as it was then."""

    delivery: DeliverySettings
    service: ShardService

    def where(self, nodes: Collection[Place]) -> list[str]:
        """Its places, for people."""
        return where(self.delivery, self.service, nodes)


def where(delivery: DeliverySettings, service: ShardService, nodes: Collection[Place]) -> list[str]:
    """Where slices of ``service`` are, one place a scraper, for people."""
    return delivery.places(service.names, [service.scraper(node) for node in sorted(nodes)])


def replaced(ways: Iterable[OldWay], new: ShardService, nodes: Collection[Place]) -> list[OldWay]:
    """Those of ``ways`` that no delivery of ``new`` goes on with, in order, each once."""
    left: list[OldWay] = []
    for way in ways:
        if way not in left and not any(_goes_on(way, delivery, new, nodes) for delivery in new.delivery):
            left.append(way)
    return left


def _goes_on(way: OldWay, delivery: DeliverySettings, service: ShardService, nodes: Collection[Place]) -> bool:
    if way.delivery.kind != delivery.kind:
        return False
    if delivery.pulled:
        return True  # a scraper is known by any of its ids, a service by its names before
    before, after = (delivers_to(d, s, nodes) for d, s in ((way.delivery, way.service), (delivery, service)))
    return before == after if before or after else way.delivery == delivery


def taken_by(way: OldWay, settings: Settings, nodes: Collection[Place]) -> str:
    """The name of a service of ``settings`` that writes where ``way`` does, or an empty text."""
    mine = delivers_to(way.delivery, way.service, nodes)
    for service in settings.shard_services:
        if any(mine & delivers_to(delivery, service, nodes) for delivery in service.delivery):
            return service.name
    return ""
