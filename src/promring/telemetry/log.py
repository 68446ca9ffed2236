"""Logging: one event a decision, logfmt or JSON, every line with ``ts level caller msg`` first.

Promises: lines of libraries (asyncio, aiohttp) come out in the same form, at most one a minute from one place of theirs, as
strangers can bring some of them about; any text can be written; nothing is written before ``configure``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, cast

from promring.runtime.text import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    Logger = FilteringBoundLogger
else:  # it takes 0.1 s of CPU to load, and a command that checks a configuration logs nothing
    Logger = object

LIBRARY_LINES_S = 60.0
"""A library's line that was written is not written again for this long."""
PLACES_MOST = 1000
LEVELS = ("debug", "info", "warn", "error")


def configure(level: str = "info", fmt: str = "logfmt", stream: TextIO | None = None, keep: Processor | None = None) -> None:
    """``level`` of ``LEVELS``; ``fmt`` ``logfmt`` or ``json``; ``stream`` stderr unless told; ``keep`` sees each event."""
    import structlog

    render: Processor
    if fmt == "json":
        render = structlog.processors.JSONRenderer(default=str, sort_keys=False)
    else:
        render = structlog.processors.LogfmtRenderer(key_order=["ts", "level", "caller", "msg"], bool_as_flag=False)
    number = {"warn": logging.WARNING}.get(level) or logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.CallsiteParameterAdder(
                {structlog.processors.CallsiteParameter.FILENAME, structlog.processors.CallsiteParameter.LINENO}
            ),
            _first_keys,
            structlog.processors.format_exc_info,
            _flat,
            *([keep] if keep else []),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Patient(stream or sys.stderr))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(number, logging.WARNING))


def get() -> Logger:
    import structlog

    logger: Logger = structlog.get_logger()
    return logger


def difference(old: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """Fields for a line about a set that changed: who ``joined`` and who ``left``. In a long list nobody sees that."""
    before, now = set(old), set(new)
    return {"joined": ",".join(sorted(now - before)), "left": ",".join(sorted(before - now))}


def _first_keys(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    filename, line = event.pop("filename", "?"), event.pop("lineno", 0)
    caller = event.pop("caller", None) or f"{filename}:{line}"
    level = {"warning": "warn", "critical": "error", "exception": "error"}.get(method, method)
    return {"ts": now, "level": level, "caller": caller, "msg": event.pop("event"), **event}


def _flat(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """One line an event, of texts that any stream takes: lines are joined by `` | ``, what cannot be printed is escaped."""
    return {k: _printable(v) if isinstance(v, str) else v for k, v in event.items()}


def _printable(text: str) -> str:
    return text if text.isprintable() else printable(" | ".join(text.splitlines()))


class _Patient:
    """A stream that may fail: a full disk or a reader that went away must not end what is logged about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Bridge(logging.Handler):
    """Carries records of the standard library's logging over."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[tuple[str, int, str], tuple[float, int]] = {}
        """When a place's line was written, and how many were not since."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        place, now = (record.pathname, record.lineno, kind), time.monotonic()
        then, unwritten = self._written.get(place, (-LIBRARY_LINES_S, 0))
        if now - then < LIBRARY_LINES_S:
            self._written[place] = then, unwritten + 1
            return
        while len(self._written) >= PLACES_MOST:
            del self._written[next(iter(self._written))]
        self._written[place] = now, 0
        fields: dict[str, Any] = {"caller": f"{record.filename}:{record.lineno}", "logger": record.name}
        if unwritten:
            fields["unwritten"] = unwritten
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        get().log(record.levelno, record.getMessage(), **fields)
