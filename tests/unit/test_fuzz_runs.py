"""What ``make fuzz`` does with its parsers: each has its turn, whatever becomes of the others, and the end says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.runs import Run, fuzzed

WELL = ["sh", "-c", "echo '#7 DONE cov: 3' >&2"]
FAILS = ["sh", "-c", "echo 'Uncaught exception' >&2; exit 77"]


def names_in_order(kept: Path) -> list[str]:
    return [path.stem for path in sorted(kept.glob("*.ran"), key=lambda path: path.stat().st_mtime_ns)]


def test_a_parser_that_fails_does_not_end_the_others_and_its_traceback_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [Run("one", WELL), Run("two", FAILS), Run("three", WELL, ["echo", "a line of the log\n5 of 9 lines"])]
    assert fuzzed(runs, 1.0, kept=tmp_path) == 1
    said = capsys.readouterr().out
    assert "Uncaught exception" in said
    assert "3 of 3 parsers ran, 14 inputs\nnot run: none; not well: two\n" in said
    assert "7 inputs  well        5 of 9 lines" in said


def test_all_parsers_well_is_status_0_even_where_ends_of_children_are_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert fuzzed([Run("one", WELL)], 1.0, kept=tmp_path) == 0
        assert fuzzed([Run("two", FAILS)], 1.0, kept=tmp_path) == 1, "the status of a child is seen"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_time_that_is_left_is_shared_by_the_parsers_that_are_left(tmp_path: Path) -> None:
    tell = f"import sys, time; open({str(tmp_path / 'told')!r}, 'a').write(f'{{float(sys.argv[1]) - time.monotonic()}}\\n')"
    runs = [Run(name, [sys.executable, "-c", tell]) for name in "abc"]
    assert fuzzed(runs, 9000.0, kept=tmp_path) == 0
    shares = [float(line) for line in (tmp_path / "told").read_text().split()]
    assert 2900 < shares[0] <= 3000
    assert 4300 < shares[1] <= 4500
    assert 8500 < shares[2] <= 9000


def test_who_was_fuzzed_longest_ago_comes_first(tmp_path: Path) -> None:
    runs = [Run(name, WELL) for name in ("one", "two", "three")]
    for name, at in (("one", 30), ("two", 20)):
        (tmp_path / f"{name}.ran").touch()
        os.utime(tmp_path / f"{name}.ran", (at, at))
    assert fuzzed(runs, 1.0, kept=tmp_path) == 0
    assert names_in_order(tmp_path) == ["three", "two", "one"]


def test_a_run_that_a_signal_ends_says_what_did_not_run_and_begins_with_it_the_next_time(tmp_path: Path) -> None:
    """As a time limit around ``make fuzz`` does it: to make, the run and what it started, at once."""
    program = (
        "import sys; from pathlib import Path; from fuzz.runs import Run, fuzzed\n"
        f"waits = ['sh', '-c', 'echo begun > {tmp_path}/begun; sleep 600']\n"
        f"runs = [Run('first', {WELL!r}), Run('second', waits), Run('third', {WELL!r})]\n"
        f"sys.exit(fuzzed(runs, 9.0, kept=Path({str(tmp_path)!r})))"
    )
    os.mkfifo(tmp_path / "begun")
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert (tmp_path / "begun").read_text() == "begun\n"
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "2 of 3 parsers ran, 7 inputs\nnot run: third; not well: second\n" in said
    assert names_in_order(tmp_path) == ["first"]
