"""What is said of the configuration in force: every value, where it is from, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from click.testing import CliRunner
from pydantic import BaseModel

from promring.cli import main
from promring.config.effective import CLOSED, OPEN, effective
from promring.config.kinds import OneOf
from promring.config.load import load_with_lines, loads_with_lines
from promring.config.settings import Settings
from tests.unit.test_web import running

SECRET = "hunter2secret"
TEXT = f"""
global: {{debounce: 300ms}}
consul: {{address: "http://127.0.0.1:8500", username: me, password_file: /proc/sys/kernel/ostype}}
shard_services:
  - name: node
    scrapers: {{probe: {{nodes: ["a:1", {{address: "b:2", zone: east, weight: 2}}], interval: 90s}}}}
    scraper_api: {{http_headers: {{X-Key: {{values: [{SECRET}]}}}}, basic_auth: {{username: scraper, password: {SECRET}}}}}
    targets:
      - http: {{url: "http://cmdb.example/sd?token={SECRET}", bearer_token: {SECRET}}}
      - python: {{callable: "json:loads", settings: {{key: {SECRET}, pin: 4711, deep: [{{x: {SECRET}}}]}}}}
    delivery:
      - command: {{run: ["true", "--token={SECRET}"], path: "/x/{{service}}.json"}}
"""


def of_text(text: str) -> dict[str, tuple[str, int | None]]:
    loaded = loads_with_lines(text, name="promring.yml", base=Path("/etc"))
    return {one.key: (one.value, one.line) for one in effective(loaded.settings, loaded.document)}


def test_every_value_has_its_line_or_is_a_default_and_no_secret_is_shown() -> None:
    found = of_text(TEXT)
    assert SECRET not in json.dumps(found)
    assert "4711" not in json.dumps(found)
    assert found["global.debounce"] == ("300ms", 2)
    assert found["global.reconcile_interval"] == ("1m", None)
    assert found["consul.password_file"] == ("/proc/sys/kernel/ostype", 3)
    assert found["shard_services[0].scraper_api.basic_auth.password"] == ("***", 7)
    assert found["shard_services[0].scrapers.probe.nodes[1]"] == ("b:2,zone=east,weight=2", 6)
    assert found["shard_services[0].scrapers.probe.interval"] == ("90s", 6)
    assert found["shard_services[0].scraper_api.basic_auth.username"] == ("scraper", 7)
    assert found["shard_services[0].targets[0].http.url"] == ("http://cmdb.example/sd", 9)
    assert found["shard_services[0].targets[1].python.settings.pin"] == ("***", 10)
    assert found["shard_services[0].delivery[0].command.run[1]"] == ("***", 12)
    assert found["shard_services[0].delivery[0].command.path"] == ("/x/{service}.json", 12)
    assert found["etcd"] == ("null", None)
    assert found["shard_services[0].scraper_api.no_proxy"] == ('""', None)


def test_a_service_of_a_fleet_has_only_what_it_says_itself() -> None:
    found = of_text("""
fleets: [{name: main, scrapers: {probe: {nodes: ["a:1"]}}, delivery: [{http_sd: {}}], placement: {load_factor: 1.2}}]
shard_services: [{name: node, fleet: main, targets: [{file: {files: [x.json]}}], placement: {replication_factor: 2}}]
""")
    assert found["fleets[0].placement.load_factor"] == ("1.2", 2)
    assert found["shard_services[0].placement.replication_factor"] == ("2", 3)
    assert found["shard_services[0].guard.shrink_hold"] == ("5m", None)
    of_service = {key for key in found if key.startswith("shard_services")}
    assert not {
        key for key in of_service if "scrapers" in key or "load_factor" in key or "panic" in key or "delivery" in key
    }


def texts(type_: Any, key: str) -> Iterator[str]:
    """The keys below a type whose values are texts, or anything."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        hints = get_type_hints(type_, include_extras=True)
        for name, field in type_.model_fields.items():
            yield from texts(hints[name], field.alias or name)
    elif get_origin(type_) is Annotated:
        for mark in type_.__metadata__:
            for kind in mark.kinds.values() if isinstance(mark, OneOf) else ():
                yield from texts(kind, key)
        yield from texts(type_.__origin__, key)
    elif type_ in (str, Any, object):
        yield key
    else:
        for inner in get_args(type_):
            yield from texts(inner, key)


def test_somebody_has_decided_of_every_text_whether_it_may_be_shown() -> None:
    every = set(texts(Settings, ""))
    hidden = CLOSED | {"values", "proxy_connect_header", "pod_labels"}
    assert {"description", "run", "callable"} <= every
    assert every - OPEN - hidden == set(), "a key for OPEN in config/effective.py, if it never holds a secret; else for here"


def test_every_configuration_of_the_documentation_can_be_shown(tmp_path: Path) -> None:
    loaded = load_with_lines(Path(__file__).parents[2] / "deploy/promring.example.yml")
    assert len(effective(loaded.settings, loaded.document)) > 50
    pasted = of_text("""
shard_services:
  - name: node
    scrapers: {probe: {nodes: ["a:1"]}}
    targets:
      - http_sd_configs: [{url: "http://cmdb.example/sd", basic_auth: {username: a, password: verysecret}}]
      - static_configs: [{targets: ["x:1"], labels: {password: verysecret}}]
    delivery: [{http_sd: {}}]
""")
    assert pasted["shard_services[0].targets[0].http_sd_configs[0].url"] == ("http://cmdb.example/sd", 6)
    assert "verysecret" not in json.dumps(pasted)


def test_the_command_says_what_a_file_means(tmp_path: Path) -> None:
    file = tmp_path / "p.yml"
    file.write_text(TEXT.replace("/etc", str(tmp_path)))
    said = CliRunner().invoke(main, ["config", str(file)])
    assert said.exit_code == 0, said.output
    assert f"global.debounce: 300ms  # {file}:2\n" in said.output
    assert "global.reconcile_interval: 1m  # default\n" in said.output
    short = CliRunner().invoke(main, ["config", str(file), "--no-defaults", "-o", "json"])
    assert {one["origin"] for one in json.loads(short.output)["settings"]} == {"file"}
    file.write_text("nonsense: 1")
    wrong = CliRunner().invoke(main, ["config", str(file)])
    assert (wrong.exit_code, f"{file}:1: nonsense: unknown key" in wrong.output) == (2, True)


async def test_page_and_api_show_what_is_in_force_and_not_what_the_file_says_now(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        file = tmp_path / "promring.yml"
        before = {one["key"]: one for one in (await r.data("/api/v1/config"))["settings"]}
        assert (before["global.debounce"]["value"], before["global.debounce"]["origin"]) == ("10ms", "file")
        file.write_text(file.read_text().replace("10ms", "20ms"))
        assert "10ms" in (await r.get("/config?q=debounce"))[2].decode()
        await r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer sesame"})
        page = (await r.get("/config?q=debounce&said=1"))[2].decode()
        assert "20ms" in page
        assert "reconcile_interval" not in page
        assert "no value is like that" in (await r.get("/config?q=nothing-like-it"))[2].decode()
