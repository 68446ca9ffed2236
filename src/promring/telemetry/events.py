"""The newest events, kept in memory for the API and the page: what the log says, one event a decision.

``Events.keep`` is a processor of the log; what the log's level leaves out is not kept either. Lines of libraries and about
clients, which have a ``logger``, are no decisions: strangers could push all others out with them. They are not kept. Ids
climb by one from 1 and begin anew with the process. Bounded: ``KEPT`` events, values cut at ``VALUE_MOST`` characters.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from promring.runtime.text import clean

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

KEPT = 1000
VALUE_MOST = 1000
_NOT_FIELDS = frozenset({"ts", "level", "caller", "msg", "service", "fleet", "srv_name", "exception", "pid"})


@dataclass(frozen=True, slots=True)
class Event:
    """``at``: when, in UTC as the log has it. ``level``: info, warn or error. ``service``: empty when about a whole
    fleet, or about the process; ``fleet``: empty when about the process, or a service by itself.
    """

    id: int
    at: str
    level: str
    msg: str
    service: str
    fleet: str = ""
    fields: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class About:
    """Of which events: those of these services, and those of the fleet that are of no one service."""

    services: Collection[str]
    fleet: str

    def has(self, event: Event) -> bool:
        return event.service in self.services or (not event.service and event.fleet == self.fleet)


class Events:
    """A ring of events. ``keep`` may be called from any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[Event] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self.last = 0
        """Id of the newest; 0 when there was none."""

    def keep(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """A processor: the event as it was given."""
        if event["level"] != "debug" and "logger" not in event:
            with self._lock:
                self.last += 1
                fields = {name: _plain(value) for name, value in event.items() if name not in _NOT_FIELDS}
                service, fleet = str(event.get("service", "")), str(event.get("fleet", ""))
                self._kept.append(Event(self.last, event["ts"], event["level"], event["msg"], service, fleet, fields))
        return event

    def since(self, last: int = 0, about: About | None = None) -> list[Event]:
        """Those after the id ``last``, oldest first. An id that was never given is of a process before: then all."""
        with self._lock:
            after = last if last <= self.last else 0
            return [e for e in self._kept if e.id > after and (about is None or about.has(e))]


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, int | float | bool):
        return value
    text = clean(str(value))
    return text if len(text) <= VALUE_MOST else f"{text[:VALUE_MOST]}…"
