"""A module, and a name in a module, that a docstring or a comment of the code gives in double backquotes is there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/promring"
PATHS = sorted(SOURCE.rglob("*.py"))
QUOTED = re.compile(r"``([a-z_]\w*(?:[./]\w+)+)(?:\(\))?``")
NOT_PYTHON, ENTRY_POINTS = ("conf", "h", "json", "sh", "yml"), "promring.targets"


def names_in(tree: ast.Module) -> Iterator[str]:
    """What a module defines, and what is in its classes, attributes of ``self`` included."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias():
                yield node.asname or node.name


def modules() -> dict[str, set[str]]:
    """The names in each module, which stands under its whole path and under each end of the path, as prose shortens it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PATHS:
        parts = [part for part in path.relative_to(SOURCE.parent).with_suffix("").parts if part != "__init__"]
        names = set(names_in(ast.parse(path.read_text())))
        for start in range(len(parts)):
            found[".".join(parts[start:])] |= names
    return found


def is_there(quoted: str, known: dict[str, set[str]]) -> bool:
    """True also for what does not look like one of our files or modules."""
    *parts, last = quoted.replace("/", ".").split(".")
    if last in ("py", "md"):
        return any(True for _ in (*SOURCE.rglob(quoted), *ROOT.glob(quoted)))
    splits = [(".".join(parts[:n]), [*parts[n:], last]) for n in range(1, len(parts) + 1)]
    ours = [known[module].issuperset(names) for module, names in splits if module in known]
    return not ours or any(ours) or last in NOT_PYTHON or quoted == ENTRY_POINTS or ".".join([*parts, last]) in known


def test_what_prose_names_is_there() -> None:
    known, missing = modules(), []
    for path in PATHS:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                quoted = QUOTED.findall(token.string)
                missing += [f"{path.relative_to(ROOT)}:{token.start[0]}: no {q}" for q in quoted if not is_there(q, known)]
    assert missing == [], "a docstring or a comment (that begins in this line) names what is not in src/promring"
