"""What an http source's refusal tells, and how long a source that asks for it is left alone."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping

import pytest
from aiohttp import web

from promring.demo.process import free_port
from promring.discovery.polling import JITTER, RETRY_S, poll
from promring.model import DiscoveryError, TargetPool
from promring.telemetry import log
from tests import jumping
from tests.sources import http_source
from tests.waiting import until

_NOW = "Thu, 01 Jan 1970 00:00:00 GMT"
_JSON = "application/json"


async def refusal(status: int, headers: Mapping[str, str], body: bytes = b"") -> DiscoveryError:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=body)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        with pytest.raises(DiscoveryError) as caught:
            await http_source(f"http://127.0.0.1:{port}/", 60.0, 20.0).fetch()
        return caught.value
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:30 GMT", "Date": _NOW}, 30),
        ({"Retry-After": "Wed, 31 Dec 1969 00:00:00 GMT", "Date": _NOW}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "\u0663"}, 0),
        ({"Retry-After": "9" * 50}, 999_999_999),
        ({"Retry-After": f"Thu, 01 Jan {'9' * 20} 00:00:30 GMT", "Date": _NOW}, 0),
        ({}, 0),
    ],
)
async def test_a_refusal_says_how_long_to_wait_by_the_clock_of_whoever_answers(
    headers: Mapping[str, str], seconds: float
) -> None:
    assert (await refusal(429, headers)).retry_after_s == seconds


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({"Content-Type": _JSON}, b"\n<html><title>Log in</title>", "begins with '<html><title>Log in</title>'"),
        (
            {"Content-Type": _JSON, "Content-Encoding": "gzip"},
            gzip.compress(b"[]", mtime=0),
            "packed (gzip), and was not asked for so",
        ),
    ],
)
async def test_what_is_no_list_at_all_is_said(headers: Mapping[str, str], body: bytes, said: str) -> None:
    assert said in str(await refusal(200, headers, body))


@pytest.mark.parametrize(("kinds", "taken"), [((_JSON, "text/html"), True), (("text/html", _JSON), False)])
async def test_of_a_header_that_stands_twice_the_first_counts_as_it_does_for_prometheus(
    kinds: tuple[str, str], taken: bool
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = ["HTTP/1.1 200 OK", *(f"Content-Type: {kind}" for kind in kinds), "Content-Length: 22", "Connection: close"]
        writer.write("\r\n".join([*lines, "", '[{"targets": ["a:1"]}]']).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        source = http_source(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 60.0, 20.0)
        if taken:
            assert len(await source.fetch()) == 1
        else:
            with pytest.raises(DiscoveryError, match="text/html"):
                await source.fetch()


class _Busy:
    interval_s = 60.0

    def __init__(self, retry_after_s: float) -> None:
        self._retry_after_s = retry_after_s
        self.asked_at: list[float] = []

    async def fetch(self) -> TargetPool:
        self.asked_at.append(asyncio.get_running_loop().time())
        raise DiscoveryError("status 429", retry_after_s=self._retry_after_s)


@pytest.mark.parametrize(("asks_s", "waits_s"), [(0.0, RETRY_S), (1.0, RETRY_S), (20.0, 20.0), (1e6, 60.0)])
def test_a_source_that_asks_for_it_is_left_alone_for_an_interval_at_most(asks_s: float, waits_s: float) -> None:
    source = _Busy(asks_s)

    async def play() -> None:
        polling = asyncio.create_task(poll("s", source, lambda *_: None, lambda _: None, log.get()))
        await until(lambda: len(source.asked_at) > 1, "asked again")
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    jumping.run(play())
    first, second = source.asked_at
    assert (1 - JITTER) * waits_s <= second - first <= (1 + JITTER) * waits_s + 1


async def test_an_answer_with_a_long_header_is_read() -> None:
    """A policy or a cookie of more than 8 KiB; Prometheus takes it."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response([{"targets": ["a:1"]}], headers={"Content-Security-Policy": "x" * 20_000})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert len(await http_source(f"http://127.0.0.1:{port}/", 60.0, 20.0).fetch()) == 1
    finally:
        await runner.cleanup()
