"""Refuses YAML that could grow, recurse or call without bound, before anything is built from it."""

from __future__ import annotations

from typing import Any

import yaml

DEPTH_MAX = 32


class UnsafeYaml(Exception):
    """``line`` from 1, ``what`` for people."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line, self.what = line, what


def refuse_unsafe(text: bytes | str, loader: Any = yaml.SafeLoader) -> None:
    """Aliases, explicit tags, nesting deeper than ``DEPTH_MAX``. Raises ``UnsafeYaml``, or what the parser raises."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise UnsafeYaml(line, f"alias *{event.anchor} is not allowed")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise UnsafeYaml(line, f"tag {tag} is not allowed")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise UnsafeYaml(line, f"nested deeper than {DEPTH_MAX}")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
