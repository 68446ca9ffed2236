"""Asks one scraper for its targets: ``/api/v1/targets`` of Prometheus (server and agent mode) and vmagent.

An answer is decoded entry by entry, in a thread. Promises: beside the answer itself that takes at most about 64 MiB,
whatever it holds; at most ``TARGETS_MAX`` targets, each at most ``TARGET_BYTES_MAX`` long, nested as deep as
``json_entries.DEPTH_MAX``, with ``LABELS_MAX`` labels; an answer beyond any of these is refused whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import aiohttp
import msgspec
import numpy as np

from promring.audit.answers import (
    DROPPED_SHOWN,
    HIDDEN_ALL,
    NEVER_ASKED,
    NO_LABELS,
    AheadError,
    AuditError,
    NoPoolError,
    OddError,
    OwnTroubleError,
    State,
    Told,
    TooLongError,
    joined,
)
from promring.audit.clocks import CLOCK_BACK
from promring.audit.times import DATE_STEP_S, age_s, clock_of, interval_s
from promring.config.scraper_api import PLAIN, ScraperApi
from promring.core.coverage import NO_IDS, Active, Index, Seen
from promring.core.twins import twins_beside
from promring.model import Keys, Scraper
from promring.runtime.http_client import DistrustError, HttpError, NotAskedError, TooLargeError, credentials_refused
from promring.runtime.json_entries import Entries, ListError

BODY_BYTES_MAX = 256 * 1024 * 1024
SHORT_BYTES_MAX = 8 * 1024 * 1024
"""What many scrapers may answer at one moment; a longer answer is asked for again, one scraper at a time."""
TARGETS_MAX = 300_000
TARGET_BYTES_MAX = 512 * 1024
LABELS_MAX = 1024
BATCH_TARGETS, BATCH_BYTES = 2_000, 1024 * 1024
AT_ONCE_BYTES_MAX = 64 * 1024
"""An answer of this length is at most 6 MiB of objects."""
QUICK_OBJECTS_MAX, QUICK_POOLS_MAX = 400, 4
"""JSON objects in an answer of a hundred targets, and some more."""
AROUND_BYTES_MAX = 8 * 1024 * 1024
"""What the answer may hold beside its active targets."""
HEAD_BYTES_MAX = 64 * 1024
SAID_MAX = 200
POOLS_NAMED_MOST = 5


class _Target(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str] = {}
    scrape_pool: str = ""
    last_scrape: str = ""
    last_error: str = ""
    health: str = ""
    scrape_interval: str = ""


class _Around(msgspec.Struct, rename="camel"):
    active_targets: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    dropped_targets: list[msgspec.Raw] | None = None
    dropped_target_counts: dict[str, int] | None = None


class _Answer(msgspec.Struct):
    """All but the targets."""

    status: str
    data: _Around


class _Listed(msgspec.Struct, rename="camel"):
    active_targets: list[_Target]


class _Short(msgspec.Struct):
    """A short answer, whole."""

    status: str
    data: _Listed


_short = msgspec.json.Decoder(_Short).decode
_target = msgspec.json.Decoder(_Target).decode
_answer = msgspec.json.Decoder(_Answer).decode


async def targets_of(
    session: aiohttp.ClientSession,
    scraper: Scraper,
    state: State,
    scrape_pool: str | None,
    timeout_s: float,
    *,
    bytes_max: int = BODY_BYTES_MAX,
    api: ScraperApi = PLAIN,
) -> Told:
    """The answer, to be decoded beside the event loop; of one scrape pool, where the server can tell. Raises
    ``AuditError``.
    """
    query = {"state": state} | ({"scrapePool": scrape_pool} if scrape_pool else {})
    try:
        answer = await api.get(
            session, scraper.address, "/api/v1/targets", timeout_s=timeout_s, params=query, body_bytes_max=bytes_max
        )
    except NotAskedError as error:
        raise OwnTroubleError(str(error)) from error
    except TooLargeError as error:
        raise TooLongError(str(error)) from error
    except DistrustError as error:
        raise OddError(str(error)) from error
    except HttpError as error:
        raise AuditError(str(error)) from error
    if refused := credentials_refused(answer.status):
        raise OddError(f"/api/v1/targets: {refused}")
    if answer.status != 200:
        kind = AuditError if answer.status >= 500 else OddError
        said = api.elsewhere(answer.status, "/api/v1/targets") or answer.text()
        raise kind(f"/api/v1/targets answered {answer.status}: {said}")
    return Told(answer.body, clock_of(answer.headers))


def is_quick(told: Told, pools: int) -> bool:
    """Whether the answer is read in a millisecond or two; in a dozen, if somebody made it as bad as can be. ``pools``: how
    many scrape pools are read in it; each costs 0.1 ms, however few targets it has.
    """
    few = pools <= QUICK_POOLS_MAX and len(told.body) <= AT_ONCE_BYTES_MAX
    return few and told.body.count(b"{") <= QUICK_OBJECTS_MAX


def seen_by_pool(told: Told, indexes: Mapping[str, Index], at: float) -> dict[str, Seen | AuditError]:
    """What the answer says of each of these scrape pools, as ``Index.seen`` has it, made in batches; an error for a pool
    that is not there although others are. Blocks: run it in a thread, unless the answer ``is_quick``. Raises ``AuditError``
    for an answer that is no use.
    """
    parts: dict[str, list[Seen]] = {pool: [] for pool in indexes}
    others: dict[str, None] = {}
    short = len(told.body) <= AT_ONCE_BYTES_MAX
    listed = _by_pool(told, indexes, others)
    for batch in [_whole(listed)] if short else _batches(listed):
        for pool, active in batch.items():
            parts[pool].append(indexes[pool].seen(at, active))
    there = [pool for pool, some in parts.items() if some]
    named = ", ".join(sorted([*others, *there])[:POOLS_NAMED_MOST])
    found: dict[str, Seen | AuditError] = {}
    for pool, some in parts.items():
        seen = some[0] if len(some) == 1 else joined(some) if some else indexes[pool].seen(at, ())
        found[pool] = NoPoolError(pool, named, seen) if not some and (others or there) else seen
    return found


def with_dropped(seen: Seen, told: Told, scrape_pool: str, index: Index) -> Seen:
    """``seen``, and what an answer of ``state=dropped`` says. What relabelling made equal to another target is dropped, too,
    and no answer says so. Blocks: run it in a thread. Raises ``AuditError``.
    """
    around: list[_Around] = []
    parts: list[Keys] = [NO_IDS]
    bare: list[Keys] = []
    batch: list[Mapping[str, str]] = []
    listed = every = 0
    for entry in _entries(told.body, "dropped", around):
        one = _decoded(entry)
        every += 1
        if not _of_pool(one, scrape_pool, own_jobs=index.own_jobs):
            continue
        listed += 1
        batch.append(one.discovered_labels)
        if len(batch) >= BATCH_TARGETS:
            parts.append(index.dropped(batch))
            bare.append(index.unlabelled(batch))
            batch = []
    parts += [index.dropped(batch), twins_beside(index.pool, seen.ids)]
    dropped_bare = np.unique(np.concatenate([*bare, index.unlabelled(batch)]))
    counts = around[0].dropped_target_counts if around else None
    hidden = max(0, counts.get(scrape_pool, 0) - listed) if counts else HIDDEN_ALL if every == DROPPED_SHOWN else 0
    return replace(seen, dropped=np.unique(np.concatenate(parts)), hidden=hidden, dropped_bare=dropped_bare)


def _of_pool(one: _Target, scrape_pool: str, *, own_jobs: bool) -> bool:
    """Some servers do not say of what they dropped which pool had it: then its label ``job`` does, where no list sets it and
    no relabelling took it away (2.42, which gives only the pool that was asked for).
    """
    if one.scrape_pool:
        return one.scrape_pool == scrape_pool
    return own_jobs or one.discovered_labels.get("job", scrape_pool) == scrape_pool


def decoded(told: Told, scrape_pool: str) -> Iterator[Active]:
    """The active targets of this scrape pool; older servers answer with all. Raises ``AuditError``, also late: then what
    came before is void.
    """
    others: dict[str, None] = {}
    ours = False
    for _, one in _by_pool(told, {scrape_pool}, others):
        ours = True
        yield one
    if others and not ours:
        raise OddError(f"no scrape pool {scrape_pool!r} (the job_name of its targets); there is {', '.join(sorted(others))}")


def _by_pool(told: Told, wanted: Collection[str], others: dict[str, None]) -> Iterator[tuple[str, Active]]:
    """The active targets of the ``wanted`` scrape pools. The names of the first few others go to ``others``."""
    interval_of = lru_cache(8)(interval_s)  # a server has few
    for target in active_targets(told.body):
        if target.scrape_pool not in wanted:
            if len(others) < POOLS_NAMED_MOST:
                others[target.scrape_pool[:80]] = None
            continue
        if not target.discovered_labels:
            raise OddError(f"/api/v1/targets: {NO_LABELS}")
        interval = interval_of(target.scrape_interval or target.discovered_labels.get("__scrape_interval__", ""))
        try:
            age = age_s(target.last_scrape, told.clock)
        except AheadError as error:
            if not told.behind:
                raise AheadError(str(error), error.at, interval) from None
            age = DATE_STEP_S
        yield (
            target.scrape_pool,
            Active(
                target.discovered_labels,
                up=target.health == "up" and not told.behind,
                age_s=age,
                interval_s=interval,
                never_asked=_never_asked(target) if age is not None else "",
                error=CLOCK_BACK if told.behind else target.last_error[:SAID_MAX],
            ),
        )


def _never_asked(target: _Target) -> str:
    """Why its last scrape is none, or proves nothing; of one that the server says it did not ask yet there is none. A health
    that is not told is no failure: it must not make the scraper sick.
    """
    if target.health == "up":
        return ""
    if target.health != "down":
        return f"its answer does not say whether the last scrape was good (health {target.health[:20]!r})"
    return target.last_error[:SAID_MAX] if target.last_error.startswith(NEVER_ASKED) else ""


def active_targets(body: bytes) -> Iterable[_Target]:
    """One after the other; of a short answer all at once, which is three times as fast. Raises ``AuditError``, also late."""
    if len(body) <= AT_ONCE_BYTES_MAX:
        try:
            answer = _short(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer = None  # what is wrong with it is said below
        if answer is not None and answer.status == "success":
            return map(_bounded, answer.data.active_targets)
    return map(_decoded, _entries(body, "active", []))


def _decoded(entry: bytes) -> _Target:
    try:
        target = _target(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    return _bounded(target)


def _bounded(target: _Target) -> _Target:
    if len(target.discovered_labels) > LABELS_MAX:
        raise _malformed(f"a target with more than {LABELS_MAX} labels")
    return target


def _entries(body: bytes, state: State, around: list[_Around]) -> Iterator[bytes]:
    """Each such target's bytes; then what stands around them is read into ``around``. Raises ``AuditError``."""
    key = b'"%sTargets"' % state.encode()
    start = _list_at(body, key)
    if start < 0:
        around.append(_look_around(body, state))
        return
    entries = Entries(body, start, entry_bytes_max=TARGET_BYTES_MAX, entries_max=TARGETS_MAX)
    try:
        yield from entries
    except ListError as error:
        raise _malformed(error) from error
    if start + len(body) - entries.end > AROUND_BYTES_MAX:
        raise _malformed(f"more than {AROUND_BYTES_MAX} bytes around the {state} targets")
    around.append(_look_around(body[:start] + b"[]" + body[entries.end :], state))


def _list_at(body: bytes, name: bytes) -> int:
    """Where the list of this name begins; -1 when it does not."""
    key = body.find(name, 0, HEAD_BYTES_MAX)
    start = body.find(b"[", key, key + len(name) + 64) if key >= 0 else -1
    between = body[key + len(name) : start].strip() if start >= 0 else b""
    return start if between == b":" else -1


def _look_around(text: bytes, state: State) -> _Around:
    if len(text) > AROUND_BYTES_MAX:
        raise _malformed(f"no {state} targets within the first {HEAD_BYTES_MAX} bytes")
    try:
        answer = _answer(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    if answer.status != "success":
        raise _malformed(f"status {answer.status[:40]!r}, not success")
    found = answer.data.active_targets if state == "active" else answer.data.dropped_targets
    if found or isinstance(found, msgspec.UnsetType):
        raise _malformed(f"no {state} targets within the first {HEAD_BYTES_MAX} bytes")
    return answer.data


def _malformed(error: Exception | str) -> AuditError:
    """Messages of decoders repeat what they were fed."""
    return OddError(f"/api/v1/targets: {' '.join(str(error)[:SAID_MAX].split())}")


def _whole(active: Iterable[tuple[str, Active]]) -> dict[str, list[Active]]:
    """By scrape pool, all at once: of an answer that is short."""
    batch: dict[str, list[Active]] = {}
    for pool, one in active:
        batch.setdefault(pool, []).append(one)
    return batch


def _batches(active: Iterable[tuple[str, Active]]) -> Iterator[dict[str, list[Active]]]:
    """By scrape pool."""
    batch: dict[str, list[Active]] = {}
    count = size = 0
    for pool, one in active:
        batch.setdefault(pool, []).append(one)
        count += 1
        size += sum(len(name) + len(value) for name, value in one.discovered.items())
        if count >= BATCH_TARGETS or size >= BATCH_BYTES:
            yield batch
            batch, count, size = {}, 0, 0
    if batch:
        yield batch
