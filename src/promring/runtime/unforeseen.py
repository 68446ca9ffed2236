"""What no adapter foresaw, in one place: counted, logged once, and never the end of the process.

An adapter translates every error that it knows into ``Unknown``. An error that it does not know, such as a
``RecursionError`` from an answer that nests too deep, is a fault of promring. It costs that one answer and nothing else.

Promises: ``CancelledError``, ``SystemExit`` and ``KeyboardInterrupt`` pass; a loop that fails again and again waits longer
each time, up to ``BACKOFF_MOST_S``; a fault is logged once while it lasts (told apart by its type and its place in the
code, since its text may repeat what a stranger sent), and counted each time in ``promring_unforeseen_total{loop}``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from types import TracebackType

from promring.runtime.backoff import backoff_s
from promring.runtime.clocks import monotonic
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.25, 8.0
CALM_S = 60.0
"""A loop that ran so long without a fault begins its back-off anew."""
QUIET_S = 600.0
"""A fault that was not seen for so long is logged again; so is a failure that lasts, if its numbers are others by then."""
KEPT_MAX = 100
OTHER_WORDS_S = 60.0
"""A failure that changes its words at each look is logged again after so long,"""
LINES_BURST = 10.0
"""and so many times at once before."""
TEXT_MAX = 200

_lock = threading.Lock()
_counts: dict[str, int] = {}


def counts() -> dict[str, int]:
    """Of this process, by loop."""
    with _lock:
        return dict(_counts)


class Quiet:
    """Tells what is news from what was seen a moment ago, so that trouble that lasts is logged once."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._seen_at: dict[object, float] = {}

    def is_news(self, key: object = None) -> bool:
        """False when ``key`` was seen less than ``quiet_s`` ago."""
        now, known_at = time.monotonic(), self._seen_at.pop(key, None)
        self._seen_at[key] = now
        while len(self._seen_at) > KEPT_MAX:
            del self._seen_at[next(iter(self._seen_at))]
        return known_at is None or now - known_at > self._quiet_s


class Lasting:
    """Failures that last, by name: each is news when it begins, and when it is told in other words (``wording``). One that
    is told in the same words with other numbers is news again after ``QUIET_S``. One that changes its words, or comes and
    goes, at each look is news ``LINES_BURST`` times, then once in ``OTHER_WORDS_S``.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or monotonic
        self._said: dict[str, tuple[str, float, float]] = {}
        """The text, how many lines were left then, and when that was."""

    def is_news(self, name: str, text: str, *, begins: bool) -> bool:
        now = self._clock()
        before, left, at = self._said.get(name, ("", LINES_BURST, now))
        left = min(LINES_BURST, left + (now - at) / OTHER_WORDS_S)
        same = not begins and (text == before or (wording(text) == wording(before) and now - at < QUIET_S))
        if same or left < 1:
            return False
        self._said[name] = text, left - 1, now
        return True

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._said = {name: said for name, said in self._said.items() if name in names}


class Unforeseen:
    """The faults of one loop. ``loop`` is a fixed name such as ``audit``: it becomes a label."""

    def __init__(self, loop: str, log: Logger) -> None:
        self._loop, self._log = loop, log
        self._quiet = Quiet()
        self._failures, self._failed_at = 0, 0.0
        with _lock:
            _counts.setdefault(loop, 0)

    def note(self, error: Exception, **about: str) -> str:
        """Count and log ``error``. Returns it in one short line, as the reason of an ``Unknown``. ``about``: whose answer
        it was, such as ``scraper=…``; of several the first is logged.
        """
        with _lock:
            _counts[self._loop] += 1
        kind, where = type(error).__name__, _place(error.__traceback__)
        text = f"{kind}: {' '.join(str(error)[:TEXT_MAX].split())}"
        if isinstance(error, MemoryError):  # no fault of promring: the limit of this process, or of its machine
            text = "this process got no more memory"
            if self._quiet.is_news(kind):
                self._log.error("no_memory", loop=self._loop, where=where, **about, note="taken as no answer")
        elif self._quiet.is_news((kind, where)):
            note = "taken as no answer; please report"
            self._log.error("unforeseen", loop=self._loop, error=text, where=where, **about, note=note)
        return text

    def pause_s(self, most_s: float = BACKOFF_MOST_S) -> float:
        """How long to wait after a fault, with jitter."""
        now = time.monotonic()
        self._failures = 1 if now - self._failed_at > CALM_S else self._failures + 1
        self._failed_at = now
        return backoff_s(self._failures, BACKOFF_FIRST_S, most_s)


async def kept_alive(
    loop: str,
    run: Callable[[], Awaitable[object]],
    log: Logger,
    *,
    unknown: Callable[[str], None] = lambda _: None,
    most_s: float = BACKOFF_MOST_S,
) -> None:
    """Run a loop again, with back-off up to ``most_s``, whenever it raised. ``unknown`` is told why each time.

    Ends when ``run`` returns.
    """
    faults = Unforeseen(loop, log)
    while True:
        try:
            await run()
        except Exception as error:  # the supervisor of an adapter's loop: counted and logged above
            unknown(faults.note(error))
            await asyncio.sleep(faults.pause_s(most_s))
        else:
            return


def _place(traceback: TracebackType | None) -> str:
    """``file:line`` of the innermost frame of promring's own code."""
    found = "?"
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        if "promring" in path.parts:
            found = f"{path.name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
