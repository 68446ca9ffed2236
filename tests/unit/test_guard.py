"""The guard as a table: facts in, verdict out."""

from __future__ import annotations

from typing import Any

import pytest

from promring.core.guard import Act, Facts, Hold, judge
from promring.core.pool import pool_of
from promring.model import Empty, Fact, Known, Members, Scraper, TargetGroup, TargetPool, Unknown

MEMBERS: Members = (Scraper("a:1", "a", 1),)
GROUPS: TargetPool = pool_of((TargetGroup.of(["t:1"]),))
OTHER: TargetPool = pool_of((TargetGroup.of(["t:2"]),))


def fact(newest: Any, good: Any = None) -> Fact[Any]:
    return Fact(newest, 1.0, Known(good) if good else None, 1.0 if good else 0.0)


UP = fact(Known(MEMBERS), MEMBERS)
STALE_UP = fact(Unknown("Consul is down"), MEMBERS)
GOOD, STALE, EMPTIED = fact(Known(GROUPS), GROUPS), fact(Unknown("500"), GROUPS), fact(Empty(), GROUPS)
SILENT, NEVER_ANY = fact(Unknown("refused")), fact(Empty())
S = {"s": GROUPS}


@pytest.mark.parametrize(
    ("members", "sources", "planned", "verdict"),
    [
        (fact(Unknown("refused")), {"s": GOOD}, None, "scrapers_unknown"),
        (fact(Empty()), {"s": GOOD}, None, "no_scrapers"),
        (fact(Empty(), MEMBERS), {"s": GOOD}, S, "no_scrapers"),
        (UP, {"s": SILENT}, None, "targets_unknown"),
        (UP, {"s": GOOD, "x": SILENT}, None, "targets_unknown"),
        (UP, {"x": SILENT}, S, {"s": GROUPS}),  # a reload replaced s by x, which has not spoken: s stays
        (UP, {"x": NEVER_ANY}, S, {"s": GROUPS}),  # nor has it when it says "none"
        (UP, {"x": fact(Known(OTHER), OTHER), "y": SILENT}, S, {"x": OTHER, "s": GROUPS}),
        (UP, {"s": NEVER_ANY}, None, "no_targets"),
        (UP, {"s": GOOD, "x": SILENT}, S, {"s": GROUPS}),  # a broken source that was added stops nobody
        (UP, {"s": GOOD, "x": NEVER_ANY}, None, {"s": GROUPS}),
        (UP, {"s": GOOD}, None, {"s": GROUPS}),
        (STALE_UP, {"s": GOOD}, S, {"s": GROUPS}),
        (UP, {"s": STALE}, S, {"s": GROUPS}),
        (UP, {"s": EMPTIED}, S, {"s": GROUPS}),
        (UP, {"x": fact(Known(OTHER), OTHER)}, S, {"x": OTHER}),  # replaced, and the new one has spoken
    ],
)
def test_verdicts(members: Any, sources: Any, planned: Any, verdict: Any) -> None:
    result = judge(Facts(members, sources), planned=planned)
    if isinstance(verdict, str):
        assert isinstance(result, Hold)
        assert result.reason == verdict
    else:
        assert isinstance(result, Act)
        assert (result.members, dict(result.sources)) == (MEMBERS, verdict)
        assert result.kept == tuple(name for name in verdict if name not in sources)


def test_a_hold_names_the_source_and_its_reason() -> None:
    held = judge(Facts(UP, {"http:cmdb": SILENT}), planned=None)
    assert isinstance(held, Hold)
    assert held.detail == "no answer yet from http:cmdb (refused)"
