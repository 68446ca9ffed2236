"""Which jobs promring can find the targets of itself. promring is the judge: it takes what ``promring check`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from promring.config.load import loads
from promring.importing import keys
from promring.importing.configuration import Job
from promring.importing.edits import Edit, quoted, resolves_to_text
from promring.importing.inside import absolute_edits, leaves
from promring.importing.piece import Piece, piece_of_pair
from promring.importing.source import Node, flat
from promring.model import ConfigError

INDENT = 8
"""Of a block under ``targets`` of a service."""
_FRAME = """\
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["h:1"]}}
    delivery: [{http_sd: {}}]
    targets:
      - """
_TEXT = ("!", "tag:yaml.org,2002:str")
"""Tags that say no more than quotes do."""
_HERE = ": shard_services[0].targets[0]."
_NOT_THERE = ("No such file or directory", "Permission denied", "Is a directory")


class Native(NamedTuple):
    """``blocks``: each a key and its value, as they stand under ``targets``; else ``why`` there are none."""

    blocks: tuple[Piece, ...] = ()
    why: str = ""


def native(job: Job) -> Native:
    """How promring finds the targets of ``job``, or why it does not. A job has at least one discovery.

    Raises ``InputError`` where the block cannot be moved.
    """
    blocks = []
    for kind in job.discoveries:
        if kind not in keys.NATIVE:
            return Native(why=f"promring has no {kind}")
        block = _block(job, kind)
        if refused := _refused(block):
            return Native(why=refused)
        blocks.append(block)
    return Native(tuple(blocks))


def _block(job: Job, kind: str) -> Piece:
    block = piece_of_pair(job.source, *flat(job.node)[kind], kind)
    block = block.changed(absolute_edits(block.root, job.source.path.absolute().parent))
    block = block.changed(_without_tags(block.root))
    return block.changed(_as_texts(block.root)) if kind == "static_configs" else block


def _without_tags(block: Node) -> list[Edit]:
    """Quotes in place of a tag that says that something is a text."""
    tagged = (leaf.node for leaf in leaves(block) if leaf.node.tag in _TEXT)
    return [Edit(node.start, node.end, quoted(node.text)) for node in tagged]


def _as_texts(block: Node) -> list[Edit]:
    """Quotes around what is a number, a truth or a time for promring, and always a text for Prometheus."""
    plain = (leaf.node for leaf in leaves(block) if not leaf.node.style and leaf.node.tag is None and not leaf.node.is_null)
    return [Edit(node.start, node.end, quoted(node.text)) for node in plain if not resolves_to_text(node.text)]


def _refused(block: Piece) -> str:
    """Why ``promring check`` does not take it; empty when it does."""
    for problem in refusals(_FRAME + block.at(INDENT) + "\n"):
        place, _, what = problem.partition(_HERE)
        if place != problem:
            return f"promring does not take {what}"
    return ""


def refusals(text: str) -> list[str]:
    """What ``promring check`` has against a configuration, but for files that are not here, where it is written."""
    try:
        loads(text, name="", base=Path("/"))
    except ConfigError as error:
        return [problem for problem in error.problems if not problem.endswith(_NOT_THERE)]
    return []
