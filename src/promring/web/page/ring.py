"""The ring of a fleet as a picture: who owns which part of it, and inside who carries how much. Pure.

The outer circle is the ring itself, looked at in ``SLOTS`` places: each has the colour of the scraper that a key there
belongs to. Inside it is an arc for each scraper, as long as its part of the load; with more than ``ARCS_MOST`` scrapers one
for several, those in trouble alone. Colours are classes of the style sheet, since the page may have no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from promring.core.ring import Ring
from promring.web.answers.parts import Scraper
from promring.web.page.words import natural

SLOTS = 360
ARCS_MOST = 100
COLOURS = 10
CENTRE = 110.0
RING, LOADS = (108.0, 98.0), (92.0, 62.0)
"""Radii, from and to."""
GAP = 0.004
"""Between the arcs of two scrapers, of the whole circle."""


@dataclass(frozen=True, slots=True)
class Arc:
    """``path``: of an SVG; ``colour``: a class; ``text``: what it is."""

    path: str
    colour: str
    text: str


def ring_arcs(ring: Ring, numbers: Mapping[str, int]) -> list[Arc]:
    """``numbers``: by id, which chooses the colours. Nothing for a ring without tokens."""
    if not len(ring.circle.tokens):
        return []
    step = 2**64 // SLOTS
    places = np.array([i * step + step // 2 for i in range(SLOTS)], dtype=np.uint64)
    holders = ring.circle.holders[ring.circle.first(places)].tolist()
    arcs = []
    for holder, slots in groupby(range(SLOTS), key=lambda i: holders[i]):
        some = list(slots)
        name = ring.scrapers[holder].id
        path = arc(some[0] / SLOTS, (some[-1] + 1) / SLOTS, *RING)
        arcs.append(Arc(path, colour(numbers.get(name, 0)), name))
    return arcs


def load_arcs(scrapers: Sequence[Scraper], numbers: Mapping[str, int]) -> list[Arc]:
    """An arc for each that carries something, in natural order."""
    carrying = sorted((s for s in scrapers if s.load), key=lambda s: natural(s.id))
    total = sum(s.load for s in carrying)
    arcs, at, groups = [], 0.0, _grouped(carrying)
    for number, some in enumerate(groups):
        share = sum(s.load for s in some) / total
        gap = min(GAP, share / 8) if len(carrying) > 1 else 0.0
        arcs.append(
            Arc(
                arc(at, at + share - gap, *LOADS),
                _colour_of(some, numbers if len(groups) == len(carrying) else {some[0].id: number}),
                _text(some, share),
            )
        )
        at += share
    return arcs


def _grouped(scrapers: Sequence[Scraper]) -> list[list[Scraper]]:
    if len(scrapers) <= ARCS_MOST:
        return [[s] for s in scrapers]
    size, found = -(-len(scrapers) // ARCS_MOST), [list[Scraper]()]
    for scraper in scrapers:
        if found[-1] and (bool(scraper.trouble) is not bool(found[-1][0].trouble) or len(found[-1]) == size):
            found.append([])
        found[-1].append(scraper)
    return found


def _colour_of(some: Sequence[Scraper], numbers: Mapping[str, int]) -> str:
    first = some[0]
    if first.trouble:
        return "c-trouble"
    return "c-leaving" if len(some) == 1 and first.left is not None else colour(numbers.get(first.id, 0))


def _text(some: Sequence[Scraper], share: float) -> str:
    name = some[0].id if len(some) == 1 else f"{len(some)} scrapers, {some[0].id} to {some[-1].id}"
    return f"{name}: {100 * share:.3g} % of the load"


def colour(number: int) -> str:
    return f"c{number % COLOURS}"


def arc(begin: float, end: float, outer: float, inner: float) -> str:
    """A part of a circle band as an SVG path; ``begin``, ``end``: of the whole circle, from the top, clockwise."""
    end = min(end, begin + 0.9999)  # an arc from a point to itself is none
    large = int(end - begin > 0.5)
    (x1, y1), (x2, y2) = _at(begin, outer), _at(end, outer)
    (x3, y3), (x4, y4) = _at(end, inner), _at(begin, inner)
    outside = f"M{x1:.2f} {y1:.2f}A{outer:g} {outer:g} 0 {large} 1 {x2:.2f} {y2:.2f}"
    return f"{outside}L{x3:.2f} {y3:.2f}A{inner:g} {inner:g} 0 {large} 0 {x4:.2f} {y4:.2f}Z"


def _at(turn: float, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * turn
    return CENTRE + radius * math.sin(angle), CENTRE - radius * math.cos(angle)
