"""The page of threats promises nothing that no test holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()
PROMISE = re.compile(r"^\| (A\d+) \| ([^|]+) \| `([\w/.]+)::(\w+)` \|$", re.MULTILINE)
ABUSES = {f"A{number}" for number in range(1, 14)}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_promise_names_a_test_that_exists() -> None:
    promises = PROMISE.findall(PAGE)
    assert len(promises) == len(re.findall(r"^\| A\d+ \|", PAGE, re.MULTILINE)), "a row that is read otherwise"
    missing = [(path, test) for _, _, path, test in promises if test not in names_in(ROOT / path)]
    assert missing == []


def test_every_abuse_of_the_failure_list_has_a_promise_and_a_test_that_says_so() -> None:
    assert {abuse for abuse, *_ in PROMISE.findall(PAGE)} == ABUSES
    marked = set()
    for path in (ROOT / "tests").glob("*/test_*.py"):
        for row in re.findall(r"mark\.row\((.*?)did=", path.read_text(), re.DOTALL):
            marked |= set(re.findall(r'"(A\d+)"', row))
    assert marked >= ABUSES
