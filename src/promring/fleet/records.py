"""What a frame of a state file says: the whole memory of a fleet, or what is different from the one before it.

A body is an index in MessagePack, with its length in 8 bytes before it, and then the long columns as they are in memory,
little-endian: the index says where each is. So nothing long is copied to be saved. In a change, a list is told by the
stretches that it shares with the one before (``stretches``), and the rest; None stands for what is the same.

``Recorder`` makes frames, ``replay`` is the way back. Times are seconds of the file's own clock, which stands still while
nobody writes: monotonic seconds of the process, and a shift that makes it go on where the last process left it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from promring.core.claims import Claims
from promring.core.loads import encode
from promring.core.second_opinion import SecondOpinions, Sick
from promring.core.standing import Standing
from promring.core.unresponsive import Answers
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.stretches import (
    Column,
    Stretches,
    between,
    encoded,
    in_bytes,
    left_of,
    literal,
    of_lines,
    rows_left,
    same_bytes,
)
from promring.model import LONG_AGO, Failing, Generation, Members, Owners, Scraper, Slice, TargetPool
from promring.runtime.disk import Buffer

ANSWERED_APART_S = 10.0
"""A later answer of a scraper that is said to be gone is saved when it is so much later: else each look would be."""
NAMES_SPARE, NAMES_LEAST = 2, 1000
WHOLE_BYTES = 2048
"""A slice that is not longer is told whole: to find what changed in it costs 0.1 ms, to write it a tenth of that."""


class Part(msgspec.Struct, array_like=True, tag="part"):
    """A column, or what of it is new: where it begins behind the index, and its bytes."""

    at: int
    size: int


class PoolRecord(msgspec.Struct, array_like=True):
    """A source's list. ``rows``, ``stretches``: the stretches of its rows, and of its blob; None: it is told whole."""

    rows: bytes | None
    stretches: bytes | None
    ids: Part
    digests: Part
    lengths: Part
    blob: Part
    duplicates: int
    keys: Part | None = None
    """None: the ids."""


class SliceRecord(msgspec.Struct, array_like=True):
    """``stretches``: those of its body; None: it is told whole."""

    scraper: Scraper
    generation: Generation
    targets: int
    stretches: bytes | None
    body: Part


class ServiceRecord(msgspec.Struct, array_like=True):
    """``sources``: all, in order; ``slices``: those that are new or different; ``gone``: whose are no more."""

    sources: list[tuple[str, PoolRecord | None]]
    slices: list[SliceRecord]
    gone: list[str]
    sources_at: dict[str, float]


class ClaimsRecord(msgspec.Struct, array_like=True):
    """``names``: None, as before. Scrapers are numbers in the list of all names that the file ever had, in order."""

    names: tuple[str, ...] | None
    rows: bytes | None
    ids: Part
    scrapers: Part
    until: Part


class StandingRecord(msgspec.Struct, array_like=True):
    """Times are the file's; None for never."""

    scraper: Scraper
    state: str
    since: float | None
    joined: float | None
    left: float | None
    answered: float | None
    flaps: int


class OpinionsRecord(msgspec.Struct, array_like=True):
    """``trials``: the id of a target, who tries it, and how often in a row it failed. ``again_at``: an id, when it may be
    tried again, and the pause after that. ``scrapers``: who is sick, or was not long ago; ``idle``: a service, a scraper,
    and how many it lacked of how many. Times are the file's.
    """

    trials: list[tuple[int, str, int]] = []
    again_at: list[tuple[int, float, float]] = []
    scrapers: list[tuple[str, Sick]] = []
    idle: list[tuple[str, str, int, int]] = []


class Record(msgspec.Struct):
    """An attribute for each of those of ``Memory``. None: as before, or nothing."""

    fleet: str
    generation: Generation
    clock: float
    members_at: float
    services: list[tuple[str, ServiceRecord]]
    """All, in order."""
    names: tuple[str, ...] = ()
    """Of a whole one: the scrapers that the file numbers from the start."""
    claims: ClaimsRecord | None = None
    standings: list[StandingRecord] = []
    forgotten: list[str] = []
    """Scrapers that have no standing any more."""
    panic_since: float | None = None
    """None: there is no panic."""
    silent_since: float | None = None
    """None: the membership answers."""
    members: Members | None = None
    drained: list[str] | None = None
    departing: Members | None = None
    listed: list[tuple[str, int]] | None = None
    catalogue: Members | None = None
    loads: bytes | None = None
    """A book of loads; empty: there is none any more."""
    opinions: OpinionsRecord | None = None
    undelivered: Failing | None = None
    answers: Answers | None = None
    unlooked: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What a file says at its end. ``names``: all scrapers of claims that it ever named, in order."""

    memory: Memory
    names: tuple[str, ...] = ()


NOTHING_WRITTEN = Written(Memory())


@dataclass(slots=True)
class Recorder:
    """Makes the body of one frame: what ``memory`` is, beside what is ``before``."""

    before: Written
    shift: float
    """Seconds from the monotonic clock to the file's."""
    names: tuple[str, ...] = ()
    """Those that a whole one begins with."""
    pieces: list[Buffer] = field(default_factory=list)
    size: int = 0
    """Bytes of the pieces."""

    def record(self, fleet: str, memory: Memory, now: float) -> tuple[list[Buffer], Written]:
        """The body, in pieces, and what the file says then. ``now``: monotonic seconds."""
        old = self.before.memory
        claims, names = self._claims(memory.claims)
        standings, known = memory.history.standings, old.history.standings
        record = Record(
            fleet,
            memory.generation,
            now + self.shift,
            memory.members_at,
            [(name, self._service(old.services.get(name), one)) for name, one in memory.services.items()],
            self.names,
            claims,
            [self._standing(one) for name, one in standings.items() if not _same_standing(known.get(name), one)],
            [name for name in known if name not in standings],
            self._saved(memory.history.panic_since),
            self._saved(memory.history.silent_since),
            None if memory.members == old.members else memory.members,
            None if memory.drained == old.drained else sorted(memory.drained),
            None if memory.departing == old.departing else memory.departing,
            None if memory.listed == old.listed else sorted(memory.listed),
            None if memory.catalogue == old.catalogue else memory.catalogue,
            None if memory.loads is old.loads else b"" if memory.loads is None else encode(memory.loads),
            None if memory.opinions is old.opinions else self._opinions(memory.opinions),
            None if memory.undelivered == old.undelivered else memory.undelivered,
            None if memory.answers == old.answers else memory.answers,
            memory.unlooked,
        )
        index = msgspec.msgpack.encode(record)
        return [len(index).to_bytes(8, "little"), index, *self.pieces], Written(memory, names)

    def _part(self, piece: Buffer) -> Part:
        part = Part(self.size, len(piece))
        if len(piece):
            self.pieces.append(piece)
        self.size += len(piece)
        return part

    def _column(self, column: Column) -> Part:
        little = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
        return self._part(little.data.cast("B") if len(little) else b"")

    def _service(self, old: ServiceMemory | None, new: ServiceMemory) -> ServiceRecord:
        old = old or ServiceMemory()
        sources = [(name, self._source(old.sources.get(name), pool)) for name, pool in new.sources.items()]
        slices, gone = list[SliceRecord](), list[str]()
        if new.slices is not old.slices:
            changed = ((old.slices.get(name), one) for name, one in new.slices.items())
            slices = [self._slice(before, one) for before, one in changed if one is not before]
            gone = [name for name in old.slices if name not in new.slices]
        return ServiceRecord(sources, slices, gone, dict(new.sources_at))

    def _source(self, old: TargetPool | None, new: TargetPool) -> PoolRecord | None:
        if old is new:
            return None
        found, bytes_ = _of_pools(old, new) if old is not None else (None, None)
        if found is None or bytes_ is None:
            return self._pool(new, None, None, self._part(new.blob))
        blob = self._part(literal(left_of(bytes_, len(new.blob)), new.blob))
        return self._pool(new, found, encoded(bytes_), blob)

    def _pool(self, pool: TargetPool, found: Stretches | None, bytes_: bytes | None, blob: Part) -> PoolRecord:
        rows = slice(None) if found is None else rows_left(left_of(found, len(pool)))
        return PoolRecord(
            None if found is None else encoded(found),
            bytes_,
            self._column(pool.ids[rows]),
            self._column(pool.digests[rows]),
            self._column(np.diff(pool.bounds)[rows]),
            blob,
            pool.duplicates,
            None if pool.keys is pool.ids else self._column(pool.keys[rows]),
        )

    def _slice(self, old: Slice | None, new: Slice) -> SliceRecord:
        found = of_lines(old.body, new.body) if old is not None and len(new.body) > WHOLE_BYTES else None
        about = new.scraper, new.generation, new.targets
        if found is None:
            return SliceRecord(*about, None, self._part(new.body))
        return SliceRecord(*about, encoded(found), self._part(literal(left_of(found, len(new.body)), new.body)))

    def _claims(self, new: Claims) -> tuple[ClaimsRecord | None, tuple[str, ...]]:
        old, names = self.before.memory.claims, self.before.names
        if new is old:
            return None, names
        known = set(names)
        names = (*names, *(name for name in new.names if name not in known))
        news, olds = ((c.ids, _numbered(c, names), c.until) for c in (new, old))
        found = between(olds, news) if len(old) else None
        rows = rows_left(left_of(found, len(new))) if found is not None else np.arange(len(new))
        ids, scrapers, until = (column[rows] for column in news)
        return ClaimsRecord(
            None if new.names == old.names else new.names,
            None if found is None else encoded(found),
            self._column(ids),
            self._column(scrapers),
            self._column(np.asarray(until + self.shift, dtype=np.float64)),
        ), names

    def _standing(self, one: Standing) -> StandingRecord:
        since, joined, left, answered = map(self._saved, (one.since, one.joined_at, one.left_at, one.answered_at))
        return StandingRecord(one.scraper, one.state.value, since, joined, left, answered, one.flaps)

    def _saved(self, at: float | None) -> float | None:
        """A monotonic time as one of the file's."""
        return None if at is None or at == LONG_AGO else at + self.shift

    def _opinions(self, new: SecondOpinions) -> OpinionsRecord:
        """Without the count of looks of targets that nobody else tries yet: they are counted anew."""
        return OpinionsRecord(
            [(key, one.scraper, one.failed) for key, one in new.trials.items()],
            [(key, at + self.shift, pause_s) for key, (at, pause_s) in new.again_at.items()],
            [(name, replace(one, until=one.until + self.shift)) for name, one in new.scrapers.items()],
            [(*pair, one.lacking, one.given) for pair, one in new.jobs.idle.items()],
        )


def _numbered(claims: Claims, names: tuple[str, ...]) -> Owners:
    """The scraper of each, as a number in ``names``."""
    if names[: len(claims.names)] == claims.names:  # who joined later is behind: nothing to count anew in a million claims
        return claims.scrapers
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[name] for name in claims.names] or [0], dtype=np.int32)[claims.scrapers]


def whole(written: Written, fleet: str, shift: float, now: float) -> list[Buffer]:
    """The body of a first frame after which changes of ``written`` may follow."""
    pieces, _ = Recorder(Written(Memory(), written.names), shift, written.names).record(fleet, written.memory, now)
    return pieces


def _of_pools(old: TargetPool, new: TargetPool) -> tuple[Stretches | None, Stretches | None]:
    """What they share, in rows and in bytes."""
    if (old.keys is old.ids) != (new.keys is new.ids):
        return None, None
    columns = [
        (p.ids, p.digests, np.diff(p.bounds)) if p.keys is p.ids else (p.ids, p.digests, np.diff(p.bounds), p.keys)
        for p in (old, new)
    ]
    found = between(*columns)
    if found is None:
        return None, None
    bytes_ = in_bytes(found, old.bounds, new.bounds)
    return (found, bytes_) if same_bytes(bytes_, old.blob, new.blob) else (None, None)


def _same_standing(one: Standing | None, other: Standing) -> bool:
    """As far as they are saved."""
    if one is None or one is other:
        return one is other
    if one.answered_at != other.answered_at and not abs(one.answered_at - other.answered_at) < ANSWERED_APART_S:
        return False
    return replace(one, answered_at=other.answered_at) == other


def has_spare_names(written: Written) -> bool:
    """Whether the file names many scrapers that nobody has any more."""
    return len(written.names) > NAMES_SPARE * len(written.memory.claims.names) + NAMES_LEAST
