"""A peer that answers what no honest one would: broken HTTP, bodies that grow, nest, lie or never end.

``CORPUS`` holds the answers that do not depend on who asks; ``bodies`` makes those that stand where the honest answer of one
endpoint has its entries. ``HostilePeer`` is a raw server that gives the honest answer until ``play`` names another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from typing import Any

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]
MEGA = 1024 * 1024
DEEP = 20_000
MANY = 400_000


@dataclass(frozen=True)
class Shape:
    """An endpoint's honest answer: the headers that it needs, and where in its body the entries stand."""

    before: bytes
    good: bytes
    """The entries, as JSON with commas between."""
    after: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    """Keys of an entry, for values of other types."""

    def body(self, entries: bytes) -> bytes:
        return self.before + entries + self.after


def plain(body: bytes, headers: Mapping[str, str], status: str = "200 OK") -> bytes:
    lines = {"Date": formatdate(usegmt=True), "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {"Connection": "close", **headers}
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return "\r\n".join(head).encode() + body


def says(*parts: bytes) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def for_ever(first: bytes, part: bytes, pause_s: float = 0.0) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return talk


@cache
def _bomb(megabytes: int) -> bytes:
    """So many of the same character, as gzip. One is packed, and stands there again and again."""
    packer, same, crc = zlib.compressobj(9, zlib.DEFLATED, -15), b"0" * MEGA, 0
    first, again = (packer.compress(same) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    for _ in range(megabytes):
        crc = zlib.crc32(same, crc)
    head = b"\x1f\x8b\x08" + b"\0" * 6 + b"\xff"
    return head + first + again * (megabytes - 1) + packer.flush() + struct.pack("<II", crc, megabytes * MEGA)


def _chunk(part: bytes) -> bytes:
    return f"{len(part):x}\r\n".encode() + part + b"\r\n"


async def _explodes(writer: asyncio.StreamWriter) -> None:
    await says(plain(_bomb(600), {"Content-Encoding": "gzip"}))(writer)


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def _never(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


CORPUS: dict[str, Talk] = {
    "closed at once": says(),
    "no status line": says(b"hello\r\n\r\n"),
    "binary": says(bytes(range(256)) * 64),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "cut status line": says(b"HTTP/1.1 20"),
    "cut headers": says(_OK + b"Content-Le"),
    "status 0": says(b"HTTP/1.1 0 \r\n\r\n"),
    "status 999": says(plain(b"[]", {}, "999 What")),
    "status 204 with a body": says(plain(b"[]", {}, "204 No Content")),
    "unasked 304": says(plain(b"", {}, "304 Not Modified")),
    "unasked 206": says(plain(b"[]", {"Content-Range": "bytes 0-1/9"}, "206 Partial")),
    "101 upgrade": says(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    "500 with 4 MB of text": says(plain(b"no " * (4 * MEGA // 3), {}, "500 No")),
    "redirect to itself": says(plain(b"", {"Location": "/"}, "302 Found")),
    "redirect to a file": says(plain(b"", {"Location": "file:///etc/passwd"}, "301 Moved")),
    "redirect to nowhere": says(plain(b"", {"Location": "http://[::1"}, "308 Moved")),
    "no body": says(_OK + b"\r\n"),
    "content length too long": says(_OK + b"Content-Length: 1000\r\n\r\n[]"),
    "content length of terabytes": says(_OK + b"Content-Length: 99999999999999\r\n\r\n[]"),
    "content length beyond numbers": says(_OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n[]"),
    "content length below zero": says(_OK + b"Content-Length: -1\r\n\r\n[]"),
    "two content lengths": says(_OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]"),
    "content length too short": says(_OK + b"Content-Length: 1\r\nConnection: close\r\n\r\n[]"),
    "length and chunks": says(_OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]"),
    "bad chunk": says(_CHUNKED + b"zz\r\n[]\r\n"),
    "chunk of exabytes": says(_CHUNKED + b"ffffffffffffffff\r\n[]"),
    "chunk below zero": says(_CHUNKED + b"-5\r\n[]"),
    "chunks that end early": says(_CHUNKED + _chunk(b"[")),
    "many tiny chunks": says(_CHUNKED + _chunk(b" ") * 100_000),
    "10,000 headers": says(_OK + b"".join(b"X-%d: x\r\n" % i for i in range(10_000)) + b"Content-Length: 2\r\n\r\n[]"),
    "a header of 4 MB": says(_OK + b"X-Long: " + b"x" * 4 * MEGA + b"\r\nContent-Length: 2\r\n\r\n[]"),
    "a header with a NUL": says(_OK + b"X-Odd: a\0b\r\nContent-Length: 2\r\n\r\n[]"),
    "headers that are no text": says(_OK + b"X-\xff\xfe: \xff\r\nContent-Length: 2\r\n\r\n[]"),
    "headers that never end": for_ever(_OK, b"X-More: x\r\n" * 1000),
    "1xx for ever": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    "gzip bomb": _explodes,
    "gzip that is none": says(plain(b"[]" * 100, {"Content-Encoding": "gzip"})),
    "gzip cut": says(plain(gzip.compress(b"[]" * 1000)[:-9], {"Content-Encoding": "gzip"})),
    "deflate that is none": says(plain(b"\xff" * 100, {"Content-Encoding": "deflate"})),
    "br that is none": says(plain(b"[]", {"Content-Encoding": "br"})),
    "zstd that is none": says(plain(b"[]", {"Content-Encoding": "zstd"})),
    "an encoding of its own": says(plain(b"[]", {"Content-Encoding": "x-canary"})),
    "another charset": says(plain("[]".encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"})),
    "a body that never ends": for_ever(_CHUNKED + _chunk(b"["), _chunk(b"{}," * 20_000)),
    "a trickle": for_ever(_CHUNKED, _chunk(b" "), 0.05),
    "no answer": _never,
}
"""By what is wrong with it."""

SLOW = {
    "headers that never end",
    "1xx for ever",
    "a body that never ends",
    "a trickle",
    "no answer",
    "content length too long",
}
"""They last as long as whoever asks lets them."""

LIES: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a text": b'"x"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list": b"[[null]]",
    "an object": b'{"a":{"a":null}}',
}


def bodies(shape: Shape) -> dict[str, bytes]:
    """Bodies that are wrong where this endpoint has its entries, or altogether."""
    whole = {f"the whole is {name}": lie for name, lie in LIES.items()}
    entry = {f"an entry is {name}": shape.body(lie) for name, lie in LIES.items()}
    values = {
        f"{key} is {name}": shape.body(json.dumps({key: json.loads(lie)}).encode())
        for key in shape.keys
        for name, lie in LIES.items()
    }
    first = shape.good.split(b",", 1)[0] or b"{}"
    return {
        **whole,
        **entry,
        **values,
        "empty": b"",
        "white space": b" \n" * 1000,
        "html": b"<!DOCTYPE html><html><body>Sign in</body></html>",
        "cut": shape.body(shape.good)[:-2],
        "twice": shape.body(shape.good) * 2,
        "something after it": shape.body(shape.good) + b"]",
        "a BOM": b"\xef\xbb\xbf" + shape.body(shape.good),
        "UTF-16": shape.body(shape.good).decode().encode("utf-16"),
        "invalid UTF-8": shape.body(b'{"a":"\xff\xfe"}'),
        "a lone surrogate": shape.body(b'{"\\ud800":"\\udfff"}'),
        "control characters": shape.body(b'{"a":"\x00\x01"}'),
        "NaN": shape.body(b"NaN"),
        "Infinity": shape.body(b'{"a":-Infinity}'),
        "a huge number": shape.body(b"1" * 100_000),
        "a huge exponent": shape.body(b'{"a":1e999999999}'),
        "a huge text": shape.body(b'{"a":"' + b"x" * 20 * MEGA + b'"}'),
        "a huge key": shape.body(b'{"' + b"x" * 20 * MEGA + b'":1}'),
        "deep lists": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        "deep objects": shape.body(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        "deep and cut": shape.before + b"[" * 5 * MEGA,
        "deep in a list": shape.body(b"[" * DEEP + b"]" * DEEP),
        "many empty entries": shape.body(b"{}," * MANY + b"{}"),
        "many nulls": shape.body(b"null," * MANY + b"null"),
        "many labels": shape.body(b"{" + b",".join(b'"a%d":""' % i for i in range(300_000)) + b"}"),
        "many of the first": shape.body((first + b",") * 10 + first),
    }


class HostilePeer:
    """One address that is honest until it is told to ``play``. ``served`` counts hostile answers
    since then, ``ever`` all of them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.name = ""
        self.served = self.ever = 0
        self.good_served = 0
        self.honest: Callable[[bytes], bytes | None] = lambda _: plain(shape.body(shape.good), shape.headers)
        """The answer to a request line; None: no answer for a while, as a long poll has it."""
        self._talk: Talk | None = None
        self._played = asyncio.Event()
        self._cases: dict[str, Talk | bytes] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> HostilePeer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MEGA)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{self.host}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def play(self, name: str, answer: Talk | bytes | None) -> None:
        """From the next request on: bytes are a body, given with the honest headers; None is the honest answer."""
        self.name, self.served = name, 0
        self._played.set()
        self._played = asyncio.Event()
        self._talk = says(plain(answer, self.shape.headers)) if isinstance(answer, bytes) else answer

    def cases(self) -> Mapping[str, Talk | bytes]:
        """All that can be played, made once: they are long."""
        if not self._cases:
            self._cases = {**CORPUS, **bodies(self.shape)}
        return self._cases

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            talk = self._talk
            if talk is None:
                await self._be_honest(head, writer)
            else:
                self.served, self.ever = self.served + 1, self.ever + 1
                await talk(writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # who asked has gone, or this peer ends
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _be_honest(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        answer = self.honest(head)
        if answer is None:
            await self._played.wait()
            return
        writer.write(answer)
        await writer.drain()
        self.good_served += 1
