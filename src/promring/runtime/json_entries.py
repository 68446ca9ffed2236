"""Finds the entries of a long JSON list one by one, so that nobody has to decode all of it at once.

A decoder that is given the whole text makes objects of up to 85 times its size, and holds the interpreter until it is done.
This scan makes no objects: it gives the bytes of each entry, and its caller decodes one entry at a time.

Promises: memory beside the text is one entry; an entry is an object, at most ``entry_bytes_max`` long and nested at most
``DEPTH_MAX`` deep; at most ``entries_max`` entries are given. Does not promise that an entry is valid JSON: decode it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

DEPTH_MAX = 16

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WHITE = re.compile(rb"[ \t\r\n]*+")


def _object() -> bytes:
    inner = rb'[^"{}\[\]]++|' + _STRING
    found = rb"[{\[](?>" + inner + rb")*+[}\]]"
    for _ in range(DEPTH_MAX - 1):
        found = rb"[{\[](?>" + inner + rb"|" + found + rb")*+[}\]]"
    return found


_ENTRY = re.compile(_object(), re.DOTALL)


class ListError(ValueError):
    """The text is no such list, or goes beyond a bound. ``at`` is the byte."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(f"{what} (byte {at})")
        self.at = at


class Entries:
    """Iterate over the entries of the list whose ``[`` is at ``start``. ``end`` is the byte after its ``]``, once all
    are given.
    """

    def __init__(self, text: bytes, start: int, *, entry_bytes_max: int, entries_max: int) -> None:
        self._text, self._start = text, start
        self._entry_bytes_max, self._entries_max = entry_bytes_max, entries_max
        self.end = -1

    def __iter__(self) -> Iterator[bytes]:
        """Raises ``ListError``, also late: what came before is void then."""
        text, at, count = self._text, self._skip(self._start + 1), 0
        if text[at : at + 1] == b"]":
            self.end = at + 1
            return
        while True:
            found = _ENTRY.match(text, at, min(len(text), at + self._entry_bytes_max))
            if found is None:
                raise ListError(self._why_not(at), at)
            count += 1
            if count > self._entries_max:
                raise ListError(f"more than {self._entries_max} entries", at)
            yield found[0]
            at = self._skip(found.end())
            after = text[at : at + 1]
            if after == b"]":
                self.end = at + 1
                return
            if after != b",":
                raise ListError("the list does not go on with a comma or its end", at)
            at = self._skip(at + 1)

    def _skip(self, at: int) -> int:
        found = _WHITE.match(self._text, at)
        return found.end() if found else at

    def _why_not(self, at: int) -> str:
        if self._text[at : at + 1] != b"{":
            return "an entry that is not an object"
        return f"an entry that is cut, longer than {self._entry_bytes_max} bytes, or nested deeper than {DEPTH_MAX}"
