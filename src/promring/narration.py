"""What the loop says in the log: one line a decision, when it is another one than before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from promring.core.guard import Act, Hold, Verdict
from promring.core.second import Opinions
from promring.delivery import Outcome
from promring.log import Logger


def say_verdict(log: Logger, before: Verdict, now: Verdict) -> None:
    """Something is held, is held for another reason, or no longer is."""
    starting = isinstance(before, Hold) and before.reason == "starting"
    reasons = {one.reason for one in before.withheld}
    for one in now.withheld:
        if one.reason not in reasons:
            say = log.info if starting or one.reason == "warming_up" else log.warning
            say("plan_held", reason=one.reason, detail=one.detail)
    for reason in sorted(reasons - {one.reason for one in now.withheld} - {"starting"}):
        log.info("plan_released", reason=reason)
    kept = now.kept if isinstance(now, Act) else ()
    if kept and kept != (before.kept if isinstance(before, Act) else ()):
        log.warning("sources_kept", sources=",".join(kept), until="every configured source has had a target")


def say_fit(log: Logger, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """What has no room, and what is too heavy for anybody. Both are what ``preview.fit`` gives."""
    if now == before:
        return
    if now["unplaced"]:
        named = ",".join(now["unplaced_targets"])
        log.error("targets_unplaced", targets=now["unplaced"], load=now["unplaced_load"], among=named)
    elif before.get("unplaced"):
        log.info("targets_all_placed")
    if now["too_heavy"]:
        log.warning("targets_too_heavy", targets=now["too_heavy"], among=",".join(now["too_heavy_targets"]))


def say_opinions(log: Logger, before: Opinions, now: Opinions, at: float) -> None:
    """Who tries what besides, and who is sick. ``at``: monotonic seconds."""
    if now.trials.keys() != before.trials.keys() or now.beyond != before.beyond:
        log.info("second_opinion", targets=len(now.trials), unreachable=len(now.down), not_tried=now.beyond)
    for name, one in now.scrapers.items():
        if one != before.scrapers.get(name):
            log.error("scraper_sick", scraper=name, found=one.found, gets_nothing_for_s=round(one.until - at))


def say_failed(log: Logger, before: Iterable[Sequence[Outcome]], failed: Sequence[Outcome]) -> None:
    """Deliveries that fail, each once while it is for the same reason. ``before``: the last outcomes of each means."""
    known = {(o.scraper, o.error) for outcomes in before for o in outcomes if o.error}
    for outcome in failed:
        if (outcome.scraper, outcome.error) not in known:
            log.error("delivery_failed", scraper=outcome.scraper, error=outcome.error)
