"""Which scrapers of a fleet are one server under several names. Pure.

Two names are one server when both, asked at one moment, tell the same birth (what only one process can say, such as the
nanosecond of its start), and when the name that gives way itself shows the targets of the other one, and none of its own.
A birth alone proves nothing: a hostile scraper can repeat that of another one. It cannot make the other one show its
targets.

Promises: a name that tells nothing changes nothing; no name gives way on the word of another one, nor to one that gives
way itself; of the names of one server one is kept, and stays kept. While nobody sees the slices of any of them scraped, all
get their share as before.
Flow: ``audit/births`` asks, ``audit/watch`` says what each shows, ``fleet/health`` remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum, auto

import numpy as np

from promring.core.coverage import Seen
from promring.model import Keys

Aliases = tuple[tuple[str, str], ...]
"""Names that get nothing, each with the name by which the same server gets its slices. Sorted."""


class Word(Enum):
    """What a name shows of the work of another one."""

    SAME = auto()
    OTHER = auto()
    """Nothing of it, although there is some."""
    NOTHING = auto()
    """Proves neither."""


Shows = Callable[[str, str], Word]
"""``shows(name, kept)``: what ``name`` shows of the work of ``kept``."""


def word(each: Iterable[tuple[Seen, Keys, Keys]]) -> Word:
    """Of a name: for each service what it was seen doing, what its slice has, and what that of the other name has. What both
    slices have says nothing. The same: it shows most of the other's targets of a service, and scrapes none of its own.
    """
    is_same = some = shows_some = False
    for shown, own, theirs in each:
        scraped, only = shown.ids[shown.scraped], np.setdiff1d(np.setdiff1d(theirs, own), shown.dropped)
        if len(np.intersect1d(scraped, np.setdiff1d(own, theirs))):
            return Word.NOTHING
        count = len(np.intersect1d(scraped, only))
        some, shows_some, is_same = some or len(only) > 0, shows_some or count > 0, is_same or 2 * count > len(only)
    return Word.SAME if is_same else Word.OTHER if some and not shows_some else Word.NOTHING


def judged(before: Aliases, births: Mapping[str, str], scraped: Mapping[str, int], shows: Shows) -> Aliases:
    """After a round of questions. ``births``: by name, of those that told theirs. ``scraped``: by name, how many targets of
    its slices it is seen scraping: the one with most is kept.
    """
    groups: dict[str, list[str]] = {}
    for name in births:
        groups.setdefault(births[name], []).append(name)
    found = {name: kept for name, kept in before if _may_still_be(name, kept, births)}
    for names in groups.values():
        kept: list[str] = []
        for name in sorted(names, key=lambda name: (name not in found.values(), -scraped.get(name, 0), name)):
            if name not in found:
                same = next((one for one in kept if shows(name, one) is Word.SAME), None)
                found |= {name: same} if same is not None else {}
            if name not in found:
                kept.append(name)
    return tuple(sorted((name, found.get(kept, kept)) for name, kept in found.items()))


def denied(aliases: Aliases, births: Mapping[str, str], scraped: Mapping[str, int], shows: Shows) -> Aliases:
    """Those of ``aliases`` that the name which gave way does not bear out any more: the kept one is seen at its work, and
    the other one, which tells the same birth, shows nothing of that.
    """
    return tuple(
        (name, kept)
        for name, kept in aliases
        if name in births and births.get(kept) == births[name] and scraped.get(kept) and shows(name, kept) is Word.OTHER
    )


def undecided(aliases: Aliases, births: Mapping[str, str], unsure: Collection[tuple[str, str]] = ()) -> bool:
    """Whether there are two names of one server and no name is preferred yet, or one of the names is ``unsure``."""
    known = {name for name, _ in aliases}
    told = [birth for name, birth in births.items() if name not in known]
    return bool(unsure) or len(set(told)) < len(told)


def _may_still_be(name: str, kept: str, births: Mapping[str, str]) -> bool:
    return name not in births or kept not in births or births[name] == births[kept]
