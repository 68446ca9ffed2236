"""The size of things: a file, a function and a class that one can hold in the head, or the reason why not."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/promring"
FILE_LINES, FUNCTION_LINES, CLASS_ATTRIBUTES = 350, 50, 15


def trees() -> Iterator[tuple[str, str, ast.Module]]:
    paths = sorted(SOURCE.rglob("*.py"))
    assert len(paths) > 100
    for path in paths:
        text = path.read_text()
        yield str(path.relative_to(SOURCE)), text, ast.parse(text)


def attributes(one: ast.ClassDef) -> set[str]:
    """What is assigned to ``self``, and what the class declares."""
    found = {part.target.id for part in one.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)}
    for node in ast.walk(one):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if isinstance(node.value, ast.Name) and node.value.id == "self" else set()
    return found


def is_answer(one: ast.ClassDef) -> bool:
    """Whether its attributes are fields of the HTTP API, which say by themselves what they are for."""
    return any(isinstance(base, ast.Name) and base.id == "Answer" for base in one.bases)


def test_no_file_is_longer_than_one_can_read_at_a_sitting() -> None:
    assert [name for name, text, _ in trees() if text.count("\n") > FILE_LINES] == []


def test_no_function_is_longer_than_a_screen() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = [(name, node) for name, _, tree in trees() for node in ast.walk(tree) if isinstance(node, kinds)]
    assert [f"{n}:{f.name}" for n, f in found if (f.end_lineno or 0) - f.lineno >= FUNCTION_LINES] == []


def test_a_class_with_many_attributes_says_in_its_docstring_why() -> None:
    found = [(name, node) for name, _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    many = [(name, one) for name, one in found if len(attributes(one)) > CLASS_ATTRIBUTES and not is_answer(one)]
    assert many, "and this sees some"
    assert [f"{name}:{one.name}" for name, one in many if "attribute" not in (ast.get_docstring(one) or "")] == []


@pytest.mark.parametrize("program", ["bench", "soak", "mutants"])
def test_a_program_that_no_test_runs_can_be_loaded(program: str) -> None:
    assert importlib.import_module(f"{program}.__main__").__file__
