"""What a shard service takes over from the one before it, after a reload or a start with another configuration. Pure.

One server is one scraper whatever its id is: what is remembered goes by host and port. Promises: nothing that is remembered
of a server is lost because its id, or the name of its service, is another one; a scraper that was taken out of the list, and
was alive, is ``departing``; what is listed has the zone and the weight of the list at once.

A service is the successor of one with another name when both are there at the same time in no configuration, they share
scrapers, and list the same sources or deliver to the same places, and no other pair is as good (``successors``).
Flow: ``supervisor`` and ``build`` call it before a new service starts; ``departures`` lets the departing go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from promring.address import parse_host_port
from promring.config import place_of
from promring.core.admission import History
from promring.model import Members, Scraper
from promring.settings import Delivery, Node, ProbeScrapers, Settings, ShardService
from promring.state import Memory

Place = tuple[str, int]
"""Host and port of a scraper."""


# --- services --------------------------------------------------------------------------------------------------------


def successors(old: Settings, new: Settings) -> dict[str, str]:
    """For each service of ``new`` that goes on with what one of ``old`` knows, the name of that one."""
    before, after = ({s.name: s for s in settings.shard_services} for settings in (old, new))
    found = {name: name for name in after if name in before}
    gone = [s for name, s in before.items() if name not in after]
    come = [s for name, s in after.items() if name not in before]
    for alike in (_sources_and_places, _sources, _places):
        pairs = [(a, b) for a in gone for b in come if _share_scrapers(a, b) and alike(a, b)]
        sure = [(a, b) for a, b in pairs if _once(a, [x for x, _ in pairs]) and _once(b, [x for _, x in pairs])]
        found |= {b.name: a.name for a, b in sure}
        gone = [s for s in gone if not any(s is a for a, _ in pairs)]  # who might be either is neither
        come = [s for s in come if not any(s is b for _, b in pairs)]
    return found


def _once(one: ShardService, among: Iterable[ShardService]) -> bool:
    return sum(one is other for other in among) == 1


def _share_scrapers(one: ShardService, other: ShardService) -> bool:
    consul = one.scrapers.consul, other.scrapers.consul
    if consul[0] and consul[1] and consul[0].service == consul[1].service:
        return True
    return not places(one.listed).isdisjoint(places(other.listed))


def _sources_and_places(one: ShardService, other: ShardService) -> bool:
    return _sources(one, other) and _places(one, other)


def _sources(one: ShardService, other: ShardService) -> bool:
    return one.targets == other.targets


def _places(one: ShardService, other: ShardService) -> bool:
    nodes = places(one.listed) & places(other.listed) or {("any", 1)}
    return any(delivers_to(d, one, nodes) & delivers_to(e, other, nodes) for d in one.delivery for e in other.delivery)


def delivers_to(delivery: Delivery, service: ShardService, nodes: Collection[Place]) -> frozenset[tuple[str, int, str]]:
    """Host (empty: here), port and path of the files for ``nodes``; none for what is no file, or not told."""
    place = place_of(delivery)
    return frozenset() if place is None else frozenset(place(service, Node(*node)) for node in nodes)


def places(nodes: Iterable[Node | Scraper]) -> frozenset[Place]:
    return frozenset((node.host, node.port) for node in nodes)


# --- deliveries ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OldWay:
    """A delivery of a configuration before, and what it was for: ``service`` as it was then."""

    delivery: Delivery
    service: ShardService

    def where(self, nodes: Collection[Place]) -> list[str]:
        """Its places, for people."""
        return where(self.delivery, self.service, nodes)


def where(delivery: Delivery, service: ShardService, nodes: Collection[Place]) -> list[str]:
    """Where slices of ``service`` are, one place a scraper, for people."""
    if delivery.http_sd is not None:
        return [f"/sd/{service.name}/{service.scraper(Node(*node)).id}" for node in sorted(nodes)]
    found = sorted(delivers_to(delivery, service, nodes))
    return [path if not host else f"{host}:{path}" for host, _, path in found] or [delivery.kind]


def replaced(ways: Iterable[OldWay], new: ShardService, nodes: Collection[Place]) -> list[OldWay]:
    """Those of ``ways`` that no delivery of ``new`` goes on with, in order, each once."""
    left: list[OldWay] = []
    for way in ways:
        if way not in left and not any(_goes_on(way, delivery, new, nodes) for delivery in new.delivery):
            left.append(way)
    return left


def _goes_on(way: OldWay, delivery: Delivery, service: ShardService, nodes: Collection[Place]) -> bool:
    if way.delivery.kind != delivery.kind:
        return False
    if delivery.http_sd is not None:
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


# --- memory ----------------------------------------------------------------------------------------------------------


def succeed(memory: Memory, settings: ShardService) -> Memory:
    """``memory`` as the service with these ``settings`` would remember it."""
    departing = _departing(memory, settings)
    ids = _translation(memory, settings)
    new = {name: replace(s, draining=s.draining or s.id in departing) for name, s in ids.items()}
    names = _distinct(memory.claims.names, {name: s.id for name, s in new.items()})
    standings = memory.history.standings.items()
    return replace(
        memory,
        members=_sorted(new[s.id] for s in memory.members if s.id in new),
        slices={new[n].id: replace(s, service=settings.name, scraper=new[n]) for n, s in memory.slices.items() if n in new},
        claims=replace(memory.claims, names=names) if names != memory.claims.names else memory.claims,
        drained=frozenset(new[n].id if n in new else _called(n, settings) for n in memory.drained),
        history=History(
            {new[n].id: replace(one, scraper=new[n]) for n, one in standings if n in new}, memory.history.panic_since
        ),
        departing=_sorted(s for s in new.values() if s.id in departing),
        listed=places(settings.listed),
    )


def _known(memory: Memory) -> dict[str, Scraper]:
    """Every scraper that is remembered, the best known of each id."""
    known = {name: one.scraper for name, one in memory.history.standings.items()}
    known |= {name: s.scraper for name, s in memory.slices.items()}
    return known | {s.id: s for s in memory.departing} | {s.id: s for s in memory.members}


def _translation(memory: Memory, settings: ShardService) -> dict[str, Scraper]:
    """By the id before, each scraper as it is from now on. Of two that would have one id the first that is in the plan."""
    found: dict[str, Scraper] = {}
    used: set[str] = set()
    planned, departing = {s.id for s in memory.members}, {s.id for s in memory.departing}
    listed = {(node.host, node.port): node for node in settings.listed}
    for name, scraper in sorted(_known(memory).items(), key=lambda one: (one[0] not in planned, one[0])):
        made = _now(scraper, settings, listed.get((scraper.host, scraper.port)), was_departing=name in departing)
        if made.id not in used:
            used.add(made.id)
            found[name] = made
    return found


def _now(scraper: Scraper, settings: ShardService, node: Node | None, *, was_departing: bool) -> Scraper:
    """``node``: as it is listed."""
    draining = scraper.draining and not (was_departing and node is not None)
    if node is None or not isinstance(settings.scrapers.chosen, ProbeScrapers):  # Consul tells zone and weight by itself
        node = Node(scraper.host, scraper.port, scraper.zone, scraper.weight)
    return replace(settings.scraper(node), draining=draining)


def _departing(memory: Memory, settings: ShardService) -> set[str]:
    """Ids, as they are from now on, of the members that were listed and are not any more."""
    listed, was = places(settings.listed), memory.listed
    if isinstance(settings.scrapers.chosen, ProbeScrapers):  # there are no others than the listed ones
        was = places(memory.members)
    elif not listed:
        was = frozenset()
    gone = [s for s in memory.members if (s.host, s.port) in was - listed]
    gone += [s for s in memory.departing if (s.host, s.port) not in listed]
    return {settings.scraper((s.host, s.port)).id for s in gone}


def collisions(memory: Memory, settings: ShardService) -> list[Scraper]:
    """Members that would have the id of another member."""
    ids = _translation(memory, settings)
    return [s for s in memory.members if s.id not in ids]


def _distinct(names: Sequence[str], new: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the claims; one that is not known any more, or would be there twice, stays what it was: nobody's."""
    used: set[str] = set()
    result = []
    for name in names:
        wanted = new.get(name, name)
        result.append(wanted if wanted not in used else name)
        used.add(result[-1])
    return tuple(result)


def _called(name: str, settings: ShardService) -> str:
    """The id of a scraper of which nothing is known but this id."""
    try:
        return settings.scraper(parse_host_port(name)).id
    except ValueError:
        return next((settings.scraper(n).id for n in settings.listed if n.host == name), name)


def _sorted(scrapers: Iterable[Scraper]) -> Members:
    return tuple(sorted(scrapers))


def id_of(asked: str, scrapers: Callable[[], Iterable[Scraper]]) -> str:
    """The id of the scraper that ``asked`` means: its id, its ``host:port``, or its host where one scraper is there."""
    known = list(scrapers())
    if any(s.id == asked for s in known):
        return asked
    meant = {s.id for s in _meant(asked, known)}
    return meant.pop() if len(meant) == 1 else asked


def _meant(asked: str, known: Iterable[Scraper]) -> Iterator[Scraper]:
    return (s for s in known if asked in (s.address, s.host))
