"""``python -m fuzz.reach NAME``: what the kept inputs of a parser never reach.

Of each function of promring that an input entered: the lines that no input executed. A harness whose parser stops at the
first check shows here: the functions behind that check are missing from the list, or all of their lines are.
"""

from __future__ import annotations

import dis
import sys
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fuzz.parsers import PARSERS

SOURCE = "/promring/"


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
            one.feed(data)
    finally:
        sys.settrace(None)
    return lines


def main() -> None:
    for code, lines in sorted(reached(sys.argv[1]).items(), key=lambda item: (item[0].co_filename, item[0].co_firstlineno)):
        every = {line for _, line in dis.findlinestarts(code) if line is not None and line > code.co_firstlineno}
        missing = sorted(every - lines)
        where = f"{code.co_filename.rpartition(SOURCE)[2]}:{code.co_firstlineno} {code.co_qualname}"
        print(f"{where}: {len(every) - len(missing)} of {len(every)} lines{f'; never {missing}' if missing else ''}")


if __name__ == "__main__":
    main()
