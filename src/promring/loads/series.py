"""``loads: series``: the scrapers say how many samples the last scrape of each target gave.

Each scraper is asked for its active targets, in which each has the id of the slice's line (``__promring_id__``). vmagent
says there how many samples it scraped (``lastSamplesScraped``). A Prometheus server is asked for
``scrape_samples_post_metric_relabeling`` as well, where ``up`` is 1: it is 0 for a failed scrape. The series that has just
the labels of an active target is that target's. A scraper is believed for the targets of its own slices only.

Promises: at most ``AT_ONCE`` scrapers are asked at a time, two requests each, an answer at most ``BODY_BYTES_MAX`` long; one
that does not answer, answers nonsense, or has just started and has no figures is named, and keeps nobody from the others'
figures. Not promised: figures of a Prometheus in agent mode, which answers no query: see ``promql``.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.config.scraper_api import ScraperApi
from promring.config.values import Interval
from promring.core.fragment import ID_LABEL, id_of
from promring.core.joined import FleetPool
from promring.core.learning import Figures
from promring.loads import Asked, LoadContext, LoadError, LoadSettings, Round, vector
from promring.loads.gathered import Gathered
from promring.model import Placement, Scraper
from promring.runtime.http_client import HttpError, credentials_refused, new_session
from promring.runtime.json_entries import Entries, ListError
from promring.runtime.threads import computed

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it

AT_ONCE = 4
BODY_BYTES_MAX = 64 * 1024 * 1024
TARGETS_MAX = 300_000
TARGET_BYTES_MAX = 512 * 1024
HEAD_BYTES_MAX = 64 * 1024
JOBS_BYTES_MOST = 2000
"""A query that names more jobs than fit asks for all of them."""
DIFFER = 2.0
"""Figures of one target that differ by more between two scrapers are named."""
FIGURE = "scrape_samples_post_metric_relabeling"
TARGETS = "/api/v1/targets"
Own = Mapping[str, frozenset[int]]
_LIST = re.compile(rb'"activeTargets"[ \t\r\n]*:[ \t\r\n]*\[')


class SeriesLoads(LoadSettings):
    """``interval``: between two rounds of questions; ``timeout``: for each answer."""

    kind = "series"

    interval: Interval = 60.0
    timeout: Interval = 10.0

    def source(self, context: LoadContext) -> SeriesSource:
        return SeriesSource(self.interval, self.timeout, context.api)


class _Target(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str] = {}
    labels: dict[str, str] = {}
    scrape_pool: str = ""
    health: str = ""
    last_samples_scraped: float | None = None


_target = msgspec.json.Decoder(_Target).decode


@dataclass(slots=True)
class Said:
    """What one scraper says. ``wanted``: by the hash of its labels, the service and id of each target of which a query may
    have the figure; ``jobs``: the values of the label ``job`` among these.
    """

    gathered: Gathered = field(default_factory=Gathered)
    targets: int = 0
    wanted: dict[int, tuple[str, int]] = field(default_factory=dict)
    jobs: set[str] = field(default_factory=set)


class SeriesSource:
    """Asks the scrapers of a fleet. Seconds."""

    def __init__(self, interval_s: float, timeout_s: float, api: ScraperApi) -> None:
        self.interval_s, self._timeout_s, self._api = interval_s, timeout_s, api

    async def ask(self, asked: Asked) -> Round:
        gate = asyncio.Semaphore(AT_ONCE)
        services = {job: service for service, job in asked.jobs.items()}
        troubles: dict[str, str] = {}
        found: list[dict[str, Figures]] = []

        async def one(session: aiohttp.ClientSession, scraper: Scraper) -> None:
            async with gate:
                try:
                    own = await computed(lambda: _own(asked.placement, scraper))
                    said = await self._ask(session, scraper, services, own)
                except (LoadError, HttpError) as error:
                    troubles[scraper.id] = str(error)
                    return
            found.append(said.gathered.figures())
            if trouble := _trouble(said, sum(map(len, own.values()))):
                troubles[scraper.id] = trouble

        async with new_session(connections_max=AT_ONCE) as session:
            await asyncio.gather(*(one(session, scraper) for scraper in asked.placement.scrapers))
        figures = await computed(lambda: _joined(found))
        if different := await computed(lambda: sum(map(_different, figures.values()))):
            troubles["figures"] = f"of {different} targets two scrapers have figures far apart: the higher ones count"
        return Round(figures, troubles)

    async def _ask(self, session: aiohttp.ClientSession, scraper: Scraper, services: Mapping[str, str], own: Own) -> Said:
        """Raises ``LoadError``, ``HttpError``."""
        only = {"scrapePool": next(iter(services))} if len(services) == 1 else {}
        body = await self._get(session, scraper, TARGETS, {"state": "active"} | only)
        said = await computed(lambda: read_targets(body, services, own))
        if said.wanted:
            answer = await self._api.get(
                session,
                scraper.address,
                vector.PATH,
                timeout_s=self._timeout_s,
                params={"query": query_for(said.jobs)},
                body_bytes_max=BODY_BYTES_MAX,
            )
            series = vector.check(answer)
            await computed(lambda: read_series(series, said))
        return said

    async def _get(self, session: aiohttp.ClientSession, scraper: Scraper, path: str, params: dict[str, str]) -> bytes:
        """Raises ``LoadError``, ``HttpError``."""
        answer = await self._api.get(
            session, scraper.address, path, timeout_s=self._timeout_s, params=params, body_bytes_max=BODY_BYTES_MAX
        )
        if refused := credentials_refused(answer.status):
            raise LoadError(f"{path}: {refused}")
        if answer.status != 200:
            raise LoadError(f"{path} answered {answer.status}: {answer.text()}")
        return answer.body


def query_for(jobs: set[str]) -> str:
    """What a Prometheus server is asked for. ``jobs``: values of the label ``job``."""
    named = "|".join(map(_quoted, sorted(jobs)))
    matcher = f'{{job=~"{named}"}}' if 0 < len(named.encode()) <= JOBS_BYTES_MOST else ""
    return f"{FIGURE}{matcher} and up{matcher} == 1"


def _quoted(text: str) -> str:
    """As a part of a regular expression in a string of PromQL."""
    quoted = re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
    return quoted.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _own(placement: Placement, scraper: Scraper) -> dict[str, frozenset[int]]:
    """The ids of the targets in its slices, by service."""
    pool, index = placement.pool, placement.scrapers.index(scraper)
    assert isinstance(pool, FleetPool)  # the planner makes no others
    mine = (placement.owners == index).any(axis=1)
    return {name: frozenset(part.pool.ids[mine[pool.rows(name)]].tolist()) for name, part in pool.parts.items()}


def read_targets(body: bytes, services: Mapping[str, str], own: Own) -> Said:
    """Blocks. Raises ``LoadError``."""
    said = Said()
    for target in _targets(body):
        service, id_ = services.get(target.scrape_pool), id_of(target.discovered_labels.get(ID_LABEL, ""))
        if service is None or id_ is None or target.health != "up" or id_ not in own.get(service, ()):
            continue
        said.targets += 1
        if target.last_samples_scraped is not None:
            said.gathered.add(service, id_, target.last_samples_scraped, target.labels.get("instance", ""))
        else:
            said.wanted[_hash(target.labels)] = service, id_
            said.jobs.add(target.labels.get("job", ""))
    return said


def _targets(body: bytes) -> Iterator[_Target]:
    found = _LIST.search(body[:HEAD_BYTES_MAX])
    if found is None:
        raise LoadError(f"{TARGETS}: no list of active targets")
    try:
        for entry in Entries(body, found.end() - 1, entry_bytes_max=TARGET_BYTES_MAX, entries_max=TARGETS_MAX):
            yield _target(entry)
    except (ListError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LoadError(f"{TARGETS}: {' '.join(str(error)[:200].split())}") from error


def read_series(body: bytes, said: Said) -> None:
    """Blocks. Raises ``LoadError``."""
    for labels, value in vector.samples(body):
        labels.pop("__name__", None)
        known = said.wanted.get(_hash(labels))
        if known is not None:
            said.gathered.add(*known, value, labels.get("instance", ""))


def _hash(labels: Mapping[str, str]) -> int:
    return xxh3_64("\0".join(f"{name}\0{value}" for name, value in sorted(labels.items()) if value).encode())


def _trouble(said: Said, own: int) -> str:
    """``own``: how many targets its slices have."""
    if own and not said.targets:
        return f"lists none of its {own} targets as up"
    odd, missing = said.gathered.trouble, said.targets - said.gathered.count
    if odd:
        return odd
    return f"no figures yet of {missing} of {said.targets} targets" if missing > 0 else ""


def _joined(found: list[dict[str, Figures]]) -> dict[str, Figures]:
    every = {service for one in found for service in one}
    parts = {service: [one[service] for one in found if service in one] for service in every}
    return {
        service: Figures(np.concatenate([p.ids for p in some]), np.concatenate([p.values for p in some]))
        for service, some in parts.items()
    }


def _different(figures: Figures) -> int:
    """Of how many targets there are figures that are far apart."""
    ids, rows = np.unique(figures.ids, return_inverse=True)
    if len(ids) == len(figures.ids):
        return 0
    most, least = np.zeros(len(ids)), np.full(len(ids), math.inf)
    np.maximum.at(most, rows, figures.values)
    np.minimum.at(least, rows, figures.values)
    return int((most > DIFFER * np.maximum(least, 1.0)).sum())
