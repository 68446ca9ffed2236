"""One push of ``ansible-playbook`` to several hosts, each with the slices of one service or of several, and what it makes of
each slice.

A host is told of as soon as it is through, or has failed: then it is free for another push while this one still runs. What
became of the others is decided at the end: a host that was begun and not ended in time has failed, one that the push did not
come to is waiting, and where nothing was heard of any host the trouble is our own. What a host is to blame for (it cannot be
reached, it hangs) is told to all of its slices; what the receiver says of one slice counts for that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from promring.delivery import How, Leads, Outcome
from promring.delivery.ansible_inventory import Host
from promring.delivery.ansible_run import PROGRAM, Report, Run, Told
from promring.delivery.receiver import RefusedError
from promring.delivery.receiver_sh import REMEDIES, Answer, TroubleError, was_written
from promring.model import Generation, Scraper, Slice
from promring.runtime.backoff import backoff_s
from promring.runtime.threads import in_thread_shielded
from promring.telemetry.log import Logger

BAD = ("failed", "unreachable")


@dataclass(frozen=True, slots=True)
class AnsiblePace:
    """Seconds: what was delivered is pushed again after half to all of ``verify_s``; what failed after ``retry_first_s``,
    then twice as long each time up to ``retry_most_s``. ``deliver`` waits ``wait_s`` for a push, ``slow_wait_s`` for one of
    hosts that failed the last time.
    """

    verify_s: float = 600.0
    retry_first_s: float = 1.0
    retry_most_s: float = 30.0
    wait_s: float = 2.0
    slow_wait_s: float = 0.1


class Owner(Protocol):
    """The delivery of one service, as a push sees it."""

    def wake(self) -> None:
        """What was told to be waiting has ended."""

    def news(self) -> None:
        """Likewise, but others may follow soon."""


@dataclass(frozen=True, slots=True)
class _Delivered:
    """What a scraper has, as far as is known, and when that is to be made sure of."""

    address: str
    generation: Generation
    sha256: str
    verify_at: float

    def is_that(self, slice_: Slice) -> bool:
        return (self.address, self.generation, self.sha256) == (slice_.scraper.address, slice_.generation, slice_.sha256)


@dataclass(eq=False)
class Far:
    """One scraper's host, for all services: which push it is in, and whether it is to be left alone."""

    scraper: Scraper
    push: Push | None = None
    slow: bool = False
    """The last push began with it and did not bring its slices."""
    failures: int = 0
    retry_at: float = 0.0

    def settle(self, outcomes: Sequence[Ended], pace: AnsiblePace) -> None:
        self.push = None
        blamed = [e.outcome for e in outcomes if not e.of_file]
        self.slow = any(outcome.is_theirs for outcome in blamed)
        self.failures = self.failures + 1 if any(outcome.was_not_brought for outcome in blamed) else 0
        self.retry_at = retry_at(self.failures, pace)


@dataclass(eq=False)
class Sink:
    """One scraper's file of one service: what it has, which push is bringing another one, and how the last one ended."""

    owner: Owner
    name: str
    """Of the file."""
    delivered: _Delivered | None = None
    before: _Delivered | None = None
    """What it had before the push that is under way."""
    push: Push | None = None
    result: tuple[Slice, Outcome] | None = None
    """Until it is told."""
    passed_over: bool = False
    failures: int = 0
    """Of this file alone, in a row."""
    retry_at: float = 0.0
    error: str = ""
    remarked: set[str] = field(default_factory=set)
    """What the receiver remarked, and what was said."""

    def has(self, slice_: Slice) -> bool:
        return self.delivered is not None and self.delivered.is_that(slice_)

    def is_sure_of(self, slice_: Slice, now: float) -> bool:
        return self.delivered is not None and self.has(slice_) and now < self.delivered.verify_at

    def begin(self, push: Push) -> None:
        self.push, self.before, self.delivered = push, self.delivered, None  # until it is heard of

    def take_result(self, slice_: Slice) -> Outcome | None:
        """Once. That a slice was not brought counts, even if there is a newer one."""
        if self.result is None:
            return None
        (of, outcome), self.result = self.result, None
        same = (of.generation, of.sha256) == (slice_.generation, slice_.sha256)
        return outcome if same or outcome.was_not_brought else None

    def settle(self, slice_: Slice, ended: Ended, pace: AnsiblePace) -> None:
        """Take note of how the push ended."""
        outcome = ended.outcome
        self.push, self.result, self.error = None, (slice_, outcome), outcome.error
        self.passed_over = outcome.outcome == "waiting"
        self.failures = self.failures + 1 if ended.of_file and outcome.outcome == "failed" else 0
        self.retry_at = retry_at(self.failures, pace)
        self.delivered = None
        if outcome.is_there:
            verify_at = time.monotonic() + random.uniform(pace.verify_s / 2, pace.verify_s)  # not all of them at once
            self.delivered = _Delivered(slice_.scraper.address, slice_.generation, slice_.sha256, verify_at)


class Ended(NamedTuple):
    """``of_file``: the host is not to blame for it."""

    outcome: Outcome
    of_file: bool = False


class Load(NamedTuple):
    """What a push brings to a host: its files in the order of ``Host.files``."""

    far: Far
    files: Sequence[tuple[Slice, Sink]]


def retry_at(failures: int, pace: AnsiblePace) -> float:
    return time.monotonic() + backoff_s(failures, pace.retry_first_s, pace.retry_most_s) if failures else 0.0


class Push:
    """``loads``: by the name of the host in the inventory. ``waiting``: who was told that it goes on."""

    def __init__(self, loads: Mapping[str, Load], *, slow: bool, pace: AnsiblePace, log: Logger) -> None:
        self.slow, self.trouble = slow, ""
        self.waiting = set[Owner]()
        self.task: asyncio.Task[None] | None = None
        self._loads, self._pace, self._log = loads, pace, log
        self._answers: dict[tuple[str, int], Answer] = {}
        """The receiver's last of each file."""
        self._paths: dict[tuple[str, int], str] = {}
        for load in loads.values():
            load.far.push = self
            for _, sink in load.files:
                sink.begin(self)

    @property
    def owners(self) -> set[Owner]:
        return {sink.owner for load in self._loads.values() for _, sink in load.files}

    async def run(self, run: Run, hosts: Sequence[Host], leads: Leads) -> None:
        """To its end; when cancelled it ends its processes first."""
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def heard(told: Told) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._hear, told)

        def stopped() -> bool:
            return stop.is_set() or not leads()

        try:
            report = await in_thread_shielded(lambda: run(hosts, stopped, heard), stop.set)
        except OSError as error:
            report = Report({}, f"{PROGRAM} cannot be started: {error.strerror or error}")
        finally:
            if stop.is_set():
                self.forget()
        self.trouble = report.trouble
        for name, load in self._loads.items():
            if load.far.push is self:
                self._settle(load, [self._ended(name, number, report) for number in range(len(load.files))])

    def forget(self) -> None:
        """Cancelled: what became of it was not heard."""
        for load in self._loads.values():
            if load.far.push is self:
                load.far.push = None
            for _, sink in load.files:
                if sink.push is self:
                    sink.push = None

    def _hear(self, told: Told) -> None:
        """Something that is settled before the end; where a host is settled already, what comes later counts."""
        load = self._loads.get(told.host)
        if load is None:
            return
        if told.file is not None:
            self._hear_of_file(load, told.host, Answer(told.file, told.result, told.why))
            return
        if told.result not in ("ok", "changed", *BAD):
            return
        if load.far.push is self or (load.far.push is None and told.result in BAD):
            self._settle(load, [self._heard(told.host, n, told.result, told.why) for n in range(len(load.files))])
            for owner in self.waiting:
                owner.news()

    def _settle(self, load: Load, ended: Sequence[Ended]) -> None:
        for (slice_, sink), one in zip(load.files, ended, strict=True):
            if sink.push in (self, None):
                sink.settle(slice_, one, self._pace)
        load.far.settle(ended, self._pace)

    def _hear_of_file(self, load: Load, host: str, answer: Answer) -> None:
        of = host, answer.number
        if answer.word == "at":
            self._paths[of] = answer.text
        elif answer.word != "remark":
            self._answers[of] = answer
        elif answer.text in REMEDIES and answer.number < len(load.files):
            slice_, sink = load.files[answer.number]
            if answer.text not in sink.remarked:  # the file is looked at again and again
                sink.remarked.add(answer.text)
                where = {"host": slice_.scraper.host, "service": slice_.service, "path": self._paths.get(of, "")}
                self._log.warning(answer.text, **where, remedy=REMEDIES[answer.text])

    def _heard(self, name: str, number: int, result: str, why: str) -> Ended:
        """Of a file of a host that was heard of."""
        slice_, sink = self._loads[name].files[number]
        scraper, written = slice_.scraper, result == "changed"
        path = self._paths.get((name, number), "")
        answer = self._answers.get((name, number))
        if answer is not None and result != "unreachable":
            where = f"{scraper.host}: {path}".removesuffix(": ")
            try:
                written = was_written(answer, slice_.generation, PurePosixPath(path or sink.name))
            except RefusedError as error:
                return Ended(Outcome.not_taken(scraper.id, f"{where}: {error}", error.have), of_file=True)
            except TroubleError as error:
                return Ended(Outcome.not_taken(scraper.id, f"{where}: {error}"), of_file=True)
        if result in BAD:
            why = f"unreachable: {why}" if result == "unreachable" else why
            return Ended(Outcome.not_taken(scraper.id, f"{scraper.host}: {why}"))
        if written and sink.push is self and sink.before is not None and sink.before.is_that(slice_):
            self._log.warning("slice_put_back", scraper=scraper.id, host=scraper.host, service=slice_.service)
        return Ended(Outcome(scraper.id, "written" if written else "same"))

    def _ended(self, name: str, number: int, report: Report) -> Ended:
        """Of a file of a host that was not heard to be through, or to have failed, when all was over."""
        scraper = self._loads[name].far.scraper
        result, why = report.hosts.get(name, ("", ""))
        if result in ("ok", "changed", *BAD):
            return self._heard(name, number, result, why)
        if report.end == "stopped":
            return Ended(Outcome(scraper.id, "withheld"))
        kind, why = self._kind(result, report), why if result in ("stopped", "nothing") else report.trouble
        if kind == "waiting":
            why = f"the push ended before it was through here: {why}"
        return Ended(Outcome(scraper.id, kind, f"{scraper.host}: {why}"))

    def _kind(self, result: str, report: Report) -> How:
        if result == "begun" and report.end == "time":
            return "failed"
        others = {result for result, _ in report.hosts.values()}
        if result == "stopped" or (not result and (others & set(BAD) or (others and report.end == "time"))):
            return "waiting"
        return "unsent"
