"""Logging: one event a decision, logfmt or JSON, every line with ``ts level caller msg`` first.

Promises: lines of libraries (asyncio, aiohttp) come out in the same form; nothing is written before ``configure``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("debug", "info", "warn", "error")
Logger = structlog.typing.FilteringBoundLogger


def configure(level: str = "info", fmt: str = "logfmt", stream: TextIO | None = None, keep: Processor | None = None) -> None:
    """``level`` of ``LEVELS``; ``fmt`` ``logfmt`` or ``json``; ``stream`` stderr unless told; ``keep`` sees each event."""
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
    """One line an event: newlines in values are written as ``\\n`` by JSON, and as `` | `` in logfmt."""
    return {k: " | ".join(v.splitlines()) if isinstance(v, str) and "\n" in v else v for k, v in event.items()}


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

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"caller": f"{record.filename}:{record.lineno}", "logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        get().log(record.levelno, record.getMessage(), **fields)
