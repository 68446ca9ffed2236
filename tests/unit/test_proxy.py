"""The fault proxy: each fault, on new and on open connections, and nothing left at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from testbed.proxy import (
    Cut,
    Down,
    Fault,
    FaultProxy,
    Frozen,
    Latency,
    Limit,
    Replace,
    Reset,
    Slicer,
    Step,
    http_answer,
)

from promring.runtime.http_client import HttpError, new_session, request
from tests.leaks import open_descriptors
from tests.waiting import until

Opened = tuple[StreamReader, StreamWriter]


async def _echo(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionResetError:
        pass
    finally:
        writer.transport.abort() if writer.transport.is_closing() else writer.close()


@asynccontextmanager
async def echo() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends everything back."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


@asynccontextmanager
async def opened(proxy: FaultProxy) -> AsyncIterator[Opened]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def said(connection: Opened, text: bytes, size: int | None = None, timeout_s: float = 5.0) -> bytes:
    """What comes back for ``text``."""
    connection[1].write(text)
    async with asyncio.timeout(timeout_s):
        return await connection[0].readexactly(len(text) if size is None else size)


async def is_silent(connection: Opened, for_s: float = 0.1) -> bool:
    try:
        async with asyncio.timeout(for_s):
            await connection[0].read(1)
    except TimeoutError:
        return True
    return False


async def is_reset(connection: Opened) -> bool:
    try:
        async with asyncio.timeout(60):
            await connection[0].read(1)
    except ConnectionResetError:
        return True
    return False


async def test_without_a_fault_everything_passes_and_connections_are_counted() -> None:
    async with echo() as proxy, opened(proxy) as one, opened(proxy) as two:
        body = os.urandom(1_000_000)
        assert await said(one, body) == body
        assert await said(two, b"x") == b"x"
        assert (proxy.connections, proxy.open) == (2, 2)
        one[1].write_eof()
        assert await one[0].read() == b""
        await until(lambda: proxy.open == 1, "the ended connection is closed")
        assert proxy.connections == 2
        assert proxy.address == f"127.0.0.1:{proxy.port}"


async def test_latency_delays_each_way_of_an_open_connection_and_lifting_it_ends_the_wait() -> None:
    async with echo() as proxy, opened(proxy) as connection:
        await said(connection, b"x")
        proxy.fault = Latency(0.1)
        started = time.monotonic()
        assert await said(connection, b"x") == b"x"
        assert time.monotonic() - started >= 0.2
        proxy.fault = Latency(60)
        connection[1].write(b"y")
        assert await is_silent(connection)
        proxy.fault = None
        assert await said(connection, b"z", 2) == b"yz"


async def test_frozen_holds_open_and_new_connections_and_lets_them_go_on() -> None:
    async with echo() as proxy, opened(proxy) as before:
        await said(before, b"x")
        proxy.fault = Frozen()
        async with opened(proxy) as after:
            for connection in (before, after):
                connection[1].write(b"held")
                assert await is_silent(connection)
            assert proxy.open == 2
            proxy.fault = None
            assert await said(before, b".", 5) == b"held."
            assert await said(after, b".", 5) == b"held."


async def test_what_is_closed_while_frozen_is_closed_behind_when_the_fault_is_lifted() -> None:
    async with echo() as proxy:
        async with opened(proxy) as connection:
            await said(connection, b"x")
            proxy.fault = Frozen()
        await asyncio.sleep(0.05)
        proxy.fault = None
        await until(lambda: proxy.open == 0, "nobody is left")


async def test_down_refuses_and_resets_who_is_in_and_the_port_comes_back() -> None:
    async with echo() as proxy, opened(proxy) as before:
        await said(before, b"x")
        proxy.fault = Down()
        assert await is_reset(before)
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(proxy.host, proxy.port)
        proxy.fault = None
        async with opened(proxy) as after:
            assert await said(after, b"x") == b"x"
        assert proxy.connections == 2


async def test_reset_accepts_and_resets() -> None:
    async with echo() as proxy, opened(proxy) as before:
        await said(before, b"x")
        proxy.fault = Reset()
        assert await is_reset(before)
        for _ in range(10):
            with contextlib.suppress(ConnectionResetError):  # the reset may come before the client looks
                async with opened(proxy) as after:
                    assert await is_reset(after)
        assert (proxy.connections, proxy.open) == (11, 0)


async def test_a_target_that_is_not_there_is_a_reset() -> None:
    async with echo() as proxy:
        pass
    async with FaultProxy(proxy.host, proxy.port) as nowhere, opened(nowhere) as connection:
        assert await is_reset(connection)


async def test_cut_closes_after_so_many_bytes_of_the_answer_counted_from_when_it_was_set() -> None:
    async with echo() as proxy, opened(proxy) as connection:
        await said(connection, b"not counted")
        proxy.fault = Cut(7)
        assert await said(connection, b"four") == b"four"
        connection[1].write(b"more than three")
        assert await connection[0].read() == b"mor"
        await until(lambda: proxy.open == 0, "closed on both sides")


async def test_slicer_gives_answers_in_small_pieces_with_pauses_and_requests_whole() -> None:
    async with echo() as proxy, opened(proxy) as connection:
        proxy.fault = Slicer(2, pause_s=0.02)
        started = time.monotonic()
        connection[1].write(b"0123456789")
        pieces = [await connection[0].read(100) for _ in range(5)]
        assert pieces == [b"01", b"23", b"45", b"67", b"89"]
        assert time.monotonic() - started >= 0.1


async def test_limit_holds_the_rate() -> None:
    async with echo() as proxy, opened(proxy) as connection:
        proxy.fault = Limit(20_000)
        started = time.monotonic()
        await said(connection, bytes(6000))
        assert time.monotonic() - started >= 0.3


async def test_replace_answers_requests_itself_and_the_target_answers_again_afterwards() -> None:
    async with echo() as proxy, new_session() as session, opened(proxy) as before:
        await said(before, b"x")
        proxy.fault = Replace(http_answer(b"<html>", status="502 Bad Gateway", X_Consul_Index=7))
        assert await is_reset(before)
        for path, body in (("/", None), ("/v1", {"long": "x" * 100_000})):
            answer = await request(session, "PUT", f"http://{proxy.address}{path}", timeout_s=5, json=body)
            assert (answer.status, answer.body, answer.headers["x-consul-index"]) == (502, b"<html>", "7")
        proxy.fault = None
        async with opened(proxy) as after:
            assert await said(after, b"x") == b"x"


async def test_replace_may_keep_the_connection_open() -> None:
    async with echo() as proxy, new_session() as session:
        proxy.fault = Replace(http_answer(b"{}", Connection="keep-alive"), keep_open=True)
        for _ in range(20):
            assert (await request(session, "GET", f"http://{proxy.address}/", timeout_s=5)).body == b"{}"
        assert proxy.connections == 1


async def test_replace_streams_without_end_until_the_client_has_enough() -> None:
    async with echo() as proxy, new_session() as session:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        proxy.fault = Replace(lambda: itertools.chain([head], itertools.repeat(b"x" * 65536)))
        with pytest.raises(HttpError, match="body larger than 1000000 bytes"):
            await request(session, "GET", f"http://{proxy.address}/", timeout_s=10, body_bytes_max=1_000_000)
        await until(lambda: proxy.open == 0, "the stream ends with the client")


FAULTS: list[Callable[[], Fault | None]] = [
    lambda: None,
    lambda: Latency(60),
    Frozen,
    Down,
    Reset,
    lambda: Cut(1000),
    lambda: Slicer(1, 60),
    lambda: Limit(1),
    lambda: Replace(lambda: itertools.repeat(b"x" * 65536)),
]


@pytest.mark.parametrize(
    "fault", FAULTS, ids=["none", "latency", "frozen", "down", "reset", "cut", "slicer", "limit", "replace"]
)
async def test_no_task_and_no_descriptor_survives_whatever_the_fault_is(fault: Callable[[], Fault | None]) -> None:
    await asyncio.sleep(0)
    tasks, descriptors = len(asyncio.all_tasks()), open_descriptors()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(echo())
        clients = [await stack.enter_async_context(opened(proxy)) for _ in range(5)]
        await said(clients[0], b"x")
        proxy.fault = fault()
        for _, writer in clients:
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        for _ in range(5):
            with contextlib.suppress(ConnectionError):  # refused, or reset before it was looked at
                await stack.enter_async_context(opened(proxy))
        await asyncio.sleep(0.05)
    await until(lambda: (len(asyncio.all_tasks()), open_descriptors()) == (tasks, descriptors), "as before", 2)


async def test_it_ends_clean_in_the_tick_in_which_a_connection_was_accepted() -> None:
    async with echo() as proxy, opened(proxy) as connection:
        await until(lambda: proxy.connections == 1, "accepted")
        proxy.reset()
        assert await is_reset(connection)


async def test_the_error_of_whoever_uses_it_comes_out_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with echo():
            raise ValueError("mine")


@pytest.mark.parametrize(
    ("fault", "size", "answered", "step"),
    [
        (Latency(0.5), 10, None, Step(10, 0.5)),
        (Frozen(), 10, 0, Step(0, float("inf"))),
        (Cut(10), 4, 0, Step(4)),
        (Cut(10), 4, 6, Step(4, close=True)),
        (Cut(10), 9, 6, Step(4, close=True)),
        (Cut(0), 9, 0, Step(0, close=True)),
        (Cut(10), 40, None, Step(40)),
        (Slicer(3, 0.2), 10, 0, Step(3, 0.2)),
        (Slicer(3, 0.2), 10, None, Step(10)),
        (Limit(100), 10, None, Step(5, 0.05)),
        (Limit(1), 10, 0, Step(1, 1.0)),
    ],
)
def test_a_fault_decides_what_happens_to_the_next_bytes(fault: Fault, size: int, answered: int | None, step: Step) -> None:
    assert fault.step(size, answered) == step
