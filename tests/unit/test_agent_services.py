"""An agent and the slices of several services: one connection, a file each, and trouble that stays where it is."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from promring.agent import fence
from promring.agent import poller as poller_module
from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.agent.slicefile import keys_in
from promring.agent.turns import COMPARE_MOST_S, COMPARE_S, Turns
from promring.delivery.askers import why_in
from promring.delivery.bundle import MARK, SERVICES_MOST, UNTAKEN, BundleError, mark, marks_in, opened, unpacked
from promring.delivery.receiver import note_of
from promring.telemetry import log
from tests.fakes.slices import FakeSlices, bundle, sealed, serving
from tests.waiting import until

A, B, C, D = (b'[{"targets":["%s:1"]}]\n' % name for name in (b"a", b"b", b"c", b"d"))
SERVICES = ("x", "y", "z")


@asynccontextmanager
async def controllers(count: int = 1) -> AsyncIterator[list[FakeSlices]]:
    """Each has a slice of three services."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(FakeSlices().running()) for _ in range(count)]
        for one in made:
            for service in SERVICES:
                one.offer(A, "7.1", service=service)
        yield made


@asynccontextmanager
async def polling(folder: Path, *asked: FakeSlices, **more: object) -> AsyncIterator[tuple[Poller, AgentMetrics]]:
    metrics = AgentMetrics()
    settings = AgentSettings([one.url for one in asked], "s:1", folder, **{"wait_s": 5.0, **more})  # type: ignore[arg-type]
    poller = Poller(settings, metrics, log.get())
    task = asyncio.create_task(poller.run())
    try:
        yield poller, metrics
        assert not task.done(), "it goes on whatever happens"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def content(folder: Path) -> dict[str, bytes]:
    """Of the files, by service."""
    return {path.stem: path.read_bytes() for path in folder.glob("[a-z]*.json")}


def value(metrics: AgentMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"promring_agent_{name}", labels)


async def has(folder: Path, **expected: bytes) -> None:
    await until(lambda: content(folder) == expected, f"files {sorted(expected)} as they shall be", 15)


# --- one answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "gzip"])
async def test_a_file_a_service_and_only_what_changed_is_sent(tmp_path: Path, packed: bool) -> None:
    async with controllers() as (one,):
        one.packed = packed
        async with polling(tmp_path, one) as (poller, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: one.have == {one.mark(service) for service in SERVICES}, "it says what it has")
            stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
            one.offer(B, "7.2", service="y")
            await has(tmp_path, x=A, y=B, z=A)
            await until(lambda: one.mark("y") in one.have, "it has the new one")
            assert [sent for sent in one.sent if sent] == [list(SERVICES), ["y"]]
            assert {n for n, at in stamps.items() if (tmp_path / n).stat().st_mtime_ns != at} == {"y.json"}
            assert value(metrics, "slice_generation", service="y") == 2
            assert value(metrics, "slices_total", service="x", outcome="written") == 1
            assert value(metrics, "slices_total", service="y", outcome="written") == 2
            assert poller.unready() == ""
            assert len(one.asked) <= 4, "one request at a time, and no more of them than changes"


async def test_a_file_that_somebody_changed_is_put_back_and_said(tmp_path: Path) -> None:
    said = io.StringIO()
    log.configure("info", "logfmt", stream=said)

    def times() -> int:
        lines = [line for line in said.getvalue().splitlines() if "msg=slice_changed_by_others" in line]
        assert all(f"srv_name=y file={tmp_path}/y.json" in line for line in lines), lines
        return len(lines)

    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.5) as (poller, _):
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: poller.files["y"].has != "", "it has it", 15)
            (tmp_path / "y.json").unlink()
            await until(lambda: times() == 1, "it is said that it was removed", 15)
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: poller.files["y"].has != "", "it has it again", 15)
            (tmp_path / "y.json").write_bytes(C)
            await until(lambda: times() == 2, "it is said that it was changed", 15)
            await has(tmp_path, x=A, y=A, z=A)


async def test_a_file_that_is_removed_comes_back_before_the_long_poll_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "LOOK_S", 0.1)
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=3600.0) as (poller, _):
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: one.have == {one.mark(service) for service in SERVICES}, "it waits for the next", 15)
            (tmp_path / "y.json").unlink()
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: one.have == {one.mark(service) for service in SERVICES}, "it waits again", 15)
            assert poller.unready() == ""


async def test_a_service_that_is_new_gets_a_file_and_one_that_goes_keeps_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.5) as (poller, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            one.offer(B, "7.2", service="new")
            await has(tmp_path, x=A, y=A, z=A, new=B)
            one.take_back("y")
            await until(lambda: value(metrics, "slice_offered", service="y") == 0, "it is said to be gone", 15)
            assert "y: not offered any more" in poller.remarks()
            one.offer(C, "7.3", service="x")
            await has(tmp_path, x=C, y=A, z=A, new=B)
            assert poller.unready() == ""
            assert value(metrics, "slice_offered", service="x") == 1
            one.offer(D, "7.4", service="y")
            await has(tmp_path, x=C, y=D, z=A, new=B)
            await until(lambda: value(metrics, "slice_offered", service="y") == 1, "it is back")
            one.take_back("y")
            await until(lambda: value(metrics, "slice_offered", service="y") == 0, "gone again", 15)
            (tmp_path / "y.json").unlink()
            await until(
                lambda: value(metrics, "slice_offered", service="y") is None, "what a person removes is forgotten", 15
            )
            assert poller.remarks() == ""
    said = [line for line in capsys.readouterr().err.splitlines() if "msg=slice_of_no_service" in line]
    assert len(said) == 1
    assert "srv_name=y" in said[0]


async def test_a_service_without_a_plan_is_no_service_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.5) as (_, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            one.without = ["y", "never seen"]
            one.take_back("y")
            await until(lambda: value(metrics, "slice_offered", service="y") == 0, "nothing for it", 15)
            await has(tmp_path, x=A, y=A, z=A)
    said = capsys.readouterr().err
    assert "msg=slice_not_offered" in said
    assert "msg=slice_of_no_service" not in said


async def test_files_from_before_are_kept_named_and_put_right_again(tmp_path: Path) -> None:
    async with controllers() as (one,):
        async with polling(tmp_path, one):
            await has(tmp_path, x=A, y=A, z=A)
        (tmp_path / "y.json").write_bytes(b"by hand")
        one.down = True
        one.sent.clear()
        one.have.clear()
        async with polling(tmp_path, one, wait_s=0.5) as (poller, metrics):
            await until(lambda: bool(one.have), "asked", 15)
            assert one.have == {mark("x", sealed(A, "1.1").sha256), mark("z", sealed(A, "1.1").sha256)}
            assert poller.unready() == ""
            assert value(metrics, "slice_epoch", service="z") == 7
            one.down = False
            await has(tmp_path, x=A, y=A, z=A)
            assert one.sent[0] == ["y"]
            (tmp_path / "z.json").write_bytes(b"by hand")
            await has(tmp_path, x=A, y=A, z=A)


# --- trouble stays where it is ---------------------------------------------------------------------------------------


async def test_a_file_that_cannot_be_written_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    os.mkfifo(tmp_path / "y.json")
    async with controllers() as (one,):
        async with polling(tmp_path, one) as (poller, metrics):
            for n, body in enumerate((A, B, C, D)):
                one.offer(body, f"7.{n + 2}", service="x")
                await until(lambda b=body: _is(tmp_path / "x.json", b), "written at once", 2)  # type: ignore[misc]
            assert _is(tmp_path / "z.json", A)
            assert "y: no slice yet: " in poller.unready()
            assert (value(metrics, "slices_total", service="y", outcome="failed") or 0) >= 1
            (tmp_path / "y.json").unlink()
            await has(tmp_path, x=D, y=A, z=A)
            await until(lambda: poller.unready() == "", "ready")
    said = [line for line in capsys.readouterr().err.splitlines() if "msg=slice_not_taken" in line]
    assert len(said) == 1, "trouble that lasts is said once"
    assert "srv_name=y" in said[0]


async def test_an_agent_that_can_write_nothing_asks_seldom(tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    folder.write_text("a file where the folder should be")
    async with controllers() as (one,):
        async with polling(folder, one) as (poller, metrics):
            failed = {"service": "z", "outcome": "failed"}
            await until(lambda: (value(metrics, "slices_total", **failed) or 0) > 4, "tried again", 60)
            before = len(one.asked)
            await asyncio.sleep(4)
            assert len(one.asked) - before <= 4, "a poll waits until it is tried again"
            assert poller.unready().startswith("no slice yet: x: ")
            folder.unlink()
            await has(folder, x=A, y=A, z=A)


async def test_an_agent_whose_folder_has_a_name_that_is_no_text_asks_on_and_tells_why(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"sd-\xff")
    folder.write_text("a file where the folder should be")
    async with controllers() as (one,):
        async with polling(folder, one) as (poller, _):
            await until(lambda: "sd-\\udcff" in "".join(map(why_told, one.asked)), "it tells why", 20)
            folder.unlink()
            await has(folder, x=A, y=A, z=A)
            await until(lambda: poller.unready() == "", "ready")


def why_told(question: web.Request) -> str:
    return why_in(question.headers.get(UNTAKEN, ""))


def _is(path: Path, body: bytes) -> bool:
    return path.is_file() and path.read_bytes() == body


async def test_what_is_refused_is_asked_for_less_and_less_and_the_others_go_on(tmp_path: Path) -> None:
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=5.0) as (_, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            one.offer(B, "6.9", service="y")
            await until(lambda: (value(metrics, "slices_total", service="y", outcome="refused") or 0) > 3, "refused", 30)
            before = len(one.asked)
            for n, body in enumerate((B, C, D)):
                one.offer(body, f"7.{n + 2}", service="x")
                await until(lambda b=body: _is(tmp_path / "x.json", b), "written at once", 2)  # type: ignore[misc]
            await asyncio.sleep(2)
            assert len(one.asked) - before < 12, "no storm"
            assert _is(tmp_path / "y.json", A)
            one.offer(C, "7.9", service="y")
            await has(tmp_path, x=D, y=C, z=A)


async def test_what_a_follower_offers_counts_for_each_file_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "ALONE_S", 2.0)
    async with controllers(2) as (leader, follower):
        for service in SERVICES:
            follower.offer(A, "6.3", follows=7, service=service)
        async with polling(tmp_path, leader, follower) as (poller, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            leader.offer(B, "7.2", service="y")
            await has(tmp_path, x=A, y=B, z=A)
            leader.down = True
            leader.ring()
            follower.offer(B, "6.4", follows=7, service="new")
            await has(tmp_path, x=A, y=B, z=A, new=B)
            await until(lambda: (value(metrics, "slices_total", service="y", outcome="refused") or 0) > 0, "refused")
            follower.offer(C, "6.5", follows=7, service="new")
            await has(tmp_path, x=A, y=B, z=A, new=C)
            await has(tmp_path, x=A, y=A, z=A, new=C)  # the newest that there is
            assert poller.unready() == ""
            leader.down, follower.down = False, True
            follower.ring()
            await has(tmp_path, x=A, y=B, z=A, new=C)


async def test_of_two_controllers_the_one_that_has_a_plan_of_each_service_is_asked(tmp_path: Path) -> None:
    async with controllers(2) as (poor, rich):
        async with polling(tmp_path, poor, rich) as (_, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            poor.without = ["y"]
            poor.take_back("y")
            poor.offer(B, "7.2", service="z")
            rich.offer(B, "7.2", service="z")
            await until(lambda: len(rich.asked) > 0, "the other is asked")
            rich.offer(C, "7.3", service="y")
            await has(tmp_path, x=A, y=C, z=B)
            assert value(metrics, "slice_offered", service="y") == 1


async def test_a_service_may_be_called_as_its_user_is_and_not_as_its_whole_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("node-and-more-of-it")
    async with controllers() as (one,):
        for service in ("prometheus", "node", "node-and-more-of-it"):
            one.offer(B, "7.1", service=service)
        async with polling(tmp_path / "sd", one, username="prometheus", password_file=password):
            await has(tmp_path / "sd", x=A, y=A, z=A, prometheus=B, node=B)


async def test_several_files_are_one_reload(tmp_path: Path) -> None:
    reloads = []

    async def reload(_: web.Request) -> web.Response:
        reloads.append(content(tmp_path))
        return web.Response()

    app = web.Application()
    app.router.add_post("/-/reload", reload)
    async with serving(app) as url, controllers() as (one,):
        async with polling(tmp_path, one, reload_url=f"{url}/-/reload"):
            await until(lambda: len(reloads) == 1, "reloaded")
            assert reloads[0] == {"x": A, "y": A, "z": A}
            one.offer(B, "7.2", service="y")
            await until(lambda: len(reloads) == 2, "reloaded once more")
            await asyncio.sleep(0.3)
            assert len(reloads) == 2


async def test_names_that_share_a_file_and_too_many_services_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "SERVICES_MOST", 4)
    async with controllers() as (one,):
        one.offer(B, "7.1", service="a_b")
        one.offer(C, "7.1", service="a:b")
        one.offer(D, "7.1", service="zz")
        async with polling(tmp_path, one):
            await has(tmp_path, x=A, y=A, z=A, a_b=B)
            one.offer(D, "7.2", service="x")
            await has(tmp_path, x=D, y=A, z=A, a_b=B)


# --- the form of an answer -------------------------------------------------------------------------------------------


def test_marks_of_a_thousand_services_fit_into_one_line_of_a_header() -> None:
    marks = {mark(f"service-{n}", "0" * 64) for n in range(SERVICES_MOST)}
    assert len(marks) == SERVICES_MOST
    assert {len(one) for one in marks} == {MARK}
    assert marks_in("".join(marks)) == marks
    assert len(f"X-Promring-Declined: {''.join(marks)}\r\n") <= 8190
    assert marks_in("") == frozenset()
    assert len(marks_in("?" * 10**6)) <= SERVICES_MOST


def test_an_answer_that_is_cut_longer_or_none_is_refused_whole() -> None:
    whole = bundle({"x": sealed(A, "1.1"), "y": sealed(B, "1.1")}, without=["z"])
    listing, sent = opened(whole)
    assert sent == {"x": A, "y": B}
    assert listing.without == ["z"]
    twice = bundle({"x": sealed(A, "1.1")}).replace(
        b'"slices":[{', b'"slices":[{"service":"x","generation":"1.1","sha256":""},{'
    )
    for bad in (
        b"",
        b"\n",
        b"<html>\n",
        whole[:-1],
        whole + b" ",
        whole.replace(b'"sent":', b'"sent":-', 1),
        twice,
        b"[]\n",
        b"{}\n",
    ):
        with pytest.raises(BundleError):
            opened(bad)
    for bad in (b"", b"no gzip", A):
        with pytest.raises(BundleError):
            unpacked(bad, 1000)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(BundleError, match="more than 1000 bytes"):
        unpacked(bomb, 1000)
    with pytest.raises(BundleError, match="cut"):
        unpacked(gzip.compress(A)[:-4], 1000)


def test_what_was_received_before_is_found_by_its_note(tmp_path: Path) -> None:
    for name in ("x.json", "a.b.json"):
        note_of(tmp_path / name).write_text("1.1 x")
    for name in ("other.json", ".json.promring", "..json.promring", ".x.json.promring-lock", ".y.yml.promring"):
        (tmp_path / name).write_text("")
    assert keys_in(tmp_path, 10) == ["a.b", "x"]
    assert keys_in(tmp_path, 1) == ["a.b"]


# --- whose turn it is ------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def good(turns: Turns, lacking: int = 0) -> int:
    return turns.answered(refused=False, troubled=False, lacking=lacking)


def test_who_answers_is_asked_again_and_who_fails_is_not() -> None:
    turns = Turns(2)
    assert (good(turns), turns.now, turns.at_once) == (0, 0, False)
    assert (turns.failed(), turns.now, turns.at_once) == (0, 1, True)
    assert (turns.failed(), turns.now) == (1, 0)
    assert (turns.failed(), turns.failed()) == (0, 2)
    assert (good(turns), turns.at_once) == (0, False)
    turns.cut()
    assert (turns.now, turns.at_once) == (1, False)


def test_what_one_offers_in_vain_is_asked_of_the_others_and_then_held_off() -> None:
    turns = Turns(2)
    assert (turns.answered(refused=True, troubled=True, lacking=0), turns.now, turns.at_once) == (0, 1, True)
    assert (turns.answered(refused=False, troubled=True, lacking=0), turns.now, turns.at_once) == (1, 0, False)
    assert (turns.answered(refused=False, troubled=True, lacking=0), turns.at_once) == (0, False), "it is held off"
    assert turns.answered(refused=True, troubled=True, lacking=0) == 0
    assert turns.answered(refused=True, troubled=True, lacking=0) == 2, "longer"
    assert (good(turns), turns.at_once) == (0, False)
    assert turns.answered(refused=True, troubled=True, lacking=0) == 0
    assert turns.answered(refused=True, troubled=True, lacking=0) == 1, "from the beginning"


def test_of_those_that_lack_services_the_one_that_lacks_the_fewest_is_asked_and_all_again_later() -> None:
    clock = Clock()
    turns = Turns(3, clock)
    assert (good(turns, 3), turns.now, turns.at_once) == (0, 1, True)
    assert (good(turns, 1), turns.now, turns.at_once) == (0, 2, True)
    turns.failed()
    assert (turns.now, turns.at_once) == (0, True)
    good(turns, 3)
    assert (turns.now, turns.at_once) == (1, False)
    good(turns, 1)
    assert (turns.now, turns.at_once) == (1, False), "as before"
    clock.now += COMPARE_S + 1
    good(turns, 1)
    assert (turns.now, turns.at_once) == (2, True)
    good(turns, 0)
    assert (turns.now, turns.at_once) == (2, False), "it lacks none"


def test_who_lacks_as_much_as_the_others_goes_on_and_one_alone_is_never_compared() -> None:
    turns = Turns(2, Clock())
    good(turns, 2)
    good(turns, 2)
    assert (turns.now, turns.at_once) == (1, False)
    alone = Turns(1, Clock())
    for lacking in (2, 1, 2):
        good(alone, lacking)
        assert (alone.now, alone.at_once) == (0, False)


def test_who_lacks_only_services_that_were_removed_is_compared_less_and_less_often() -> None:
    clock = Clock()
    turns, comparisons = Turns(2, clock), list[float]()
    for _ in range(20_000):
        turns.answered(refused=False, troubled=False, lacking=1, removed=1)
        if turns.at_once:
            comparisons.append(clock.now)
        else:
            clock.now += 30.0
    waits = [later - earlier for earlier, later in itertools.pairwise(comparisons)]
    assert waits[:3] == [90.0, 150.0, 270.0], "at least the wait before, and then at the next answer"
    assert all(COMPARE_MOST_S < wait <= COMPARE_MOST_S + 30 for wait in waits[6:])
    turns.answered(refused=False, troubled=False, lacking=1, removed=0)
    comparisons.clear()
    for _ in range(20):
        if turns.at_once:
            comparisons.append(clock.now)
        else:
            clock.now += 30.0
        turns.answered(refused=False, troubled=False, lacking=1)
    assert len(comparisons) >= 2, "a service without a plan may have one elsewhere soon"


async def test_a_newer_generation_of_the_same_bytes_is_noted_and_outlives_a_restart(tmp_path: Path) -> None:
    async with controllers(2) as (leader, old):
        for service in SERVICES:
            old.offer(B, "7.5", service=service)
        async with polling(tmp_path, leader):
            await has(tmp_path, x=A, y=A, z=A)
            for service in SERVICES:
                leader.offer(A, "8.1", service=service)
            leader.offer(C, "8.1", service="z")  # brings an answer
            await has(tmp_path, x=A, y=A, z=C)
            await until(lambda: noted_as(tmp_path, "x") == "8.1", "the note of what has the same bytes")
        async with polling(tmp_path, old) as (poller, metrics):
            await until(lambda: value(metrics, "slices_total", service="x", outcome="refused") == 1.0, "7.5 is older")
            assert poller.has_slice
        assert content(tmp_path) == {"x": A, "y": A, "z": C}


def noted_as(folder: Path, service: str) -> str:
    return note_of(folder / f"{service}.json").read_text().split()[0]
