"""A YAML file as nodes that know where they stand in its text, read as Prometheus (go-yaml) reads it.

Promises: every node has the range of characters that it is written in, without what follows it; aliases are nodes of their
own that know what they stand for; merges (``<<``) are flattened in the order in which go-yaml applies them: a merge that
stands after a key overrides it, which YAML itself does not say (seen with Prometheus 2.42 and 3.5).
Only the first document is read, as Prometheus does.
"""

from __future__ import annotations

import bisect
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from promring.config.document import cause, unreadable
from promring.discovery.go_yaml import NULLS, StandIns
from promring.model import PromringError
from promring.runtime.regular import read_once

BYTES_MAX = 64 * 1024 * 1024
DEPTH_MAX = 64
NODES_MAX = 500_000
"""Values of one file, what aliases repeat included: about 10 MB of text."""
MERGE = "<<"
_BOM = "\ufeff"
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""What Prometheus reads besides UTF-8, by the mark that it begins with."""
_TEMPLATE = re.compile(r"\{\{|\{%|%\{[ ~]")
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class InputError(PromringError):
    """What is read is no configuration. ``problems``: one line each, ``FILE:LINE: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(slots=True, eq=False)
class Node:
    """``start`` and ``end`` are offsets of characters; ``target``: what an alias stands for, else None."""

    kind: str
    """``scalar``, ``list`` or ``map``."""
    start: int
    end: int
    line: int
    column: int
    text: str = ""
    style: str = ""
    """Of a scalar: empty when it is plain, else the character that begins it."""
    tag: str | None = None
    anchor: str | None = None
    flow: bool = False
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    """As they are written: merges are not flattened."""
    target: Node | None = None
    size: int = 1
    """How many values are in it, what aliases repeat included."""

    @property
    def real(self) -> Node:
        return self.target or self

    @property
    def is_null(self) -> bool:
        real = self.real
        return real.kind == "scalar" and not real.style and real.tag is None and real.text in NULLS

    def children(self) -> Iterator[Node]:
        yield from self.items
        for key, value in self.pairs:
            yield key
            yield value

    def walk(self) -> Iterator[Node]:
        """This node and all that is written in it; what an alias stands for is not in it."""
        yield self
        for child in self.children():
            yield from child.walk()


@dataclass(frozen=True)
class Source:
    """A file. ``text`` has no byte order mark; ``prefix`` is the one that it is written with."""

    name: str
    path: Path
    text: str
    prefix: str
    root: Node
    wide: bool = False
    """Whether it was in UTF-16."""

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    @cached_property
    def _breaks(self) -> list[int]:
        return [i for i, c in enumerate(self.text) if c == "\n"]

    def line_start(self, at: int) -> int:
        """Offset of the beginning of the line that ``at`` is in."""
        number = bisect.bisect_left(self._breaks, at)
        return self._breaks[number - 1] + 1 if number else 0

    def line_end(self, at: int) -> int:
        """Offset of the line's end: of its line break, or of the end of the text."""
        number = bisect.bisect_left(self._breaks, at)
        end = self._breaks[number] if number < len(self._breaks) else len(self.text)
        return end - 1 if end > at and self.text[end - 1] == "\r" else end

    def encoded(self, text: str) -> bytes:
        return (self.prefix + text).encode()


def read_source(path: Path, name: str | None = None) -> Source:
    """Raises ``InputError``; OSError when it cannot be read."""
    return parse_source(read_once(path, BYTES_MAX), path, name or str(path))


def parse_source(content: bytes, path: Path, name: str) -> Source:
    """Raises ``InputError``."""
    wide = _WIDE.get(content[:2])
    try:
        decoded = content[2:].decode(wide) if wide else content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError([f"{name}:{line}: not {'UTF-16' if wide else 'UTF-8'}; save the file as UTF-8"]) from None
    text = decoded if wide else decoded.removeprefix(_BOM)
    try:
        if text.startswith(_BOM):  # go-yaml skips characters then
            StandIns((_BOM + text).encode())
        root = _repaired(StandIns(text.encode()))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError([f"{name}:{line}: {error.problem or error.context}{cause(text, line) or template(text)}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise InputError([f"{name}:{line}: {unreadable(error)}"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError([f"{name}:1: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise InputError([f"{name}:1: nested too deep"]) from None
    except _Refused as error:
        raise InputError([f"{name}:{error.line}: {error}"]) from None
    return Source(name, path, text, decoded[: len(decoded) - len(text)], root, wide is not None)


def template(text: str) -> str:
    """What to do where a file cannot be read because it is none yet; empty where it does not look like that."""
    return "; it looks like a template: import the file that is made of it" if _TEMPLATE.search(text) else ""


class _Refused(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _repaired(stand_ins: StandIns) -> Node:
    while True:
        try:
            return _Composer(stand_ins).document()
        except yaml.MarkedYAMLError as error:
            if not stand_ins.repair(error):
                raise


class _Composer:
    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins
        self._text = stand_ins.text.decode()
        self._events: Iterator[Any] = iter(yaml.parse(self._text, Loader=_Parser))
        self._anchors: dict[str, Node | None] = {}
        """None while it is being read."""

    def document(self) -> Node:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 1)):
                raise _Refused(1, "found incompatible YAML document")
            if isinstance(event, yaml.NodeEvent):
                return self._node(event, 1)
        return Node("map", 0, 0, 1, 0)

    def _node(self, event: Any, depth: int) -> Node:
        mark, end = event.start_mark, event.end_mark
        if depth > DEPTH_MAX:
            raise _Refused(mark.line + 1, f"nested deeper than {DEPTH_MAX}")
        node = Node("scalar", mark.index, end.index, mark.line + 1, mark.column)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, node)
        node.tag, node.anchor = event.tag, event.anchor
        if node.anchor:
            self._anchors[node.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, node)
        else:
            self._collection(event, node, depth)
        if node.anchor:
            self._anchors[node.anchor] = node
        return node

    def _alias(self, event: Any, node: Node) -> Node:
        if event.anchor not in self._anchors:
            raise _Refused(node.line, "an unknown anchor is referenced (*); a text that begins with * must be in quotes")
        target = self._anchors[event.anchor]
        if target is None:
            raise _Refused(node.line, "the value of an anchor contains itself")
        node.kind, node.target, node.size = target.kind, target, target.size
        return node

    def _scalar(self, event: Any, node: Node) -> None:
        node.text = self._stand_ins.restored(event.value, event.style)
        node.style = "" if event.style is None else event.style
        if node.style in ("|", ">", ""):  # the mark of a block's end is where the next token begins
            written = self._text[node.start : node.end].rstrip()
            if node.style:
                written = _without_comments_after(written)
            node.end = node.start + len(written)

    def _collection(self, event: Any, node: Node, depth: int) -> None:
        node.flow = bool(event.flow_style)
        if isinstance(event, yaml.SequenceStartEvent):
            node.kind = "list"
            ended = self._fill(yaml.SequenceEndEvent, node, depth)
        else:
            node.kind = "map"
            ended = self._fill(yaml.MappingEndEvent, node, depth)
        if node.flow:
            node.end = ended.end_mark.index
        else:
            last = max((child.end for child in node.children()), default=node.end)
            node.end = max(last, node.end)

    def _fill(self, over: type[yaml.Event], node: Node, depth: int) -> Any:
        read: list[Node] = []
        for event in self._events:
            if isinstance(event, over):
                if node.kind == "list":
                    node.items = read
                else:
                    node.pairs = list(zip(read[::2], read[1::2], strict=True))
                return event
            child = self._node(event, depth + 1)
            node.size += child.size
            if node.size > NODES_MAX:
                raise _Refused(child.line, f"more than {NODES_MAX} values, with what aliases repeat")
            read.append(child)
        raise _Refused(node.line, "the text ends too early")


def _without_comments_after(block: str) -> str:
    """A block scalar without the lines of comments behind it that are less indented than its own."""
    lines = block.split("\n")
    indent = min((len(line) - len(line.lstrip(" ")) for line in lines[1:2] if line.strip()), default=0)
    while len(lines) > 1 and lines[-1].lstrip().startswith("#") and len(lines[-1]) - len(lines[-1].lstrip(" ")) < indent:
        lines.pop()
    return "\n".join(lines).rstrip()


# --- what nodes say ----------------------------------------------------------------------------------------------------


def is_merge(key: Node) -> bool:
    return key.kind == "scalar" and key.text == MERGE and (not key.style or key.tag is not None)


def flat(node: Node) -> dict[str, tuple[Node, Node]]:
    """Key and value nodes of a mapping by the key's text, merges flattened."""
    found: dict[str, tuple[Node, Node]] = {}
    for key, value in node.real.pairs:
        if is_merge(key):
            parts = value.real.items if value.real.kind == "list" else [value]
            for part in reversed(parts):
                found |= flat(part)
        else:
            found[key.real.text] = (key, value)
    return found


def get(node: Node | None, key: str) -> Node | None:
    """The value of ``key``, of what an alias stands for; None where there is none, or null."""
    if node is None or node.real.kind != "map":
        return None
    pair = flat(node).get(key)
    return None if pair is None or pair[1].is_null else pair[1].real


def texts(node: Node | None) -> list[str]:
    """The scalars of a list, or the one scalar."""
    if node is None or node.is_null:
        return []
    real = node.real
    return [real.text] if real.kind == "scalar" else [item.real.text for item in real.items if item.real.kind == "scalar"]


def text_of(node: Node | None) -> str:
    return node.real.text if node is not None and node.real.kind == "scalar" else ""


Value = tuple[Any, ...]
"""A value that can be compared: ``("null",)``, ``("scalar", text, kind)``, ``("list", …)``, ``("map", (key, value), …)``."""
_RESOLVER = yaml.SafeLoader("")


def value_of(node: Node) -> Value:
    """What go-yaml makes of it; equal values are configured alike."""
    real = node.real
    if real.kind == "scalar":
        return ("null",) if node.is_null else ("scalar", real.text, _kind_of(real))
    if real.kind == "list":
        return ("list", *map(value_of, real.items))
    return ("map", *sorted((key, value_of(value)) for key, (_, value) in flat(real).items()))


def _kind_of(scalar: Node) -> str:
    """What YAML takes it for: a text, a number, a truth."""
    if scalar.tag is not None and scalar.tag != "!":
        return scalar.tag
    return str(_RESOLVER.resolve(yaml.ScalarNode, scalar.text, (not scalar.style, bool(scalar.style))))  # type: ignore[no-untyped-call]
