"""What each test costs: seconds of CPU, user and system, of this process and of all that it started.

``--cpu-report FILE`` writes them, the dearest first: sums by folder and file, then each test. A program that outlives a test
(the nursery, a browser) counts in the test during which it computed. Does not see what a test left to the system's first
process, nor what a worker does between tests: reading them, and its imports. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
BEFORE: pytest.StashKey[float] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-report", metavar="FILE", help="write the seconds of CPU that each file and each test took")


def spent_s() -> float:
    """So far, by this process, by its children that ended, and by all that live below it."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(map(_of_process_s, _below("self")))


def _below(pid: str) -> Iterator[str]:
    for thread in _tasks(pid):
        with contextlib.suppress(OSError):  # it ended
            for child in (thread / "children").read_text().split():
                yield child
                yield from _below(child)


def _tasks(pid: str) -> list[Path]:
    try:
        return list(Path("/proc", pid, "task").iterdir())
    except OSError:
        return []


def _of_process_s(pid: str) -> float:
    """Its own, and that of its children that ended."""
    with contextlib.suppress(OSError):
        fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * TICK_S
    return 0.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if item.config.getoption("--cpu-report"):
        item.stash[BEFORE] = spent_s()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        if BEFORE in item.stash:
            item.user_properties.append(("cpu_s", spent_s() - item.stash[BEFORE]))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    place = config.getoption("--cpu-report")
    if place and "workerinput" not in vars(config):
        Path(place).write_text(report(dict(_of_tests(terminalreporter.stats))))


def _of_tests(stats: dict[str, list[Any]]) -> Iterator[tuple[str, float]]:
    for found in stats.values():
        for one in found:
            for name, value in getattr(one, "user_properties", ()):
                if name == "cpu_s":
                    yield one.nodeid, value


def report(tests: dict[str, float]) -> str:
    """Lines of seconds and name."""
    files: defaultdict[str, float] = defaultdict(float)
    folders: defaultdict[str, float] = defaultdict(float)
    for name, seconds in tests.items():
        path = name.partition("::")[0]
        files[path] += seconds
        folders[str(Path(path).parent)] += seconds
    lines = [
        f"{seconds:8.2f} {name}\n"
        for sums in ({"all": sum(tests.values())}, folders, files, tests)
        for name, seconds in sorted(sums.items(), key=lambda one: -one[1])
    ]
    return "".join(lines)
