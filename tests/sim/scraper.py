"""Scrapers: what they answer, and what a scraper does with the lists that it is given, one a job.

A scraper is as Prometheus 2.42, Prometheus 3.5 or vmagent are: it applies a list some seconds after it has it, asks each
target at an offset of its own, replays its log after a restart, drops what relabelling drops; and it may fail, hang and lie.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import msgspec

from promring.core.fragment import ID_LABEL
from promring.model import LONG_AGO, Generation
from promring.runtime.http_client import Response
from tests.sim.faketime import START_S, WALL_S, Process
from tests.sim.jobs import ids_of, job_of
from tests.sim.traits import APPLIED_S, GO_ON_S, LIMIT, PORT, Loaded, Looked, Span, Traits, reach_of


@dataclass(eq=False)
class Scraper:
    """``hidden``: it lives, but Consul's checks do not reach it; ``vouched``: they look at something else, which lives.
    ``disk``: empty, ``full``, ``cut`` (half of the bytes arrive, at a far receiver or an agent) or ``stalls`` (they arrive
    ``stall_s`` later, whatever became of the sender).
    ``fails``: the share of the targets that it does not reach, ``cut``: which ones besides. ``api``: ``hangs`` or ``503``,
    although it scrapes. ``lie``: ``limited`` (it lists all as asked a moment ago, and asks none), ``still`` (it asks none,
    and says so only by its last scrapes), ``pool`` (its job has another name).
    """

    host: str
    folder: Path
    """Of the files, one a job."""
    traits: Traits = field(default_factory=Traits)
    zone: str = ""
    weight: float = 1.0
    up: bool = True
    frozen: bool = False
    hidden: bool = False
    vouched: bool = False
    disk: str = ""
    stall_s: float = 0.0
    fails: float = 0.0
    cut: set[str] = field(default_factory=set)
    refuses: set[str] = field(default_factory=set)
    """Jobs of which it takes no slice."""
    without: set[str] = field(default_factory=set)
    """Jobs that are not in its configuration: it takes their slices, and nobody reads them."""
    api: str = ""
    lie: str = ""
    started_at: float = START_S
    replays_until: float = 0.0
    fetched_at: dict[str, float] = field(default_factory=dict)
    """When it last got the list of each job, where it fetches them."""
    in_file: dict[str, float] = field(default_factory=dict)
    """Targets of the lists that it was given last, and since when."""
    loaded: dict[str, Loaded] = field(default_factory=dict)
    left_out: dict[str, tuple[str, float]] = field(default_factory=dict)
    """What relabelling dropped: the label with its id, and when it was last in the list."""
    accepted: dict[str, tuple[Generation, str]] = field(default_factory=dict)
    """By job, as all that follows: generation and digest of its list."""
    term: dict[str, int] = field(default_factory=dict)
    pulls: bool = False
    """Whether an agent keeps its files."""
    maker: dict[str, Process] = field(default_factory=dict)
    """The controller that made its slice, and since when it is that one."""
    maker_since: dict[str, float] = field(default_factory=dict)
    troubles: dict[str, Span] = field(default_factory=dict)
    past: list[Span] = field(default_factory=list)
    _read: dict[str, object] = field(default_factory=dict)
    _files: dict[str, Path] = field(default_factory=dict)
    _next: dict[str, dict[str, str]] = field(default_factory=dict)
    _apply_at: dict[str, float] = field(default_factory=dict)
    _looked_at: float = START_S
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.host)

    @property
    def id(self) -> str:
        return f"{self.host}:{PORT}"

    @property
    def answers(self) -> bool:
        return self.up and not self.frozen

    def file(self, job: str) -> Path:
        found = self._files.get(job)
        if found is None:
            found = self._files[job] = self.folder / f"{job}.json"
        return found

    def has_list(self, job: str) -> bool:
        """Whether it has a list of this job: one that it fetches does not outlive a restart."""
        return not self.traits.poll_s or self.fetched_at.get(job, LONG_AGO) >= self.started_at

    def of(self, job: str) -> dict[str, float]:
        """Of ``in_file`` what is of this job."""
        return {t: since for t, since in self.in_file.items() if job_of(t) == job}

    @property
    def process(self) -> Process:
        return Process(self.host)

    @property
    def scraped(self) -> set[str]:
        """What it has asked since it was given it."""
        return {t for t, one in self.loaded.items() if one.asked_at > LONG_AGO}

    def reaches(self, target: str) -> bool:
        return reach_of(target) >= self.fails and target not in self.cut

    def heal(self) -> None:
        self.hidden, self.vouched, self.frozen, self.disk = False, False, False, ""
        self.fails, self.api, self.lie = 0.0, "", ""
        self.cut.clear()
        self.refuses.clear()
        self.without.clear()

    def fail_now(self, now: float) -> None:
        """All it asks fails, in this moment."""
        for one in self.loaded.values():
            one.shown_at = one.asked_at = now
            one.up, one.error = False, "dial tcp: no route to host"

    def restart(self, now: float, replay_s: float = 0.0) -> None:
        self.up, self.frozen, self.started_at = True, False, now
        self.loaded, self.left_out, self._read, self._next = {}, {}, {}, {}
        if not self.traits.poll_s:  # a file that somebody deleted is no list any more
            self.in_file = {t: since for t, since in self.in_file.items() if self.file(job_of(t)).exists()}
        self.replays_until = now if self.traits.server == "vmagent" else now + replay_s

    def remove(self, job: str) -> None:
        """A person takes a job out of its configuration, and removes its file."""
        for of_job in (self.accepted, self.term, self.maker, self.maker_since, self.fetched_at, self._read, self._next):
            of_job.pop(job, None)
        for path in self.folder.glob(f"*{job}.json*"):
            path.unlink()
        self.in_file = {t: since for t, since in self.in_file.items() if job_of(t) != job}
        self.loaded = {t: one for t, one in self.loaded.items() if job_of(t) != job}
        self.left_out = {t: one for t, one in self.left_out.items() if job_of(t) != job}

    def lose(self, job: str) -> None:
        """A person takes a job out of its configuration, and leaves its file."""
        self.without.add(job)
        self._read.pop(job, None)
        self._next.pop(job, None)
        self.loaded = {t: one for t, one in self.loaded.items() if job_of(t) != job}
        self.left_out = {t: one for t, one in self.left_out.items() if job_of(t) != job}

    # --- scraping ----------------------------------------------------------------------------------------------------

    def given(self, job: str, body: bytes, now: float) -> None:
        """It has a list; it applies the newest one when the time of the first has come."""
        try:
            ids = ids_of(body)
        except ValueError:
            return  # as Prometheus: it goes on with what it has
        if job not in self._next:
            self._apply_at[job] = now + self._rng.uniform(0.0, APPLIED_S)
        self._next[job] = ids

    def look(self, now: float, jobs: Iterable[str]) -> Looked:
        """Once a second, of one that lives."""
        if now < self.replays_until:
            return Looked()
        if not self.traits.poll_s:
            for job in jobs:
                if job not in self.without:
                    self._read_file(job, now)
        due = [job for job in self._next if now >= self._apply_at[job]]
        dropped = tuple(t for job in due for t in self._apply(job, now))
        asked = tuple(self._scrape(now))
        self._looked_at = now
        return Looked(asked, tuple(t for t in asked if self.loaded[t].up), dropped)

    def _read_file(self, job: str, now: float) -> None:
        try:
            stat = self.file(job).stat()
        except FileNotFoundError:
            return
        if self._read.get(job) != (signature := (stat.st_ino, stat.st_mtime_ns, stat.st_size)):
            self._read[job] = signature
            self.given(job, self.file(job).read_bytes(), now)

    def _apply(self, job: str, now: float) -> tuple[str, ...]:
        ids, before, traits = self._next.pop(job), self.loaded, self.traits
        self.loaded = {t: one for t, one in before.items() if job_of(t) != job}
        for target, id_ in ids.items():
            if traits.drops(target):
                self.left_out[target] = id_, now
            else:
                old = before.get(target)
                self.loaded[target] = old if old and old.id == id_ else Loaded(id_, self._offset_s(target))
        shows = self._shows_for_s
        self.left_out = {t: x for t, x in self.left_out.items() if t in ids or job_of(t) != job or now - x[1] < shows}
        return tuple(t for t, one in before.items() if t not in self.loaded and one.up)

    @property
    def _shows_for_s(self) -> float:
        return GO_ON_S if self.traits.server == "vmagent" else 0.0

    def _offset_s(self, target: str) -> float:
        return crc32(f"{self.host} {target}".encode()) % 997 / 997 * self.traits.interval_s

    def _scrape(self, now: float) -> Iterator[str]:
        """Those that are due."""
        interval_s = self.traits.interval_s
        for target, one in self.loaded.items():
            if (now - one.offset_s) // interval_s == (self._looked_at - one.offset_s) // interval_s:
                continue
            if self.lie == "limited":
                one.shown_at, one.up, one.error = now, False, LIMIT
            elif self.lie != "still":
                one.asked_at = one.shown_at = now
                one.up = self.reaches(target)
                one.error = "" if one.up else "dial tcp: connect: connection refused"
                yield target

    # --- its HTTP API ------------------------------------------------------------------------------------------------

    async def answer(self, path: str, query: dict[str, str], now: float) -> Response:
        replays = now < self.replays_until
        if path == "/-/healthy" or (path == "/-/ready" and not replays):
            return Response(200, {}, b"OK")
        if self.api == "hangs" and not replays and path.startswith("/api/"):
            await asyncio.sleep(3600.0)
        if replays or self.api == "503":
            return Response(503, {}, b"Service Unavailable")
        return Response(200, {"date": _date(int(now))}, b'{"status":"success","data":%b}' % self._targets(query))

    def _targets(self, query: dict[str, str]) -> bytes:
        """Of one job, or of all of them, as it is asked; vmagent always says of all what it dropped."""
        asked, state, vmagent = query.get("scrapePool"), query.get("state", "any"), self.traits.server == "vmagent"
        active, dropped = list[bytes](), list[bytes]()
        if state != "dropped" and asked is None and self.traits.own_job:
            own = {"discoveredLabels": {"__address__": self.id}, "scrapePool": "own", "health": "up"}
            active.append(msgspec.json.encode(own))
        if state != "dropped":
            active += [self._active(t) for t in sorted(self.loaded) if asked in (None, self._pool(t))]
        if state != "active":
            shown = [t for t in sorted(self.left_out) if vmagent or asked in (None, self._pool(t))]
            dropped = [msgspec.json.encode(self._dropped(t)) for t in shown]
        counts = b""
        if self.traits.server == "3.5":
            said = Counter(map(self._pool, self.left_out)) if state != "active" else None
            counts = b',"droppedTargetCounts":%b' % msgspec.json.encode(said)
        return b'{"activeTargets":[%b],"droppedTargets":[%b]%b}' % (b",".join(active), b",".join(dropped), counts)

    def _pool(self, target: str) -> str:
        job = job_of(target)
        return f"mis{job}" if self.lie == "pool" else job

    def _discovered(self, target: str, id_: str) -> dict[str, str]:
        interval = f"{self.traits.interval_s:g}s" if self.traits.interval_s != 60 else "1m"
        return {"__address__": target, ID_LABEL: id_, "__scrape_interval__": interval, "job": self._pool(target)}

    def _active(self, target: str) -> bytes:
        one = self.loaded[target]
        of = one.id, one.shown_at, one.up, one.error, self.lie
        if one.said[0] != of:
            one.said = of, msgspec.json.encode(self._said(target, one))
        return one.said[1]

    def _said(self, target: str, one: Loaded) -> dict[str, Any]:
        server, discovered = self.traits.server, self._discovered(target, one.id)
        never = "1970-01-01T00:00:00Z" if server == "vmagent" else "0001-01-01T00:00:00Z"
        asked = one.shown_at > LONG_AGO
        down = "down" if asked or server == "vmagent" else "unknown"
        return {
            "discoveredLabels": discovered,
            "labels": {"instance": target},
            "scrapePool": discovered["job"],
            "lastScrape": _text(one.shown_at) if asked else never,
            "lastError": one.error,
            "health": "up" if one.up else down,
        } | ({} if server == "vmagent" else {"scrapeInterval": discovered["__scrape_interval__"]})

    def _dropped(self, target: str) -> dict[str, Any]:
        said = {"discoveredLabels": self._discovered(target, self.left_out[target][0])}
        return {**said, "scrapePool": self._pool(target)} if self.traits.server == "3.5" else said

    # --- what befell it ----------------------------------------------------------------------------------------------

    def note_troubles(self, now: float) -> None:
        """Once a second."""
        for what, target, share in self._troubles(now):
            name = f"{what} {target} {share}"
            known = self.troubles.get(name)
            if known is None or known.ended < now - 1.5:
                known = self.troubles[name] = Span(what, now - 1.0, now, target, share)
                self.past.append(known)
            known.ended = now

    def _troubles(self, now: float) -> Iterator[tuple[str, str, float]]:
        if not self.answers:
            yield "gone", "", 1.0
        if now < self.replays_until or now - self.started_at < self.traits.stage_s + 1.0:
            yield "starts", "", 1.0
        if self.api or self.lie:
            yield f"{self.api} {self.lie}", "", 1.0
        if self.fails:
            yield "fails", "", self.fails
        for target in self.cut:
            yield "cut", target, 1.0
        for job in self.without:
            for target in self.of(job):
                yield "without", target, 1.0

    def was_ill(self, target: str, since: float) -> bool:
        """Whether it was in any trouble with this target since then."""
        return any(span.ended >= since and span.concerns(target) for span in self.past)

    def failed(self, target: str, since: float) -> bool:
        """Whether it did not reach this target since then."""
        return any(span.what in ("fails", "cut") and span.concerns(target) for span in self.past if span.ended >= since)

    def fell_ill(self, target: str, since: float) -> bool:
        """Whether a trouble with this target began since then."""
        return any(span.began >= since and span.concerns(target) for span in self.past)


@lru_cache(8)
def _date(now: int) -> str:
    """Whole seconds, as an answer's header says them."""
    return format_datetime(datetime.fromtimestamp(int(WALL_S) + now, UTC), usegmt=True)


@lru_cache(64)
def _text(now: float) -> str:
    return datetime.fromtimestamp(WALL_S + now, tz=UTC).isoformat()
