"""Coverage beside its words: what each scraper was seen doing, target by target, and what follows for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promring.core.coverage import Seen, coverage
from promring.core.joined import salted
from promring.core.pool import pool_of
from promring.core.sight import together
from promring.model import LONG_AGO, Placement, Scraper, TargetGroup, TargetPool

SCRAPERS = tuple(Scraper(name, name, 0) for name in "abcd")
EVERY = pool_of([TargetGroup.of([f"t{n}:1" for n in range(12)])]).ids.tolist()
AT, LATELY_S, LONG_AGO_S = 1000.0, 15.0, 15.1
"""Of targets with a scrape interval of 5 s."""
seeds = st.integers(0, 2**32)


@dataclass
class Did:
    """What one scraper does, by the ids of targets."""

    good: set[int] = field(default_factory=set)
    bad: set[int] = field(default_factory=set)
    idle: set[int] = field(default_factory=set)
    """It lists them, and never asked them, or not lately."""
    dropped: set[int] = field(default_factory=set)
    denied: set[int] = field(default_factory=set)
    hidden: int = 0
    foreign: int = 0

    @property
    def asks(self) -> set[int]:
        return self.good | self.bad

    def seen(self, rng: np.random.Generator) -> Seen:
        ids = np.array(sorted(self.asks | self.idle), dtype=np.uint64)
        ages = [rng.choice([0.0, LATELY_S] if one in self.asks else [LONG_AGO_S, np.inf]) for one in ids.tolist()]
        up = np.array([one not in self.bad for one in ids.tolist()], dtype=bool)
        dropped, denied = (np.array(sorted(some), dtype=np.uint64) for some in (self.dropped, self.denied))
        return Seen(
            AT, ids, AT - np.array(ages), up, 5.0,
            dropped=dropped, denied=denied, hidden=self.hidden, foreign_count=self.foreign,
        )  # fmt: skip


def drawn(rng: np.random.Generator, expected: set[int]) -> Did:
    """Mostly it does what it shall; often it does something with a target that it does not have in its slice."""
    did = Did(hidden=int(rng.choice([0, 0, 1, 2])), foreign=int(rng.integers(3)))
    troubled = rng.random() < 0.7
    for one in EVERY:
        mine = one in expected
        kind = rng.random() if mine and troubled else 0.0 if mine else rng.random() / 2 if rng.random() < 0.2 else 1.0
        chosen = did.good if kind < 0.4 else did.bad if kind < 0.5 else did.idle if kind < 0.6 else None
        if chosen is not None:
            chosen.add(one)
        if (chosen is None or chosen is did.idle) and rng.random() < 0.4:
            did.dropped.add(one)
            if rng.random() < 0.3:
                did.denied.add(one)
    return did


def placed(rng: np.random.Generator) -> Placement:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(12) if rng.random() < 0.8])])
    owners = np.array([rng.permutation(4)[:2] for _ in range(len(pool))], dtype=np.int32).reshape(len(pool), 2)
    owners[rng.random(owners.shape) < rng.choice([0.1, 0.6])] = -1
    return Placement(SCRAPERS, pool, owners)


def slices(placement: Placement) -> dict[str, set[int]]:
    owned = [(placement.owners == i).any(axis=1) for i in range(len(SCRAPERS))]
    return {s.id: set(placement.pool.ids[rows].tolist()) for s, rows in zip(SCRAPERS, owned, strict=True)}


def ids(pool: TargetPool, rows: np.ndarray) -> set[int]:
    return set(pool.ids[rows].tolist())


@given(seeds)
def test_a_target_is_covered_missing_dropped_or_unproved_as_those_say_who_were_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        in_force = placed(rng)
        pool, shall = in_force.pool, slices(in_force)
        did = {name: drawn(rng, some) for name, some in shall.items()}
        seen = {name: one.seen(rng) for name, one in did.items() if rng.random() < 0.9}
        failed = {name: "refused" for name in shall if rng.random() < 0.15}
        told = {name: did[name] for name in seen if name not in failed}
        older = pool_of([TargetGroup.of([f"t{n}:1" for n in range(12) if rng.random() < 0.9])])
        asked = (older, pool, None)[int(rng.integers(3))]
        found = coverage(in_force, seen, failed, asked)

        every = set(pool.ids.tolist())
        scraped = {one for one in every if any(one in did.asks for did in told.values())}
        open_ = every - scraped
        lacks = {name: lacking(shall[name], one) for name, one in told.items()}
        unknown = set().union(*(shall[name] for name in shall.keys() - told.keys()))
        unknown |= set().union(*(some for name, some in lacks.items() if len(some) <= told[name].hidden))
        unknown |= every - set(asked.ids.tolist()) if asked is not None else set()
        dropped = {one for one in open_ - unknown if any(one in d.dropped - d.denied for d in told.values())}
        assert ids(pool, np.flatnonzero(found.covered)) == scraped
        assert ids(pool, found.dropped) == dropped
        assert ids(pool, found.missing) == open_ - unknown - dropped
        assert ids(pool, found.unproved) == open_ & unknown
        assert ids(pool, found.down) == {one for one in scraped if not any(one in did.good for did in told.values())}
        times = {one: sum(one in did.asks for did in told.values()) for one in every}
        beyond = {one for one in every if any(one in did.asks and one not in shall[n] for n, did in told.items())}
        assert ids(pool, found.doubled) == {one for one in beyond if times[one] > 1}
        assert found.uncovered == len(open_ - dropped)
        wanted = every - dropped
        assert found.ratio == (1.0 - found.uncovered / len(wanted) if wanted else 1.0)


def test_where_nothing_shall_be_scraped_all_of_that_is() -> None:
    few = pool_of([TargetGroup.of(["t1:1"])])
    in_force = Placement(SCRAPERS, few, np.zeros((1, 1), dtype=np.int32))
    every = {s.id: Did(dropped=set(few.ids.tolist())).seen(np.random.default_rng(0)) for s in SCRAPERS}
    dropped = coverage(in_force, every, {})
    nothing = coverage(replace(in_force, pool=pool_of([]), owners=in_force.owners[:0]), every, {})
    assert [(one.ratio, one.uncovered, len(one.dropped)) for one in (dropped, nothing)] == [(1.0, 0, 1), (1.0, 0, 0)]


def lacking(shall: set[int], did: Did) -> set[int]:
    """What a scraper lacks of its slice, but for what its relabelling drops."""
    return {one for one in shall - did.asks if one in did.idle or one not in did.dropped - did.denied}


@given(seeds)
def test_a_scrapers_numbers_are_what_it_does_beside_its_slice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        in_force = placed(rng)
        every = set(in_force.pool.ids.tolist())
        for name, shall in slices(in_force).items():
            did = drawn(rng, shall)
            one = coverage(in_force, {name: did.seen(rng)}, {}).scrapers[name]
            missing = lacking(shall, did)
            assert (one.expected, one.scraped, one.missing) == (len(shall), len(shall & did.asks), len(missing))
            assert one.dropped == len(shall - did.asks - missing)
            assert one.down == len(shall & did.bad)
            assert one.denied == len(missing & did.denied)
            strangers = (did.asks | did.idle) - (shall & every)
            assert one.foreign == len(strangers) + did.foreign
            assert one.behind == (one.missing > 0 or one.foreign > 0)
            unseen = coverage(in_force, {}, {}).scrapers[name]
            assert unseen == replace(unseen, scraped=0, missing=0, foreign=0, down=0, dropped=0, denied=0)
            assert (unseen.expected, unseen.error) == (len(shall), "not asked yet" if shall else "")


@given(seeds)
def test_what_a_scraper_does_of_several_services_is_what_it_does_of_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    salts = {"a": 0, "b": 2**63 + 5, "c": 77} if rng.random() < 0.8 else {"a": int(rng.choice([0, 5]))}
    seen, asked = {}, np.array(EVERY, dtype=np.uint64)
    for service in salts:
        did = drawn(rng, set(rng.permutation(asked)[:6].tolist()))
        one, never = did.seen(rng), str(rng.choice(["", "a limit"]))
        foreign = tuple(f"{service}{n}" for n in range(int(rng.choice([2, 60]))))
        untold = np.sort(rng.permutation(asked)[:2])
        interval_s = float(rng.choice([0.0, 5.0, 60.0]))
        at = AT + float(rng.choice([0.0, 0.01]))
        seen[service] = replace(one, at=at, interval_s=interval_s, foreign=foreign, untold=untold, never_asked=never)
    found = together(seen, salts)
    for service, one in seen.items():
        alike = zip(one.of(asked), found.of(salted(asked, salts[service])), strict=True)
        assert one.at - found.at <= 0.01
        if one.at == found.at:
            assert all(mine.tolist() == all_.tolist() for mine, all_ in alike)
    for of in ("ids", "dropped", "denied", "untold"):
        mine = np.concatenate([salted(getattr(one, of), salts[service]) for service, one in seen.items()])
        assert getattr(found, of).tolist() == sorted(mine.tolist()), of
    each = list(seen.values())
    assert found.at == min(one.at for one in each)
    assert found.interval_s == max(one.interval_s for one in each)
    assert found.hidden == sum(one.hidden for one in each)
    assert found.foreign_count == sum(one.foreign_count for one in each)
    assert len(found.foreign) == min(100, sum(len(one.foreign) for one in each))
    assert set(found.foreign) <= {address for one in each for address in one.foreign}
    assert found.never_asked in {one.never_asked for one in each}
    assert bool(found.never_asked) == any(one.never_asked for one in each)


def test_one_service_with_the_ids_of_the_fleet_is_what_it_was_seen_doing() -> None:
    nothing = np.empty(0)
    one = Seen(AT, nothing.astype(np.uint64), nothing, nothing.astype(bool), errors={1: "refused"})
    assert together({"a": one}, {"a": 0}) is one
    asked = replace(one, ids=np.array([5], dtype=np.uint64), scraped_at=np.array([AT]), up=np.array([True]))
    assert together({"a": asked}, {"a": 7, "b": 0}).ids.tolist() == [5 ^ 7]
    assert together({"a": asked, "b": replace(asked, ids=asked.ids + 1)}, {"a": 0, "b": 0}).ids.tolist() == [5, 6]
    assert float(one.of(np.array([5], dtype=np.uint64))[0][0]) == LONG_AGO
