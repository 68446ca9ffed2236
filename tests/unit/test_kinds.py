"""The tables of kinds: what they have is what the configuration page has, and each kind keeps what all of them promise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from promring.config.kinds import Table
from promring.config.settings import Settings
from promring.delivery import kinds as delivery
from promring.discovery import kinds as discovery
from promring.discovery.pasted_keys import PASTED
from promring.election import kinds as election
from promring.loads import kinds as loads
from promring.membership import ScraperSettings
from promring.membership import kinds as membership

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
TABLES: Mapping[str, Table[Any]] = {
    "scrapers": membership.KINDS,
    "targets": discovery.KINDS,
    "delivery": delivery.KINDS,
    "lock": election.KINDS,
}
ALL: Mapping[str, Table[Any]] = {**TABLES, "loads": loads.KINDS}
BLOCKS = set(PASTED)
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


@pytest.mark.parametrize(("key", "kind"), [(key, kind) for key, table in ALL.items() for kind in table])
def test_a_kind_is_found_by_its_key_and_its_section_is_one_of_the_document(key: str, kind: str) -> None:
    settings = ALL[key][kind]
    assert settings.kind == kind
    assert settings.model_config.get("frozen")
    assert not settings.__abstractmethods__
    assert settings.section is None or settings.section.key in Settings.model_fields


@pytest.mark.parametrize(
    "where",
    ["promring.membership.probe:DirectCheck", "promring.delivery.file:FileSettings", "promring.membership.dns:DnsScrapers"],
)
def test_a_row_that_is_no_kind_of_its_table_or_not_of_its_key_is_refused(where: str) -> None:
    table = Table(ScraperSettings, {"probe": where})
    with pytest.raises(TypeError, match="is no ScraperSettings of the kind 'probe'"):
        table["probe"]


def test_only_the_kinds_that_a_configuration_names_are_loaded() -> None:
    told = "import sys; from promring.config.load import loads; loads(sys.argv[1]); print(*sys.modules)"
    service = "{name: x, scrapers: {probe: {nodes: ['h:1']}}, delivery: [{http_sd: {}}], targets: [{dns: {names: [a]}}]}"
    argv = [sys.executable, "-c", told, f"shard_services: [{service}]"]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    modules = {row.partition(":")[0] for table in ALL.values() for row in table.rows.values()}
    named = {"promring.membership.probe", "promring.delivery.http_sd", "promring.discovery.dns", "promring.loads.count"}
    assert modules & set(loaded) == named
