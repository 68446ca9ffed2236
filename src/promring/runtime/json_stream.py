"""Takes the entries of lists out of a JSON text that comes in pieces, so that nobody has to hold all of it.

For answers that are one object with one or two very long lists in it, known by their keys. The entries of a list are
handed out as bytes (``msgspec.Raw``), a piece's at a time; what stands around the lists is kept and given at the end, with
``[]`` in the place of each, so that it can be decoded as it would have been.

Promises: memory is the piece, the longest entry (``entry_bytes_max``) and what stands around (``around_bytes_max``); an
entry that is handed out is valid JSON. A list is recognised wherever its key stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

PIECE_BYTES = 1024 * 1024
ENTRY_BYTES_MAX = 8 * 1024 * 1024
AROUND_BYTES_MAX = 8 * 1024 * 1024
KEY_BYTES_MAX = 256
CUTS_TRIED = 16
_FIRST = re.compile(rb"[ \t\r\n]*+([^ \t\r\n])")
_AFTER = re.compile(rb"[ \t\r\n]*+([,\]])")
_BYTE = re.compile(r"\(byte (\d+)\)")
_Error = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


class StreamError(ValueError):
    """The text is no such JSON, or goes beyond a bound."""


class ListStream:
    """``keys``: of the lists."""

    def __init__(
        self,
        keys: Sequence[str],
        *,
        piece_bytes: int = PIECE_BYTES,
        entry_bytes_max: int = ENTRY_BYTES_MAX,
        around_bytes_max: int = AROUND_BYTES_MAX,
    ) -> None:
        names = "|".join(map(re.escape, keys))
        self._start = re.compile(rf'"({names})"[ \t\r\n]*+:[ \t\r\n]*+\['.encode())
        self._piece_bytes, self._entry_bytes_max = piece_bytes, entry_bytes_max
        self._around_bytes_max = around_bytes_max
        self._around = bytearray()
        self._buffer = b""
        self._key = ""
        """Of the list that the text is in; empty: in none."""
        self._fresh = False
        """Whether no entry of that list was there yet."""
        self._need = 0
        """So long the buffer has to be before it is looked at again."""

    def feed(self, data: bytes) -> Iterator[tuple[str, list[msgspec.Raw]]]:
        """The key of a list and some entries of it. Raises ``StreamError``, also late: what came before is void then."""
        self._buffer += data
        while len(self._buffer) >= max(self._need, self._piece_bytes if self._key else KEY_BYTES_MAX):
            found = self._step(last=False)
            if found is None:
                return
            if found[1]:
                yield found

    def end(self) -> Iterator[tuple[str, list[msgspec.Raw]]]:
        """As ``feed``, when the text is whole."""
        while (found := self._step(last=True)) is not None:
            if found[1]:
                yield found
        if self._key:
            raise StreamError(f"the list {self._key} is cut off")

    @property
    def around(self) -> bytes:
        """All but the entries, after ``end``."""
        return bytes(self._around)

    def _step(self, *, last: bool) -> tuple[str, list[msgspec.Raw]] | None:
        """Some entries, maybe none; None when more text is needed."""
        return self._entries(last=last) if self._key else self._look_for_a_list(last=last)

    def _look_for_a_list(self, *, last: bool) -> tuple[str, list[msgspec.Raw]] | None:
        found = self._start.search(self._buffer)
        if found is not None:
            at = found.end()
            self._key, self._fresh = found[1].decode(), True
        else:
            at = len(self._buffer) if last else max(0, len(self._buffer) - KEY_BYTES_MAX)
        self._around += self._buffer[:at]
        self._buffer = self._buffer[at:]
        if len(self._around) > self._around_bytes_max:
            raise StreamError(f"more than {self._around_bytes_max} bytes around the lists")
        self._need = 0 if found else len(self._buffer) + 1
        return (self._key, []) if found else None

    def _entries(self, *, last: bool) -> tuple[str, list[msgspec.Raw]] | None:
        first = _FIRST.match(self._buffer)
        if first is None:
            return None
        if first[1] == b"]" and self._fresh:
            return self._ended(first.start(1), [])
        if first[1] != b"{":
            raise StreamError(f"an entry of {self._key} that is not an object")
        for end, after in self._cuts():
            text = b"[" + self._buffer[:end] + b"]"
            try:
                raws = _decode(text)
            except _Error as error:
                ends_at = _list_ends_at(text, str(error))
                if ends_at is not None:
                    return self._ended(ends_at - 1, self._decoded(text[: ends_at + 1]))
                if _misses_the_end(text, str(error)):
                    continue
                raise StreamError(" ".join(str(error).split())[:200]) from None
            if self._buffer[after : after + 1] == b"]":
                return self._ended(after, raws)
            self._buffer, self._fresh, self._need = self._buffer[after + 1 :], False, 0
            return self._key, raws
        if len(self._buffer) > self._entry_bytes_max:
            raise StreamError(f"no entry of {self._key} ends within {self._entry_bytes_max} bytes")
        self._need = 2 * len(self._buffer)
        return None

    def _decoded(self, text: bytes) -> list[msgspec.Raw]:
        try:
            return _decode(text)
        except _Error as error:
            raise StreamError(" ".join(str(error).split())[:200]) from None

    def _ended(self, at: int, raws: list[msgspec.Raw]) -> tuple[str, list[msgspec.Raw]]:
        """The list's ``]`` is at ``at``."""
        key, self._key = self._key, ""
        self._buffer, self._need = self._buffer[at:], 0
        return key, raws

    def _cuts(self) -> Iterator[tuple[int, int]]:
        """Where an entry may end, and where its comma or bracket is; the last first."""
        end = len(self._buffer)
        for _ in range(CUTS_TRIED):
            end = self._buffer.rfind(b"}", 0, end)
            if end < 0:
                return
            if (found := _AFTER.match(self._buffer, end + 1)) is not None:
                yield end + 1, found.start(1)


def _list_ends_at(text: bytes, message: str) -> int | None:
    """Where the list of ``text`` ends, when the decoder found that something comes after it."""
    if "trailing characters" not in message or not (found := _BYTE.search(message)):
        return None
    at = text.rfind(b"]", 0, int(found[1]))
    return at if at > 0 else None


def _misses_the_end(text: bytes, message: str) -> bool:
    found = _BYTE.search(message)
    return int(found[1]) == len(text) - 1 if found else "truncated" in message
