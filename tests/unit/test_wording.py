"""Trouble that lasts is said once, although the number, address, port or id in its text is another one each time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from promring.agent.metrics import AgentMetrics
from promring.agent.reloads import Reloads
from promring.agent.slicefile import SliceFile
from promring.delivery import Leads, Outcome, always
from promring.election.leadership import Leadership
from promring.election.loop import SAID_MOST
from promring.fleet.deliveries import ServiceDeliveries
from promring.membership.watching import Changes
from promring.model import Known, Scraper, Slice, Unknown
from promring.runtime.unforeseen import QUIET_S, Lasting
from promring.runtime.wording import wording
from promring.telemetry.metrics import Metrics
from tests.fakes.slices import serving
from tests.unit.test_election import Ground, in_fake_time
from tests.unit.test_summary import Failing
from tests.waiting import until

CHANGING: dict[str, Callable[[int], str]] = {
    "seconds": lambda n: f"Consul: no answer for {12.5 + n} s",
    "a duration": lambda n: f"context deadline exceeded after 1m{n}.25s",
    "a time": lambda n: f"certificate has expired: it is 2026-11-27T08:{n:02}:00Z",
    "a port of ours": lambda n: f"read tcp 127.0.0.1:{43210 + n}->10.0.0.1:8500: i/o timeout",
    "an address": lambda n: f"cannot connect to 10.0.0.{n}:9090: refused",
    "an IPv6 address": lambda n: f"cannot connect to [fe80::{n}]:9090: refused",
    "a session": lambda n: f"session 8a1c2d3e-0000-1111-2222-3333{n:08} is no more",
    "an id": lambda n: f"request {0xFACE0000 + n:08x} failed",
    "an object": lambda n: f"<Answer at 0x7f{n:04x}ab>",
    "an index": lambda n: f"status 500: rpc error: index {n} of term 7 is behind",
    "bytes": lambda n: f"the disk is full: {n}MiB of 64MiB",
}
OTHER = [
    ("status 403: denied", "status 500: denied"),
    ("[Errno 111] refused", "[Errno 113] refused"),
    ("targets/a1.json: not a list", "targets/a2.json: not a list"),
    ("targets/1.json: not a list", "targets/2.json: not a list"),
    ("node7: no answer", "node8: no answer"),
    ("rack-7: no answer", "rack-8: no answer"),
    ("cafe: no answer", "face: no answer"),
]


@pytest.mark.parametrize("what", CHANGING)
def test_what_differs_at_each_try_is_not_in_the_wording(what: str) -> None:
    assert len({CHANGING[what](n) for n in range(50)}) == 50
    assert len({wording(CHANGING[what](n)) for n in range(50)}) == 1


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_a_name_and_a_kind_of_failure_are_in_the_wording(one: str, other: str) -> None:
    assert wording(one) != wording(other)


@pytest.mark.parametrize("piece", ["1", "1.", "1s", "a", "a1", "ab-", "1:", "0" * 7 + "-", "2026-11-27T"])
def test_a_long_text_takes_no_long_time(piece: str) -> None:
    short, long = (piece * (size // len(piece)) for size in (20_000, 200_000))

    def cpu_s(text: str) -> float:
        began = time.thread_time()
        wording(text)
        return time.thread_time() - began

    assert min(cpu_s(long) for _ in range(3)) < 40 * max(0.001, min(cpu_s(short) for _ in range(3)))


def test_other_numbers_are_said_again_after_a_while_and_other_words_at_once() -> None:
    now = [0.0]
    lasting = Lasting(lambda: now[0])
    told = []
    for n in range(int(2.5 * QUIET_S)):
        now[0] = float(n)
        told.append(lasting.is_news("x", f"no answer for {n} s", begins=n == 0))
    assert [n for n, news in enumerate(told) if news] == [0, QUIET_S, 2 * QUIET_S]
    assert lasting.is_news("x", "status 500", begins=False)


def test_a_membership_that_gives_no_answer_is_said_once() -> None:
    with structlog.testing.capture_logs() as lines:
        changes = Changes("x", structlog.get_logger())
        for n in range(50):
            changes.say(Unknown(CHANGING["seconds"](n)))
        changes.say(Known(()))
        changes.say(Unknown(CHANGING["seconds"](50)))
    assert [line["event"] for line in lines].count("membership_gives_no_answer") == 2, "and once more after an answer"


def test_of_a_thousand_that_live_some_are_named() -> None:
    with structlog.testing.capture_logs() as lines:
        changes = Changes("x", structlog.get_logger())
        every = tuple(Scraper(f"s{n}:9", f"s{n}", 9) for n in range(1000))
        changes.say(Known(every[:100]))
        changes.say(Known(every))
    assert [line["num"] for line in lines] == [100, 1000]
    assert [line["detail"].split()[99:] for line in lines] == [["s99:9"], ["s99:9", "and", "900", "more"]]


def test_a_lock_that_gives_no_answer_is_said_once_and_another_reason_after_it_too() -> None:
    async def play(ground: Ground) -> None:
        asked: list[str] = []

        def why() -> str:
            asked.append(CHANGING["a port of ours"](len(asked)))
            return asked[-1]

        ground.server.down, ground.server.why = True, why
        with structlog.testing.capture_logs() as lines:
            ground.one("one").start()
            await ground.until(lambda: len(asked) > 4 * SAID_MOST, 200.0)
            ground.server.why = lambda: "status 403: Permission denied"
            await asyncio.sleep(10)
        said = [line["error"] for line in lines if line["event"] == "lock_gives_no_answer"]
        assert [text.partition(":")[0] for text in said] == ["read tcp 127.0.0.1", "status 403"]

    in_fake_time(play)


class FailsAnew(Failing):
    """With another port each time."""

    def __init__(self) -> None:
        super().__init__("")
        self.errors = map(CHANGING["a port of ours"], itertools.count())

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        error = next(self.errors)
        return [Outcome(f"a{n}:1", "failed", error) for n in range(2)]


async def test_a_delivery_that_fails_is_said_once_for_each_scraper() -> None:
    logger = structlog.get_logger()
    couriers = ServiceDeliveries("f", "s", [FailsAnew()], Leadership(), lambda: None, Metrics(), logger)
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            assert not await couriers.deliver([], remembered=False, pushes=True)
    assert [line["scraper"] for line in lines] == ["a0:1", "a1:1"]
    assert couriers.outcomes["file"][0].error == CHANGING["a port of ours"](19), "the status has the newest"


def test_a_slice_that_is_refused_is_said_once(tmp_path: Path) -> None:
    file = SliceFile(tmp_path, "x")
    said = [file.refuse(f"{n:064x}", f"generation 7.{n} is older than 8.1", "http://c") for n in range(20)]
    assert said == [True] + [False] * 19
    assert file.trouble == "generation 7.19 is older than 8.1", "the newest is shown"
    assert file.refuse("0" * 64, "not a list", "http://c")


async def test_a_reload_that_fails_is_said_once() -> None:
    asked: list[float] = []

    async def reload(_: web.Request) -> web.Response:
        asked.append(time.monotonic())
        return web.Response(status=500, text=f"loaded in {len(asked)}.5s: bad rule")

    app = web.Application()
    app.router.add_post("/-/reload", reload)
    with structlog.testing.capture_logs() as lines:
        async with serving(app) as url:
            reloads = Reloads(f"{url}/-/reload", AgentMetrics(), structlog.get_logger())
            task = asyncio.create_task(reloads.run())
            reloads.due.set()
            await until(lambda: len(asked) > 2, "asked again and again", 60)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert [line["event"] for line in lines] == ["scraper_reload_failed"]
