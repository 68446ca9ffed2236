"""Health checks on kept connections: what is kept, what is replaced, and what counts as a failure."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.membership import kept
from promring.membership.kept import KeptProbe
from promring.membership.kept_answer import ANSWER_BYTES_MAX, Answer, MalformedError
from promring.runtime.http_client import HttpError, NotAskedError, UnresolvedError
from promring.runtime.resolver import Names, Resolver
from tests.fakes.controller import FakeController

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# --- one answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "keep"),
    [
        (OK, 200, True),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 200, True),
        (b"HTTP/1.1 503 \r\ncontent-length:0\r\n\r\n", 503, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK, 200, True),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n", 101, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n", 200, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nOK\r\n1\r\n!\r\n000\r\n\r\n", 200, True),
        (OK + b"HTTP/1.1 200 OK\r\n", 200, False),
    ],
)
def test_an_answer_is_read_in_whatever_pieces_it_comes(sent: bytes, status: int, keep: bool) -> None:
    at_once, bit_by_bit = Answer(), Answer()
    at_once.feed(sent)
    for byte in sent:
        if bit_by_bit.status is None:
            bit_by_bit.feed(bytes([byte]))
    assert (at_once.status, at_once.keep) == (status, keep)
    assert bit_by_bit.status == status


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"hello\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 0 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOKAY\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * 2000 + b"\r\nOK\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * ANSWER_BYTES_MAX,
    ],
)
def test_what_is_no_answer_is_refused(sent: bytes) -> None:
    answer = Answer()
    with pytest.raises(MalformedError):
        answer.feed(sent)


@pytest.mark.parametrize("line", [b"X:%ba", b"X: a%bb", b"X:%b\rb", b"X%b: b", b"%b: b"])
def test_a_header_of_white_space_as_long_as_can_be_takes_no_time(line: bytes) -> None:
    """The pattern tried each part of a run of white space once: 800 of them took two seconds of the event loop, and twice
    as many eight times as long."""
    answer, began = Answer(), time.process_time()
    with contextlib.suppress(MalformedError):
        answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + line % (b" \t" * 30_000) + b"\r\n\r\n")
        assert answer.status == 200
    assert time.process_time() - began < 20


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", OK[:-2], OK[:-2].replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")]),
)
def test_any_bytes_are_an_answer_or_malformed_or_not_whole(sent: bytes, before: bytes) -> None:
    answer = Answer()
    with contextlib.suppress(MalformedError):
        answer.feed(before + sent)
        answer.end()
    assert answer.status is None or 100 <= answer.status <= 999


# --- connections -----------------------------------------------------------------------------------------------------


class Peer:
    """Answers as ``talk`` does, once a connection unless that goes on."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.accepted, self.asked = talk, 0, 0
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                await self.talk(reader, writer)
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await self.stop()

    async def stop(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def honest(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


@asynccontextmanager
async def asking(peer: Peer, idle_most: int = 10) -> AsyncIterator[KeptProbe]:
    async with peer.running() as address:
        probe = KeptProbe(address, "/-/ready", idle_most=idle_most)
        try:
            yield probe
        finally:
            probe.close()
            assert not KeptProbe._idle


async def test_a_thousand_checks_take_one_connection() -> None:
    peer = Peer(honest)
    async with asking(peer) as probe:
        for _ in range(1000):
            assert await probe.status(10.0) == 200
    assert (peer.accepted, peer.asked) == (1, 1000)


async def test_a_kept_connection_that_the_scraper_closed_is_no_failure() -> None:
    peer = Peer(honest)
    async with asking(peer) as probe:
        for abort in (False, True):
            assert await probe.status(10.0) == 200
            peer.writers[-1].transport.abort() if abort else peer.writers[-1].close()  # known, or not yet
            assert await probe.status(10.0) == 200
            await asyncio.sleep(0.05)
            assert await probe.status(10.0) == 200

        async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """It closes instead of an answer, as a server does whose time for idle ones is over at that moment."""
            peer.talk = honest
            writer.transport.abort()

        before, peer.talk = peer.accepted, closes
        assert await probe.status(10.0) == 200
        assert peer.accepted == before + 1


async def test_a_scraper_that_closes_each_connection_is_asked_twice_at_most() -> None:
    peer = Peer(honest)
    async with asking(peer) as probe:
        assert await probe.status(10.0) == 200

        async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        before, peer.talk = peer.asked, closes
        with pytest.raises(HttpError, match=r"closed by the other side|reset"):
            await probe.status(10.0)
        assert peer.asked - before == 2


async def test_a_hung_scraper_is_noticed_in_time_and_a_path_that_forgot_the_connection_is_not_its_death() -> None:
    peer = Peer(honest)
    async with asking(peer) as probe:
        assert await probe.status(10.0) == 200

        async def hangs(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            if peer.accepted == 1:
                await asyncio.sleep(3600)
            await honest(_, __)

        peer.talk = hangs
        assert await probe.status(2.0) == 200, "on a new connection, beside the one that hangs"
        assert peer.accepted == 2
        loop = asyncio.get_running_loop()

        async def hangs_all(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        peer.talk, began = hangs_all, loop.time()
        with pytest.raises(HttpError, match=r"no whole answer within 0.3 s"):
            await probe.status(0.3)
        assert loop.time() - began < 5


async def test_a_slow_answer_on_the_kept_connection_counts() -> None:
    peer = Peer(honest)
    async with asking(peer) as probe:
        assert await probe.status(10.0) == 200

        async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.3 if peer.accepted == 1 else 3600)
            writer.write(OK)

        peer.talk = slow
        assert await probe.status(0.4 * 20) == 200
        peer.talk = slow
        assert await probe.status(0.5) == 200, "after the half, and before a new connection says anything"


async def test_a_connection_is_renewed_and_then_the_name_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "AGE_S", 0.0)
    one, other = Peer(honest), Peer(honest)
    async with one.running() as address:
        port = int(address.rpartition(":")[2])
        where = ["127.0.0.1"]

        def look_up(*_: object, **__: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in where]

        server = await asyncio.start_server(other._serve, "127.0.0.2", port)
        probe = KeptProbe(f"scraper.test:{port}", "/", idle_most=10)
        try:
            probe._resolver = Resolver(Names(look_up))
            assert await probe.status(10.0) == 200
            where[:] = ["127.0.0.2"]
            probe._resolver = Resolver(Names(look_up))
            assert await probe.status(10.0) == 200
            assert (one.accepted, other.accepted) == (1, 1)
        finally:
            probe.close()
            server.close()
            await other.stop()


async def test_no_more_are_kept_than_there_is_room_for() -> None:
    peer = Peer(honest)
    async with asking(peer, idle_most=0) as probe:
        for _ in range(3):
            assert await probe.status(10.0) == 200
    assert peer.accepted == 3


async def test_whose_trouble_it_is_is_said() -> None:
    with pytest.raises(HttpError, match=r"cannot connect to 127.0.0.1:1: Connection refused") as refused:
        await KeptProbe("127.0.0.1:1", "/", idle_most=1).status(10.0)
    assert not isinstance(refused.value, NotAskedError)

    def look_up(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    probe = KeptProbe("nowhere.test:1", "/", idle_most=1)
    probe._resolver = Resolver(Names(look_up))
    with pytest.raises(UnresolvedError, match=r"nowhere.test cannot be resolved"):
        await probe.status(10.0)


ON_UVLOOP = """
import asyncio, sys, uvloop
from promring.membership.kept import KeptProbe

async def main():
    probe = KeptProbe(sys.argv[1], "/", idle_most=1)
    print(await probe.status(10.0))
    probe.close()

uvloop.run(main())
"""


def test_it_works_on_uvloop_too() -> None:
    """Whose transports are no subclass of asyncio's. In a process of its own: uvloop keeps descriptors."""
    pytest.importorskip("uvloop")
    with FakeController() as other:
        command = [sys.executable, "-c", ON_UVLOOP, other.url.removeprefix("http://")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "404\n", done.stderr
