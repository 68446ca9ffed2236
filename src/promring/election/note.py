"""The note beside the lock: what the leader tells the other controllers and whoever leads after it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Annotated

import msgspec

from promring.model import EPOCH_FOLLOWED_MOST, Failing, Fingerprint, Release, Scraper


class Told(msgspec.Struct, frozen=True):
    """What a leader tells, by fleet or by shard service:

    - ``drained``: scrapers that a person drained; None: each controller goes by what it knows.
    - ``lists``: of each source of a service, what its plan is made of.
    - ``released``: what a person released lately, by service, or as ``fleet:NAME``.
    - ``down``: scrapers that are listed and not in the plan; ``waiting``: those of them that live, and wait to come in.
    - ``loads``: the book of loads that targets are placed by (``core/loads``); empty: by their number.
    - ``failing``: scrapers that live and get nothing, or nothing new of a service.
    """

    drained: Mapping[str, frozenset[str]] | None = None
    lists: Mapping[str, Mapping[str, Fingerprint]] = {}
    released: Mapping[str, tuple[Release, ...]] = {}
    down: Mapping[str, tuple[Scraper, ...]] = {}
    waiting: Mapping[str, tuple[str, ...]] = {}
    loads: Mapping[str, bytes] = {}
    failing: Mapping[str, Failing] = {}


class Note(Told, frozen=True, kw_only=True):
    """What is told, and by whom. ``leader``: its name, for people."""

    leader: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=EPOCH_FOLLOWED_MOST)] = 0

    @classmethod
    def of(cls, leader: str, epoch: int, told: Told) -> Note:
        return cls(leader=leader, epoch=epoch, **msgspec.structs.asdict(told))

    @property
    def told(self) -> Told:
        return Told(**{name: getattr(self, name) for name in Told.__struct_fields__})

    def encode(self) -> bytes:
        """The same bytes for the same note."""
        return msgspec.json.encode(self, order="deterministic")


def decode(text: bytes | None) -> Note | None:
    """None: there is no note, or it is something else, which the next leader overwrites."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(text or b"", type=Note)
    return None
