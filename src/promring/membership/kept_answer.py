"""The answer of a probe over a connection that is kept, as it comes."""

from __future__ import annotations

import ipaddress
import re

from promring.runtime.http_client import (
    HttpError,
)

AGE_S = 60.0
ANSWER_BYTES_MAX = 128 * 1024
"""Of one answer with its headers and frames."""
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^`|~\w-]++):([^\r\n]*+)\r?\n")
"""White space around the value is taken off later: a pattern that leaves it out tries a long run of it again and again."""
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_CHUNK_HEAD_MAX = 1024
_SEPARATE = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class MalformedError(ValueError):
    """It is not HTTP/1; the text says where."""


class DroppedError(HttpError):
    """The connection was closed before the first byte of an answer."""


class Answer:
    """Reads one answer as its bytes come. ``status`` is set when it is whole; ``keep``: whether another may follow."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.keep = False
        self._bytes, self._at = bytearray(), 0
        self._coming = 0
        """The status of an answer whose body is not whole."""
        self._length: int | None = None
        self._chunked = self._last_chunk = False

    @property
    def begun(self) -> bool:
        return bool(self._bytes)

    def feed(self, data: bytes) -> None:
        """Raises ``MalformedError``, also for what is too long."""
        self._bytes += data
        if len(self._bytes) > ANSWER_BYTES_MAX:
            raise MalformedError(f"larger than {ANSWER_BYTES_MAX} bytes")
        while not self._coming and self._head():
            pass
        if self._coming:
            self._body()

    def end(self) -> None:
        """The other side sends no more. Raises ``MalformedError`` when something is missing."""
        if self.status is None:
            if not self._coming or self._chunked or self._length is not None:
                raise MalformedError("the answer was cut")
            self.status = self._coming

    def _head(self) -> bool:
        """Whether there was a whole one at ``_at``; an interim one is passed over."""
        ends = self._bytes.find(b"\n\r\n", self._at)
        if ends < 0:
            if len(self._bytes) - self._at >= 5 and not self._bytes.startswith(b"HTTP/", self._at):
                raise MalformedError("no HTTP")
            return False
        first = _STATUS.match(self._bytes, self._at)
        if first is None:
            raise MalformedError("the status line")
        found = self._headers(first.end(), ends + 1)
        self._at, status = ends + 3, int(first[2])
        if 100 <= status < 200 and status != 101:
            return True
        self._frame(status, found, late=first[1] == b"1")
        return False

    def _headers(self, at: int, end: int) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        while at < end:
            line = _HEADER.match(self._bytes, at, end)
            if line is None:
                raise MalformedError("a header")
            name, value, at = line[1].lower(), line[2].strip(b" \t").lower(), line.end()
            if name in _SEPARATE and found.setdefault(name, value) != value:
                raise MalformedError(f"two of {name.decode()}")
        return found

    def _frame(self, status: int, found: dict[bytes, bytes], *, late: bool) -> None:
        """``late``: of HTTP/1.1."""
        length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
        if coding not in (None, b"chunked") or (length is not None and (coding or not length.isdigit() or len(length) > 18)):
            raise MalformedError("its length")
        said = {token.strip() for token in found.get(b"connection", b"").split(b",")}
        self._coming, self._chunked = status, coding is not None
        self._length = 0 if status in (204, 304) else None if length is None else int(length)
        if status in (204, 304):
            self._chunked = False
        if (self._length or 0) > ANSWER_BYTES_MAX:
            raise MalformedError(f"larger than {ANSWER_BYTES_MAX} bytes")
        framed = self._chunked or self._length is not None
        self.keep = framed and b"close" not in said and (late or b"keep-alive" in said)

    def _body(self) -> None:
        if self._chunked:
            while not self._last_chunk and self._chunk():
                pass
            whole = self._last_chunk
        else:
            whole = self._length is not None and len(self._bytes) - self._at >= self._length
            self._at += (self._length or 0) if whole else 0
        if whole:
            self.status = self._coming
            self.keep = self.keep and len(self._bytes) == self._at  # more than one answer: nobody asked for it

    def _chunk(self) -> bool:
        """Whether there was a whole one at ``_at``."""
        head = _CHUNK.match(self._bytes, self._at)
        if head is None:
            if len(self._bytes) - self._at > _CHUNK_HEAD_MAX or b"\n" in self._bytes[self._at :]:
                raise MalformedError("a chunk")
            return False
        if head.end() - self._at > _CHUNK_HEAD_MAX:
            raise MalformedError("a chunk")  # as where it comes in pieces
        ends = head.end() + int(head[1], 16)
        if len(self._bytes) < ends + 2:
            return False
        if self._bytes[ends : ends + 2] != b"\r\n":  # trailers are nobody's: such a connection ends
            raise MalformedError("a chunk")
        self._at, self._last_chunk = ends + 2, head[1].strip(b"0") == b""
        return True


def is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
