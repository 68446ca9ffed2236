"""One line a service, or a fleet: how well it is scraped, as far as that is known, and since when. Pure: made of what
``describe`` says. A service that is described without scrapers has those of its fleet, and the fleet's line tells of them.

Promises: ``good`` is said only when every target was proved to be scraped, a moment ago, nothing is doubted or held, and
nobody who counts as alive is known to be dead. What is not asked is never good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Said = tuple[str, str]
"""A level, and what to say."""
LEVELS = ("good", "unknown", "warn", "bad")
"""From the best to the worst; ``unknown``: nobody looks, or not yet."""
OLD_INTERVALS = 3.0
"""A look that is older than so many intervals of the audit, and ``OLD_LEAST_S``, is not what is."""
OLD_LEAST_S = 60.0
NAMED_MOST = 5


def summary(service: Mapping[str, Any]) -> dict[str, Any]:
    """``level`` is the worst of all that is said; ``text`` one line, the worst first."""
    found = list(_said(service))
    level = max((level for level, _ in found), key=LEVELS.index)
    in_order = sorted(found, key=lambda one: -LEVELS.index(one[0]))
    return {"level": level, "text": "; ".join(text for _, text in in_order)}


def _said(service: Mapping[str, Any]) -> Iterator[Said]:
    yield from _dead(service["scrapers"])
    yield from (("bad", f"{s['id']} sick: {s['sick']}") for s in service["scrapers"] if s["sick"])
    yield _proved(service)
    yield from _room(service)
    if service["held"]:
        yield "warn", "the plan is held"
    if service["withheld"]:
        yield "warn", "a part of the facts is not acted on"
    if service["membership"]["stale"]:
        yield "warn", "the scrapers are not known now"
    if silent := [source["name"] for source in service["sources"] if source["stale"]]:
        yield "warn", f"no whole answer from {_named(silent)}"
    if failing := [s["id"] for s in service["scrapers"] if s["delivery_error"]]:
        yield "warn", f"not delivered to {_named(failing)}"


def _dead(scrapers: list[Mapping[str, Any]]) -> Iterator[Said]:
    """Who is said to be down and still counts as alive: whatever was proved of its targets was proved before."""
    dead = [s for s in scrapers if "down" in (s["state"], s["last_state"]) and s["standing"] in ("in", "leaving")]
    if dead:
        count = sum(s["targets"] for s in dead)
        yield "bad", f"{_named([s['id'] for s in dead])} down, still counted as alive with {_targets(count)}"


def _room(service: Mapping[str, Any]) -> Iterator[Said]:
    """What has no room is with who had it, as far as that one lives and has room; else with nobody."""
    lacking = service["fits"]["unplaced"] if service["fits"] else 0
    if lacking and not service["scrapers"]:  # who keeps them is said with the fleet
        yield "warn", f"{_targets(lacking)} have no room"
        return
    kept = sum(scraper["no_room"] for scraper in service["scrapers"])
    if kept:
        yield "warn", f"{_targets(kept)} stay where they shall not be: no room elsewhere"
    if lacking > kept:
        yield "bad", f"{_targets(lacking - kept)} lack an owner: no room"


def _proved(service: Mapping[str, Any]) -> Said:
    """What the audit proved when it last looked at all scrapers."""
    coverage = service["coverage"]
    if service["targets"] is None:
        return "unknown", "no plan yet"
    if coverage is None:
        return "unknown", "what is scraped is not known: audit is off"
    if coverage["at"] is None:
        return "unknown", "the scrapers were not asked yet what they scrape"
    ago = f"{coverage['age_s']:.0f} s ago"
    wrong = [f"{coverage[kind]} {kind}" for kind in ("missing", "unproved", "doubled", "dropped", "down") if coverage[kind]]
    every = coverage["targets"]
    text = f"{coverage['covered']} of {_targets(every)} seen scraped {ago}" + (f" ({', '.join(wrong)})" if wrong else "")
    if coverage["missing"]:
        return "bad", text
    if coverage["age_s"] > max(OLD_LEAST_S, OLD_INTERVALS * coverage["interval_s"]):
        return "warn", f"{text}, which is old"
    if coverage["unproved"] or coverage["doubled"]:
        return "warn", text
    if every != service["targets"]:
        return "unknown", f"{text}, {service['targets']} since then"
    return "good", text


def _targets(count: int) -> str:
    return "1 target" if count == 1 else f"{count} targets"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    return ", ".join(names[:NAMED_MOST]) + more
