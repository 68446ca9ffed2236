"""What the fake Consul keeps: services with their checks, keys, and sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Check:
    """``url`` is asked every ``every_s``; without one it is a TTL check of ``every_s``."""

    every_s: float
    status: str
    url: str = ""
    gone_after_s: float = 0.0
    due_at: float = 0.0
    critical_since: float = 0.0


@dataclass
class Entry:
    definition: dict[str, Any]
    check: Check


@dataclass
class Key:
    value: str = ""
    session: str = ""
    modify_index: int = 0


@dataclass
class Session:
    id: str
    check: str
    """Id of the service whose check it is bound to."""
    owner: str
    lock_delay_s: float
    behavior: str
    ttl_s: float
    renewed_at: float
