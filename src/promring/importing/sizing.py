"""How much the old server does, job by job, and what that is for a fleet: asks the server that runs, changes nothing.

Targets come from its ``/api/v1/targets``, samples a scrape from its last ``scrape_samples_scraped``; a server that answers
no queries (agent mode, vmagent) has only targets, or vmagent's own count.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import msgspec

from promring.importing.convert import Converted
from promring.model import PromringError
from promring.runtime.duration import parse_duration
from promring.runtime.http_client import HttpError, Response, request
from promring.runtime.redact import shown

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 1024**3
SERIES_MOST = 1_000_000
"""Samples of one scrape of all targets that one scraper should have: about as many active series."""
_QUERY = "sum by (job) (scrape_samples_scraped)"


class AskError(PromringError):
    """The old server gives no answer."""


class _Target(msgspec.Struct, rename="camel"):
    labels: dict[str, str] = {}
    scrape_pool: str = ""
    scrape_interval: str = ""
    last_samples_scraped: int = 0


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: list[_Target] = []


class _TargetsAnswer(msgspec.Struct):
    data: _Targets


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Result(msgspec.Struct):
    result: list[_Sample]


class _QueryAnswer(msgspec.Struct):
    data: _Result


@dataclass
class JobLoad:
    """``samples``: of one scrape of all targets, 0: not known; ``interval_s``: between scrapes, 0: not known."""

    targets: int = 0
    samples: int = 0
    interval_s: float = 0.0

    @property
    def per_second(self) -> float:
        return self.samples / self.interval_s if self.interval_s else 0.0


@dataclass
class Load:
    """``jobs``: by name, as the old server has them."""

    jobs: dict[str, JobLoad] = field(default_factory=dict)
    shared: int = 0
    """Samples of the jobs that are shared."""
    kept: int = 0
    """Samples of the jobs that every scraper has."""

    @property
    def needed(self) -> int:
        """Scrapers, so that none has more than ``SERIES_MOST`` when one of them is lost."""
        room = max(1, SERIES_MOST - self.kept)
        return max(2, math.ceil(self.shared / room) + 1)

    def each(self, scrapers: int) -> int:
        """Samples a scrape of each of so many scrapers."""
        return self.kept + math.ceil(self.shared / max(1, scrapers))


async def ask_load(url: str, found: Converted) -> Load:
    """Raises ``AskError``."""
    base = url.rstrip("/")
    load = Load()
    async with aiohttp.ClientSession() as session:
        answer = await _get(session, f"{base}/api/v1/targets", {"state": "active"})
        if answer.status != 200:
            raise AskError(f"{shown(url)}: /api/v1/targets answered {answer.status}")
        try:
            targets = msgspec.json.decode(answer.body, type=_TargetsAnswer).data.active_targets
        except msgspec.DecodeError as error:
            raise AskError(f"{shown(url)}: /api/v1/targets is malformed: {error}") from error
        for target in targets:
            job = load.jobs.setdefault(target.scrape_pool or target.labels.get("job", ""), JobLoad())
            job.targets += 1
            job.samples += target.last_samples_scraped
            job.interval_s = job.interval_s or _seconds(target.scrape_interval)
        for name, samples in (await _samples(session, base)).items():
            if name in load.jobs:
                load.jobs[name].samples = samples
    shared = {judged.job.name for judged in found.jobs if judged.verdict.sharded}
    load.shared = sum(job.samples for name, job in load.jobs.items() if name in shared)
    load.kept = sum(job.samples for name, job in load.jobs.items() if name not in shared)
    return load


async def _get(session: aiohttp.ClientSession, url: str, params: dict[str, str]) -> Response:
    try:
        return await request(session, "GET", url, params=params, timeout_s=TIMEOUT_S, body_bytes_max=ANSWER_BYTES_MAX)
    except HttpError as error:
        raise AskError(f"{shown(url)}: {error}") from error


async def _samples(session: aiohttp.ClientSession, base: str) -> Counter[str]:
    """By the label ``job``; none where no query is answered."""
    answer = await _get(session, f"{base}/api/v1/query", {"query": _QUERY})
    try:
        result = msgspec.json.decode(answer.body, type=_QueryAnswer).data.result if answer.status == 200 else []
        return Counter({sample.metric.get("job", ""): int(float(sample.value[1])) for sample in result})
    except (msgspec.DecodeError, ValueError, OverflowError):
        return Counter()


def _seconds(text: str) -> float:
    try:
        return parse_duration(text) if text else 0.0
    except ValueError:
        return 0.0
