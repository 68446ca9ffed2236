"""``python -m fuzz.reach NAME [--short]``: what the kept inputs of a parser never reach.

Of each function of promring that an input entered: the lines that no input executed. A harness whose parser stops at the
first check shows here: the functions behind that check are missing from the list, or all of their lines are.
"""

from __future__ import annotations

import argparse
import dis
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fuzz.parsers import PARSERS

SOURCE = "/promring/"
LOOK_S = 30.0
"""Of CPU. The inputs that are left then are not looked at: tracing makes each of them ten times as slow."""


def reached(name: str, kept: Path = Path(".fuzz")) -> dict[CodeType, set[int]]:
    """By function, the lines that the samples and kept inputs executed."""
    lines: dict[CodeType, set[int]] = defaultdict(set)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if SOURCE not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines[frame.f_code].add(frame.f_lineno)
        return trace

    one = PARSERS[name]
    inputs = [*one.samples, *(path.read_bytes() for path in sorted((kept / name).glob("*")))]
    sys.settrace(trace)
    try:
        for data in inputs:
            if time.process_time() > LOOK_S:
                break
            one.feed(data)
    finally:
        sys.settrace(None)
    return lines


def _lines(code: CodeType) -> set[int]:
    return {line for _, line in dis.findlinestarts(code) if line is not None and line > code.co_firstlineno}


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz.reach")
    parser.add_argument("name", choices=PARSERS)
    parser.add_argument("--short", action="store_true", help="one line: how many")
    chosen = parser.parse_args()
    found = reached(chosen.name)
    if chosen.short:
        count = sum(len(_lines(code)) for code in found)
        missed = sum(len(_lines(code) - lines) for code, lines in found.items())
        print(f"{count - missed} of {count} lines of {len(found)} functions")
        return
    for code, lines in sorted(found.items(), key=lambda item: (item[0].co_filename, item[0].co_firstlineno)):
        every = _lines(code)
        missing = sorted(every - lines)
        where = f"{code.co_filename.rpartition(SOURCE)[2]}:{code.co_firstlineno} {code.co_qualname}"
        print(f"{where}: {len(every) - len(missing)} of {len(every)} lines{f'; never {missing}' if missing else ''}")


if __name__ == "__main__":
    main()
