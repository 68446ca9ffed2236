"""Reads file_sd and http_sd lists: strict, whole or not at all, and an error names the entry.

Accepted as Prometheus accepts it: a list of ``{"targets": [...], "labels": {...}}`` in JSON or YAML (where every scalar is
a text, so ``rack: 12`` is "12"). A target is an address or, as for the blackbox exporter, a URL. Other keys, other types,
white space in a target and bad label names refuse the whole answer. ``null`` is an empty list. Labels that start with
``__`` are dropped unless Prometheus users rely on them: ``__scheme__``, ``__metrics_path__``, ``__param_*``,
``__scrape_*``, ``__meta_*`` (``failures.md`` A1).

Memory is bounded, whatever the answer: how many targets and labels, how long each, how long all with their labels; a long
JSON list is decoded in pieces, a long YAML list in a process that may not grow beyond ``memory.BYTES_MAX``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import xxhash

from promring.core.pool import KEPT_LABELS, pool_of
from promring.discovery.yaml_worker import BAD_YAML, YamlError, load_yaml
from promring.model import DiscoveryError, TargetGroup, TargetPool
from promring.threads import beside

TARGETS_MAX = 5_000_000
ADDRESS_MAX = 1024
LABELS_MAX = 1024
LABEL_NAME_MAX = 1024
LABEL_VALUE_MAX = 256 * 1024
"""As long as all annotations of a Kubernetes object may be together."""
EXPANDED_MAX = 2 * 1024**3
"""Characters of all labels, repeated for each target of their group: else a list becomes the square of its size."""
PIECE_BYTES = 1024 * 1024
ENTRY_BYTES_MAX = 64 * 1024 * 1024
YAML_INLINE_MAX = 32 * 1024
YAML_TIMEOUT_S = 120.0
_IPV6 = r"\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_HOST = r"[^\s/:?#\[\]\x00-\x20\x7f]+"
_SCHEME, _PORT, _REST = r"([a-z][a-z0-9+.-]*://)?", r"(:\d{1,5})?", r"([/?#][^\s\x00-\x20\x7f]*)?"
_ADDRESS = re.compile(f"{_SCHEME}({_IPV6}|{_HOST}){_PORT}{_REST}")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LIST = re.compile(rb"[ \t\r\n]*\[")
_COMMA = re.compile(rb"[ \t\r\n]*,")
_BYTE = re.compile(r"\(byte (\d+)\)")
_CUTS_TRIED = 16
_SAID_MAX = 300


class _Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    targets: list[str]
    labels: dict[str, str] | None = None


_Shape = list[_Group] | None
_Raws = list[msgspec.Raw] | None
_group = msgspec.json.Decoder(_Group)


def from_json(text: bytes, where: str, piece_bytes: int = PIECE_BYTES) -> Iterator[TargetGroup]:
    """``where`` names the file or URL in errors. Raises ``DiscoveryError``, also late: what came before is void then.

    Decoded group by group: one call for a long list would hold the interpreter, and with it the event loop.
    """
    if len(text) > piece_bytes and _LIST.match(text):
        return _checked(_decoded(_pieces(text, where, piece_bytes), where), where)
    return _checked(_decoded(_entries(text, text, 0, where), where), where)


def _entries(piece: bytes, text: bytes, start: int, where: str) -> list[msgspec.Raw]:
    """The entries of ``piece``, a list whose first byte is at ``start`` in ``text``. Raises ``DiscoveryError``."""
    try:
        return msgspec.json.decode(piece, type=_Raws) or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = _BYTE.sub(lambda found: f"(byte {int(found[1]) + start})", _said(error))
        raise DiscoveryError(f"{where}{_line_of(text, said)}: {said}") from error


def _pieces(text: bytes, where: str, piece_bytes: int) -> Iterator[msgspec.Raw]:
    """The entries of a long list, a piece at a time: undecoded entries of all of it would take 30 times its size.

    A piece ends where an entry may end. When it did not, the decoder misses the end of a value just there, and an earlier
    end is tried, then a longer piece.
    """
    start, long = text.index(b"[") + 1, piece_bytes
    while start + long < len(text):
        for end in _cuts(text, start, start + long):
            piece = b"[" + text[start:end] + b"]"
            try:
                yield from msgspec.json.decode(piece, type=list[msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if not _misses_the_end(piece, str(error)):
                    _entries(piece, text, start - 1, where)
                continue
            start, long = text.index(b",", end) + 1, piece_bytes
            break
        else:
            long *= 2
            if long > ENTRY_BYTES_MAX:
                raise DiscoveryError(f"{where}{_line_at(text, start)}: no group ends within {ENTRY_BYTES_MAX} bytes")
    last = _entries(b"[" + text[start:], text, start - 1, where)
    if not last and text[start - 1 : start] == b",":
        raise DiscoveryError(f"{where}{_line_at(text, start)}: JSON is malformed: trailing comma in array (byte {start})")
    yield from last


def _cuts(text: bytes, start: int, end: int) -> Iterator[int]:
    """Where an entry may end, the last first."""
    for _ in range(_CUTS_TRIED):
        end = text.rfind(b"}", start, end)
        if end < 0:
            return
        if _COMMA.match(text, end + 1):
            yield end + 1


def _misses_the_end(piece: bytes, message: str) -> bool:
    found = _BYTE.search(message)
    return int(found[1]) == len(piece) - 1 if found else "truncated" in message


def _decoded(raws: Iterable[msgspec.Raw], where: str) -> Iterator[_Group]:
    for i, raw in enumerate(raws):
        try:
            yield _group.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DiscoveryError(f"{where}: {_in_entry(i, _said(error))}") from error


def _said(error: Exception | str) -> str:
    """On one line, and not long: messages repeat what they were fed."""
    text = str(error).strip()
    if len(text) > _SAID_MAX:
        text = f"{text[: _SAID_MAX // 2]} ... {text[-_SAID_MAX // 2 :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _in_entry(i: int, message: str) -> str:
    """A message about one entry as one about the whole list: ``$.targets`` → ``$[3].targets``."""
    return message.replace("`$", f"`$[{i}]", 1) if "`$" in message else f"{message} - at `$[{i}]`"


def from_yaml(text: bytes, where: str) -> Iterator[TargetGroup]:
    """A long list is read in a process of its own: PyYAML holds the interpreter from the first byte to the last."""
    if len(text) > YAML_INLINE_MAX:
        return from_json(_converted(text, where), where)
    try:
        value = load_yaml(text)
    except YamlError as error:
        raise DiscoveryError(f"{where}{_said(error)}") from error
    return from_value(value, where)


def _converted(text: bytes, where: str) -> bytes:
    """As JSON. Raises ``DiscoveryError``."""
    command = [sys.executable, "-P", "-m", "promring.discovery.yaml_worker"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=YAML_TIMEOUT_S, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DiscoveryError(f"{where}: not read: {error}") from error
    if done.returncode == BAD_YAML:
        raise DiscoveryError(f"{where}{_said(done.stderr.decode('utf-8', 'replace'))}")
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1][:200]
        raise DiscoveryError(f"{where}: the process that reads it ended with status {done.returncode}: {last}")
    return done.stdout


def from_value(value: Any, where: str) -> Iterator[TargetGroup]:
    """From plain lists, dicts and texts."""
    try:
        decoded = msgspec.convert(value, type=_Shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DiscoveryError(f"{where}: {_said(error)}") from error
    return _checked(decoded or [], where)


def _line_of(text: bytes, message: str) -> str:
    """``:LINE`` when a JSON error tells a byte offset, or that the end is missing."""
    if "truncated" in message:
        return _line_at(text.rstrip(), len(text))
    found = _BYTE.search(message)
    return _line_at(text, int(found[1])) if found else ""


def _line_at(text: bytes, byte: int) -> str:
    line = text.count(b"\n", 0, byte) + 1
    return f":{line}"


def _checked(groups: Iterable[_Group], where: str) -> Iterator[TargetGroup]:
    total = expanded = 0
    for i, group in enumerate(groups):
        labels = group.labels or {}
        total += len(group.targets)
        if max(total, i) > TARGETS_MAX:
            raise DiscoveryError(f"{where}: more than {TARGETS_MAX} targets or groups")
        if len(labels) > LABELS_MAX:
            raise DiscoveryError(f"{where}: [{i}].labels: more than {LABELS_MAX}")
        for j, address in enumerate(group.targets):
            if len(address) > ADDRESS_MAX or not _ADDRESS.fullmatch(address):
                raise DiscoveryError(f"{where}: [{i}].targets[{j}]: {address[:80]!r} is not host, host:port or a URL")
        each = 0
        for name, value in labels.items():
            each += len(name) + len(value)
            if len(name) > LABEL_NAME_MAX or not _LABEL_NAME.fullmatch(name):
                raise DiscoveryError(f"{where}: [{i}].labels: {name[:80]!r} is not a label name")
            if len(value) > LABEL_VALUE_MAX:
                raise DiscoveryError(f"{where}: [{i}].labels.{name}: longer than {LABEL_VALUE_MAX}")
            if "\0" in value:
                raise DiscoveryError(f"{where}: [{i}].labels.{name}: has a NUL")
        expanded += each * len(group.targets)
        if expanded > EXPANDED_MAX:
            raise DiscoveryError(f"{where}: [{i}]: the labels, repeated for each target, are longer than {EXPANDED_MAX}")
        kept = [pair for pair in labels.items() if not pair[0].startswith("__") or KEPT_LABELS.fullmatch(pair[0])]
        yield TargetGroup(tuple(group.targets), tuple(sorted(kept)))


class Reader:
    """Reads one list again and again: the same bytes give the same object, so nothing is computed from it again."""

    def __init__(self, parse: Callable[[bytes, str], Iterable[TargetGroup]] = from_json) -> None:
        self._parse = parse
        self._last: tuple[str, TargetPool] | None = None

    def read(self, text: bytes, where: str) -> TargetPool:
        """Raises ``DiscoveryError``."""
        digest = xxhash.xxh3_128_hexdigest(text)
        if self._last is None or self._last[0] != digest:
            self._last = digest, pool_of(self._parse(text, where))
        return self._last[1]

    async def read_beside(self, text: bytes, where: str) -> TargetPool:
        """``read`` beside the event loop. Raises ``DiscoveryError``, made here: one that crosses from a thread is in a cycle
        with its frames, and they would keep ``text`` until the garbage collector comes, which is rarely.
        """

        def work() -> TargetPool | str:
            try:
                return self.read(text, where)
            except DiscoveryError as error:
                return str(error)

        answer = await beside(work)
        if isinstance(answer, str):
            raise DiscoveryError(answer)
        return answer
