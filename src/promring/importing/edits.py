"""Changes of a text that leave every other character as it is, and the writing of nodes where that cannot be done.

An ``Edit`` replaces a range of characters. The functions make the edits that take a key out of a mapping or an item out of a
list, in block and in flow style. They may meet a layout that they do not understand: whoever uses them reads the result
again and compares its values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import yaml

from promring.importing.source import Node, Source, flat

_SAFE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_RESOLVER = yaml.SafeLoader("")
_YAML_ORG = "tag:yaml.org,2002:"


class Edit(NamedTuple):
    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """``edits`` may be in any order; equal ones count once. Raises ValueError where two overlap."""
    parts, at = [], 0
    for edit in sorted(set(edits)):
        if edit.start < at:
            raise ValueError("edits overlap")
        parts += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*parts, text[at:]])


def replace_pair(pair: tuple[Node, Node], text: str) -> Edit:
    return Edit(pair[0].start, max(pair[0].end, pair[1].end), text)


def cut_pairs(source: Source, node: Node, cut: Collection[int]) -> list[Edit]:
    """The pairs of ``node`` with these numbers."""
    spans = [(key.start, max(key.end, value.end)) for key, value in node.pairs]
    return _cut(source, spans, cut, flow=node.flow)


def cut_items(source: Source, node: Node, cut: Collection[int]) -> list[Edit]:
    """The items of ``node`` with these numbers. In block style the dash goes, too."""
    spans = []
    at = node.start
    for item in node.items:
        start = item.start if node.flow else source.text.index("-", at)
        at = max(item.end, start)
        spans.append((start, at))
    return _cut(source, spans, cut, flow=node.flow)


def _cut(source: Source, spans: Sequence[tuple[int, int]], cut: Collection[int], *, flow: bool) -> list[Edit]:
    if not flow:
        return [_cut_lines(source, spans, number) for number in sorted(cut)]
    last = len(spans)
    while last - 1 in cut:
        last -= 1
    edits = [Edit(spans[n][0], spans[n + 1][0], "") for n in sorted(cut) if n < last]
    if last < len(spans):
        edits.append(Edit(spans[last - 1][1] if last else spans[0][0], spans[-1][1], ""))
    return edits


def _cut_lines(source: Source, spans: Sequence[tuple[int, int]], number: int) -> Edit:
    start, end = spans[number]
    line = source.line_start(start)
    if source.text[line:start].strip() and number + 1 < len(spans):  # behind a dash: the next one takes its place
        return Edit(start, spans[number + 1][0], "")
    end = source.line_end(end)
    after = source.text.find("\n", end)
    return Edit(line if not source.text[line:start].strip() else start, after + 1 if after >= 0 else len(source.text), "")


def insert_pair(source: Source, node: Node, text: str) -> Edit:
    """``text``, a key and its value on one line, at the end of a mapping: there it overrides what is merged."""
    if not node.pairs:
        return Edit(node.start, node.end, "{" + text + "}")
    end = max(node.pairs[-1][0].end, node.pairs[-1][1].end)
    if node.flow:
        return Edit(end, end, f", {text}")
    end = source.line_end(end)
    first = node.pairs[0][0]
    return Edit(end, end, source.newline + " " * first.column + text)


def lifted(source: Source, start: int, end: int, column: int) -> str:
    """The lines of a range, with its trailing comment, so that what begins in column ``start`` begins in ``column``."""
    was = start - source.line_start(start)
    stop = source.line_end(end)
    if source.text[end:stop].strip()[:1] not in ("", "#"):
        stop = end
    lines = source.text[start:stop].replace("\r\n", "\n").split("\n")
    moved = [lines[0].rstrip()]
    for line in lines[1:]:
        indent = len(line) - len(line.lstrip(" "))
        moved.append((" " * column + line[min(was, indent) :]).rstrip() if line.strip() else "")
    return "\n".join(moved)


# --- nodes written anew ------------------------------------------------------------------------------------------------


def written(node: Node, indent: int = 0) -> str:
    """A value in block style, aliases and merges written out; without its comments."""
    return "\n".join(_lines(node, indent))


def _lines(node: Node, indent: int) -> list[str]:
    real, space = node.real, " " * indent
    if real.kind == "scalar":
        return [scalar(node)]
    lines: list[str] = []
    if real.kind == "list":
        for item in real.items:
            inner = _lines(item, indent + 2)
            lines += [f"{space}- {inner[0].lstrip(' ')}", *inner[1:]]
        return lines or ["[]"]
    for key, (key_node, value) in flat(real).items():
        name = scalar(key_node) if key_node.real.text == key else quoted(key)
        inner = _lines(value, indent + 2)
        if value.real.kind == "scalar" or not (value.real.items or value.real.pairs):
            lines.append(f"{space}{name}: {inner[0]}".rstrip())
        else:
            lines += [f"{space}{name}:", *inner]
    return lines or ["{}"]


def scalar(node: Node) -> str:
    """In the style in which it is written where that is possible on one line."""
    real = node.real
    tag = ""
    if real.tag is not None and real.tag.startswith(_YAML_ORG) and not real.tag.endswith(":str"):
        tag = f"!!{real.tag.removeprefix(_YAML_ORG)} "
    plain = not real.style and real.tag is None
    if plain and not any(c in real.text for c in "\n\r") and _is_safe_plain(real.text):
        return real.text
    if real.style == "'" and real.text.isprintable():
        return tag + "'" + real.text.replace("'", "''") + "'"
    return tag + quoted(real.text)


def _is_safe_plain(text: str) -> bool:
    """Whether a text that was plain somewhere is plain at the end of a line, too."""
    return not (text.endswith(":") or ": " in text or " #" in text) and (text.isprintable() or not text)


def quoted(text: str) -> str:
    """As it is where that needs no quotes, else in double quotes."""
    if _SAFE.fullmatch(text) and resolves_to_text(text):
        return text
    parts = []
    for character in text:
        if character in '"\\':
            parts.append("\\" + character)
        elif character.isprintable():
            parts.append(character)
        else:
            number = ord(character)
            parts.append(
                f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
            )
    return '"' + "".join(parts) + '"'


def resolves_to_text(text: str) -> bool:
    """Whether YAML takes a plain ``text`` for a text, and not for a number, a truth, a time or nothing."""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag == f"{_YAML_ORG}str"


def written_flow(node: Node) -> str:
    """A value on one line, as it may stand within brackets."""
    real = node.real
    if real.kind == "list":
        return "[" + ", ".join(written_flow(item) for item in real.items) + "]"
    if real.kind == "map":
        pairs = (f"{quoted(key)}: {written_flow(value)}" for key, (_, value) in flat(real).items())
        return "{" + ", ".join(pairs) + "}"
    if real.style or real.tag is not None or resolves_to_text(real.text):
        return scalar(node) if real.tag is not None else quoted(real.text)
    return real.text or "null"
