"""What each scraper has, of all services together: fifty services on a thousand scrapers are 50,000 slices, and answers,
metrics and the loop ask for their sums many times between two changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from promring.model import Generation, Slice


@dataclass(slots=True)
class Total:
    """Of one scraper. ``newest``: the newest generation of its slices; ``one``: any of them."""

    targets: int
    slices: int
    newest: Generation
    one: Slice


def totals_of(slices: Iterable[Slice]) -> dict[str, Total]:
    """By scraper."""
    found: dict[str, Total] = {}
    for one in slices:
        if (total := found.get(one.scraper.id)) is None:
            found[one.scraper.id] = Total(one.targets, 1, one.generation, one)
            continue
        total.targets += one.targets
        total.slices += 1
        if one.generation > total.newest:
            total.newest = one.generation
    return found


class Totals:
    """Counted once for each set of slices. Used by the event loop only."""

    def __init__(self) -> None:
        self._of: object = None
        self._found: Mapping[str, Total] = {}

    def get(self, of: object, slices: Iterable[Slice]) -> Mapping[str, Total]:
        """As ``totals_of``; the answer before, as long as ``of``, which has these slices and never changes, is the same
        object.
        """
        if self._of is not of:
            self._of, self._found = of, totals_of(slices)
        return self._found
