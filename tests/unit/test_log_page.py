"""Each ``msg`` of the log stands on its page once, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from promring.delivery.receiver_sh import REMEDIES

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical"}
ELSEWHERE = set(REMEDIES)
"""Said by a name, not by a word on the line of the call."""


def texts(argument: ast.expr) -> Iterator[str]:
    """The words that a call may say: of ``"a" if x else "b"`` both."""
    if isinstance(argument, ast.IfExp):
        yield from (*texts(argument.body), *texts(argument.orelse))
    elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value


def said(path: Path) -> Iterator[str]:
    """The first arguments of calls of a logger, also by a name ``say`` that stands for one of its methods; to a command that
    is the terminal.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            called = node.func
            by_name = isinstance(called, ast.Name) and called.id == "say" and "cli" not in path.parts
            if by_name or (isinstance(called, ast.Attribute) and called.attr in LEVELS):
                yield from texts(node.args[0])


def test_each_log_message_is_documented_once_and_is_there() -> None:
    logged = {word for path in (ROOT / "src/promring").rglob("*.py") for word in said(path)} | ELSEWHERE
    page = (ROOT / "docs/log.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| (?:info|warn|error) \|", page, re.MULTILINE)
    listed = Counter(word for row in rows for word in re.findall(r"`(\w+)`", row))
    assert len(logged) > 60
    assert sorted(logged - listed.keys()) == [], "said, and not on the page"
    assert sorted(listed.keys() - logged) == [], "on the page, and said nowhere"
    assert [word for word, times in listed.items() if times > 1] == []
