"""``promring plan`` as a shell sees it: who is asked, and what is said when nobody answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.demo.process import free_port
from tests.fakes.controller import FakeController, error, status
from tests.unit.test_commands import HEAVY

FITS: dict[str, Any] = {"all": True, "unplaced": 0, "unplaced_load": 0, "unplaced_targets": []}
FITS |= {"too_heavy": 0, "too_heavy_targets": []}
PLAN = "/api/v1/fleets/node/plan"


def planned(**changed: Any) -> dict[str, Any]:
    """What a controller answers: one of two scrapers is drained."""
    row = {"zone": "", "load_before": 0, "load_after": 0, "limit": None, "sha256": None}
    return {
        "fleet": "node",
        "decided_by": "controller",
        "held": [],
        "drained": [],
        "room": None,
        "no_room": 0,
        "targets": 90,
        "load": 90,
        "moved": 0,
        "load_moved": 0,
        "most": 50,
        "fits": {
            "all": True,
            "ownerless": 0,
            "unplaced": 0,
            "unplaced_load": 0,
            "unplaced_targets": [],
            "too_heavy": 0,
            "too_heavy_targets": [],
        },
        "scrapers": [
            row | {"id": "a:1", "before": 90, "after": 45, "gains": 0, "gives": 45},
            row | {"id": "b:1", "before": 0, "after": 45, "gains": 45, "gives": 0},
        ],
        "zones": [],
        "moves": [],
    } | changed


def asked(answer: object, *more: str, fleets: object = None) -> tuple[Result, list[str]]:
    fleets = status()["fleets"] if fleets is None else fleets
    with FakeController({"/api/v1/fleets": (200, fleets), PLAN: (200, answer)}) as fake:
        result = CliRunner().invoke(main, ["plan", "--url", fake.url, *more])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result, [path for _, path, _ in fake.asked]


def test_the_running_controller_is_asked_and_what_it_holds_is_said() -> None:
    held = {"reason": "panic", "detail": "2 of 3 are gone", "releasable": True, "until": None}
    result, paths = asked(
        planned(drained=["c:1"], held=[held]), "--without", "a:1", "--with", "d:1,zone=x", "--without", "b:1"
    )
    assert result.exit_code == 0, result.output
    assert paths[-1] == f"{PLAN}?without=a%3A1&without=b%3A1&with=d%3A1%2Czone%3Dx"
    lines = result.stdout.splitlines()
    assert "held, and not a part of this: 2 of 3 are gone" in lines
    assert "drained: c:1" in lines
    assert lines[-1].endswith(" would decide now; nothing is touched")


def test_what_nobody_has_room_for_is_said_with_what_becomes_of_it() -> None:
    fits = {
        "all": False,
        "unplaced": 9,
        "unplaced_load": 9,
        "unplaced_targets": ["t:1"],
        "too_heavy": 0,
        "too_heavy_targets": [],
    }
    result, _ = asked(planned(fits=fits, no_room=9), "--without", "a:1")
    assert "9 of them have an owner now: of a drained scraper they stay with it while it lives, of a dead" in result.stdout
    assert "DOES NOT FIT: 9 targets lack an owner (load 9): t:1 and 8 more\n" in result.stdout


def test_as_json_it_is_what_the_api_says() -> None:
    result, _ = asked(planned(), "--output", "json")
    assert json.loads(result.stdout) == planned()


def test_which_of_several_fleets_is_asked_for_unless_only_one_can_be_meant() -> None:
    one = status()["fleets"][0]
    both = [one, one | {"name": "other", "scrapers": one["scrapers"][1:]}]
    result, _ = asked(planned(), fleets=both)
    assert (result.exit_code, "which one? There is node, other" in result.stderr) == (2, True)
    result, paths = asked(planned(), "--without", "10.0.0.1:9090", fleets=both)
    assert (result.exit_code, paths[-1]) == (0, f"{PLAN}?without=10.0.0.1%3A9090"), "only one fleet has it"
    result, _ = asked(planned(), "--without", "10.0.0.2:9090", fleets=both)
    assert (result.exit_code, "which one? There is node, other" in result.stderr) == (2, True)
    result, _ = asked(planned(), "--without", "x:1", fleets=both)
    assert (result.exit_code, "no fleet has the scraper 'x:1'; there is node, other" in result.stderr) == (1, True)
    assert asked(planned(), "--fleet", "node", fleets=both)[1][-1] == PLAN
    result, _ = asked(planned(), "--fleet", "nope", fleets=both)
    assert (result.exit_code, "no fleet 'nope'; there is node, other" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "answer", [error("bad_data", "x:1 is not a live scraper"), b"<html>"], ids=["no", "not a controller"]
)
def test_what_answers_and_says_no_is_not_taken_for_silence(answer: bytes) -> None:
    result, _ = asked(answer)
    assert result.exit_code == 1
    assert "no controller is asked" not in result.stderr


@pytest.mark.parametrize("offline", [True, False])
def test_where_no_controller_answers_the_plan_is_of_the_file_alone_and_that_is_said(tmp_path: Path, offline: bool) -> None:
    file = tmp_path / "x.yml"
    file.write_text("shard_services: []")
    url = f"127.0.0.1:{free_port()}"
    result = CliRunner().invoke(main, ["plan", f"--config.file={file}", "--url", url, *["--offline"] * offline])
    assert result.exit_code == 2, "the file is read, and is at fault"
    assert str(file) in result.stderr
    assert (f"no controller is asked: no promring answers at http://{url}" in result.stderr) != offline


def test_a_plan_of_a_controller_loads_nothing_of_the_daemon() -> None:
    script = (
        "import sys\nfrom promring.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*sys.modules)"
    )
    with FakeController({"/api/v1/fleets": (200, status()["fleets"]), PLAN: (200, planned())}) as fake:
        command = [sys.executable, "-c", script, "plan", "--url", fake.url]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = set(out.stdout.splitlines()[-1].split())
    assert "promring.cli.plan" in loaded
    assert loaded & HEAVY == set()


def test_names_that_are_mistyped_are_answered_from_the_file_with_those_that_may_have_been_meant(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"

    def offline(*words: str) -> Result:
        each = [
            {
                "name": f"fleet-{number}",
                "scrapers": {"probe": {"nodes": [f"10.0.0.{number}:9090"]}},
                "delivery": [{"http_sd": {}}],
            }
            for number in range(2)
        ]
        services = [{"name": f"s{n}", "fleet": f"fleet-{n}", "targets": [{"http": {"url": "http://a/"}}]} for n in range(2)]
        file.write_text(json.dumps({"fleets": each, "shard_services": services}))
        return CliRunner().invoke(main, ["plan", "--offline", f"--config.file={file}", *words])

    result = offline("--fleet", "flet-1")
    assert (result.exit_code, "did you mean 'fleet-1'" in result.stderr) == (2, True), result.stderr
    result = offline("--without", "10.0.0.1:909")
    assert (result.exit_code, "did you mean '10.0.0.1:9090'" in result.stderr) == (2, True), result.stderr
