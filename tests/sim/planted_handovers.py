"""Bugs of hand-overs and of what the audit makes of scrapers, to plant in promring as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from promring.audit import active
from promring.core import handover, second_opinion
from promring.core.claims import Taken
from promring.core.coverage import NO_IDS, Index, Seen
from promring.core.evidence import Evidence
from promring.core.handover import schedule
from promring.core.second_opinion import SecondOpinions
from promring.delivery.http_sd import HttpSdDelivery
from promring.fleet import moves
from promring.fleet.receipts import Receipts
from promring.model import Keys, Placement

Places = list[tuple[Any, str, Any]]


def a_failed_scrape_confirms() -> Places:
    """That the new owner asked the target is enough, whatever came of it."""
    real = Seen.of

    def of(self: Seen, ids: Keys) -> tuple[Any, Any]:
        asked, _ = real(self, ids)
        return asked, asked > -np.inf

    return [(Seen, "of", of)]


def old_proof_confirms() -> Places:
    """A scrape from before the target was given is as good as any."""
    real = handover._ends

    def ends(wanted: Placement, owned: Any, begun: Any, *rest: Any) -> Any:
        return real(wanted, owned, np.full(len(begun), -1e12), *rest)

    return [(handover, "_ends", ends)]


def silence_is_consent() -> Places:
    """Time alone lets go, to a scraper that does not answer, too."""

    def heedless(wanted: Any, before: Any, evidence: Evidence, *rest: Any, **more: Any) -> Any:
        return schedule(wanted, before, replace(evidence, silent=()), *rest, **more)

    return [(moves, "schedule", heedless)]


def not_taken_is_taken() -> Places:
    """Time alone lets go, to a scraper that never took its slice, too."""

    def since(_: Taken, begun: Any) -> Any:
        return begun

    return [(Taken, "since", since)]


def a_written_file_is_taken() -> Places:
    """Also where scrapers may come for their slices instead, and nobody knows which of both one reads."""

    def note_pushed(self: Receipts, there: Collection[str], upto: float) -> None:
        self._took(there, upto)

    return [(Receipts, "_note_pushed", note_pushed)]


def limited_is_covered() -> Places:
    """What a server lists with a fresh last scrape is scraped."""
    return [(active, "NEVER_ASKED", ("never",))]


def dropped_is_missing() -> Places:
    """What relabelling drops is missing, for ever."""
    return [(Index, "dropped", lambda *_: NO_IDS)]


def put_is_taken() -> Places:
    """A slice is at its scraper when it is in memory."""
    real = HttpSdDelivery.deliver

    async def deliver(self: HttpSdDelivery, slices: Any, *rest: Any) -> Any:
        done = await real(self, slices, *rest)
        for slice_ in slices:
            self.taken(slice_.scraper.id, self._current_at, 0.0)
        return done

    return [(HttpSdDelivery, "deliver", deliver)]


def never_sick() -> Places:
    """A scraper that reaches nothing is as good as any."""
    return [(SecondOpinions, "_sick_after", lambda *_: {})]


def everybody_is_sick() -> Places:
    """When most reach nothing, it is them."""
    real = second_opinion._failing

    class Many(dict[str, Any]):
        def __len__(self) -> int:
            return 1_000_000

    return [(second_opinion, "_failing", lambda *args: Many(real(*args)))]


def short_of_room_drops() -> Places:
    """Who has what finds no room elsewhere does not keep it."""
    return [(handover, "keeping", lambda wanted, held, *_: (wanted, np.zeros(len(held.rows), dtype=bool)))]


HANDOVER_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug
    for bug in (
        a_failed_scrape_confirms,
        old_proof_confirms,
        silence_is_consent,
        not_taken_is_taken,
        a_written_file_is_taken,
        limited_is_covered,
        dropped_is_missing,
        put_is_taken,
        never_sick,
        everybody_is_sick,
        short_of_room_drops,
    )
}
