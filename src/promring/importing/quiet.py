"""Configurations that scrape nothing and send nothing, to see what targets a Prometheus makes of their jobs.

Only ``global`` and the jobs are left: no rules, no alerts, no remote_write. Each job has an interval of a hundred years.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from promring.importing import keys
from promring.importing.configuration import Configuration, Job, jobs_of
from promring.importing.discovering import for_prometheus, never, without, without_rules
from promring.importing.edits import cut_pairs, insert_pair, replace_pair, written_flow
from promring.importing.inside import absolute_edits
from promring.importing.piece import Piece, piece_of, piece_of_pair
from promring.importing.source import flat, parse_source, text_of

_LOGS = frozenset(("query_log_file", "scrape_failure_log_file"))


class Listed(NamedTuple):
    """The labels of each target that discoveries of these ``kinds`` found."""

    kinds: Collection[str]
    targets: Sequence[Mapping[str, str]]


def quiet_text(
    configuration: Configuration,
    jobs: Iterable[Job],
    cut: Mapping[str, Collection[int]],
    listed: Mapping[str, Listed] | None = None,
    lacks: Collection[str] = (),
) -> str:
    """``cut``: rules that are left out of a job, by its name; ``listed``: targets of jobs, in place of discoveries;
    ``lacks``: keys that the Prometheus here does not know, which say nothing of targets where they stand in a job or in
    ``global``.

    Raises ``InputError``.
    """
    listed = listed or {}
    unused = _LOGS | keys.NEWER.intersection(lacks)
    marks = {name: f"promring-listed-{number}" for number, name in enumerate(listed)}
    parts = []
    pair = flat(configuration.main.root).get("global")
    if pair is not None and pair[1].real.pairs:
        piece = piece_of_pair(configuration.main, *pair, "global")
        inner = piece_of(piece.source, flat(piece.root)["global"][1])
        parts.append("global:\n  " + without(inner, unused | keys.VMAGENT_GLOBAL).at(2) + "\n")
    parts.append("scrape_configs:\n")
    for job in jobs:
        piece = piece_of(job.source, job.node)
        if cut.get(job.name):
            piece = piece.changed(without_rules(piece, set(cut[job.name])))
        piece = without(piece, unused)
        if configuration.vmagent:
            piece, _ = for_prometheus(piece)
        piece = piece.changed(absolute_edits(piece.root, job.source.path.absolute().parent))
        if job.name in listed:
            piece = with_static(piece, listed[job.name].kinds, marks[job.name])
        parts.append("  - " + never(piece).at(4) + "\n")
    text = "".join(parts)
    for name, mark in marks.items():  # at the end: these may be more than a configuration has
        text = text.replace(mark, groups_text(listed[name].targets))
    return text


def read_again(configuration: Configuration, files: Mapping[str, bytes], main: str) -> list[Job]:
    """The jobs of the scrapers' files, as if they stood where the old ones do."""
    originals = {main: configuration.main, **configuration.included}
    found = []
    for order, (name, source) in enumerate(originals.items()):
        again = parse_source(files[name], source.path, source.name) if name in files else source
        found += jobs_of(again, order)
    return found


def lacking(job: Job, lacks: Collection[str]) -> set[str]:
    """For want of which discoveries, or keys within them, a Prometheus that ``lacks`` these cannot find its targets."""
    found = {kind: value.real for kind, (_, value) in flat(job.node).items() if keys.is_discovery(kind)}
    inner = {text_of(key) for value in found.values() for node in value.walk() for key, _ in node.pairs}
    return (found.keys() | inner) & set(lacks)


def engine_text(text: str, lacks: Collection[str]) -> str:
    """``discovery.yml`` without the jobs that a Prometheus here cannot do."""
    source = parse_source(text.encode(), Path("/discovery.yml"), "discovery.yml")
    jobs = [job for job in jobs_of(source, 0) if not lacking(job, lacks)]
    unused = keys.NEWER.intersection(lacks)
    pieces = ["  - " + without(piece_of(job.source, job.node), unused).at(4) + "\n" for job in jobs]
    return "global: {scrape_interval: 100y}\nscrape_configs:\n" + "".join(pieces)


def with_static(piece: Piece, kinds: Collection[str], mark: str) -> Piece:
    """A job in which ``mark`` stands in ``static_configs`` for the targets of ``kinds``, in place of their discovery."""
    static = next((pair for pair in piece.root.pairs if text_of(pair[0]) == "static_configs"), None)
    groups = [written_flow(item) for item in static[1].items] if static is not None else []
    text = f"static_configs: [{', '.join([*groups, mark])}]"
    piece = piece.changed([replace_pair(static, text) if static else insert_pair(piece.source, piece.root, text)])
    cut = [number for number, (key, _) in enumerate(piece.root.pairs) if text_of(key) in kinds]
    return piece.changed(cut_pairs(piece.source, piece.root, cut))


def groups_text(targets: Sequence[Mapping[str, str]]) -> str:
    """What ``mark`` stands for: groups of ``static_configs``."""
    groups = [
        {"targets": [labels.get("__address__", "")], "labels": {k: v for k, v in labels.items() if k != "__address__"}}
        for labels in targets
    ]
    return msgspec.json.encode(groups)[1:-1].decode() or "{}"
