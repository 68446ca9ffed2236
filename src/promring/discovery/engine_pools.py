"""The targets of a Prometheus, by scrape pool, from answer to answer.

An answer of ``/api/v1/targets`` with 200,000 targets has some 300 MB, comes every 30 s, in another order each time, and
mostly says what the one before said. So it is read as it comes, and of each entry only a hash is made; what is new is
decoded, and what the others say is known. Memory is that of the pools, 100 bytes a target beside, and the piece that is
being read.

Owns: the lists of all scrape pools of one engine. Promises: an answer counts when it was read to its end, or not at all; a
pool in which nothing changed stays the same object. What relabelling dropped is counted, and the first are named.
Blocks: run it in a thread. Answers for several pools may be read at one moment, each by one thread.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.pool import Listed, merge, pool_of
from promring.discovery import Dropped
from promring.discovery.engine_config import Job, unknown_job
from promring.discovery.engine_layers import Hashes, Layer, Piece, are_in, combined, layers_of, layers_of_pieces, piece_of
from promring.discovery.engine_records import LEAST, EntryRecords
from promring.discovery.groups import Refusals, checked
from promring.discovery.json_list import Group
from promring.discovery.label_names import Names
from promring.discovery.limits import EXPANDED_MAX
from promring.discovery.list_rules import ANY, ListRules
from promring.model import DiscoveryError, TargetPool
from promring.runtime.json_stream import ListStream, StreamError

ACTIVE, DROPPED = "activeTargets", "droppedTargets"
BATCH = 5_000
"""Targets that are decoded at one moment, for each scrape pool."""
TARGETS_MAX = 5_000_000
POOLS_MAX = 10_000
NAMED_MOST, NAME_MOST = 10, 80
_Error = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Active(msgspec.Struct, rename="camel", gc=False):
    discovered_labels: dict[str, str] = {}


class _Of(msgspec.Struct, rename="camel", gc=False):
    scrape_pool: str = ""


class _FewLabels(msgspec.Struct, gc=False):
    job: str = ""
    address: str = msgspec.field(name="__address__", default="")


class _DroppedEntry(msgspec.Struct, rename="camel", gc=False):
    discovered_labels: _FewLabels = msgspec.field(default_factory=_FewLabels)
    scrape_pool: str = ""


class _Around(msgspec.Struct, rename="camel"):
    active_targets: list[int] | None
    dropped_target_counts: dict[str, int] | None = None


class _Answer(msgspec.Struct):
    status: str
    data: _Around


_active = msgspec.json.Decoder(_Active).decode
_of = msgspec.json.Decoder(_Of).decode
_dropped = msgspec.json.Decoder(_DroppedEntry).decode
_answer = msgspec.json.Decoder(_Answer).decode


@dataclass(slots=True)
class _News:
    """What an answer says for the first time of a scrape pool. ``refused``: why no scraper could be given an entry, by its
    hash; ``labels_lost``: of a source that is not trusted.
    """

    layers: list[Layer] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    labels_lost: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _ScrapePool:
    job: Job
    layers: Sequence[Layer]
    refused: Mapping[int, str]
    labels_lost: frozenset[str]
    whole: TargetPool

    @property
    def hashes(self) -> Iterator[int]:
        for layer in self.layers:
            yield from layer.hashes.tolist()
        yield from self.refused

    def updated(self, seen: Hashes, news: _News) -> _ScrapePool:
        """What is left of it in an answer, with its ``news``; the same object when nothing changed. ``seen`` in order."""
        layers = [layer.alive(seen) for layer in self.layers]
        known = np.array(list(self.refused), dtype=np.uint64)
        gone = set(known[~are_in(seen, known)].tolist())
        if not gone and not news.layers and not news.refused and all(map(operator.is_, layers, self.layers)):
            return self
        refused = {number: why for number, why in self.refused.items() if number not in gone} | news.refused
        layers = combined([*(layer for layer in layers if len(layer.pool)), *news.layers])
        lost = self.labels_lost | news.labels_lost
        said = Refusals(len(refused), list(refused.values())[:NAMED_MOST], set(lost))
        whole = merge([layer.pool for layer in layers], ranked=False) if layers else pool_of(())
        whole = replace(whole, refused=said.count, remarks=said.remarks)
        return _ScrapePool(self.job, layers, refused, lost, whole)


@dataclass(slots=True)
class _Pending:
    """Targets of a scrape pool that are decoded: many at once, or one by one with the hash of the entry."""

    pieces: list[Piece] = field(default_factory=list)
    groups: list[tuple[int, Group]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.groups) + sum(len(piece.hashes) for piece in self.pieces)


class OtherPoolError(DiscoveryError):
    """An answer for one scrape pool has targets of another: the server does not know how to answer for one."""


class EnginePools:
    """``where``: the engine, for people; ``rules``: of the lists of those scrape pools that somebody takes; ``alike_least``:
    so many new entries make it worth while to look how they are alike.
    """

    def __init__(self, where: str, alike_least: int = LEAST) -> None:
        self.where, self._alike_least = where, alike_least
        self.rules: dict[str, ListRules] = {}
        self._pools: dict[str, _ScrapePool] = {}
        self.dropped: Mapping[str, Dropped] = {}
        """By relabelling, by scrape pool, as the last answer said."""
        self._lock = threading.Lock()
        self._records: dict[str, tuple[Job, EntryRecords]] = {}

    @property
    def pools(self) -> dict[str, TargetPool]:
        """Those that had a target in the last answer."""
        return {name: pool.whole for name, pool in self._pools.items()}

    def size(self, names: Iterable[str]) -> int:
        """How many targets these scrape pools have together."""
        return sum(len(pool.whole) for name in names if (pool := self._pools.get(name)) is not None)

    def listed(self, name: str) -> int:
        """How many entries this scrape pool had in the last answer."""
        pool = self._pools.get(name)
        return 0 if pool is None else len(pool.refused) + sum(len(layer.hashes) for layer in pool.layers)

    def known(self, only: str | None = None) -> set[int]:
        """The hashes of all entries, or of those of one scrape pool."""
        pools = self._pools.items()
        return {number for name, pool in pools if only is None or name == only for number in pool.hashes}

    def records_of(self, name: str, job: Job) -> EntryRecords:
        """What is known of the entries of a scrape pool."""
        known = self._records.get(name)
        if known is None or known[0] != job:
            known = self._records[name] = job, EntryRecords(job, self._alike_least)
        return known[1]

    def begin(self, jobs: Mapping[str, Job], only: str | None = None) -> Reading:
        """For the next answer, of all scrape pools or ``only`` one. What is known of a job that was changed is forgotten."""
        with self._lock:
            self._pools = {name: p for name, p in self._pools.items() if p.job == (jobs.get(name) or unknown_job(name))}
            self._records = {name: known for name, known in self._records.items() if name in self._pools}
        return Reading(self, jobs, only)

    def commit(
        self,
        seen: Hashes,
        news: Mapping[str, _News],
        jobs: Mapping[str, Job],
        dropped: Mapping[str, Dropped],
        only: str | None = None,
    ) -> None:
        """An answer is whole: it had entries with these hashes, ``news`` among them."""
        with self._lock:
            pools: dict[str, _ScrapePool] = {}
            if only is not None:
                pools = {name: pool for name, pool in self._pools.items() if name != only}
                dropped = {name: count for name, count in self.dropped.items() if name != only} | {
                    name: count for name, count in dropped.items() if name == only
                }
            for name in {**self._pools, **news} if only is None else (only,):
                job = jobs.get(name) or unknown_job(name)
                before = self._pools.get(name) or _ScrapePool(job, (), {}, frozenset(), pool_of(()))
                pool = before.updated(seen, news.get(name) or _News())
                if pool.layers or pool.refused:
                    pools[name] = pool
            self._pools, self.dropped = pools, dropped


class Reading:
    """One answer, as it comes. ``only``: of this scrape pool, None: of all."""

    def __init__(self, pools: EnginePools, jobs: Mapping[str, Job], only: str | None = None) -> None:
        self._pools, self._jobs, self._only = pools, jobs, only
        self._stream = ListStream((ACTIVE, DROPPED))
        self._known = pools.known(only)
        self._seen = array("Q")
        self._pending: dict[str, _Pending] = {}
        self._news: dict[str, _News] = {}
        self._left: dict[str, Dropped] = {}

    def feed(self, data: bytes) -> None:
        """Raises ``DiscoveryError``."""
        with self._as_discovery_error():
            for key, entries in self._stream.feed(data):
                self._take(key, entries)

    def end(self) -> None:
        """The answer is whole. Raises ``DiscoveryError``: then it does not count."""
        with self._as_discovery_error():
            for key, entries in self._stream.end():
                self._take(key, entries)
            answer = _answer(self._stream.around)
            if answer.status != "success" or answer.data.active_targets is None:
                raise StreamError(f"status {answer.status[:40]!r} without a list of targets")
            for name in list(self._pending):
                self._flush(name)
            for name, count in (answer.data.dropped_target_counts or {}).items():
                self._left[name] = Dropped(count, self._left[name].named if name in self._left else ())
            seen = np.unique(np.frombuffer(self._seen, dtype=np.uint64)) if self._seen else np.empty(0, dtype=np.uint64)
            self._pools.commit(seen, self._news, self._jobs, self._left, self._only)

    @contextlib.contextmanager
    def _as_discovery_error(self) -> Iterator[None]:
        try:
            yield
        except (StreamError, *_Error) as error:
            said = " ".join(str(error).split())[:200]
            raise DiscoveryError(f"/api/v1/targets is malformed: {said}") from None

    def _take(self, key: str, entries: Sequence[msgspec.Raw]) -> None:
        if key == DROPPED:
            for entry in entries:
                self._drop(_dropped(entry))
            return
        numbers = list(map(xxh3_64, entries))
        self._seen.extend(numbers)
        if len(self._seen) > TARGETS_MAX:
            raise StreamError(f"more than {TARGETS_MAX} targets")
        new = {number: entry for number, entry in zip(numbers, entries, strict=True) if number not in self._known}
        self._known.update(new)
        for name, some in groupby(new.items(), lambda one: _of(one[1]).scrape_pool):
            self._take_new(name, dict(some))

    def _drop(self, one: _DroppedEntry) -> None:
        name = one.scrape_pool or one.discovered_labels.job
        known = self._left.get(name)
        if known is None and len(self._left) >= POOLS_MAX:
            raise StreamError(f"more than {POOLS_MAX} scrape pools")
        known = known or Dropped()
        more = (one.discovered_labels.address[:NAME_MOST],) if known.count < NAMED_MOST else ()
        self._left[name] = Dropped(known.count + 1, (*known.named, *more))

    def _take_new(self, name: str, entries: Mapping[int, msgspec.Raw]) -> None:
        """Entries of one scrape pool, by their hashes."""
        if self._only is not None and name != self._only:
            raise OtherPoolError(
                f"{self._pools.where}: it was asked for {self._only!r}, and answers for {name[:NAME_MOST]!r}"
            )
        if name not in self._pending and len(self._pending.keys() | self._news) >= POOLS_MAX:
            raise StreamError(f"more than {POOLS_MAX} scrape pools")
        job = self._jobs.get(name) or unknown_job(name)
        pending = self._pending.setdefault(name, _Pending())
        records, rules = self._pools.records_of(name, job), self._pools.rules.get(name, ANY)
        found = records.read(list(entries.values()), Names(trusted=rules.trusted, legacy=rules.legacy_names))
        if found is not None and (piece := piece_of(entries, found)) is not None:
            pending.pieces.append(piece)
        else:
            groups = [_group_of(_active(entry).discovered_labels, job) for entry in entries.values()]
            records.learn(groups)
            pending.groups += zip(entries, groups, strict=True)
        if len(pending) >= BATCH:
            self._flush(name)

    def _flush(self, name: str) -> None:
        """Make layers of what is pending of a scrape pool."""
        pending = self._pending.pop(name)
        news = self._news.setdefault(name, _News())
        news.layers += layers_of_pieces(pending.pieces)
        refusals, passed = Refusals(), list[tuple[int, Listed]]()
        passed += _passing(pending.groups, self._pools.where, refusals, self._pools.rules.get(name, ANY))
        news.layers += layers_of(passed)
        news.labels_lost |= refusals.labels_lost
        refused = dict(pending.groups)
        for number, _ in passed:
            del refused[number]
        whys = [*refusals.named, *[""] * len(refused)]
        for (number, group), why in zip(refused.items(), whys, strict=False):
            news.refused[number] = f"{str((group.targets or [''])[0])[:NAME_MOST]!r}: {why.partition(': ')[2]}"


def _group_of(labels: dict[str, str], job: Job) -> Group:
    job.strip(labels)
    address = labels.pop("__address__", "")
    return Group([address], labels)  # type: ignore[arg-type]  # a dict of texts is one of maybe texts


def _passing(
    pending: Sequence[tuple[int, Group]], where: str, refusals: Refusals, rules: ListRules
) -> Iterator[tuple[int, Listed]]:
    """Those of ``pending`` that can be given to a scraper."""
    number = 0

    def groups() -> Iterator[Group]:
        nonlocal number
        for number, group in pending:  # noqa: B007 - told to the loop below
            yield group

    for listed in checked(groups(), where, refusals, size_bytes=EXPANDED_MAX, rules=rules):
        if listed.addresses:
            yield number, listed
