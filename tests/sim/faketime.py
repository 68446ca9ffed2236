"""Fake time: an event loop whose clock jumps to the next timer, and processes in it that can be frozen and killed.

A process is whatever runs in a context in which ``HERE`` is set: its callbacks wait while it is frozen, and are gone when it
is dead. Time goes on meanwhile. Threads of ``runtime.threads`` run in the loop, a few fake milliseconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
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
    dead: bool = False
    parked: list[_Callback] = field(default_factory=list)

    def run(self, work: Callable[[], T]) -> T:
        """Call it as a part of this process."""
        return self.context().run(work)

    def context(self) -> Context:
        context = copy_context()
        context.run(HERE.set, self)
        return context

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, name=self.name, context=self.context())

    def thaw(self) -> None:
        self.frozen = False
        parked, self.parked = self.parked, []
        loop = asyncio.get_running_loop()
        for callback in parked:
            loop.call_soon(callback, context=callback.context)


HERE: ContextVar[Process | None] = ContextVar("HERE", default=None)


class _Callback:
    """What a process shall run, now or when it is thawed."""

    __slots__ = ("args", "callback", "context", "handle", "process")

    def __init__(self, process: Process, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.process, self.callback, self.args, self.context = process, callback, args, context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.process.frozen:
            self.process.parked.append(self)
        elif self.handle is None or not self.handle.cancelled():
            self.callback(*self.args)


class _Jump(selectors.SelectSelector):
    """Waits for nothing: the clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START_S
        self.still = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is due, for ever"
        self.still = 0 if timeout > 0 else self.still + 1
        assert self.still < STANDSTILL, "a busy loop"
        self.now += max(0.0, timeout)
        return []


class FakeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def call_soon(  # type: ignore[override]  # typeshed ties the types of args to the callback's
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        process = context.get(HERE)
        if process is None or isinstance(callback, _Callback):
            return super().call_soon(callback, *args, context=context)
        ours = _Callback(process, callback, args, context)
        ours.handle = super().call_soon(ours, context=context)
        return ours.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        process = context.get(HERE)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        ours = _Callback(process, callback, args, context)
        handle = super().call_at(when, ours, context=context)
        ours.handle = handle
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)


@dataclass
class Clock:
    """Stands in the place of the module ``time`` in promring's modules."""

    loop: FakeLoop
    wall_off_s: float = 0.0

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
        asyncio.get_running_loop().call_later(self._takes_s, self._work)

    def _work(self) -> None:
        process = HERE.get()
        work = self._args[0] if process is None or not process.dead else _killed
        self._target(work, *self._args[1:])


def _killed() -> None:
    raise KilledError


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
