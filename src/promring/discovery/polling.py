"""The one loop that every source is asked by.

Promises: a failure is counted, logged once while it lasts, and publishes ``Unknown``, so the last good list stays; an
empty list publishes ``Empty``; a source that hangs is cut off by its own time-outs. A source that can watch is also asked
as soon as it changed. A little jitter keeps many sources from being asked in one instant.

A list that says the same as the one before is published as that same object, whatever the source gives: the rest of the
program tells lists apart by identity, so an unchanged list costs it nothing. Two lists are compared beside the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import NamedTuple, cast

from promring.discovery import Source, TroubledSource, WatchedSource
from promring.model import Answer, DiscoveryError, Empty, Known, TargetPool, Unknown
from promring.runtime.redact import scrub
from promring.runtime.threads import computed
from promring.runtime.unforeseen import Lasting, Unforeseen
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

JITTER = 0.05
RETRY_S = 5.0
WATCH_AGAIN_S = 30.0
SHORT = 5000
"""Targets of a list that is compared on the event loop."""


Publish = Callable[[Answer[TargetPool], str, bool, float], None]
"""As ``facts.Cell.put``."""
Count = Callable[[bool], None]


async def poll(
    name: str, source: Source, publish: Publish, count: Count, log: Logger, wanted: asyncio.Event | None = None
) -> None:
    """For ever: fetch, publish, wait. ``count`` is told of each fetch whether it went well. ``wanted``: whoever sets it has
    the source asked at once.
    """
    stop = asyncio.Event()
    changed = wanted or asyncio.Event()
    failing, had, empty, remarks = "", False, False, ()  # type: str, bool, bool, tuple[str, ...]
    behind: tuple[str, ...] = ()
    faults, lasting, last = Unforeseen("discovery", log), Lasting(), None  # type: Unforeseen, Lasting, TargetPool | None
    async with asyncio.TaskGroup() as group:
        watched = hasattr(source, "changes")
        watching = group.create_task(_watch(name, source, changed, stop, log)) if watched else None
        try:
            while True:
                changed.clear()
                began = time.monotonic()
                answer, failure, remembered, retry_after_s = await _ask(name, source, faults)
                count(not failure)
                _say(name, failing, failure, log, had=had, lasting=lasting)
                empty = _say_empty(name, answer, failure, log, before=empty, had=had)
                behind = _say_troubles(name, behind, source, log)
                if isinstance(answer, Known):
                    last = await _the_same_or_new(last, answer.value)
                    answer = Known(last)
                    _say_remarks(name, remarks, last, log)
                    remarks = last.remarks
                failing = failure
                publish(answer, failure, remembered, began)
                had |= isinstance(answer, Known)
                pause = min(max(RETRY_S, retry_after_s), source.interval_s) if failure else source.interval_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(1 - JITTER, 1 + JITTER)):
                        await changed.wait()
        finally:
            stop.set()
            if watching is not None:
                watching.cancel()


async def _the_same_or_new(last: TargetPool | None, pool: TargetPool) -> TargetPool:
    """``last``, where ``pool`` has the same targets and the same to tell of those that were left out."""
    if last is None or pool is last or len(pool) != len(last) or _left_out(pool) != _left_out(last):
        return pool
    return last if await computed(lambda: pool == last, beside=len(pool) > SHORT) else pool


def _left_out(pool: TargetPool) -> tuple[object, ...]:
    return pool.duplicates, pool.conflicts, pool.conflicts_named, pool.refused, pool.remarks


class _Heard(NamedTuple):
    """The answer, and what failed; with a failure the answer may still be whole, if partly stale."""

    answer: Answer[TargetPool]
    failure: str = ""
    remembered: bool = False
    retry_after_s: float = 0.0


async def _ask(name: str, source: Source, faults: Unforeseen) -> _Heard:
    try:
        pool = await source.fetch()
    except DiscoveryError as error:
        if error.pool is None:
            return _Heard(Unknown(str(error)), str(error), retry_after_s=error.retry_after_s)
        answer = Known(error.pool) if len(error.pool) else Empty()
        return _Heard(answer, str(error), error.remembered)
    except Exception as error:  # a source must not end the process, whatever it is fed
        reason = scrub(faults.note(error, source=name))
        return _Heard(Unknown(reason), reason)
    if not len(pool) and pool.refused:  # somebody lists targets, and means them: that is no empty list
        reason = f"every entry is refused, {pool.refused} in all: {'; '.join(pool.remarks)}"
        return _Heard(Empty(), reason)
    return _Heard(Known(pool) if len(pool) else Empty())


async def _watch(name: str, source: Source, changed: asyncio.Event, stop: asyncio.Event, log: Logger) -> None:
    """Rings ``changed``. Where a source cannot watch, polling goes on without."""
    while not stop.is_set():
        try:
            async for _ in cast(WatchedSource, source).changes(stop):
                changed.set()
        except Exception as error:  # polling must go on, whatever a source raises
            log.warning("watch_failed", source=name, error=str(error), goes_on="polling")
            await asyncio.sleep(WATCH_AGAIN_S)


def _say_troubles(name: str, before: tuple[str, ...], source: Source, log: Logger) -> tuple[str, ...]:
    """What fails behind a source whose list is taken, once while it is the same."""
    now = tuple(source.troubles) if isinstance(source, TroubledSource) else ()
    if now and [*map(wording, now)] != [*map(wording, before)]:
        log.warning("discovery_behind_failing", source=name, error="; ".join(now), keeps="what it listed before")
    elif before and not now:
        log.info("discovery_behind_recovered", source=name)
    return now


def _say_remarks(name: str, before: tuple[str, ...], pool: TargetPool, log: Logger) -> None:
    """What was left out of the list, once while it is the same."""
    if pool.remarks and pool.remarks != before:
        log.warning("discovery_entries_refused", source=name, count=pool.refused, among="; ".join(pool.remarks))
    elif before and not pool.remarks:
        log.info("discovery_entries_accepted", source=name)


def _say(name: str, failing: str, failure: str, log: Logger, *, had: bool, lasting: Lasting) -> None:
    if failure and lasting.is_news(name, failure, begins=not failing):
        log.error("discovery_failed", source=name, error=failure, keeps=_keeps(had=had))
    elif failing and not failure:
        log.info("discovery_recovered", source=name)


def _say_empty(name: str, answer: Answer[TargetPool], failure: str, log: Logger, *, before: bool, had: bool) -> bool:
    """Whether its list is empty, which is said once while it lasts. A source that fails changes nothing."""
    if isinstance(answer, Unknown) or failure:
        return before
    empty = isinstance(answer, Empty)
    if empty and not before:
        log.warning("discovery_empty", source=name, keeps=_keeps(had=had))
    elif before and not empty:
        log.info("discovery_not_empty", source=name)
    return empty


def _keeps(*, had: bool) -> str:
    return "the last good list" if had else "what the plan has of it: it gave no list since it was first asked"
