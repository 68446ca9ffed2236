"""The order of the tests: the long ones first, so that no worker is left alone with one at the end.

Owns ``slow.txt``, seconds and name of each test that takes ``SLOW_S`` or more, its parameters together the longest. A test
that is not in it is short: a wrong or missing line makes a run longer and nothing else. ``--write-slow`` renews it.

xdist gives each worker one piece of the list and lets those that are done steal from the ends of the others', so the tests
are dealt like cards: each piece begins with a long one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("slow.txt")
SLOW_S = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-slow", action="store_true", help="write how long the slow tests took into tests/slow.txt")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        known = slow(FILE.read_text() if FILE.exists() else "")
        items[:] = dealt(sorted(items, key=lambda item: -known.get(_name(item.nodeid), 0.0)), workers)


def slow(text: str) -> dict[str, float]:
    """Seconds by name."""
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    return {name: float(seconds) for seconds, name in lines}


def dealt(items: list[Any], hands: int) -> list[Any]:
    """``items``, each ``hands``-th of them in one piece; the shorter pieces first, as xdist cuts the list."""
    return [item for hand in reversed(range(hands)) for item in items[hand::hands]]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--write-slow"):
        return
    took: dict[str, float] = {}
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call":
            took[_name(report.nodeid)] = max(report.duration, took.get(_name(report.nodeid), 0.0))
    lines = [f"{seconds:.0f} {name}\n" for name, seconds in sorted(took.items(), key=lambda t: -t[1]) if seconds >= SLOW_S]
    FILE.write_text("".join(lines))


def _name(nodeid: str) -> str:
    return nodeid.partition("[")[0]
