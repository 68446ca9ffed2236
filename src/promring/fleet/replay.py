"""From the frames of a state file back to the memory of a fleet: the way back of ``records``.

The frames are applied to ropes, which only know where in the file everything is; the long columns are read once, at the end.
Promises: what comes out can be true (``state_checks``), or ``ValueError`` says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from promring.core.claims import Claims
from promring.core.idle import Idle, IdleJobs
from promring.core.loads import LoadBook, decode
from promring.core.second_opinion import SecondOpinions
from promring.core.standing import History, Standing, State
from promring.core.trials import Trial
from promring.core.unresponsive import NO_ANSWERS, Answers
from promring.fleet.journal import Frame
from promring.fleet.records import (
    ClaimsRecord,
    OpinionsRecord,
    Part,
    PoolRecord,
    Record,
    ServiceRecord,
    SliceRecord,
    StandingRecord,
    Written,
)
from promring.fleet.state import NO_GENERATION, Memory, ServiceMemory
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
from promring.fleet.stretches import Rope, decoded
from promring.model import LONG_AGO, NEVER_ENDS, NONE_FAILING, Failing, Generation, Members, Scraper, Slice, TargetPool

INDEX_BYTES_MAX = 256 << 20
Read = Callable[[int, int], bytes]
N = TypeVar("N", bound=np.generic)
_index = msgspec.msgpack.Decoder(Record)
_NO_ROPE = Rope.of(0, 0)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where the parts of a frame are in the file."""

    start: int
    end: int

    def patched(self, old: Rope, packed: bytes | None, part: Part, size: int) -> Rope:
        """``size``: bytes of a row."""
        start, most = self.start + part.at, self.end - self.start
        if not 0 <= part.at <= most or not 0 <= part.size <= most - part.at:
            raise ValueError("corrupt: a part that is not there")
        if packed is None:
            return Rope.of(start, part.size)
        return old.patched(decoded(packed) * size, start, part.size)


@dataclass(slots=True)
class _Pool:
    """``keys``: None: the ids."""

    ids: Rope = _NO_ROPE
    digests: Rope = _NO_ROPE
    lengths: Rope = _NO_ROPE
    blob: Rope = _NO_ROPE
    keys: Rope | None = None
    duplicates: int = 0

    def read(self, read: Read) -> TargetPool:
        """Raises ValueError when the columns do not belong together."""
        ids, digests = (_numbers(rope.read(read), "<u8", np.uint64) for rope in (self.ids, self.digests))
        keys = ids if self.keys is None else _numbers(self.keys.read(read), "<u8", np.uint64)
        lengths = _numbers(self.lengths.read(read), "<i8", np.int64)
        if (lengths < 0).any() or (lengths > len(self.blob)).any():
            raise ValueError("corrupt: lengths of targets")
        bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        pool = TargetPool(keys, ids, digests, self.blob.read(read), bounds, duplicates=self.duplicates)
        check_pool(pool)
        return pool


@dataclass(slots=True)
class _Slice:
    scraper: Scraper
    generation: Generation
    targets: int
    body: Rope


@dataclass(slots=True)
class _Service:
    sources: dict[str, _Pool] = field(default_factory=dict)
    slices: dict[str, _Slice] = field(default_factory=dict)
    sources_at: Mapping[str, float] = field(default_factory=dict)

    def read(self, service: str, newest: Generation, read: Read) -> ServiceMemory:
        """Raises ValueError when it cannot be true."""
        slices = [Slice(service, s.scraper, s.generation, s.body.read(read), s.targets) for s in self.slices.values()]
        check_slices(slices, newest)
        check_times(self.sources_at)
        pools = {name: pool.read(read) for name, pool in self.sources.items()}
        return ServiceMemory(pools, {s.scraper.id: s for s in slices}, self.sources_at)


@dataclass(slots=True)
class _Claims:
    names: tuple[str, ...] = ()
    ids: Rope = _NO_ROPE
    scrapers: Rope = _NO_ROPE
    until: Rope = _NO_ROPE

    def apply(self, record: ClaimsRecord, names: dict[str, int], parts: _Parts) -> None:
        """``names``: those of the file; new ones come to it."""
        self.names = self.names if record.names is None else record.names
        for name in self.names:
            names.setdefault(name, len(names))
        self.ids = parts.patched(self.ids, record.rows, record.ids, 8)
        self.scrapers = parts.patched(self.scrapers, record.rows, record.scrapers, 4)
        self.until = parts.patched(self.until, record.rows, record.until, 8)

    def read(self, every: list[str], read: Read, clock: float, now: float) -> Claims:
        """Time stood still between the two processes: nobody can say how long it was."""
        ids, until = _numbers(self.ids.read(read), "<u8", np.uint64), _numbers(self.until.read(read), "<f8", np.float64)
        numbers = _numbers(self.scrapers.read(read), "<i4", np.int32)
        index = {name: i for i, name in enumerate(self.names)}
        if ((numbers < 0) | (numbers >= len(every))).any() or len(until) != len(ids) or np.isnan(until).any():
            raise ValueError("corrupt: the columns of the claims differ")
        scrapers = np.array([index.get(name, -1) for name in every] or [0], dtype=np.int32)[numbers]
        held = until != NEVER_ENDS
        until[held] = np.maximum(until[held] - clock, 0.0) + now
        claims = Claims(self.names, ids, scrapers, np.full(len(ids), LONG_AGO), until)  # had for long
        check_claims(claims)
        return claims


@dataclass(slots=True)
class Replayed:
    """What the frames say, an attribute for each of those of ``Record``, before anything long is read. Each ``apply`` raises
    ValueError for what cannot be.
    """

    fleet: str = ""
    generation: Generation = NO_GENERATION
    clock: float = 0.0
    members_at: float = 0.0
    services: dict[str, _Service] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    """The number of each scraper that the file ever named."""
    claims: _Claims = field(default_factory=_Claims)
    standings: dict[str, StandingRecord] = field(default_factory=dict)
    panic_since: float | None = None
    silent_since: float | None = None
    members: Members = ()
    drained: frozenset[str] = frozenset()
    departing: Members = ()
    listed: frozenset[tuple[str, int]] = frozenset()
    catalogue: Members = ()
    loads: bytes = b""
    opinions: OpinionsRecord = field(default_factory=OpinionsRecord)
    undelivered: Failing = NONE_FAILING
    answers: Answers = NO_ANSWERS
    unlooked: bool = False

    def apply(self, record: Record, parts: _Parts) -> None:
        """The next frame."""
        self.fleet, self.generation = record.fleet, record.generation
        self.clock, self.members_at, self.unlooked = record.clock, record.members_at, record.unlooked
        self.names |= {name: len(self.names) + i for i, name in enumerate(record.names)}
        self.services = {name: self._service(name, one, parts) for name, one in record.services}
        if record.claims is not None:
            self.claims.apply(record.claims, self.names, parts)
        for name in record.forgotten:
            self.standings.pop(name, None)
        self.standings |= {one.scraper.id: one for one in record.standings}
        self.panic_since, self.silent_since = record.panic_since, record.silent_since
        self.members = self.members if record.members is None else record.members
        self.drained = self.drained if record.drained is None else frozenset(record.drained)
        self.departing = self.departing if record.departing is None else record.departing
        self.listed = self.listed if record.listed is None else frozenset(record.listed)
        self.catalogue = self.catalogue if record.catalogue is None else record.catalogue
        self.loads = self.loads if record.loads is None else record.loads
        self.opinions = self.opinions if record.opinions is None else record.opinions
        self.undelivered = self.undelivered if record.undelivered is None else record.undelivered
        self.answers = self.answers if record.answers is None else record.answers

    def _service(self, name: str, record: ServiceRecord, parts: _Parts) -> _Service:
        old = self.services.get(name) or _Service()
        slices = {n: one for n, one in old.slices.items() if n not in record.gone}
        fresh = [one.scraper.id for one in record.slices]
        if len(set(fresh)) < len(fresh):
            raise ValueError("corrupt: a slice is there twice")
        for one in record.slices:
            slices[one.scraper.id] = _slice(slices.get(one.scraper.id), one, parts)
        sources = {n: _pool(old.sources.get(n), one, parts) for n, one in record.sources}
        return _Service(sources, slices, record.sources_at)

    def written(self, read: Read, now: float) -> Written:
        """All of it, as of ``now`` (monotonic seconds). Raises ValueError when it cannot be true."""
        check_members(self.members)
        check_members(self.departing)
        check_members(self.catalogue)
        check_generation(self.generation)
        check_time(self.members_at, "members_at")
        check_time(self.clock, "the clock")
        memory = Memory(
            self.members,
            {name: one.read(name, self.generation, read) for name, one in self.services.items()},
            self.generation,
            self.claims.read(list(self.names), read, self.clock, now),
            self.drained,
            History(
                {name: _standing(one, self.clock, now) for name, one in self.standings.items()},
                _moment(self.panic_since, self.clock, now),
                _moment(self.silent_since, self.clock, now),
            ),
            self.members_at,
            self.departing,
            self.listed,
            self.catalogue,
            _book(self.loads),
            _opinions(self.opinions, self.clock, now),
            self.undelivered,
            self.answers,
            unlooked=self.unlooked,
        )
        return Written(memory, tuple(self.names))


def _pool(old: _Pool | None, record: PoolRecord | None, parts: _Parts) -> _Pool:
    if record is None:
        if old is None:
            raise ValueError("corrupt: a list that is not there is the same")
        return old
    old = old or _Pool()
    ids, digests, lengths = (
        parts.patched(rope, record.rows, part, 8)
        for rope, part in ((old.ids, record.ids), (old.digests, record.digests), (old.lengths, record.lengths))
    )
    blob = parts.patched(old.blob, record.stretches, record.blob, 1)
    keys = None if record.keys is None else parts.patched(old.keys or _NO_ROPE, record.rows, record.keys, 8)
    return _Pool(ids, digests, lengths, blob, keys, record.duplicates)


def _slice(old: _Slice | None, record: SliceRecord, parts: _Parts) -> _Slice:
    body = parts.patched(old.body if old else _NO_ROPE, record.stretches, record.body, 1)
    return _Slice(record.scraper, record.generation, record.targets, body)


def _standing(one: StandingRecord, clock: float, now: float) -> Standing:
    """Time stood still, as for claims. Raises ValueError when it cannot be true."""
    check_scraper(one.scraper)
    check_count(one.flaps, "flaps")
    times = [_moment(at, clock, now) for at in (one.since, one.joined, one.left, one.answered)]
    since, joined, left, answered = (LONG_AGO if at is None else at for at in times)
    return Standing(one.scraper, State(one.state), since, joined, left, one.flaps, answered)


def _moment(at: float | None, clock: float, now: float) -> float | None:
    """A time of the file as a monotonic one. Raises ValueError when it cannot be true."""
    if at is not None:
        check_time(at - clock, "a standing")
    return None if at is None else at - clock + now


def _opinions(one: OpinionsRecord, clock: float, now: float) -> SecondOpinions:
    """Time stood still, as for claims; who tries a target shall be seen doing so from now on. Raises ValueError when it
    cannot be true.
    """
    for key, count in (*((key, failed) for key, _, failed in one.trials), *((key, 0) for key, *_ in one.again_at)):
        check_count(count, "looks")
        if not 0 <= key < 2**64:
            raise ValueError(f"corrupt: {key} is no target")
    for _, at, pause_s in one.again_at:
        check_time(at - clock, "a pause")
        check_time(pause_s, "a pause")
    for _, sick in one.scrapers:
        check_time(sick.until - clock, "who is sick")
        check_time(sick.pause_s, "who is sick")
    for *_, lacking, given in one.idle:
        check_count(lacking, "targets")
        check_count(given - lacking, "targets")
    return SecondOpinions(
        trials={key: Trial(name, now, failed) for key, name, failed in one.trials},
        again_at={key: (at - clock + now, pause_s) for key, at, pause_s in one.again_at},
        scrapers={name: replace(sick, until=sick.until - clock + now) for name, sick in one.scrapers},
        jobs=IdleJobs(idle={(service, name): Idle(*counts) for service, name, *counts in one.idle}),
    )


def _book(packed: bytes) -> LoadBook | None:
    """Raises ValueError when it is none."""
    if not packed:
        return None
    if (book := decode(packed)) is None:
        raise ValueError("corrupt: the loads are no book")
    return book


def _numbers(packed: bytes, kind: str, native: type[N]) -> npt.NDArray[N]:
    return np.frombuffer(packed, dtype=kind).astype(native)


def replayed(file: BinaryIO, frames: Sequence[Frame]) -> Replayed:
    """Raises OSError, or ValueError that says what is wrong."""
    found = Replayed()
    for frame in frames:
        size = int.from_bytes(os.pread(file.fileno(), 8, frame.at), "little")
        if size > min(frame.size - 8, INDEX_BYTES_MAX):
            raise ValueError("corrupt: an index longer than its frame")
        try:
            record = _index.decode(os.pread(file.fileno(), size, frame.at + 8))
        except msgspec.DecodeError as error:
            raise ValueError(f"corrupt: {error}") from error
        found.apply(record, _Parts(frame.at + 8 + size, frame.end))
    return found


def reader(file: BinaryIO) -> Read:
    """So many bytes from there; a short read is an error."""

    def read(at: int, size: int) -> bytes:
        chunks = []
        while size:
            chunk = os.pread(file.fileno(), size, at)
            if not chunk:
                raise ValueError("corrupt: the file ends before its last column")
            chunks.append(chunk)
            at, size = at + len(chunk), size - len(chunk)
        return b"".join(chunks)

    return read
