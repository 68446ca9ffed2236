"""Sources: the Python function in its own process, the http source's credentials, the polling loop."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from promring.core.pool import pool_of
from promring.discovery.file import FileSource
from promring.discovery.http import HttpSource, HttpTargets
from promring.discovery.list_rules import ListRules
from promring.discovery.polling import poll
from promring.discovery.python import PythonSource
from promring.model import Answer, DiscoveryError, Empty, Known, TargetGroup, TargetPool, Unknown
from promring.telemetry import log
from tests.fakes.source import BROKEN, EMPTY, TargetSource
from tests.hostile.drive import running
from tests.sources import http_source, python_source
from tests.waiting import slower, until

FUNCTIONS = """
import subprocess, sys, time, os
def good(): return [{"targets": ["a:1"], "labels": {"x": "y"}}]
def prints(): print("hello"); sys.stdout.flush(); return good()
def none(): return None
def raises(): raise RuntimeError("the CMDB is down")
def rubbish(): return object()
def wrong(): return [{"targets": "a:1"}]
def exits(): os._exit(3)
def loud(): sys.stderr.write("x" * 1000000); raise RuntimeError("after much noise")
def leaves_a_daemon(): subprocess.Popen(["sleep", "4244"], start_new_session=True); return good()
def hangs(): subprocess.Popen(["sleep", "4243"]); time.sleep(4243)
"""
GROUPS = pool_of((TargetGroup.of(["a:1"], {"x": "y"}),))


def source(tmp_path: Path, name: str, timeout_s: float = 5.0) -> PythonSource:
    (tmp_path / "cmdb.py").write_text(FUNCTIONS)
    return python_source(f"cmdb:{name}", 60.0, timeout_s, str(tmp_path))


@pytest.mark.parametrize("name", ["good", "prints", "leaves_a_daemon"])
async def test_a_function_gives_targets(tmp_path: Path, name: str) -> None:
    started = time.monotonic()
    assert await source(tmp_path, name).fetch() == GROUPS
    assert time.monotonic() - started < 4 * slower()
    for left in psutil.process_iter(["cmdline"]):
        if "4244" in (left.info["cmdline"] or []):
            left.kill()  # it left our session on purpose


async def test_a_function_that_returns_none_has_no_targets(tmp_path: Path) -> None:
    assert await source(tmp_path, "none").fetch() == pool_of(())


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("raises", "the CMDB is down"),
        ("rubbish", "object"),
        ("wrong", r"\[0\]\.targets"),
        ("exits", "cmdb:exits"),
        ("loud", "cmdb:loud"),
        ("missing", "missing"),
    ],
)
async def test_a_function_that_fails_is_an_error_with_its_name(tmp_path: Path, name: str, named: str) -> None:
    with pytest.raises(DiscoveryError, match=named) as caught:
        await source(tmp_path, name).fetch()
    assert str(caught.value).startswith(f"cmdb:{name}")


async def test_a_function_that_hangs_is_killed_with_its_children_and_the_loop_goes_on(tmp_path: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    with pytest.raises(DiscoveryError, match="no result within 1 s"):
        await source(tmp_path, "hangs", timeout_s=1.0).fetch()  # for ever, otherwise
    ticking.cancel()
    assert ticks > 3
    await until(lambda: not any("4243" in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])), "all ended")


async def test_credentials_and_headers_are_sent_and_read_anew(tmp_path: Path) -> None:
    headers, token = tmp_path / "headers", tmp_path / "token"
    headers.write_text("X-Tenant: shop\n")
    token.write_text("one\n")
    async with TargetSource([{"targets": ["a:1"]}]) as fake:
        asked = http_source(fake.url, 60.0, 5.0, headers, token)
        await asked.fetch()
        token.write_text("two\n")
        await asked.fetch()
        sent = [(r.headers["X-Tenant"], r.headers["Authorization"]) for r in fake.requests]
        assert sent == [("shop", "Bearer one"), ("shop", "Bearer two")]
        fake.mode = "status 500"
        with pytest.raises(DiscoveryError) as caught:
            await asked.fetch()
        assert "two" not in str(caught.value)


@pytest.mark.parametrize("mode", BROKEN)
async def test_an_http_source_that_misbehaves_is_an_error_within_its_time_out(mode: str) -> None:
    async with TargetSource([{"targets": ["a:1"]}]) as fake:
        fake.mode = mode
        started = time.monotonic()
        with pytest.raises(DiscoveryError, match=fake.url):
            await http_source(fake.url, 60.0, 0.5).fetch()
        assert time.monotonic() - started < 2 * slower()


async def test_a_body_over_the_cap_is_refused_while_it_comes() -> None:
    async with TargetSource([{"targets": [f"a:{n}" for n in range(1, 9000)]}]) as fake:
        with pytest.raises(DiscoveryError, match="larger than 10000 bytes"):
            await http_source(fake.url, 60.0, 5.0, body_bytes_max=10_000).fetch()


@pytest.mark.row("D4", did="a source that fails, is empty, and has targets")
async def test_polling_publishes_unknown_empty_and_known_and_counts_failures() -> None:
    answers: list[Answer[TargetPool]] = []
    counted: list[bool] = []
    async with TargetSource([{"targets": ["a:1"]}]) as fake:
        asked = http_source(fake.url, 0.05, 1.0)
        task = asyncio.create_task(poll("s", asked, lambda a, *_: answers.append(a), counted.append, log.get()))
        await until(lambda: Known(pool_of((TargetGroup.of(["a:1"]),))) in answers, "known")
        fake.mode = "status 500"
        await until(lambda: isinstance(answers[-1], Unknown), "unknown")
        for mode in EMPTY:
            fake.mode = mode
            await until(lambda: isinstance(answers[-1], Empty), "empty")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert counted.count(False) == sum(isinstance(a, Unknown) for a in answers) > 0


async def test_a_list_of_which_every_entry_is_refused_fails_and_is_not_believed_to_be_empty(said: io.StringIO) -> None:
    """Somebody lists targets, and means them: what was known stays, and is not given up after a while."""
    answers: list[tuple[Answer[TargetPool], str]] = []
    async with TargetSource([{"targets": ["a:1"]}]) as fake:
        source = HttpSource(
            HttpTargets.model_validate({"url": fake.url, "refresh_interval": "50ms"}), ListRules(legacy_names=True)
        )
        async with running(poll("s", source, lambda a, why, *_: answers.append((a, why)), lambda _: None, log.get())):
            await until(lambda: bool(answers) and isinstance(answers[-1][0], Known), "known")
            fake.groups = [{"targets": ["a:1", "b:1"], "labels": {"host-name": "x"}}]
            await until(lambda: isinstance(answers[-1][0], Empty), "nothing, and why")
            (reason,) = {why for answer, why in answers if isinstance(answer, Empty)}
            assert reason.startswith("every entry is refused, 2 in all: "), reason
            assert "host-name" in reason
            fake.groups = [{"targets": ["a:1"]}]
            await until(lambda: isinstance(answers[-1][0], Known), "known again")
    told = [line.partition("msg=")[2].split()[0] for line in said.getvalue().splitlines()]
    assert told == ["discovery_failed", "discovery_recovered"]


async def test_a_changed_file_is_seen_at_once_also_under_a_wildcard_folder(tmp_path: Path) -> None:
    answers: list[Answer[TargetPool]] = []
    pattern = FileSource([str(tmp_path / "in" / "*" / "t.json")], 3600.0)
    (tmp_path / "in" / "team").mkdir(parents=True)
    (tmp_path / "in" / "team" / "t.json").write_text('[{"targets": ["a:1"]}]')
    task = asyncio.create_task(poll("s", pattern, lambda a, *_: answers.append(a), lambda _: None, log.get()))
    try:
        await until(lambda: answers[-1:] == [Known(pool_of((TargetGroup.of(["a:1"]),)))], "the first list")
        await asyncio.sleep(0.3)
        (tmp_path / "in" / "team" / "t.json").write_text('[{"targets": ["a:2"]}]')
        await until(lambda: answers[-1] == Known(pool_of((TargetGroup.of(["a:2"]),))), "the changed list", 3)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_yaml_and_json_files_make_one_list(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('[{"targets": ["b:1"]}]')
    (tmp_path / "a.yml").write_text("- targets: [a:1]\n")
    (tmp_path / "c.json").write_text("[]")
    patterns = [str(tmp_path / "*.json"), str(tmp_path / "*.yml")]
    assert await FileSource(patterns, 60.0).fetch() == pool_of((TargetGroup.of(["b:1"]), TargetGroup.of(["a:1"])))


async def test_a_bad_or_vanished_file_keeps_its_own_last_list_and_the_others_go_on(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    a.write_text('[{"targets": ["a:1"]}]')
    b.write_text("[{")
    asked = FileSource([str(tmp_path / "*.json")], 60.0)
    with pytest.raises(DiscoveryError, match=r"b\.json:1: ") as caught:
        await asked.fetch()
    assert caught.value.pool is None, "a first answer has every file or is none"
    b.write_text('[{"targets": ["b:1"]}]')
    assert await asked.fetch() == pool_of((TargetGroup.of(["a:1"]), TargetGroup.of(["b:1"])))
    a.unlink()
    b.write_text("nonsense")
    c.write_text('[{"targets": ["c:1"]}]')
    with pytest.raises(DiscoveryError, match=r"b\.json.*a\.json: vanished; reload") as caught:
        await asked.fetch()
    assert caught.value.pool == pool_of([TargetGroup.of(["a:1", "b:1", "c:1"])])


async def test_a_file_that_is_gone_and_never_was_a_list_is_forgotten(tmp_path: Path) -> None:
    """As one that is written beside, under a name that matches, and renamed."""
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text('[{"targets": ["a:1"]}]')
    asked = FileSource([str(tmp_path / "*.json")], 60.0)
    assert await asked.fetch() == pool_of([TargetGroup.of(["a:1"])])
    b.write_text('[{"targets": ["b:1"')
    with pytest.raises(DiscoveryError, match=r"b\.json:1: "):
        await asked.fetch()
    again = FileSource([str(tmp_path / "*.json")], 60.0)
    again.remember(pool_of([TargetGroup.of(["a:1", "b:1"])]))
    with pytest.raises(DiscoveryError, match=r"b\.json:1: "):
        await again.fetch()
    b.unlink()
    assert await asked.fetch() == pool_of([TargetGroup.of(["a:1"])])
    with pytest.raises(DiscoveryError, match=r"b\.json: no such file") as caught:
        await again.fetch()
    assert caught.value.pool == pool_of([TargetGroup.of(["a:1", "b:1"])]), "the run before had a list of it"
    a.unlink()
    with pytest.raises(DiscoveryError, match=r"a\.json: vanished; reload"):
        await asked.fetch()


@pytest.mark.parametrize("text", [b"", b" \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b"\xff\xfe", b"\xfe\xff"])
async def test_a_file_that_is_not_written_yet_is_no_list(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes(text)
    with pytest.raises(DiscoveryError, match=r"a\.yml: the file is empty"):
        await FileSource([str(path)], 60.0).fetch()


async def test_a_file_that_is_bad_at_the_first_start_holds_up_the_others_for_a_while_only(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"targets": ["a:1"]}]')
    (tmp_path / "b.json").write_text("[{")
    patterns = [str(tmp_path / "*.json"), str(tmp_path / "none.yml")]
    patient, hasty = FileSource(patterns, 60.0), FileSource(patterns, 60.0, patience_s=0.0)
    with pytest.raises(DiscoveryError, match=r"b\.json:1: .*none\.yml: no such file") as caught:
        await patient.fetch()
    assert caught.value.pool is None
    with pytest.raises(DiscoveryError, match=r"b\.json:1: .*none\.yml: no such file") as caught:
        await hasty.fetch()
    assert caught.value.pool == pool_of([TargetGroup.of(["a:1"])])
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DiscoveryError) as caught:
        await hasty.fetch()
    assert caught.value.pool is None, "nothing at all is no answer"


async def test_what_is_remembered_of_a_file_that_cannot_be_read_after_a_start_stays(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"targets": ["a:1", "new:1"], "labels": {"x": "1"}}]')
    (tmp_path / "b.json").write_text("[{")
    source = FileSource([str(tmp_path / "*.json")], 60.0)
    source.remember(pool_of([TargetGroup.of(["a:1", "b:1", "gone:1"])]))
    with pytest.raises(DiscoveryError) as caught:
        await source.fetch()
    kept = [TargetGroup.of(["a:1", "new:1"], {"x": "1"}), TargetGroup.of(["b:1", "gone:1"])]
    assert caught.value.pool == pool_of(kept), "additions go on, nothing of the bad file goes"
    assert caught.value.remembered, "other controllers may know more"
    (tmp_path / "b.json").write_text('[{"targets": ["b:1"]}]')
    whole = [TargetGroup.of(["a:1", "new:1"], {"x": "1"}), TargetGroup.of(["b:1"])]
    assert await source.fetch() == pool_of(whole), "once every file was read the memory is not needed any more"


@pytest.mark.parametrize("kind", ["fifo", "folder", "not utf-8"])
async def test_what_is_no_list_is_an_error_and_does_not_hang(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe[")
    with pytest.raises(DiscoveryError, match=r"x\.json"):
        await asyncio.wait_for(FileSource([str(path)], 60.0).fetch(), 60)


async def test_a_token_file_that_is_not_text_is_an_error_of_the_source(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"\xff\xfet\x00")
    with pytest.raises(DiscoveryError, match="is not text"):
        await http_source("http://127.0.0.1:1/", 60.0, 1.0, None, token).fetch()


class Forgetful:
    """Makes its list anew each time, as a source may."""

    interval_s = 0.01

    def __init__(self) -> None:
        self.addresses, self.asked = ["a:1", "b:1"], 0

    async def fetch(self) -> TargetPool:
        self.asked += 1
        return pool_of((TargetGroup.of(self.addresses),))


async def test_a_list_that_says_the_same_is_the_same_object_whatever_the_source_gives() -> None:
    answers: list[Answer[TargetPool]] = []
    source = Forgetful()
    async with running(poll("s", source, lambda a, *_: answers.append(a), lambda _: None, log.get())):
        await until(lambda: source.asked > 4, "asked again and again")
        source.addresses.reverse()
        await until(lambda: source.asked > 8, "in another order")
        lists = {id(answer.value) for answer in answers if isinstance(answer, Known)}
        assert len(lists) == 1
        source.addresses.append("c:1")
        await until(lambda: isinstance(answers[-1], Known) and len(answers[-1].value) == 3, "another list")


async def test_an_empty_list_is_said_once_while_it_lasts(said: io.StringIO) -> None:
    source = Forgetful()
    full, source.addresses = source.addresses, []
    async with running(poll("s", source, lambda *_: None, lambda _: None, log.get())):
        await until(lambda: source.asked > 4, "asked again and again")
        source.addresses = full
        await until(lambda: "discovery_not_empty" in said.getvalue(), "it has targets")
        source.addresses = []
        await until(lambda: said.getvalue().count("msg=discovery_empty") == 2, "empty again")
    told = [line.partition("msg=")[2].split()[0] for line in said.getvalue().splitlines()]
    assert told == ["discovery_empty", "discovery_not_empty", "discovery_empty"]


class Broken:
    interval_s = 0.02

    async def fetch(self) -> TargetPool:
        raise ZeroDivisionError("a bug")

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[object]:
        if not stop.is_set():
            raise OSError("too many open files")
        yield None


async def test_a_source_with_a_bug_is_unknown_and_takes_nobody_with_it(said: io.StringIO) -> None:
    """It is not said that nothing is kept: after a start, or a reload, the plan may have its list of before."""
    answers: list[Answer[TargetPool]] = []
    task = asyncio.create_task(poll("s", Broken(), lambda a, *_: answers.append(a), lambda _: None, log.get()))
    await until(lambda: len(answers) > 3, "asked again and again")
    assert answers[0] == Unknown("ZeroDivisionError: a bug")
    (line,) = [line for line in said.getvalue().splitlines() if "msg=discovery_failed" in line]
    assert "what the plan has of it" in line
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_read_that_fails_after_its_poller_is_gone_is_nobodys_complaint(tmp_path: Path) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for _ in range(20):
        fetching = asyncio.create_task(FileSource([str(tmp_path / "none.json")], 60.0).fetch())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
    await asyncio.sleep(0.2)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
