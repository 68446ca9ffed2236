"""How a slice reaches its scraper. A kind has one method: it is given every slice in force and makes the sinks so.

Promises of every kind: a slice is whole or not there; a sink that already has the bytes is left alone; what a scraper has
is never taken away because it left; one scraper's failure does not touch another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from promring.model import Slice


class Outcome(NamedTuple):
    """What became of one scraper's slice: ``written``, ``same`` or ``failed``; ``error`` is empty unless failed."""

    scraper: str
    outcome: str
    error: str = ""


@runtime_checkable
class Closing(Protocol):
    """A delivery that holds connections."""

    async def close(self) -> None:
        """It will not be asked to deliver again."""


class Delivery(Protocol):
    means: str

    async def deliver(self, slices: Sequence[Slice]) -> list[Outcome]:
        """Make every sink hold its slice. Level-triggered: called again and again with all of them."""
