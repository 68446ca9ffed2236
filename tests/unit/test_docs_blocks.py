"""What the documentation shows is what promring takes: every YAML block, every command with its options, every link with its
place in a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from promring.cli import COMMANDS, main
from promring.config.load import loads
from promring.config.settings import Settings
from promring.model import ConfigError
from promring.web.access import WebConfig, load_web_config
from tests.unit.test_docs import PAGES, ROOT, keys

OURS = {field.alias or name for name, field in Settings.model_fields.items()}
WEB = set(WebConfig.model_fields)
FOREIGN = {
    "scrape_configs",
    "rule_files",
    "global",
    "scrape_config_files",
    "remote_write",
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "triggers",
}
"""Top-level keys of Prometheus' configuration, of manifests of Kubernetes, and of KEDA."""
BLOCK = re.compile(r"^ *```yaml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^(?: {4,}|\$ )promring (?=[a-z])(.*)$")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and mkdocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_a_heading_that_is_there(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / link if link else page), f"{link}#{anchor}"


def yaml_blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(
            re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL), 1
        ):
            lines = block.splitlines()
            indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
            yield f"{name(page)}:{number}", "\n".join(line[indent:] for line in lines)


BLOCKS = dict(yaml_blocks())


@pytest.mark.parametrize("where", BLOCKS)
def test_a_yaml_block_is_what_its_keys_say(where: str, tmp_path: Path) -> None:
    text = BLOCKS[where]
    for document in yaml.safe_load_all(text):
        if not isinstance(document, dict):
            assert document, "a list of targets, or a part of a list"
        elif set(document) & WEB:
            (tmp_path / "web.yml").write_text(text)
            load_web_config(tmp_path / "web.yml")
        elif "shard_services" in document and where != "docs/configuration.md:1":  # names files; test_docs.py has that
            assert [why for why in problems(text, tmp_path) if not why.endswith("is required")] == []
        elif not set(document) & FOREIGN:
            assert set(document) <= OURS | keys(Settings), "a part of a configuration"


def problems(text: str, base: Path) -> list[str]:
    try:
        loads(text, base=base)
    except ConfigError as error:
        return error.problems
    return []


def lines(text: str) -> Iterator[str]:
    """Those of blocks, continued ones in one piece, and what stands between backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    yield from (found[1] for line in joined.splitlines() if (found := SHOWN.match(line)))
    yield from re.findall(r"`promring ([a-z][^`]*)`", joined.replace("\n", " "))


def options(command: str) -> set[str]:
    found = main.get_command(main.make_context("promring", [], resilient_parsing=True), command)
    assert found is not None
    return {one for parameter in found.params for one in parameter.opts} | {"--help", "-h"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "track-record.md"], ids=name)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    for line in lines(page.read_text()):
        command, *_ = line.split()
        command = command.strip(".,:;")
        assert command in COMMANDS, line
        shown = re.sub(r"\s(#|\||>|&&).*", "", line)
        asked = set(re.findall(r"(?<=[\s\[])(--[a-z][\w.-]*\w)", shown))
        assert asked <= options(command), line


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    beside = {"index.md", "changelog.md", "contributing.md"}
    assert named - beside == {page.name for page in (ROOT / "docs").glob("*.md")}
