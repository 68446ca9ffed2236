"""What the templates are given of fleets and services, made of the API's answers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from promring.runtime.text import counted, few
from promring.web.answers.fleets import Fleet, Reshard, Service
from promring.web.answers.parts import Held
from promring.web.answers.status import Alert, Status
from promring.web.answers.targets import OwnedTarget, Place, Uncovered
from promring.web.page.charts import Chart
from promring.web.page.ring import Arc
from promring.web.page.scrapers import Rows
from promring.web.page.words import span
from promring.web.views.summary import LEVELS, causes

NAMED_MOST = 3
WORDS = {"good": "all is well", "unknown": "not known", "warn": "look at it", "bad": "trouble"}
THEN = {
    "panic": "Until then they keep their targets. Then those that were silent all the time count as dead, and the others"
    " take over what they had. If you know that they are dead, a release lets the others take over now.",
    "warming_up": "Then the first plan is made of those that are there. A release makes it now.",
    "source_shrank": "When enough fresh answers have said the same, the shorter list is believed: the targets that it lacks"
    " are not scraped any more. A release believes it now.",
    "source_empty": "When enough fresh answers have said the same, the empty list is believed: its targets are not scraped"
    " any more. A release believes it now.",
    "source_grew": "When enough fresh answers have said the same, the longer list is believed. A release believes it now.",
    "targets_unknown": "No first plan is made without this source: it ends with the first answer. A release makes the plan"
    " of the others now.",
    "no_scrapers": "It ends when a scraper is alive. Until then every slice stays as it is.",
    "scrapers_unknown": "It ends when the scrapers are known. Until then every slice stays as it is.",
    "no_targets": "It ends when a target is listed.",
}
"""By reason: what happens at the end of what is held."""


@dataclass(frozen=True, slots=True)
class ShownHeld:
    """``kind`` and ``name``: of which fleet or service, as the paths have it; ``whole``: it is the whole plan; ``then``:
    what happens at its end.
    """

    held: Held
    kind: str
    name: str
    whole: bool
    then: str


@dataclass(frozen=True, slots=True)
class ShownService:
    """``kept``: what is held of it and not of its fleet; ``uncovered``: some targets that are not proved to be scraped."""

    said: Service
    kept: Sequence[ShownHeld]
    uncovered: Uncovered | None


@dataclass(frozen=True, slots=True)
class Pictures:
    """``ring``, ``loads``: the arcs of both circles."""

    ring: Sequence[Arc]
    loads: Sequence[Arc]
    charts: Sequence[Chart]
    reshards: Sequence[Reshard]


@dataclass(frozen=True, slots=True)
class ShownFleet:
    """``services``: if ``listed``, those with the most trouble first, a row each; ``more``: so many are not shown.
    ``pictures`` None: on a page of several fleets.
    """

    said: Fleet
    scrapers: Rows
    kept: Sequence[ShownHeld]
    services: Sequence[ShownService]
    pictures: Pictures | None
    listed: bool = False
    more: int = 0


@dataclass(frozen=True, slots=True)
class ShownFinds:
    """Of one service. ``why``: it was not searched."""

    service: str
    why: str = ""
    places: Sequence[Place] = ()
    targets: Sequence[OwnedTarget] = ()
    total: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of everything, in one line."""

    level: str
    word: str
    text: str


def verdict(overview: Status, alarms: Sequence[Alert], now: float) -> Verdict:
    """The worst of all fleets, services and firing alerts, with who is down for how long, and other causes; how many targets
    are proved to be scraped, and since when.
    """
    every: list[Fleet | Service] = [*overview.fleets, *overview.services]
    if not every:
        return Verdict("unknown", WORDS["unknown"], "no fleet runs yet")
    scrapers = {s.id for one in overview.fleets for s in one.scrapers}  # two fleets may have the same
    down = list({s.id: s for one in overview.fleets for s in one.scrapers if s.state == "down"}.values())
    firing = [one for one in alarms if one.state == "firing"]
    alarm = "bad" if any(one.severity == "critical" for one in firing) else "warn" if firing or down else "good"
    own = _of_process(overview)
    level = max([*(one.summary.level for one in every), alarm, "warn" if own else "good"], key=LEVELS.index)
    looked = [one.coverage for one in overview.fleets if one.coverage is not None and one.coverage.at is not None]
    unplanned = [one.name for one in overview.fleets if one.targets is None]
    parts = [f"no plan yet{_of(unplanned, overview)}"] if unplanned else []
    if looked:
        covered, wanted = sum(c.covered or 0 for c in looked), sum((c.targets or 0) - (c.dropped or 0) for c in looked)
        parts.append(f"{covered} of {wanted} targets seen scraped, {max(c.age_s or 0 for c in looked):.0f} s ago")
        missing, unproved = sum(c.missing or 0 for c in looked), sum(c.unproved or 0 for c in looked)
        parts += [f"{count} {what}" for count, what in ((missing, "missing"), (unproved, "not proved")) if count]
    parts += _not_looked_at(overview.fleets)
    if down:
        names = few([f"{s.id}{f' for {span(now - s.since)}' if s.since else ''}" for s in down], NAMED_MOST)
        parts.append(f"{len(down)} of {len(scrapers)} scrapers down: {names}")
    parts += (found := _causes(every))[:NAMED_MOST]
    parts += [f"{counted(more, 'cause')} more"] if (more := len(found) - NAMED_MOST) > 0 else []
    if kept := _held_of_all(overview):
        words = dict.fromkeys(one.held.reason.replace("_", " ") for one in kept)
        parts.append(f"{len(kept)} held: {', '.join(words)}")
    parts += own
    if firing:
        parts.append(f"{len(firing)} alert{'s' * (len(firing) > 1)}")
    if len(overview.fleets) > 1 and (worst := [one.name for one in overview.fleets if one.summary.level == "bad"]):
        parts.append(f"look at {few(worst, NAMED_MOST)}")
    return Verdict(level, WORDS[level], "; ".join(parts) or "nobody looked yet")


def _not_looked_at(fleets: Sequence[Fleet]) -> list[str]:
    """Targets that nobody can say anything of."""
    off = sum(one.targets or 0 for one in fleets if one.coverage is None)
    yet = sum(one.targets or 0 for one in fleets if one.coverage is not None and one.coverage.at is None)
    said = (f"{counted(off, 'target')} not looked at, as the audit is off", f"{counted(yet, 'target')} not looked at yet")
    return [text for count, text in zip((off, yet), said, strict=True) if count]


def _of_process(overview: Status) -> list[str]:
    """What is not good of this controller itself."""
    controllers = overview.controllers
    said = {
        "no controller leads": controllers.lock and not overview.leader and not controllers.leader,
        "a right that the lock needs is lost": controllers.lacking,
        "the last reload was refused": not overview.config.last_reload_successful,
    }
    return [text for text, true in said.items() if true]


def _of(names: Sequence[str], overview: Status) -> str:
    """Of which fleets, where there are others."""
    return f" of {few(names, NAMED_MOST)}" if len(overview.fleets) > 1 else ""


def _causes(every: Sequence[Fleet | Service]) -> list[str]:
    """Each once, the worst first."""
    found = sorted((cause for one in every for cause in causes(one)), key=lambda cause: -LEVELS.index(cause[0]))
    return list(dict.fromkeys(text for _, text in found))


def troubled_first(fleets: Sequence[Fleet]) -> list[Fleet]:
    """Else in the order of the configuration: a fleet that is looked at for the first time does not jump."""
    return sorted(fleets, key=lambda one: one.summary.level not in ("warn", "bad"))


def alarms_of(alarms: Sequence[Alert], fleet: str, services: Collection[str]) -> list[Alert]:
    """Of a fleet, its services, and the process."""
    return [
        one
        for one in alarms
        if one.labels.get("fleet", fleet) == fleet and ("service" not in one.labels or one.labels["service"] in services)
    ]


def _held_of_all(overview: Status) -> list[ShownHeld]:
    """What is held, of fleets and of services."""
    fleets = {one.name: one for one in overview.fleets}
    of_fleets = [part for one in overview.fleets for part in held(one, "fleets")]
    services = [one for one in overview.services if one.fleet in fleets]
    return [*of_fleets, *(part for one in services for part in held_besides(one, fleets[one.fleet]))]


def held(of: Fleet | Service, kind: str) -> list[ShownHeld]:
    """What is held of a fleet or a service (``kind``, as the paths have it): the whole plan, then parts of the facts."""
    whole = [(of.held, True)] if of.held else []
    every = [*whole, *((one, False) for one in of.withheld)]
    return [ShownHeld(one, kind, of.name, is_whole, THEN.get(one.reason, "")) for one, is_whole in every]


def held_besides(service: Service, fleet: Fleet) -> list[ShownHeld]:
    """What is held of a service, and not of its whole ``fleet``."""
    known = {one.held.detail for one in held(fleet, "fleets")}
    return [one for one in held(service, "services") if one.held.detail not in known]


def elsewhere(overview: Status, fleet: str, scraper: str) -> list[str]:
    """What a scraper has besides what its ``fleet`` gives it: whoever stops it stops that, too."""
    others = [(one.name, s.targets) for one in overview.fleets for s in one.scrapers if s.id == scraper and s.targets]
    found = [f"{counted(targets, 'target')} of fleet {name}" for name, targets in others if name != fleet]
    unplanned = [one.name for one in overview.services if one.fleet == fleet and one.targets is None]
    found += [f"what it had of {name}, of which there is no plan yet" for name in unplanned]
    if any(one.unlooked for one in overview.fleets if one.name == fleet):
        found.append("what it had before this controller began to lead, at which nobody has looked yet")
    behind = [one.service for one in overview.left_behind if scraper in one.scrapers]
    return [*found, *(f"targets of {name}, which is not configured any more" for name in behind)]
