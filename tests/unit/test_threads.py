"""Work beside the event loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from promring.runtime.threads import COMPUTING, BusyError, Single, computed, in_thread
from tests.rows import Seen


class Heavy(bytearray):
    """Something that an error may hold."""


async def test_an_error_that_crossed_a_thread_is_freed_without_the_collector() -> None:
    alive: list[weakref.ref[Heavy]] = []

    def fail() -> None:
        heavy = Heavy(1000)
        alive.append(weakref.ref(heavy))
        raise ValueError("no")

    async def ask() -> str:
        try:
            await in_thread(fail)
        except ValueError as error:
            return str(error)
        return ""

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert await ask() == "no"
        await asyncio.sleep(0.05)
        assert [ref() for ref in alive] == [None] * 5
    finally:
        gc.enable()


async def test_cancelled_the_thread_goes_on_alone_and_its_error_is_nobodys() -> None:
    task = asyncio.create_task(in_thread(lambda: 1 / 0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_hangs_is_not_begun_a_second_time_and_others_go_on() -> None:
    goes_on, begun = threading.Event(), list[int]()

    def hangs() -> str:
        begun.append(1)
        goes_on.wait(60)
        return "late"

    single, other = Single(), Single()
    with pytest.raises(TimeoutError):
        await single.run(hangs, 0.01)
    for _ in range(20):
        with pytest.raises(BusyError):
            await single.run(hangs, 0.01)
    assert begun == [1]
    assert await other.run(lambda: "another use", 60) == "another use"
    goes_on.set()
    for _ in range(3000):
        try:
            assert await single.run(lambda: "again", 60) == "again"
            break
        except BusyError:
            await asyncio.sleep(0.01)
    else:
        raise AssertionError("it never came back")


NO_ROOM = """
import asyncio, resource, threading
from promring.telemetry import log
from promring.runtime.threads import in_thread

async def main():
    log.configure()
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), before[1]))
    threading.stack_size(512 << 20)  # as when the system has no thread left
    work = asyncio.ensure_future(in_thread(lambda: "done"))
    done, _ = await asyncio.wait([work], timeout=0.5)
    assert not done, "there was a thread after all"
    resource.setrlimit(resource.RLIMIT_AS, before)
    print(await work)

asyncio.run(main())
"""


@pytest.mark.row(53, did="no thread to be had (RLIMIT_AS), then again")
async def test_without_a_thread_work_waits_until_there_is_one(seen: Seen) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", NO_ROOM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "msg=no_thread" in done.stderr
    seen("said once, done as soon as there was one")


async def test_few_compute_at_a_time_and_who_blocks_takes_no_turn_from_them() -> None:
    lock, at_once, most = threading.Lock(), 0, 0
    hung = threading.Event()

    def work() -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return 1

    blocked = [asyncio.ensure_future(in_thread(hung.wait)) for _ in range(COMPUTING)]
    try:
        assert sum(await asyncio.gather(*(computed(work) for _ in range(4 * COMPUTING)))) == 4 * COMPUTING
    finally:
        hung.set()
        await asyncio.gather(*blocked)
    assert most == COMPUTING


async def test_work_that_fails_gives_its_turn_back() -> None:
    def work() -> None:
        raise ValueError("no")

    for _ in range(2 * COMPUTING):
        with pytest.raises(ValueError, match="no"):
            await computed(work)
    assert await computed(lambda: 1) == 1
