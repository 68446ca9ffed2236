"""The tables of kinds: what they have is what the configuration page has, and each kind keeps what all of them promise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from promring.config.kinds import Kind
from promring.config.settings import Settings
from promring.delivery import kinds as delivery
from promring.discovery import kinds as discovery
from promring.discovery.pasted import PASTED
from promring.election import kinds as election
from promring.membership import kinds as membership

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
TABLES: Mapping[str, Mapping[str, type[Kind]]] = {
    "scrapers": membership.KINDS,
    "targets": discovery.KINDS,
    "delivery": delivery.KINDS,
    "lock": election.KINDS,
}
BLOCKS = {kind.kind for kind in PASTED}
"""Blocks of Prometheus have a section of their own on the page."""


def named(key: str) -> set[str]:
    """The kinds under ``key`` in the reference, also those in comments."""
    match = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    lines = [re.sub(r"^(\s*)# ", r"\1", line) for line in match[1].splitlines()]
    found: set[str] = set()
    for start, line in enumerate(lines):
        if not re.match(rf"\s*(- )?{key}:(\s*#.*)?$", line):
            continue
        depth = len(line) - len(line.lstrip(" "))
        for inner in lines[start + 1 :]:
            if len(inner) - len(inner.lstrip(" ")) <= depth:
                break
            if entry := re.match(rf" {{{depth + 2}}}(?:- )?(\w+):", inner):
                found.add(entry[1])
    return found


@pytest.mark.parametrize("key", TABLES)
def test_the_reference_names_every_kind_of_the_table_and_no_other(key: str) -> None:
    assert named(key) == set(TABLES[key]) - BLOCKS
    assert all(f"{kind}:" in PAGE for kind in TABLES[key])


@pytest.mark.parametrize(("key", "kind"), [(key, kind) for key, table in TABLES.items() for kind in table])
def test_a_kind_is_found_by_its_key_and_its_section_is_one_of_the_document(key: str, kind: str) -> None:
    settings = TABLES[key][kind]
    assert settings.kind == kind
    assert settings.model_config.get("frozen")
    assert not settings.__abstractmethods__
    assert settings.section is None or settings.section.key in Settings.model_fields
