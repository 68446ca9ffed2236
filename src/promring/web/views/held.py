"""What is held, and what is known of a fact."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from promring.core.verdicts import RELEASABLE, Hold, Withheld
from promring.fleet.fleet import Fleet
from promring.fleet.judge import Judge
from promring.membership import Lists
from promring.model import Fact, Known, Unknown
from promring.web.answers.parts import Held, Membership

T = TypeVar("T")
LIST_FAILS_S = 30.0
"""A list that could not be had for less is no trouble yet: a watch that ends is begun again."""


class Freshness(NamedTuple):
    """Of a fact: the fields that a membership and a source have in common."""

    state: str
    reason: str
    last_success_at: float | None
    last_answer_at: float | None
    stale: bool


def said(held: Iterable[Withheld], judge: Judge | None = None, service: str = "") -> list[Held]:
    """What is held, for people; ``until`` on the wall clock, None where nobody knows. ``judge``: it knows since when it is
    held of the fleet, or of a ``service``.
    """
    ahead_s = time.time() - time.monotonic()
    return [
        Held(
            reason=one.reason,
            detail=one.detail,
            sources=list(one.about),
            since=judge.held_since(one, service) if judge else None,
            releasable=one.reason in RELEASABLE,
            until=None if one.until is None or math.isinf(one.until) else round(one.until + ahead_s, 1),
            confirmed=one.confirmed[0] if one.confirmed else None,
            confirmations=one.confirmed[1] if one.confirmed else None,
        )
        for one in held
    ]


def whole(verdict: object, judge: Judge, service: str = "") -> Held | None:
    """Why the whole plan is kept, if it is."""
    return said(verdict.withheld, judge, service)[0] if isinstance(verdict, Hold) else None


def membership_of(fleet: Fleet) -> Membership:
    known = fact_of(fleet.facts.members.fact, "no scraper is alive")
    return Membership(fleet.settings.scrapers.kind, *known, _list_trouble(fleet))


def _list_trouble(fleet: Fleet) -> str:
    """What lasts."""
    why, since = fleet.membership.list_trouble() if isinstance(fleet.membership, Lists) else ("", 0.0)
    return why if time.time() - since >= LIST_FAILS_S else ""


def fact_of(fact: Fact[T], empty: str = "it answered with an empty list") -> Freshness:
    match fact.newest:
        case Known():
            state, why = "known", ""
        case Unknown(reason):
            state, why = "unknown", reason
        case _:
            state, why = "empty", empty
    return Freshness(state, fact.trouble or why, fact.good_at or None, fact.asked_at or None, fact.stale)
