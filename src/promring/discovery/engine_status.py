"""What a Prometheus says of itself: its configuration, since when it runs, what time it is there. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

import msgspec

from promring.discovery.engine_config import Job, jobs_of
from promring.model import DiscoveryError


class _RuntimeInfo(msgspec.Struct, rename="camel"):
    start_time: str = ""
    last_config_time: str = ""
    server_time: str = ""
    """Since Prometheus 3: its own clock, where a proxy writes a ``Date`` of its own."""


class _RuntimeAnswer(msgspec.Struct):
    data: _RuntimeInfo


class _Config(msgspec.Struct):
    yaml: str


class _ConfigAnswer(msgspec.Struct):
    data: _Config


def jobs_in(body: bytes) -> Mapping[str, Job]:
    """Of an answer of ``/api/v1/status/config``. Raises ``DiscoveryError``."""
    try:
        return jobs_of(msgspec.json.decode(body, type=_ConfigAnswer).data.yaml)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DiscoveryError(f"/api/v1/status/config is malformed: {_short(error)}") from None


def life_in(body: bytes, date: str) -> tuple[str, str, float]:
    """``EngineAnswer.life``, ``loaded`` and ``age_s``, of an answer of ``/api/v1/status/runtimeinfo`` that was made on this
    ``date``. Raises ``DiscoveryError``.
    """
    try:
        info = msgspec.json.decode(body, type=_RuntimeAnswer).data
        now = datetime.fromisoformat(info.server_time) if info.server_time else parsedate_to_datetime(date)
        began = max(datetime.fromisoformat(text) for text in (info.start_time, info.last_config_time) if text)
        return info.start_time, f"{info.start_time} {info.last_config_time}", max(0.0, (now - began).total_seconds())
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DiscoveryError(f"/api/v1/status/runtimeinfo is malformed: {_short(error)}") from None


def time_of(date: str) -> float:
    """Seconds since the epoch; those of here where ``date`` is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return time.time()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
