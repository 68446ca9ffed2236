"""The documentation says what is: its configuration is valid, its keys are the settings' keys, its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from promring.cli import COMMANDS, main
from promring.config.kinds import OneOf
from promring.config.load import loads
from promring.config.node import Node
from promring.config.settings import Settings
from tests.blocks import blocks, commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def yaml_block(page: str) -> str:
    match = re.search(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def test_the_configuration_page_shows_a_valid_configuration(tmp_path: Path) -> None:
    for name in ("token", "headers", "bearer", "scraper-password", "discovery.yml"):
        (tmp_path / name).write_text("secret")
    text = "\n".join(line for line in yaml_block("docs/configuration.md").splitlines() if "tls:" not in line)
    settings = loads(text, base=tmp_path)
    assert [t.kind for t in settings.shard_services[0].targets] == ["file", "http", "consul", "dns", "prometheus", "python"]
    # What it shows as defaults are the defaults.
    assert settings.global_ == Settings.model_fields["global_"].default
    assert settings.shard_services[0].placement == type(settings.shard_services[0].placement)()


def test_the_readme_shows_a_valid_configuration(tmp_path: Path) -> None:
    assert loads(yaml_block("README.md"), base=tmp_path).shard_services[0].name == "node_exporter"


def keys(model: type[BaseModel]) -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        if field.annotation is type(None):  # refused, with what to do instead
            continue
        found.add(field.alias or name)
        found |= keys_of(field.annotation).union(*(keys_of(part) for part in field.metadata))
    return found


def keys_of(part: object) -> set[str]:
    """Of the models that a type is made of, and of the kinds that may be chosen."""
    if isinstance(part, OneOf):
        return set(part.kinds).union(*map(keys, part.kinds.values()))
    if isinstance(part, type) and issubclass(part, BaseModel):
        return keys(part)
    if isinstance(part, type) and issubclass(part, Node):
        return {"address", "zone", "weight"}
    return set().union(*map(keys_of, (*get_args(part), *getattr(part, "__metadata__", ()))))


def test_every_key_is_on_the_configuration_page() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert len(keys(Settings)) > 50
    assert [key for key in sorted(keys(Settings)) if not re.search(rf"\b{key}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
        assert re.search(rf"def {name}\b" if name else "", (ROOT / file).read_text()), f"{file}::{name}"


def test_each_decision_is_in_their_list_under_its_title() -> None:
    text = (ROOT / "docs/decisions/README.md").read_text()
    listed = re.findall(r"^- (\d+): \[(.*)\]\((0\d+-.*\.md)\)$", text, re.MULTILINE)
    pages = {page.name: page.read_text().partition("\n")[0] for page in ROOT.glob("docs/decisions/0*.md")}
    assert {file: f"# {number}. {title}" for number, title, file in listed} == pages
    assert len(listed) == len(pages)


def test_commands_in_the_readme_exist() -> None:
    shown = [line for block in blocks(ROOT / "README.md") if block.language == "sh" for line in commands(block)]
    named = {line.split()[1] for line in shown if line.startswith("promring ")}
    assert named <= set(COMMANDS)
    assert {"run", "check", "where", "scrape-config", "drain"} <= named


def test_check_says_valid_or_every_error_with_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(yaml_block("README.md"))
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/all.json").touch()
    result = CliRunner().invoke(main, ["check", str(file)])
    assert (result.exit_code, result.output) == (0, f"{file}: valid, 1 shard service: node_exporter\n")
    file.write_text(yaml_block("README.md").replace("probe:", "prob:") + "x: 1\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 2
    assert [line.split(" ")[0] for line in result.output.splitlines()] == [f"{file}:5:", f"{file}:10:"]
    file.write_text(yaml_block("README.md"))
    (tmp_path / "web.yml").write_text("basic_auth_users: {alice: plain}\n")
    result = CliRunner().invoke(main, ["check", str(file), "--web.config.file", str(tmp_path / "web.yml")])
    assert (result.exit_code, result.output.splitlines()) == (
        2,
        [f"{tmp_path}/web.yml:1: basic_auth_users.alice: is not a bcrypt hash"],
    )
    (tmp_path / "web.yml").write_text("rate_limit: {interval: 1s, burst: 9}\n")
    result = CliRunner().invoke(main, ["check", str(file), "--web.config.file", str(tmp_path / "web.yml")])
    assert result.exit_code == 0
    result = CliRunner().invoke(main, ["check", str(tmp_path / "none.yml")])
    assert (result.exit_code, result.output) == (2, f"{tmp_path}/none.yml:1: No such file or directory\n")


@pytest.mark.parametrize("delivery", ["http_sd: {}", 'file: {path: "out/{service}/{scraper}.json"}'])
def test_scrape_config_prints_what_prometheus_takes(tmp_path: Path, delivery: str) -> None:
    file = tmp_path / "x.yml"
    file.write_text(re.sub(r"- http_sd: \{\}.*", f"- {delivery}", yaml_block("README.md")))
    arguments = ["scrape-config", "--config.file", str(file), "node_exporter", "--scraper", "10.0.0.1:9090"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    wanted = "/sd/node_exporter/10.0.0.1:9090" if "http" in delivery else f"{tmp_path}/out/node_exporter/10.0.0.1_9090.json"
    assert wanted in result.output
    assert CliRunner().invoke(main, [*arguments[:3], "nobody"]).exit_code == 1


def pinned(name: str) -> set[str]:
    return {m.lower() for m in re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE)}


def test_the_lock_for_running_has_what_is_imported_and_nothing_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {re.split("[>=<]", line)[0] for line in project["project"]["dependencies"]} | {"asyncssh", "uvloop"}
    running, testing = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert wanted <= running
    assert not running & {"pytest", "mypy", "ruff", "ansible-core", "hypothesis", "matplotlib", "trustme"}
    assert running < testing
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert "://" not in (ROOT / name).read_text(), "no address of an index"
    assert project["build-system"]["requires"][0].startswith("hatchling==")
