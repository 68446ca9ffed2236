"""Planned moves of live targets on real servers: scrapes missed, longest gap, length of the hand-over, scrapes made twice.

Axes: server (Prometheus 2.42, 3.5, 3.5 in agent mode, vmagent, all of them mixed), delivery (file, http_sd at several
refresh intervals, agent, ssh), scrape interval (5 s, 1 m), move. Many rows are measured at once: each lab is a fleet of its
own with a shard service for each delivery and interval, and all labs run beside each other. What a death costs is in
``failover``.

A missed scrape is a whole interval in which nobody scraped a live target with success. The longest gap of a target that does
not move is what the servers themselves make. An interval of 1 m costs minutes a move, whatever is measured beside it.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.real.moving import Job, Kind, Lab, Means, kind, lab

from bench import moves_steps as steps
from bench.moves_steps import RELOADS, Cost, Step, take
from bench.report import console

FAST_S, SLOW_S = 5.0, 60.0
STARTING_AT_ONCE = 5
SETTLE_S = 240.0
FILE = Path("moves.json")


@dataclass(frozen=True, slots=True)
class Course:
    """One lab and what is done in it. ``kinds``: the scrapers; the last of them is started by the step ``join`` where
    ``joins``.
    """

    server: str
    pace: str
    kinds: Sequence[Kind]
    jobs: Callable[[Path], Sequence[Job]]
    steps: Sequence[Step]
    joins: bool = True

    @property
    def name(self) -> str:
        return f"{self.server}, {self.pace}"


@dataclass(frozen=True, slots=True)
class Row:
    server: str
    delivery: str
    interval_s: float
    move: str
    targets: int
    expected: int
    missed: int
    late: int
    longest_s: float
    handover_s: float
    extra: int
    note: str

    @property
    def key(self) -> tuple[str, float, str, str]:
        return self.move, self.interval_s, self.server, self.delivery


async def run(*, quick: bool = False, only: Sequence[str] = (), file: Path = FILE) -> None:
    """``only``: courses whose name has one of these words. The rows go to stdout as Markdown, and to ``file`` as JSON."""
    courses = [c for c in (_quick() if quick else _full()) if not only or any(word in c.name for word in only)]
    if not courses:
        console.print("moves: nothing to measure; needs prometheus, prometheus3, vmagent (scripts/fetch-servers gets them)")
        return
    began = time.monotonic()
    gate = asyncio.Semaphore(STARTING_AT_ONCE)
    rows: list[Row] = []
    for found in await asyncio.gather(*(_measure(course, gate) for course in courses)):
        rows += found
    rows.sort(key=lambda row: row.key)
    took_s = time.monotonic() - began
    file.write_text(json.dumps({"seconds": round(took_s), "machine": platform.machine(), "rows": [asdict(r) for r in rows]}))
    print(markdown(rows))
    missed, moves = sum(r.missed for r in rows), len(rows)
    print(
        f"\n{moves} rows in {took_s / 60:.1f} minutes: {missed} scrapes missed of {sum(r.expected for r in rows)} (asked: 0)"
    )
    if bad := [r for r in rows if r.missed or r.note]:
        print(f"{sum(r.missed > 0 for r in bad)} rows with missed scrapes, {sum(bool(r.note) for r in bad)} with a note")


async def _measure(course: Course, gate: asyncio.Semaphore) -> list[Row]:
    """A course that breaks says so and keeps the rows that it has."""
    rows: list[Row] = []
    try:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promring-bench-")))
            async with gate:
                fleet = await stack.enter_async_context(_lab(course, folder))
            for step in course.steps:
                costs = await take(fleet, step)
                rows += [_row(course, cost) for cost in costs]
                lost = sum(cost.tally.missed for cost in costs)
                say(f"{course.name}: {step.name}, {max(cost.seconds for cost in costs):.0f} s, {lost} missed")
    except Exception as error:  # one course of many: the others go on
        say(f"{course.name}: broken off after {len(rows)} rows: {error!r}")
    return rows


def _lab(course: Course, folder: Path) -> AbstractAsyncContextManager[Lab]:
    running = len(course.kinds) - course.joins
    return lab(folder, course.kinds, course.jobs(folder), running=running, settle_s=SETTLE_S)


def say(text: str) -> None:
    print(f"moves: {text}", file=sys.stderr, flush=True)


def _row(course: Course, cost: Cost) -> Row:
    job, found = cost.job, cost.tally
    delivery = f"{job.delivery} {job.refresh}" if job.delivery == "http_sd" else job.delivery
    if job.halved:
        delivery += ", half dropped"
    return Row(
        course.server,
        delivery,
        job.interval_s,
        cost.move,
        job.count // 2 if job.halved else job.count,
        found.expected,
        found.missed,
        found.late,
        round(found.longest_s, 2),
        round(found.handover_s, 1),
        found.extra,
        cost.note,
    )


COLUMNS = ("move", "interval", "server", "delivery", "expected", "missed", "longest gap", "hand-over", "extra", "note")


def markdown(rows: Iterable[Row]) -> str:
    """A row a measurement; what was missed is bold."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for r in rows:
        missed = f"**{r.missed}**" if r.missed else "0"
        times = (f"{r.longest_s:.1f} s", f"{r.handover_s:.0f} s")
        lines.append(
            (r.move, f"{r.interval_s:g} s", r.server, r.delivery, f"{r.expected}", missed, *times, f"{r.extra}", r.note)
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _kinds() -> dict[str, Kind]:
    found = {
        "Prometheus 2.42": kind("prometheus"),
        "Prometheus 3.5": kind("prometheus3"),
        "3.5 agent mode": kind("prometheus3", agent=True),
        "vmagent": kind("vmagent"),
        "vmagent as it comes": kind("vmagent", check=None),
    }
    return {name: one for name, one in found.items() if one is not None}


def _mixed(kinds: dict[str, Kind]) -> list[Kind]:
    return [one for name, one in kinds.items() if name != "vmagent as it comes"]


def _quick() -> list[Course]:
    mixed = _mixed(_kinds())
    jobs = [Job("file", "file", FAST_S), Job("http", "http_sd", FAST_S)]
    moves = [steps.drain(0), steps.drain(0, back=True), steps.join(len(mixed)), steps.comes_back(1)]
    return [Course("mixed", "5 s", [*mixed, mixed[0]], lambda _: jobs, moves)] if mixed else []


def _full() -> list[Course]:
    kinds = _kinds()
    mixed = _mixed(kinds)
    if not mixed:
        return []
    courses = [
        _rolling(mixed),
        _reloads(mixed, SLOW_S, [steps.reload(tuple(RELOADS)), steps.fewer_copies(), *_followed()]),
        *(_slow(name, one) for name, one in kinds.items()),
        _mixed_course(mixed, SLOW_S),
        _mixed_course(mixed, FAST_S),
        *(_fast(name, one) for name, one in kinds.items() if name != "vmagent as it comes"),
    ]
    alone = [steps.reload((name,)) for name in RELOADS]
    return [*courses, _reloads(mixed, FAST_S, [*alone, steps.fewer_copies(), *_followed()])]


def _followed() -> list[Step]:
    return [steps.drain_before_they_follow(), steps.follow()]


def _fast(name: str, one: Kind) -> Course:
    """Everything at 5 s, on one kind of server."""
    jobs = [
        Job("file", "file", FAST_S),
        Job("http", "http_sd", FAST_S),
        Job("halved", "http_sd", FAST_S, halved=True, count=20),
    ]
    replayed = [] if "vmagent" in name else [steps.comes_back(2, replay_s=steps.REPLAY_S)]
    moves = [*_plain(3), steps.comes_back(1), *replayed, steps.rolling(range(4))]
    return Course(name, "5 s", [one] * 4, lambda _: jobs, moves)


def _slow(name: str, one: Kind) -> Course:
    """What takes minutes a move: an interval of 1 m, lists that are looked at rarely."""
    if name == "vmagent as it comes":  # it looks at every list once a minute
        ways: tuple[Means, ...] = ("file", "http_sd")
        jobs = [Job(f"{way}-{s:g}", way, s, refresh="1m") for way in ways for s in (FAST_S, SLOW_S)]
    else:
        jobs = [Job("file", "file", SLOW_S), Job("http", "http_sd", SLOW_S)]
        if "vmagent" not in name:
            jobs += [Job(f"http30-{s:g}", "http_sd", s, refresh="30s") for s in (FAST_S, SLOW_S)]
    back = steps.comes_back(1, replay_s=0.0 if "vmagent" in name else steps.REPLAY_S)
    return Course(name, "1 m", [one] * 4, lambda _: jobs, [*_plain(3), back])


def _plain(joiner: int) -> list[Step]:
    return [steps.drain(0), steps.drain(0, back=True), steps.join(joiner)]


def _mixed_course(mixed: Sequence[Kind], interval_s: float) -> Course:
    """All kinds of servers hand over to each other; all ways by which a file gets there."""
    ways: tuple[Means, ...] = ("file", "agent", "ssh")
    jobs = [Job(way, way, interval_s) for way in ways]
    moves = [*_plain(len(mixed)), steps.comes_back(1)]
    if interval_s == FAST_S:
        moves.append(steps.rolling(range(len(mixed))))
    pace = "5 s" if interval_s == FAST_S else "1 m"
    return Course("mixed", f"file, agent, ssh, {pace}", [*mixed, mixed[0]], lambda _: jobs, moves)


def _rolling(mixed: Sequence[Kind]) -> Course:
    jobs = [Job("file", "file", SLOW_S), Job("http", "http_sd", SLOW_S)]
    kinds = [mixed[0], *mixed[-2:]]
    return Course("mixed", "rolling, 1 m", kinds, lambda _: jobs, [steps.rolling(range(len(kinds)))], joins=False)


def _reloads(mixed: Sequence[Kind], interval_s: float, moves: Sequence[Step]) -> Course:
    pace = "5 s" if interval_s == FAST_S else "1 m"
    return Course(
        "mixed", f"reload, {pace}", mixed, lambda folder: steps.reload_jobs(interval_s, str(folder)), moves, joins=False
    )
