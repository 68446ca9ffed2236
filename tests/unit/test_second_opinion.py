"""The second opinion in fake time: who tries a target that its owner cannot reach, and when it comes home."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promring.core import second_opinion
from promring.core.coverage import Seen
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.core.trials import AFTER, PAUSE_S
from promring.model import Placement, Scraper
from tests.laws.strategies import pool_of
from tests.seeing import owned, seen_with

MEMBERS = tuple(Scraper(f"{name}:1", name, 1) for name in "abc")
RING = Ring(MEMBERS, 64)
POOL = pool_of([f"t{n}:1" for n in range(12)])
PLACED = place(POOL, RING, Policy(64))
KEY = int(POOL.ids[0])
HOME = PLACED.scrapers[PLACED.owners[0, 0]].id
NEXT = next(s.id for s in RING.preference(KEY) if s.id != HOME)


def look(placement: Placement, at: float, unreachable: dict[str, set[int]]) -> dict[str, Seen]:
    """Everybody scrapes what the placement says; ``unreachable``: ids that a scraper cannot reach."""
    seen = {}
    for scraper in placement.scrapers:
        seen[scraper.id] = seen_with(owned(placement, scraper), at, down=unreachable.get(scraper.id, ()))
    return seen


def after(
    opinions: SecondOpinions, looks: int, unreachable: dict[str, set[int]], at: float = 0.0
) -> tuple[SecondOpinions, float]:
    for _ in range(looks):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, look(opinions.applied(PLACED), at, unreachable), at)
    return opinions, at


def test_the_next_in_preference_tries_and_keeps_it_while_only_the_owner_fails() -> None:
    blocked = {HOME: {KEY}}
    opinions, at = after(SecondOpinions(), AFTER - 1, blocked)
    assert opinions.applied(PLACED) is PLACED
    opinions, at = after(opinions, 1, blocked, at)
    assert {key: trial.scraper for key, trial in opinions.trials.items()} == {KEY: NEXT}
    applied = opinions.applied(PLACED)
    assert [PLACED.scrapers[i].id for i in applied.owners[0].tolist()] == [HOME, NEXT]
    assert (applied.owners[1:, 1] == -1).all(), "nobody else's moved"
    opinions, at = after(opinions, 20, blocked, at)
    assert KEY in opinions.trials
    opinions, at = after(opinions, 1, {}, at)
    assert opinions == SecondOpinions(), "the owner reaches it again"


def test_who_has_no_room_is_not_asked() -> None:
    carried = PLACED.carried()
    most = np.array([carried[s.id] + (s.id != NEXT) for s in PLACED.scrapers])
    opinions, at = SecondOpinions(), 0.0
    for _ in range(AFTER):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, look(PLACED, at, {HOME: {KEY}}), at, capacities=most)
    second = next(s.id for s in RING.preference(KEY) if s.id not in (HOME, NEXT))
    assert {key: trial.scraper for key, trial in opinions.trials.items()} == {KEY: second}
    assert opinions.applied(PLACED, most) is not PLACED, "it has room"
    full = np.array(list(carried.values()))
    assert opinions.judged(PLACED, RING, look(PLACED, at + 30, {HOME: {KEY}}), at + 30, capacities=full).trials.keys() == {
        KEY
    }


def test_one_that_nobody_reaches_comes_home_and_is_tried_again_later_and_later() -> None:
    dead = {s.id: {KEY} for s in MEMBERS}
    opinions, at = after(SecondOpinions(), AFTER, dead)
    assert KEY in opinions.trials
    opinions, at = after(opinions, AFTER, dead, at)
    assert opinions.trials == {}
    first = opinions.again_at[KEY][0]
    assert first == at + PAUSE_S
    opinions, at = after(opinions, int(PAUSE_S // 30) - 1, dead, at)
    assert opinions.trials == {}
    opinions, at = after(opinions, 2, dead, at)
    assert KEY in opinions.trials
    opinions, at = after(opinions, AFTER, dead, at)
    assert opinions.again_at[KEY][0] >= at + 2 * PAUSE_S - 60
    opinions, _ = after(opinions, 1, {}, at)
    assert opinions == SecondOpinions()


def test_who_was_not_asked_or_has_not_tried_yet_is_no_failure() -> None:
    opinions = SecondOpinions()
    seen = look(PLACED, 30.0, {HOME: {KEY}})
    del seen[HOME]
    for at in (30.0, 60.0, 90.0, 120.0):
        opinions = opinions.judged(PLACED, RING, seen, at)
    assert opinions == SecondOpinions()
    opinions, at = after(opinions, AFTER, {HOME: {KEY}})
    for _ in range(10):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, look(PLACED, at, {HOME: {KEY}}), at)  # it has not reached the other yet
    assert KEY in opinions.trials


@pytest.mark.parametrize("other_reaches_it", [True, False])
def test_an_owner_that_cannot_be_seen_has_not_got_better(*, other_reaches_it: bool) -> None:
    """A look at which the owner's API fails, or its job is called otherwise, must not give the target back to it alone."""
    blocked = {HOME: {KEY}} if other_reaches_it else {s.id: {KEY} for s in MEMBERS}
    opinions, at = after(SecondOpinions(), AFTER, blocked)
    for _ in range(2):
        at += 30.0
        seen = look(opinions.applied(PLACED), at, blocked)
        del seen[HOME]
        opinions = opinions.judged(PLACED, RING, seen, at)
        assert KEY in opinions.trials
    at += 30.0
    seen = look(opinions.applied(PLACED), at, blocked)
    del seen[HOME]
    opinions = opinions.judged(PLACED, RING, seen, at)
    assert (KEY in opinions.trials) == other_reaches_it, "the other one is heard"
    gone = place(pool_of(["new:1"]), RING, Policy(64))
    assert opinions.judged(gone, RING, {}, at + 30.0) == SecondOpinions()


def test_what_is_known_goes_on_under_other_ids_and_names() -> None:
    opinions, _ = after(SecondOpinions(), AFTER, {HOME: {KEY}})
    renamed = opinions.renamed({NEXT: "n", HOME: "h"}).of({KEY: 7}, ())
    assert (renamed.trials[7].scraper, dict(renamed.down)) == ("n", {7: AFTER})
    assert opinions.renamed({HOME: "h"}).trials == {}, "who tried it is no scraper any more"
    assert opinions.of({}, ()).trials == {}
    assert renamed.and_those_of(opinions).trials == {7: renamed.trials[7], KEY: opinions.trials[KEY]}


def test_so_many_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_opinion, "TRIALS_LEAST", 2)
    everything = {s.id: set(POOL.ids.tolist()) for s in MEMBERS}
    opinions, _ = after(SecondOpinions(), AFTER, everything)
    assert len(opinions.trials) == 2


def test_alone_there_is_nobody_to_ask() -> None:
    one = place(POOL, Ring(MEMBERS[:1], 8), Policy(8))
    opinions = SecondOpinions()
    for at in range(5):
        opinions = opinions.judged(one, Ring(MEMBERS[:1], 8), look(one, float(at), {MEMBERS[0].id: {KEY}}), float(at))
    assert opinions.trials == {}


WIDE = tuple(Scraper(f"{name}:1", name, 1) for name in "abcdef")
WIDE_RING = Ring(WIDE, 64)
MANY = pool_of([f"t{n}:1" for n in range(120)])
SPREAD = place(MANY, WIDE_RING, Policy(64))


def seen_by(placement: Placement, at: float, unreachable: dict[str, set[int]]) -> dict[str, Seen]:
    return {s.id: seen_with(owned(placement, s), at, down=unreachable.get(s.id, ())) for s in placement.scrapers}


def test_who_fails_what_others_reach_is_sick_within_two_looks_and_named() -> None:
    blind = WIDE[0].id
    nothing = {blind: set(MANY.ids.tolist())}
    first = SecondOpinions().judged(SPREAD, WIDE_RING, seen_by(SPREAD, 30.0, nothing), 30.0)
    assert not first.scrapers, "nobody else has tried"
    assert 0 < len(first.trials) <= second_opinion.SAMPLE
    assert blind not in {trial.scraper for trial in first.trials.values()}
    applied = first.applied(SPREAD)
    then = first.judged(SPREAD, WIDE_RING, seen_by(applied, 60.0, nothing), 60.0)
    sick = then.sick(60.0)
    assert set(sick) == {blind}
    mine = len(owned(SPREAD, WIDE[0]))
    assert (sick[blind].failed, sick[blind].asked, sick[blind].reached) == (mine, mine, len(first.trials))
    assert "others tried" in sick[blind].found
    assert then.sick(60.0 + second_opinion.SICK_S) == {}, "it is given another chance"
    again = then.judged(SPREAD, WIDE_RING, seen_by(applied, 500.0, nothing), 500.0)
    assert again.scrapers[blind].pause_s == 2 * second_opinion.SICK_S, "and the next time a longer pause"


def test_when_most_fail_or_the_targets_are_dead_nobody_is_sick() -> None:
    everybody = {s.id: set(MANY.ids.tolist()) for s in WIDE}
    opinions, at = SecondOpinions(), 0.0
    for _ in range(AFTER):
        at += 30.0
        opinions = opinions.judged(SPREAD, WIDE_RING, seen_by(opinions.applied(SPREAD), at, everybody), at)
    assert not opinions.scrapers
    assert opinions.beyond == len(MANY) - max(second_opinion.TRIALS_LEAST, int(second_opinion.TRIALS_SHARE * len(MANY))), (
        "said, not hidden"
    )
    dead = set(owned(SPREAD, WIDE[0]))
    opinions, at = SecondOpinions(), 0.0
    for _ in range(6):
        at += 30.0
        found = seen_by(opinions.applied(SPREAD), at, {s.id: dead for s in WIDE})
        opinions = opinions.judged(SPREAD, WIDE_RING, found, at)
    assert not opinions.scrapers, "nobody reaches them: it is not the one who has them"


def test_a_scraper_that_fails_the_few_that_it_asks_counts_among_most() -> None:
    """Four of six reach nothing, two of these ask too few to be suspected: it is the network, not the other two."""
    placed = replace(SPREAD, owners=SPREAD.owners.copy())
    placed.owners[np.isin(placed.owners, (2, 3))] = 4
    placed.owners[:2, 0] = 2, 3
    cut = {s.id: set(MANY.ids.tolist()) for s in placed.scrapers[:4]}
    elsewhere = {s.id: seen_with(MANY.ids, 30.0) for s in placed.scrapers[4:]}  # they reach what the others fail
    found = seen_by(placed, 30.0, cut) | elsewhere
    assert not SecondOpinions().judged(placed, WIDE_RING, found, 30.0).scrapers
    two = {name: cut[name] for name in list(cut)[:2]}
    sick = SecondOpinions().judged(placed, WIDE_RING, seen_by(placed, 30.0, two) | elsewhere, 30.0).scrapers
    assert set(sick) == set(two)


def test_a_second_opinion_is_given_within_the_capacity() -> None:
    opinions, _ = after(SecondOpinions(), AFTER, {HOME: {KEY}})
    full = np.array([PLACED.counts()[s.id] for s in PLACED.scrapers])
    assert (opinions.applied(PLACED, full).owners[:, 1] == -1).all(), "nobody has room"
    room = full + np.array([s.id == NEXT for s in PLACED.scrapers])
    assert (opinions.applied(PLACED, room).owners[:, 1] >= 0).sum() == 1


def test_what_one_scraper_denies_is_tried_elsewhere_and_comes_home_when_that_one_drops_it_too() -> None:
    """A ``hashmod`` rule that is left over on one of them."""

    def denied_by(opinions: SecondOpinions, at: float, *who: str) -> dict[str, Seen]:
        key = np.array([KEY], dtype=np.uint64)
        found = {}
        for name, one in look(opinions.applied(PLACED), at, {}).items():
            kept = one.ids != KEY if name in who else np.ones(len(one.ids), dtype=bool)
            drops = key if name in who else key[:0]
            denies = drops if who == (HOME,) else key[:0]
            found[name] = Seen(at, one.ids[kept], one.scraped_at[kept], one.up[kept], 5.0, dropped=drops, denied=denies)
        return found

    opinions, at = SecondOpinions(), 0.0
    for _ in range(AFTER):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, denied_by(opinions, at, HOME), at)
    assert {key: trial.scraper for key, trial in opinions.trials.items()} == {KEY: NEXT}
    for _ in range(10):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, denied_by(opinions, at, HOME), at)
    assert KEY in opinions.trials, "the other one has it"
    for _ in range(AFTER):
        at += 30.0
        opinions = opinions.judged(PLACED, RING, denied_by(opinions, at, HOME, NEXT), at)
    assert opinions.trials == {}
