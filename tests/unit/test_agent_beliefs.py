"""What an agent believes and says when what it knows comes to an end: a controller, a service, its folder, a reload."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from promring.agent import asking, at_disk, reloads
from promring.agent.metrics import AgentMetrics
from promring.agent.owner import OWNER, owned
from promring.agent.slicefile import SliceFile, set_aside
from promring.cli import agent_process
from promring.delivery.askers import newer_in
from promring.delivery.receiver import Envelope, install, note_of
from promring.model import Generation
from promring.runtime import disk, http_client
from promring.telemetry import log
from tests.fakes.slices import PATH, FakeSlices, bundle, sealed, serving
from tests.unit.test_agent_services import A, B, content, controllers, has, polling, value
from tests.waiting import until


@pytest.fixture
def said() -> io.StringIO:
    stream = io.StringIO()
    log.configure("info", "logfmt", stream=stream)
    return stream


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_a_long_answer_that_arrives_slowly_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it takes longer than an answer may take to begin; each megabyte does not."""
    monkeypatch.setattr(asking, "ANSWER_S", 2.0)
    body = b"[" + b",".join(b'{"targets":["t%d:1"],"labels":{"x":"%s"}}' % (n, b"y" * 2000) for n in range(2000)) + b"]\n"
    whole = bundle({"x": sealed(body, "7.1")})
    assert len(whole) > 3 * 2**20, "it may take eight seconds"

    async def get(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_length = len(whole)
        await answer.prepare(request)
        step = len(whole) // 10 + 1
        for at in range(0, len(whole), step):
            await answer.write(whole[at : at + step])
            await asyncio.sleep(0.3)
        return answer

    app, one = web.Application(), FakeSlices()
    app.router.add_get(PATH, get)
    async with serving(app) as one.url, polling(tmp_path, one):
        await until(lambda: content(tmp_path) == {"x": body}, "it is taken", 30)


async def test_an_agent_leaves_a_controller_that_has_not_seen_the_lock_for_long(tmp_path: Path) -> None:
    """Another one leads since, and the agent reaches both: what it has is right for the first one only."""
    async with controllers(2) as (old, new):
        async with polling(tmp_path, old, new, wait_s=0.5):
            await has(tmp_path, x=A, y=A, z=A)
            for service in ("x", "y", "z"):
                new.offer(B, "9.1", service=service)
            old.blind = True
            await until(lambda: content(tmp_path) == dict.fromkeys("xyz", B), "the slices of who leads", 20)


@pytest.mark.parametrize(
    ("words", "generation"),
    [
        ("x: has generation 9.5, refuses the older 1.1", Generation(9, 5)),
        ("x: has generation 9.5, refuses the older 1.1 (that was made under the leader of epoch 2)", Generation(9, 5)),
        ("x: has generation ..., refuses the older 1.1", None),
        ("x: has generation 99999999999999999999.5, refuses the older 1.1", None),
        ("x: /sd/x.json: No space left on device", None),
        ("", None),
    ],
)
def test_the_words_of_a_refusal_say_what_the_agent_has(words: str, generation: Generation | None) -> None:
    assert newer_in(words) == generation


# --- services --------------------------------------------------------------------------------------------------------


async def test_a_service_that_is_gone_does_not_keep_an_agent_unready(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "y.json")
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.5) as (poller, _):
            await until(lambda: "y: no slice yet" in poller.unready(), "y cannot be written", 20)
            one.take_back("y")
            await until(lambda: poller.unready() == "", "nobody offers y any more", 20)


async def test_a_service_that_had_nothing_for_us_and_is_then_removed_is_said_to_be_removed(
    tmp_path: Path, said: io.StringIO
) -> None:
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.3):
            await has(tmp_path, x=A, y=A, z=A)
            one.take_back("y")
            one.without = ["y"]
            await until(lambda: "msg=slice_not_offered" in said.getvalue(), "not in its plan", 20)
            one.without = []
            await until(lambda: "msg=slice_of_no_service" in said.getvalue(), "removed", 20)
            assert said.getvalue().count("msg=slice_not_offered") == 1


async def test_metrics_do_not_tell_the_generation_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    async with controllers() as (one,):
        async with polling(tmp_path, one, wait_s=0.5) as (_, metrics):
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: value(metrics, "slice_generation", service="x") == 1, "known", 20)
            one.down = True
            (tmp_path / "x.json").unlink()
            await until(lambda: value(metrics, "slice_generation", service="x") is None, "not known any more", 20)
            assert value(metrics, "slice_generation", service="y") == 1


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_made_anew_is_claimed_again(tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    with owned(folder, "a:1") as mine:
        assert not mine.still()
        shutil.rmtree(folder)
        assert (mine.still(), mine.before) == (True, "")
        assert (folder / OWNER).read_text() == "a:1\n"
        assert not mine.still()


async def test_the_lists_of_another_scraper_stay_only_until_ours_come(tmp_path: Path, said: io.StringIO) -> None:
    """The ids of two machines were swapped, or a folder was copied with an image: its numbers are higher than ours."""
    async with controllers() as (one,):
        for service in ("x", "y", "z"):
            one.offer(A, "7.9", service=service)
        with owned(tmp_path, "other:1") as mine:
            assert mine.before == ""
            async with polling(tmp_path, one):
                await has(tmp_path, x=A, y=A, z=A)
        for service in ("x", "y", "z"):
            one.offer(B, "7.3", service=service)
        with owned(tmp_path, "s:1") as mine:
            assert mine.before == "other:1"
            agent_process._forget_those_of(mine.before, tmp_path)
            assert "msg=folder_was_of_another_scraper" in said.getvalue()
            assert content(tmp_path) == dict.fromkeys("xyz", A), "still scraped"
            async with polling(tmp_path, one, wait_s=0.5):
                await has(tmp_path, x=B, y=B, z=B)
    assert set_aside(tmp_path, 10) == ["x", "y", "z"]
    assert set_aside(tmp_path, 10) == []


async def test_what_a_killed_agent_left_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".x.json.0a1b2c3d{disk.TEMPORARY_SUFFIX}"
    left.write_bytes(b"[")
    os.utime(left, (time.time() - 3600, time.time() - 3600))
    async with controllers() as (one,), polling(tmp_path, one):
        await has(tmp_path, x=A, y=A, z=A)
    assert not left.exists()


def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad block under a list of the same length."""
    path, real = tmp_path / "x.json", disk.open_plain
    assert install(path, sealed(A, "7.1"))

    def bad(asked: Path, *rest: object, **more: object) -> int:
        if asked == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(asked))
        return real(asked, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(disk, "open_plain", bad)
    assert install(path, sealed(B, "7.2"))
    assert path.read_bytes() == B
    assert note_of(path).read_text().startswith("7.2 ")


async def test_an_agent_whose_disk_hangs_is_not_ready_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_disk, "HANGS_S", 0.5)
    hangs, real = threading.Event(), SliceFile.install

    def install(self: SliceFile, offer: Envelope) -> bool:
        if offer.body == B:
            hangs.wait(60)
        return real(self, offer)

    monkeypatch.setattr(SliceFile, "install", install)
    async with controllers() as (one,):
        async with polling(tmp_path, one) as (poller, _):
            await has(tmp_path, x=A, y=A, z=A)
            try:
                one.offer(B, "7.2", service="x")
                await until(lambda: poller.unready().startswith("the disk has not answered for "), "it is said", 20)
                assert poller.unready().endswith(" s: x.json")
            finally:
                hangs.set()
            await until(lambda: poller.unready() == "", "it is over", 20)


# --- reloads ---------------------------------------------------------------------------------------------------------


class Scraper:
    """Answers ``POST /-/reload`` as ``status`` says."""

    def __init__(self) -> None:
        self.status, self.posts = 500, 0

    async def post(self, _: web.Request) -> web.Response:
        self.posts += 1
        return web.Response(status=self.status)

    @property
    def app(self) -> web.Application:
        made = web.Application()
        made.router.add_post("/-/reload", self.post)
        return made


async def test_a_reload_that_fails_is_on_the_page_and_its_end_in_the_log(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloads, "AGAIN_MOST_S", 0.2)
    scraper = Scraper()
    async with serving(scraper.app) as url, controllers() as (one,):
        async with polling(tmp_path, one, reload_url=f"{url}/-/reload") as (poller, _):
            await until(lambda: "could not be reloaded: status 500" in poller.remarks(), "it is on the page", 20)
            scraper.status = 200
            await until(lambda: "msg=scraper_reloads_again" in said.getvalue(), "it is over", 20)
            assert (poller.remarks(), poller.unready()) == ("", "")


async def test_a_scraper_is_reloaded_also_when_the_agent_was_restarted_before_the_reload_worked(tmp_path: Path) -> None:
    scraper = Scraper()
    async with serving(scraper.app) as url, controllers() as (one,):
        async with polling(tmp_path, one, reload_url=f"{url}/-/reload"):
            await has(tmp_path, x=A, y=A, z=A)
            await until(lambda: scraper.posts > 0, "in vain", 20)
        scraper.status, before = 200, scraper.posts
        async with polling(tmp_path, one, reload_url=f"{url}/-/reload"):
            await until(lambda: scraper.posts > before, "nothing is written, and it is reloaded", 20)


async def test_a_fault_does_not_lose_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., object] = http_client.request
    calls = 0

    async def request(*args: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("unforeseen")
        return await real(*args, **more)  # type: ignore[misc]

    monkeypatch.setattr(reloads, "request", request)
    scraper = Scraper()
    scraper.status = 200
    async with serving(scraper.app) as url, controllers() as (one,):
        async with polling(tmp_path, one, reload_url=f"{url}/-/reload"):
            await until(lambda: scraper.posts > 0, "it is tried again", 30)


async def test_a_reload_that_fails_is_asked_for_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is finished, though nobody waits for it: a scraper that needs longer would reload for ever."""
    failures: list[int] = []

    def pause(count: int, first_s: float, most_s: float) -> float:
        assert (first_s, most_s) == (reloads.AGAIN_S, reloads.AGAIN_MOST_S)
        failures.append(count)
        return 0.0

    monkeypatch.setattr(reloads, "backoff_s", pause)
    scraper = Scraper()
    async with serving(scraper.app) as url:
        made = reloads.Reloads(f"{url}/-/reload", AgentMetrics(), log.get())
        made.due.set()
        task = asyncio.create_task(made.run())
        await until(lambda: len(failures) >= 3, "tried", 20)
        task.cancel()
    assert failures[:3] == [1, 2, 3]
