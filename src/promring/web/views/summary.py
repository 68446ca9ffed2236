"""One line a service, or a fleet: how well it is scraped, as far as that is known, and since when. Pure: made of what
the answer says. A service that is described without scrapers has those of its fleet, and the fleet's line tells of them.

Promises: ``good`` is said only when every target was proved to be scraped, a moment ago, nothing is doubted or held, and
nobody who counts as alive is known to be dead. What is not asked is never good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promring.runtime.text import few
from promring.web.answers.fleets import Fleet, Service
from promring.web.answers.parts import Coverage, Scraper, Summary

Said = tuple[str, str]
"""A level, and what to say."""
LEVELS = ("good", "unknown", "warn", "bad")
"""From the best to the worst; ``unknown``: nobody looks, or not yet."""
OLD_INTERVALS = 3.0
"""A look that is older than so many intervals of the audit, and ``OLD_LEAST_S``, is not what is."""
OLD_LEAST_S = 60.0
MANY_DOWN = 3
"""So many targets that are down, and more than half, may be the scrapers' network; fewer are the targets' own trouble."""
NAMED_MOST = 5


def summary(of: Fleet | Service) -> Summary:
    """``level`` is the worst of all that is said; ``text`` one line, the worst first."""
    found = list(_said(of))
    level = max((level for level, _ in found), key=LEVELS.index)
    in_order = sorted(found, key=lambda one: -LEVELS.index(one[0]))
    return Summary(level, "; ".join(text for _, text in in_order))


def _said(of: Fleet | Service) -> Iterator[Said]:
    yield from _dead(of.scrapers, held=of.held is not None)
    yield _proved(of.targets, of.coverage)
    yield from causes(of)
    if of.held:
        yield "warn", "the plan is held"
    if of.withheld:
        yield "warn", "a change is held"
    if isinstance(of, Fleet) and of.services_held:
        yield "warn", f"a change of {_named(of.services_held)} is held"


def causes(of: Fleet | Service) -> Iterator[Said]:
    """What else is not good, beside who is down, what is proved, and what is held."""
    yield from (("bad", f"{s.id} sick: {s.sick}") for s in of.scrapers if s.sick)
    yield from (("bad", f"{s.id} idle: {s.idle}") for s in of.scrapers if s.idle)
    yield from (("bad", f"{s.id} counts as alive and {s.unresponsive}") for s in of.scrapers if s.unresponsive)
    yield from (("warn", f"{s.id} is the same server as {s.alias_of}") for s in of.scrapers if s.alias_of)
    yield from _room(of)
    if of.unsaved:
        yield "warn", f"the state is not saved: {of.unsaved}"
    if of.membership.stale:
        empty = of.membership.state == "empty"
        yield ("bad", "no scraper is alive") if empty else ("warn", "the scrapers are not known now")
    if of.membership.list_trouble:
        yield "warn", f"the list of scrapers cannot be had, the last one stays: {of.membership.list_trouble}"
    if isinstance(of, Service) and (silent := [source.name for source in of.sources if source.stale]):
        yield "warn", f"no whole answer from {_named(silent)}"
    if isinstance(of, Fleet) and of.services_stale:
        yield "warn", f"no whole answer for {_named(of.services_stale)}"
    if of.coverage and (of.coverage.unproved or of.coverage.missing):
        mute = [s for s in of.scrapers if s.audit_error and s.state != "down"]
        if mute:
            yield (
                "warn",
                f"{_named([s.id for s in mute])} cannot be asked what {'it scrapes' if len(mute) == 1 else 'they scrape'}",
            )
    if of.coverage and of.coverage.missing:
        idle = [s.id for s in of.scrapers if s.targets and s.scraped == 0 and s.state == "up"]
        if idle:
            theirs = "its slice: does its list reach it?" if len(idle) == 1 else "their slices: do their lists reach them?"
            yield "bad", f"{_named(idle)} {'scrapes' if len(idle) == 1 else 'scrape'} nothing of {theirs}"
    if failing := [s.id for s in of.scrapers if s.delivery_error]:
        yield "warn", f"not delivered to {_named(failing)}"


def _dead(scrapers: Sequence[Scraper], *, held: bool) -> Iterator[Said]:
    """Who is said to be down and still counts as alive, or has targets in a plan that is ``held``: whatever was proved of
    its targets was proved before.
    """
    down = [s for s in scrapers if "down" in (s.state, s.last_state)]
    counted = [s for s in down if s.standing in ("in", "leaving")]
    if counted:
        count = sum(s.targets for s in counted)
        yield "bad", f"{_named([s.id for s in counted])} down, still counted as alive with {_targets(count)}"
    having = [s for s in down if held and s.targets and s not in counted]
    if having:
        count = sum(s.targets for s in having)
        yield "bad", f"{_named([s.id for s in having])} down, and nobody else is given the {_targets(count)} of it"


def _room(of: Fleet | Service) -> Iterator[Said]:
    """What has no room is with who had it, as far as that one lives and has room: then it has an owner, and is not among
    those that lack one.
    """
    lacking, ownerless = (of.fits.unplaced, of.fits.ownerless) if of.fits else (0, 0)
    kept = sum(scraper.no_room for scraper in of.scrapers)
    if kept:
        stay = "stays where it shall not be" if kept == 1 else "stay where they shall not be"
        yield "warn", f"{_targets(kept)} {stay}: no room elsewhere"
    if ownerless:
        yield "bad", f"{_targets(ownerless)} {'lacks' if ownerless == 1 else 'lack'} an owner: no room"
    if (fewer := lacking - ownerless) > 0:
        yield "warn", f"{_targets(fewer)} {'has' if fewer == 1 else 'have'} fewer owners than wanted: no room"


def _proved(targets: int | None, coverage: Coverage | None) -> Said:
    """What the audit proved when it last looked at all scrapers."""
    if targets is None:
        return "unknown", "no plan yet"
    if coverage is None:
        return "unknown", "what is scraped is not known: audit is off"
    if coverage.at is None or coverage.age_s is None or coverage.targets is None:
        return "unknown", "the scrapers were not asked yet what they scrape"
    counts = {kind: getattr(coverage, kind) for kind in ("missing", "unproved", "doubled", "dropped", "down")}
    wrong = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    seen = f"{coverage.covered} of {_targets(coverage.targets)} seen scraped {coverage.age_s:.0f} s ago"
    text = f"{seen} ({wrong})" if wrong else seen
    if coverage.missing:
        return "bad", text
    if coverage.age_s > max(OLD_LEAST_S, OLD_INTERVALS * coverage.interval_s):
        return "warn", f"{text}, which is old"
    if coverage.unproved or coverage.doubled:
        return "warn", text
    if 0 < coverage.targets == counts["dropped"]:
        return "warn", f"{text}: relabelling drops every one, so nothing is scraped"
    if counts["down"] >= MANY_DOWN and 2 * counts["down"] > (coverage.covered or 0):
        return "warn", f"{text}: most are asked without success"
    if coverage.targets != targets:
        return "unknown", f"{text}; there are {targets} now"
    return "good", text


def _targets(count: int) -> str:
    return "1 target" if count == 1 else f"{count} targets"


def _named(names: list[str]) -> str:
    return few(names, NAMED_MOST)
