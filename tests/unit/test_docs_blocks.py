"""What the documentation shows is what promring takes: every block, by its language, every command with its options,
every link with its place in a page.

A block of shell is run by a test of real servers, or a comment on the line above says why not, or where it is:
``<!-- block: not run: … -->``, ``<!-- block: run elsewhere: tests/… -->``."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from promring.cli import COMMANDS, main
from promring.config.load import loads
from promring.config.settings import Settings
from promring.demo.process import find
from promring.model import ConfigError
from promring.web.access import WebConfig, load_web_config
from tests.blocks import Block, blocks, commands
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


BLOCKS = {f"{block.page}:{block.line}": block for page in PAGES for block in blocks(page)}
FOLLOWED = ("docs/getting-started.md",)
"""Pages that tests/real/test_getting_started.py follows from the first block to the last."""
RUN = ("README.md", "docs/operations.md", "docs/questions.md", "docs/runbooks.md")
"""Pages whose unmarked commands it runs, beside those of docs/install.md."""


def shell(text: str) -> None:
    """The shell can read it, and promring's command line every call of promring."""
    read = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def judge_shell(block: Block, tmp_path: Path) -> None:
    shell(block.text)
    for line in commands(block):
        if line.startswith("promring "):
            parsed(shlex.split(line)[1:])
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    if block.marker:
        how = re.fullmatch(r"(not run: .+|run elsewhere: (tests/\S+\.py))", block.marker)
        assert how, f"{block.marker!r} says neither why it is not run nor where"
        assert not how[2] or (ROOT / how[2]).exists(), how[2]
    else:
        assert block.page in (*FOLLOWED, *RUN, "docs/install.md"), "nobody runs it: say why not, or where"


def parsed(words: list[str]) -> None:
    """By the command's own parser: options, their values, and how many arguments. Files need not exist."""
    command = main.get_command(main.make_context("promring", [], resilient_parsing=True), words[0])
    assert command is not None, words
    try:
        command.make_context(words[0], words[1:])
    except click.BadParameter as error:
        if not re.search(r"does not exist|no such file|cannot read", error.format_message(), re.IGNORECASE):
            raise


def judge_yaml(block: Block, tmp_path: Path) -> None:
    for document in yaml.safe_load_all(block.text):
        if not isinstance(document, dict):
            assert document or block.text.startswith("# yaml-language-server"), "a list of targets, or a part of a list"
        elif set(document) & WEB:
            (tmp_path / "web.yml").write_text(block.text)
            load_web_config(tmp_path / "web.yml")
        elif "shard_services" in document and block != next(blocks(ROOT / "docs/configuration.md")):  # test_docs.py has that
            assert [why for why in problems(block.text, tmp_path) if not why.endswith("is required")] == []
        elif not set(document) & FOREIGN:
            assert set(document) <= OURS | keys(Settings), "a part of a configuration"


def judge_json(block: Block, tmp_path: Path) -> None:
    assert msgspec.json.decode(block.text)


def judge_python(block: Block, tmp_path: Path) -> None:
    compile(block.text, str(block), "exec")


def judge_promql(block: Block, tmp_path: Path) -> None:
    shipped = (ROOT / "docs/metrics.md").read_text()
    assert [metric for metric in re.findall(r"promring_\w+", block.text) if f"`{metric}`" not in shipped] == []
    rules = [{"record": f"r{number}", "expr": line} for number, line in enumerate(block.text.splitlines())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]}))
    if (promtool := find("promtool")) is not None:
        done = subprocess.run(
            [promtool, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def judge_text(block: Block, tmp_path: Path) -> None:
    """What a program prints, or a drawing: nothing to try."""


def judge_hcl(block: Block, tmp_path: Path) -> None:
    assert "docs/operations.md" in (ROOT / "tests/real/test_consul_acl.py").read_text(), "a real Consul takes it there"


def judge_haproxy(block: Block, tmp_path: Path) -> None:
    assert block.marker == "run elsewhere: tests/real/test_balancer.py", "a real HAProxy takes it there"


JUDGES = {
    "sh": judge_shell,
    "yaml": judge_yaml,
    "json": judge_json,
    "python": judge_python,
    "promql": judge_promql,
    "text": judge_text,
    "hcl": judge_hcl,
    "haproxy": judge_haproxy,
}


@pytest.mark.parametrize("where", BLOCKS)
def test_a_block_is_what_its_language_says(where: str, tmp_path: Path) -> None:
    block = BLOCKS[where]
    assert block.language in JUDGES, "a block says what it is"
    JUDGES[block.language](block, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_is_hidden_from_these_tests_by_being_indented(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?<=\n\n) {4,}(?![-*] |\d+\. ).*", text) == []


def problems(text: str, base: Path) -> list[str]:
    try:
        loads(text, base=base)
    except ConfigError as error:
        return error.problems
    return []


def lines(page: Path) -> Iterator[str]:
    """Calls of promring: those of blocks, continued ones in one piece, and what stands between backticks."""
    shown = (line for block in blocks(page) if block.language == "sh" for line in commands(block))
    yield from (line.removeprefix("promring ") for line in shown if line.startswith("promring "))
    yield from re.findall(r"`promring ([a-z][^`]*)`", page.read_text().replace("\n", " "))


def options(command: str) -> set[str]:
    found = main.get_command(main.make_context("promring", [], resilient_parsing=True), command)
    assert found is not None
    return {one for parameter in found.params for one in parameter.opts} | {"--help", "-h"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "track-record.md"], ids=name)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    for line in lines(page):
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
