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

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.pool import Listed, merge, pool_of, pool_of_listed, selected
from promring.discovery import Dropped
from promring.discovery.engine_config import Job, unknown_job
from promring.discovery.groups import ANY, ListRules, Refusals, checked
from promring.discovery.json_list import Group
from promring.discovery.limits import EXPANDED_MAX
from promring.model import DiscoveryError, Keys, TargetPool
from promring.runtime.json_stream import ListStream, StreamError

ACTIVE, DROPPED = "activeTargets", "droppedTargets"
BATCH = 5_000
"""Targets that are decoded at one moment, for each scrape pool."""
TARGETS_MAX = 5_000_000
POOLS_MAX = 10_000
NAMED_MOST, NAME_MOST = 10, 80
_Error = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Hashes = npt.NDArray[np.uint64]


class _Active(msgspec.Struct, rename="camel", gc=False):
    discovered_labels: dict[str, str] = {}
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
_dropped = msgspec.json.Decoder(_DroppedEntry).decode
_answer = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class _Layer:
    """Targets without two of one key. ``hashes``: of the entry of each row."""

    pool: TargetPool
    hashes: _Hashes

    def alive(self, seen: _Hashes) -> _Layer:
        there = _are_in(seen, self.hashes)
        if there.all():
            return self
        return _Layer(selected(self.pool, np.flatnonzero(there)), self.hashes[there])


@dataclass(slots=True)
class _News:
    """What an answer says for the first time of a scrape pool. ``refused``: why no scraper could be given an entry, by its
    hash; ``labels_lost``: of a source that is not trusted.
    """

    layers: list[_Layer] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    labels_lost: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _ScrapePool:
    job: Job
    layers: Sequence[_Layer]
    refused: Mapping[int, str]
    labels_lost: frozenset[str]
    whole: TargetPool

    @property
    def hashes(self) -> Iterator[int]:
        for layer in self.layers:
            yield from layer.hashes.tolist()
        yield from self.refused

    def updated(self, seen: _Hashes, news: _News) -> _ScrapePool:
        """What is left of it in an answer, with its ``news``; the same object when nothing changed. ``seen`` in order."""
        layers = [layer.alive(seen) for layer in self.layers]
        known = np.array(list(self.refused), dtype=np.uint64)
        gone = set(known[~_are_in(seen, known)].tolist())
        if not gone and not news.layers and not news.refused and all(map(operator.is_, layers, self.layers)):
            return self
        refused = {number: why for number, why in self.refused.items() if number not in gone} | news.refused
        layers = _combined([*(layer for layer in layers if len(layer.pool)), *news.layers])
        lost = self.labels_lost | news.labels_lost
        said = Refusals(len(refused), list(refused.values())[:NAMED_MOST], set(lost))
        whole = merge([layer.pool for layer in layers], ranked=False) if layers else pool_of(())
        whole = replace(whole, refused=said.count, remarks=said.remarks)
        return _ScrapePool(self.job, layers, refused, lost, whole)


class OtherPoolError(DiscoveryError):
    """An answer for one scrape pool has targets of another: the server does not know how to answer for one."""


class EnginePools:
    """``where``: the engine, for people; ``rules``: of the lists of those scrape pools that somebody takes."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.rules: dict[str, ListRules] = {}
        self._pools: dict[str, _ScrapePool] = {}
        self.dropped: Mapping[str, Dropped] = {}
        """By relabelling, by scrape pool, as the last answer said."""
        self._lock = threading.Lock()

    @property
    def pools(self) -> dict[str, TargetPool]:
        """Those that had a target in the last answer."""
        return {name: pool.whole for name, pool in self._pools.items()}

    def size(self, names: Iterable[str]) -> int:
        """How many targets these scrape pools have together."""
        return sum(len(pool.whole) for name in names if (pool := self._pools.get(name)) is not None)

    def known(self, only: str | None = None) -> set[int]:
        """The hashes of all entries, or of those of one scrape pool."""
        pools = self._pools.items()
        return {number for name, pool in pools if only is None or name == only for number in pool.hashes}

    def begin(self, jobs: Mapping[str, Job], only: str | None = None) -> Reading:
        """For the next answer, of all scrape pools or ``only`` one. What is known of a job that was changed is forgotten."""
        with self._lock:
            self._pools = {name: p for name, p in self._pools.items() if p.job == (jobs.get(name) or unknown_job(name))}
        return Reading(self, jobs, only)

    def commit(
        self,
        seen: _Hashes,
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
        self._pending: dict[str, list[tuple[int, Group]]] = {}
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
            raise DiscoveryError(f"{self._pools.where}: /api/v1/targets is malformed: {said}") from None

    def _take(self, key: str, entries: Sequence[msgspec.Raw]) -> None:
        if key == DROPPED:
            for entry in entries:
                self._drop(_dropped(entry))
            return
        for entry in entries:
            number = xxh3_64(entry)
            self._seen.append(number)
            if number not in self._known:
                self._known.add(number)
                self._add(number, _active(entry))
        if len(self._seen) > TARGETS_MAX:
            raise StreamError(f"more than {TARGETS_MAX} targets")

    def _drop(self, one: _DroppedEntry) -> None:
        name = one.scrape_pool or one.discovered_labels.job
        known = self._left.get(name)
        if known is None and len(self._left) >= POOLS_MAX:
            raise StreamError(f"more than {POOLS_MAX} scrape pools")
        known = known or Dropped()
        more = (one.discovered_labels.address[:NAME_MOST],) if known.count < NAMED_MOST else ()
        self._left[name] = Dropped(known.count + 1, (*known.named, *more))

    def _add(self, number: int, one: _Active) -> None:
        name, labels = one.scrape_pool, one.discovered_labels
        if self._only is not None and name != self._only:
            raise OtherPoolError(
                f"{self._pools.where}: it was asked for {self._only!r}, and answers for {name[:NAME_MOST]!r}"
            )
        (self._jobs.get(name) or unknown_job(name)).strip(labels)
        address = labels.pop("__address__", "")
        if name not in self._pending and len(self._pending) >= POOLS_MAX:
            raise StreamError(f"more than {POOLS_MAX} scrape pools")
        pending = self._pending.setdefault(name, [])
        pending.append((number, Group([address], labels)))  # type: ignore[arg-type]  # a dict of texts is one of maybe texts
        if len(pending) >= BATCH:
            self._flush(name)

    def _flush(self, name: str) -> None:
        """Make layers of what is pending of a scrape pool."""
        pending, self._pending[name] = self._pending[name], []
        if not pending:
            return
        news = self._news.setdefault(name, _News())
        refusals = Refusals()
        layers: list[dict[int, tuple[int, Listed]]] = []
        passed = set()
        rules = self._pools.rules.get(name, ANY)
        for number, listed in _passing(pending, self._pools.where, refusals, rules):
            passed.add(number)
            key = xxh3_64((listed.addresses[0] + listed.suffix).encode())
            layer = next((layer for layer in layers if key not in layer), None)
            if layer is None:
                layers.append(layer := {})
            layer[key] = number, listed
        news.layers += map(_layer, layers)
        news.labels_lost |= refusals.labels_lost
        refused = [(number, group) for number, group in pending if number not in passed]
        whys = [*refusals.named, *[""] * len(refused)]
        for (number, group), why in zip(refused, whys, strict=False):
            news.refused[number] = f"{str((group.targets or [''])[0])[:NAME_MOST]!r}: {why.partition(': ')[2]}"


def _are_in(seen: _Hashes, hashes: _Hashes) -> npt.NDArray[np.bool_]:
    """For each of ``hashes`` whether it is in ``seen``, which is in order: numpy's own ways would sort that each time, and
    hold the interpreter meanwhile.
    """
    if not len(seen):
        return np.zeros(len(hashes), dtype=np.bool_)
    return np.equal(seen[np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)], hashes)


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


def _layer(listed: Mapping[int, tuple[int, Listed]]) -> _Layer:
    pool = pool_of_listed(one for _, one in listed.values())
    return _Layer(pool, np.array([listed[key][0] for key in pool.keys.tolist()], dtype=np.uint64))


def _combined(layers: Sequence[_Layer]) -> list[_Layer]:
    """The same targets in as few layers as may be."""
    groups: list[tuple[list[_Layer], Keys]] = []
    for layer in sorted(layers, key=lambda layer: -len(layer.pool)):
        keys = layer.pool.keys
        for i, (members, known) in enumerate(groups):
            if not np.isin(keys, known, kind="sort").any():
                groups[i] = [*members, layer], np.concatenate([known, keys])
                break
        else:
            groups.append(([layer], keys))
    return [members[0] if len(members) == 1 else _joined(members, keys) for members, keys in groups]


def _joined(layers: Sequence[_Layer], keys: Keys) -> _Layer:
    """``keys``: of all, one layer after the other."""
    hashes = np.concatenate([layer.hashes for layer in layers])
    return _Layer(merge([layer.pool for layer in layers], ranked=False), hashes[np.argsort(keys, kind="stable")])
