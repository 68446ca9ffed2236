"""Who is missing from the answers at once: whether that is a panic, and what is asked and said of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from promring.core.standing import Rules, Standing, State
from promring.model import LONG_AGO, NEVER_ENDS, Members, Reply
from promring.runtime.text import few

NAMED_MOST = 20


@dataclass(frozen=True, slots=True)
class Missing:
    """The ids of those that are missing, of so many."""

    ids: tuple[str, ...]
    of: int
    standings: Mapping[str, Standing]

    def too_many(self, rules: Rules) -> bool:
        return len(self.ids) > rules.panic_threshold * self.of

    @property
    def began_at(self) -> float:
        """When the first of them went."""
        some = (self.standings[name] for name in self.ids)
        return min((one.since if one.state is State.LEAVING else one.left_at for one in some), default=NEVER_ENDS)

    def suspects(self, lost: Collection[str]) -> Members:
        """Who shall be asked directly while some are ``lost``: those, and who left before."""
        return tuple(sorted(self.standings[name].scraper for name in {*self.ids, *lost})) if lost else ()

    def said(self, probed: Mapping[str, Reply]) -> str:
        """Who is missing, and what they do when they are asked directly."""
        replies = [probed.get(name) for name in self.ids]
        dead, alive, hung, silent = map(replies.count, (Reply.REFUSES, Reply.ANSWERS, Reply.HANGS, Reply.SILENT))
        asked = f"asked directly, {dead} refuse the connection, {silent + hung} are silent, {alive} answer"
        unasked = replies.count(None)
        return f"{len(self.ids)} of {self.of} scrapers are gone at once: {few(self.ids, NAMED_MOST)}; {asked}" + (
            f", {unasked} have not been heard yet" if unasked else ""
        )


def missing_at_once(
    standings: Mapping[str, Standing], gone: Collection[str], rules: Rules, now: float, drained: Collection[str]
) -> Missing:
    """Which scrapers are ``gone`` now or have left a moment ago, of all that were there. Scrapers that get nothing do not
    count. Scrapers that are back and still joining count among all, not among the missing.
    """
    counting = {n: one for n, one in standings.items() if one.scraper.able and n not in drained}
    recent = {n for n, one in counting.items() if now - one.left_at < rules.panic_hold_s}
    base = recent | {
        n for n, one in counting.items() if one.planned or (one.state is State.JOINING and one.left_at > LONG_AGO)
    }
    missing = {n for n in recent if standings[n].state is State.OUT} | (base & set(gone))
    return Missing(tuple(sorted(missing)), len(base), standings)
