"""Who scrapes. An adapter has one method, ``run(publish)``: it says the whole set of live scrapers, again and again.

It says ``Unknown`` when it got no answer and ``Empty`` when the answer was "none"; the two are never mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from promring.model import Answer, Members, NodeState

Publish = Callable[[Answer[Members]], None]


class Membership(Protocol):
    async def run(self, publish: Publish) -> None:
        """Runs until cancelled. ``publish`` never blocks; an equal answer may be published again."""

    def listed(self) -> Members:
        """Who is listed, alive or not: sorted by id, ids distinct. One that is not listed any more stays for a while where
        that may be a restart.
        """

    def nodes(self) -> list[NodeState]:
        """What is known of each scraper, dead ones too, for people."""

    def silent(self) -> str:
        """Why what was published last is too old to go by, or an empty text."""


@runtime_checkable
class Probes(Protocol):
    """A membership that asks the scrapers itself."""

    probed: Mapping[str, int]
    """How many probes had which outcome: ``success``, ``failure``, or ``not_made`` for want of something on this machine."""
