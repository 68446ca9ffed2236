"""Work beside the event loop, each in a daemon thread of its own: what may block (``in_thread``) or computes (``computed``).

The event loop's own pool has a handful of threads for everybody, and a process waits for them when it ends: one hung
network file system would stop every service and the exit. A thread costs 0.05 ms; a hung one costs only itself.

Threads that compute share one interpreter with the event loop, and it waits for all of them in turn: while fifty lists of
20,000 targets were read at once, it stood still for 4 to 6 s. So at most ``COMPUTING`` compute at a time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import errno
import gc
import sys
import threading
from asyncio import selector_events
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from promring.model import LONG_AGO
from promring.telemetry import log

T = TypeVar("T")

SWITCH_INTERVAL_S = 0.0005
NO_THREAD_FIRST_S, NO_THREAD_MOST_S = 0.05, 1.0
LACK_SAID_S = 60.0
READ_BYTES_MAX = 32 * 1024
COMPUTING = 4
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
M_ARENA_MAX = -8
"""Of ``malloc.h``."""
_lack = {"said_at": LONG_AGO}


def favour_the_loop() -> None:
    """Once a process: let the event loop have the interpreter soon while a thread computes.

    A thread that computes gives the interpreter up every 5 ms only, and a request needs it ten times. A full collection
    walks every value that is known: values are freed by their reference counts, so the collector is left for the few
    cycles of exceptions and tasks. What is read from a socket at once is parsed at once: 256 kB of the shortest chunks of
    HTTP, or of ``100 Continue``, hold the loop for 0.1 s. (uvloop reads as much as it likes.)

    All threads use one heap: glibc gives each thread one of many, and what is freed in one of those is of no use to the
    threads that come after. Slices of 50 services that changed again and again took a quarter more memory.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    with contextlib.suppress(AttributeError):
        selector_events._SelectorTransport.max_size = READ_BYTES_MAX  # type: ignore[attr-defined]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(100_000, 50, 100)


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread. When cancelled (or timed out) the thread is left to itself, its result is dropped.

    Raises what ``work`` does. Waits while the system gives no more threads.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    pause_s = NO_THREAD_FIRST_S
    while not _started(work, loop, result):
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, NO_THREAD_MOST_S)
    try:
        return await result
    finally:
        del result  # an error holds this frame: holding the future, which holds the error, all would wait for the collector


async def computed(work: Callable[[], T], *, beside: bool = True) -> T:
    """As ``in_thread``, for work that only computes: ``COMPUTING`` at a time, in the order of asking. When cancelled, the
    turn is given on although the thread may still compute. Work that waits for a file, a process or another turn must not
    run here: it would keep its turn from all others.

    Without ``beside`` it is done here and now: to start a thread holds the event loop, too, until that thread has had the
    interpreter. That is for work of a millisecond or two that does not come in bursts.
    """
    if not beside:
        return work()
    async with turn():
        return await in_thread(work)


def turn() -> asyncio.Semaphore:
    """One of the ``COMPUTING`` turns of this event loop; held while a thread computes."""
    loop = asyncio.get_running_loop()
    if (found := _turns.get(loop)) is None:
        found = _turns[loop] = asyncio.Semaphore(COMPUTING)
    return found


def _started(work: Callable[[], T], loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> bool:
    """False when there is no thread to be had (limits, memory): that heals, and is no failure of the work."""
    try:
        threading.Thread(target=_run, args=(work, loop, result), daemon=True).start()
    except RuntimeError as error:
        if (now := loop.time()) - _lack["said_at"] > LACK_SAID_S:
            _lack["said_at"] = now
            log.get().error("no_thread", error=str(error), note="everything waits until there is one")
        return False
    return True


def _run(work: Callable[[], T], loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> None:
    """In the thread."""
    value, error = None, None
    try:
        value = work()
    except BaseException as caught:  # handed to whoever waits
        error = caught
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_settle, result, value, error)
    del work, result, value, error  # the error holds this frame


def _settle(result: asyncio.Future[T], value: T | None, error: BaseException | None) -> None:
    if result.cancelled():
        return
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(value)  # type: ignore[arg-type]  # there was no error, so it is a T


class BusyError(Exception):
    """The work of the same use that was begun before has not ended."""


class Single:
    """One thread at most for one use: what hangs (a network file system) is not begun a second time, and takes no thread
    from anything else.
    """

    def __init__(self) -> None:
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Raises TimeoutError when ``work`` is not done in time, and goes on alone then; ``BusyError`` while it does."""
        if self._running is not None and not self._running.done():
            raise BusyError
        running = asyncio.ensure_future(in_thread(work))
        self._running = running
        running.add_done_callback(consume_error)
        done, _ = await asyncio.wait([running], timeout=timeout_s)
        if not done:
            raise TimeoutError
        self._running = None
        return running.result()


async def in_thread_shielded(work: Callable[[], T], stop: Callable[[], None] = lambda: None) -> T:
    """As ``beside``; but when cancelled, tell the work to ``stop`` and wait until it has: nobody may write after the one
    who asked for it is gone.
    """
    running = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait([running])
        consume_error(running)
        raise


def consume_error(future: asyncio.Future[T]) -> None:
    """Look at how ``future`` ended, so that asyncio does not complain that nobody did."""
    if not future.cancelled():
        future.exception()


def shared(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """``work`` in a thread, for several who wait in any event loop: nobody who gives up waiting cancels it. Raises OSError
    when no thread can be started.
    """
    made: concurrent.futures.Future[T] = concurrent.futures.Future()
    made.set_running_or_notify_cancel()
    try:
        threading.Thread(target=_fulfil, args=(made, work), daemon=True).start()
    except RuntimeError:  # all threads are used up
        raise OSError(errno.EAGAIN, "no thread can be started") from None
    return made


def _fulfil(made: concurrent.futures.Future[T], work: Callable[[], T]) -> None:
    """In the thread."""
    try:
        made.set_result(work())
    except Exception as error:  # handed to whoever waits
        made.set_exception(error)


async def ends_within(timeout_s: float | None, running: concurrent.futures.Future[T]) -> bool:
    """Whether ``running``, made by ``shared``, ends in that time. It goes on when it does not."""
    mine = asyncio.wrap_future(running)
    mine.add_done_callback(consume_error)
    try:
        done, _ = await asyncio.wait([mine], timeout=timeout_s)
        return bool(done)
    finally:
        mine.cancel()
