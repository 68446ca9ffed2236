"""What another configuration means for what runs: a list of decisions, each with a sentence for people. Pure.

A change of the configuration is a decision of a person. It is said before, by ``promring plan``, and after, in the log and
in the answer to a reload. One that takes targets from living scrapers with nowhere to go is a ``loss``: a reload refuses it
unless it is forced.
Flow: ``foresight`` finds the numbers, ``supervisor`` asks, logs and refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promring.model import Scraper, join_host_port
from promring.settings import Settings, ShardService
from promring.succession import OldWay, Place, places, replaced, successors, taken_by, where

NAMED_MOST = 10
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

    def describe(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {
            "kind": self.kind,
            "service": self.service,
            "text": self.text,
            "numbers": dict(self.numbers),
            "loss": self.loss,
        }


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a service of the configuration before: who lives, and how many targets each slice has."""

    members: Sequence[Scraper] = ()
    slices: Mapping[str, int] = field(default_factory=dict)
    ways: Sequence[OldWay] = ()
    """Deliveries that were replaced before, and go on."""

    @property
    def nodes(self) -> frozenset[Place]:
        return places(self.members)

    @property
    def targets(self) -> int:
        return sum(self.slices.values())


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Of a service of the new configuration. ``moved`` targets get another owner; ``lost`` are scraped now and would have no
    room; ``clashing``: scrapers that would have the id of another.
    """

    moved: int = 0
    owned: int = 0
    lost: int = 0
    clashing: Sequence[Scraper] = ()
    preview: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A service that is configured no more: its slices are where they are, and go on being scraped."""

    service: str
    scrapers: Sequence[str]
    targets: int
    where: Sequence[str]

    def describe(self) -> dict[str, Any]:
        """Plain values for people and programs."""
        return {
            "service": self.service,
            "scrapers": list(self.scrapers),
            "targets": self.targets,
            "where": list(self.where),
        }


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


def decide(old: Settings, new: Settings, known: Mapping[str, Known], foreseen: Mapping[str, Foreseen]) -> list[Decision]:
    """``known`` by the names of ``old``, ``foreseen`` by those of ``new``. In the order of the new services, then those that
    are gone.
    """
    before, from_ = {s.name: s for s in old.shard_services}, successors(old, new)
    found: list[Decision] = []
    for service in new.shard_services:
        if (name := from_.get(service.name)) is None:
            said = "new; its first plan is made when its scrapers and sources have answered"
            found.append(Decision("service_added", service.name, said, {"sources": len(service.targets)}))
            continue
        has = known.get(name, Known())
        found += _of_one(before[name], service, has, foreseen.get(service.name, Foreseen()), new)
    gone = [s for name, s in before.items() if name not in from_.values()]
    found += [_removed(s, known.get(s.name, Known()), new) for s in gone]
    return found


def left_behind(service: ShardService, known: Known) -> LeftBehind:
    """What a service leaves when it is removed."""
    nodes = known.nodes or places(service.listed)
    there = [place for d in service.delivery for place in where(d, service, nodes)]
    return LeftBehind(service.name, sorted(known.slices), known.targets, there)


def _removed(service: ShardService, known: Known, new: Settings) -> Decision:
    left = left_behind(service, known)
    overwritten = {taken_by(OldWay(d, service), new, known.nodes) for d in service.delivery} - {""}
    then = (
        f"written by {', '.join(sorted(overwritten))} from now on"
        if overwritten
        else ("they are not touched, and what is in them goes on being scraped until somebody removes them")
    )
    if any(d.http_sd for d in service.delivery):
        then += f"; /sd/{service.name}/ is 404 from now on, and a Prometheus keeps its last list until it is restarted"
    said = f"{left.targets} targets on {named(left.scrapers)}; its slices: {named(left.where)}; {then}"
    return Decision("service_removed", service.name, said, {"targets": left.targets, "scrapers": len(left.scrapers)})


def _of_one(
    old: ShardService, new: ShardService, known: Known, foreseen: Foreseen, settings: Settings
) -> Iterator[Decision]:
    name = new.name
    if old.name != name:
        yield Decision("service_renamed", name, _renamed(old, new), {"targets": known.targets})
    if old.identity != new.identity:
        yield _identity(old, new, known, foreseen)
    yield from _scrapers(old, new, known)
    if (changed := policy_changes(old, new)) or foreseen.lost:
        yield _policy(name, changed, foreseen)
    yield from _deliveries(old, new, known, settings)
    if old.targets != new.targets:
        said = "its sources are others; what they do not have any more is doubted first, as ever"
        yield Decision("sources_changed", name, said, {"sources": len(new.targets)})


def _renamed(old: ShardService, new: ShardService) -> str:
    said = f"was {old.name}, which has the same scrapers; its plan, drains, doubts and generations go on"
    if any(d.http_sd for d in old.delivery):
        said += f"; /sd/{old.name}/ is answered, too, until the next restart: let the scrapers ask at /sd/{new.name}/"
    return said


def _identity(old: ShardService, new: ShardService, known: Known, foreseen: Foreseen) -> Decision:
    clashing = foreseen.clashing
    count = {"scrapers": len(known.members)}
    if clashing:
        said = f"{old.identity} -> {new.identity}: these would have the id of another scraper: {_ids(clashing)}"
        return Decision("identity_changed", new.name, said, {**count, "clashing": len(clashing)}, loss=True)
    said = (
        f"{old.identity} -> {new.identity}: the same {len(known.members)} scrapers by host and port, with all they have; "
        f"{foreseen.moved} of {foreseen.owned} targets move, as the ring is made of ids"
    )
    return Decision("identity_changed", new.name, said, {**count, "moved": foreseen.moved})


def _scrapers(old: ShardService, new: ShardService, known: Known) -> Iterator[Decision]:
    before, after = places(old.listed), places(new.listed)
    if old.scrapers.kind != new.scrapers.kind or _consul_service(old) != _consul_service(new):
        said = f"from {_membership(old)} to {_membership(new)}; whoever lives and is not named there is asked directly first"
        yield Decision("membership_changed", new.name, said)
    gone = before - after if after else frozenset()
    living = {(s.host, s.port): s.id for s in known.members}
    if leaving := sorted(gone & living.keys()):
        targets = sum(known.slices.get(living[place], 0) for place in leaving)
        said = f"{_places(leaving)} with {targets} targets: they keep what they have until others scrape it, then have none"
        yield Decision("scrapers_removed", new.name, said, {"scrapers": len(leaving), "targets": targets})
    if dead := sorted(gone - living.keys()):
        yield Decision("scrapers_forgotten", new.name, f"{_places(dead)}: not alive", {"scrapers": len(dead)})
    if come := sorted(after - before):
        said = f"{_places(come)}: each is given its share when it was healthy for {new.join_delay:g} s"
        yield Decision("scrapers_added", new.name, said, {"scrapers": len(come)})


def _consul_service(service: ShardService) -> str:
    return service.scrapers.consul.service if service.scrapers.consul else ""


def _membership(service: ShardService) -> str:
    return f"Consul's {_consul_service(service)}" if service.scrapers.consul else "probes"


POLICY_KEYS = ("replication_factor", "load_factor", "capacity", "virtual_nodes", "hash_labels")


def policy_changes(old: ShardService, new: ShardService) -> list[str]:
    """In words, what of the way of placing is another one."""
    said = []
    for key in POLICY_KEYS:
        before, after = getattr(old.placement, key), getattr(new.placement, key)
        if before != after:
            said.append(f"{key} {_value(before)} -> {_value(after)}")
    if old.zone_label != new.zone_label:
        said.append(f"zones {_value(old.zone_label)} -> {_value(new.zone_label)}")
    listed = {(n.host, n.port): n for n in old.listed}
    both = [(listed[n.host, n.port], n) for n in new.listed if (n.host, n.port) in listed]
    changed = {key: [n for was, n in both if getattr(was, key) != getattr(n, key)] for key in ("zone", "weight")}
    return said + [f"{key} of {_places([(n.host, n.port) for n in nodes])}" for key, nodes in changed.items() if nodes]


def _value(value: object) -> str:
    return "none" if value is None else ",".join(value) if isinstance(value, list) else f"{value}"


def _policy(service: str, changed: Sequence[str], foreseen: Foreseen) -> Decision:
    what = "; ".join(changed) or "less room"
    numbers = {"moved": foreseen.moved, "owned": foreseen.owned, "lost": foreseen.lost}
    if foreseen.lost:
        said = f"{what}: {foreseen.lost} targets that are scraped now would have no room"
        return Decision("capacity_short", service, said, numbers, loss=True)
    said = f"{what}: {foreseen.moved} of {foreseen.owned} targets move, each when its new owner scrapes it"
    return Decision("policy_changed", service, said, numbers)


def _deliveries(old: ShardService, new: ShardService, known: Known, settings: Settings) -> Iterator[Decision]:
    nodes = known.nodes | places(old.listed)
    ways = replaced([*known.ways, *(OldWay(d, old) for d in old.delivery)], new, nodes)
    asked = any(d.http_sd for d in new.delivery)
    for way in ways:
        there = named(way.where(nodes))
        if writer := taken_by(way, settings, nodes):
            yield Decision(
                "delivery_replaced", new.name, f"{way.delivery.kind} ({there}) is written by {writer} from now on"
            )
            continue
        until = (
            "each scraper has asked for its slice"
            if asked and not way.delivery.http_sd
            else ("the next restart, as nobody can tell who reads what is pushed")
        )
        verb = "served" if way.delivery.http_sd else "written"
        to = ", ".join(d.kind for d in new.delivery)
        said = f"{way.delivery.kind} -> {to}; the old way goes on being {verb} until {until}: {there}"
        yield Decision("delivery_changed", new.name, said, {"scrapers": len(known.members)})


def named(texts: Collection[str]) -> str:
    """The first few of them."""
    some = list(texts)[:NAMED_MOST]
    more = len(texts) - len(some)
    return (", ".join(some) or "none") + (f" and {more} more" if more else "")


def _places(nodes: Collection[Place]) -> str:
    return named([join_host_port(*node) for node in nodes])


def _ids(scrapers: Sequence[Scraper]) -> str:
    return named([s.address for s in scrapers])
