"""The targets of a job that stand in lists, in the configuration and in files that can be read here, and what relabelling
makes of them, as far as it can be known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from promring.discovery.globs import escaped, matching
from promring.discovery.groups import from_json, from_yaml
from promring.importing.configuration import Job, action_of, all_rules_of, sources_of
from promring.importing.regex import is_readable, matches, replaced
from promring.importing.source import BYTES_MAX, Node, flat, get, text_of, texts
from promring.model import DiscoveryError
from promring.runtime.regular import read

ADDRESS = "__address__"
KINDS = frozenset(("static_configs", "file_sd_configs"))
_UNDERSTOOD = frozenset(("replace", "labeldrop", "labelkeep"))
_FILTERS = frozenset(("keep", "drop"))


class Group(NamedTuple):
    """Targets that have these labels. ``file``: where they are listed; empty: in the configuration."""

    addresses: Sequence[str]
    labels: Mapping[str, str]
    file: str = ""


class Rule(NamedTuple):
    """One whose ``action`` is in ``_UNDERSTOOD`` or ``_FILTERS``."""

    action: str
    sources: Sequence[str]
    separator: str
    regex: str
    target: str
    template: str


def rules_understood(job: Job) -> list[Rule]:
    return [_rule(rule) for rule in all_rules_of(job) if action_of(rule) in _UNDERSTOOD]


def every_rule(job: Job) -> list[Rule] | None:
    """None where it cannot be known what one of them does."""
    nodes = all_rules_of(job)
    known = all(action_of(one) in _UNDERSTOOD | _FILTERS and get(one, "if") is None for one in nodes)
    rules = [_rule(one) for one in nodes] if known else []
    return rules if known and all(is_readable(one.regex) for one in rules) else None


def _rule(rule: Node) -> Rule:
    separator, to = get(rule, "separator"), get(rule, "replacement")
    return Rule(
        action_of(rule),
        sources_of(rule),
        ";" if separator is None else text_of(separator),
        text_of(get(rule, "regex")) or "(.*)",
        text_of(get(rule, "target_label")),
        "$1" if to is None else text_of(to),
    )


def relabelled(rules: Sequence[Rule], address: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that ``rules`` make of these, without empty ones; none where they drop it."""
    known = {**labels, ADDRESS: address}
    for rule in rules:
        if rule.action in _FILTERS:
            text = rule.separator.join(known.get(source, "") for source in rule.sources)
            if bool(matches(rule.regex, text)) is (rule.action == "drop"):
                return {}
            continue
        if rule.action != "replace":
            known = {
                name: value for name, value in known.items() if matches(rule.regex, name) is not (rule.action == "labeldrop")
            }
            continue
        value = rule.separator.join(known.get(source, "") for source in rule.sources)
        made = replaced(rule.regex, value, rule.template)
        if made is not None:
            known[rule.target] = made
    return {name: value for name, value in known.items() if value}


def groups_of(job: Job) -> tuple[Iterator[Group], bool]:
    """Of its lists; and whether these are all of its targets. Reads the files."""
    patterns = [pattern for item in _items(job, "file_sd_configs") for pattern in texts(get(item, "files"))]
    files = [path for pattern in patterns for path in _paths(job, pattern)]
    lists = [_groups_in(path) if path else None for path in files]
    whole = None not in lists and KINDS.issuperset(job.discoveries)
    return chain(groups_written(job), *(groups for groups in lists if groups is not None)), whole


def groups_written(job: Job) -> Iterator[Group]:
    """In the configuration."""
    for item in _items(job, "static_configs"):
        labels = get(item, "labels")
        pairs = flat(labels) if labels is not None else {}
        yield Group(texts(get(item, "targets")), {name: text_of(value) for name, (_, value) in pairs.items()})


def _groups_in(path: str) -> list[Group] | None:
    """None: it cannot be read, or is no list."""
    parse = from_json if path.lower().endswith(".json") else from_yaml
    try:
        return [
            Group([one or "" for one in group.targets or ()], {k: v or "" for k, v in (group.labels or {}).items()}, path)
            for group in parse(read(Path(path), BYTES_MAX), path)
        ]
    except (OSError, DiscoveryError):
        return None


def _paths(job: Job, pattern: str) -> list[str]:
    """The files of a pattern, as Prometheus finds them; an empty text where there are none."""
    if not pattern.lower().endswith((".json", ".yml", ".yaml")):
        return [""]
    base = escaped(str(job.source.path.absolute().parent))
    try:
        return sorted(map(str, matching(Path(base, pattern)))) or [""]
    except (OSError, ValueError):
        return [""]


def _items(job: Job, key: str) -> list[Node]:
    node = job.get(key)
    return node.items if node is not None else []
