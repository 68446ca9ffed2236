"""What followers, and who has just begun to lead, serve over http_sd: nothing that takes away what is held."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from promring.core.handover import Handover
from promring.core.sight import Sight
from promring.election.leadership import Leadership
from tests.seeing import owned, seen_with
from tests.unit.test_reconcile import NAMES, TARGETS, A, B, Loop


@pytest.mark.parametrize("leads", [False, True])
async def test_a_fresh_controller_serves_nothing_that_takes_away_what_is_held(tmp_path: Path, leads: bool) -> None:
    """B is drained at the leader, and holds what A has not scraped yet. Another controller starts with an empty state (an
    emptyDir), and B asks it: its answer is ``[]``, which B applies. Nobody scrapes these until A does.
    """
    term = Leadership(alone=False, clock=lambda: 0.0)
    loop = Loop(tmp_path, leadership=term, handover=Handover(30.0))
    loop.sink.pulled = True
    term.share_drained({"x": frozenset({B.id})})
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
