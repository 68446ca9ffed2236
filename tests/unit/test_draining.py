"""A drain as the command line sees it: what is said on the way, when it is over, and what is not taken for its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.cli.client import Controller
from promring.cli.draining import Drain, wait
from tests.fakes.controller import FakeController, error, status

ONE = "10.0.0.1:9090"
DRAIN = f"/api/v1/fleets/node/scrapers/{ONE.replace(':', '%3A')}/drain"
FORECAST = {"leave": 15, "come": 0, "no_room": 0, "others": 2, "fullest": {"id": "10.0.0.2:9090", "load": 22, "limit": 24}}
BEGUN = {
    "fleet": "node",
    "scraper": ONE,
    "drained": True,
    "alive": True,
    "kept": True,
    "had": 15,
    "left": 15,
    "keeps_all": False,
}


def at(left: int, *, no_room: int = 0, drained: bool = True, started_at: float = 1.0, **changed: Any) -> dict[str, Any]:
    """A status in which so many targets are left."""
    first, second = status()["fleets"][0]["scrapers"]
    first |= {"targets": left, "left": left, "no_room": no_room, "drained": drained}
    return status(scrapers=[first, second], **changed) | {"started_at": started_at}


def told(*answers: object, timeout_s: float = 60.0) -> tuple[Drain, list[str]]:
    """One drain that sees these answers one after the other, and then the last again and again. An answer that is bytes is
    an error of the controller.
    """
    lines: list[str] = []
    left = iter(answers)
    last: list[object] = []

    def next_one() -> object:
        last[:] = [next(left, last[0] if last else None)]
        return last[0]

    with FakeController({"/api/v1/status": (200, next_one)}) as fake:
        drain = Drain("node", ONE, had=15, left=15)
        wait(Controller(fake.url, "", False), [drain], timeout_s, lines.append, every_s=0.001)
        return drain, [line.replace(fake.url, "URL") for line in lines]


def test_how_many_are_left_is_said_when_it_is_another_number_and_drained_when_none_is() -> None:
    drain, lines = told(at(15), at(15), at(7), at(7), at(0))
    assert (drain.result, drain.left) == ("drained", 0)
    assert lines == [f"node: draining {ONE}: {n} of 15 targets left" for n in (15, 7)]


def test_what_has_no_room_elsewhere_ends_the_wait_and_is_not_called_drained() -> None:
    drain, _ = told(at(15), at(9, no_room=9))
    assert (drain.result, drain.left, drain.no_room) == ("no_room", 9, 9)
    assert "no room within capacity" in drain.why


def test_a_held_plan_is_why_a_drain_does_not_go_on_and_until_when_is_said() -> None:
    held = {"reason": "panic", "detail": "2 of 3 scrapers are gone", "until": 1_700_000_000.0}
    drain, lines = told(at(15, held=held), timeout_s=1.5)
    assert drain.result == "timeout"
    assert drain.why.startswith("the plan is held until ")
    assert drain.why.endswith(": 2 of 3 scrapers are gone")
    assert lines == [f"node: draining {ONE}: 15 of 15 targets left; {drain.why}"]


def test_a_service_that_is_held_is_why_a_drain_does_not_go_on() -> None:
    answer = at(15)
    held = {"reason": "targets_unknown", "detail": "a newer answer is needed", "until": None}
    answer["services"][0] |= {"held": held}
    name = answer["services"][0]["name"]
    assert told(answer, timeout_s=1.5)[0].why == f"{name} is held: a newer answer is needed"


def test_a_drain_that_was_refused_waits_for_nothing_and_says_nothing_of_one_that_is_kept() -> None:
    with FakeController({"/api/v1/status": (200, status(leader=False))}) as fake:
        lines: list[str] = []
        wait(Controller(fake.url, "", False), [Drain("node", ONE, result="refused", why="no")], 60.0, lines.append)
    assert lines == []


def test_a_slice_that_is_not_delivered_is_said_with_the_end() -> None:
    answer = at(0)
    answer["fleets"][0]["scrapers"][0]["delivery_error"] = "the disk is full"
    drain, _ = told(answer)
    assert (drain.result, drain.why) == ("drained", "its slice is not delivered: the disk is full")


def test_a_scraper_that_nobody_knows_any_more_or_that_is_not_alive_is_not_called_empty() -> None:
    gone = at(15)
    del gone["fleets"][0]["scrapers"][0]
    assert told(at(15), gone)[0].result == "gone"
    dead = at(0)
    dead["fleets"][0]["scrapers"][0]["standing"] = "out"
    assert "what it has on its disk stays there" in told(at(15), dead)[0].why


def test_a_scraper_is_not_called_empty_while_a_service_of_its_fleet_has_no_plan() -> None:
    """After a start without a state: then nobody knows what it has of it, and it goes on with that."""
    drain, _ = told(at(0, targets=None), timeout_s=0.5)
    assert (drain.result, drain.why) == ("timeout", "no plan yet of node: what it has is not known")
    unlooked = at(0)
    unlooked["fleets"][0]["unlooked"] = True
    drain, _ = told(unlooked, timeout_s=0.5)
    assert (drain.result, drain.why) == ("timeout", "nobody has looked yet since a new start: what it has is not known")
    assert told(at(0, targets=None), at(15), at(0))[0].result == "drained"
    dead = at(0, targets=None)
    dead["fleets"][0]["scrapers"][0] |= {"state": "down", "standing": "out"}
    assert told(dead)[0].result == "drained", "there is nothing to wait for"


def test_who_undrains_it_meanwhile_ends_the_wait() -> None:
    drain, _ = told(at(15), at(15, drained=False))
    assert drain.result == "undrained"


def test_an_answer_that_does_not_come_is_said_once_and_asked_for_again() -> None:
    drain, lines = told(at(15), error("internal", "no"), error("internal", "no"), at(15), at(0))
    assert drain.result == "drained"
    assert lines[1:] == ["no answer, asked again: URL: no", "URL answers again"]


def test_a_controller_that_leads_no_more_is_said_and_its_numbers_are_not_taken() -> None:
    follows = {"leader": False, "controllers": {"lock": True, "leader": "other:9600", "epoch": 3}}
    drain, lines = told(at(15), at(0) | follows, timeout_s=1.5)
    assert (drain.result, drain.left) == ("timeout", 15)
    assert drain.why == lines[-1].replace("URL", drain.why.split()[0])
    assert lines[-1] == "URL does not lead any more, other:9600 does; the drain is kept"


def test_a_controller_that_was_started_again_goes_on_and_is_said() -> None:
    drain, lines = told(at(15), at(9, started_at=2.0), at(0, started_at=2.0))
    assert (drain.result, "URL was started again meanwhile" in lines) == ("drained", True)


def test_a_controller_that_has_not_started_the_fleet_yet_has_drained_nothing() -> None:
    drain, lines = told(at(15), at(0) | {"fleets": []}, at(0))
    assert drain.result == "drained"
    assert lines[1] == "URL does not run node now"


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("sesame")
    return str(tmp_path / "token")


def drained(token: str, answer: object, *more: str, code: int = 200, left: Sequence[int] = ()) -> Result:
    each = iter(left)
    answers = {
        "/api/v1/fleets": (200, status()["fleets"]),
        DRAIN: (code, answer),
        "/api/v1/status": (200, lambda: at(next(each, 0))),
    }
    with FakeController(answers) as fake:
        result = CliRunner().invoke(main, ["drain", ONE, "--url", fake.url, "--token-file", token, *more])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        forced = [path for _, path, _ in fake.asked if "force=true" in path]
        assert len(forced) == ("--force" in more)
        return result


def test_what_the_others_will_carry_and_what_cannot_move_is_said_beforehand(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": FORECAST | {"leave": 6, "no_room": 9}})
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "node: 6 of 15 go to 2 others, which then carry at most 22 of 24 (10.0.0.2:9090)",
        "node: 9 of 15 cannot move: no room within capacity",
        f"node: {ONE} drained: it holds nothing",
    ]


@pytest.mark.parametrize("typed", ["::ffff:10.0.0.1", "Host-A.:9090"])
def test_a_scraper_in_another_spelling_or_by_another_name_is_waited_for(token: str, typed: str) -> None:
    """The drain began, and the command ended with "the controller does not know it any more"."""
    typed = f"[{typed}]:9090" if typed.startswith(":") else typed
    asked = {"[::ffff:10.0.0.1]:9090": ONE, "Host-A.:9090": "host-a:9090"}[typed]
    answers = {
        "/api/v1/fleets": (200, status()["fleets"]),
        DRAIN.replace(ONE.replace(":", "%3A"), asked.replace(":", "%3A")): (200, BEGUN | {"forecast": None}),
        "/api/v1/status": (200, lambda: at(0)),
    }
    with FakeController(answers) as fake:
        result = CliRunner().invoke(main, ["drain", typed, "--url", fake.url, "--token-file", token])
    assert (result.exit_code, result.stdout) == (0, f"node: {ONE} drained: it holds nothing\n")


def test_a_drain_that_is_not_waited_for_is_not_called_drained(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": None}, "--no-wait")
    assert (result.exit_code, result.stdout) == (0, f"node: {ONE}: the drain has begun, 15 targets left\n")


def test_a_drain_that_takes_too_long_exits_1_with_what_is_left(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": None}, "--timeout", "0", left=[11])
    assert result.exit_code == 1
    assert result.stderr == f"node: {ONE} not drained: 11 of 15 targets left; they are still being handed over\n"


def test_a_refused_drain_is_said_in_the_controllers_words(token: str) -> None:
    result = drained(token, error("conflict", "it is the last scraper that lives"), code=409)
    assert result.exit_code == 1
    assert "it is the last scraper that lives" in result.stderr
    assert "drained" not in result.stdout


def test_a_forced_last_scraper_keeps_everything_and_that_is_said(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": None, "keeps_all": True}, "--force")
    assert (result.exit_code, "it keeps everything until one can" in result.stderr) == (3, True)


def test_a_scraper_that_is_not_alive_is_said_to_be_so(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": None, "alive": False, "left": 0})
    assert (result.exit_code, "does not count as alive" in result.stdout) == (0, True)


def test_as_json_there_is_one_document_at_the_end(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": FORECAST}, "--output", "json", left=[15, 3])
    (one,) = json.loads(result.stdout)
    assert {key: one[key] for key in ("fleet", "scraper", "result", "left", "no_room")} == {
        "fleet": "node",
        "scraper": ONE,
        "result": "drained",
        "left": 0,
        "no_room": 0,
    }
    assert one["forecast"] == FORECAST
    assert result.stderr == ""


@pytest.mark.parametrize("text", ["x", "-1s", "10", ""])
def test_a_time_that_is_none_is_refused_before_anything_is_drained(token: str, text: str) -> None:
    result = CliRunner().invoke(main, ["drain", ONE, "--token-file", token, "--timeout", text])
    assert (result.exit_code, "is not a duration" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"was_drained": False, "drained": True, "alive": True, "forecast": None},
            f"node: {ONE} was not drained by promring: nothing changes; it goes on to be drained: it is in maintenance in "
            "Consul, or its pod is being deleted",
        ),
        (
            {"was_drained": True, "alive": True, "forecast": {"come": 12}},
            f"node: {ONE} undrained: 12 targets come back, make before break",
        ),
        ({"was_drained": True, "alive": True, "forecast": None}, f"node: {ONE} undrained: its share comes back"),
        (
            {"was_drained": False, "alive": True, "forecast": {"come": 0}},
            f"node: {ONE} was not drained: nothing changes",
        ),
        (
            {"was_drained": True, "alive": False, "forecast": None},
            f"node: {ONE} undrained: it does not count as alive; it gets its share when it comes back",
        ),
    ],
)
def test_an_undrain_says_what_comes_back(token: str, answer: dict[str, Any], said: str) -> None:
    answers = {
        "/api/v1/fleets": (200, status()["fleets"]),
        DRAIN.replace("/drain", "/undrain"): (200, {"kept": True} | answer),
    }
    with FakeController(answers) as fake:
        result = CliRunner().invoke(main, ["undrain", ONE, "--url", fake.url, "--token-file", token])
    assert (result.exit_code, result.stdout) == (0, said + "\n")


def test_a_drain_that_a_restart_would_forget_is_said(token: str) -> None:
    result = drained(token, BEGUN | {"forecast": None, "kept": False})
    assert "a restart, or another leader, would forget the drain" in result.stdout
