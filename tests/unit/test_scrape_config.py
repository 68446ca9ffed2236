"""What ``promring scrape-config`` prints is what the scrapers need, and what it warns of would not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from promring.cli import main

SSH = "ssh: {user: p, path: '/etc/prometheus/sd/{service}/{port}.json', identity_file: key, known_hosts: known}"
LONG = "a folder with spaces and a very long name/" * 3


def configured(folder: Path, *services: str, nodes: str = "10.0.0.1:9090, 10.0.0.2:9091") -> Path:
    """One service an entry: the YAML of its ``delivery`` list and what follows."""
    text = "shard_services:\n" + "".join(
        f"  - {{name: s{n}, scrapers: {{probe: {{nodes: [{nodes}]}}}}, targets: [{{file: {{files: [t.json]}}}}],"
        f" delivery: {delivery}}}\n"
        for n, delivery in enumerate(services)
    )
    (folder / "x.yml").write_text(text)
    for name in ("key", "known"):
        (folder / name).touch()
    return folder / "x.yml"


def printed(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["scrape-config", "--config.file", str(file), *arguments])


def jobs(result: Result) -> dict[str, dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return {job["job_name"]: job for job in yaml.safe_load(result.stdout)["scrape_configs"]}


@pytest.mark.parametrize(
    ("delivery", "scraper", "path"),
    [
        (f"[{{{SSH}}}]", "10.0.0.2:9091", "/etc/prometheus/sd/s0/9091.json"),
        ("[ansible: {}]", "10.0.0.2:9091", "/opt/app/prometheus/sd/file_sd_by_promring.json"),
        ("[ansible: {dest_dir: /sd/, dest_sd_file_name: x.yml}]", "10.0.0.2:9091", "/sd/x.yml"),
        ("[file: {path: '/out/{service}/{scraper}.json'}]", "10.0.0.2:9091", "/out/s0/10.0.0.2_9091.json"),
        ("[file: {path: '/out/{host}/{port}.json'}], identity: host", "10.0.0.2", "/out/10.0.0.2/9091.json"),
        ("[file: {path: '/out/{service}/{scraper}.json'}]", "[::FFFF:10.0.0.2]:9091", "/out/s0/10.0.0.2_9091.json"),
        (f"[file: {{path: '/{LONG}{{scraper}}.json'}}]", "10.0.0.1:9090", f"/{LONG}10.0.0.1_9090.json"),
    ],
)
def test_a_service_whose_slices_are_files_over_there_is_read_from_that_path(
    tmp_path: Path, delivery: str, scraper: str, path: str
) -> None:
    result = printed(configured(tmp_path, delivery), "s0", "--scraper", scraper)
    assert jobs(result)["s0"] == {"job_name": "s0", "file_sd_configs": [{"files": [path]}]}
    assert path in result.stdout, "on one line"
    assert result.stderr == ""


def test_all_services_of_a_scraper_or_those_that_are_named(tmp_path: Path) -> None:
    file = configured(tmp_path, "[http_sd: {}]", "[http_sd: {}], job: the-job", f"[{{{SSH}}}]")
    url = ("--url", "http://promring.example:9600/")
    assert list(jobs(printed(file, *url))) == ["s0", "the-job", "s2"]
    assert list(jobs(printed(file, "s2", "s0", "s2", *url))) == ["s2", "s0"]
    (one,) = jobs(printed(file, "s0", "--scraper", "10.0.0.1:9090", *url))["s0"]["http_sd_configs"]
    assert one == {"url": "http://promring.example:9600/sd/s0/10.0.0.1:9090", "refresh_interval": "1s"}
    strange = printed(file, "--scraper", "10.0.0.9:9090")
    assert (strange.exit_code, "there is 10.0.0.1:9090" in strange.stderr) == (1, True), strange.stderr
    assert "did you mean '10.0.0.1:9090'" in printed(file, "--scraper", "10.0.0.1").stderr
    assert "no shard service 'nope'" in printed(file, "s0", "nope").stderr
    assert "; did you mean 's0'" in printed(file, "s00").stderr
    twice = configured(tmp_path, "[http_sd: {}]", "[http_sd: {}], job: s0")
    assert printed(twice).exit_code == 1, "Prometheus refuses two jobs of one name"


def test_vmagent_gets_no_key_that_it_refuses_and_the_flag_that_it_needs(tmp_path: Path) -> None:
    file = configured(tmp_path, "[http_sd: {}]", f"[{{{SSH}}}]")
    result = printed(file, "--for", "vmagent", "--url", "http://promring.example:9600")
    assert jobs(result)["s0"]["http_sd_configs"] == [{"url": "http://promring.example:9600/sd/s0/SCRAPER"}]
    assert "-promscrape.httpSDCheckInterval=1s" in result.stdout
    assert "-promscrape.fileSDCheckInterval=1s" in result.stdout


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9600", "http://localhost:9600", "http://[::1]:9600", "http://0.0.0.0:9600"]
)
def test_a_url_that_only_this_machine_knows_is_said_when_a_scraper_is_elsewhere(tmp_path: Path, url: str) -> None:
    far = configured(tmp_path, "[http_sd: {}]")
    assert f"# {url} is this machine only: scrapers such as 10.0.0.1 " in printed(far, "--url", url).stderr
    assert printed(far, "--url", "http://promring.example:9600").stderr == ""
    one = configured(tmp_path, "[http_sd: {}]", nodes="127.0.0.1:9090, 10.0.0.2:9090")
    assert "10.0.0.2" in printed(one, "--url", url).stderr
    assert printed(one, "--url", url, "--scraper", "127.0.0.1:9090").stderr == ""
    here = configured(tmp_path, "[http_sd: {}]", nodes="127.0.0.1:9090, localhost:9091")
    assert printed(here, "--url", url).stderr == ""
    files = configured(tmp_path, "[file: {path: '/out/{scraper}.json'}]")
    assert printed(files, "--url", url).stderr == "", "no URL is printed"
    consul = tmp_path / "consul.yml"
    consul.write_text(
        "shard_services: [{name: s0, scrapers: {consul: {service: x}}, targets: [{file: {files: [t.json]}}],"
        " delivery: [{http_sd: {}}]}]\nconsul: {}"
    )
    assert "scrapers on other machines" in printed(consul, "--url", url).stderr


@pytest.mark.parametrize(
    "url", ["ftp://h:1", "http://", "http://h:99999", "http://h:1/?x=1", "http://u:pw@h:1", "http://a b:1"]
)
def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    result = printed(configured(tmp_path, "[http_sd: {}]"), "--url", url)
    assert (result.exit_code, result.stdout) == (2, "")


def test_which_of_several_deliveries_is_said(tmp_path: Path) -> None:
    file = configured(tmp_path, f"[{{http_sd: {{}}}}, {{{SSH}}}]", nodes="127.0.0.1:9090")
    assert "delivered by http_sd and ssh; this is for http_sd" in printed(file).stderr
    assert "file_sd_configs" in jobs(printed(file, "--means", "ssh"))["s0"]
    assert "has no delivery 'file'; it has http_sd, ssh" in printed(file, "--means", "file").stderr


def test_a_scraper_with_an_agent_reads_the_files_that_the_agent_writes(tmp_path: Path) -> None:
    file = configured(tmp_path, "[http_sd: {}]", f"[{{{SSH}}}, {{http_sd: {{}}}}]")
    read = {name: job["file_sd_configs"] for name, job in jobs(printed(file, "--agent-dir", "/srv/sd/")).items()}
    assert read == {name: [{"files": [f"/srv/sd/{name}.json"]}] for name in ("s0", "s1")}
    only_ssh = configured(tmp_path, f"[{{{SSH}}}]")
    assert "s0 has no delivery 'http_sd'" in printed(only_ssh, "--agent-dir", "/srv/sd").stderr


def test_jobs_of_several_fleets_are_named_as_such_and_a_scraper_gets_those_of_the_fleet_that_lists_it(
    tmp_path: Path,
) -> None:
    rest = "targets: [{file: {files: [t.json]}}]"
    (file := tmp_path / "promring.yml").write_text(
        "fleets:\n"
        "  - {name: vms, scrapers: {probe: {nodes: ['10.0.0.1:9090']}}, delivery: [{http_sd: {}}]}\n"
        "  - {name: pods, scrapers: {file: {path: pods.json}}, delivery: [{http_sd: {}}]}\n"
        "shard_services:\n"
        f"  - {{name: a, fleet: vms, {rest}}}\n"
        f"  - {{name: b, fleet: pods, {rest}}}\n"
    )
    url = ("--url", "http://c.example:9600")
    every = printed(file, *url)
    assert list(jobs(every)) == ["a", "b"]
    assert "# these are the jobs of the fleets vms, pods; a scraper needs those of its own: --fleet NAME" in every.stderr
    for arguments, found in (
        (["--fleet", "pods"], ["b"]),
        (["a", "b"], ["a", "b"]),
    ):
        one = printed(file, *arguments, *url)
        assert (list(jobs(one)), one.stderr) == (found, "")
    listed = printed(file, "--scraper", "10.0.0.1:9090", *url)
    assert list(jobs(listed)) == ["a"]
    assert (
        listed.stderr
        == "# without the jobs of the fleets pods, which may have 10.0.0.1:9090, too: --fleet NAME prints them\n"
    )
    assert list(jobs(printed(file, "--scraper", "10.7.7.7:9090", *url))) == ["b"], "who is in no list may be in the file"
