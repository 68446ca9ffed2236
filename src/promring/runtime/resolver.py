"""Looks names up for HTTP requests: a name that hangs or is gone costs its own host only.

The event loop's own look-ups share a pool of a few threads: eight names that hang stop everything that goes by name. Here
each look-up has a daemon thread of its own, and there is one at a time for a name in the whole process.

Promises: a name that was resolved before is answered with its last addresses when a look-up fails, or takes longer than
``PATIENCE_S`` (a scraper whose name is gone is then judged by its last address, so a name server that is down kills nobody
and a dead scraper is still noticed). A name that fails is logged once, and once when it is resolved again. ``watch_lookups``
tells a request that ran out of time whether it was the name that it waited for.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promring.runtime.threads import ends_within, shared
from promring.telemetry import log

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult
else:
    AbstractResolver = object

FRESH_S = 10.0
PATIENCE_S = 0.5
NAMES_MAX = 10_000
GONE_SAID_MOST, GONE_KEPT_S = 20, 600.0
"""So many names are said to be gone at a time: a name server that is down takes all of them. A name that nobody has looked
up for so long is forgotten.
"""

_Found = list[tuple[int, int, str]]
"""Family, protocol, address."""
_pending: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar("pending look-ups", default=None)


def watch_lookups() -> set[str]:
    """The names that this task's request waits for, from now on: still in it when the time is over, they were not
    resolved.
    """
    names: set[str] = set()
    _pending.set(names)
    return names


@dataclass(slots=True)
class _Gone:
    """``at``: when it was last looked up in vain, monotonic seconds."""

    said: bool
    at: float


class Names:
    """What is known of names, by everybody who shares this object. Used from any event loop. ``look_up`` as
    ``socket.getaddrinfo``.
    """

    def __init__(self, look_up: Callable[..., list[Any]] = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], concurrent.futures.Future[_Found]] = {}
        self._last: dict[tuple[str, int], tuple[float, _Found]] = {}
        self._gone: dict[str, _Gone] = {}
        """The names whose last look-up failed, though they were resolved before."""

    def is_gone(self, name: str) -> bool:
        """Whether it can be resolved no more, so that it is asked at its last address."""
        return name in self._gone

    def last(self, key: tuple[str, int], younger_than_s: float | None = None) -> _Found | None:
        at, found = self._last.get(key, (0.0, None))
        return found if younger_than_s is None or time.monotonic() - at < younger_than_s else None

    def look_up(self, key: tuple[str, int]) -> concurrent.futures.Future[_Found]:
        """Raises OSError when no thread can be started."""
        with self._lock:
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = shared(lambda: self._found(key))
            return running

    def _found(self, key: tuple[str, int]) -> _Found:
        """In the thread."""
        found: _Found = []
        try:
            infos = self._look_up(key[0], None, family=key[1], type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            for family, _, protocol, _, address in infos:
                scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
                found.append((family, protocol, f"{address[0]}{scope}"))
        except BaseException as error:
            self._done(key, [])
            self._say_gone(key, error)
            raise
        self._done(key, found)
        if (gone := self._gone.pop(key[0], None)) is not None and gone.said:
            log.get().info("name_resolved_again", name=key[0], address=found[0][2] if found else "")
        return found

    def _say_gone(self, key: tuple[str, int], error: BaseException) -> None:
        last, now = self.last(key), time.monotonic()
        if not last:
            return
        with self._lock:
            if (known := self._gone.get(key[0])) is not None:
                known.at = now
                return
            self._gone = {name: one for name, one in self._gone.items() if now - one.at < GONE_KEPT_S}
            said = sum(one.said for one in self._gone.values()) < GONE_SAID_MOST
            self._gone[key[0]] = _Gone(said, now)
        if said:
            why = getattr(error, "strerror", None) or str(error)
            log.get().warning("name_not_resolved", name=key[0], error=why, note=f"its last address is asked: {last[0][2]}")

    def _done(self, key: tuple[str, int], found: _Found) -> None:
        with self._lock:
            self._running.pop(key, None)
            if found:
                self._last.pop(key, None)
                self._last[key] = time.monotonic(), found
                while len(self._last) > NAMES_MAX:
                    del self._last[next(iter(self._last))]


_of_the_process = Names()


def last_address_of(name: str) -> str:
    """For an error of a connection to it: mostly nothing."""
    return " (its last address: the name is not resolved any more)" if _of_the_process.is_gone(name) else ""


class Resolver(AbstractResolver):
    """For aiohttp's connector, without its own cache of names."""

    def __init__(self, names: Names = _of_the_process) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError (``socket.gaierror`` when there is no such name)."""
        key = (host, int(family))
        found = self._names.last(key, FRESH_S) or await self._looked_up(key)
        flags = socket.AI_NUMERICHOST
        return [
            {"hostname": host, "host": address, "port": port, "family": kind, "proto": protocol, "flags": flags}
            for kind, protocol, address in found
        ]

    async def _looked_up(self, key: tuple[str, int]) -> _Found:
        waiting, last = _pending.get(), self._names.last(key)
        if waiting is not None:
            waiting.add(key[0])
        running = self._names.look_up(key)
        ended = await ends_within(PATIENCE_S if last else None, running)
        found = last if last and (not ended or running.exception()) else running.result()
        if waiting is not None:
            waiting.discard(key[0])
        return found

    async def close(self) -> None:
        """Nothing: what is known is the process's."""
