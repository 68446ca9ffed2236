"""The health check of the image: any answer is life, a port that says nothing is not."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.waiting import patient

SCRIPT = Path(__file__).parents[2] / "deploy/healthy.py"


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


async def exit_status(address: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(SCRIPT), env={"PROMRING_WEB_LISTEN_ADDRESS": address}
    )
    return await asyncio.wait_for(process.wait(), patient(60))


@asynccontextmanager
async def listener(says: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its address. ``says`` None: it takes connections, and never answers."""
    over = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if says is None:
            await over.wait()
        else:
            writer.write(says)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f":{server.sockets[0].getsockname()[1]}"
        over.set()


@pytest.mark.parametrize("client_certificate", [False, True])
async def test_any_answer_is_life_over_tls_too(client_certificate: bool, ca: trustme.CA) -> None:
    async with listener(b"HTTP/1.1 401 Unauthorized\r\n\r\n") as address:
        assert await exit_status(address) == 0
        assert await exit_status(f"0.0.0.0{address}") == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    async with listener(b"HTTP/1.1 200 OK\r\n\r\n", context) as address:
        assert await exit_status(address) == 0


async def test_a_port_where_nobody_listens_or_answers_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        address = f":{once.getsockname()[1]}"
    assert await exit_status(address) == 1
    async with listener(None) as address:
        assert await exit_status(address) == 1
