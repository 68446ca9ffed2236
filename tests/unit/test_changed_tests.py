"""``make quick``: which tests a change chooses."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="script")
def _script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "test-changed"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("src/promring/core/ring.py", "promring.core.ring"),
        ("src/promring/membership/__init__.py", "promring.membership"),
        ("tests/waiting.py", "tests.waiting"),
        ("docs/log.md", ""),
        ("scripts/make_site.py", ""),
    ],
)
def test_a_file_is_imported_by_a_name(script: dict[str, Any], path: str, name: str) -> None:
    assert script["module"](path) == name


def test_who_imports_a_changed_module_is_chosen_and_a_changed_test_itself(script: dict[str, Any]) -> None:
    chosen = {
        str(file.relative_to(ROOT)) for file in script["chosen"](["src/promring/core/ring.py", "tests/laws/test_packing.py"])
    }
    assert {"tests/laws/test_placement.py", "tests/laws/test_packing.py"} <= chosen
    assert "tests/unit/test_address.py" not in chosen, "it imports nothing of that"
    assert script["chosen"](["docs/log.md"]) == []
