"""What one fleet makes of the leadership."""

from __future__ import annotations

import time

import numpy as np

from promring.core.claims import Claims, Taken
from promring.core.idle import GIVEN_S, LASTS_S, IdleJobs
from promring.core.loads import LoadBook, ServiceLoads, encode
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.election.leadership import Leadership
from promring.election.shared import LOADS_BYTES_MOST, LOADS_KEPT_S
from promring.fleet.health import ScraperHealth
from promring.fleet.state import Memory
from promring.fleet.term import FOUND_AGAIN_S, Term
from promring.membership.listed import LISTED_STILL_S
from promring.model import NEVER_ENDS, NONE_FAILING, Failing, Scraper
from promring.telemetry import log
from tests.laws.strategies import pool_of
from tests.seeing import seen_with
from tests.telling import hears

FLEET = "main"
A, B, C = (Scraper(f"{name}:1", name, 1) for name in "abc")


BOOK = LoadBook({"db": ServiceLoads(700)}, 5.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def leading_after_another(clock: Clock) -> Leadership:
    """The leader before it placed over ``C``, too, which is down."""
    leadership = Leadership(alone=False, clock=clock)
    leadership.follow("one", 2)
    hears(leadership, down={FLEET: (C,)}, waiting={})
    leadership.lead("me", 4, float("inf"))
    return leadership


def test_a_lease_that_begins_in_the_middle_of_a_cycle_forgets_nobody_who_is_down() -> None:
    leadership = leading_after_another(Clock())
    term = Term(FLEET, leadership, log.get())
    assert set(term.catalogue((A, B))) == {A, B, C}, "before the loop has begun to lead"
    assert term.begins()
    assert set(term.catalogue((A, B))) == {A, B, C}


def test_a_reload_of_who_has_led_for_long_takes_who_is_down_and_listed_no_more_out_at_once() -> None:
    clock = Clock()
    leadership = leading_after_another(clock)
    assert Term(FLEET, leadership, log.get()).begins()
    clock.now += LISTED_STILL_S
    reloaded = Term(FLEET, leadership, log.get())
    assert reloaded.begins()
    assert reloaded.catalogue((A, B)) == (A, B)


def test_the_loads_of_the_leader_are_taken_nonsense_is_not_and_an_empty_book_is_none() -> None:
    leadership = Leadership(alone=False, clock=Clock())
    term = Term(FLEET, leadership, log.get())
    assert term.go_on(Memory()).loads is None
    hears(leadership, loads={FLEET: encode(BOOK), "other": b""})
    followed = term.go_on(Memory())
    assert followed.loads == BOOK
    assert term.go_on(followed) is followed
    for nonsense in (b"x", b"\x90", encode(BOOK)[:-1]):
        hears(leadership, loads={FLEET: nonsense})
        assert term.go_on(followed) is followed
    hears(leadership, loads={FLEET: b""})
    assert term.go_on(followed).loads is None


def test_loads_of_fleets_that_are_gone_leave_the_note_and_what_is_too_long_is_told_to_nobody() -> None:
    clock = Clock()
    leadership = Leadership(alone=False, clock=clock)
    hears(leadership, loads={"gone": b"old"})
    leadership.lead("me", 4, float("inf"))
    Term(FLEET, leadership, log.get()).tell_loads(BOOK, learnt=True)
    assert leadership.told.loads == {"gone": b"old", FLEET: encode(BOOK)}
    clock.now += LOADS_KEPT_S
    Term(FLEET, leadership, log.get()).tell_loads(None, learnt=True)
    assert leadership.told.loads == {FLEET: b""}
    leadership.shared.placed_by("second", b"x" * (LOADS_BYTES_MOST + 1))
    assert leadership.told.loads == {FLEET: b""}


def test_a_lease_that_comes_back_brings_back_nothing_of_the_leader_before_us() -> None:
    """The store gave no answer for a while, and nobody else led: what was inherited long ago is over."""
    clock = Clock()
    leadership = Leadership(alone=False, clock=clock)
    leadership.follow("one", 2)
    sick = Failing.of([C.id])
    hears(leadership, failing={FLEET: sick})
    leadership.lead("me", 4, clock.now + 10.0)
    term = Term(FLEET, leadership, log.get())
    assert term.failing(NONE_FAILING) == sick, "before the loop has begun to lead"
    assert term.begins()
    assert term.failing(NONE_FAILING) == sick
    clock.now += FOUND_AGAIN_S
    leadership.lead("me", 4, clock.now + 10.0)
    assert term.failing(NONE_FAILING) == NONE_FAILING
    term.tell_failing(NONE_FAILING)
    clock.now += 20.0
    assert not leadership.leads()
    leadership.lead("me", 4, clock.now + 10.0)
    assert not term.begins()
    assert term.failing(NONE_FAILING) == NONE_FAILING


def test_a_reload_of_who_leads_makes_nothing_of_the_leader_before_last_longer() -> None:
    """What we told ourselves is no more than what was inherited (seed 10321)."""
    clock = Clock()
    leadership = Leadership(alone=False, clock=clock)
    leadership.follow("one", 2)
    refuses = Failing(refusing=(("node", A.id),))
    hears(leadership, failing={FLEET: refuses})
    leadership.lead("me", 4, float("inf"))
    for _ in range(3):
        term = Term(FLEET, leadership, log.get())
        assert term.begins()
        assert term.failing(NONE_FAILING) == refuses
        term.tell_failing(refuses)
        clock.now += FOUND_AGAIN_S / 3
    assert term.failing(NONE_FAILING) == NONE_FAILING
    reloaded = Term(FLEET, leadership, log.get())
    assert reloaded.begins()
    assert reloaded.failing(NONE_FAILING) == NONE_FAILING


def test_who_follows_is_told_who_is_idle_and_goes_on_from_there_when_it_leads() -> None:
    leadership = Leadership(alone=False, clock=Clock())
    term, told = Term(FLEET, leadership, log.get()), ScraperHealth(SecondOpinions(), log=log.get())
    said = [term.idle]
    idle = Failing(idle=(("db", A.id), ("node", B.id)))
    hears(leadership, failing={FLEET: idle, "other": Failing(idle=(("db", C.id),))})
    said.append(term.idle)
    assert term.failing(told.begin_plan(term.idle)) == idle
    leadership.lead("me", 4, float("inf"))
    said.append(term.idle)
    assert said == [(), idle.idle, None], "at first the leader says it of nobody"
    assert told.begin_plan(term.idle) == idle, "what the leader before us found is ours to judge now"
    assert Term(FLEET, Leadership(alone=True), log.get()).idle is None


async def test_who_follows_does_not_judge_who_is_idle_and_saves_what_it_was_told() -> None:
    pair, pool = ("", A.id), pool_of([f"t{n}:1" for n in range(40)])
    ring = Ring((A, B, C), 64)
    placed = place(pool, ring, Policy(64))
    claims = Claims(tuple(s.id for s in ring.scrapers), pool.ids, placed.owners[:, 0], np.zeros(40), np.full(40, NEVER_ENDS))
    given = {("", s.id): Taken((NEVER_ENDS,), (0.0,)) for s in ring.scrapers}
    seen = {s.id: seen_with(pool.ids.tolist() if s is not A else (), time.monotonic() + GIVEN_S) for s in (A, B, C)}
    long_ago = IdleJobs({pair: -LASTS_S})

    async def looked(told: ScraperHealth) -> bool:
        return await told.look(placed, ring, seen, claims, given, [("", s.id) for s in ring.scrapers])

    leads = ScraperHealth(SecondOpinions(jobs=long_ago), log=log.get())
    assert await looked(leads)
    assert leads.begin_plan().idle == (pair,)
    follows = ScraperHealth(SecondOpinions(jobs=long_ago), log=log.get())
    assert follows.begin_plan(()).idle == ()
    assert await looked(follows), "others try some of it"
    assert follows.begin_plan(()).idle == ()
    assert follows.begin_plan((pair,)).idle == (pair,)
    assert await looked(follows), "it is news, and is saved"
    assert not await looked(follows)
    assert follows.begin_plan((pair,)).idle == (pair,)


def test_the_leader_tells_who_is_drained_of_a_fleet_that_has_a_new_name_also_that_nobody_is() -> None:
    leadership = Leadership(alone=False, clock=Clock())
    hears(leadership, drained={"before": frozenset({A.id})})
    follower, drained = Term(FLEET, leadership, log.get()), Memory(drained=frozenset({A.id}))
    assert follower.go_on(drained) is drained, "the leader does not know this name yet"
    assert leadership.told.drained == {"before": frozenset({A.id})}, "and who follows tells nothing"
    leadership.lead("me", 4, float("inf"))
    Term(FLEET, leadership, log.get()).go_on(Memory())
    assert leadership.told.drained == {"before": frozenset({A.id}), FLEET: frozenset()}
    assert follower.go_on(drained).drained == frozenset()
