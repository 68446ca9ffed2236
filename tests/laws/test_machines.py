"""Receiver, guard, election and hand-over in any order of events, each beside a model that is small enough to believe."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import operator
import tempfile
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from promring.core.claims import NO_CLAIMS, Taken
from promring.core.coverage import Seen
from promring.core.evidence import Evidence, Handover
from promring.core.fragment import identities
from promring.core.guard import judge_lists
from promring.core.handover import schedule
from promring.core.pool import pool_of as pool_of_groups
from promring.core.verdicts import Guard, Lists
from promring.delivery.receiver import Envelope, RefusedError, install, note_of, noted
from promring.fleet.facts import Cell
from promring.model import EPOCH_MOST, Empty, Generation, Known, Placement, Scraper, TargetGroup, TargetPool, Unknown
from tests.laws.strategies import pool_of
from tests.laws.test_handover import holders, placed
from tests.sim.faketime import FakeLoop
from tests.unit.test_election import Ground, One

BODIES = [b"[]", b'[{"targets":["a:1"]}]', b'[{"targets":["a:1"],"labels":{"x":"1"}}]']
SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def holds(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


# --- the receiver ----------------------------------------------------------------------------------------------------


class Receiving(RuleBasedStateMachine):
    """The model: the highest generation that was accepted, and its bytes. A damaged note is as none."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "slice.json")
        self.best: tuple[Generation, bytes] | None = None
        self.whole: set[bytes] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(epoch=st.integers(0, 3), n=st.integers(0, 3), body=st.sampled_from(BODIES))
    def put(self, epoch: int, n: int, body: bytes) -> None:
        offer = Generation(epoch, n)
        fine = self.best is None or offer > self.best[0] or (offer, body) == self.best
        try:
            install(self.path, Envelope(body, hashlib.sha256(body).hexdigest(), offer))
            assert fine, f"{offer} was taken after {self.best}"
            self.best, self.whole = (offer, body), {body}
        except RefusedError:
            assert not fine, f"{offer} was refused after {self.best}"

    @rule(body=st.sampled_from([b"", b"{}", b'[{"targets":[1]}]', b"[", b'[{"targets":["a:1"]}] x']))
    def put_what_is_no_list(self, body: bytes) -> None:
        self._refused(Envelope(body, hashlib.sha256(body).hexdigest(), Generation(9, 9)))

    @rule(body=st.sampled_from(BODIES), part=st.sampled_from(["digest", "epoch", "n"]))
    def put_nonsense(self, body: bytes, part: str) -> None:
        digest = "0" * 64 if part == "digest" else hashlib.sha256(body).hexdigest()
        generation = Generation(EPOCH_MOST if part == "epoch" else 9, EPOCH_MOST if part == "n" else 9)
        self._refused(Envelope(body, digest, generation))

    def _refused(self, envelope: Envelope) -> None:
        with contextlib.suppress(RefusedError):
            install(self.path, envelope)
            raise AssertionError("it was taken")

    @rule(text=st.sampled_from([b"", b"x", b"1.1", b"\xff\xfe", b"999999999999999999.1 x\n"]))
    def damage_note(self, text: bytes) -> None:
        note_of(self.path).write_bytes(text)
        self.best = None

    @rule()
    def edit_slice(self) -> None:
        self.path.write_bytes(b"by hand")
        self.whole = {b"by hand"}

    @rule()
    def remove_slice(self) -> None:
        self.path.unlink(missing_ok=True)
        self.whole = set()

    @invariant()
    def what_is_there_is_whole_and_the_note_says_what_was_taken(self) -> None:
        assert not self.path.exists() or self.path.read_bytes() in self.whole
        found = noted(self.path)
        assert (found and (found.generation, found.sha256)) == (
            self.best and (self.best[0], hashlib.sha256(self.best[1]).hexdigest())
        )
        assert [p.name for p in self.path.parent.iterdir() if "tmp" in p.name] == [], "nothing is left over"


# --- the guard -------------------------------------------------------------------------------------------------------

LISTS = {count: pool_of_groups([TargetGroup.of([f"t{n}:1" for n in range(count)])]) for count in (3, 6, 7, 10, 1500)}


class Guarding(RuleBasedStateMachine):
    """The model: the answers since the last one that was another, as (count, seconds since the one before, after a failure).
    A doubted list counts when the last three or more fresh answers say it, over the time that it is held; failures and the
    time until the next answer after them count nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.guard = Guard(growth_least=100)
        self.now = 1000.0
        self.cell: Cell[TargetPool] = Cell(lambda: None, lambda: self.now, operator.is_, 3, lambda: self.now)
        self.planned: TargetPool | None = None
        self.said: int | None = None
        self.repeats, self.lasted, self.heard_at, self.counted_at, self.failed = 0, 0.0, 0.0, 0.0, False

    @rule(count=st.sampled_from([0, *LISTS]))
    def answer(self, count: int) -> None:
        if count == self.said:
            self.lasted += 0.0 if self.failed else self.now - self.heard_at
            if self.now - self.counted_at >= 1.0:
                self.repeats, self.counted_at = self.repeats + 1, self.now
        else:
            self.said, self.repeats, self.lasted, self.counted_at = count, 1, 0.0, self.now
        self.heard_at, self.failed = self.now, False
        self.cell.put(Known(LISTS[count]) if count else Empty())
        self.judge()

    @precondition(lambda self: self.said is not None)
    @rule(times=st.integers(2, 5), apart=st.sampled_from([0.1, 2.0, 100.0, 1300.0]))
    def answer_the_same(self, times: int, apart: float) -> None:
        for _ in range(times):
            self.now += apart
            self.answer(self.said or 0)

    @rule()
    def fail(self) -> None:
        self.failed = True
        self.cell.put(Unknown("500"))
        self.judge()

    @rule(seconds=st.sampled_from([0.5, 60.0, 301.0, 3601.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.judge()

    def judge(self) -> None:
        planned = None if self.planned is None else {"s": self.planned}
        verdict = judge_lists({"s": self.cell.fact}, self.guard, self.now, planned=planned)
        if self.planned is None or self.said is None:
            if isinstance(verdict, Lists):
                self.planned = verdict.sources["s"]
            return
        assert isinstance(verdict, Lists), "there is a plan: it goes on"
        used, had = len(verdict.sources["s"]), len(self.planned)
        if used != had:
            assert used == self.said, "a list that nobody said"
        if self.said != had:
            assert (used == self.said) is (not self._doubtful(had) or self._confirmed()), (used, had, self.said)
        self.planned = verdict.sources["s"]

    def _doubtful(self, had: int) -> bool:
        assert self.said is not None
        return self.said < 0.7 * had or (self.said > 10 * had > 0 and self.said - had > 100)

    def _confirmed(self) -> bool:
        lasted = self.lasted + (self.now - self.heard_at)
        return not self.failed and self.repeats >= 3 and lasted >= (300 if self.said else 3600)


# --- the election ----------------------------------------------------------------------------------------------------


class Electing(RuleBasedStateMachine):
    """The model: the highest epoch that anybody led in. Controllers come, stop and die; the store is down, loses answers,
    refuses to be taken, or has a note of another program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = FakeLoop()
        self.ground = Ground(self.loop.time)
        self.led: dict[int, int] = {}
        """By epoch, which controller led in it."""
        self.highest = 0

    def teardown(self) -> None:
        for one in self.ground.made:
            self._run(one.die())
        self.loop.close()

    def _run(self, work: Awaitable[object]) -> None:
        async def play() -> None:
            task = asyncio.ensure_future(work)
            while not task.done():
                self._look()
                await asyncio.sleep(0.05)
            await task

        self.loop.run_until_complete(play())

    def _look(self) -> None:
        leaders = self.ground.leaders()
        assert len(leaders) <= 1, "two lead"
        for one in leaders:
            number, epoch = self.ground.made.index(one), one.leadership.epoch
            assert self.led.setdefault(epoch, number) == number, "an epoch of two leaders"
            assert epoch >= self.highest, "an epoch below one that was led in"
            self.highest = epoch

    def _alive(self) -> list[One]:
        return [one for one in self.ground.made if one.task is not None and not one.task.done()]

    @initialize()
    def begin(self) -> None:
        self.come()

    @precondition(lambda self: len(self._alive()) < 4)
    @rule()
    def come(self) -> None:
        async def start() -> None:
            self.ground.one(f"c{len(self.ground.made)}", highest=self.highest).start()

        self._run(start())

    @precondition(lambda self: self._alive())
    @rule(which=st.integers(0, 3), cleanly=st.booleans())
    def go(self, which: int, cleanly: bool) -> None:
        one = self._alive()[which % len(self._alive())]
        self._run(one.stop() if cleanly else one.die())

    @rule(what=st.sampled_from(["down", "lost", "denied", "note"]))
    def trouble(self, what: str) -> None:
        server = self.ground.server
        server.down, server.denied = what == "down", what == "denied"
        server.lost = 2 if what == "lost" else 0
        if what == "note":
            server.put(b"{")

    @rule(seconds=st.sampled_from([0.2, 2.0, 7.0]))
    def wait(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    @rule()
    def heal(self) -> None:
        server = self.ground.server
        server.down = server.denied = False
        server.lost = 0
        self._run(asyncio.sleep(30.0))
        assert not self._alive() or self.ground.leaders(), "nobody leads half a minute after the last trouble"


# --- the hand-over ---------------------------------------------------------------------------------------------------

NAMES = [f"t{n}:1" for n in range(12)]
SCRAPERS = tuple(Scraper(f"{name}:1", name, 1) for name in "abcde")
OVERLAP_S, SCRAPE_S = 30.0, 5.0


class HandingOver(RuleBasedStateMachine):
    """The model: which scraper reads which slice, and scrapes what is in it from the moment it was seen to do so. Scrapers
    come, leave as planned, and are slow to read; nobody dies. Then no target is ever with nobody who scrapes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool_of(NAMES)
        self.now, self.claims, self.evidence = 0.0, NO_CLAIMS, Evidence()
        self.scraping: dict[str, set[str]] = {}
        """By scraper: the targets that it scrapes now."""
        self.members: tuple[Scraper, ...] = SCRAPERS[:2]
        self.placement: Placement = placed(self.pool, self.members)
        self.decide()
        for scraper in self.placement.scrapers:
            self._read(scraper)
        self.decide()

    def decide(self) -> None:
        live = [s for s in SCRAPERS if s in self.members or self.scraping.get(s.id)]
        wanted = placed(self.pool, tuple(s if s in self.members else _draining(s) for s in live))
        self.claims, self.placement = schedule(wanted, self.claims, self.evidence, Handover(OVERLAP_S), self.now)

    def _read(self, scraper: Scraper) -> None:
        """It reads its slice, and has scraped all of it by the next look."""
        had = {name for name, who in holders(self.placement).items() if scraper.id in who}
        self.scraping[scraper.id] = had
        self.now += SCRAPE_S
        ids = np.sort(
            np.array([i for i, n in zip(self.pool.ids, identities(self.pool), strict=True) if n in had], dtype=np.uint64)
        )
        seen = Seen(self.now, ids, np.full(len(ids), self.now), np.full(len(ids), True), interval_s=SCRAPE_S)
        before = self.evidence.taken.get(("", scraper.id), Taken())
        taken = {**self.evidence.taken, ("", scraper.id): before.and_then(self.now - SCRAPE_S, self.now - SCRAPE_S)}
        self.evidence = Evidence({**self.evidence.seen, scraper.id: seen}, taken)

    @rule(which=st.sampled_from(SCRAPERS))
    def come_or_leave(self, which: Scraper) -> None:
        members = tuple(s for s in SCRAPERS if (s in self.members) != (s == which))
        if members:
            self.members = members
            self.decide()

    @rule(which=st.integers(0, 4))
    def read(self, which: int) -> None:
        self._read(self.placement.scrapers[which % len(self.placement.scrapers)])
        self.decide()

    @rule()
    def everybody_reads(self) -> None:
        for scraper in self.placement.scrapers:
            self._read(scraper)
        self.decide()

    @rule(seconds=st.sampled_from([0.1, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.decide()

    @invariant()
    def every_target_is_in_a_slice_of_somebody_who_scrapes_it(self) -> None:
        for name, who in holders(self.placement).items():
            assert any(name in self.scraping.get(scraper, ()) for scraper in who), f"{name} is with {who}: none scrapes it"


def _draining(scraper: Scraper) -> Scraper:
    return Scraper(scraper.id, scraper.host, scraper.port, draining=True)


def test_a_receiver_takes_what_is_newer_and_nothing_else() -> None:
    holds(Receiving)


def test_a_guard_believes_a_doubtful_list_when_it_was_said_often_and_long_enough_and_not_before() -> None:
    holds(Guarding)


def test_at_most_one_leads_in_epochs_that_climb_and_somebody_does_when_all_is_well() -> None:
    holds(Electing)


def test_no_target_is_ever_with_nobody_who_scrapes_it_while_nobody_dies() -> None:
    holds(HandingOver)
