"""The rules, as ``scripts/make-alerts`` wrote them from the rules file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("rules.json")
_SAID = re.compile(r"\{\{ \$(?:labels\.(\w+)|value)(?: \| humanize)? \}\}")


class Rule(msgspec.Struct, frozen=True):
    """``for_s``: so long the condition is true before it fires; ``expr``: in PromQL, for people; ``judged``: also here."""

    name: str
    severity: str
    for_s: float
    expr: str
    summary: str
    description: str
    judged: bool


def read_rules() -> list[Rule]:
    """In the order of the rules file."""
    return msgspec.json.decode(FILE.read_bytes(), type=list[Rule])


def said(text: str, labels: Mapping[str, str], value: float) -> str:
    """``text`` with its ``{{ $labels.x }}`` and ``{{ $value }}`` filled in."""
    return _SAID.sub(lambda found: labels.get(found[1], "") if found[1] else f"{value:.10g}", text)
