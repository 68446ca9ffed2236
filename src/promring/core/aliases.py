"""Which scrapers of a fleet are one server under several names. Pure.

Two names are one server when both, asked at one moment, tell the same birth: what only one process can say, such as the
nanosecond of its start. Of the names of one server the one whose slices are seen scraped is kept, and stays kept; the others
get nothing. While nobody sees any of their slices scraped no name is preferred, and all get their share as before.

Promises: a name that tells nothing changes nothing. Flow: ``audit/births`` asks, ``fleet/unreachable`` remembers.
"""

from __future__ import annotations

from collections.abc import Mapping

Aliases = tuple[tuple[str, str], ...]
"""Names that get nothing, each with the name by which the same server gets its slices. Sorted."""


def judged(before: Aliases, births: Mapping[str, str], scraped: Mapping[str, int]) -> Aliases:
    """After a round of questions. ``births``: by name, of those that told theirs. ``scraped``: by name, how many targets of
    its slices it is seen scraping.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(births):
        groups.setdefault(births[name], []).append(name)
    found = {name: kept for name, kept in before if _may_still_be(name, kept, births)}
    for names in groups.values():
        kept = _kept(names, {one for name, one in found.items() if name in names}, scraped)
        if kept is not None:
            found |= {name: kept for name in names if name != kept}
            found.pop(kept, None)
    return tuple(sorted(found.items()))


def undecided(aliases: Aliases, births: Mapping[str, str]) -> bool:
    """Whether there are two names of one server and no name is preferred yet."""
    known = {name for name, _ in aliases}
    told = [birth for name, birth in births.items() if name not in known]
    return len(set(told)) < len(told)


def _may_still_be(name: str, kept: str, births: Mapping[str, str]) -> bool:
    return name not in births or kept not in births or births[name] == births[kept]


def _kept(names: list[str], before: set[str], scraped: Mapping[str, int]) -> str | None:
    """Of these names of one server; None: there is only one, or nobody can say."""
    if len(names) < 2:
        return None
    stays = [name for name in names if name in before]
    if stays:
        return stays[0]
    best = max(names, key=lambda name: scraped.get(name, 0))  # of equal ones the first
    return best if scraped.get(best, 0) > 0 else None
