"""Sharding by ``hashmod`` that a job has already: a rule that writes a label, and a ``keep`` of one value of it.

The pair is taken out when nothing that comes after its first rule reads the label besides the ``keep``, and when the label
is dropped at the end: by Prometheus (``__tmp_hash``), or by a rule. What writes the label before, as prometheus-operator
does, only feeds the hash and is left.

prometheus-operator's ``keep`` reads a second label, too: targets that have it are scraped by every shard. Where no rule of
the job writes it, there are none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from promring.importing import keys
from promring.importing.configuration import Job, action_of, all_rules_of, rules_of, sources_of
from promring.importing.regex import matches
from promring.importing.source import Node, get, text_of

_NUMBER = re.compile("[0-9]{1,18}")
_ONE_SHARD = re.compile(rf"\^?\(?(\d+|{keys.ENVIRONMENT.pattern})\)?\$?")
_ONE_SHARD_OR_ALL = re.compile(rf"(\d+|{keys.ENVIRONMENT.pattern});\|\.\+;\.\+")
ON_EVERY_SHARD = "__tmp_disable_sharding"
"""prometheus-operator's second label."""


class Shard(NamedTuple):
    """``rules``: the numbers of the two rules; ``shard``: a number, or a place-holder."""

    rules: tuple[int, int]
    modulus: str
    shard: str
    line: int


class Trouble(NamedTuple):
    """A hashmod rule that cannot be taken out. ``node``: where it is; ``number``: below 0 under ``global``."""

    node: Node
    number: int
    what: str


def shards_of(job: Job) -> list[Shard | Trouble]:
    """Of every hashmod rule of the job."""
    rules, common = rules_of(job), len(job.common)
    of_all = [(rule, n - common) for n, rule in enumerate(job.common) if action_of(rule) == "hashmod"]
    troubles = [Trouble(rule, number, "hashmod of the targets of all jobs") for rule, number in of_all]
    writes = any(text_of(get(rule, "target_label")) == ON_EVERY_SHARD for rule in all_rules_of(job))
    pairs = (_pair(rules, number, writes=writes) for number, rule in enumerate(rules) if action_of(rule) == "hashmod")
    return [*troubles, *pairs]


def _pair(rules: list[Node], number: int, *, writes: bool) -> Shard | Trouble:
    rule = rules[number]
    label = text_of(get(rule, "target_label"))
    after = list(enumerate(rules))[number + 1 :]
    later = [n for n, one in after if _mentions(one, label)]
    at = next(
        (n for n in later if action_of(rules[n]) == "keep" and set(sources_of(rules[n])) <= {label, ON_EVERY_SHARD}), 0
    )
    if not at:
        return Trouble(rule, number, f"hashmod into {label!r} without a keep of one shard")
    if len(later) > 1:
        other = next(n for n in later if n != at)
        return Trouble(rule, number, f"hashmod into {label!r}, which relabel_configs[{other}] reads or writes, too")
    before = next((n for n, one in after if n < at and _drops(one, label) is not False), None)
    if before is not None:
        return Trouble(rule, number, f"hashmod into {label!r}, which relabel_configs[{before}] drops before it is read")
    if not label.startswith("__") and not any(_drops(one, label) for _, one in after):
        return Trouble(rule, number, f"hashmod into {label!r}, a label that the series have")
    what, shard = _shard(rules[at], label, text_of(get(rule, "modulus")), writes=writes)
    return Trouble(rules[at], at, what) if what else Shard((number, at), text_of(get(rule, "modulus")), shard, rule.line)


def _shard(keep: Node, label: str, modulus: str, *, writes: bool) -> tuple[str, str]:
    """What is in the way, or empty; and which shard the rule ``keep`` keeps. ``writes``: whether a rule writes
    ``ON_EVERY_SHARD``.
    """
    both = sources_of(keep) == [label, ON_EVERY_SHARD]
    found = (_ONE_SHARD_OR_ALL if both else _ONE_SHARD).fullmatch(text_of(get(keep, "regex")))
    if found is None or not (both or sources_of(keep) == [label]) or get(keep, "if") is not None:
        return f"the keep of {label!r} is not of one shard", ""
    if both and writes:
        return f"some targets have {ON_EVERY_SHARD}: every shard scrapes them", ""
    shard = found[1]
    number, count = (int(text) if _NUMBER.fullmatch(text) else None for text in (shard, modulus))
    if shard.isdigit() and (number is None or shard != str(number) or (count is not None and number >= count)):
        return f"the keep of {label!r} keeps nothing: there is no shard {shard} of {modulus}", ""
    return "", shard


def _mentions(rule: Node, label: str) -> bool:
    """Whether a rule reads or writes ``label``. One that drops or keeps it by its name is no use of it."""
    if label in sources_of(rule) or text_of(get(rule, "target_label")) == label:
        return True
    return action_of(rule) == "labelmap" and matches(text_of(get(rule, "regex")) or ".*", label) is not False


def _drops(rule: Node, label: str) -> bool | None:
    """None: unknown."""
    action = action_of(rule)
    if action not in ("labeldrop", "labelkeep"):
        return False
    found = matches(text_of(get(rule, "regex")), label)
    return found if action == "labeldrop" or found is None else not found
