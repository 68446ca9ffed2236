"""What followers, and who has just begun to lead, serve over http_sd: nothing that takes away what is held."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from promring.core.evidence import Handover
from promring.core.sight import Sight
from promring.core.standing import History, Rules, Standing, State
from promring.core.verdicts import Hold
from promring.election.leadership import Leadership
from promring.election.note import Note, decode
from promring.election.shared import DOWN_MOST
from promring.fleet.state import Memory
from promring.model import Members, Scraper, Unknown
from tests.judging import Guard
from tests.seeing import owned, seen_with
from tests.telling import hears
from tests.unit.test_reconcile import NAMES, TARGETS, A, B, Loop


@pytest.mark.parametrize("leads", [False, True])
async def test_a_fresh_controller_serves_nothing_that_takes_away_what_is_held(tmp_path: Path, leads: bool) -> None:
    """B is drained at the leader, and holds what A has not scraped yet. Another controller starts with an empty state (an
    emptyDir), and B asks it: its answer is ``[]``, which B applies. Nobody scrapes these until A does.
    """
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term, handover=Handover(30.0))
    loop.sink.pulled = True
    hears(term, drained={"x": frozenset({B.id})})
    term.lead("us", 10, 5.0) if leads else term.follow("first", 4)
    await loop.say((A, B), TARGETS)
    told = loop.sink.targets()
    assert told.get(B.id) != set(), "it decidedly has none: said before anybody looked what B scrapes"
    placement = loop.reconciler.placement
    assert placement is not None
    found = {A.id: seen_with([], time.monotonic()), B.id: seen_with(owned(placement, A)[:5], time.monotonic())}
    loop.facts.put_sight(Sight(placement, found, (), {}, (), {}, {}, time.monotonic()), awaited=True)
    await loop.reconciler.cycle()
    assert len(loop.sink.targets()[B.id]) == 5
    assert loop.sink.targets()[A.id] == set(NAMES)


async def test_who_follows_gives_targets_to_whom_the_leader_does_and_else_goes_by_itself(tmp_path: Path) -> None:
    """B left often here, or never; the leader tells that it waits, that it is dead, or nothing of it."""
    now = time.monotonic()
    flapped = Standing(B, State.JOINING, now - 60.0, joined_at=now - 90.0, left_at=now - 80.0, flaps=5)
    seldom = Standing(B, State.JOINING, now - 60.0)
    waits: list[float] = []

    async def members(standing: Standing, out: Members | None, waiting: Members = (), leader: str = "first") -> Members:
        term = Leadership(alone=False, clock=lambda: 0.0)
        term.follow(leader, 4)
        if out is not None:
            hears(term, down={"x": out, "other": (A, B)}, waiting={"x": tuple(s.id for s in waiting), "other": (A.id, B.id)})
        memory = Memory(members=(A,), history=History({A.id: Standing(A, State.IN, now - 600.0), B.id: standing}))
        loop = Loop(tmp_path, memory=memory, leadership=term, guard=Guard(Rules(join_delay_s=5.0)))
        loop.facts.put_listed((A, B))
        await loop.say((A, B), TARGETS)
        waits.append(loop.reconciler.judge.joins_at(standing) - standing.since)
        return loop.reconciler.history.members

    assert await members(seldom, (B,), (B,)) == (A,), "the leader lets it wait"
    assert await members(flapped, ()) == (A, B), "the leader has let it in"
    assert [await members(flapped, (B,)), await members(seldom, (B,))] == [(A,), (A, B)], "the leader takes it for dead"
    assert [await members(flapped, None), await members(seldom, None)] == [(A,), (A, B)], "it does not say of this fleet"
    assert await members(seldom, (B,), (B,), leader="") == (A, B), "nobody leads"
    assert waits == pytest.approx([float("inf"), 10.0, 160.0, 5.0, 160.0, 5.0, 5.0]), "as the page says"


async def test_the_leader_tells_who_waits_to_come_in(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    term.lead("us", 10, 5.0)
    loop = Loop(tmp_path, memory=Memory(members=(A,), history=History.of((A,))), leadership=term, guard=Guard(Rules()))
    dead = Scraper("c:1", "c", 1)
    loop.facts.put_listed((A, B, dead))
    await loop.say((A, B), TARGETS)
    assert (term.told.down, term.told.waiting) == ({"x": (B, dead)}, {"x": (B.id,)})
    decoded = decode(Note.of("us", 1, term.told).encode())
    assert decoded is not None
    follower = Leadership(alone=False, clock=lambda: 0.0)
    follower.shared.hear(decoded.told)
    assert follower.told == term.told
    term.shared.placed_over("x", (dead,), ())
    assert (term.told.down, term.told.waiting) == ({"x": (dead,)}, {})
    term.shared.placed_over("y", tuple(Scraper(f"{n}:1", str(n), 1) for n in range(DOWN_MOST)), ("1:1",))
    assert (term.told.down, term.told.waiting) == ({"x": (dead,)}, {}), "too many to tell"


async def test_a_leader_that_holds_its_plan_lets_the_others_go_by_themselves(tmp_path: Path) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    term.lead("us", 10, 5.0)
    some = tuple(Scraper(f"{name}:1", name, 1) for name in "cde")
    memory = Memory(members=(A, *some), history=History.of((A, *some)))
    loop = Loop(tmp_path, memory=memory, leadership=term, guard=Guard(Rules()))
    loop.facts.put_listed((A, B, *some))
    await loop.say((A, B, *some), TARGETS)
    assert (term.told.down, term.told.waiting) == ({"x": (B,)}, {"x": (B.id,)})
    await loop.say((A, B))
    assert isinstance(loop.reconciler.verdict, Hold)
    assert (term.told.down, term.told.waiting) == ({"x": (B,)}, {})


async def test_who_waits_waits_on_while_the_membership_gives_no_answer_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = Leadership(alone=False, clock=lambda: 0.0)
    term.lead("us", 10, 5.0)
    loop = Loop(tmp_path, memory=Memory(members=(A,), history=History.of((A,))), leadership=term, guard=Guard(Rules()))
    loop.facts.put_listed((A, B))
    await loop.say((A, B), TARGETS)
    loop.facts.members.put(Unknown("no answer"))
    await loop.reconciler.cycle()
    assert term.told.waiting == {"x": (B.id,)}
    monkeypatch.setattr("promring.fleet.judge.STILL_WAITING_S", 0.0)
    await loop.reconciler.cycle()
    assert term.told.waiting == {}, "for half a minute"
