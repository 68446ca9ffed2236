"""One push of ``ansible-playbook`` to several hosts, and what it makes of each scraper.

A host is told of as soon as it is through, or has failed: then it is free for another push while this one still runs. What
became of the others is decided at the end: a host that was begun and not ended in time has failed, one that the push did not
come to is waiting, and where nothing was heard of any host the trouble is our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from promring.delivery import Leads, Outcome
from promring.delivery.ansible_run import PROGRAM, Host, Report, Run
from promring.log import Logger
from promring.model import Generation, Slice
from promring.rate import backoff_s
from promring.threads import to_the_end

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


@dataclass(frozen=True, slots=True)
class _Delivered:
    """What a scraper has, as far as is known, and when that is to be made sure of."""

    address: str
    generation: Generation
    sha256: str
    verify_at: float

    def is_that(self, slice_: Slice) -> bool:
        return (self.address, self.generation, self.sha256) == (slice_.scraper.address, slice_.generation, slice_.sha256)


@dataclass
class Sink:
    """One scraper's file: what it has, which push is bringing another one, and how the last one ended."""

    delivered: _Delivered | None = None
    before: _Delivered | None = None
    """What it had before the push that is under way."""
    push: Push | None = None
    result: tuple[Slice, Outcome] | None = None
    """Until it is told."""
    slow: bool = False
    """The last push began with it and did not bring its slice."""
    passed_over: bool = False
    failures: int = 0
    retry_at: float = 0.0
    error: str = ""
    remark: str = ""
    """That was said."""

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
        return outcome if same or outcome.outcome in ("failed", "unsent") else None

    def settle(self, slice_: Slice, outcome: Outcome, pace: AnsiblePace) -> None:
        """Take note of how the push ended."""
        self.push, self.result, self.error = None, (slice_, outcome), outcome.error
        self.slow, self.passed_over = outcome.outcome in ("failed", "refused"), outcome.outcome == "waiting"
        if outcome.outcome in ("failed", "unsent"):
            self.failures += 1
            self.retry_at = time.monotonic() + backoff_s(self.failures, pace.retry_first_s, pace.retry_most_s)
        else:
            self.failures, self.retry_at = 0, 0.0
        if outcome.outcome in ("written", "same"):
            verify_at = time.monotonic() + random.uniform(pace.verify_s / 2, pace.verify_s)  # not all of them at once
            self.delivered = _Delivered(slice_.scraper.address, slice_.generation, slice_.sha256, verify_at)
        else:
            self.delivered = None


class Push:
    """``news`` is called when something is heard of a host that was told to be waiting."""

    def __init__(
        self,
        hosts: Mapping[str, tuple[Slice, Sink]],
        *,
        slow: bool,
        pace: AnsiblePace,
        log: Logger,
        news: Callable[[], None],
    ) -> None:
        self.slow, self.told_waiting, self.trouble = slow, False, ""
        self._hosts, self._pace, self._log, self._news = hosts, pace, log, news
        for _, sink in hosts.values():
            sink.begin(self)

    async def run(self, run: Run, hosts: Sequence[Host], leads: Leads) -> None:
        """To its end; when cancelled it ends its processes first."""
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def heard(name: str, result: str, why: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._hear, name, result, why)

        def stopped() -> bool:
            return stop.is_set() or not leads()

        try:
            report = await to_the_end(lambda: run(hosts, stopped, heard), stop.set)
        except OSError as error:
            report = Report({}, f"{PROGRAM} cannot be started: {error.strerror or error}")
        finally:
            if stop.is_set():
                self._forget()
        self.trouble = report.trouble
        for name, (slice_, sink) in self._hosts.items():
            if sink.push is self:
                self._settle(slice_, sink, self._ended(name, slice_, report))

    def _forget(self) -> None:
        """Cancelled: what became of it was not heard."""
        for _, sink in self._hosts.values():
            if sink.push is self:
                sink.push = None

    def _hear(self, name: str, result: str, why: str) -> None:
        """Something that is settled before the end; where a host is settled already, what comes later counts."""
        if name not in self._hosts or result not in ("ok", "changed", *BAD):
            return
        slice_, sink = self._hosts[name]
        if sink.push is self or (sink.push is None and result in BAD):
            self._settle(slice_, sink, self._outcome(slice_, sink, result, why))
            if self.told_waiting:
                self._news()

    def _settle(self, slice_: Slice, sink: Sink, outcome: Outcome) -> None:
        sink.settle(slice_, outcome, self._pace)

    def _outcome(self, slice_: Slice, sink: Sink, result: str, why: str) -> Outcome:
        """Of a host that was heard of."""
        scraper = slice_.scraper
        if result in BAD:
            why = f"unreachable: {why}" if result == "unreachable" else why
            return Outcome.not_taken(scraper.id, f"{scraper.host}: {why}")
        if why and why != sink.remark:
            self._log.warning("ansible_remark", scraper=scraper.id, host=scraper.host, remark=why)
        sink.remark = why
        put_back = result == "changed" and sink.push is self and sink.before is not None and sink.before.is_that(slice_)
        if put_back:
            self._log.warning("slice_put_back", scraper=scraper.id, host=scraper.host)
        return Outcome(scraper.id, "written" if result == "changed" else "same")

    def _ended(self, name: str, slice_: Slice, report: Report) -> Outcome:
        """Of a host that was not heard to be through, or to have failed, when all was over."""
        scraper = slice_.scraper
        result, why = report.hosts.get(name, ("", ""))
        if result in ("ok", "changed", *BAD):
            return self._outcome(slice_, self._hosts[name][1], result, why)
        if report.end == "stopped":
            return Outcome(scraper.id, "withheld")
        kind, why = self._kind(result, report), why if result in ("stopped", "nothing") else report.trouble
        if kind == "waiting":
            why = f"the push ended before it was through here: {why}"
        return Outcome(scraper.id, kind, f"{scraper.host}: {why}")

    def _kind(self, result: str, report: Report) -> str:
        if result == "begun" and report.end == "time":
            return "failed"
        others = {result for result, _ in report.hosts.values()}
        if result == "stopped" or (not result and (others & set(BAD) or (others and report.end == "time"))):
            return "waiting"
        return "unsent"
