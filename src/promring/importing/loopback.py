"""Which targets of a job are the server itself: their address is a loopback address, and relabelling leaves it one.

Known are those of lists in the configuration, and of files that can be read here. Behind an exporter on another machine a
loopback address is that machine, wherever the scraper is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from promring.discovery.globs import escaped, matching
from promring.discovery.groups import from_json, from_yaml
from promring.importing.configuration import Job, action_of, all_rules_of, sources_of
from promring.importing.inside import OWN_NAME, host_of, is_loopback
from promring.importing.regex import replaced
from promring.importing.source import BYTES_MAX, Node, flat, get, text_of, texts
from promring.model import DiscoveryError
from promring.runtime.regular import read

ADDRESS = "__address__"
_SHORT = re.compile("[a-z0-9_-]*[a-z_-][a-z0-9_-]*")
_KINDS = frozenset(("static_configs", "file_sd_configs"))


class Group(NamedTuple):
    """Targets that have these labels. ``file``: where they are listed; empty: in the configuration."""

    addresses: Sequence[str]
    labels: Mapping[str, str]
    file: str = ""


class Own(NamedTuple):
    """``shown``: a target that is the server itself, empty: there is none; ``all``: whether no target is another one."""

    shown: str = ""
    all: bool = False


class _Rule(NamedTuple):
    """One of ``replace``."""

    sources: Sequence[str]
    separator: str
    regex: str
    target: str
    template: str


def own_targets(job: Job) -> Own:
    """Reads the files of the job's lists."""
    patterns = [pattern for item in _items(job, "file_sd_configs") for pattern in texts(get(item, "files"))]
    files = [path for pattern in patterns for path in _paths(job, pattern)]
    lists = [_groups_in(path) if path else None for path in files]
    rules = [_rule(rule) for rule in all_rules_of(job) if action_of(rule) == "replace"]
    first, others = "", None in lists or not _KINDS.issuperset(job.discoveries)
    for group in chain(_listed(job), *(groups for groups in lists if groups is not None)):
        labels = {"job": job.name, **group.labels}
        for address in group.addresses:
            if not (_is_own(address) and _is_own(_relabelled(rules, address, labels))):
                others = True
            elif not first:
                first = f"{address} of {group.file}" if group.file else address
            if first and others:
                return Own(first)
    return Own(first, not others)


def _is_own(address: str) -> bool:
    """Whether each server means itself by this address, that of its environment too, such as ``%{HOSTNAME}:9100``."""
    return is_loopback(address) or OWN_NAME.match(address) is not None


def short_names(job: Job) -> set[str]:
    """Hosts of its lists, after relabelling, that have no domain and are no address: who they are depends on who asks."""
    rules = [_rule(rule) for rule in all_rules_of(job) if action_of(rule) == "replace"]
    made = {
        host_of(_relabelled(rules, address, {"job": job.name, **group.labels}))
        for group in _listed(job)
        for address in group.addresses
    }
    return {host for host in made if _SHORT.fullmatch(host) and not is_loopback(host)}


def _rule(rule: Node) -> _Rule:
    separator, to = get(rule, "separator"), get(rule, "replacement")
    return _Rule(
        sources_of(rule),
        ";" if separator is None else text_of(separator),
        text_of(get(rule, "regex")) or "(.*)",
        text_of(get(rule, "target_label")),
        "$1" if to is None else text_of(to),
    )


def _relabelled(rules: Sequence[_Rule], address: str, labels: Mapping[str, str]) -> str:
    """The address that these rules make of this one, as far as it can be known here."""
    known = {**labels, ADDRESS: address}
    for rule in rules:
        value = rule.separator.join(known.get(source, "") for source in rule.sources)
        made = replaced(rule.regex, value, rule.template)
        if made is not None:
            known[rule.target] = made
    return known[ADDRESS]


def _listed(job: Job) -> Iterator[Group]:
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
