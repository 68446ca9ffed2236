"""``loads: promql``: a central store says how many samples the last scrape of each target gave.

For scrapers that answer no query themselves, such as a Prometheus in agent mode. One query is asked of one server. Of its
answer a series is a target's when its label ``job`` is the job of the target's service, and its ``instance`` is the
target's: the label ``instance`` of its entry, else its ``__param_target``, else its address, with and without the port that
Prometheus adds. A query that relabels (``label_replace``) can bring other series into that form.

Promises: one request a round, an answer at most ``BODY_BYTES_MAX`` long. Several series of one target, such as those of two
replicas of a scraper, count as the highest of them. Targets of one service that share an ``instance`` share its figure.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from xxhash import xxh3_64_intdigest as xxh3_64
from yarl import URL

from promring.config.http_client import HttpClient, instead
from promring.config.kinds import Problem
from promring.config.values import HttpUrl, Interval
from promring.core.fragment import Target, decode, fragments
from promring.core.joined import FleetPool
from promring.core.learning import Figures
from promring.core.loads import Floats
from promring.loads import Asked, LoadContext, LoadError, LoadSettings, Round, vector
from promring.loads.gathered import is_figure, odd_figures
from promring.model import Keys, Rows, TargetPool
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, new_session, request
from promring.runtime.redact import shown
from promring.runtime.threads import computed

BODY_BYTES_MAX = 256 * 1024 * 1024
QUERY = "scrape_samples_post_metric_relabeling and up == 1"
Unfollowed = Annotated[Literal[False], instead("no redirect is followed: say in url where the server is")]


class PromqlLoads(LoadSettings, HttpClient):
    """``url``: of the server, with its path prefix. ``query``: an instant vector of samples a scrape. ``interval``: between
    two rounds; ``timeout``: for an answer.
    """

    kind = "promql"

    url: HttpUrl
    query: Annotated[str, Field(min_length=1, max_length=10_000)] = QUERY
    interval: Interval = 60.0
    timeout: Interval = 30.0
    follow_redirects: Unfollowed = False

    def relations(self) -> Iterator[Problem]:
        if "/api/v1" in URL(self.url.reveal()).path:
            yield ("url",), "is that of the server, without /api/v1 and what follows"
        elif URL(self.url.reveal()).query_string:
            yield ("url",), "is that of the server, without a query: it would not be sent"

    def source(self, context: LoadContext) -> PromqlSource:
        return PromqlSource(self)


class PromqlSource:
    """Asks one server."""

    def __init__(self, settings: PromqlLoads) -> None:
        self._settings = settings
        self.interval_s = settings.interval
        self._indexes: dict[str, _Index] = {}
        """By service."""

    async def ask(self, asked: Asked) -> Round:
        where = shown(self._settings.url)
        try:
            answer = await self._answer()
            body = vector.check(answer)
            figures, trouble = await computed(lambda: self._read(body, asked))
        except (LoadError, HttpError, secretfile.SecretError) as error:
            return Round(troubles={where: str(error)})
        if trouble and (warning := vector.warning(answer)):
            trouble = f"{trouble}; it says: {warning}"
        return Round(figures, {where: trouble} if trouble else {})

    async def _answer(self) -> Response:
        """Raises ``HttpError``, ``SecretError``."""
        settings = self._settings
        url = URL(settings.url.reveal())
        headers = await settings.headers()
        async with new_session(keep_alive=False) as session:
            return await request(
                session,
                "GET",
                url.with_path(url.path.rstrip("/") + vector.PATH),
                timeout_s=settings.timeout,
                headers=headers,
                params={"query": settings.query},
                tls=settings.tls_files,
                body_bytes_max=BODY_BYTES_MAX,
                proxy=settings.proxy_for(url),
            )

    def _read(self, body: bytes, asked: Asked) -> tuple[dict[str, Figures], str]:
        """The figures, and what is wrong with them. Blocks. Raises ``LoadError``."""
        pool = asked.placement.pool
        assert isinstance(pool, FleetPool)  # the planner makes no others
        odd, series = by_job(body, set(asked.jobs.values()))
        known, found = self._indexes, dict[str, Figures]()
        self._indexes = {}
        for service, part in pool.parts.items():
            index = known.get(service)
            if index is None or index.pool is not part.pool:
                index = _Index.of(part.pool)
            self._indexes[service] = index
            found[service] = index.figures(*series[asked.jobs[service]])
        missing = len(pool) - sum(len(one.ids) for one in found.values())
        return found, odd or (f"no figures of {missing} of {len(pool)} targets" if missing else "")


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """Which targets of ``pool`` may be called how. ``hashes``: uint64, ascending, of names; beside each the row of the
    target, and the rank of the name among those that the target may have, 0 first.
    """

    pool: TargetPool
    hashes: Keys
    rows: Rows
    ranks: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, pool: TargetPool) -> _Index:
        """Blocks for a long list."""
        hashes, rows, ranks = array("Q"), array("q"), array("B")
        for row, fragment in enumerate(fragments(pool)):
            for rank, name in enumerate(_names(decode(fragment))):
                hashes.append(xxh3_64(name.encode()))
                rows.append(row)
                ranks.append(rank)
        column = np.array(hashes, dtype=np.uint64)
        order = np.argsort(column, kind="stable")
        return cls(pool, column[order], np.array(rows, dtype=np.intp)[order], np.array(ranks, dtype=np.uint8)[order])

    def figures(self, hashes: Keys, values: Floats) -> Figures:
        """Of the targets that are called so. Of several series of one name the highest counts."""
        names, which = np.unique(hashes, return_inverse=True)
        highest = np.zeros(len(names))
        np.maximum.at(highest, which, values)
        told = np.full(len(self.pool), np.nan)
        if len(names):
            at = np.minimum(np.searchsorted(names, self.hashes), len(names) - 1)
            there = names[at] == self.hashes
            for rank in range(int(self.ranks.max(initial=0)), -1, -1):
                mine = there & (self.ranks == rank)
                told[self.rows[mine]] = highest[at[mine]]
        read = ~np.isnan(told)
        return Figures(self.pool.ids[read], told[read])


def _names(target: Target) -> list[str]:
    """What the label ``instance`` of the target's series may be, the likeliest first."""
    if instance := target.labels.get("instance"):
        return [instance]
    probed = target.labels.get("__param_target")
    return [*([probed] if probed else []), target.address, f"{target.address}:80", f"{target.address}:443"]


def by_job(body: bytes, jobs: Collection[str]) -> tuple[str, dict[str, tuple[Keys, Floats]]]:
    """What is odd, and by job the hash of each ``instance``, with its figure. Raises ``LoadError``."""
    found = {job: (array("Q"), array("d")) for job in jobs}
    odd, such_as = 0, ""
    for labels, value in vector.samples(body):
        columns = found.get(labels.get("job", ""))
        if columns is None:
            continue
        if not is_figure(value):
            odd += 1
            such_as = such_as or f"{value:g} of {labels.get('instance', '')[:80]}"
            continue
        columns[0].append(xxh3_64(labels.get("instance", "").encode()))
        columns[1].append(value)
    said = {job: (np.array(hashes, np.uint64), np.array(values, np.float64)) for job, (hashes, values) in found.items()}
    return (odd_figures(odd, such_as) if odd else ""), said
