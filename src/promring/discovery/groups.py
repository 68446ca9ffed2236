"""Reads file_sd and http_sd lists: strict, whole or not at all, and an error names the entry.

Accepted as Prometheus accepts it: a list of ``{"targets": [...], "labels": {...}}`` in JSON or YAML. Other keys, other
types, bad addresses and bad label names refuse the whole answer. ``null`` is an empty list. Labels that start with ``__``
are dropped unless Prometheus users rely on them: ``__scheme__``, ``__metrics_path__``, ``__param_*``, ``__scrape_*``,
``__meta_*`` (``failures.md`` A1).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from promring.model import DiscoveryError, Groups, TargetGroup

TARGETS_MAX = 5_000_000
ADDRESS_MAX = 1024
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/:\[\]\x00-\x1f]+)(:\d{1,5})?")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_KEPT = re.compile(r"__scheme__|__metrics_path__|__(param|scrape|meta)_.*")

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    targets: list[str]
    labels: dict[str, str] | None = None


_Shape = list[_Group] | None


def from_json(text: bytes, where: str) -> Groups:
    """``where`` names the file or URL in errors. Raises ``DiscoveryError``."""
    try:
        decoded = msgspec.json.decode(text, type=_Shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryError(f"{where}{_line_of(text, str(error))}: {error}") from error
    return _checked(decoded or [], where)


def from_yaml(text: bytes, where: str) -> Groups:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_SafeLoader)):
            raise DiscoveryError(f"{where}: YAML aliases are not allowed")
        value = yaml.load(text, Loader=_SafeLoader)  # noqa: S506 - a safe loader, by its C name
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DiscoveryError(f"{where}:{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DiscoveryError(f"{where}: {' '.join(str(error).split())}") from error
    return from_value(value, where)


def from_value(value: Any, where: str) -> Groups:
    """From plain lists and dicts."""
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


def _checked(groups: list[_Group], where: str) -> Groups:
    total = 0
    result = []
    for i, group in enumerate(groups):
        total += len(group.targets)
        if total > TARGETS_MAX:
            raise DiscoveryError(f"{where}: more than {TARGETS_MAX} targets")
        for j, address in enumerate(group.targets):
            if len(address) > ADDRESS_MAX or not _ADDRESS.fullmatch(address):
                raise DiscoveryError(f"{where}: [{i}].targets[{j}]: {address[:80]!r} is not host or host:port")
        for name in group.labels or {}:
            if not _LABEL_NAME.fullmatch(name):
                raise DiscoveryError(f"{where}: [{i}].labels: {name[:80]!r} is not a label name")
        labels = {n: v for n, v in (group.labels or {}).items() if not n.startswith("__") or _KEPT.fullmatch(n)}
        result.append(TargetGroup.of(group.targets, labels))
    return tuple(result)
