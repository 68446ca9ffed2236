"""Waiting for something to become true, bounded."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from yarl import URL

SLOWER_MOST = 8.0
LEAST_S = 10.0
"""Shorter waits fail on a machine that stood still for a moment."""
LOOK_S, LOOK_MOST_S, ASK_MOST_S = 0.02, 0.05, 0.2
"""How often ``until`` looks, at first and later, and at what is awaited: that asks a daemon, which costs it and us some
milliseconds.
"""
RUN_S = 0.5
"""How often ``until`` looks when each look runs a command: a start of promring is a fifth of a second of CPU."""


def slower() -> float:
    """How many times longer than alone things that end now may have taken: by the load of this machine a core in the last
    minute or the last five, 1 to ``SLOWER_MOST``. What is judged began when the load may have been higher than it is now.

    Twice the load, for one second of a test is work of several processes, one after the other.
    """
    return min(SLOWER_MOST, max(1.0, 2 * max(os.getloadavg()[:2]) / (os.cpu_count() or 1)))


def patient(seconds: float) -> float:
    """A time-out for what is under test that does not end what is well because the machine is busy; whole seconds.
    By the load of the last minute: what waits for such a time-out to pass waits so long.
    """
    return float(round(seconds * min(SLOWER_MOST, max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1)))))


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, timeout_s: float = 30.0, *, look_s: float = 0
) -> float:
    """Wait until ``condition``; the seconds it took. Fails with ``what`` after ``timeout_s``, at least ``LEAST_S``, which is
    for a machine that has nothing else to do: a busy one has ``slower`` times as long. It looks no more often than each
    ``look_s``.
    """
    started, timeout_s = time.monotonic(), max(timeout_s, LEAST_S)
    while True:
        most_s, result = LOOK_MOST_S, condition()
        if inspect.isawaitable(result):
            most_s, result = ASK_MOST_S, await result
        if result:
            return time.monotonic() - started
        waited_s = time.monotonic() - started
        if waited_s > timeout_s and waited_s > timeout_s * slower():
            raise AssertionError(f"not within {waited_s:.0f} s ({timeout_s:g} s on a quiet machine): {what}")
        await asyncio.sleep(max(look_s, min(most_s, LOOK_S + waited_s / 20)))


async def answers(session: aiohttp.ClientSession, url: URL | str) -> bool:
    """Whether a GET is answered with 200 now. No answer is no error: the server may not listen yet."""
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
