"""``discovery.yml``: the jobs whose targets a stock Prometheus finds for promring. It scrapes nothing.

A job is the old one, relabelling too, so that what relabelling drops is known before targets are placed. Its interval is a
hundred years: Prometheus 2.42 and 3.5 list such targets as active and do not scrape them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from promring.importing import keys
from promring.importing.configuration import is_of_prometheus
from promring.importing.edits import Edit, cut_items, cut_pairs, insert_pair, replace_pair
from promring.importing.findings import Finding
from promring.importing.inside import absolute_edits
from promring.importing.piece import Piece, piece_of
from promring.importing.source import Node, get, text_of
from promring.importing.verdicts import Judged

NEVER = "100y"
_HEADER = """\
# Written by promring import: for the Prometheus that finds the targets of these jobs for promring, and scrapes nothing.
global:
  scrape_interval: 100y
scrape_configs:
"""


def discovering_text(jobs: Sequence[Judged], *, vmagent: bool) -> tuple[str, list[Finding]]:
    """Raises ``InputError``."""
    findings: list[Finding] = []
    parts = []
    for judged in jobs:
        piece, left_out = _piece(judged, vmagent=vmagent)
        parts.append("  - " + piece.at(4) + "\n")
        if left_out:
            what = f"{', '.join(left_out)}: only vmagent knows it"
            findings.append(judged.job.finding("PI025", what, "left out of discovery.yml"))
    return _HEADER + "".join(parts), findings


def _piece(judged: Judged, *, vmagent: bool) -> tuple[Piece, list[str]]:
    job = judged.job
    piece = piece_of(job.source, job.node)
    left_out: list[str] = []
    if judged.cut_rules:
        piece = piece.changed(without_rules(piece, judged.cut_rules))
    if vmagent:
        piece, left_out = for_prometheus(piece)
    piece = without(piece, {"scrape_failure_log_file"})
    piece = piece.changed(absolute_edits(piece.root, job.source.path.absolute().parent))
    return never(piece), left_out


def never(piece: Piece) -> Piece:
    """Never scraped."""
    text = f"scrape_interval: {NEVER}"
    pair = next((pair for pair in piece.root.pairs if text_of(pair[0]) == "scrape_interval"), None)
    return piece.changed([replace_pair(pair, text) if pair else insert_pair(piece.source, piece.root, text)])


def without_rules(piece: Piece, cut: set[int]) -> list[Edit]:
    """Relabelling without the rules with these numbers."""
    number, rules = next((n, value) for n, (key, value) in enumerate(piece.root.pairs) if text_of(key) == "relabel_configs")
    if len(cut) == len(rules.items):
        return cut_pairs(piece.source, piece.root, [number])
    return cut_items(piece.source, rules, cut)


def without(piece: Piece, names: Collection[str]) -> Piece:
    """Without these keys."""
    cut = [number for number, (key, _) in enumerate(piece.root.pairs) if text_of(key) in names]
    return piece.changed(cut_pairs(piece.source, piece.root, cut)) if cut else piece


def for_prometheus(piece: Piece) -> tuple[Piece, list[str]]:
    """Without what only vmagent takes: its keys, and relabelling that uses its rules. Also the names of what goes."""
    there = [text_of(key) for key, _ in piece.root.pairs]
    cut = [key for key in there if key in keys.VMAGENT_JOB]
    cut += [key for key in ("relabel_configs", "metric_relabel_configs") if not _all_of_prometheus(piece.root, key)]
    return without(piece, set(cut)), cut


def _all_of_prometheus(job: Node, key: str) -> bool:
    listed = get(job, key)
    return listed is None or all(is_of_prometheus(rule) for rule in listed.items)
