"""Reads a target list in YAML as Prometheus does, from parser events: no object of the list's choice is ever made.

Prometheus decodes with go-yaml, strict: the first document only, every scalar into a text as it is written, null is the
empty text, a key that is there twice refuses the list, also one that a merge (``<<``) brings. Aliases work; what they repeat
counts towards the limits of ``groups``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from promring.discovery.go_yaml import NULLS, NULLS_DECODED, StandIns, TagNotEnded, fits
from promring.discovery.json_list import REPLACE, Group

DEPTH_MAX = 32
MERGED_MAX = 1_000_000
"""Keys that merges may bring in one list."""
_YAML_ORG = "tag:yaml.org,2002:"
_CHECKED = frozenset(("int", "float", "bool", "null", "timestamp"))
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_Loader = getattr(yaml, "CLoader", yaml.Loader)  # its parser only: nothing is constructed


class YamlError(Exception):
    """What is wrong with the text: ``:LINE: what``, or ``: what``."""

    @classmethod
    def at(cls, line: int, what: str) -> YamlError:
        return cls(f":{line}: {what}")


@dataclass(slots=True)
class _Node:
    """A value: a text, None (null), a list of nodes, or a mapping as key, value, key, value, ..."""

    line: int
    kind: str
    """``scalar``, ``list`` or ``mapping``."""
    text: str | None = None
    children: list[_Node] = field(default_factory=list)
    merges: bool = False
    """A key that merges its value."""
    complete: bool = True
    flow: bool = False
    """A list or mapping in brackets."""
    decoded: bool = False
    """A null written as ``Null`` or ``NULL``: the only nulls that go-yaml hands to the decoder of a group or label name."""
    alias: bool = False
    """Written elsewhere."""


def read_yaml(text: bytes) -> list[Group]:
    """Raises ``YamlError``."""
    try:
        node = _repaired(StandIns(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError.at(line, str(error.problem or error.context)) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise YamlError(f": {' '.join(str(error).split())}") from error
    if node is None or _is_null(node):
        return []
    if node.kind != "list":
        raise YamlError.at(node.line, f"{_said(node)}, must be a list of groups")
    budget = _Budget()
    return [_group(child, budget) for child in node.children]


# --- from events to nodes --------------------------------------------------------------------------------------------


def _repaired(stand_ins: StandIns) -> _Node | None:
    while True:
        try:
            return _first_document(stand_ins)
        except TagNotEnded:
            continue
        except yaml.MarkedYAMLError as error:
            if not stand_ins.repair(error):
                raise


def _first_document(stand_ins: StandIns) -> _Node | None:
    anchors: dict[str, _Node] = {}
    open_nodes: list[_Node] = []
    root: _Node | None = None
    for event in _events(stand_ins.text):
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_nodes.pop().complete = True
            continue
        if isinstance(event, yaml.ScalarEvent):
            if event.style == '"' and stand_ins.escapes_slash(event):
                raise YamlError.at(_line(event), "found unknown escape character '/'")
            event.value = stand_ins.restored(event.value, event.style)
        in_flow = bool(open_nodes) and open_nodes[-1].flow
        if in_flow and isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            stand_ins.end_tag(event)
        node = _node(event, anchors, in_flow=in_flow)
        if open_nodes:
            open_nodes[-1].children.append(node)
        else:
            root = node
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            open_nodes.append(node)
            if len(open_nodes) > DEPTH_MAX:
                raise YamlError.at(node.line, f"nested deeper than {DEPTH_MAX}")
    return root


def _events(text: bytes) -> Iterator[Any]:
    """Of the first document; what follows it is not even parsed."""
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 1)):
            raise YamlError.at(1, "found incompatible YAML document")
        if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent | yaml.StreamEndEvent):
            yield event


def _node(event: Any, anchors: dict[str, _Node], *, in_flow: bool) -> _Node:
    line = _line(event)
    if isinstance(event, yaml.AliasEvent):
        known = anchors.get(str(event.anchor))
        if known is None:
            raise YamlError.at(line, f"unknown anchor {event.anchor!r} referenced")
        if not known.complete:
            raise YamlError.at(line, f"anchor {event.anchor!r} value contains itself")
        return replace(known, alias=True)
    if isinstance(event, yaml.ScalarEvent):
        if in_flow and not event.style and "?" in event.value:
            raise YamlError.at(line, f"a question mark in brackets needs quotes: {event.value[:80]!r}")
        node = _scalar(event, line)
    else:
        kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
        node = _Node(line, kind, complete=False, flow=bool(event.flow_style))
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _line(event: Any) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: Any, line: int) -> _Node:
    text, tag = event.value, event.tag or "!"
    if tag == "!":
        if event.tag is None and event.implicit[0] and text in NULLS:
            return _Node(line, "scalar", decoded=text in NULLS_DECODED)
        return _Node(line, "scalar", text, merges=event.implicit[0] and text == "<<")
    kind = tag.removeprefix(_YAML_ORG)
    if kind in _CHECKED and not fits(kind, text):
        raise YamlError.at(line, f"cannot decode {text[:40]!r} as a !!{kind}")
    if kind == "null":
        return _Node(line, "scalar")
    if kind == "binary":
        text = text.replace("\n", "").replace("\r", "")
        if not _BASE64.fullmatch(text):
            raise YamlError.at(line, "!!binary value contains invalid base64 data")
        text = base64.b64decode(text).decode("utf-8", REPLACE)
    return _Node(line, "scalar", text, merges=kind == "merge" and text == "<<")


def _is_null(node: _Node) -> bool:
    return node.kind == "scalar" and node.text is None


def _said(node: _Node) -> str:
    if node.kind == "scalar":
        return "null" if node.text is None else f"the text {node.text[:40]!r}"
    return f"a {node.kind}"


# --- from nodes to groups --------------------------------------------------------------------------------------------


class _Budget:
    """How many keys merges may still bring."""

    def __init__(self) -> None:
        self._left = MERGED_MAX

    def take(self, number: int, line: int) -> None:
        self._left -= number
        if self._left < 0:
            raise YamlError.at(line, f"merges bring more than {MERGED_MAX} keys")


class _Draft:
    """A group while its keys are read: go-yaml decodes a merged mapping into the same struct, one key after the other."""

    def __init__(self) -> None:
        self.targets: list[str | None] | None = None
        self.labels: dict[str, str | None] | None = None


def _group(node: _Node, budget: _Budget) -> Group:
    if node.decoded:
        return Group(None, None)
    if node.kind != "mapping":
        raise YamlError.at(node.line, f"{_said(node)}, must be a mapping with targets and labels")
    draft = _Draft()
    _into_group(node, draft, budget)
    return Group(draft.targets, draft.labels)


def _into_group(node: _Node, draft: _Draft, budget: _Budget) -> None:
    done: set[str] = set()
    for key, value in _pairs(node):
        if key.merges:
            for merged in reversed(_merged(value)):  # the earlier ones take precedence
                budget.take(len(merged.children) // 2, key.line)
                _into_group(merged, draft, budget)
            continue
        name = _key(key)
        if name not in ("targets", "labels"):
            raise YamlError.at(key.line, f"unknown key {name[:80]!r}, there is targets and labels")
        if name in done:
            raise YamlError.at(key.line, f"duplicate key {name!r}")
        done.add(name)
        if name == "targets":
            draft.targets = _targets(value)
        elif _is_null(value):
            draft.labels = None
        else:
            draft.labels = {**(draft.labels or {})}
            _into_labels(value, draft.labels, budget)


def _targets(node: _Node) -> list[str | None] | None:
    if _is_null(node):
        return None
    if node.kind != "list":
        raise YamlError.at(node.line, f"targets: {_said(node)}, must be a list")
    for j, child in enumerate(node.children):
        if child.kind != "scalar":
            raise YamlError.at(child.line, f"targets[{j}]: {_said(child)}, must be a text")
    return [child.text for child in node.children]


def _into_labels(node: _Node, labels: dict[str, str | None], budget: _Budget) -> None:
    if node.kind != "mapping":
        raise YamlError.at(node.line, f"labels: {_said(node)}, must be a mapping")
    for key, value in _pairs(node):
        if key.merges:
            for merged in _merged(value):
                budget.take(len(merged.children) // 2, key.line)
                _into_labels(merged, labels, budget)
            continue
        name = _key(key)
        if name in labels:
            raise YamlError.at(key.line, f"labels: duplicate key {name[:80]!r}")
        if not name and (not _is_null(key) or key.decoded):
            raise YamlError.at(key.line, "labels: '' is not a label name")
        if value.kind != "scalar":
            raise YamlError.at(value.line, f"labels: {name[:80]!r} is {_said(value)}, must be a text")
        labels[name] = value.text


def _pairs(node: _Node) -> Iterator[tuple[_Node, _Node]]:
    return zip(node.children[::2], node.children[1::2], strict=True)


def _key(node: _Node) -> str:
    if node.kind != "scalar":
        raise YamlError.at(node.line, f"{_said(node)} as a key, must be a text")
    return node.text or ""


def _merged(node: _Node) -> list[_Node]:
    """What ``<<`` brings: a mapping, or a list of them, which may not be an alias."""
    found = node.children if node.kind == "list" and not node.alias else [node]
    if any(one.kind != "mapping" for one in found):
        raise YamlError.at(node.line, "a merge needs a mapping, or a list of mappings")
    return found
