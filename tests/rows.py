"""The table of failures: which row of the failure list a test proves, what it did, what it saw.

A test says so with ``@pytest.mark.row(7, "A6", did="…")`` (abuses are texts) and, by the fixture ``seen``, what it measured.
With ``--rows`` the table is printed at the end, and ``--rows=FILE`` writes it into that page. A row whose test failed or was
skipped says so.
``@pytest.mark.long`` tests run with ``--long`` only: those with a row in ``make faults``, the others in ``make long``, many
seeds of the simulation in ``make sim``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Seen = Callable[[str], None]
Number = int | str
"""A failure's number, or an abuse's, or that of a failure of names, etcd or Kubernetes: 7, "A6", "D2", "E1", "K8"."""
BEGIN, END = "<!-- the table begins: make faults writes it -->", "<!-- the table ends -->"


class Row(NamedTuple):
    rows: tuple[Number, ...]
    did: str
    saw: str
    result: str
    seconds: float


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", nargs="?", const="", default=None, help="print the table of failures; =FILE: write it, too")
    parser.addoption("--only-rows", action="store_true", help="run only tests that prove a row")
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(*numbers, did): rows of the failure list that this test proves")
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-rows"):
        items[:] = [item for item in items if item.get_closest_marker("row")]
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: make faults, make long"))
        for marker in item.iter_markers("row"):
            assert marker.args, f"{item.nodeid}: a row has a number"
            assert marker.kwargs.keys() == {"did"}, f"{item.nodeid}: a row says what was done"
            item.user_properties.append(("row", (marker.args, marker.kwargs["did"])))


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for many turns of the same."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """Say what was seen, in a few words with the figures; several times for several things."""
    return lambda text: request.node.user_properties.append(("seen", text))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    wanted = config.getoption("--rows")
    if wanted is None:
        return
    table = _merged(_rows(terminalreporter.stats))
    terminalreporter.section("failures: row, what was done, what was seen, result")
    for row in table:
        numbers = ",".join(map(str, row.rows))
        terminalreporter.write_line(f"{numbers:>8}  {row.result:7} {row.seconds:6.1f} s  {row.did}  ->  {row.saw}")
    if wanted:
        _put(_markdown(table), Path(wanted))


def _rows(stats: dict[str, list[Any]]) -> Iterator[Row]:
    reports: dict[str, list[Any]] = {}
    for kind in ("passed", "failed", "error", "skipped"):
        for report in stats.get(kind, []):
            if hasattr(report, "user_properties"):
                reports.setdefault(report.nodeid, []).append(report)
    for found in reports.values():
        bad = [r.outcome for r in found if r.outcome != "passed"]
        result = {"failed": "FAILED", "skipped": "skipped"}[bad[0]] if bad else "pass"
        marked = {value for r in found for name, value in map(_frozen, r.user_properties) if name == "row"}
        saw = "; ".join(dict.fromkeys(text for r in found for name, text in r.user_properties if name == "seen"))
        for numbers, did in sorted(marked, key=_in_order):
            yield Row(numbers, did, saw, result, max(r.duration for r in found))


def _merged(rows: Iterable[Row]) -> list[Row]:
    """What several tests, or one with several parameters, did in the same words is one row."""
    found: dict[tuple[tuple[Number, ...], str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.rows, row.did), []).append(row)
    merged = []
    for (numbers, did), same in sorted(found.items(), key=lambda item: _in_order(item[0])):
        results = {row.result for row in same}
        result = next(r for r in ("FAILED", "skipped", "pass") if r in results)
        saw = dict.fromkeys(row.saw for row in same if row.saw)
        merged.append(Row(numbers, did, "; ".join(saw), result, sum(row.seconds for row in same)))
    return merged


def _in_order(marked: tuple[tuple[Number, ...], str]) -> tuple[list[tuple[str, int]], str]:
    """Failures in order of their numbers, then abuses and failures of stores in order of theirs."""
    numbers, did = marked
    return [(str(n).rstrip("0123456789"), int(str(n).lstrip("ADEK"))) for n in numbers], did


def _frozen(pair: Any) -> tuple[str, Any]:
    """Lists that were tuples before they came from another process."""
    name, value = pair
    return (name, (tuple(value[0]), value[1])) if name == "row" else (name, value)


def _put(markdown: str, path: Path) -> None:
    """Between the two marks of the page, or as the page."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{markdown}\n{END}{rest.partition(END)[2]}")


def _markdown(table: list[Row]) -> str:
    lines = ["| row | what was done | what was seen | result |", "|---|---|---|---|"]
    for row in table:
        cells = (", ".join(map(str, row.rows)), row.did, row.saw or "as expected", row.result)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
