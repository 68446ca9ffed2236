"""The JSON schema for editors and the map of all keys: made from the settings, and of one mind with them."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import jsonschema
import pytest
import yaml

from promring.config.settings import Settings
from tests.unit.test_docs import ROOT, keys, yaml_block
from tests.unit.test_docs_blocks import BLOCKS

SCHEMA = json.loads((ROOT / "deploy/promring.schema.json").read_text())
SHOWN = {where: block.text for where, block in BLOCKS.items() if block.language == "yaml"}
WHOLE = {where: text for where, text in SHOWN.items() if re.search("^shard_services:", text, re.MULTILINE)}
WHOLE["deploy/promring.example.yml"] = (ROOT / "deploy/promring.example.yml").read_text()


def wrong(text: str) -> list[str]:
    """Where a configuration is wrong by the schema."""
    checker = jsonschema.Draft202012Validator(SCHEMA)
    return [error.json_path for error in checker.iter_errors(yaml.safe_load(text))]


def test_schema_and_map_are_what_the_settings_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts/make-schema"))
    schema: dict[str, Any] = made["schema"]()
    assert (ROOT / "deploy/promring.schema.json").read_text() == made["text"](schema), "make pages writes it"
    assert (ROOT / "docs/keys.md").read_text() == made["page"](schema), "make pages writes it"


def test_every_key_is_in_the_map() -> None:
    page = (ROOT / "docs/keys.md").read_text()
    missing = {key for key in keys(Settings) if not re.search(rf"[.`]{key}(\[\]|`|\.)", page)}
    refused = {"credentials_ref", "username_ref", "password_ref"}
    assert missing <= refused | {"zone", "weight", "blocks"}, "those of a scraper in a list; what pasted blocks are kept as"


@pytest.mark.parametrize("where", WHOLE)
def test_what_the_documentation_shows_is_right_by_the_schema(where: str) -> None:
    assert wrong(WHOLE[where]) == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("probe: {nodes", "prob: {nodes", "$.shard_services[0].scrapers"),
        ("{nodes: [10.0.0.1:9090,", "{interval: 2, nodes: [10.0.0.1:9090,", "$.shard_services[0].scrapers.probe.interval"),
        (
            "{nodes: [10.0.0.1:9090,",
            "{interval: fast, nodes: [10.0.0.1:9090,",
            "$.shard_services[0].scrapers.probe.interval",
        ),
        ("- http_sd: {}", "- {http_sd: {}, file: {path: x}}", "$.shard_services[0].delivery[0]"),
        ("shard_services:", "shard_service: 1\nshard_services:", "$"),
        ("name: node_exporter", "description: 1", "$.shard_services[0]"),
    ],
)
def test_what_is_wrong_is_marked_where_it_stands(old: str, new: str, where: str) -> None:
    text = yaml_block("README.md")
    assert wrong(text) == []
    assert old in text
    found = wrong(text.replace(old, new, 1))
    assert any(path.startswith(where) or where.startswith(path) for path in found), found
    assert found
