"""The tools that measure moves: targets that note who asks, a front before a server, a replay that is held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from testbed.front import HANGS, Front
from testbed.replay import HeldReplay

from promring.demo.exporter import Exporter
from promring.demo.process import free_port


async def test_a_target_notes_who_asked_it_and_refuses_only_whom_it_shall() -> None:
    one, other = (f"127.0.0.1:{free_port()}" for _ in range(2))
    async with Exporter([one, other]) as exporter, aiohttp.ClientSession() as session:
        exporter.refused = {("blind", ""), ("a", other)}
        assert await status(session, f"http://{one}/metrics?scraper=a") == 200
        assert await status(session, f"http://{other}/metrics?scraper=a") == 0
        assert await status(session, f"http://{one}/metrics?scraper=blind") == 0
        assert {(hit.scraper, hit.good) for hit in exporter.hits[one]} == {("a", True), ("blind", False)}
        assert {(hit.scraper, hit.good) for hit in exporter.hits[other]} == {("a", False)}


async def test_a_target_answers_two_requests_of_one_connection_and_late_where_it_is_told() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Exporter([address]) as exporter, aiohttp.ClientSession() as session:
        exporter.delay_s = {("slow", ""): 0.05}
        assert [await status(session, f"http://{address}/metrics?scraper={who}") for who in ("slow", "quick")] == [200, 200]
        first, second = exporter.hits[address]
        assert second.at - first.at >= 0.05


async def test_a_front_passes_answers_in_the_place_of_the_server_or_never() -> None:
    behind = f"127.0.0.1:{free_port()}"
    async with Exporter([behind]), Front("127.0.0.1", free_port(), behind) as front, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{front.port}"
        front.answers = {"/api/": 503, "/hangs": HANGS}
        assert await status(session, f"{url}/-/ready") == 200
        assert await status(session, f"{url}/api/v1/targets") == 503
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(status(session, f"{url}/hangs"), 0.2)


async def status(session: aiohttp.ClientSession, url: str) -> int:
    """0 when the connection is closed without an answer."""
    try:
        async with session.get(url) as answer:
            return answer.status
    except aiohttp.ClientConnectionError:
        return 0


async def test_a_held_log_is_read_to_its_end_only_when_it_is_released(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "00000007").touch()
    held = HeldReplay(tmp_path)
    held.hold()
    newest = tmp_path / "wal" / "00000008"
    reading = asyncio.create_task(asyncio.to_thread(newest.read_bytes))
    await asyncio.sleep(0.1)
    assert not reading.done()
    held.release()
    assert await reading == b""
    assert newest.is_file(), "the next start reads it without waiting"
    held.release()
