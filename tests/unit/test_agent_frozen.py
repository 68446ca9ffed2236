"""A frozen controller holds a long poll as one does that has nothing new: an agent that has another one leaves it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from promring.agent import asking
from promring.telemetry import log
from tests.fakes.slices import PATH, FakeSlices, serving
from tests.unit.test_agent_services import content, polling
from tests.waiting import until

A, B, C = (b'[{"targets":["%s:1"],"labels":{}}]\n' % name for name in (b"a", b"b", b"c"))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ALIVE_EVERY_S", 0.2)
    monkeypatch.setattr(asking, "ALIVE_S", 1.0)


@pytest.fixture
def said() -> io.StringIO:
    stream = io.StringIO()
    log.configure("info", "logfmt", stream=stream)
    return stream


class Mortal(FakeSlices):
    """``alive``: whether ``/-/healthy`` is answered, with ``status``; ``slow``: whether a list takes seconds to arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.status, self.looks, self.slow = True, 200, 0, False

    async def arriving(self, request: web.Request) -> web.StreamResponse:
        whole = await self.get(request)
        if not self.slow:
            return whole
        assert isinstance(whole.body, bytes)
        answer = web.StreamResponse(headers={"Content-Type": whole.headers["Content-Type"]})
        answer.content_length = len(whole.body)
        await answer.prepare(request)
        await answer.write(whole.body[:10])
        await asyncio.sleep(5.0)
        await answer.write(whole.body[10:])
        return answer

    async def healthy(self, _: web.Request) -> web.Response:
        self.looks += 1
        if not self.alive:
            await asyncio.Event().wait()
        return web.Response(status=self.status)


@asynccontextmanager
async def mortals() -> AsyncIterator[tuple[Mortal, Mortal]]:
    both = Mortal(), Mortal()
    apps = web.Application(), web.Application()
    for one, app in zip(both, apps, strict=True):
        app.router.add_get(PATH, one.arriving)
        app.router.add_get("/-/healthy", one.healthy)
        one.offer(A, "1.1")
    async with serving(apps[0]) as both[0].url, serving(apps[1]) as both[1].url:
        yield both


async def test_a_frozen_controller_is_left_for_another_one_while_a_long_poll_waits(
    tmp_path: Path, said: io.StringIO
) -> None:
    async with mortals() as (old, new), polling(tmp_path, old, new, wait_s=300.0):
        await until(lambda: content(tmp_path) == {"x": A}, "the first list", 20)
        new.offer(B, "9.1")
        old.alive = False
        await until(lambda: content(tmp_path) == {"x": B}, "the list of who leads now", 30)
    assert "whether it lives" in said.getvalue()


@pytest.mark.parametrize("status", [200, 401, 404, 503])
async def test_one_that_says_anything_at_all_is_not_left(status: int, tmp_path: Path) -> None:
    """A proxy before it may know no such path, or want a password."""
    async with mortals() as (old, new), polling(tmp_path, old, new, wait_s=300.0):
        old.status = status
        await until(lambda: content(tmp_path) == {"x": A}, "the first list", 20)
        before = old.looks
        await until(lambda: old.looks >= before + 3, "it was asked whether it lives", 20)
        assert (len(new.asked), content(tmp_path)) == (0, {"x": A})
        old.offer(C, "2.1")
        await until(lambda: content(tmp_path) == {"x": C}, "its next list", 20)


async def test_the_only_controller_is_not_asked_whether_it_lives(tmp_path: Path) -> None:
    async with mortals() as (only, _), polling(tmp_path, only, wait_s=1.0):
        await until(lambda: len(only.asked) >= 3, "a long poll that ended, and another one", 20)
        assert only.looks == 0


async def test_a_list_that_is_on_its_way_is_not_given_up(tmp_path: Path) -> None:
    """It may leave no room for another answer."""
    async with mortals() as (old, new), polling(tmp_path, old, new, wait_s=300.0):
        await until(lambda: content(tmp_path) == {"x": A}, "the first list", 20)
        old.slow, old.alive = True, False
        old.offer(C, "2.1")
        await until(lambda: content(tmp_path) == {"x": C}, "its next list", 30)
        assert new.asked == []
