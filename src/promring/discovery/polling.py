"""The one loop that every source is asked by.

Promises: a failure is counted, logged once while it lasts, and publishes ``Unknown``, so the last good list stays; an
empty list publishes ``Empty``; a source that hangs is cut off by its own time-outs. A source that can watch is also asked
as soon as it changed. A little jitter keeps many sources from being asked in one instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import cast

from promring.discovery import Source, WatchedSource
from promring.log import Logger
from promring.model import Answer, DiscoveryError, Empty, Groups, Known, Unknown

JITTER = 0.05
RETRY_S = 5.0

Publish = Callable[[Answer[Groups]], None]
Count = Callable[[bool], None]


async def poll(name: str, source: Source, publish: Publish, count: Count, log: Logger) -> None:
    """For ever: fetch, publish, wait. ``count`` is told of each fetch whether it went well."""
    stop = asyncio.Event()
    changed = asyncio.Event()
    failing = ""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(source, changed, stop)) if hasattr(source, "changes") else None
        try:
            while True:
                changed.clear()
                answer = await _ask(source)
                failure = answer.reason if isinstance(answer, Unknown) else ""
                count(not failure)
                _say(name, failing, failure, answer, log)
                failing = failure
                publish(answer)
                pause = min(RETRY_S, source.interval_s) if failure else source.interval_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(1 - JITTER, 1 + JITTER)):
                        await changed.wait()
        finally:
            stop.set()
            if watching is not None:
                watching.cancel()


async def _ask(source: Source) -> Answer[Groups]:
    try:
        groups = await source.fetch()
    except DiscoveryError as error:
        return Unknown(str(error))
    return Known(groups) if any(group.targets for group in groups) else Empty()


async def _watch(source: Source, changed: asyncio.Event, stop: asyncio.Event) -> None:
    async for _ in cast(WatchedSource, source).changes(stop):
        changed.set()


def _say(name: str, failing: str, failure: str, answer: Answer[Groups], log: Logger) -> None:
    if failure and failure != failing:
        log.error("discovery_failed", source=name, error=failure, keeps="the last good list")
    elif failing and not failure:
        log.info("discovery_recovered", source=name)
    if isinstance(answer, Empty):
        log.warning("discovery_empty", source=name, keeps="the last good list")
