"""Mutation testing (``make mutants``): which changes it makes, and that its list of explanations is about these."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants.__main__ import CORE, explained
from mutants.changes import changes, code_of, names
from mutants.modules import TESTS
from mutants.trial import _forked, put_in_place


def named(body: str) -> list[str]:
    return [change.name.removeprefix("f: ") for change in changes(f"def f(a, b):\n    {body}\n", "m.py")]


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("return a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("return a and b", ["a and b -> a or b", "a and b -> a", "a and b -> b"]),
        ("return not a", ["not a -> a"]),
        ("return min(a, b)", ["min(a, b) -> max(a, b)"]),
        ("return a.by(b, key=b)", ["a.by(… key=b) -> a.by(…)"]),
        ("return [c for c in a if c]", ["for c in a if c -> for c in a"]),
        ("return a + 1, a + 1", ["a + 1 -> a - 1", "1 -> 2", "a + 1 -> a - 1 #2", "1 -> 2 #2"]),
        ("a[b] = True", ["a[b] = True -> pass", "True -> False"]),
        ("return f'{a + b} texts are for people'", []),
        ("assert a < b", []),
        ("return zip(a, b, strict=True)", []),
    ],
)
def test_each_change_is_one_place_of_a_function_written_otherwise(body: str, made: list[str]) -> None:
    assert named(body) == made


def test_a_change_is_the_function_as_it_is_then() -> None:
    source = "class C:\n    def f(self, a):\n        return (lambda: a + 1)()\n"
    added = [change for change in changes(source, "m.py") if change.name == "C.f: a + 1 -> a - 1"]
    (found,) = added
    assert names(source) == {change.name for change in changes(source, "m.py")}
    space: dict[str, type] = {}
    exec(compile(source, "m.py", "exec"), space)
    one = space["C"]()
    assert one.f(5) == 6
    space["C"].f.__code__ = found.code  # type: ignore[attr-defined]
    assert one.f(5) == 4
    assert code_of(compile(source, "m.py", "exec"), "C.f").co_name == "f"


def test_every_module_of_the_core_has_its_tests_and_every_explanation_is_about_a_change() -> None:
    modules = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    assert set(TESTS) == modules
    tests = Path(__file__).parents[1]
    assert [name for names in TESTS.values() for name in names if not (tests / name.partition("::")[0]).exists()] == []
    for module, reasons in explained().items():
        assert not set(reasons) - names((CORE / f"{module}.py").read_text()), f"{module}: no such change"
        assert all(reasons.values())


def _defect() -> bytes:
    raise KeyError("of the tool, not of a test")


def _full() -> bytes:
    raise MemoryError


def _endless() -> bytes:
    while True:
        pass


def test_a_fork_that_fails_by_itself_is_an_error_and_one_that_is_ended_has_noticed_the_change() -> None:
    assert _forked(lambda: b"a test", cpu_s=60, wait_s=60) == (b"a test", "")
    assert _forked(_full, cpu_s=60, wait_s=60) == (None, "no memory")
    assert _forked(_endless, cpu_s=1, wait_s=60) == (None, "signal 24")
    with pytest.raises(pytest.UsageError, match="before its tests did"):
        _forked(_defect, cpu_s=60, wait_s=60)


def test_a_change_may_leave_out_the_last_use_of_the_class_around_a_function() -> None:
    source = "class C(list):\n    def append(self, a):\n        super().append(a)\n"
    found = next(change for change in changes(source, "m.py") if change.name == "C.append: super().append(a) -> pass")
    space: dict[str, type] = {}
    exec(compile(source, "m.py", "exec"), space)
    one = space["C"]()
    one.append(1)
    put_in_place(space["C"].append, found.code)  # type: ignore[attr-defined]
    one.append(2)
    assert one == [1]
