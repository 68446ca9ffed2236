"""A second run, alone, of the few tests that failed beside others.

Ten tests at a time on a small machine make servers late, and a test that was late says nothing about promring. Alone it
must pass. Tests that failed beside others are named even when they pass alone, so that somebody looks at them.

Promises: a test that always fails fails the run; a seed of the simulation, or a law that draws its examples, has no second
run, nor has anything when more than ``MOST`` failed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

MOST = 5
DRAWN, SEEDED = "drawn: ", "tests/sim/"
"""Tests with drawn examples, and the simulation, which has a clock of its own: a busy machine cannot make these fail."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failed-to", type=Path, metavar="FILE", help="write there which tests failed, one a line")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--failed-to")
    if file is not None and not hasattr(config, "workerinput"):
        file.write_text("")
        config.pluginmanager.register(_Failed(file))


class _Failed:
    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with self._file.open("a") as out:
                print(f"{DRAWN if 'hypothesis' in report.keywords else ''}{report.nodeid}", file=out)


def again(status: int, failed: Sequence[str]) -> list[str]:
    """Those to run once more: none when the run ended otherwise than with failed tests, or when it is no matter of time."""
    names = list(dict.fromkeys(failed))
    late = status == pytest.ExitCode.TESTS_FAILED and len(names) <= MOST
    late = late and not any(name.startswith((DRAWN, SEEDED)) for name in names)
    return names if late else []


def main(status: int, file: Path) -> int:
    names = again(status, file.read_text().splitlines() if file.exists() else [])
    if not names:
        return status
    print(f"test: {len(names)} failed beside others; once more, alone ...", flush=True)
    result = subprocess.run([sys.executable, "-m", "pytest", "-n", "0", "-q", *names], check=False).returncode
    what = "passed alone: the machine was busy, or there is a race; look at it" if result == 0 else "did not all pass alone"
    print(f"test: failed beside others, and {what}:", *names, sep="\n  ", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
