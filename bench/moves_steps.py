"""Planned moves, one after the other in one lab: how each begins, and when it is over.

A ``Step`` changes one thing for all jobs of a lab, or for some. Deaths are not counted: what a step stops before it begins
is settled before its window opens.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.gaps import Tally
from tests.real.moving import Job, Lab, Means

REPLAY_S = 60.0
RELOADED_S = 80.0
"""A reload is watched for so long, and two intervals more: what is doubted is held for a minute first."""
POLL_S = 0.5
Act = Callable[[Lab], Awaitable[str]]
"""Does something; a note about it, usually an empty text."""
Over = Callable[[Lab, str, float], bool]
"""Lab, job, seconds since the beginning."""


async def _nothing(_: Lab) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Step:
    """``prepare`` is before the window. ``settles``: it is over only when every target has its one scraper again. ``jobs``:
    only these.
    """

    name: str
    begin: Act
    over: Over
    prepare: Act = _nothing
    settles: bool = True
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step cost one job. ``note``: what was said, and whether it was over in time."""

    job: Job
    move: str
    tally: Tally
    seconds: float
    note: str


async def take(lab: Lab, step: Step) -> list[Cost]:
    """Do it, wait until it is over for each job, at most ``_limit_s``, and count."""
    jobs = step.jobs or tuple(lab.jobs)
    await step.prepare(lab)
    since = time.monotonic()
    note = await step.begin(lab)
    limit_s = time.monotonic() - since + _limit_s(lab, jobs)
    ended: dict[str, float] = {}
    while len(ended) < len(jobs) and time.monotonic() - since < limit_s:
        await asyncio.sleep(POLL_S)
        for job in jobs:
            gone_s = time.monotonic() - since
            if job not in ended and step.over(lab, job, gone_s) and (not step.settles or lab.settled(job)):
                ended[job] = gone_s
    return [_cost(lab, step, job, since, ended.get(job), note) for job in jobs]


def _cost(lab: Lab, step: Step, job: str, since: float, ended_s: float | None, note: str) -> Cost:
    seconds = ended_s if ended_s is not None else time.monotonic() - since
    said = [note] if note else []
    if ended_s is None:
        said.append("not over in time")
    move = f"{step.name}: {job}" if len(step.jobs) > 1 else step.name
    return Cost(lab.jobs[job], move, lab.tally(job, since, since + seconds), seconds, "; ".join(said))


def _limit_s(lab: Lab, jobs: Iterable[str]) -> float:
    return 90 + 4 * max(lab.jobs[job].interval_s for job in jobs)


def loaded(number: int, *, some: bool) -> Over:
    """This scraper scrapes some targets of the job, or none any more."""
    return lambda lab, job, _: (lab.load_of(job, lab.scrapers[number]) > 0) is some


def watched(lab: Lab, job: str, gone_s: float) -> bool:
    """Long enough to see what a reload did."""
    return gone_s > RELOADED_S + 2 * lab.jobs[job].interval_s


def drain(number: int, *, back: bool = False) -> Step:
    async def begin(lab: Lab) -> str:
        await lab.drain(lab.scrapers[number], lab.jobs, back=back)
        return ""

    return Step("undrain" if back else "drain", begin, loaded(number, some=back))


def join(number: int) -> Step:
    async def begin(lab: Lab) -> str:
        await lab.start(lab.scrapers[number])
        return ""

    return Step("join", begin, loaded(number, some=True))


def comes_back(number: int, *, replay_s: float = 0.0) -> Step:
    """Stopped with SIGTERM until the others have what it had, then started."""

    async def prepare(lab: Lab) -> str:
        await lab.scrapers[number].stop()
        await _wait(lab, loaded(number, some=False))
        return ""

    async def begin(lab: Lab) -> str:
        if replay_s:
            await lab.start_with_replay(lab.scrapers[number], replay_s)
        else:
            await lab.start(lab.scrapers[number])
        return ""

    name = f"return, {replay_s:g} s of WAL replay" if replay_s else "return"
    return Step(name, begin, loaded(number, some=True), prepare)


def rolling(numbers: Iterable[int]) -> Step:
    """Each in turn: drained, restarted, taken back."""

    async def begin(lab: Lab) -> str:
        notes = [f"{lab.scrapers[number].id} {note}" for number in numbers if (note := await _restart(lab, number))]
        return "; ".join(notes)

    return Step("rolling restart with drain", begin, lambda *_: True)


async def _restart(lab: Lab, number: int) -> str:
    scraper = lab.scrapers[number]
    await lab.drain(scraper, lab.jobs)
    drained = await _wait(lab, loaded(number, some=False))
    await scraper.stop()
    await lab.start(scraper)
    await lab.drain(scraper, lab.jobs, back=True)
    back = await _wait(lab, loaded(number, some=True))
    return "" if drained and back else f"not {'taken back' if drained else 'drained'} in time"


async def _wait(lab: Lab, over: Over) -> bool:
    limit_s = time.monotonic() + _limit_s(lab, lab.jobs)
    while time.monotonic() < limit_s:
        if all(over(lab, job, 0.0) and lab.settled(job) for job in lab.jobs):
            return True
        await asyncio.sleep(POLL_S)
    return False


# ---- reloads: a job of each kind, so that each can be reloaded alone and all of them at once ----


def _identity(lab: Lab) -> None:
    lab.services["identity"]["identity"] = "host"


def _hash_labels(lab: Lab) -> None:
    lab.services["hash_labels"]["placement"] = {"hash_labels": ["env", "__address__"]}


def _more_copies(lab: Lab) -> None:
    lab.services["replication"]["placement"] = {"replication_factor": 2}
    lab.copies["replication"] = 2


def _fewer_copies(lab: Lab) -> None:
    lab.services["replication"]["placement"] = {"replication_factor": 1}
    lab.copies["replication"] = 1


def _load_factor(lab: Lab) -> None:
    lab.services["load_factor"]["placement"] = {"load_factor": None}


def _taken_out(lab: Lab) -> None:
    lab.services["taken_out"]["scrapers"]["probe"]["nodes"].pop()


def _renamed(lab: Lab) -> None:
    lab.services["renamed_now"] = lab.services.pop("renamed")


def _to_http_sd(lab: Lab) -> None:
    lab.services["delivery"]["delivery"] = [{"http_sd": {}}]


RELOADS: dict[str, tuple[str, Callable[[Lab], None]]] = {
    "identity": ("reload: identity host_port -> host", _identity),
    "hash_labels": ("reload: hash_labels", _hash_labels),
    "replication": ("reload: replication 1 -> 2", _more_copies),
    "load_factor": ("reload: load_factor 1.10 -> none", _load_factor),
    "taken_out": ("reload: a live scraper taken out", _taken_out),
    "renamed": ("reload: service renamed", _renamed),
    "delivery": ("reload: delivery file -> http_sd", _to_http_sd),
}


def reload_jobs(interval_s: float, folder: str) -> list[Job]:
    """A job for each kind of reload. That of the renamed one has a path and a scrape pool without its name."""
    fixed: dict[str, Any] = {"audit": {"interval": "5s"}, "job": "renamed"}
    fixed["delivery"] = [{"file": {"path": f"{folder}/out/renamed/{{scraper}}.json"}}]
    made = []
    for name in RELOADS:
        means: Means = "file" if name in ("renamed", "delivery") else "http_sd"
        made.append(Job(name, means, interval_s, service=fixed if name == "renamed" else {}))
    return made


def reload(names: tuple[str, ...]) -> Step:
    """One reload with the changes of these jobs."""

    async def begin(lab: Lab) -> str:
        before = {job: _kept(service) for job, service in lab.services.items()}, dict(lab.copies)
        for name in names:
            RELOADS[name][1](lab)
        answer = await lab.reload()
        if answer.status == 200:
            return ""
        lab.services, lab.copies = before  # refused whole: everything is as it was
        return f"refused: {answer.status} {answer.text()[:200]}"

    def over(lab: Lab, job: str, gone_s: float) -> bool:
        left = job != "taken_out" or lab.load_of(job, lab.scrapers[-1]) == 0
        return left and watched(lab, job, gone_s)

    title = RELOADS[names[0]][0] if len(names) == 1 else f"reload: {len(names)} changes at once"
    return Step(title, begin, over, jobs=names)


def _kept(service: dict[str, Any]) -> dict[str, Any]:
    """A copy that what is changed in place does not change."""
    return {key: _kept(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
            for key, value in service.items()}  # fmt: skip


def fewer_copies() -> Step:
    async def begin(lab: Lab) -> str:
        _fewer_copies(lab)
        answer = await lab.reload()
        return "" if answer.status == 200 else f"refused: {answer.status}"

    return Step("reload: replication 2 -> 1", begin, watched, jobs=("replication",))


def drain_before_they_follow() -> Step:
    """A drain while promring serves http_sd and the scrapers still read files: nothing can move, nothing may be lost."""

    async def begin(lab: Lab) -> str:
        await lab.drain(lab.scrapers[0], ["delivery"])
        return ""

    return Step("drain, while scrapers still read files", begin, watched, settles=False, jobs=("delivery",))


def follow() -> Step:
    """The scrapers ask by http_sd, one SIGHUP each."""

    async def begin(lab: Lab) -> str:
        lab.jobs["delivery"] = replace(lab.jobs["delivery"], delivery="http_sd")
        for scraper in lab.scrapers:
            lab.configure(scraper)
            scraper.signal(signal.SIGHUP)
        return ""

    return Step("scrapers follow to http_sd", begin, loaded(0, some=False), jobs=("delivery",))
