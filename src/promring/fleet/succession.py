"""What a fleet takes over from those before it, after a reload or a start with another configuration. Pure.

One server is one scraper whatever its id is: what is remembered goes by host and port. Promises: nothing that is remembered
of a server is lost because its id, or the name of its service, is another one; a scraper that was taken out of the list, and
was alive, is ``departing``; what is listed has the zone and the weight of the list at once.

A service is the successor of one with another name when both are there at the same time in no configuration, they share
scrapers, and list the same sources or deliver to the same places, and no other pair is as good (``successors``). A fleet has
what its services had before, in whichever fleets they were, and what it knew of its scrapers itself (``inherited``).
Flow: ``supervisor`` and ``build`` call it before a new service starts; ``departures`` lets the departing go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import numpy as np

from promring.config.node import Node
from promring.config.settings import FleetKeys, FleetOfServices, Settings
from promring.core.claims import NO_CLAIMS, Claims, Departed, together
from promring.core.joined import salt_of, salted
from promring.core.loads import united
from promring.core.second_opinion import SecondOpinions
from promring.core.standing import Standing
from promring.core.unresponsive import Answers
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.ways import places
from promring.model import Failing, Members, Scraper
from promring.runtime.address import parse_host_port

# --- services --------------------------------------------------------------------------------------------------------


# --- memory ----------------------------------------------------------------------------------------------------------


NOTHING: Mapping[str, Memory] = {}


class Origin(NamedTuple):
    """A shard service as it was before: its fleet and its name then."""

    fleet: str
    service: str


def origins(
    old: Settings | None, new: Settings, before: Mapping[str, str], memories: Mapping[str, Memory] = NOTHING
) -> dict[str, Origin]:
    """Where each service of ``new`` comes from, by its name; ``before`` as of ``successors``. One that is in no ``old``
    configuration comes from where ``memories`` have the newest plan of it; of two as new from its own fleet.
    """
    fleets = {s.name: s.fleet for s in old.shard_services} if old else {}
    found = {name: Origin(fleets[was], was) for name, was in before.items() if was in fleets}
    for service in new.shard_services:
        known = [
            (memory.newest(service.name), fleet == service.fleet, fleet)
            for fleet, memory in memories.items()
            if memory.of(service.name).slices
        ]
        if known and service.name not in found:
            found[service.name] = Origin(max(known)[-1], service.name)
    return found


def heirs(found: Mapping[str, Sequence[str]]) -> dict[str, dict[str, set[str]]]:
    """For each fleet that goes on with those in ``found``, what its ``store.Store`` replaces."""
    gone = {name: {fleet for fleet, names in found.items() if name in names} for some in found.values() for name in some}
    return {fleet: {name: gone[name] for name in names if name not in found} for fleet, names in found.items()}


def inherited(
    fleet: FleetOfServices,
    memories: Mapping[str, Memory],
    came_from: Mapping[str, Origin],
    old: Settings | None = None,
) -> tuple[Memory, list[str]]:
    """What ``fleet`` knows of what was in ``memories``, by fleet; and which of them it goes on with: the one that has its
    name first, whichever services that had, then those that its services come from. ``old``: the configuration before.
    """
    mine = {service.name: came_from[service.name] for service in fleet.services if service.name in came_from}
    names = [name for name in dict.fromkeys((fleet.name, *(o.fleet for o in mine.values()))) if name in memories]
    parts: list[Memory] = []
    for name in names:
        services = {origin.service: new for new, origin in mine.items() if origin.fleet == name}
        part = succeed(_restricted(memories[name], name, services, fleet.name), fleet.keys, foreign=bool(parts))
        foreign = parts and names[0] == fleet.name and not _finds_the_same(old, name, fleet.keys)
        parts.append(_leaving(part, parts[0], fleet.keys) if foreign else part)
    return _united(parts) if parts else Memory(listed=places(fleet.keys.listed)), names


def _finds_the_same(old: Settings | None, name: str, new: FleetKeys) -> bool:
    """Whether the fleet of that name had its scrapers from where ``new`` has them."""
    was = next((fleet.keys for fleet in old.every_fleet if fleet.name == name), None) if old else None
    if was is None or new.scrapers.lists_all:  # who is not listed departs
        return True
    return was.scrapers.finds_the_same(new.scrapers)


def _leaving(part: Memory, own: Memory, settings: FleetKeys) -> Memory:
    """``part`` with all departing that are no scrapers of the fleet: a service came, they did not."""
    stays = {s.id for s in own.members} | {settings.scraper(node).id for node in settings.listed}
    leaving = {s.id: replace(s, draining=True) for s in part.members if s.id not in stays}
    standings = {n: replace(one, scraper=leaving.get(n, one.scraper)) for n, one in part.history.standings.items()}
    return replace(
        part,
        members=_sorted(leaving.get(s.id, s) for s in part.members),
        history=replace(part.history, standings=standings),
        departing=_sorted({**{s.id: s for s in part.departing}, **leaving}.values()),
    )


def _restricted(memory: Memory, fleet: str, services: Mapping[str, str], new_fleet: str) -> Memory:
    """Of what ``fleet`` knew only what is of these ``services``, by their names before, with the names and ids they have
    in ``new_fleet``.
    """
    kept = {old: memory.services[old] for old in services if old in memory.services}
    salts = {old: (salt_of(fleet, old), salt_of(new_fleet, services[old])) for old in kept}
    claims, departed, opinions = memory.claims, memory.departed, memory.opinions
    if len(kept) < len(memory.services) or any(was != now for was, now in salts.values()):
        claims = _claims_of(claims, kept, salts)
        departed = replace(departed, claims=_claims_of(departed.claims, kept, salts))
        ids = dict(pair for old, one in kept.items() for pair in _ids_of(opinions, one, *salts[old]))
        opinions = opinions.of(ids, {old for old, new in services.items() if old == new})  # scrapers name their jobs
    return replace(
        memory,
        claims=claims,
        departed=departed,
        loads=None if memory.loads is None else memory.loads.renamed(services),
        opinions=opinions,
        undelivered=_undelivered_of(memory.undelivered, services),
        services={
            services[old]: replace(one, slices={n: replace(s, service=services[old]) for n, s in one.slices.items()})
            if services[old] != old
            else one
            for old, one in kept.items()
        },
    )


def _claims_of(claims: Claims, services: Mapping[str, ServiceMemory], salts: Mapping[str, tuple[int, int]]) -> Claims:
    """The claims on targets of these services, each with the salt that it has now instead of the one before."""
    pieces = []
    for name, service in services.items():
        was, now = salts[name]
        ids = [pool.ids for pool in service.sources.values()]
        known = salted(np.concatenate(ids), was) if ids else claims.ids[:0]
        mine = np.isin(claims.ids, known)
        ids_now = salted(salted(claims.ids[mine], was), now)
        pieces.append(Claims(claims.names, ids_now, claims.scrapers[mine], claims.since[mine], claims.until[mine]))
    return together(pieces) if pieces else NO_CLAIMS


def _ids_of(opinions: SecondOpinions, service: ServiceMemory, was: int, now: int) -> Iterator[tuple[int, int]]:
    """The ids of one service's targets that there is an opinion of, and what they are with another salt."""
    asked = np.array([*{*opinions.down, *opinions.trials, *opinions.again_at}], dtype=np.uint64)
    for pool in service.sources.values():
        mine = asked[np.isin(asked, salted(pool.ids, was))]
        yield from zip(mine.tolist(), salted(salted(mine, was), now).tolist(), strict=True)


def _undelivered_of(failing: Failing, services: Mapping[str, str]) -> Failing:
    """``services``: their names before, and now."""
    refusing = ((services[name], who) for name, who in failing.refusing if name in services)
    return Failing.of(failing.scrapers, refusing, failing.aliases)


def _united(parts: Sequence[Memory]) -> Memory:
    """What several fleets knew, of the same scrapers: the first says what it has of each."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    members: dict[str, Scraper] = {}
    standings: dict[str, Standing] = {}
    departing: dict[str, Scraper] = {}
    services: dict[str, ServiceMemory] = {}
    for part in reversed(parts):
        members |= {s.id: s for s in part.members}
        standings |= part.history.standings
        stays = {s.id for s in part.members} - {s.id for s in part.departing}
        departing = {n: s for n, s in departing.items() if n not in stays} | {s.id: s for s in part.departing}
        services |= part.services
    return replace(
        first,
        members=_sorted(members.values()),
        services=services,
        generation=max(part.generation for part in parts),
        claims=together([part.claims for part in parts]),
        departed=Departed(
            together([part.departed.claims for part in parts]),
            {name: at for part in reversed(parts) for name, at in part.departed.left.items()},
        ),
        drained=frozenset().union(*(part.drained for part in parts)),
        history=replace(first.history, standings=standings),
        members_at=min(part.members_at for part in parts),
        unlooked=any(part.unlooked for part in parts),
        departing=_sorted(departing.values()),
        listed=frozenset().union(*(part.listed for part in parts)),
        catalogue=_sorted({s.id: s for part in reversed(parts) for s in part.catalogue}.values()),
        loads=united([part.loads for part in parts if part.loads is not None]),
        opinions=reduce(SecondOpinions.and_those_of, (part.opinions for part in parts)),
        undelivered=reduce(Failing.and_those_of, (part.undelivered for part in parts)),
        answers=reduce(Answers.and_those_of, (part.answers for part in parts)),
    )


def succeed(memory: Memory, settings: FleetKeys, *, foreign: bool = False) -> Memory:
    """``memory`` as a fleet with these ``settings`` would remember it. Who departs may stay what it was for a while
    (``departures``); not where the memory is of a ``foreign`` fleet.
    """
    departing = _departing(memory, settings)
    ids = _translation(memory, settings)
    new = {name: replace(s, draining=s.draining or (foreign and s.id in departing)) for name, s in ids.items()}
    called = {name: s.id for name, s in new.items()}
    names, left = _distinct(memory.claims.names, called), _distinct(memory.departed.claims.names, called)
    standings, failing = memory.history.standings.items(), memory.undelivered
    return replace(
        memory,
        members=_sorted(new[s.id] for s in memory.members if s.id in new),
        services={
            service: replace(one, slices={new[n].id: replace(s, scraper=new[n]) for n, s in one.slices.items() if n in new})
            for service, one in memory.services.items()
        },
        claims=replace(memory.claims, names=names) if names != memory.claims.names else memory.claims,
        departed=memory.departed.renamed(left),
        drained=frozenset(new[n].id if n in new else _called(n, settings) for n in memory.drained),
        history=replace(
            memory.history, standings={new[n].id: replace(one, scraper=new[n]) for n, one in standings if n in new}
        ),
        departing=_sorted(s for s in new.values() if s.id in departing),
        listed=places(settings.listed),
        catalogue=_sorted(replace(new[s.id], draining=False) for s in memory.catalogue if s.id in new),
        opinions=memory.opinions.renamed(called),
        answers=memory.answers.renamed(called),
        undelivered=Failing.of(
            (new[name].id for name in failing.scrapers if name in new),
            ((service, new[name].id) for service, name in failing.refusing if name in new),
            ((new[name].id, new[kept].id) for name, kept in failing.aliases if name in new and kept in new),
        ),
    )


def listed_then(memory: Memory, settings: FleetKeys) -> Members:
    """Who is listed, alive or not, where ``memory`` goes on with these ``settings``, each with the share that it has when it
    lives: what the next plan is made over.
    """
    configured = [settings.scraper(node) for node in settings.listed]
    known = () if settings.scrapers.lists_all else memory.catalogue
    departing = {s.id for s in memory.departing}
    every = {s.id: replace(s, draining=False) for s in (*known, *configured, *memory.members)}
    return _sorted(replace(s, weight=0.0) if s.id in departing else s for s in every.values())


def _known(memory: Memory) -> dict[str, Scraper]:
    """Every scraper that is remembered, the best known of each id."""
    known = {s.id: s for s in memory.catalogue}
    known |= {name: one.scraper for name, one in memory.history.standings.items()}
    known |= {s.scraper.id: s.scraper for s in memory.every_slice}
    return known | {s.id: s for s in memory.departing} | {s.id: s for s in memory.members}


def _translation(memory: Memory, settings: FleetKeys) -> dict[str, Scraper]:
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


def _now(scraper: Scraper, settings: FleetKeys, node: Node | None, *, was_departing: bool) -> Scraper:
    """``node``: as it is listed."""
    draining = scraper.draining and not (was_departing and node is not None)
    if node is None or not settings.scrapers.lists_all:  # a catalogue tells zone and weight by itself
        node = Node(scraper.host, scraper.port, scraper.zone, scraper.weight)
    return replace(settings.scraper(node), id=settings.id_of(scraper), draining=draining)


def _departing(memory: Memory, settings: FleetKeys) -> set[str]:
    """Ids, as they are from now on, of the members that were listed and are not any more."""
    listed, was = places(settings.listed), memory.listed
    if settings.scrapers.lists_all:  # there are no others than the listed ones
        was = places(memory.members)
    elif not listed:
        was = frozenset()
    gone = [s for s in memory.members if (s.host, s.port) in was - listed]
    gone += [s for s in memory.departing if (s.host, s.port) not in listed]
    return {settings.id_of(s) for s in gone}


def collisions(memory: Memory, settings: FleetKeys) -> list[Scraper]:
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


def _called(name: str, settings: FleetKeys) -> str:
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
