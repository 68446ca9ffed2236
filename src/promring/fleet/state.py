"""What outlives a restart: the last good facts and the slices of a fleet, one file each.

Promises: a file is whole or not there (``disk.install``), its content is checked (length, SHA-256) and versioned; one that
is corrupt, cannot be true (``state_checks``) or is newer than this program is set aside under another name and said so, and
promring starts without it. Never a crash because of it, whatever stands in its place. Flow: written by ``reconcile`` before
a delivery, read once at start by ``supervisor``.
"""

from __future__ import annotations

import contextlib
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

from promring.core.admission import NEVER as NEVER_YET
from promring.core.admission import History, Standing, State
from promring.core.claims import NEVER, NO_CLAIMS, Claims
from promring.fleet.state_checks import (
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
from promring.model import Generation, Members, Scraper, Slice, TargetPool
from promring.runtime import disk
from promring.runtime.paths import file_name
from promring.runtime.threads import to_the_end
from promring.telemetry.log import Logger

VERSION = 6
READABLE = (b"6",)
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


class _SavedService(msgspec.Struct, array_like=True):
    sources: dict[str, _SavedPool]
    slices: list[_SavedSlice]
    sources_at: dict[str, float]

    @classmethod
    def of(cls, memory: ServiceMemory) -> _SavedService:
        return cls(
            {name: _SavedPool.of(pool) for name, pool in memory.sources.items()},
            [_SavedSlice(s.scraper, s.generation, s.body, s.targets) for s in memory.slices.values()],
            dict(memory.sources_at),
        )

    def memory(self, service: str, newest: Generation) -> ServiceMemory:
        """Raises ValueError when it cannot be true."""
        slices = [Slice(service, s.scraper, s.generation, s.body, s.targets) for s in self.slices]
        check_slices(slices, newest)
        check_times(self.sources_at)
        pools = {name: columns.pool() for name, columns in self.sources.items()}
        return ServiceMemory(pools, {s.scraper.id: s for s in slices}, self.sources_at)


class _File(msgspec.Struct):
    fleet: str
    members: Members
    services: dict[str, _SavedService]
    generation: Generation
    members_at: float
    claims: _SavedClaims
    drained: list[str]
    standings: list[_SavedStanding] | None = None
    departing: list[Scraper] = []
    listed: list[tuple[str, int]] = []
    catalogue: list[Scraper] = []


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """Of one shard service: the lists that its plan was made of, and its slices. All empty: there is no plan."""

    sources: Mapping[str, TargetPool] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    """By scraper id: one a scraper of the last plan."""
    sources_at: Mapping[str, float] = field(default_factory=dict)
    """When each source last gave targets, wall-clock seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a fleet knows across a restart or a reload. All empty: it knows nothing."""

    members: Members = ()
    services: Mapping[str, ServiceMemory] = field(default_factory=dict)
    generation: Generation = NO_GENERATION
    claims: Claims = NO_CLAIMS
    """Who has which target in its slice, by the ids of the fleet; times are monotonic seconds of this process."""
    drained: frozenset[str] = frozenset()
    """Scrapers that a person drained."""
    history: History = field(default_factory=History)
    """Who counted as alive, who left when and how often; times are monotonic seconds of this process."""
    members_at: float = 0.0
    """When the members were last known, wall-clock seconds."""
    departing: Members = ()
    """Scrapers that were taken out of the list and were alive: they keep what they have until others scrape it."""
    listed: frozenset[tuple[str, int]] = frozenset()
    """Host and port of the scrapers that the configuration names."""
    catalogue: Members = ()
    """Who was listed, alive or not, as the membership said it last: what the plan was made over."""

    def of(self, service: str) -> ServiceMemory:
        return self.services.get(service, NO_PLAN)

    def newest(self, service: str) -> Generation:
        """Of its slices."""
        return max((s.generation for s in self.of(service).slices.values()), default=NO_GENERATION)

    @property
    def planned(self) -> bool:
        """Whether there is a plan of any service."""
        return any(one.slices for one in self.services.values())

    @property
    def every_slice(self) -> list[Slice]:
        return [s for one in self.services.values() for s in one.slices.values()]

    def targets(self) -> dict[str, int]:
        """By scraper: how many targets its slices have, of all services."""
        counts: dict[str, int] = {}
        for s in self.every_slice:
            counts[s.scraper.id] = counts.get(s.scraper.id, 0) + s.targets
        return counts


NO_PLAN = ServiceMemory()


class Store:
    """The state file of one fleet in ``folder``. ``replaces``: names of fleets that are no more, each with those that go on
    with what it knew and have not saved that yet; its file goes when all have. The stores of those share the sets.
    """

    def __init__(self, folder: Path, fleet: str, log: Logger, *, replaces: Mapping[str, set[str]] | None = None) -> None:
        self._path = _path(folder, fleet)
        self._replaced = {_path(folder, name): unsaved for name, unsaved in (replaces or {}).items()}
        self._fleet = fleet
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
        return _decode(_checked(self._path), self._fleet)

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
            fleet=self._fleet,
            members=memory.members,
            services={name: _SavedService.of(one) for name, one in memory.services.items()},
            generation=memory.generation,
            members_at=memory.members_at,
            claims=_SavedClaims.of(memory.claims, time.monotonic()),
            drained=sorted(memory.drained),
            standings=[_SavedStanding.of(one, time.monotonic()) for one in memory.history.standings.values()],
            departing=list(memory.departing),
            listed=sorted(memory.listed),
            catalogue=list(memory.catalogue),
        )
        body = msgspec.msgpack.encode(saved)
        if len(body) > STATE_BYTES_MAX - HEADER_BYTES_MAX:
            raise OSError(errno.EFBIG, f"the state would be {len(body)} bytes", str(self._path))
        digest = hashlib.sha256(body).hexdigest().encode()
        disk.install(self._path, b"%s %d %d %s\n%s" % (MAGIC, VERSION, len(body), digest, body), mode=0o600)
        for path, unsaved in self._replaced.items():
            unsaved.discard(self._fleet)
            if not unsaved and path != self._path:
                path.unlink(missing_ok=True)
        self._replaced = {}


class Orphan(NamedTuple):
    """A shard service in a state file that is not configured: who had how many targets of it."""

    service: str
    path: Path
    scrapers: Mapping[str, int]
    live: bool = False
    """Whether the file is that of a configured fleet, which forgets it."""


def orphans(folder: Path, fleets: Mapping[str, Collection[str]], log: Logger) -> list[Orphan]:
    """What state files have of other services than these, by fleet. What is no sound file is left out, and left alone.
    Blocks.
    """
    known = {_path(folder, name): services for name, services in fleets.items()}
    every = {service for services in fleets.values() for service in services}
    found = []
    for path in sorted(folder.glob("*.state"))[:ORPHANS_MOST]:
        try:
            saved = msgspec.msgpack.decode(_checked(path), type=_File)
        except (OSError, ValueError) as error:  # decoding errors are ValueErrors, too
            if path not in known:
                log.warning("state_of_nobody", path=str(path), error=str(error))
            continue
        gone = {name: one for name, one in saved.services.items() if one.slices and name not in every}
        counts = {name: {s.scraper.id: s.targets for s in one.slices} for name, one in gone.items()}
        found += [Orphan(name, path, scrapers, path in known) for name, scrapers in counts.items()]
    return found


class _Names(msgspec.Struct):
    """Whose a state file is."""

    fleet: str
    services: dict[str, msgspec.Raw]


def strays(folder: Path, fleets: Mapping[str, Collection[str]], log: Logger) -> dict[str, Memory]:
    """What state files of other fleets than these know that have services of these, by the name of the fleet: a start with
    another configuration goes on with the newest that is known of each. Blocks.
    """
    known = {_path(folder, name) for name in fleets}
    others = [path for path in sorted(folder.glob("*.state"))[:ORPHANS_MOST] if path not in known]
    wanted = {service for services in fleets.values() for service in services}
    found: dict[str, Memory] = {}
    for path in others:
        with contextlib.suppress(OSError, ValueError):  # ``orphans`` says what is no sound file
            names = _names(path)
            if names.services.keys() & wanted and path == _path(folder, names.fleet):
                found[names.fleet] = Store(folder, names.fleet, log).load()
    return found


def _names(path: Path) -> _Names:
    """Raises OSError, or ValueError, as ``_checked``."""
    return msgspec.msgpack.decode(_checked(path), type=_Names)


def _path(folder: Path, fleet: str) -> Path:
    return folder / f"{file_name(fleet)}.state"


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


def _decode(body: bytes, fleet: str) -> Memory:
    """Raises ValueError that says what is wrong."""
    try:
        saved = msgspec.msgpack.decode(body, type=_File)
        if saved.fleet != fleet:
            raise ValueError(f"it belongs to fleet {saved.fleet[:80]!r}")
        check_members(saved.members)
        check_generation(saved.generation)
        check_time(saved.members_at, "members_at")
        return Memory(
            saved.members,
            {name: one.memory(name, saved.generation) for name, one in saved.services.items()},
            saved.generation,
            saved.claims.claims(time.monotonic()),
            frozenset(saved.drained),
            _history(saved),
            saved.members_at,
            _sound(saved.departing),
            frozenset(saved.listed),
            _sound(saved.catalogue),
        )
    except msgspec.DecodeError as error:
        raise ValueError(f"corrupt: {error}") from error


def _sound(scrapers: list[Scraper]) -> Members:
    """Raises ValueError when they cannot be true."""
    check_members(tuple(scrapers))
    return tuple(scrapers)


def _history(saved: _File) -> History:
    """Time stood still between the two processes: nobody can say how long it was."""
    if saved.standings is None:
        return History.of(saved.members)
    now = time.monotonic()
    return History({one.scraper.id: one.standing(now) for one in saved.standings})
