"""Which kinds of discovery failed lately inside a Prometheus, as its metrics say.

Prometheus keeps the last targets of a discovery that fails. It counts the failures by kind (``dns``, ``ec2``), not by job.
Only versions after 3.5 have a label ``config``, the name of the job, for the kinds that are polled. So mostly it is known
that a kind failed, and which jobs use that kind, but not which of these jobs it was. When a kind works again is not said
either: it counts as failing for ``LASTS_S`` after its last failure. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from promring.discovery.engine_config import Job
from promring.runtime.text import few

LASTS_S = 600.0
"""Longer than most kinds wait between two attempts: a failure is counted at an attempt."""
JOBS_NAMED = 5
_COUNTERS = re.compile(
    rb"^prometheus_(?:sd_(?:(refresh)|(?!file_watcher)(?P<kind>[a-z0-9]++)[a-z_]*)_(?:failures|errors)_total"
    rb"|treecache_(?P<tree>zookeeper)_failures_total|sd_(?P<requests>kubernetes)_http_request_total)"
    rb"(?:\{(?P<labels>[^\n]*)\})? (?P<value>\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(rb'(?<![a-z_])([a-z_]++)="((?:[^"\\]|\\.)*+)"')
_NOT_STARTED = re.compile(rb'^prometheus_sd_failed_configs\{name="scrape"\} (\S+)$', re.MULTILINE)
_TWICE = frozenset({"azure", "http", "linode", "nomad"})
"""Kinds with a counter of their own, beside that of all kinds that are polled."""
_KINDS_OF = {"zookeeper": ("serverset", "nerve")}
_GONE = b"410"
"""With it the API server ends a watch that is too old; the next list mends that."""


class Cause(NamedTuple):
    """A ``kind`` of discovery; ``job``: of which one it was; empty: that is not said."""

    kind: str
    job: str = ""

    def used_by(self, jobs: Mapping[str, Job]) -> list[str]:
        """The jobs of which it may have been one."""
        kinds = _KINDS_OF.get(self.kind, (self.kind,))
        return [self.job] if self.job else [name for name, job in jobs.items() if job.kinds.intersection(kinds)]


def failures_of(metrics: bytes) -> Mapping[Cause, float]:
    """How often each failed since the start of the process."""
    found: dict[Cause, float] = {}
    for match in _COUNTERS.finditer(metrics):
        if (cause := _cause(match, dict(_LABEL.findall(match["labels"] or b"")))) is not None:
            found[cause] = found.get(cause, 0.0) + _number(match["value"])
    return found


def not_started(metrics: bytes) -> int:
    """How many configurations of discoveries could not be started, of all jobs."""
    found = _NOT_STARTED.search(metrics)
    return int(_number(found[1])) if found else 0


def _cause(match: re.Match[bytes], labels: Mapping[bytes, bytes]) -> Cause | None:
    if match[1]:
        return Cause(_text(labels.get(b"mechanism", b"")), _text(labels.get(b"config", b"")))
    if match["requests"]:
        code = labels.get(b"status_code", b"")
        return Cause("kubernetes") if code != _GONE and (code == b"<error>" or code[:1] in (b"4", b"5")) else None
    kind = _text(match["tree"] or match["kind"])
    return None if kind in _TWICE else Cause(kind)


def _number(value: bytes) -> float:
    try:
        return max(0.0, min(float(value), 1e15))
    except ValueError:
        return 0.0


def _text(value: bytes) -> str:
    return re.sub(r"\\([\\\"n])", lambda one: "\n" if one[1] == "n" else one[1], value.decode("utf-8", "replace"))


@dataclass(slots=True)
class Failures:
    """What failed lately in one engine. Times are monotonic seconds."""

    counts: Mapping[Cause, float] | None = None
    life: object = None
    """Of the process that counted."""
    at: dict[Cause, float] = field(default_factory=dict)
    """When a look found that it had failed since the look before."""
    not_started: int = 0
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """Of the last look."""
    users: dict[Cause, frozenset[str]] = field(default_factory=dict)
    """The jobs that may have failed, as they were then: one of them may be gone by now."""

    def note(
        self,
        counts: Mapping[Cause, float],
        not_started: int,
        life: object,
        jobs: Mapping[str, Job],
        *,
        age_s: float,
        now: float,
    ) -> None:
        """One look. ``age_s``: of the process. What it counted before the first look counts if it is younger than
        ``LASTS_S``.
        """
        before = self.counts if self.life == life else {}
        if self.counts is None and age_s >= LASTS_S:
            before = counts
        for cause in (cause for cause, count in counts.items() if count > (before or {}).get(cause, 0.0)):
            self.at[cause] = now
            self.users[cause] = frozenset((*cause.used_by(self.jobs), *cause.used_by(jobs)))
        self.counts, self.life, self.not_started, self.jobs = counts, life, not_started, jobs

    def of(self, scrape_pool: str, jobs: Mapping[str, Job], now: float) -> Iterator[str]:
        """What is to be said of the discovery of one job, a text each."""
        lately = f"in the last {LASTS_S / 60:g} minutes"
        for cause in sorted(cause for cause, at in self.at.items() if now - at < LASTS_S):
            if scrape_pool not in cause.used_by(jobs):
                continue
            users = sorted(self.users[cause].union(cause.used_by(jobs)))
            if cause.job:
                yield f"a discovery by {cause.kind} of this job failed there {lately}"
            elif len(users) == 1:
                yield f"a discovery by {cause.kind} failed there {lately}; only this job has one"
            else:
                others = [repr(name) for name in users if name != scrape_pool]
                named = few(others, JOBS_NAMED)
                yield f"a discovery by {cause.kind} failed there {lately}: of this job or of {named}"
        job = jobs.get(scrape_pool)
        if self.not_started and job is not None and job.kinds:
            yield f"{self.not_started} of its discoveries, of this job or of others, could not be started: see its log"
