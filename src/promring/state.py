"""What outlives a restart: the last good facts and the slices of a shard service, one file each.

Promises: a file is whole or not there (``disk.install``), its content is checked (length, SHA-256) and versioned; one that
is corrupt, cannot be true (``state_checks``) or is newer than this program is set aside under another name and said so, and
promring starts without it. Never a crash because of it, whatever stands in its place. Flow: written by ``reconcile`` before
a delivery, read once at start by ``supervisor``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np

from promring import disk
from promring.core.admission import NEVER as NEVER_YET
from promring.core.admission import History, Standing, State
from promring.core.handover import NEVER, NO_CLAIMS, Claims
from promring.log import Logger
from promring.model import Generation, Members, Scraper, Slice, TargetPool
from promring.state_checks import (
    check_claims,
    check_count,
    check_generation,
    check_members,
    check_pool,
    check_scraper,
    check_slices,
    check_time,
    check_times,
)
from promring.template import file_name
from promring.threads import to_the_end

VERSION = 5
READABLE = (b"5",)
MAGIC = b"promring-state"
NO_GENERATION = Generation(0, 0)
STATE_BYTES_MAX = 1024**3
"""Two million targets or more. A longer one is neither written nor read."""
HEADER_BYTES_MAX = 256
READ_BYTES = 1 << 20
ORPHANS_MOST = 100


class _SavedSlice(msgspec.Struct, array_like=True):
    scraper: Scraper
    generation: Generation
    body: bytes
    targets: int


class _SavedPool(msgspec.Struct, array_like=True):
    """The columns of a source's list as they are in memory: little-endian, 8 bytes a number."""

    ids: bytes
    digests: bytes
    bounds: bytes
    blob: bytes
    duplicates: int
    keys: bytes = b""
    """Empty: the ids."""

    @classmethod
    def of(cls, pool: TargetPool) -> _SavedPool:
        keys, ids, digests, bounds = (
            c.astype(c.dtype.newbyteorder("<")).tobytes() for c in (pool.keys, pool.ids, pool.digests, pool.bounds)
        )
        return cls(ids, digests, bounds, pool.blob, pool.duplicates, b"" if pool.keys is pool.ids else keys)

    def pool(self) -> TargetPool:
        """Raises ValueError when the columns do not belong together."""
        ids, digests = (np.frombuffer(column, dtype="<u8").astype(np.uint64) for column in (self.ids, self.digests))
        bounds = np.frombuffer(self.bounds, dtype="<i8").astype(np.int64)
        keys = np.frombuffer(self.keys, dtype="<u8").astype(np.uint64) if self.keys else ids
        if not len(bounds):
            raise ValueError("corrupt: a source without bounds")
        pool = TargetPool(keys, ids, digests, self.blob, bounds, duplicates=self.duplicates)
        check_pool(pool)
        return pool


class _SavedClaims(msgspec.Struct, array_like=True):
    names: tuple[str, ...]
    ids: bytes
    scrapers: bytes
    held: bytes
    """Index of each claim that ends, and the seconds that were left to it."""
    left: bytes

    @classmethod
    def of(cls, claims: Claims, now: float) -> _SavedClaims:
        held = np.flatnonzero(np.isfinite(claims.until))
        left = np.maximum(0.0, claims.until[held] - now)
        return cls(
            claims.names,
            claims.ids.astype("<u8").tobytes(),
            claims.scrapers.astype("<i4").tobytes(),
            held.astype("<i8").tobytes(),
            left.astype("<f8").tobytes(),
        )

    def claims(self, now: float) -> Claims:
        """Raises ValueError when the columns do not belong together."""
        ids = np.frombuffer(self.ids, dtype="<u8").astype(np.uint64)
        scrapers = np.frombuffer(self.scrapers, dtype="<i4").astype(np.int32)
        held, left = np.frombuffer(self.held, dtype="<i8"), np.frombuffer(self.left, dtype="<f8")
        if len(held) != len(left) or ((held < 0) | (held >= len(ids))).any() or not (np.isfinite(left) & (left >= 0)).all():
            raise ValueError("corrupt: the columns of the claims differ")
        until = np.full(len(ids), NEVER)
        until[held] = now + left
        claims = Claims(self.names, ids, scrapers, np.full(len(ids), -NEVER), until)  # had for long
        check_claims(claims)
        return claims


class _SavedStanding(msgspec.Struct, array_like=True):
    """``joined`` and ``left``: seconds ago, None for never."""

    scraper: Scraper
    planned: bool
    joined: float | None
    left: float | None
    flaps: int

    @classmethod
    def of(cls, one: Standing, now: float) -> _SavedStanding:
        joined, left = (None if at == NEVER_YET else now - at for at in (one.joined_at, one.left_at))
        return cls(one.scraper, one.planned, joined, left, one.flaps)

    def standing(self, now: float) -> Standing:
        """Raises ValueError when it cannot be true."""
        check_scraper(self.scraper)
        check_count(self.flaps, "flaps")
        for ago in (self.joined, self.left):
            if ago is not None:
                check_time(ago, "a standing")
        joined, left = (NEVER_YET if ago is None else now - ago for ago in (self.joined, self.left))
        return Standing(self.scraper, State.IN if self.planned else State.OUT, now, joined, left, self.flaps)


class _File(msgspec.Struct):
    service: str
    members: Members
    sources: dict[str, _SavedPool]
    slices: list[_SavedSlice]
    generation: Generation
    members_at: float
    sources_at: dict[str, float]
    claims: _SavedClaims
    drained: list[str]
    standings: list[_SavedStanding] | None = None
    departing: list[Scraper] = []
    listed: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True)
class Memory:
    """What a shard service knows across a restart or a reload. All empty: it knows nothing."""

    members: Members = ()
    sources: Mapping[str, TargetPool] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    """By scraper id: one a scraper of the last plan."""
    generation: Generation = NO_GENERATION
    claims: Claims = NO_CLAIMS
    """Who has which target in its slice; times are monotonic seconds of this process."""
    drained: frozenset[str] = frozenset()
    """Scrapers that a person drained."""
    history: History = field(default_factory=History)
    """Who counted as alive, who left when and how often; times are monotonic seconds of this process."""
    members_at: float = 0.0
    """When the members were last known, wall-clock seconds."""
    sources_at: Mapping[str, float] = field(default_factory=dict)
    """When each source last gave targets."""
    departing: Members = ()
    """Scrapers that were taken out of the list and were alive: they keep what they have until others scrape it."""
    listed: frozenset[tuple[str, int]] = frozenset()
    """Host and port of the scrapers that the configuration names."""


class Store:
    """The state file of one shard service in ``folder``. ``replaces``: the name that the service had before; its file goes
    when the first one under the new name is written.
    """

    def __init__(self, folder: Path, service: str, log: Logger, *, replaces: str | None = None) -> None:
        self._path = _path(folder, service)
        self._replaced = _path(folder, replaces) if replaces and replaces != service else None
        self._service = service
        self._log = log

    def load(self) -> Memory:
        """What was saved last; an empty ``Memory`` when there is nothing sound."""
        disk.remove_left_overs(self._path.parent)
        try:
            return self._read()
        except FileNotFoundError:
            self._log.info("state_none", path=str(self._path))
        except OSError as error:
            self._log.error("state_unreadable", path=str(self._path), error=error.strerror)
        except Exception as error:  # the one place for whatever a file brings about: a start must not end by it
            what = str(error) if isinstance(error, ValueError) else f"corrupt: {type(error).__name__}: {error}"
            self._set_aside(what)
        return Memory()

    def _read(self) -> Memory:
        """Raises OSError, or for what is not sound ValueError, and whatever a decoder raises."""
        return _decode(_checked(self._path), self._service)

    def _set_aside(self, what: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.bad-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}")
        self._log.error("state_set_aside", path=str(aside), error=what)
        try:
            self._path.rename(aside)
        except OSError as error:
            self._log.error("state_not_set_aside", path=str(self._path), error=error.strerror)

    async def save(self, memory: Memory) -> None:
        """Raises OSError; the last state is still there then."""
        await to_the_end(lambda: self._save(memory))

    def _save(self, memory: Memory) -> None:
        saved = _File(
            service=self._service,
            members=memory.members,
            sources={name: _SavedPool.of(pool) for name, pool in memory.sources.items()},
            slices=[_SavedSlice(s.scraper, s.generation, s.body, s.targets) for s in memory.slices.values()],
            generation=memory.generation,
            members_at=memory.members_at,
            sources_at=dict(memory.sources_at),
            claims=_SavedClaims.of(memory.claims, time.monotonic()),
            drained=sorted(memory.drained),
            standings=[_SavedStanding.of(one, time.monotonic()) for one in memory.history.standings.values()],
            departing=list(memory.departing),
            listed=sorted(memory.listed),
        )
        body = msgspec.msgpack.encode(saved)
        if len(body) > STATE_BYTES_MAX - HEADER_BYTES_MAX:
            raise OSError(errno.EFBIG, f"the state would be {len(body)} bytes", str(self._path))
        digest = hashlib.sha256(body).hexdigest().encode()
        disk.install(self._path, b"%s %d %d %s\n%s" % (MAGIC, VERSION, len(body), digest, body), mode=0o600)
        if self._replaced is not None:
            self._replaced.unlink(missing_ok=True)
            self._replaced = None


class Orphan(NamedTuple):
    """A state file of a service that is not configured: who had how many targets of it."""

    service: str
    path: Path
    scrapers: Mapping[str, int]


def orphans(folder: Path, services: Collection[str], log: Logger) -> list[Orphan]:
    """State files of other services than these, by name. What is no sound one is left out, and left alone. Blocks."""
    known = {_path(folder, name) for name in services}
    found = []
    for path in sorted(set(folder.glob("*.state")) - known)[:ORPHANS_MOST]:
        try:
            saved = msgspec.msgpack.decode(_checked(path), type=_File)
        except (OSError, ValueError) as error:  # decoding errors are ValueErrors, too
            log.warning("state_of_nobody", path=str(path), error=str(error))
            continue
        found.append(Orphan(saved.service, path, {s.scraper.id: s.targets for s in saved.slices}))
    return found


def _path(folder: Path, service: str) -> Path:
    return folder / f"{file_name(service)}.state"


def _checked(path: Path) -> bytes:
    """The sound content of a state file. Raises OSError, or ValueError that says what is wrong."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe does not hold us up
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > STATE_BYTES_MAX:
        os.close(descriptor)
        raise ValueError(f"not a file of at most {STATE_BYTES_MAX} bytes")
    with open(descriptor, "rb") as file:
        return _checked_body(file, found.st_size)


def _checked_body(file: BinaryIO, size: int) -> bytes:
    """The content after the header. It is only kept when its length and digest are those of the header.

    Raises ValueError that says what is wrong.
    """
    header = file.readline(HEADER_BYTES_MAX)
    words = header.split()
    if len(words) != 4 or words[0] != MAGIC or not header.endswith(b"\n"):
        raise ValueError("not a state file")
    if words[1] not in READABLE:
        raise ValueError(f"written by another version of promring (format {words[1].decode('ascii', 'replace')})")
    digest = hashlib.sha256()
    if words[2] == b"%d" % (size - len(header)):
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    if digest.hexdigest().encode() != words[3]:
        raise ValueError("corrupt: length or SHA-256 differ")
    file.seek(len(header))
    return file.read(size - len(header))


def _decode(body: bytes, service: str) -> Memory:
    """Raises ValueError that says what is wrong."""
    try:
        saved = msgspec.msgpack.decode(body, type=_File)
        if saved.service != service:
            raise ValueError(f"it belongs to service {saved.service[:80]!r}")
        slices = [Slice(service, s.scraper, s.generation, s.body, s.targets) for s in saved.slices]
        check_members(saved.members)
        check_generation(saved.generation)
        check_slices(slices, saved.generation)
        check_time(saved.members_at, "members_at")
        check_times(saved.sources_at)
        return Memory(
            saved.members,
            {name: columns.pool() for name, columns in saved.sources.items()},
            {s.scraper.id: s for s in slices},
            saved.generation,
            saved.claims.claims(time.monotonic()),
            frozenset(saved.drained),
            _history(saved),
            saved.members_at,
            saved.sources_at,
            _sound(saved.departing),
            frozenset(saved.listed),
        )
    except msgspec.DecodeError as error:
        raise ValueError(f"corrupt: {error}") from error


def _sound(departing: list[Scraper]) -> Members:
    """Raises ValueError when they cannot be true."""
    check_members(tuple(departing))
    return tuple(departing)


def _history(saved: _File) -> History:
    """Time stood still between the two processes: nobody can say how long it was."""
    if saved.standings is None:
        return History.of(saved.members)
    now = time.monotonic()
    return History({one.scraper.id: one.standing(now) for one in saved.standings})
