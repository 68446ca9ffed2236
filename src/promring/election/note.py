"""The note beside the lock: what the leader tells the other controllers and whoever leads after it."""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec

from promring.model import EPOCH_FOLLOWED_MOST, Failing, Fingerprint, Release, Scraper


class Note(msgspec.Struct):
    """``drained``: scrapers by fleet, as far as the leader knows; an empty list: none. ``lists``: what the plans are made
    of, by shard service and source. ``released``: what a person released lately. ``down``: scrapers by fleet that are
    listed and not in its plan; ``waiting``: those of them that live, and wait to come into it. ``failing``: by fleet,
    which scrapers live and get nothing, or nothing new of a service.
    ``loads``: by fleet, the book of loads that its targets are placed by (``core/loads``).
    """

    leader: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=EPOCH_FOLLOWED_MOST)] = 0
    drained: dict[str, list[str]] = {}
    lists: dict[str, dict[str, Fingerprint]] = {}
    released: dict[str, tuple[Release, ...]] = {}
    down: dict[str, tuple[Scraper, ...]] = {}
    loads: dict[str, bytes] = {}
    failing: dict[str, Failing] = {}
    waiting: dict[str, tuple[str, ...]] = {}

    def who_is_drained(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(ids) for name, ids in self.drained.items()}

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode(text: bytes | None) -> Note | None:
    """None: there is no note, or it is something else, which the next leader overwrites."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(text or b"", type=Note)
    return None
