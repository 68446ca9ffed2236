"""Who took a target last, beside the same rules written for one target after the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.coverage import NO_IDS, Seen
from promring.core.fragment import decode
from promring.core.pool import build_pool
from promring.core.takers import PROOF, Takers
from promring.model import LONG_AGO, Keys, TargetGroup, TargetPool

SCRAPERS = ("a:1", "b:1", "c:1")
LISTED = [("t1:1", "x"), ("t1:1", "y"), *((f"t{n}:1", "x") for n in range(2, 9))]
"""Addresses and a label. Relabelling may make the first two equal."""
POOLS = [
    build_pool([[TargetGroup.of([address], {"l": label}) for address, label in LISTED if address not in without]])
    for without in ((), ("t8:1",), ("t2:1", "t3:1", "t4:1"))
]
EVERY = sorted({*POOLS[0].ids.tolist(), 7, 2**64 - 7})
"""With two that no list has."""
TWINS = [int(id_) for row, id_ in enumerate(POOLS[0].ids) if decode(POOLS[0].fragment(row)).address == LISTED[0][0]]
Look = Mapping[str, Mapping[int, str]]
"""Of each scraper that answers: what it does with a target."""

some = st.dictionaries(st.sampled_from(EVERY), st.sampled_from(["scrapes", "lists", "drops"]))
dropping = st.sets(st.sampled_from(EVERY), min_size=2 * PROOF).map(lambda found: dict.fromkeys(sorted(found), "drops"))
anything = st.dictionaries(st.sampled_from(SCRAPERS), some | dropping)
owners = st.lists(st.sampled_from(SCRAPERS[:2]), min_size=len(EVERY), max_size=len(EVERY))
scraping: st.SearchStrategy[Look] = owners.map(
    lambda found: {
        name: {one: "scrapes" for one, owner in zip(EVERY, found, strict=True) if owner == name} for name in SCRAPERS
    }
)
made_equal: st.SearchStrategy[Look] = st.tuples(st.sampled_from(SCRAPERS), st.permutations(TWINS)).map(
    lambda drawn: {drawn[0]: {drawn[1][0]: "lists", drawn[1][1]: "drops"}}
)
looks = st.lists(st.tuples(st.sampled_from(POOLS), scraping | anything | made_equal), min_size=1, max_size=5)


def seen(doing: Mapping[int, str], denied: Keys, untold: Keys) -> Seen:
    """``denied``, ``untold``: of the last time."""
    ids = sorted(one for one, what in doing.items() if what != "drops")
    at = np.array([100.0 if doing[one] == "scrapes" else LONG_AGO for one in ids])
    drops = keys(one for one, what in doing.items() if what == "drops")
    return Seen(100.0, keys(ids), at, at > 0, dropped=drops, denied=denied, untold=untold)


def keys(some: object) -> Keys:
    return np.array(sorted(some), dtype=np.uint64)  # type: ignore[call-overload]


class Model:
    def __init__(self) -> None:
        self.took: dict[int, str] = {}

    def judged(self, pool: TargetPool, look: Look, *, tries: bool) -> dict[str, tuple[list[int], list[int]]]:
        address = {int(id_): decode(pool.fragment(row)).address for row, id_ in enumerate(pool.ids)}
        self.took = {one: who for one, who in self.took.items() if one in address}
        drops: dict[str, list[int]] = {}
        for name, doing in look.items():
            self.took |= {one: name for one, what in doing.items() if what == "scrapes" and one in address}
            has = {address[one] for one, what in doing.items() if what != "drops" and one in address}
            mine = (one for one, what in doing.items() if what == "drops" and one in address)
            drops[name] = sorted(one for one in mine if address[one] not in has)
        every = [one for some in drops.values() for one in some]
        self.took |= {one: "several drop it" for one in every if every.count(one) > 1}
        return {name: self._told(name, mine, tries=tries) for name, mine in drops.items()}

    def _told(self, name: str, drops: list[int], *, tries: bool) -> tuple[list[int], list[int]]:
        others = [one for one in drops if self.took.get(one) in SCRAPERS and self.took[one] != name]
        agreed = [one for one in drops if self.took.get(one) == "several drop it"]
        unknown = [one for one in drops if one not in self.took]
        if len(others) >= PROOF:
            return sorted(others + unknown), []
        return others, unknown[:PROOF] if tries and len(agreed) < PROOF else []


@given(looks, st.booleans(), st.permutations([NO_IDS, keys([7])]))
def test_what_a_scraper_drops_is_told_by_who_took_it_last(
    steps: list[tuple[TargetPool, Look]], tries: bool, earlier: list[Keys]
) -> None:
    takers, model = Takers(), Model()
    for pool, look in steps:
        sights = {name: seen(doing, *earlier) for name, doing in look.items()}
        found = takers.judged(pool, sights, tries=tries)
        told = {name: (one.denied.tolist(), one.untold.tolist()) for name, one in found.items()}
        assert told == model.judged(pool, look, tries=tries)
