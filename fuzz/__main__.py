"""``make fuzz MINUTES=20 [ONLY=json_list,audit] [FUZZ_WORKERS=1]``: inputs by coverage (Atheris) for every parser in turn.

The inputs that reached new code are kept in ``.fuzz/NAME``, and the next run begins with them. An input that did not end as
it should is written beside that folder, and its path and traceback are printed. Once the defect is mended the input belongs
in ``fuzz/found/NAME``, where ``tests/unit/test_fuzz.py`` tries it. How the parsers share the minutes: ``runs``.
Exit status 1: there was such an input, or a parser was not fuzzed; 128 and a signal's number: that signal ended the run.
"""

from __future__ import annotations

import argparse
import sys

from fuzz.nursery import nursery
from fuzz.runs import Run, fuzzed


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--minutes", type=float, default=20.0, help="of a clock, for all parsers together")
    parser.add_argument("--only", default="", help="parsers, with commas")
    parser.add_argument("--workers", type=int, default=1, help="parsers at a time")
    chosen = parser.parse_args()
    from fuzz.parsers import PARSERS

    names = [name for name in chosen.only.split(",") if name] or list(PARSERS)
    if unknown := set(names) - PARSERS.keys():
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    look = [sys.executable, "-m", "fuzz.reach", "--short"]
    with nursery() as feeding:
        return fuzzed([Run(name, [*feeding, name], [*look, name]) for name in names], 60 * chosen.minutes, chosen.workers)


if __name__ == "__main__":
    sys.exit(main())
