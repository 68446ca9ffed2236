"""The agent's poller against a controller that wants TLS and a token."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.delivery.bundle import HAVE
from promring.demo.process import free_port
from promring.runtime.http_client import TlsFiles, new_session
from promring.telemetry import log
from promring.web.agent import serve
from tests.fakes.slices import PATH, bundle, sealed
from tests.rows import Seen
from tests.waiting import answers, until

BODY = b'[{"targets":["a:1"]}]\n'
OFFER = sealed(BODY, "1.1")


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@asynccontextmanager
async def controller(ca: trustme.CA, seen: list[str]) -> AsyncIterator[str]:
    async def get(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        if seen[-1] != "Bearer secret":
            return web.Response(status=401, text="a token is needed")
        if request.headers.get(HAVE):
            await asyncio.sleep(0.1)
            return web.Response(body=bundle({"x": replace(OFFER, body=b"")}, named=1))
        return web.Response(body=bundle({"x": OFFER}))

    app = web.Application()
    app.router.add_get(PATH, get)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def polling(settings: AgentSettings) -> AsyncIterator[Poller]:
    poller = Poller(settings, AgentMetrics(), log.get())
    task = asyncio.create_task(poller.run())
    try:
        yield poller
        assert not task.done(), "it goes on whatever happens"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_token_is_sent_over_verified_tls_and_read_again_for_each_use(tmp_path: Path, ca: trustme.CA) -> None:
    seen: list[str] = []
    token, file = tmp_path / "token", tmp_path / "sd" / "x.json"
    token.write_text("wrong\n")
    async with controller(ca, seen) as url:
        settings = AgentSettings([url], "s:1", file.parent, token_file=token, tls=TlsFiles(tmp_path / "ca.pem"))
        async with polling(settings) as poller:
            await until(lambda: "Bearer wrong" in seen, "asked with the wrong one")
            assert not file.exists()
            token.unlink()
            await asyncio.sleep(0.5)
            token.write_text("secret\n")
            await until(lambda: poller.has_slice, "asked with the right one", 15)
        assert file.read_bytes() == BODY


async def test_a_controller_that_nobody_vouches_for_is_not_believed(tmp_path: Path, ca: trustme.CA) -> None:
    seen: list[str] = []
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    async with controller(ca, seen) as url:
        for tls in (
            TlsFiles(),
            TlsFiles(tmp_path / "other.pem"),
            TlsFiles(tmp_path / "ca.pem", server_name="other.example"),
        ):
            settings = AgentSettings([url], "s:1", tmp_path, tls=tls)
            async with polling(settings) as poller:
                await asyncio.sleep(0.5)
                assert not poller.has_slice
    assert seen == []
    assert not (tmp_path / "x.json").exists()


async def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path, ca: trustme.CA) -> None:
    seen: list[str] = []
    (tmp_path / "token").write_text("secret")
    blocked = tmp_path / "sd"
    blocked.write_text("a file where the folder should be")
    async with controller(ca, seen) as url:
        settings = AgentSettings([url], "s:1", blocked, token_file=tmp_path / "token", tls=TlsFiles(tmp_path / "ca.pem"))
        async with polling(settings) as poller:
            await until(lambda: len(seen) > 1, "asked again")
            assert not poller.has_slice
            blocked.unlink()
            await until(lambda: poller.has_slice, "written", 15)


@pytest.mark.row("A11", did="forty clients that send no whole request, to an agent that takes sixteen at a time")
async def test_strangers_take_no_more_than_their_part_of_an_agents_descriptors(tmp_path: Path, seen: Seen) -> None:
    metrics, port = AgentMetrics(), free_port()
    poller = Poller(AgentSettings(["http://127.0.0.1:1"], "a:1", tmp_path), metrics, log.get())
    task = asyncio.create_task(serve("127.0.0.1", port, poller, metrics, log.get(), most=16))
    clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        async with new_session() as session:
            await until(lambda: answers(session, f"http://127.0.0.1:{port}/-/healthy"), "it listens")
        for _ in range(40):
            clients.append(await asyncio.open_connection("127.0.0.1", port))
            clients[-1][1].write(b"GET /-/healthy HTTP/1.1\r\n")
        async with new_session() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            assert 'promring_agent_http_refused_total{reason="idle"} 2' in await response.text()
        await until(lambda: sum(reader.at_eof() for reader, _ in clients) >= 24, "the others are closed")
        seen("sixteen stay, each new one takes the place of the oldest")
    finally:
        for _, writer in clients:
            writer.close()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
