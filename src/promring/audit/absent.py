"""A scraper that has other scrape pools, and none of the name that a service's job has: what that says.

Either its targets are scraped under another ``job_name``, which proves nothing, as the labels of their series are others; or
the scraper scrapes nothing of that service: the job is not in its configuration, another server has its address by now, or
its list did not reach it. Which of the two is told by the ids in the lines of the slices. Flow: ``asking`` asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np

from promring.audit.active import BATCH_TARGETS, active_targets
from promring.audit.answers import AuditError, NoPoolError, Told
from promring.core.coverage import Index, Seen
from promring.core.fragment import ID_LABEL
from promring.core.plan import rows_of
from promring.model import Keys

LIKELY = 0.5
"""Targets without an id are those of a slice when they have the addresses of such a share of it."""


def looked_for(told: Told, found: Mapping[str, Seen | AuditError], indexes: Mapping[str, Index]) -> None:
    """Look for the targets of each scrape pool that is not there in the other ones, and note in its error what was found.
    Blocks: the answer is decoded once more. Raises ``AuditError``.
    """
    absent = {pool: one for pool, one in found.items() if isinstance(one, NoPoolError)}
    if not absent:
        return
    targets = ((one.scrape_pool, one.discovered_labels) for one in active_targets(told.body))
    for batch in _batches(targets):
        for pool, error in absent.items():
            others = [labels for name, labels in batch if name not in indexes]
            error.elsewhere |= _has_some(indexes[pool], others)
            bare = np.concatenate([error.nothing.unlabelled, indexes[pool].unlabelled(others)])
            error.nothing = replace(error.nothing, unlabelled=np.unique(bare))


def judged(error: NoPoolError, expected: Keys) -> Seen | NoPoolError:
    """What was seen of a scraper that shall have these targets: none of them, and why; or nothing that proves anything."""
    likely = len(np.intersect1d(error.nothing.unlabelled, expected)) >= LIKELY * len(expected)
    return error if error.elsewhere or likely else replace(error.nothing, never_asked=str(error))


def _has_some(index: Index, shown: list[Mapping[str, str]]) -> bool:
    """Whether one of these is of the list, or does not tell what it is (``answers.NO_LABELS``)."""
    ids = index.dropped(labels for labels in shown if ID_LABEL in labels)
    return not all(shown) or bool((rows_of(index.pool, ids) < len(index.pool)).any())


def _batches(targets: Iterator[tuple[str, Mapping[str, str]]]) -> Iterator[list[tuple[str, Mapping[str, str]]]]:
    while batch := list(islice(targets, BATCH_TARGETS)):
        yield batch
