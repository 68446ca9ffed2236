"""Whether the machine has room for the tests: what is used up is said in one line before the first test.

Owns what a run needs at its peak, as measured, with a margin. Promises: a run that would fail in odd ways for want of
inotify instances or watches, descriptors, ports, memory or disk does not begin. Does not promise that nobody takes them
later.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import pytest

from promring.demo.process import find

INOTIFY = "/proc/sys/fs/inotify/"


class Need(NamedTuple):
    """At the peak of a run. ``mib``: of memory; ``disk_mib``: where temporary files are."""

    instances: int
    watches: int
    descriptors: int
    ports: int
    mib: int
    disk_mib: int


UNIT = Need(instances=2, watches=64, descriptors=256, ports=10, mib=500, disk_mib=200)
MANY_AT_ONCE = 2
"""Tests that run many servers with many lists: each takes up to 40 inotify instances."""
WORKER = Need(instances=5, watches=64, descriptors=0, ports=20, mib=350, disk_mib=200)
"""What each worker that runs tests on real servers adds."""
MANY = Need(instances=50, watches=200, descriptors=0, ports=40, mib=300, disk_mib=100)
"""What ``MANY_AT_ONCE`` tests with ``many_watchers`` add to that."""


def need(*, real: bool, workers: int) -> Need:
    if not real:
        return UNIT
    return Need(*(unit + workers * one + many for unit, one, many in zip(UNIT, WORKER, MANY, strict=True)))


@pytest.fixture
def many_watchers() -> Iterator[None]:
    """For a test that takes many inotify instances: waits until so few of its kind are running that all have enough."""
    places = [Path(tempfile.gettempdir(), f"promring-tests-watch-{os.getuid()}-{n}") for n in range(MANY_AT_ONCE)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(place, "w")) for place in places]
        while not any(_is_ours(file) for file in files):
            time.sleep(0.2)
        yield


def _is_ours(file: TextIO) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if sys.platform != "linux" or hasattr(config, "workerinput") or config.option.collectonly:
        return
    real = "not real" not in config.option.markexpr and find("prometheus") is not None
    workers = len(config.getoption("tx", None) or [0])
    for short in lacking(need(real=real, workers=workers)):
        raise pytest.UsageError(f"no room for the tests: {short}")


def lacking(wanted: Need) -> Iterator[str]:
    """What there is too little of."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promring-room-")))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files < wanted.descriptors:
            yield f"{files} file descriptors a process, {wanted.descriptors} needed (ulimit -n)"
            return  # nothing else can be tried
        yield from _inotify(wanted, folder, stack)
        ports = sum(_is_free(port) for port in random.sample(range(12000, 32000), 200)) * 100
        if ports < wanted.ports:
            yield f"{ports} free ports between 12000 and 32000, {wanted.ports} needed"
        if (mib := _available_mib()) < wanted.mib:
            yield f"{mib} MiB of memory available, {wanted.mib} needed"
        if (mib := shutil.disk_usage(folder).free >> 20) < wanted.disk_mib:
            yield f"{mib} MiB of disk free in {folder.parent}, {wanted.disk_mib} needed"


def _inotify(wanted: Need, folder: Path, stack: contextlib.ExitStack) -> Iterator[str]:
    """Takes as many as are needed, and gives them back."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken: list[int] = []
    for _ in range(wanted.instances):
        if (instance := libc.inotify_init1(os.O_CLOEXEC)) < 0:
            limit = Path(INOTIFY, "max_user_instances").read_text().strip()
            yield (
                f"{len(taken)} inotify instances left, {wanted.instances} needed: this user's processes have the others of "
                f"{limit} (sysctl fs.inotify.max_user_instances)"
            )
            return
        stack.callback(os.close, instance)
        taken.append(instance)
    folders = [folder / str(n) for n in range(-(-wanted.watches // wanted.instances))]
    for place in folders:
        place.mkdir()
        for instance in taken:
            if libc.inotify_add_watch(instance, bytes(place), 2) < 0:
                limit = Path(INOTIFY, "max_user_watches").read_text().strip()
                yield f"no {wanted.watches} inotify watches are left of {limit} (sysctl fs.inotify.max_user_watches)"
                return


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _available_mib() -> int:
    """MemAvailable of the machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:")), sys.maxsize)
