"""What another configuration means for what runs: a list of decisions, each with a sentence for people. Pure.

A change of the configuration is a decision of a person. It is said before, by ``promring plan``, and after, in the log and
in the answer to a reload. One that takes targets from living scrapers with nowhere to go is a ``loss``: a reload refuses it
unless it is forced.
Flow: ``foresight`` finds the numbers, ``supervisor`` asks, logs and refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from promring.config.settings import Settings, ShardService
from promring.core.preview import Preview
from promring.fleet.successors import successors
from promring.fleet.ways import OldWay, Place, places, replaced, taken_by, where
from promring.model import Scraper, join_host_port
from promring.reload import policies
from promring.runtime.text import few

NAMED_MOST = 10
RESTART = "the lock stays as it was at the start: the change is in force when promring is restarted"
FORCE = "to do it all the same: promring reload --force, or POST /-/reload?force=true"


@dataclass(frozen=True, slots=True)
class Decision:
    """``kind`` is a fixed word, ``text`` a sentence, ``numbers`` what is counted in it; ``loss``: targets would be lost."""

    kind: str
    service: str
    text: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    loss: bool = False

    @property
    def line(self) -> str:
        return f"{self.service}: {self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a service of the configuration before: who lives in its fleet, and how many targets each of its
    slices has.
    """

    members: Sequence[Scraper] = ()
    slices: Mapping[str, int] = field(default_factory=dict)
    distinct: int | None = None
    """How many targets the service has; None: not known."""
    ways: Sequence[OldWay] = ()
    """Deliveries that were replaced before, and go on."""
    drained: Collection[str] = ()
    """Ids, also of scrapers that are not there."""

    @property
    def nodes(self) -> frozenset[Place]:
        return places(self.members)

    @property
    def targets(self) -> int:
        """How many the service has: with replicas, or while it changes hands, a target is in several slices."""
        return sum(self.slices.values()) if self.distinct is None else self.distinct


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Of a fleet of the new configuration. ``moved`` targets get another owner; ``lost`` are scraped now and would have no
    room; ``clashing``: scrapers that would have the id of another.
    """

    moved: int = 0
    owned: int = 0
    lost: int = 0
    clashing: Sequence[Scraper] = ()
    preview: Preview | None = None


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A service that is configured no more: its slices are where they are, and go on being scraped."""

    service: str
    scrapers: Sequence[str]
    targets: int
    where: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload: with any of ``problems`` nothing has changed."""

    problems: Sequence[str] = ()
    decisions: Sequence[Decision] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a configuration that is not in force. ``name``: of its file, for messages; ``service``: only this
    one; ``without`` and ``joining``: as if these scrapers left, or were there, besides.
    """

    name: str = "<sent>"
    service: str | None = None
    without: Sequence[str] = ()
    joining: Sequence[str] = ()


Pair = tuple[ShardService, ShardService]
"""A service as it was, and as it is."""


def decide(old: Settings, new: Settings, known: Mapping[str, Known], foreseen: Mapping[str, Foreseen]) -> list[Decision]:
    """``known`` by the services of ``old``, ``foreseen`` by the fleets of ``new``. In the order of the new services, then
    those that are gone. What is decided of a fleet is said once, with the first of its services that go on.
    """
    before, from_ = {s.name: s for s in old.shard_services}, successors(old, new)
    pairs: dict[str, list[Pair]] = {}
    for service in new.shard_services:
        if service.name in from_:
            pairs.setdefault(service.fleet, []).append((before[from_[service.name]], service))
    renamed = _renamed_fleets(old, new, pairs)
    found: list[Decision] = []
    for service in new.shard_services:
        if (name := from_.get(service.name)) is None:
            said = "new; its first plan is made when its scrapers and sources have answered"
            found.append(Decision("service_added", service.name, said, {"sources": len(service.targets)}))
            continue
        was = before[name]
        found += _of_names(was, service, known.get(name, Known()), renamed)
        if some := pairs.pop(service.fleet, None):
            found += _of_fleet(some, old, new, known, foreseen.get(service.fleet, Foreseen()))
        found += _of_one(was, service, known.get(name, Known()), new)
    gone = [s for name, s in before.items() if name not in from_.values()]
    found += [_removed(s, known.get(s.name, Known()), new) for s in gone]
    found += [Decision("reload_needs_a_restart", "controllers", RESTART)] if old.controllers != new.controllers else []
    return [*(_renamed_fleet(name, was) for name, was in renamed.items()), *found]


def _renamed_fleets(old: Settings, new: Settings, pairs: Mapping[str, Sequence[Pair]]) -> dict[str, str]:
    """The name before of each fleet of several services that has all that goes on of one that is no more."""
    before, after = {f.name for f in old.fleets}, {f.name for f in new.fleets}
    came = {name: {was.fleet for was, _ in some} for name, some in pairs.items()}
    found = {}
    for name, fleets in came.items():
        was = next(iter(fleets))
        shared = sum(was in others for others in came.values())
        if len(fleets) == shared == 1 and name in after - before and was in before - after:
            found[name] = was
    return found


def _renamed_fleet(name: str, was: str) -> Decision:
    said = f"was {was}; its plan, drains, doubts and generations go on; metrics and the API have the new name"
    return Decision("fleet_renamed", name, said)


def left_behind(service: ShardService, known: Known) -> LeftBehind:
    """What a service leaves when it is removed."""
    nodes = known.nodes or places(service.listed)
    there = [place for d in service.delivery for place in where(d, service, nodes)]
    there += [place for way in known.ways for place in way.where(nodes) if place not in there]  # written until now
    return LeftBehind(service.name, sorted(known.slices), known.targets, there)


def _removed(service: ShardService, known: Known, new: Settings) -> Decision:
    left = left_behind(service, known)
    overwritten = {taken_by(OldWay(d, service), new, known.nodes) for d in service.delivery} - {""}
    then = (
        f"written by {', '.join(sorted(overwritten))} from now on"
        if overwritten
        else ("they are not touched, and what is in them goes on being scraped until somebody removes them")
    )
    if any(d.pulled for d in service.delivery):
        then += f"; /sd/{service.name}/ is 404 from now on, and a Prometheus keeps its last list until it is restarted"
    said = f"{left.targets} targets on {named(left.scrapers)}; its slices: {named(left.where)}; {then}"
    return Decision("service_removed", service.name, said, {"targets": left.targets, "scrapers": len(left.scrapers)})


def _of_names(old: ShardService, new: ShardService, known: Known, renamed: Mapping[str, str]) -> Iterator[Decision]:
    """``renamed``: fleets that go on with another name."""
    if old.name != new.name:
        yield Decision("service_renamed", new.name, _renamed(old, new), {"targets": known.targets})
    own = (old.fleet, new.fleet) == (old.name, new.name)
    if old.fleet != new.fleet and not own and renamed.get(new.fleet) != old.fleet:
        said = (
            f"from fleet {old.fleet} to fleet {new.fleet}; its targets move as its new fleet places them, make before break"
        )
        yield Decision("fleet_changed", new.name, said, {"targets": known.targets})


def _of_fleet(
    pairs: Sequence[Pair], old: Settings, new: Settings, known: Mapping[str, Known], foreseen: Foreseen
) -> Iterator[Decision]:
    """``pairs``: its services that go on."""
    name = pairs[0][1].fleet
    of_all = _together([known.get(was.name, Known()) for was, _ in pairs])
    if odd := next(((was, now) for was, now in pairs if was.identity != now.identity), None):
        yield _identity(*odd, of_all, foreseen)
    go_on = {fleet.name for fleet in new.every_fleet} - {name}
    here = [(was, now) for was, now in pairs if was.fleet not in go_on] or pairs  # the others come from fleets that stay
    yield from _scrapers(here, of_all)
    yield from _asked(here)
    alone = [service.name for service in new.shard_services if service.fleet == name] == [name]
    changed = [said for was, now in pairs for said in policies.of_service(was, now, alone=alone)]
    known_before = name in {fleet.name for fleet in old.every_fleet}
    own = [(was, now) for was, now in pairs if (was.fleet == name if known_before else was.fleet not in go_on)]
    changed += [said for was, now in own for said in policies.of_fleet(was, now, _places)]
    changed = list(dict.fromkeys(changed))
    if changed or foreseen.lost or (foreseen.moved and _others(pairs, old)):
        yield _policy(name, changed, foreseen)


def _together(known: Sequence[Known]) -> Known:
    """Of several services."""
    members = {(s.host, s.port): s for one in known for s in one.members}
    slices: dict[str, int] = {}
    for one in known:
        for name, count in one.slices.items():
            slices[name] = slices.get(name, 0) + count
    return Known(list(members.values()), slices, drained={name for one in known for name in one.drained})


def _others(pairs: Sequence[Pair], old: Settings) -> bool:
    """Whether these are not just the services that one fleet had."""
    fleets = {was.fleet for was, _ in pairs}
    return len(fleets) > 1 or len(pairs) != sum(service.fleet in fleets for service in old.shard_services)


def _of_one(old: ShardService, new: ShardService, known: Known, settings: Settings) -> Iterator[Decision]:
    yield from _deliveries(old, new, known, settings)
    if old.targets != new.targets:
        said = "its sources are others; what they do not have any more is doubted first, as ever"
        yield Decision("sources_changed", new.name, said, {"sources": len(new.targets)})


def _renamed(old: ShardService, new: ShardService) -> str:
    said = f"was {old.name}, which has the same scrapers; its plan, drains, doubts and generations go on"
    if any(d.pulled for d in old.delivery):
        said += f"; /sd/{old.name}/ is answered, too, until the next restart: let the scrapers ask at /sd/{new.name}/"
    return said


def _identity(old: ShardService, new: ShardService, known: Known, foreseen: Foreseen) -> Decision:
    clashing = foreseen.clashing
    count = {"scrapers": len(known.members)}
    if clashing:
        said = f"{old.identity} -> {new.identity}: these would have the id of another scraper: {_ids(clashing)}"
        return Decision("identity_changed", new.fleet, said, {**count, "clashing": len(clashing)}, loss=True)
    said = (
        f"{old.identity} -> {new.identity}: the same {len(known.members)} scrapers by host and port, with all they have; "
        f"{foreseen.moved} of {foreseen.owned} targets move, as the ring is made of ids"
    )
    return Decision("identity_changed", new.fleet, said, {**count, "moved": foreseen.moved})


def _scrapers(pairs: Sequence[Pair], known: Known) -> Iterator[Decision]:
    new = pairs[0][1]
    before, after = frozenset[Place]().union(*(places(old.listed) for old, _ in pairs)), places(new.listed)
    unnamed = frozenset[Place]() if all(old.listed for old, _ in pairs) else known.nodes
    for was, registered in dict.fromkeys((old.scrapers.said, old.scrapers.registers) for old, _ in pairs):
        if was != new.scrapers.said:
            said = f"from {was} to {new.scrapers.said}; whoever lives and is not named there is asked directly first"
            said += f"; what promring registered in {was} stays there, as other controllers may use it" * registered
            yield Decision("membership_changed", new.fleet, said)
    gone = before - after if after else frozenset()
    living = {(s.host, s.port): s.id for s in known.members}
    if leaving := sorted(gone & living.keys()):
        targets = sum(known.slices.get(living[place], 0) for place in leaving)
        said = f"{_places(leaving)} with {targets} targets: they keep what they have until others scrape it, then have none"
        yield Decision("scrapers_removed", new.fleet, said, {"scrapers": len(leaving), "targets": targets})
    if dead := sorted(gone - living.keys()):
        yield Decision("scrapers_forgotten", new.fleet, f"{_places(dead)}: not alive", {"scrapers": len(dead)})
    if come := sorted(after - before - unnamed):
        said = f"{_places(come)}: each is given its share when it was healthy for {new.join_delay:g} s"
        ids = (new.scraper(node).id for node in new.listed if (node.host, node.port) in come)
        if drained := [name for name in ids if name in known.drained]:
            said += f"; drained since before, and get nothing until `promring undrain`: {named(drained)}"
        yield Decision("scrapers_added", new.fleet, said, {"scrapers": len(come)})


def _asked(pairs: Sequence[Pair]) -> Iterator[Decision]:
    """How scrapers are asked."""
    was, now = next(((was, now) for was, now in pairs if was.scraper_api != now.scraper_api), pairs[0])
    keys = [
        key for key in type(now.scraper_api).model_fields if getattr(was.scraper_api, key) != getattr(now.scraper_api, key)
    ]
    if keys:
        said = f"{', '.join(keys)}: its scrapers are asked in another way from now on; no target moves"
        yield Decision("scraper_api_changed", now.fleet, said)


def _policy(fleet: str, changed: Sequence[str], foreseen: Foreseen) -> Decision:
    what = "; ".join(changed) or ("less room" if foreseen.lost else "its services are others")
    numbers = {"moved": foreseen.moved, "owned": foreseen.owned, "lost": foreseen.lost}
    if foreseen.lost:
        said = f"{what}: {foreseen.lost} targets that are scraped now would have no room"
        return Decision("capacity_short", fleet, said, numbers, loss=True)
    said = f"{what}: {foreseen.moved} of {foreseen.owned} targets move, each when its new owner scrapes it"
    return Decision("policy_changed", fleet, said, numbers)


def _deliveries(old: ShardService, new: ShardService, known: Known, settings: Settings) -> Iterator[Decision]:
    nodes = known.nodes | places(old.listed)
    ways = replaced([*known.ways, *(OldWay(d, old) for d in old.delivery)], new, nodes)
    asked = any(d.pulled for d in new.delivery)
    for way in ways:
        there = named(way.where(nodes))
        if writer := taken_by(way, settings, nodes):
            yield Decision(
                "delivery_replaced", new.name, f"{way.delivery.kind} ({there}) is written by {writer} from now on"
            )
            continue
        until = (
            "each scraper has asked for its slice"
            if asked and not way.delivery.pulled
            else ("the next restart, as nobody can tell who reads what is pushed")
        )
        verb = "served" if way.delivery.pulled else "written"
        to = ", ".join(d.kind for d in new.delivery)
        said = f"{way.delivery.kind} -> {to}; the old way goes on being {verb} until {until}: {there}"
        yield Decision("delivery_changed", new.name, said, {"scrapers": len(known.members)})


def named(texts: Collection[str]) -> str:
    """The first few of them."""
    return few(list(texts), NAMED_MOST) or "none"


def _places(nodes: Collection[Place]) -> str:
    return named([join_host_port(*node) for node in nodes])


def _ids(scrapers: Sequence[Scraper]) -> str:
    return named([s.address for s in scrapers])
