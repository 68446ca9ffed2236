"""The scrapers' ``prometheus.yml`` and what it includes: the old text, in which the discovery of each shared job is another.

Three ways, the next where the one before would say something else: the keys are replaced where they stand; jobs with aliases
or merges are written out; the whole file is. Whatever is returned was read again and says, value by value, what it must.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from promring.importing import keys
from promring.importing.edits import Edit, apply, cut_items, cut_pairs, replace_pair, written, written_flow
from promring.importing.piece import piece_of
from promring.importing.source import MERGE, InputError, Node, Source, Value, flat, get, parse_source, text_of, value_of

_NOWHERE = Path("/")


class Change(NamedTuple):
    """Of one job: what its discovery is from now on, a key and its value on one line, empty: what it was; and which of its
    rules go.
    """

    discovery: str
    cut_rules: frozenset[int] = frozenset()


class Rewritten(NamedTuple):
    """``written_out``: numbers of the jobs whose comments are lost; ``whole``: those of the whole file are."""

    text: str
    written_out: tuple[int, ...] = ()
    whole: bool = False


def rewrite(source: Source, changes: Mapping[int, Change]) -> Rewritten:
    """``changes`` by the number of the job in the file's list. Raises ``InputError``."""
    if not changes:
        return Rewritten(source.text)
    expected = _expected(source, changes)
    jobs = _jobs(source.root)
    hard = {n for n, change in changes.items() if _edits(source, jobs[n], change) is None}
    with_references = {n for n, job in enumerate(jobs) if _has_references(job)}
    for anew in dict.fromkeys((frozenset(hard), frozenset(hard | with_references))):
        text = _rewritten(source, changes, anew)
        if text is not None and _says(source, text, expected):
            return Rewritten(text, tuple(sorted(anew)))
    plain = parse_source(written(source.root).encode(), source.path, source.name)
    text = _rewritten(plain, changes, frozenset())
    if text is None or not _says(source, text, expected):
        raise InputError([f"{source.name}:1: cannot be written with other discoveries; write it without anchors and tags"])
    return Rewritten(text + "\n", whole=True)


def _jobs(root: Node) -> list[Node]:
    listed = root if root.kind == "list" else get(root, "scrape_configs")
    return listed.items if listed is not None else []


def _has_references(job: Node) -> bool:
    return any(n.target is not None or n.anchor is not None or (n.kind == "scalar" and n.text == MERGE) for n in job.walk())


def _rewritten(source: Source, changes: Mapping[int, Change], anew: frozenset[int]) -> str | None:
    """The text, the jobs ``anew`` written out; None where the layout is not understood."""
    edits: list[Edit] = []
    for number, job in enumerate(_jobs(source.root)):
        change = changes.get(number)
        if number in anew:
            edits.append(_anew(source, job, change))
        elif change is not None:
            found = _edits(source, job, change)
            if found is None:
                return None
            edits += found
    try:
        return apply(source.text, edits)
    except ValueError:
        return None


def _edits(source: Source, job: Node, change: Change) -> list[Edit] | None:
    """In the job's own text; None where what must change is not there."""
    if job.target is not None:
        return None
    own = {text_of(key): number for number, (key, _) in enumerate(job.pairs)}
    merged = flat(job)
    there = [key for key in merged if keys.is_discovery(key)] if change.discovery else []
    for key in (*there, *(["relabel_configs"] if change.cut_rules else [])):
        if key not in own or merged[key] != job.pairs[own[key]]:
            return None
    discoveries = sorted(own[key] for key in there)
    discovery = _as_json(change.discovery) if job.flow and job.pairs[0][0].style == '"' else change.discovery
    edits = [replace_pair(job.pairs[discoveries[0]], discovery)] if discoveries else []
    cut = discoveries[1:]
    if change.cut_rules:
        rules = job.pairs[own["relabel_configs"]][1]
        if rules.target is not None:
            return None
        if len(change.cut_rules) == len(rules.items):
            cut.append(own["relabel_configs"])
        else:
            edits += cut_items(source, rules, change.cut_rules)
    return edits + cut_pairs(source, job, cut)


def _as_json(pair: str) -> str:
    """A key and its value on one line, as they stand in a file of JSON, which YAML is, too."""
    return json.dumps(yaml.safe_load(pair), ensure_ascii=False, separators=(",", ":"))[1:-1]


def _anew(source: Source, job: Node, change: Change | None) -> Edit:
    """The job written out, without references to other places."""
    piece = piece_of(source, job)
    if change is not None:
        edits = _edits(piece.source, piece.root, change)
        assert edits is not None  # it has no aliases now
        piece = piece.changed(edits)
    listed = next(n for n in source.root.walk() if n.kind == "list" and any(item is job for item in n.items))
    text = written_flow(piece.root) if listed.flow else piece.at(job.column)
    return Edit(job.start, job.end, text.replace("\n", source.newline))


def _says(source: Source, text: str, expected: Value) -> bool:
    try:
        return value_of(parse_source(text.encode(), source.path, source.name).root) == expected
    except InputError:
        return False


def _expected(source: Source, changes: Mapping[int, Change]) -> Value:
    """What the new text must say."""
    root = value_of(source.root)
    if source.root.kind == "list":
        return _of_list(root, changes)
    return ("map", *((key, _of_list(v, changes) if key == "scrape_configs" else v) for key, v in root[1:]))


def _of_list(jobs: Value, changes: Mapping[int, Change]) -> Value:
    return ("list", *(_of_job(job, changes[n]) if n in changes else job for n, job in enumerate(jobs[1:])))


def _of_job(job: Value, change: Change) -> Value:
    pairs = {key: value for key, value in job[1:] if not (change.discovery and keys.is_discovery(key))}
    if change.cut_rules:
        left = [rule for number, rule in enumerate(pairs.pop("relabel_configs")[1:]) if number not in change.cut_rules]
        pairs |= {"relabel_configs": ("list", *left)} if left else {}
    if change.discovery:
        pairs |= dict(value_of(parse_source(change.discovery.encode(), _NOWHERE, "").root)[1:])
    return ("map", *sorted(pairs.items()))
