"""Reads file_sd and http_sd lists: strict, whole or not at all, and an error names the entry.

Accepted as Prometheus accepts it: a list of ``{"targets": [...], "labels": {...}}`` in JSON or YAML (where every scalar is
a text, so ``rack: 12`` is "12"). A target is an address or, as for the blackbox exporter, a URL. Other keys, other types,
white space in a target and bad label names refuse the whole answer. ``null`` is an empty list. Labels that start with
``__`` are dropped unless Prometheus users rely on them: ``__scheme__``, ``__metrics_path__``, ``__param_*``,
``__scrape_*``, ``__meta_*`` (``failures.md`` A1).
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

TARGETS_MAX = 5_000_000
ADDRESS_MAX = 1024
YAML_INLINE_MAX = 32 * 1024
YAML_TIMEOUT_S = 120.0
_IPV6 = r"\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_HOST = r"[^\s/:?#\[\]\x00-\x20\x7f]+"
_SCHEME, _PORT, _REST = r"([a-z][a-z0-9+.-]*://)?", r"(:\d{1,5})?", r"([/?#][^\s\x00-\x20\x7f]*)?"
_ADDRESS = re.compile(f"{_SCHEME}({_IPV6}|{_HOST}){_PORT}{_REST}")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class _Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    targets: list[str]
    labels: dict[str, str] | None = None


_Shape = list[_Group] | None
_Raws = list[msgspec.Raw] | None
_group = msgspec.json.Decoder(_Group)


def from_json(text: bytes, where: str) -> Iterator[TargetGroup]:
    """``where`` names the file or URL in errors. Raises ``DiscoveryError``, also late: what came before is void then.

    Decoded group by group: one call for a long list would hold the interpreter, and with it the event loop.
    """
    try:
        raws = msgspec.json.decode(text, type=_Raws)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryError(f"{where}{_line_of(text, str(error))}: {error}") from error
    return _checked(_decoded(raws or [], where), where)


def _decoded(raws: list[msgspec.Raw], where: str) -> Iterator[_Group]:
    for i, raw in enumerate(raws):
        try:
            yield _group.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DiscoveryError(f"{where}: {_in_entry(i, str(error))}") from error


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
        raise DiscoveryError(f"{where}{error}") from error
    return from_value(value, where)


def _converted(text: bytes, where: str) -> bytes:
    """As JSON. Raises ``DiscoveryError``."""
    command = [sys.executable, "-P", "-m", "promring.discovery.yaml_worker"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=YAML_TIMEOUT_S, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DiscoveryError(f"{where}: not read: {error}") from error
    if done.returncode == BAD_YAML:
        raise DiscoveryError(f"{where}{done.stderr.decode('utf-8', 'replace').rstrip()}")
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1][:200]
        raise DiscoveryError(f"{where}: the process that reads it ended with status {done.returncode}: {last}")
    return done.stdout


def from_value(value: Any, where: str) -> Iterator[TargetGroup]:
    """From plain lists, dicts and texts."""
    try:
        decoded = msgspec.convert(value, type=_Shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DiscoveryError(f"{where}: {error}") from error
    return _checked(decoded or [], where)


def _line_of(text: bytes, message: str) -> str:
    """``:LINE`` when a JSON error tells a byte offset, or that the end is missing."""
    if "truncated" in message:
        line = text.rstrip().count(b"\n") + 1
        return f":{line}"
    found = re.search(r"\(byte (\d+)\)", message)
    if not found:
        return ""
    line = text[: int(found[1])].count(b"\n") + 1
    return f":{line}"


def _checked(groups: Iterable[_Group], where: str) -> Iterator[TargetGroup]:
    total = 0
    for i, group in enumerate(groups):
        total += len(group.targets)
        if total > TARGETS_MAX:
            raise DiscoveryError(f"{where}: more than {TARGETS_MAX} targets")
        for j, address in enumerate(group.targets):
            if len(address) > ADDRESS_MAX or not _ADDRESS.fullmatch(address):
                raise DiscoveryError(f"{where}: [{i}].targets[{j}]: {address[:80]!r} is not host, host:port or a URL")
        for name in group.labels or {}:
            if not _LABEL_NAME.fullmatch(name):
                raise DiscoveryError(f"{where}: [{i}].labels: {name[:80]!r} is not a label name")
        for name, value in (group.labels or {}).items():
            if "\0" in value:
                raise DiscoveryError(f"{where}: [{i}].labels.{name}: has a NUL")
        kept = [
            pair for pair in (group.labels or {}).items() if not pair[0].startswith("__") or KEPT_LABELS.fullmatch(pair[0])
        ]
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
