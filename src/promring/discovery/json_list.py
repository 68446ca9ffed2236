"""Reads a target list in JSON as Prometheus does, group by group.

Prometheus decodes with Go's ``encoding/json``: keys match whatever their case, the last of two equal keys counts, null is
the empty text, half a surrogate pair or a byte that is no UTF-8 is U+FFFD. A group that msgspec does not take at once is
read again by those rules; what Prometheus refuses is refused, and the group, key and value are named.

Memory is bounded: a long list is decoded in pieces, since undecoded entries of all of it would take 30 times its size, and
one call for a long list would hold the interpreter, and with it the event loop.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, NoReturn, TypeVar

import msgspec

from promring.model import DiscoveryError
from promring.runtime.text import printable

PIECE_BYTES = 1024 * 1024
ENTRY_BYTES_MAX = 64 * 1024 * 1024
_LIST = re.compile(rb"[ \t\r\n]*\[")
_FIRST = re.compile(rb"[ \t\r\n]*([^ \t\r\n])")
_COMMA = re.compile(rb"[ \t\r\n]*,")
_BYTE = re.compile(r"\(byte (\d+)\)")
_MAYBE_LONE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_REPAIRED_MAX = 2 * PIECE_BYTES
"""Bytes of a piece that may end too early and is repaired to find out."""
_CUTS_TRIED = 16
_SAID_MAX = 300
REPLACE = "promring-replace"
codecs.register_error(REPLACE, lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One group as it is listed: null targets and label values are the empty text."""

    targets: list[str | None] | None = None
    labels: dict[str, str | None] | None = None


_Raws = list[msgspec.Raw] | None
_group = msgspec.json.Decoder(Group)
_groups = msgspec.json.Decoder(list[Group])
_Error = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


Many = TypeVar("Many", bound=Sized)


def groups_at_once(piece: bytes) -> Sequence[Group] | None:
    """The groups of a list; None when one of them has to be read by itself, or the list is malformed."""
    try:
        return _groups.decode(piece)
    except _Error:
        return None


def read_json(text: bytes, where: str, piece_bytes: int = PIECE_BYTES) -> Iterator[Group]:
    """``where`` names the file or URL in errors. Raises ``DiscoveryError``, also late: what came before is void then."""
    return read_pieces(text, where, groups_at_once, piece_bytes)


def read_pieces(
    text: bytes,
    where: str,
    at_once: Callable[[bytes], Sequence[Group | Many] | None],
    piece_bytes: int = PIECE_BYTES,
    *,
    written: bool = True,
) -> Iterator[Group | Many]:
    """As ``read_json``. ``at_once``: reads a piece of the list, which may be all of it; None: it has to be read group by
    group. Not ``written``: it was made of YAML, where a label may have an empty name.
    """
    if len(text) > piece_bytes and _LIST.match(text):
        found: Iterable[msgspec.Raw | Group | Many] = _pieces(text, where, at_once, piece_bytes)
    else:
        found = at_once(text) or _entries(text, text, 0, where)
    return _decoded(found, where, written=written)


def _decoded(found: Iterable[msgspec.Raw | Group | Many], where: str, *, written: bool) -> Iterator[Group | Many]:
    i = 0
    for one in found:
        if not isinstance(one, msgspec.Raw | Group):
            yield one
            i += len(one)
            continue
        group = one if isinstance(one, Group) else _alone(one, f"{where}: [{i}]")
        if written and group.labels and "" in group.labels:
            raise DiscoveryError(f"{where}: [{i}].labels: '' is not a label name")
        yield group
        i += 1


def _alone(raw: msgspec.Raw, where: str) -> Group:
    try:
        return _group.decode(raw)
    except _Error:
        return _as_prometheus(bytes(raw), where)


# --- the entries of a list -------------------------------------------------------------------------------------------


def _entries(piece: bytes, text: bytes, start: int, where: str) -> list[msgspec.Raw]:
    """The entries of ``piece``, a list whose first byte is at ``start`` in ``text``. Raises ``DiscoveryError``."""
    try:
        return msgspec.json.decode(piece, type=_Raws) or []
    except _Error as error:
        if (repaired := _repaired(piece)) is not None:
            return _entries(repaired, text, start, where)
        said = _BYTE.sub(lambda found: f"(byte {int(found[1]) + start})", on_one_line(error))
        if text.startswith(codecs.BOM_UTF8):
            raise DiscoveryError(f"{where}:1: begins with a byte order mark, which is no JSON for Prometheus") from error
        raise DiscoveryError(f"{where}{_line_of(text, said)}: {said}") from error


def _pieces(
    text: bytes, where: str, at_once: Callable[[bytes], Sequence[Group | Many] | None], piece_bytes: int
) -> Iterator[msgspec.Raw | Group | Many]:
    """The entries of a long list, a piece at a time; decoded already where all of a piece can be at once.

    A piece ends where an entry may end. When it did not, the decoder misses the end of a value just there, and an earlier
    end is tried, then a longer piece.
    """
    start, long = text.index(b"[") + 1, piece_bytes
    while start + long < len(text):
        if (first := _FIRST.match(text, start)) and first[1] not in b"{]":
            raise DiscoveryError(f"{where}{_line_at(text, first.start(1))}: a group that is not an object")
        for end in _cuts(text, start, start + long):
            piece = b"[" + text[start:end] + b"]"
            try:
                yield from at_once(piece) or msgspec.json.decode(piece, type=list[msgspec.Raw])
            except _Error as error:
                if _misses_the_end(piece, error):
                    continue
                yield from _entries(piece, text, start - 1, where)
            start, long = text.index(b",", end) + 1, piece_bytes
            break
        else:
            long *= 2
            if long > ENTRY_BYTES_MAX:
                raise DiscoveryError(f"{where}{_line_at(text, start)}: no group ends within {ENTRY_BYTES_MAX} bytes")
    piece = b"[" + text[start:]
    last = at_once(piece) or _entries(piece, text, start - 1, where)
    if not last and text[start - 1 : start] == b",":
        raise DiscoveryError(f"{where}{_line_at(text, start)}: JSON is malformed: trailing comma in array (byte {start})")
    yield from last


def _repaired(piece: bytes) -> bytes | None:
    """``piece``, of the same length, as Go's decoder reads it: half a surrogate pair is U+FFFD. None when that changes
    nothing. A backslash in it begins an escape.
    """
    if not _MAYBE_LONE.search(piece):
        return None
    repaired = _ESCAPE.sub(lambda found: b"\\ufffd" if found["lone"] else found[0], piece)
    return None if repaired == piece else repaired


def _cuts(text: bytes, start: int, end: int) -> Iterator[int]:
    """Where an entry may end, the last first."""
    for _ in range(_CUTS_TRIED):
        end = text.rfind(b"}", start, end)
        if end < 0:
            return
        if _COMMA.match(text, end + 1):
            yield end + 1


def _misses_the_end(piece: bytes, error: Exception) -> bool:
    """Whether that is all that is wrong. Half a surrogate pair, which is no fault, may be told before it."""
    if len(piece) <= _REPAIRED_MAX and (repaired := _repaired(piece)) is not None:
        try:
            msgspec.json.decode(repaired, type=_Raws)
        except _Error as another:
            error = another
        else:
            return False
    found = _BYTE.search(str(error))
    return int(found[1]) == len(piece) - 1 if found else "truncated" in str(error)


def _line_of(text: bytes, message: str) -> str:
    """``:LINE`` when a JSON error tells a byte offset, or that the end is missing."""
    if "truncated" in message:
        return _line_at(text.rstrip(), len(text))
    found = _BYTE.search(message)
    return _line_at(text, int(found[1])) if found else ""


def _line_at(text: bytes, byte: int) -> str:
    line = text.count(b"\n", 0, byte) + 1
    return f":{line}"


def on_one_line(error: Exception | str) -> str:
    """A message on one line, and not long: messages repeat what they were fed."""
    text = str(error).strip()
    if len(text) > _SAID_MAX:
        text = f"{text[: _SAID_MAX // 2]} ... {text[-_SAID_MAX // 2 :]}"
    return printable(text)


# --- one group, as Go reads it ---------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, Any]]):
    """An object, its keys in order, repeated ones too."""


class _Number(str):
    """A number as it is written."""


def _as_prometheus(raw: bytes, where: str) -> Group:
    """Raises ``DiscoveryError`` that names the key or value."""
    text = raw.decode("utf-8", REPLACE)
    try:
        value = json.loads(
            text, object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_int=_Number, parse_float=_Number
        )
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"{where}: {on_one_line(error)}") from error
    if not isinstance(value, _Pairs):
        raise DiscoveryError(f"{where}: {_kind(value)}, must be an object with targets and labels")
    targets: list[str | None] | None = None
    labels: dict[str, str | None] | None = None
    for key, found in value:
        folded = key.casefold()
        if folded == "targets":
            targets = _targets(found, f"{where}.{key}")
        elif folded == "labels":
            labels = _labels(found, f"{where}.{key}")
        else:
            raise DiscoveryError(f"{where}: unknown key {key[:80]!r}, there is targets and labels")
    return Group(targets, labels)


def _targets(value: Any, where: str) -> list[str | None] | None:
    if value is not None and (not isinstance(value, list) or isinstance(value, _Pairs)):
        raise DiscoveryError(f"{where}: {_kind(value)}, must be a list")
    for j, one in enumerate(value or ()):
        if not _is_text(one):
            raise DiscoveryError(f"{where}[{j}]: {_kind(one)}, must be a text")
    return value


def _labels(value: Any, where: str) -> dict[str, str | None] | None:
    if value is not None and not isinstance(value, _Pairs):
        raise DiscoveryError(f"{where}: {_kind(value)}, must be an object")
    for name, one in value or ():
        if not _is_text(one):
            raise DiscoveryError(f"{where}: {name[:80]!r} is {_kind(one)}, must be a text")
    return None if value is None else dict(value)


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not isinstance(value, _Number))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Number):
        return f"the number {value[:40]}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "an object" if isinstance(value, _Pairs) else "a list"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
