"""What would happen if scrapers left or joined: the placement then, beside the one now. Pure, touches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from promring.core.placement import Policy, capacity, place
from promring.core.plan import bodies, compare
from promring.core.ring import Ring
from promring.model import Members, Placement, Plan, PromringError, Scraper, TargetPool


class PreviewError(PromringError):
    """What was asked for cannot be: the text names the scraper."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    before: Placement
    after: Placement
    plan: Plan
    most: int | None
    """The most targets that one scraper may own then; None without a bound."""

    def describe(self) -> dict[str, Any]:
        """Plain values for people and programs: each scraper before and after, and who gives how many to whom."""
        old, new = self.before.counts(), self.after.counts()
        digests = {self.after.scrapers[i].id: hashlib.sha256(body).hexdigest() for i, body, _ in bodies(self.after)}
        gained: dict[str, int] = {}
        given: dict[str, int] = {}
        for move in self.plan.moves:
            gained[move.destination] = gained.get(move.destination, 0) + move.count
            given[str(move.source)] = given.get(str(move.source), 0) + move.count
        return {
            "targets": len(self.after.pool),
            "moved": self.plan.moved,
            "most": self.most,
            "scrapers": [
                {
                    "id": name,
                    "before": old.get(name),
                    "after": new.get(name),
                    "gains": gained.get(name, 0),
                    "gives": given.get(name, 0),
                    "sha256": digests.get(name),
                }
                for name in sorted({*old, *new})
            ],
            "moves": [{"from": m.source, "to": m.destination, "targets": m.count} for m in self.plan.moves],
        }


def preview(
    pool: TargetPool, members: Members, policy: Policy, *, without: Sequence[str] = (), joining: Sequence[Scraper] = ()
) -> Preview:
    """The plan for ``members`` less ``without`` plus ``joining``. Raises ``PreviewError``."""
    ids = {s.id for s in members}
    for name in without:
        if name not in ids:
            raise PreviewError(f"{name} is not a live scraper; there is {', '.join(sorted(ids))}")
    for scraper in joining:
        if scraper.id in ids:
            raise PreviewError(f"{scraper.id} is a live scraper already")
    later = tuple(sorted({*(s for s in members if s.id not in without), *joining}))
    if not later:
        raise PreviewError("no scraper would be left: the plan would be held, every slice would stay as it is")
    before = place(pool, Ring(members, policy.virtual_nodes), policy)
    after = place(pool, Ring(later, policy.virtual_nodes), policy)
    most = None if policy.load_factor is None else capacity(len(pool), len(later), policy.load_factor)
    return Preview(before, after, compare(before, after), most)
