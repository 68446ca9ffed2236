"""``make mutants [MODULE=guard]``: which small changes of ``promring.core`` no test notices.

    python -m mutants [MODULE ...] [--share 0.2] [--only TEXT] [--verbose]

Prints each change that was not noticed and is not explained in ``explained.toml``, with its line, and each explanation that
is not needed. ``--share``: so much of the changes, always the same; ``--only``: those with this text in their name.
Exit status 1: there is one of either kind.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import promring.core
from mutants.changes import Change, changes
from mutants.modules import TESTS
from mutants.trial import Outcome, Trial

CORE = Path(promring.core.__file__).parent
EXPLAINED = Path(__file__).with_name("explained.toml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants")
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    if len(chosen.modules) == 1:
        return _one(chosen.modules[0], chosen.share, chosen.only, chosen.verbose)
    options = ["--share", str(chosen.share), "--only", chosen.only, *(["--verbose"] if chosen.verbose else [])]
    return max(_in_a_process(module, options) for module in chosen.modules or TESTS)


def _in_a_process(module: str, options: Sequence[str]) -> int:
    """What is imported for one module is not there for the next."""
    return subprocess.run([sys.executable, "-m", "mutants", module, *options], check=False).returncode


def explained() -> Mapping[str, Mapping[str, str]]:
    """By module: the changes that no test can notice, with the reason."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads(EXPLAINED.read_text())
    return found


def of_module(module: str) -> list[Change]:
    path = CORE / f"{module}.py"
    return list(changes(path.read_text(), str(path)))


def _chosen(change: Change, share: float, only: str) -> bool:
    drawn = int.from_bytes(hashlib.sha256(change.name.encode()).digest()[:4], "big") / 2**32
    return only in change.name and drawn < share


def _one(module: str, share: float, only: str, verbose: bool) -> int:
    known, began = explained().get(module, {}), time.monotonic()
    wanted = [change for change in of_module(module) if _chosen(change, share, only)]
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if verbose and outcome.noticed:
            print(f"{module}.py:{outcome.change.line} {outcome.change.name}\n    {outcome.noticed}", flush=True)
        if not outcome.noticed and outcome.change.name not in known:
            why = f"by none of {outcome.tests} tests" if outcome.tests else "no test reaches the statement"
            print(f"{module}.py:{outcome.change.line} {outcome.change.name}\n    not noticed: {why}", flush=True)
        if outcome.noticed and outcome.change.name in known:
            print(f"{module}.py:{outcome.change.line} {outcome.change.name}\n    explained, and noticed: {outcome.noticed}")

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tests = [f"tests/{name}" for name in TESTS[module]]
        flags = ["-n", "0", "-q", "-q", "--capture=no", f"--basetemp={folder}/tests"]
        status = pytest.main([*flags, *tests], plugins=[Trial(CORE / f"{module}.py", wanted, report)])
    left = [one for one in outcomes if not one.noticed]
    new = [one for one in left if one.change.name not in known]
    needless = [one for one in outcomes if one.noticed and one.change.name in known]
    print(
        f"{module}: {len(outcomes)} changes, {len(outcomes) - len(left)} noticed, {len(left) - len(new)} explained, "
        f"{len(new)} not, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return int(bool(new or needless or len(outcomes) != len(wanted) or status))


if __name__ == "__main__":
    sys.exit(main())
