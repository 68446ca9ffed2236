"""Bounds on what a request may cost: rings, previews, searches, lines of the log."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from promring.core import ring as rings
from promring.core.placement import Policy, place
from promring.core.preview import CHANGES_MOST, PreviewError, preview
from promring.core.ring import TOKENS_KEPT, TOKENS_MOST, Ring
from promring.model import Scraper, TargetGroup
from promring.runtime.unforeseen import Lasting, Unforeseen
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.telemetry.metrics import Metrics
from promring.web.envelope import ApiError
from promring.web.gate import Gate, Shared
from promring.web.refusals import Refusals
from promring.web.views.targets import ANSWER_BYTES_MOST, search
from tests.laws.strategies import pool_of


def heavy(count: int, weight: float = 100.0) -> tuple[Scraper, ...]:
    return tuple(Scraper(f"heavy{n:03}:1", f"heavy{n:03}", 1, weight=weight) for n in range(count))


def test_weights_from_outside_do_not_make_a_ring_of_any_size() -> None:
    ring = Ring(heavy(330), 512)
    assert ring.wanted == 330 * 51_200
    assert TOKENS_MOST / 4 < len(ring.circle.tokens) <= TOKENS_MOST
    assert rings.kept.total <= TOKENS_KEPT
    again = Ring(tuple(reversed(heavy(330))), 512)
    assert np.array_equal(ring.circle.tokens, again.circle.tokens), "the same members, the same ring"


def test_the_tokens_of_a_scraper_are_made_once_and_cannot_be_changed() -> None:
    found = rings.tokens("a:1", 5)
    assert rings.tokens("a:1", 5) is found
    assert not found.flags.writeable


def test_a_bounded_ring_keeps_the_shares_that_the_weights_say() -> None:
    members = (*heavy(60), *heavy(120, 50.0)[60:])
    ring = Ring(members, 512)
    assert ring.wanted > TOKENS_MOST
    pool = pool_of([f"t{n}:1" for n in range(20_000)])
    counts = place(pool, ring, Policy(load_factor=None)).counts()
    share = sum(counts[s.id] for s in members if s.weight == 100) / len(pool)
    assert share == pytest.approx(2 / 3, abs=0.02)


def test_what_is_kept_of_rings_is_bounded_by_tokens_not_by_scrapers() -> None:
    kept, made = rings.Kept(1000), np.zeros(100, dtype=np.uint64)
    for n in range(100):
        kept.put((f"once{n}", 100), made)
        kept.put(("often", 100), made)
        assert kept.get((f"once{n}", 100)) is made
        assert kept.total == min(1000, (n + 2) * 100)
    assert kept.get(("often", 100)) is made
    assert kept.get(("once0", 100)) is None
    kept.get(("once98", 100))
    kept.put(("new", 800), made.repeat(8))
    assert kept.get(("once98", 100)) is made, "what was asked for last stays longest"
    assert kept.get(("once99", 100)) is None
    kept.put(("huge", 5000), np.zeros(5000, dtype=np.uint64))
    assert kept.total == 0, "what is larger than all that may be kept is not kept"


def test_a_preview_of_too_large_a_ring_is_refused_and_names_the_limit() -> None:
    one = (Scraper("a:1", "a", 1),)
    with pytest.raises(PreviewError, match=str(TOKENS_MOST)):
        preview(pool_of(["t:1"]), one, Policy(), joining=heavy(50))
    with pytest.raises(PreviewError, match=str(CHANGES_MOST)):
        preview(pool_of(["t:1"]), one, Policy(), joining=heavy(CHANGES_MOST + 1, 1.0))
    with pytest.raises(PreviewError, match=str(CHANGES_MOST)):
        preview(pool_of(["t:1"]), one, Policy(), without=["a:1"] * (CHANGES_MOST + 1))
    large = heavy(50)
    assert preview(pool_of(["t:1"]), large, Policy(), without=[large[0].id]).plan.moved <= 1, "a large fleet may lose one"


def test_the_order_of_preference_is_that_of_the_whole_walk() -> None:
    members = (*heavy(3, 0.01), *(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(200)))
    ring = Ring(members, 64)
    for key in (0, 1, 2**63, 2**64 - 1, *map(int, ring.circle.tokens[:: len(ring.circle.tokens) // 20])):
        start = int(np.searchsorted(ring.circle.tokens, np.uint64(key)))
        walk = [ring.scrapers[i].id for i in np.roll(ring.circle.holders, -start).tolist()]
        assert [s.id for s in ring.preference(key)] == list(dict.fromkeys(walk))


def test_an_answer_is_bounded_by_bytes_whatever_the_limit() -> None:
    groups = [TargetGroup.of([f"t{n}:1"], {"big": "x" * 200_000}) for n in range(200)]
    from promring.core import pool  # the pool of groups, not of addresses

    placement = place(pool.pool_of(tuple(groups)), Ring(heavy(2, 1.0), 8), Policy())
    found = search(placement, "", None, 10_000)
    assert (found.total, found.truncated) == (200, True)
    assert len(found.targets) == ANSWER_BYTES_MOST // 200_050


# --- gates -----------------------------------------------------------------------------------------------------------


async def test_a_gate_does_so_much_at_a_time_lets_so_many_wait_and_tells_the_rest_to_come_again() -> None:
    gate, free = Gate("previews", at_once=2, waiting=3), threading.Event()
    running: list[int] = []

    def work() -> str:
        running.append(1)
        assert free.wait(60)
        running.pop()
        return "done"

    asked = [asyncio.ensure_future(gate.run(work)) for _ in range(9)]
    _, pending = await asyncio.wait(asked, timeout=0.2)
    assert (len(running), len(pending)) == (2, 5)
    refused = [task.exception() for task in asked if task.done()]
    assert [isinstance(e, ApiError) and (e.status, e.headers["Retry-After"]) for e in refused] == [(503, "2")] * 4
    asked[0].cancel()  # its client has gone, its thread has not
    asked[2].cancel()  # one that waits
    await asyncio.wait([asked[0], asked[2]])
    assert len(running) == 2
    free.set()
    assert await asyncio.gather(*(t for t in pending if not t.cancelled())) == ["done"] * 3
    assert await gate.run(lambda: "again") == "again"


async def test_work_that_fails_leaves_its_place() -> None:
    gate = Gate("searches", at_once=1, waiting=1)

    def fail() -> None:
        raise ValueError("no")

    for _ in range(5):
        with pytest.raises(ValueError, match="no"):
            await gate.run(fail)


def test_a_dear_value_is_shared_and_a_cheap_one_is_new_each_time() -> None:
    made: list[int] = []
    now = [0.0]

    def make(seconds: float) -> int:
        now[0] += seconds
        made.append(1)
        return len(made)

    cheap, dear = Shared(lambda: make(0), lambda: now[0]), Shared(lambda: make(0.5), lambda: now[0])
    assert [cheap.get(), cheap.get()] == [1, 2]
    assert [dear.get(), dear.get(), dear.get()] == [3, 3, 3]
    dear.forget()
    assert dear.get() == 4


# --- noise -----------------------------------------------------------------------------------------------------------


def test_what_strangers_bring_about_is_told_once_a_minute_and_reason_and_is_no_event() -> None:
    stream, events, now = io.StringIO(), Events(), [0.0]
    log.configure(stream=stream, keep=events.keep)
    refusals = Refusals(Metrics().http_refused, log.get(), lambda: now[0])
    for second in range(180):
        now[0] = float(second)
        for _ in range(50):
            refusals.add("malformed", "\x1b[31m\udcff\n" * 1000)
        refusals.add("error", "/path", RuntimeError("ours"))
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "msg=http_refused" in line]) == 3
    assert len([line for line in lines if "msg=http_error" in line]) == 3
    assert "count=3000" in lines[-1] or "count=3000" in lines[-2]
    assert "\x1b" not in stream.getvalue()
    assert events.since() == []


def test_a_library_that_complains_without_end_writes_one_line_and_no_event() -> None:
    stream, events = io.StringIO(), Events()
    log.configure("info", "logfmt", stream, events.keep)

    def complain(errors: Sequence[Exception]) -> None:
        for error in errors:
            logging.getLogger("aiohttp.server").error("Error handling request", exc_info=error)

    complain([ValueError("a")] * 500)
    complain([KeyError("a")] * 500)
    assert len(stream.getvalue().splitlines()) == 2
    assert events.since() == []


@pytest.mark.parametrize("text", ["\udcff", "a\udfffb", "\x00\x1b\x07\r\u2028", "\ud83d\ude00"])
@pytest.mark.parametrize("fmt", ["logfmt", "json"])
def test_any_text_can_be_written_to_any_stream(text: str, fmt: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    log.configure("info", fmt, stream)
    log.get().info("odd", name=text, long=text * 10)
    (line,) = raw.getvalue().decode().splitlines()
    assert "odd" in line
    assert all(c.isprintable() for c in line)


def test_a_failure_that_only_changes_its_words_is_told_once_a_minute() -> None:
    now = [0.0]
    lasting = Lasting(lambda: now[0])
    words = [f"500: request of {'x' * n}" for n in range(1000)]
    told = [lasting.is_news("s:1", text, begins=n == 0) for n, text in enumerate(words)]
    assert told == [True] * 10 + [False] * 990
    assert lasting.is_news("s:2", "500: request 1", begins=True), "another one is told"
    told = []
    for n in range(600):
        now[0] += 1.0
        told.append(lasting.is_news("s:1", "500", begins=n % 2 == 0))
    assert 9 <= sum(told) <= 10, "one that comes and goes, too: once a minute"
    now[0] += 3600.0
    assert lasting.is_news("s:1", "500", begins=True)
    assert not lasting.is_news("s:1", "500", begins=False), "the same words are told once"
    assert lasting.is_news("s:1", "status 302", begins=False)


def test_no_memory_is_said_as_that_and_once() -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream)
    try:
        faults = Unforeseen("discovery", log.get())
        assert [faults.note(MemoryError()) for _ in range(3)] == ["this process got no more memory"] * 3
        faults.note(RuntimeError("odd"), source="file:/a.json")
    finally:
        log.configure()
    lines = stream.getvalue().splitlines()
    assert [("no_memory" in line, "msg=unforeseen" in line) for line in lines] == [(True, False), (False, True)]
    assert " source=file:/a.json " in lines[1], "whose answer it was"
