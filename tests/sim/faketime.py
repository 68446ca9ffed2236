"""Fake time: an event loop whose clock jumps to the next timer, and processes in it that can be frozen and killed.

A process is whatever runs in a context in which ``HERE`` is set: its callbacks wait while it is frozen, and are gone when it
is dead. Time goes on meanwhile. Threads of ``runtime.threads`` run in the loop, a few fake milliseconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1_000.0
WALL_S = 1_700_000_000.0
STANDSTILL = 100_000
"""So many rounds of the loop without time going on are a busy loop."""


class KilledError(BaseException):
    """The process of a thread is dead."""


@dataclass(eq=False)
class Process:
    """``boot_s``: how far its machine's clock is ahead of the loop's."""

    name: str
    boot_s: float = 0.0
    frozen: bool = False
    stalled: bool = False
    """Its event loop stands still for a moment, which nobody did to it."""
    dead: bool = False
    parked: list[_Handle] = field(default_factory=list)

    def run(self, work: Callable[[], T]) -> T:
        """Call it as a part of this process."""
        return self.context().run(work)

    def context(self) -> Context:
        context = copy_context()
        context.run(HERE.set, self)
        return context

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, name=self.name, context=self.context())

    def stall(self, seconds: float) -> None:
        self.stalled = True
        Context().run(asyncio.get_running_loop().call_later, seconds, self._goes_on)

    def _goes_on(self) -> None:
        self.stalled = False
        if not self.frozen:
            self.thaw()

    def thaw(self) -> None:
        self.frozen, self.stalled = False, self.stalled and not self.dead
        if self.stalled:
            return
        parked, self.parked = self.parked, []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeLoop)
        loop.go_on(parked)


HERE: ContextVar[Process | None] = ContextVar("HERE", default=None)


class _Handle(asyncio.TimerHandle):
    """What a process shall run, now or when it is thawed. It sets what asyncio's constructors set, in one call instead of
    three: there are a hundred handles in a simulated second.
    """

    __slots__ = ("process",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: FakeLoop, context: Context
    ) -> None:
        self._when, self._callback, self._args, self._loop, self._context = when, callback, args, loop, context
        self._cancelled, self._scheduled, self._source_traceback, self._repr = False, False, None, None
        self.process: Process | None = context.get(HERE)

    def _run(self) -> None:
        process = self.process
        if process is not None and (process.frozen or process.stalled):
            process.parked.append(self)
            return
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler({"message": "a callback failed", "exception": error, "handle": self})


def _is_killed(error: BaseException | None) -> bool:
    """A controller died: nobody waits for what its tasks end with."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KilledError)[1] is None
    return isinstance(error, KilledError)


class _Task(asyncio.Task[T]):
    """Its hash is its number, not its address: a set of tasks, as in a ``TaskGroup``, has the same order in each run."""

    def __init__(self, work: Any, *, loop: FakeLoop, **options: Any) -> None:
        loop.tasks += 1
        self._number = loop.tasks  # first: asyncio takes it into a set
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class FakeLoop(asyncio.SelectorEventLoop):
    """It never waits: when nothing is ready, its clock jumps to the next timer. It replaces the heart of asyncio's loop,
    which compares timers and asks the selector in Python, by one that does neither.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._now = START_S
        self._timers: list[tuple[float, int, _Handle]] = []
        self._number = 0
        """Of the last timer: those of one moment run in the order in which they were made."""
        self.tasks = 0
        """How many there have been."""
        self._still = 0
        self.set_task_factory(self._task)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not _is_killed(context.get("exception")):
            super().call_exception_handler(context)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        self._still += 1
        assert self._still < STANDSTILL, "a busy loop"
        if not ready:
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            assert timers, "nothing is due, for ever"
            if timers[0][0] > self._now:
                self._now, self._still = timers[0][0], 0
        while timers and timers[0][0] <= self._now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def call_soon(  # type: ignore[override]  # typeshed ties the types of args to the callback's
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(self._now, callback, args, self, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Handle(when, callback, args, self, copy_context() if context is None else context)
        self._number += 1
        heappush(self._timers, (when, self._number, handle))
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> None:
        """Threads run in the loop: what one of them hands over is there at once."""
        callback(*args)

    def _task(
        self, _: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
    ) -> asyncio.Future[T]:
        return _Task(work, loop=self, **options)

    def go_on(self, parked: list[_Handle]) -> None:
        """What a process had to do while it was frozen."""
        self._ready.extend(parked)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""


@dataclass
class Clock:
    """Stands in the place of the module ``time`` in promring's modules."""

    loop: FakeLoop
    wall_off_s: float = 0.0
    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def monotonic(self) -> float:
        process = HERE.get()
        return self.loop.time() + (process.boot_s if process else 0.0)

    def clock_gettime(self, _: int) -> float:
        return self.monotonic()

    def time(self) -> float:
        return WALL_S + self.loop.time() + self.wall_off_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Threads:
    """Stands in the place of the module ``threading`` in ``runtime.threads``: work runs here, ``takes_s()`` later."""

    def __init__(self, takes_s: Callable[[], float]) -> None:
        self._takes_s = takes_s

    def Thread(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> _Thread:
        assert daemon
        return _Thread(target, args, self._takes_s())


class _Thread:
    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], takes_s: float) -> None:
        self._target, self._args, self._takes_s = target, args, takes_s

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + self._takes_s, self._work)

    def _work(self) -> None:
        process = HERE.get()
        work = self._args[0] if process is None or not process.dead else _killed
        self._target(work, *self._args[1:])


def _killed() -> None:
    raise KilledError


class _Rest:
    """The rest of a coroutine that was begun by hand, and waits."""

    def __init__(self, work: Coroutine[Any, Any, T], waits: Any) -> None:
        self._work, self._waits = work, waits

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = self._waits
        try:
            while True:
                try:
                    got = yield waits
                except BaseException as error:
                    waits = self._work.throw(error)
                else:
                    waits = self._work.send(got)
        except StopIteration as over:
            return over.value


async def within(timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.timeout``, which costs nothing when the work does not wait. Raises TimeoutError."""
    try:
        waits = work.send(None)
    except StopIteration as over:
        result: T = over.value
        return result
    async with asyncio.timeout(timeout_s):
        rest: T = await _Rest(work, waits)
        return rest


@contextlib.contextmanager
def replaced(places: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes of modules, or items of dictionaries, replaced for a while."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for where, name, value in places:
            if isinstance(where, dict):
                before.append((where, name, where[name]))
                where[name] = value
            else:
                before.append((where, name, getattr(where, name)))
                setattr(where, name, value)
        yield
    finally:
        for where, name, value in reversed(before):
            if isinstance(where, dict):
                where[name] = value
            else:
                setattr(where, name, value)
