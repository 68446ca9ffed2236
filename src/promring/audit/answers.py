"""What a scraper's list of targets may be: its parts that are read, and the errors of an answer that is no use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from promring.core.coverage import ERRORS_KEPT, FOREIGN_KEPT, Seen

NEVER_BEFORE = 86_400.0
"""Epoch seconds: a last scrape before then was none (0001-01-01 and 1970-01-01 are said for "never")."""
NEVER_ASKED = ("target_limit exceeded",)
"""How the last error begins of a target that the server lists as active, with a fresh last scrape, and does not ask."""
NO_LABELS = (
    "its targets have no labels from before relabelling, so nothing tells which they are: does this vmagent run with "
    "-promscrape.dropOriginalLabels?"
)
HIDDEN_ALL = 2**31
DROPPED_SHOWN = 10_000
"""So many dropped targets of all jobs vmagent shows (``-promscrape.maxDroppedTargets``), whatever there are."""
State = Literal["active", "dropped"]


class AuditError(Exception):
    """The scraper gave no usable answer; the text says why. ``answered``: it gave one, if not a usable one."""

    answered = False

    def anew(self) -> AuditError:
        """The same without what it holds on to."""
        return type(self)(str(self))


class OwnTroubleError(AuditError):
    """It was not asked, because of this machine."""


class TooLongError(AuditError):
    """The answer is longer than was asked for."""


class OddError(AuditError):
    """It answered, but nothing that could be used."""

    answered = True


class AheadError(OddError):
    """A last scrape is later than the ``Date`` of the answer. ``at``: that scrape, epoch seconds; ``interval_s``: of that
    target's scrapes, None where it is not said.
    """

    def __init__(self, why: str, at: float = 0.0, interval_s: float | None = None) -> None:
        super().__init__(why)
        self.at, self.interval_s = at, interval_s

    def anew(self) -> AheadError:
        return AheadError(str(self), self.at, self.interval_s)


class NoPoolError(OddError):
    """It has other scrape pools, and no active target in this one: another name, no such job, or relabelling drops all it
    has there. ``nothing``: what was seen, should it be one of the last two. ``elsewhere``: whether targets of this list, or
    such as do not say what they are, were found in other pools (``absent``).
    """

    def __init__(self, pool: str, others: str, nothing: Seen) -> None:
        why = "(the job_name of its targets), or its list did not reach that server yet"
        there = f"there is {others}" if others else "the targets there name no pool (a server from before scrapePool?)"
        super().__init__(f"no scrape pool {pool!r} {why}; {there}")
        self.nothing, self.elsewhere = nothing, False


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as bytes. ``clock``: what the scraper's own clock said, epoch seconds, or up to ``DATE_STEP_S`` less."""

    body: bytes
    clock: float
    behind: bool = False
    """Whether that clock was put back, so that nothing is stored (``clocks``)."""


def joined(parts: list[Seen]) -> Seen:
    """What was seen of one scrape pool, read in ``parts``, at least one."""
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids, kind="stable")
    foreign = [address for part in parts for address in part.foreign][:FOREIGN_KEPT]
    return Seen(
        parts[0].at,
        ids[order],
        np.concatenate([part.scraped_at for part in parts])[order],
        np.concatenate([part.up for part in parts])[order],
        max(part.interval_s for part in parts),
        foreign=tuple(foreign),
        foreign_count=sum(part.foreign_count for part in parts),
        never_asked=next((part.never_asked for part in parts if part.never_asked), ""),
        unlabelled=np.unique(np.concatenate([part.unlabelled for part in parts])),
        errors=dict(islice(((key, said) for part in parts for key, said in part.errors.items()), ERRORS_KEPT)),
    )
