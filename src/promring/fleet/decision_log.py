"""What the loop says in the log: one line a decision, when it is another one than before."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from promring.core.aliases import Aliases
from promring.core.preview import Fit
from promring.core.second_opinion import SecondOpinions
from promring.core.verdicts import Hold, Lists, ServiceVerdict, Verdict, Withheld
from promring.delivery import Outcome
from promring.fleet.slicing import same_place
from promring.fleet.state import Memory
from promring.model import Generation, Members, Placement, Reply
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

FAILED_SAID_MOST = 20
"""Of one service at a time."""


class Held:
    """What was said to be held, so that each thing is said once while it lasts, and released only when it is."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._open: dict[tuple[str, tuple[str, ...]], frozenset[str]] = {}
        """By reason and what it is about; with it the scrapers of a panic."""
        self._kept: tuple[str, ...] = ()
        self._since: dict[tuple[str, tuple[str, ...]], float] = {}
        self._starting = True

    def since(self, one: Withheld) -> float | None:
        """Since when this process holds it, wall-clock seconds; None: that was not said yet."""
        return self._since.get((one.reason, one.about))

    def say(self, now: Verdict | ServiceVerdict) -> None:
        """Something is held, is held for another reason or for more scrapers, or no longer is."""
        starting, self._starting = self._starting, False
        for one in now.withheld:
            key, names = (one.reason, one.about), frozenset(one.what) if one.reason == "panic" else frozenset()
            if not names <= self._open.get(key, frozenset()) or key not in self._open:
                say = self._log.info if starting or one.reason == "warming_up" else self._log.warning
                say("plan_held", reason=one.reason, detail=one.detail)
            self._since.setdefault(key, time.time())
            self._open[key] = names | self._open.get(key, frozenset())
        if not isinstance(now, Hold):  # what is not looked at while everything is held may be held still
            self._say_released({(one.reason, one.about) for one in now.withheld})
        kept = now.kept if isinstance(now, Lists) else ()
        if kept and kept != self._kept:
            self._log.warning("sources_kept", sources=",".join(kept), until="every configured source has had a target")
        self._kept = kept

    def _say_released(self, held: Collection[tuple[str, tuple[str, ...]]]) -> None:
        """All but what is ``held``. A source that is doubted for another reason now is not released."""
        doubted = {about for _, about in held if about}
        for reason, about in sorted(self._open.keys() - held):
            del self._open[reason, about], self._since[reason, about]
            if about not in doubted:
                self._log.info("plan_released", reason=reason, **({"sources": ",".join(about)} if about else {}))


def say_reshard(log: Logger, reason: str, generation: Generation, owned: Placement, **counts: int) -> None:
    """``counts``: targets that moved, that old owners hold, and slices that changed."""
    known = {"generation": str(generation), "scrapers": len(owned.scrapers), "targets": len(owned.pool)}
    log.info("reshard", reason=reason, **known, **counts)


def say_fit(log: Logger, before: Fit, now: Fit) -> None:
    """What has no room, and what is too heavy for anybody."""
    if now == before:
        return
    if now.unplaced:
        named = ",".join(now.unplaced_targets)
        log.error("targets_unplaced", targets=now.unplaced, load=now.unplaced_load, among=named)
    elif before.unplaced:
        log.info("targets_all_placed")
    if now.too_heavy:
        log.warning("targets_too_heavy", targets=now.too_heavy, among=",".join(now.too_heavy_targets))


def say_opinions(log: Logger, before: SecondOpinions, now: SecondOpinions, at: float) -> None:
    """Who tries what besides, who is sick, and who idle for a service. ``at``: monotonic seconds."""
    if now.trials.keys() != before.trials.keys() or now.beyond != before.beyond:
        log.info("second_opinion", targets=len(now.trials), unreachable=len(now.down), not_tried=now.beyond)
    for name, one in now.scrapers.items():
        known = before.scrapers.get(name)
        if one.over and known is not None and not known.over:
            log.info(
                "scraper_sick_over", scraper=name, note="it gets targets again, and is sick for longer if it fails them"
            )
        elif one != known and not one.over:
            log.error("scraper_sick", scraper=name, found=one.found, gets_nothing_for_s=round(one.until - at))
    for service, name in sorted(now.jobs.idle.keys() - before.jobs.idle.keys()):
        found = now.jobs.idle[service, name].found(service)
        log.error("scraper_idle", scraper=name, service=service, found=found, note="others take over what it does not have")
    for service, name in sorted(before.jobs.idle.keys() - now.jobs.idle.keys()):
        log.info("scraper_idle_over", scraper=name, service=service)


def say_unresponsive(log: Logger, before: Collection[str], now: Mapping[str, Reply | None]) -> None:
    """Who counts as alive and answers nothing."""
    for name in sorted(now.keys() - set(before)):
        said = now[name]
        note = "it counts as alive; unless most are so it gets no targets until it answers"
        log.error("scraper_unresponsive", scraper=name, does=said.value if said else "", note=note)
    for name in sorted(set(before) - now.keys()):
        log.info("scraper_unresponsive_over", scraper=name)


def say_aliases(log: Logger, before: Aliases, now: Aliases) -> None:
    """Which names are one server."""
    for name, kept in sorted(set(now) - set(before)):
        log.warning("scraper_alias", scraper=name, same_as=kept, note="one server under two names: list it once")
    for name, kept in sorted(set(before) - set(now)):
        if name not in dict(now):
            log.info("scraper_alias_over", scraper=name, same_as=kept)


def say_failed(log: Logger, before: Iterable[Sequence[Outcome]], failed: Sequence[Outcome]) -> None:
    """Deliveries that fail, each once while it is for the same reason: the first ``FAILED_SAID_MOST``, and how many more. A
    line costs 0.03 ms, and a fleet may have a thousand scrapers and fifty services. ``before``: the last outcomes of each
    means.
    """
    known = {(o.scraper, wording(o.error)) for outcomes in before for o in outcomes if o.error}
    new = [o for o in failed if (o.scraper, wording(o.error)) not in known]
    for outcome in new[:FAILED_SAID_MOST]:
        log.error("delivery_failed", scraper=outcome.scraper, error=outcome.error)
    if more := new[FAILED_SAID_MOST:]:
        log.error("delivery_failed", scrapers=len(more), error=more[0].error, note="that many more, the first one's error")


def why_reshard(
    before: Memory,
    after: Memory,
    scrapers: Members,
    placement: Placement,
    *,
    policy_changed: bool = False,
    loads_changed: bool = False,
    failing_changed: bool = False,
) -> str:
    """Which fact made the plan another one. ``scrapers``: those of the placement before. ``failing_changed``: others than
    before live and cannot be given something, or reach nothing.
    """
    if not before.planned:
        return "initial"
    if policy_changed:
        return "policy"
    if before.members != after.members:
        same = [replace(s, draining=False) for s in before.members] == [replace(s, draining=False) for s in after.members]
        return "drain" if same else "policy" if _same_places(before.members, after.members) else "scrapers"
    if scrapers and scrapers != placement.scrapers:
        return "failing" if failing_changed else "drain"
    lists = [{name: list(one.sources.items()) for name, one in m.services.items()} for m in (before, after)]
    if lists[0] != lists[1]:
        return "targets"
    if failing_changed:
        return "failing"
    return "loads" if loads_changed else "policy"  # a reload reads equal lists


def _same_places(one: Members, other: Members) -> bool:
    """The same scrapers, whatever their zone and weight."""
    return len(one) == len(other) and all(map(same_place, one, other))
