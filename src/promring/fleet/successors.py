"""Which service of a new configuration goes on with which of the old one."""

from __future__ import annotations

from collections.abc import Iterable

from promring.config.settings import Settings, ShardService
from promring.fleet.ways import delivers_to, places


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
    if one.scrapers.finds_the_same(other.scrapers):
        return True
    return not places(one.listed).isdisjoint(places(other.listed))


def _sources_and_places(one: ShardService, other: ShardService) -> bool:
    return _sources(one, other) and _places(one, other)


def _sources(one: ShardService, other: ShardService) -> bool:
    return one.targets == other.targets


def _places(one: ShardService, other: ShardService) -> bool:
    nodes = places(one.listed) & places(other.listed) or {("any", 1)}
    return any(delivers_to(d, one, nodes) & delivers_to(e, other, nodes) for d in one.delivery for e in other.delivery)
