"""Asks one scraper for its active targets: ``/api/v1/targets`` of Prometheus (server and agent mode) and vmagent."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import msgspec

from promring.core.coverage import Active
from promring.httpclient import HttpError, request
from promring.model import Scraper

BODY_BYTES_MAX = 256 * 1024 * 1024
NEVER = "0001-01-01"


class AuditError(Exception):
    """The scraper gave no usable answer; the text says why."""


class _Target(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str] = {}
    scrape_pool: str = ""
    last_scrape: str = ""
    health: str = ""
    labels: dict[str, str] = {}


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: list[_Target] | None = None


class _Answer(msgspec.Struct):
    status: str
    data: _Targets


_decode = msgspec.json.Decoder(_Answer).decode


async def active_targets(
    session: aiohttp.ClientSession, scraper: Scraper, scrape_pool: str | None, timeout_s: float
) -> bytes:
    """The answer as bytes, to be decoded beside the event loop; of one scrape pool, where the server can tell. Raises
    ``AuditError``.
    """
    url = f"http://{scraper.address}/api/v1/targets"
    query = {"state": "active"} | ({"scrapePool": scrape_pool} if scrape_pool else {})
    try:
        answer = await request(session, "GET", url, timeout_s=timeout_s, params=query, body_bytes_max=BODY_BYTES_MAX)
    except HttpError as error:
        raise AuditError(str(error)) from error
    if answer.status != 200:
        raise AuditError(f"/api/v1/targets answered {answer.status}: {answer.text()}")
    return answer.body


def decoded(body: bytes, scrape_pool: str) -> Iterator[Active]:
    """The targets of this scrape pool; older servers answer with all. Raises ``AuditError``."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditError(f"/api/v1/targets: {error}") from error
    targets = answer.data.active_targets or []
    pools = {t.scrape_pool for t in targets}
    if pools and scrape_pool not in pools:
        named = ", ".join(sorted(pools)[:5])
        raise AuditError(f"no scrape pool {scrape_pool!r} (the job_name of its targets); there is {named}")
    return (
        Active(
            t.discovered_labels,
            scraped=bool(t.last_scrape) and not t.last_scrape.startswith(NEVER),
            up=t.health == "up",
            instance=t.labels.get("instance", ""),
        )
        for t in targets
        if t.scrape_pool == scrape_pool
    )
