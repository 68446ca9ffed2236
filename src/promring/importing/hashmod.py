"""Sharding by ``hashmod`` that a job has already: a rule that writes a label, and a ``keep`` of one value of it.

The pair is taken out when nothing that comes after its first rule reads the label besides the ``keep``, and when the label
is one that Prometheus drops (``__tmp_hash``). What writes the label before, as prometheus-operator does, only feeds the hash
and is left: the label is dropped at the end.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from promring.importing import keys
from promring.importing.configuration import Job, action_of, rules_of, sources_of
from promring.importing.source import Node, get, text_of

_ONE_SHARD = re.compile(rf"\^?\(?(\d+|{keys.ENVIRONMENT.pattern})\)?\$?")


class Shard(NamedTuple):
    """``rules``: the numbers of the two rules; ``shard``: a number, or a place-holder."""

    rules: tuple[int, int]
    modulus: str
    shard: str
    line: int


class Trouble(NamedTuple):
    """A hashmod rule that cannot be taken out. ``node``: where it is."""

    node: Node
    number: int
    what: str


def shards_of(job: Job) -> list[Shard | Trouble]:
    """Of every hashmod rule of the job."""
    rules = rules_of(job)
    return [_pair(rules, number) for number, rule in enumerate(rules) if action_of(rule) == "hashmod"]


def _pair(rules: list[Node], number: int) -> Shard | Trouble:
    rule = rules[number]
    label = text_of(get(rule, "target_label"))
    later = [(n, r) for n, r in enumerate(rules[number + 1 :], number + 1) if _mentions(r, label)]
    keeps = [(n, r) for n, r in later if action_of(r) == "keep" and sources_of(r) == [label]]
    if not keeps:
        return Trouble(rule, number, f"hashmod into {label!r} without a keep of one shard")
    at, keep = keeps[0]
    if len(later) > 1:
        other = next(n for n, _ in later if n != at)
        return Trouble(rule, number, f"hashmod into {label!r}, which relabel_configs[{other}] reads or writes, too")
    if not label.startswith("__"):
        return Trouble(rule, number, f"hashmod into {label!r}, a label that the series have")
    found = _ONE_SHARD.fullmatch(text_of(get(keep, "regex")))
    if found is None:
        return Trouble(keep, at, f"the keep of {label!r} is not of one shard")
    return Shard((number, at), text_of(get(rule, "modulus")), found[1], rule.line)


def _mentions(rule: Node, label: str) -> bool:
    """Whether a rule reads or writes ``label``. One that drops it by its name is no use of it."""
    if label in sources_of(rule) or text_of(get(rule, "target_label")) == label:
        return True
    return action_of(rule) in ("labelmap", "labelkeep") and _matches(text_of(get(rule, "regex")), label)


def _matches(regex: str, label: str) -> bool:
    try:
        return re.fullmatch(regex, label) is not None
    except re.error:  # RE2 knows what Python does not
        return label in regex
