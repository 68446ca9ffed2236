"""No task, descriptor, thread or process survives a test.

Owns the comparison of what this process has before a test and after it, fixtures torn down. Promises: what is left after
``GRACE_S`` is an error of that test, and named. Does not promise to see the grandchildren of this process. Linux only;
elsewhere nothing is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from tests.waiting import slower

GRACE_S = 10.0
"""Threads and children that were told to end need a while; on a busy machine ``slower`` times as long."""
_OURS = re.compile(r"anon_inode:(inotify|\[pidfd\])|socket:|pipe:|/")
_RUNNERS = ("/proc/", "/dev/", sys.prefix, f"{tempfile.gettempdir()}/promring-ports-")
"""Files that are open for the whole run: a library keeps its fonts open, and ports are reserved for as long as we live."""
_THREADS = re.compile(r"asyncio_\d+$|execnet|pytest_timeout")
"""Threads that belong to the test runner. A loop's own workers end with the loop."""


class Held(NamedTuple):
    """What this process has: descriptors with what they are, threads by identity, children by process id."""

    descriptors: dict[int, str]
    threads: dict[int, str]
    children: dict[int, str]


def held() -> Held:
    threads = {t.ident or 0: t.name for t in threading.enumerate() if not _THREADS.match(t.name)}
    return Held(dict(_descriptors()), threads, dict(_children()))


def left(before: Held) -> list[str]:
    """What is here that was not before, in words."""
    now = held()
    return [
        *(f"descriptor {n}: {what}" for n, what in now.descriptors.items() if before.descriptors.get(n) != what),
        *(f"thread {name}" for ident, name in now.threads.items() if ident not in before.threads),
        *(f"process {pid}: {what}" for pid, what in now.children.items() if pid not in before.children),
    ]


def left_after_a_while(before: Held, grace_s: float = GRACE_S) -> list[str]:
    """``left``, once what is unreachable was collected and what ends has ended."""
    if not left(before):
        return []
    gc.collect()
    deadline = time.monotonic() + grace_s * slower()
    while (found := left(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if sys.platform == "linux":
        item.stash[BEFORE] = held()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    done = yield
    if BEFORE in item.stash and (found := left_after_a_while(item.stash[BEFORE])):
        pytest.fail("left by this test: " + "; ".join(found), pytrace=False)
    return done


BEFORE: pytest.StashKey[Held] = pytest.StashKey()


def pytest_itemcollected(item: pytest.Item) -> None:
    """First of all fixtures, so that those that own tasks have ended them when it looks."""
    if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.obj):
        item.fixturenames.insert(0, "no_task_is_left")


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    if found := asyncio.all_tasks() - before - {asyncio.current_task()}:
        _, found = await asyncio.wait(found, timeout=GRACE_S * slower())
    assert not found, f"tasks left by this test: {found}"


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a Path takes three times as long, in 12,000 looks
        with contextlib.suppress(OSError):  # the folder's own
            what = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - as above
            if _OURS.match(what) and not what.startswith(_RUNNERS):
                yield int(name), what


def open_descriptors() -> int:
    """How many this process has, reserved ports (``demo.process.free_port``) left out."""
    return sum(1 for _ in _descriptors())


def _children() -> Iterator[tuple[int, str]]:
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - as above
        with contextlib.suppress(OSError):  # it ended
            for pid in _read(f"/proc/self/task/{thread}/children").split():
                yield int(pid), _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
