"""The life of the process: actors, log lines."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re

import pytest

from promring.runtime.actors import StuckError, run_actors
from promring.telemetry import log


async def test_the_first_actor_to_end_ends_all_and_each_may_clean_up() -> None:
    ended = []

    async def waits(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(name)

    async def returns() -> None:
        await asyncio.sleep(0.01)

    assert await run_actors({"a": lambda: waits("a"), "first": returns, "b": lambda: waits("b")}, 1.0) == "first"
    assert sorted(ended) == ["a", "b"]


async def test_an_actor_that_fails_ends_all_with_its_error() -> None:
    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await run_actors({"a": asyncio.Event().wait, "b": fails}, 1.0)


async def test_an_actor_that_does_not_end_in_time_is_named() -> None:
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async def returns() -> None:
        return None

    with pytest.raises(StuckError, match=r"did not stop within 0\.05 s: stubborn"):
        await run_actors({"stubborn": stubborn, "first": returns}, 0.05)
    released.set()
    await asyncio.sleep(0)


async def test_the_first_failure_is_the_cause_and_later_ones_are_told_beside_it() -> None:
    said: list[str] = []

    async def fails_when_stopped() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("the second")

    async def fails_first() -> None:
        await asyncio.sleep(0.01)
        raise RuntimeError("the first")

    actors = {"a": fails_when_stopped, "b": fails_first}
    with pytest.raises(RuntimeError, match="the first") as caught:
        await run_actors(actors, 5.0, lambda name, error: said.append(f"{name}: {error}"))
    assert caught.value.__notes__ == ["a failed, too: ValueError: the second"]
    assert said == ["a: the second"]

    async def returns() -> None:
        await asyncio.sleep(0.01)

    actors = {"a": fails_when_stopped, "reload": returns}
    assert await run_actors(actors, 5.0, lambda name, error: said.append(f"{name}: {error}")) == "reload"
    assert said == ["a: the second"] * 2


async def test_an_actor_that_hangs_at_the_end_does_not_hide_why_it_had_to_end() -> None:
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async def fails() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken") as caught:
        await run_actors({"stubborn": stubborn, "b": fails}, 0.05)
    assert caught.value.__notes__ == ["did not stop within 0.05 s: stubborn"]
    released.set()
    await asyncio.sleep(0)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


TS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_a_logfmt_line_begins_with_ts_level_caller_msg(stream: io.StringIO) -> None:
    log.configure("info", "logfmt", stream)
    log.get().debug("quiet")
    log.get().warning("node_same", nodes="a:1,b:2", error="two\nlines", good=True)
    line = stream.getvalue()
    assert re.fullmatch(
        rf'ts={TS} level=warn caller=test_process\.py:\d+ msg=node_same nodes=a:1,b:2 error="two \| lines" good=true\n', line
    ), line


def test_a_json_line_has_the_same_keys(stream: io.StringIO) -> None:
    log.configure("debug", "json", stream)
    log.get().debug("node_same", num=2)
    line = json.loads(stream.getvalue())
    assert list(line) == ["ts", "level", "caller", "msg", "num"]
    assert (line["level"], line["num"]) == ("debug", 2)


def test_lines_of_libraries_come_in_the_same_form(stream: io.StringIO) -> None:
    log.configure("info", "logfmt", stream)
    logging.getLogger("asyncio").error("something %s", "happened")
    assert re.match(
        rf'ts={TS} level=error caller=test_process\.py:\d+ msg="something happened" logger=asyncio', stream.getvalue()
    )


def test_a_stream_that_fails_stops_nobody(stream: io.StringIO) -> None:
    with open("/dev/full", "w") as full:
        log.configure("info", "logfmt", full)
        for _ in range(3):
            log.get().info("lost")
        with contextlib.suppress(OSError):
            full.close()
    stream.close()
    log.configure("info", "logfmt", stream)
    log.get().info("lost too")
