"""What an import says of whatever is another one on another machine: neighbours, names, rights, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import SCRAPERS, Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Verdict, Wishes

STATIC = "  static_configs: [{targets: ['%s']}]\n"
JOB = "scrape_configs:\n- job_name: j\n"
EC2 = "ec2_sd_configs: [{%s}]"
IN = "kubernetes_sd_configs: [{role: pod, %s}]"


def converted(folder: Path, text: str) -> Converted:
    (folder / "prometheus.yml").write_text(text)
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(("s:9090",)))


def said(found: Converted, code: str) -> list[str]:
    return [str(finding).partition("prometheus.yml:")[2] for finding in found.findings if finding.code == code]


@pytest.mark.parametrize("host", ["host.docker.internal", "host.containers.internal", "docker.for.mac.localhost"])
def test_the_machine_below_a_container_is_the_server_itself(tmp_path: Path, host: str) -> None:
    found = converted(tmp_path, JOB + STATIC % f"{host}:9100")
    assert (found.jobs[0].verdict, found.jobs[0].why) == (Verdict.KEPT, f"{host}:9100 is the server itself")


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ("remote_write: [{url: 'http://localhost:9009/api/v1/push'}]", "remote_write[0].url"),
        ("remote_read: [{url: 'http://127.0.0.1:9201/read'}]", "remote_read[0].url"),
        ("remote_write: [{url: 'http://m.example/', proxy_url: 'http://[::1]:1'}]", "remote_write[0].proxy_url"),
        ("tracing: {endpoint: 'localhost:4317'}", "tracing.endpoint"),
        (
            "alerting: {alertmanagers: [{static_configs: [{targets: ['localhost:9093']}]}]}",
            "alerting.alertmanagers[0].static_configs[0].targets[0]",
        ),
        (
            "alerting: {alertmanagers: [{consul_sd_configs: [{server: 'localhost:8500'}]}]}",
            "alerting.alertmanagers[0].consul_sd_configs[0].server",
        ),
    ],
)
def test_a_section_that_sends_to_the_machine_itself_sends_to_each_scrapers_own(
    tmp_path: Path, section: str, where: str
) -> None:
    """What was one store, or one Alertmanager, would be nothing on the machines that have none."""
    (line,) = said(converted(tmp_path, f"{section}\n{JOB}{STATIC % 'a.example:1'}"), "PI043")
    assert line.startswith(f"1: {where}: warning: ")
    other = section.replace("localhost", "m.example").replace("127.0.0.1", "m.example").replace("[::1]", "m.example")
    assert said(converted(tmp_path, f"{other}\n{JOB}{STATIC % 'a.example:1'}"), "PI043") == []


@pytest.mark.parametrize("line", ["proxy_url: 'http://localhost:8080'", "oauth2: {token_url: 'http://127.0.0.1/t'}"])
def test_a_job_that_goes_through_the_machine_itself_is_named(tmp_path: Path, line: str) -> None:
    (found,) = said(converted(tmp_path, f"{JOB}{STATIC % 'a.example:1'}  {line}\n"), "PI043")
    assert found.startswith("4: scrape_configs[0](j).")
    inner = f"  http_sd_configs: [{{url: 'http://a.example/', {line}}}]\n"
    moved = converted(tmp_path, JOB + inner)
    assert (said(moved, "PI043"), len(said(moved, "PI017"))) == ([], 1)


@pytest.mark.parametrize(
    ("targets", "rules", "names"),
    [
        ("cadvisor:8080', 'a.example:1', '10.0.0.1:1', '[fd00::1]:1', 'node-exporter", "", "cadvisor, node-exporter"),
        ("localhost:1', 'a.example:1", "", ""),
        ("bmc1", "{target_label: __address__, replacement: 'ipmi.example:9290'}", ""),
        ("a.example", "{target_label: __address__, replacement: 'blackbox:9115'}", "blackbox"),
        ("${HOST}:1", "", ""),
    ],
)
def test_names_that_another_machine_may_know_as_another_one_are_named(
    tmp_path: Path, targets: str, rules: str, names: str
) -> None:
    """Such as those of containers beside the server."""
    text = JOB + STATIC % targets + (f"  relabel_configs: [{rules}]\n" if rules else "")
    lines = said(converted(tmp_path, text.replace("'localhost:1', ", "")), "PI044")
    assert [line.partition("are scraped: ")[2].partition(";")[0] for line in lines] == ([names] if names else [])


@pytest.mark.parametrize(
    ("discovery", "needs"),
    [
        (EC2 % "region: a", ["those of the old server"]),
        (EC2 % "access_key: a, secret_key: b", ["to run in that of the old server, or region: to be written"]),
        (EC2 % "region: a, access_key: a, secret_key: b", []),
        ("gce_sd_configs: [{project: p, zone: z}]", ["those of the old server"]),
        ("azure_sd_configs: [{subscription_id: s, authentication_method: ManagedIdentity}]", ["those of the old server"]),
        ("azure_sd_configs: [{subscription_id: s, tenant_id: t, client_id: c, client_secret: d}]", []),
        ("openstack_sd_configs: [{role: instance, region: r}]", ["those of the old server"]),
        (IN % "api_server: 'https://k/'", []),
        (
            IN % "namespaces: {own_namespace: true}",
            ["the service account of the old server", "to run in that of the old server"],
        ),
    ],
)
def test_a_discovery_that_takes_rights_or_place_from_its_machine_says_what_it_needs(
    tmp_path: Path, discovery: str, needs: list[str]
) -> None:
    lines = said(converted(tmp_path, f"{JOB}  {discovery}\n"), "PI018")
    assert sorted(line.partition("that discovers needs ")[2].removesuffix(" [PI018]") for line in lines) == sorted(needs)


@pytest.mark.parametrize(("pattern", "code"), [("d/*.yml", "PI045"), ("/none/more.yml", "PI028")])
def test_included_files_that_are_not_here_are_named(tmp_path: Path, pattern: str, code: str) -> None:
    """On the scrapers they are there: each of them would scrape all of their targets."""
    text = f"scrape_config_files: ['{pattern}']\n{JOB}{STATIC % 'a.example:1'}"
    (line,) = said(converted(tmp_path, text), code)
    assert line.startswith("1: scrape_config_files: ")
    assert pattern in line
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.yml").write_text("scrape_configs: []\n")
    assert len(said(converted(tmp_path, text), code)) == (code == "PI028")


def test_a_limit_of_targets_for_all_jobs_counts_those_of_one_scraper(tmp_path: Path) -> None:
    (line,) = said(converted(tmp_path, f"global: {{target_limit: 5}}\n{JOB}{STATIC % 'a.example:1'}"), "PI029")
    assert line.startswith("1: global.target_limit: ")


def test_a_file_of_json_stays_one(tmp_path: Path) -> None:
    job = {"job_name": "j", "static_configs": [{"targets": ["a.example:1"]}], "scheme": "https"}
    found = converted(tmp_path, json.dumps({"scrape_configs": [job]}))
    (new,) = json.loads(found.files[SCRAPERS].content)["scrape_configs"]
    assert new == {"job_name": "j", "file_sd_configs": [{"files": ["promring/j.json"]}], "scheme": "https"}


def test_relative_lists_that_the_scrapers_go_on_to_read_are_named(tmp_path: Path) -> None:
    """Of jobs that stay, of Alertmanagers, and of headers; those of a shared job are promring's now."""
    text = "alerting: {alertmanagers: [{file_sd_configs: [{files: ['am/*.json']}]}]}\n"
    text += f"{JOB}  file_sd_configs: [{{files: ['gone/*.json']}}]\n  http_headers: {{A: {{files: [header]}}}}\n"
    text += "- job_name: kept\n  metrics_path: /federate\n  file_sd_configs: [{files: ['fed/*.json']}]\n"
    (line,) = said(converted(tmp_path, text), "PI013")
    assert "stay as they are: am/*.json, fed/*.json, header; prometheus.yml goes where" in line
