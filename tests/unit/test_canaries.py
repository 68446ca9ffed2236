"""A9: valid configurations with a canary at each key for a secret, and all that commands say of them and write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from promring.cli import main
from promring.config.settings import FLEET_ONLY, Settings
from promring.importing.configuration import read_configuration
from promring.importing.convert import PRIVATE, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Wishes
from tests.canaries import Canaries, Written, configuration, keys_of, secret_keys
from tests.fakes.answers_all import server_of_all

NOT_VALID = {"shard_services.scraper_api.proxy_connect_header"}
"""A scraper is asked without a proxy."""
COMMANDS = (
    "check {}",
    "check {} -o json",
    "check {} --online",
    "check {} --online -o json",
    "config {}",
    "config {} -o json",
    "config {} -o yaml --no-defaults",
    "plan --config.file {} --offline --fleet node2",
    "plan --config.file {} --offline --fleet node1 -o json",
    "scrape-config --config.file {}",
    "scrape-config --config.file {} --for vmagent --scraper 127.0.0.1:9090 --url http://c:9600",
)


@pytest.fixture
def server() -> Iterator[str]:
    with server_of_all() as address:
        yield address


def test_each_key_that_can_hold_a_secret_has_a_canary(tmp_path: Path) -> None:
    written = Written(tmp_path, Canaries(), "127.0.0.1:1")
    said = {key for second in (False, True) for key in keys_of(configuration(written, second=second))}
    every = {key for key in secret_keys(Settings) if not key.startswith("fleets.")}
    assert {key.split(".")[1] for key in secret_keys(Settings) if key.startswith("fleets.")} <= {*FLEET_ONLY, "placement"}
    assert len(every) > 80
    assert every - said == NOT_VALID


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_says_a_secret_of_a_valid_configuration(tmp_path: Path, server: str, command: str, second: bool) -> None:
    canary, file = Canaries(), tmp_path / "promring.yml"
    file.write_text(json.dumps(configuration(Written(tmp_path / "files", canary, server), second=second), indent=1))
    said = CliRunner().invoke(main, command.format(file).split())
    assert (said.exit_code in (0, 1), len(said.output) > 100) == (True, True), "1: a source that does not answer"
    assert "no TLS" in said.output or "online" not in command, "the others are asked"
    assert canary.found(said.output) == []
    assert canary.found(repr(said.exception)) == []


# --- import ------------------------------------------------------------------------------------------------------------

STATIC = '    static_configs: [{targets: ["a:1"]}]\n'
HTTP = '    http_sd_configs: [{url: "http://cmdb.example/sd", '
OF_JOBS = {
    "password": "    basic_auth: {username: me, password: CANARY}\n" + STATIC,
    "token": "    bearer_token: CANARY\n" + STATIC,
    "credentials": "    authorization: {credentials: CANARY}\n" + STATIC,
    "key of TLS": '    tls_config: {cert: x, key: "-----BEGIN PRIVATE KEY-----\\nCANARY\\n"}\n' + STATIC,
    "secret of a header": "    http_headers: {X-Key: {secrets: [CANARY]}}\n" + STATIC,
    "value of a header": "    http_headers: {X-Key: {values: [CANARY]}}\n" + STATIC,
    "header for a proxy": "    proxy_url: http://p:1\n    proxy_connect_header: {Proxy-Authorization: [CANARY]}\n" + STATIC,
    "user of a proxy": "    proxy_url: http://me:CANARY@p:1\n" + STATIC,
    "parameter": "    params: {api_key: [CANARY]}\n" + STATIC,
    "client_secret": "    oauth2: {client_id: a, client_secret: CANARY, token_url: http://x}\n" + STATIC,
    "endpoint_params": "    oauth2: {client_id: a, client_secret_file: f, token_url: http://x, endpoint_params: {p: CANARY}}"
    "\n" + STATIC,
    "label that is a parameter": '    static_configs: [{targets: ["a:1"], labels: {__param_token: CANARY}}]\n',
    "query of a discovery": '    http_sd_configs: [{url: "http://cmdb.example/sd?key=CANARY"}]\n',
    "header of a discovery": HTTP + "http_headers: {X: {values: [CANARY]}}}]\n",
    "proxy of a discovery": HTTP + 'proxy_url: "http://me:CANARY@p:1"}]\n',
    "proxy's header of a discovery": HTTP + "proxy_url: http://p, proxy_connect_header: {P: [CANARY]}}]\n",
    "token of Consul": '    consul_sd_configs: [{server: "c:8500", token: CANARY}]\n',
    "password of Consul": '    consul_sd_configs: [{server: "c:8500", username: me, password: CANARY}]\n',
    "secret key of EC2": "    ec2_sd_configs: [{region: a, access_key: b, secret_key: CANARY}]\n",
    "OVH": "    ovhcloud_sd_configs: [{service: vps, application_key: a, application_secret: b, consumer_key: CANARY}]\n",
    "headers of vmagent": '    headers: ["X-Key: CANARY"]\n' + STATIC,
    "proxy's headers of vmagent": '    proxy_url: http://p\n    proxy_headers: ["Proxy-Auth: CANARY"]\n' + STATIC,
}
OF_SECTIONS = {
    "password of Alertmanager": "alerting: {alertmanagers: [{basic_auth: {username: a, password: CANARY}}]}\n",
    "URL of a store": 'remote_write: [{url: "http://me:CANARY@x/write"}]\n',
    "query of a store": 'remote_write: [{url: "http://x/write?key=CANARY"}]\n',
    "header of a store": "remote_write: [{url: http://x/write, headers: {X-Scope: CANARY}}]\n",
}


@pytest.mark.row(
    "A9", did="a canary at each key for a secret in a prometheus.yml: what import says, and who may read what it wrote"
)
@pytest.mark.parametrize("name", [*OF_JOBS, *OF_SECTIONS])
def test_no_other_user_may_read_what_an_import_writes_of_a_secret(tmp_path: Path, name: str) -> None:
    canary = Canaries()
    text = OF_SECTIONS.get(name, "") + "scrape_configs:\n  - job_name: a\n" + OF_JOBS.get(name, STATIC)
    (tmp_path / "prometheus.yml").write_text(text.replace("CANARY", canary(name).replace("+", "0").replace("=", "0")))
    found = convert([read_configuration(tmp_path / "prometheus.yml")], Wishes(), Layout(("s:9090",)))
    assert canary.found("".join(map(str, found.findings))) == []
    holds = [file for file in found.files.values() if canary.found(file.content)]
    assert [file.mode for file in holds] == [PRIVATE] * len(holds) != []


@pytest.mark.parametrize("output", ["text", "json", "yaml"])
def test_nothing_of_all_these_is_said_by_an_import(tmp_path: Path, output: str) -> None:
    canary, jobs = Canaries(), []
    for number, (name, text) in enumerate(OF_JOBS.items()):
        said = text.replace("CANARY", canary(name).replace("+", "0").replace("=", "0"))
        jobs.append(f"  - job_name: job{number}\n{said}")
    sections = "remote_write: [{url: 'http://me:CANARY@x/w', headers: {X-Scope: CANARY}}]\n".replace(
        "CANARY", canary("store")
    )
    old, new = tmp_path / "prometheus.yml", tmp_path / "new"
    old.write_text(f"{sections}scrape_configs:\n{''.join(jobs)}")
    result = CliRunner().invoke(main, ["import", str(old), "--out", str(new), "-o", output, "--scraper=s:9090"])
    assert result.exit_code in (0, 3), result.output
    assert len(result.output) > 1000
    assert canary.found(result.output) == []
    assert {path.name for path in new.iterdir() if path.stat().st_mode & 0o077 and canary.found(path.read_bytes())} == set()
