"""What commands say, and the exit codes that scripts rely on, where it would lead somebody wrong."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest

from promring.cli.client import Controller
from promring.cli.output import clock
from promring.demo.process import free_port
from promring.web.page import words
from tests.fakes.controller import error, one_service, status
from tests.unit.test_fleet_commands import DRAINED, ONE, invoked, of_main, shared

PLACE: dict[str, Any] = {"service": "node", "target": "t:1", "load": 1, "preference": ["a:1"], "reason": "ring"}
OWNED = PLACE | {"scraper": "a:1", "scrapers": ["a:1"]}
OWNERLESS = PLACE | {"scraper": None, "scrapers": [], "reason": "no_room"}
KEPT = OWNERLESS | {"besides": [{"scraper": "b:1", "why": "hand_over"}]}


@pytest.mark.parametrize(
    ("targets", "code"),
    [([OWNED], 0), ([OWNED, OWNERLESS], 0), ([KEPT], 0), ([OWNERLESS], 1), ([OWNERLESS, OWNERLESS], 1)],
)
def test_a_target_that_is_listed_and_that_nobody_has_is_exit_1_as_the_help_says(targets: list[Any], code: int) -> None:
    answer = {"targets": targets, "near": [], "total": len(targets), "truncated": False, "unready": []}
    result, _ = invoked({"/api/v1/where": (200, answer)}, "where", "t:1")
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({}, "no service has the target t:1"),
        ({"unready": [{"service": "db", "reason": "db: no source answers"}]}, "no service with a plan has the target t:1"),
        ({"truncated": True}, "t:1 was not found, and not everything was looked at: the search ended after 2 s"),
    ],
)
def test_nobody_is_told_that_no_service_has_a_target_when_not_all_of_them_were_searched(
    part: dict[str, Any], said: str
) -> None:
    answer = {"targets": [], "near": [], "total": 0, "truncated": False, "unready": []} | part
    result, _ = invoked({"/api/v1/where": (200, answer)}, "where", "t:1")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, said)


MAYBE = "it may have been done: see promring status before you ask again"
FLEETS = shared(of_main("db"))["fleets"][:1]
MAIN = f"/api/v1/fleets/main/scrapers/{ONE.replace(':', '%3A')}"


@contextmanager
def silent(*, hangs: bool) -> Iterator[str]:
    """Who takes each request and never answers it, or goes away instead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_ones = []

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                one.recv(4096)
                if hangs:
                    open_ones.append(one)
                else:
                    one.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for one in open_ones:
            one.close()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("hangs", "why"), [(True, "no whole answer within 0.3 s"), (False, "Remote end closed")])
def test_a_write_that_was_sent_and_not_answered_is_said_to_be_maybe_done(hangs: bool, why: str) -> None:
    with silent(hangs=hangs) as url:
        with pytest.raises(click.ClickException) as write:
            Controller(url, "", False).post("/-/reload", dict, timeout_s=0.3)
        with pytest.raises(click.ClickException) as read:
            Controller(url, "", False).get("/api/v1/status", dict, timeout_s=0.3)
    assert why in write.value.message, "the time that was waited, and not another one"
    assert write.value.message.endswith(MAYBE)
    assert "may have been done" not in read.value.message
    with pytest.raises(click.ClickException) as never:
        Controller(f"http://127.0.0.1:{free_port()}", "", False).post("/-/reload", dict)
    assert "may have been done" not in never.value.message, "nobody was there to do it"


@pytest.mark.parametrize(
    ("code", "body", "result", "said"),
    [(504, b"upstream timed out", "unanswered", MAYBE), (409, error("conflict", "it follows"), "refused", "it follows")],
)
def test_a_drain_whose_answer_a_proxy_cut_off_is_not_called_refused(code: int, body: bytes, result: str, said: str) -> None:
    answers: dict[str, tuple[int, Any]] = {"/api/v1/fleets": (200, FLEETS), f"{MAIN}/drain": (code, body)}
    text, _ = invoked(answers, "drain", ONE)
    assert (text.exit_code, said in text.stderr, MAYBE in text.stderr) == (1, True, said == MAYBE)
    plain, _ = invoked(answers, "drain", ONE, "--output", "json")
    assert (plain.exit_code, json.loads(plain.stdout)[0]["result"]) == (1, result)


@pytest.mark.parametrize(("zone", "hour"), [("UTC0", "02:13:05"), ("CET-1", "03:13:05 CET")])
def test_a_time_of_another_day_is_said_with_its_day_and_one_of_another_zone_with_that(
    zone: str, hour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        now = 1_700_014_385.0  # 2023-11-15 02:13:05 UTC
        real = time.localtime
        monkeypatch.setattr("promring.cli.output.time.localtime", lambda at=now: real(at))
        assert clock(now) == hour
        assert clock(now - 3 * 86400) == f"2023-11-12 {hour}"
        assert clock(None) == ""
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_page_says_the_day_of_what_did_not_happen_today() -> None:
    now = 1_700_014_385.0
    assert words.hour(now, now) == "02:13:05"
    assert words.hour(now - 86400, now) == "2023-11-14 02:13:05"
    assert words.clock("2023-11-15T02:13:05.123Z", now) == "02:13:05"
    assert words.clock("2023-11-12T02:13:05.123Z", now) == "2023-11-12 02:13:05"


@pytest.mark.parametrize(
    ("part", "note"),
    [
        ({"state": "down", "standing": "out", "since": 1_700_014_385.0}, "out since 2023-11-15 02:13:05; refused"),
        ({"state": "down", "standing": "out", "since": None}, "refused"),
        ({"state": "down", "standing": "in", "since": 1_700_014_385.0}, "refused"),
    ],
)
def test_since_when_a_scraper_is_out_is_in_the_status_as_the_runbook_says(
    part: dict[str, Any], note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC0")
    answer = shared(of_main("db"))
    answer["fleets"][0]["scrapers"][0] |= part | {"trouble": "refused"}
    lines = invoked({"/api/v1/status": (200, answer)}, "status")[0].stdout.splitlines()
    (line,) = (one for one in lines if ONE in one and "down" in one)
    assert line.endswith(f"  {note}")


@pytest.mark.parametrize(("left", "result", "code"), [(4, "timeout", 1), (0, "drained", 0)])
def test_as_json_drained_is_true_only_of_a_scraper_that_holds_nothing(left: int, result: str, code: int) -> None:
    answer = shared(of_main("db"))
    answer["fleets"][0]["scrapers"][0] |= {"targets": left, "left": left, "drained": True}
    answers = {
        "/api/v1/fleets": (200, FLEETS),
        f"{MAIN}/drain": (200, DRAINED | {"drained": True}),
        "/api/v1/status": (200, answer),
    }
    found, _ = invoked(answers, "drain", ONE, "--timeout", "500ms", "--output", "json")
    (one,) = json.loads(found.stdout)
    assert (one["drained"], one["result"], found.exit_code) == (result == "drained", result, code)


@pytest.mark.parametrize(("targets", "said"), [(7, True), (0, False)])
def test_who_drains_a_scraper_in_one_fleet_is_told_what_another_one_has_on_it(targets: int, said: bool) -> None:
    answer = shared(of_main("db"))
    answer["fleets"][1]["scrapers"][0] |= {"targets": targets}
    answers = {"/api/v1/fleets": (200, answer["fleets"]), f"{MAIN}/drain": (200, DRAINED)}
    result, _ = invoked(answers, "drain", ONE, "--fleet", "main", "--no-wait")
    line = f"node: {ONE} has 7 targets of this fleet, too: it is not drained there (--fleet node)"
    assert (result.exit_code, line in result.stdout.splitlines()) == (0, said)


@pytest.mark.parametrize("kept", [True, False])
def test_an_undrain_that_a_restart_would_forget_is_said(kept: bool) -> None:
    undrained = {"fleet": "main", "scraper": ONE, "was_drained": True, "kept": kept, "alive": True, "forecast": None}
    result, _ = invoked({"/api/v1/fleets": (200, FLEETS), f"{MAIN}/undrain": (200, undrained)}, "undrain", ONE)
    assert (result.exit_code, "after a restart, or with another leader, it is drained" in result.stdout) == (0, not kept)


@pytest.mark.parametrize(
    ("part", "cells"),
    [
        ({"targets": 2, "load": 2, "limit": 3}, ["2", "1.2"]),
        ({"targets": 2, "load": 90, "limit": 99}, ["2", "90 of 99", "1.2"]),
        ({"targets": 2, "load": 2, "limit": 3, "capacity": 5}, ["2", "2 of 3", "1.2"]),
    ],
)
def test_the_load_of_a_scraper_is_in_the_status_of_a_service_with_its_own_fleet_where_it_says_more(
    part: dict[str, Any], cells: list[str]
) -> None:
    scraper = one_service()["scrapers"][0] | part
    answer = status(scrapers=[scraper])
    lines = invoked({"/api/v1/status": (200, answer)}, "status")[0].stdout.splitlines()
    (line,) = (one for one in lines if ONE in one)
    assert re.split(r"\s{2,}", line.strip())[2:] == cells
