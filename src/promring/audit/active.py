"""Asks one scraper for its active targets: ``/api/v1/targets`` of Prometheus (server and agent mode) and vmagent.

An answer is decoded entry by entry, in a thread. Promises: beside the answer itself that takes at most about 64 MiB,
whatever it holds; at most ``TARGETS_MAX`` targets, each at most ``TARGET_BYTES_MAX`` long, nested as deep as
``json_entries.DEPTH_MAX``, with ``LABELS_MAX`` labels; an answer beyond any of these is refused whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import aiohttp
import msgspec
import numpy as np

from promring.core.coverage import FOREIGN_KEPT, Active, Index, Seen
from promring.httpclient import HttpError, NotAskedError, TooLargeError, request
from promring.json_entries import Entries, ListError
from promring.model import Scraper

BODY_BYTES_MAX = 256 * 1024 * 1024
SHORT_BYTES_MAX = 8 * 1024 * 1024
"""What many scrapers may answer at one moment; a longer answer is asked for again, one scraper at a time."""
TARGETS_MAX = 300_000
TARGET_BYTES_MAX = 512 * 1024
LABELS_MAX = 1024
BATCH_TARGETS, BATCH_BYTES = 2_000, 1024 * 1024
AROUND_BYTES_MAX = 8 * 1024 * 1024
"""What the answer may hold beside its active targets."""
HEAD_BYTES_MAX = 64 * 1024
SAID_MAX = 200
NEVER = "0001-01-01"
_LIST = b'"activeTargets"'


class AuditError(Exception):
    """The scraper gave no usable answer; the text says why."""


class OwnTroubleError(AuditError):
    """It was not asked, because of this machine."""


class TooLongError(AuditError):
    """The answer is longer than was asked for."""


class _Target(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str] = {}
    scrape_pool: str = ""
    last_scrape: str = ""
    health: str = ""
    labels: dict[str, str] = {}


class _Around(msgspec.Struct, rename="camel"):
    active_targets: list[msgspec.Raw] | None


class _Answer(msgspec.Struct):
    """All but the active targets."""

    status: str
    data: _Around


_target = msgspec.json.Decoder(_Target).decode
_answer = msgspec.json.Decoder(_Answer).decode


async def active_targets(
    session: aiohttp.ClientSession,
    scraper: Scraper,
    scrape_pool: str | None,
    timeout_s: float,
    *,
    bytes_max: int = BODY_BYTES_MAX,
) -> bytes:
    """The answer as bytes, to be decoded beside the event loop; of one scrape pool, where the server can tell. Raises
    ``AuditError``.
    """
    url = f"http://{scraper.address}/api/v1/targets"
    query = {"state": "active"} | ({"scrapePool": scrape_pool} if scrape_pool else {})
    try:
        answer = await request(session, "GET", url, timeout_s=timeout_s, params=query, body_bytes_max=bytes_max)
    except NotAskedError as error:
        raise OwnTroubleError(str(error)) from error
    except TooLargeError as error:
        raise TooLongError(str(error)) from error
    except HttpError as error:
        raise AuditError(str(error)) from error
    if answer.status != 200:
        raise AuditError(f"/api/v1/targets answered {answer.status}: {answer.text()}")
    return answer.body


def seen_in(body: bytes, scrape_pool: str, index: Index, at: float) -> Seen:
    """What the answer says, as ``Index.seen`` has it, made in batches. Blocks: run it in a thread. Raises ``AuditError``."""
    parts = [index.seen(at, batch) for batch in _batches(decoded(body, scrape_pool))]
    if not parts:
        return index.seen(at, ())
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids, kind="stable")
    foreign = [address for part in parts for address in part.foreign][:FOREIGN_KEPT]
    return Seen(
        at,
        ids[order],
        np.concatenate([part.scraped for part in parts])[order],
        np.concatenate([part.up for part in parts])[order],
        tuple(foreign),
        sum(part.foreign_count for part in parts),
    )


def decoded(body: bytes, scrape_pool: str) -> Iterator[Active]:
    """The targets of this scrape pool; older servers answer with all. Raises ``AuditError``, also late: then what came
    before is void.
    """
    pools: dict[str, None] = {}
    ours = False
    for entry in _entries(body):
        try:
            target = _target(entry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(error) from error
        if len(target.discovered_labels) > LABELS_MAX or len(target.labels) > LABELS_MAX:
            raise _malformed(f"a target with more than {LABELS_MAX} labels")
        if target.scrape_pool != scrape_pool:
            if len(pools) < 5:
                pools[target.scrape_pool[:80]] = None
            continue
        ours = True
        yield Active(
            target.discovered_labels,
            scraped=bool(target.last_scrape) and not target.last_scrape.startswith(NEVER),
            up=target.health == "up",
            instance=target.labels.get("instance", ""),
        )
    if pools and not ours:
        named = ", ".join(sorted(pools))
        raise AuditError(f"no scrape pool {scrape_pool!r} (the job_name of its targets); there is {named}")


def _entries(body: bytes) -> Iterator[bytes]:
    """Each active target's bytes; then what stands around them is looked at. Raises ``AuditError``."""
    start = _list_at(body)
    if start < 0:
        _look_around(body)
        return
    entries = Entries(body, start, entry_bytes_max=TARGET_BYTES_MAX, entries_max=TARGETS_MAX)
    try:
        yield from entries
    except ListError as error:
        raise _malformed(error) from error
    if start + len(body) - entries.end > AROUND_BYTES_MAX:
        raise _malformed(f"more than {AROUND_BYTES_MAX} bytes around the active targets")
    _look_around(body[:start] + b"[]" + body[entries.end :])


def _list_at(body: bytes) -> int:
    """Where the list of active targets begins; -1 when it does not."""
    key = body.find(_LIST, 0, HEAD_BYTES_MAX)
    start = body.find(b"[", key, key + len(_LIST) + 64) if key >= 0 else -1
    between = body[key + len(_LIST) : start].strip() if start >= 0 else b""
    return start if between == b":" else -1


def _look_around(text: bytes) -> None:
    if len(text) > AROUND_BYTES_MAX:
        raise _malformed(f"no active targets within the first {HEAD_BYTES_MAX} bytes")
    try:
        answer = _answer(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error
    if answer.status != "success":
        raise _malformed(f"status {answer.status[:40]!r}, not success")
    if answer.data.active_targets:
        raise _malformed(f"no active targets within the first {HEAD_BYTES_MAX} bytes")


def _malformed(error: Exception | str) -> AuditError:
    """Messages of decoders repeat what they were fed."""
    return AuditError(f"/api/v1/targets: {' '.join(str(error)[:SAID_MAX].split())}")


def _batches(active: Iterable[Active]) -> Iterator[list[Active]]:
    batch: list[Active] = []
    size = 0
    for one in active:
        batch.append(one)
        size += sum(len(name) + len(value) for name, value in one.discovered.items())
        if len(batch) >= BATCH_TARGETS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
