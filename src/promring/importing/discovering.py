"""``discovery.yml``: the jobs whose targets a stock Prometheus finds for promring. It scrapes nothing.

A job is the old one, relabelling too, so that what relabelling drops is known before targets are placed. Its interval is a
hundred years: Prometheus 2.42 and 3.5 list such targets as active and do not scrape them. That is so whatever interval
a target's own labels or relabelling say, which act at the scrapers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from promring.importing import keys
from promring.importing.configuration import action_of, is_of_prometheus, rules_of, sources_of
from promring.importing.edits import Edit, cut_items, cut_pairs, insert_pair, replace_pair
from promring.importing.findings import Finding
from promring.importing.inside import absolute_edits, leaves
from promring.importing.piece import Piece, piece_of
from promring.importing.source import Node, get, text_of
from promring.importing.verdicts import DROPPING, Judged

NEVER = "100y"
TIMES = {"__scrape_interval__": NEVER, "__scrape_timeout__": "10s"}
"""Labels that a target may have of its own, and what they are where it is only found."""
AS_FOUND = (
    '{action: labelmap, regex: "(.+)", replacement: "__tmp_promring_${1}"}',
    '{action: labeldrop, regex: "__tmp_promring_.+"}',
)
_WRITING = frozenset(("replace", "lowercase", "uppercase", "hashmod", "labelmap"))
_GROUP = re.compile(r"\$(?:\w+|\{\w+\})")
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
    cut = judged.cut_rules | {number for number, rule in enumerate(rules_of(job)) if _drops_by_time(rule)}
    if cut:
        piece = piece.changed(without_rules(piece, cut))
    if vmagent:
        piece, left_out = for_prometheus(piece, alone=not job.common)
    piece = without(piece, {"scrape_failure_log_file"})
    piece = piece.changed(absolute_edits(piece.root, job.source.path.absolute().parent))
    piece = never(piece)
    return (piece.changed([_as_found(piece)]) if _changes_labels(piece.root) else piece), left_out


def never(piece: Piece) -> Piece:
    """Never scraped."""
    text, pair = f"scrape_interval: {NEVER}", _pair(piece, "scrape_interval")
    piece = piece.changed([replace_pair(pair, text) if pair else insert_pair(piece.source, piece.root, text)])
    return piece.changed([_overwriting(piece)]) if _may_set_times(piece.root) else piece


def _changes_labels(job: Node) -> bool:
    rules = get(job, "relabel_configs")
    return rules is not None and any(action_of(rule) not in DROPPING for rule in rules.items)


def _as_found(piece: Piece) -> Edit:
    """Rules before all others that change nothing, but make Prometheus 2.42 take another place in memory for the labels.

    Else it relabels in the place of what it found, and says that it found the result: labels that the scrapers would
    relabel once more, or that are gone.
    """
    pair = _pair(piece, "relabel_configs")
    assert pair is not None  # they change labels
    first = pair[1].items[0].start
    if pair[1].flow:
        return Edit(first, first, "".join(f"{rule}, " for rule in AS_FOUND))
    dash = piece.source.text.index("-", pair[1].start)
    indent = " " * (dash - piece.source.line_start(dash))
    return Edit(dash, dash, "".join(f"- {rule}\n{indent}" for rule in AS_FOUND))


def _pair(piece: Piece, name: str) -> tuple[Node, Node] | None:
    return next((pair for pair in piece.root.pairs if text_of(pair[0]) == name), None)


def _overwriting(piece: Piece) -> Edit:
    """Rules behind all others that set ``TIMES``."""
    rules = [f"{{target_label: {label}, replacement: {value}}}" for label, value in TIMES.items()]
    text, pair = f"relabel_configs: [{', '.join(rules)}]", _pair(piece, "relabel_configs")
    if pair is None:
        return insert_pair(piece.source, piece.root, text)
    there = pair[1]
    if not there.items:
        return replace_pair(pair, text)
    end = there.items[-1].end
    if there.flow:
        return Edit(end, end, "".join(f", {rule}" for rule in rules))
    end = piece.source.line_end(end)
    return Edit(end, end, "".join(f"\n{' ' * there.column}- {rule}" for rule in rules))


def _may_set_times(job: Node) -> bool:
    """Whether a target of a job may have ``TIMES`` of its own."""
    static = get(job, "static_configs")
    listed = static is not None and any(leaf.key in TIMES for leaf in leaves(static))
    rules = get(job, "relabel_configs")
    by_rule = rules is not None and any(map(_may_write_times, rules.items))
    return listed or by_rule or any(get(job, kind) is not None for kind in ("file_sd_configs", "http_sd_configs"))


def _may_write_times(rule: Node) -> bool:
    action = action_of(rule)
    if action not in _WRITING:
        return False
    to = (text_of(get(rule, "replacement")) or "$1") if action == "labelmap" else text_of(get(rule, "target_label"))
    written = re.compile(".*".join(map(re.escape, _GROUP.split(to))))
    return any(written.fullmatch(label) for label in TIMES)


def _drops_by_time(rule: Node) -> bool:
    """Whether it drops targets by what is another time here."""
    read = {*sources_of(rule), text_of(get(rule, "target_label"))}
    return action_of(rule) in DROPPING and not read.isdisjoint(TIMES)


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


def for_prometheus(piece: Piece, *, alone: bool = True) -> tuple[Piece, list[str]]:
    """Without what only vmagent takes: its keys, and relabelling that uses its rules, or that is not ``alone``: it comes
    after rules of ``global``, and would drop other targets without them. Also the names of what goes.
    """
    there = [text_of(key) for key, _ in piece.root.pairs]
    cut = [key for key in there if key in keys.VMAGENT_JOB]
    cut += [key for key in ("relabel_configs", "metric_relabel_configs") if not _all_of_prometheus(piece.root, key)]
    if not alone and "relabel_configs" in there and "relabel_configs" not in cut:
        cut.append("relabel_configs")
    return without(piece, set(cut)), cut


def _all_of_prometheus(job: Node, key: str) -> bool:
    listed = get(job, key)
    return listed is None or all(is_of_prometheus(rule) for rule in listed.items)
