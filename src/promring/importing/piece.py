"""A part of a configuration as a text of its own, to be changed and put somewhere else.

Promises: the part says there what it says here, by value; with its comments where nothing in it is an alias or a merge, else
written out without them.
"""

from __future__ import annotations

from typing import NamedTuple

from promring.importing.edits import Edit, apply, lifted, written
from promring.importing.source import MERGE, InputError, Node, Source, Value, parse_source, value_of


class Piece(NamedTuple):
    """``source``: the part as a document; ``written_out``: its comments and aliases are lost."""

    source: Source
    written_out: bool

    @property
    def root(self) -> Node:
        return self.source.root

    def changed(self, edits: list[Edit]) -> Piece:
        text = apply(self.source.text, edits)
        return Piece(parse_source(text.encode(), self.source.path, self.source.name), self.written_out)

    def at(self, column: int) -> str:
        """Its text, of which the first line begins in ``column`` and is not indented here."""
        first, *more = self.source.text.rstrip("\n").split("\n")
        return "\n".join([first, *(" " * column + line if line.strip() else "" for line in more)])


def piece_of(source: Source, node: Node) -> Piece:
    """Of a list's item."""
    return _piece(source, node.start, node, value_of(node), written(node))


def piece_of_pair(source: Source, key: Node, value: Node, name: str) -> Piece:
    """Of a mapping's key ``name`` and its value, as a mapping with just that."""
    expected: Value = ("map", (name, value_of(value)))
    body = written(value, 2)
    empty = body in ("[]", "{}") or value.real.kind == "scalar"
    return _piece(source, key.start, value, expected, f"{name}: {body}" if empty else f"{name}:\n{body}")


def _piece(source: Source, start: int, node: Node, expected: Value, fresh: str) -> Piece:
    if not any(_refers(one) for one in node.walk()) and start <= node.start:
        try:
            raw = parse_source(lifted(source, start, node.end, 0).encode(), source.path, source.name)
            if value_of(raw.root) == expected:
                return Piece(raw, written_out=False)
        except InputError:
            pass
    anew = parse_source(fresh.encode(), source.path, source.name)
    if value_of(anew.root) != expected:
        raise InputError([f"{source.name}:{node.line}: cannot be put in another place; write it without anchors"])
    return Piece(anew, written_out=True)


def _refers(node: Node) -> bool:
    return node.target is not None or node.anchor is not None or (node.kind == "scalar" and node.text == MERGE)
