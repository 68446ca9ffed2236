"""Which live scrapers may have targets, and which are listed. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from promring.model import Failing, Members


def eligible(members: Members, drained: Collection[str], failing: Collection[str]) -> Members:
    """The ``members``, with weight 0 for those that shall get nothing: the ``drained``, those that drain themselves, and the
    ``failing``, which cannot be reached or reach nothing. When most fail, or all that may have targets, it is not the
    scrapers: then the failing ones are as good as others.
    """
    able = {s.id for s in members if s.able and s.id not in drained}
    failing = able.intersection(failing)  # who gets nothing anyway, and may be switched off, says nothing of the others
    if len(failing) * 2 > len(members) or able <= failing:
        failing = set()
    off = {*drained, *failing, *(s.id for s in members if s.draining)}
    if off.isdisjoint(s.id for s in members):
        return members
    return tuple(replace(s, weight=0.0) if s.id in off else s for s in members)


def entitled(members: Members, drained: Collection[str], failing: Failing) -> Members:
    """``eligible``; and of one server that is listed under several names only one name gets something, however many there
    are.
    """
    return eligible(members, {*drained, *failing.nameless(s.id for s in members)}, failing.scrapers)


def listed(members: Members, catalogue: Members, departing: Collection[str]) -> Members:
    """Who is listed, alive or not, with the share that each has when it lives: what a plan for ``members`` is made over.
    ``catalogue``: who is listed besides, alive or not. The ``departing`` were taken out of the configuration.
    """
    every = {s.id: replace(s, draining=False) for s in (*catalogue, *members) if s.id not in departing}
    every |= {s.id: replace(s, weight=0.0) for s in members if s.id in departing}
    return tuple(sorted(every.values()))
