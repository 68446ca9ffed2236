"""What would move if one scraper died, were drained, or had its share again: numbers for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from promring.core.preview import Preview, fit
from promring.model import Move, Placement
from promring.web.page.words import natural

ROWS_MOST = 20


@dataclass(frozen=True, slots=True)
class Side:
    """One scraper. ``before``, ``after``: its load, None: it is not there; ``limit``: then, None without a bound."""

    id: str
    before: int | None
    after: int | None
    limit: int | None
    gains: int
    gives: int


@dataclass(frozen=True, slots=True)
class ShownPreview:
    """``balance``: the highest load beside the mean, before and after; ``no_room``: targets that nobody could take;
    ``ownerless``: those that have no owner then, also those that have none now; ``rows``: the scrapers that change most,
    and ``more`` change besides.
    """

    moved: int
    no_room: int
    ownerless: int
    balance_before: float | None
    balance_after: float | None
    rows: Sequence[Side]
    more: int
    moves: Sequence[Move]
    moves_more: int


def shown(found: Preview) -> ShownPreview:
    before, after = found.before.carried(), found.after.carried()
    limits = (
        dict.fromkeys(after) if found.after.limits is None else dict(zip(after, found.after.limits.tolist(), strict=True))
    )
    gains: Counter[str | None] = Counter()
    gives: Counter[str | None] = Counter()
    for move in found.plan.moves:
        gains[move.destination] += move.count
        gives[move.source] += move.count
    names = sorted({*before, *after} & {*gains, *gives}, key=lambda name: (-gives[name], -gains[name], natural(name)))
    rows = [Side(n, before.get(n), after.get(n), limits.get(n), gains[n], gives[n]) for n in names[:ROWS_MOST]]
    moves = sorted(found.plan.moves, key=lambda m: -m.count)
    return ShownPreview(
        moved=found.plan.moved,
        no_room=found.no_room,
        ownerless=fit(found.after).ownerless,
        balance_before=_balance(found.before),
        balance_after=_balance(found.after),
        rows=rows,
        more=len(names) - len(rows),
        moves=moves[:ROWS_MOST],
        moves_more=max(0, len(moves) - ROWS_MOST),
    )


def _balance(placement: Placement) -> float | None:
    carried = placement.carried()
    able = [s for s in placement.scrapers if s.able]
    load, weight = sum(carried.values()), sum(s.weight for s in able)
    return max(carried[s.id] / s.weight for s in able) / (load / weight) if load and weight else None
