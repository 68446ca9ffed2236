"""The order of the tests: those that wait and those that compute at the same time, of each the long ones first.

Most tests on real servers wait, and leave the cores to others; unit tests, laws and the simulation compute. One kind after
the other, the cores are idle first and too few afterwards. So both are spread over the whole run, each by its own length.
The long ones come first, so that no worker is left alone with one at the end; xdist gives the tests out in this order
(``--dist load --maxschedchunk 1``).

Owns ``slow.txt``, seconds and name of each test that takes ``SLOW_S`` or more. A test that is not in it is short: a wrong or
missing line makes a run longer and nothing else. ``--write-slow`` renews it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

FILE = Path(__file__).with_name("slow.txt")
SLOW_S = 2.0
SHORT_S = {"real": 1.0, "sim": 1.5}
"""How long a test takes that is not in ``FILE``, by its folder, else ``OTHER_S``."""
OTHER_S = 0.05
COMPUTE = {"unit", "laws", "sim"}
"""The folders whose tests compute."""
COMPUTED_BY = 0.75
"""Of the run. The long tests on real servers come first and wait most of their time: then a third of two cores was idle. The
short ones at the end start servers most of theirs, and left no core to others.
"""

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-slow", action="store_true", help="leave out the tests of tests/slow.txt")
    parser.addoption("--write-slow", action="store_true", help="write how long the slow tests took into tests/slow.txt")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = slow(FILE.read_text() if FILE.exists() else "")
    if config.getoption("--without-slow"):
        items[:] = [item for item in items if item.nodeid not in known]
    if "workerinput" not in vars(config):
        return

    def seconds(item: pytest.Item) -> float:
        if item.get_closest_marker("skip"):
            return 0.0
        return known.get(item.nodeid, SHORT_S.get(_folder(item), OTHER_S))

    waiting = [item for item in items if _folder(item) not in COMPUTE]
    items[:] = spread(waiting, [item for item in items if _folder(item) in COMPUTE], seconds)


def slow(text: str) -> dict[str, float]:
    """Seconds by name."""
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    return {name: float(seconds) for seconds, name in lines}


def spread(some: Sequence[T], others: Sequence[T], seconds: Callable[[T], float]) -> list[T]:
    """Both, each the longest first: what begins after a share of ``some`` stands beside what begins after that share of
    ``others``, measured in seconds. ``others`` end at ``COMPUTED_BY`` of the run.
    """
    placed: list[tuple[float, T]] = []
    for items, end in ((some, 1.0), (others, COMPUTED_BY)):
        total, before = sum(map(seconds, items)) or 1.0, 0.0
        for item in sorted(items, key=seconds, reverse=True):
            placed.append((end * before / total, item))
            before += seconds(item)
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--write-slow"):
        return
    took = {r.nodeid: r.duration for r in terminalreporter.stats.get("passed", []) if r.when == "call"}
    lines = [f"{seconds:.0f} {name}\n" for name, seconds in sorted(took.items(), key=lambda t: -t[1]) if seconds >= SLOW_S]
    FILE.write_text("".join(lines))


def _folder(item: pytest.Item) -> str:
    """``unit`` of ``tests/unit/test_x.py``."""
    return item.path.parent.name
