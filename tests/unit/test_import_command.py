"""The command ``promring import``: exit codes, what it writes and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.config.load import loads
from promring.importing.findings import CODES

PLAIN = """\
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["localhost:9090"]}]
  - job_name: node
    static_configs: [{targets: ["a:9100", "b:9100"]}]
  - job_name: docker
    docker_sd_configs: [{host: "tcp://docker:2375"}]
"""
HALF = """\
scrape_configs:
  - job_name: half
    static_configs: [{targets: ["a:9100"]}]
    relabel_configs: [{source_labels: [__address__], modulus: 2, target_label: __tmp, action: hashmod}]
"""
SHARD = """\
global: {{external_labels: {{shard: '{0}'}}}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["a:9100"]}}]
    relabel_configs:
      - {{source_labels: [__address__], modulus: 2, target_label: __tmp_hash, action: hashmod}}
      - {{source_labels: [__tmp_hash], regex: {0}, action: keep}}
"""

BOMB = "\n".join(["x-0: &b0 [x]", *(f"x-{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 9))]) + "\n"
"""Forty million texts, when all aliases are followed."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    file = tmp_path / "old" / "prometheus.yml"
    file.write_text(PLAIN)
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


def test_it_writes_three_files_and_ends_with_0(old: Path, tmp_path: Path) -> None:
    result = run(old, "--out", tmp_path / "new", "--scraper", "10.0.0.1:9090", "--scraper", "10.0.0.2:9090")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["discovery.yml", "prometheus.yml", "promring.yml"]
    settings = loads((tmp_path / "new" / "promring.yml").read_text())
    assert [service.name for service in settings.shard_services] == ["node", "docker"]
    assert [node[:2] for node in settings.fleets[0].listed] == [("10.0.0.1", 9090), ("10.0.0.2", 9090)]
    assert "3 jobs: 1 sharded natively, 1 sharded through discovery, 1 left on every scraper, 0 not taken" in result.stdout
    assert "[PI006]" in result.stderr


def test_a_dry_run_says_it_and_writes_nothing(old: Path, tmp_path: Path) -> None:
    result = run(old, "--dry-run", "--out", tmp_path / "new")
    assert result.exit_code == 0
    assert "nothing written" in result.stdout
    assert not (tmp_path / "new").exists()
    assert run(old).exit_code == 2


def test_what_is_not_exact_ends_with_3_and_is_written_unless_strict(old: Path, tmp_path: Path) -> None:
    old.write_text(HALF)
    assert run(old, "--out", tmp_path / "strict", "--strict").exit_code == 3
    assert not (tmp_path / "strict").exists()
    assert run(old, "--out", tmp_path / "new").exit_code == 3
    assert (tmp_path / "new" / "prometheus.yml").read_text() == HALF


def test_a_folder_with_files_is_left_alone_without_force(old: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("kept")
    result = run(old, "--out", tmp_path / "new")
    assert (result.exit_code, len(list((tmp_path / "new").iterdir()))) == (2, 1)
    assert run(old, "--out", tmp_path / "new", "--force").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "discovery.yml",
        "mine",
        "prometheus.yml",
        "promring.yml",
    ]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("new", "old")]


def test_an_input_is_never_overwritten(old: Path) -> None:
    result = run(old, "--out", old.parent, "--force")
    assert (result.exit_code, old.read_text()) == (2, PLAIN)
    assert "would overwrite an input" in result.stderr


def test_either_all_files_are_new_or_none(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / "discovery.yml" / "folder").mkdir(parents=True)
    (new / "prometheus.yml").write_text("before")
    (new / "promring.yml").write_text("before")
    (new / "discovery.yml").chmod(0o555)
    result = run(old, "--out", new, "--force")
    if result.exit_code:
        assert (new / "prometheus.yml").read_text() == (new / "promring.yml").read_text() == "before"
    else:
        assert (new / "discovery.yml").is_file()
    (new / "discovery.yml").chmod(0o755)


def test_files_with_secrets_are_their_owners_only_and_nothing_says_them(old: Path, tmp_path: Path) -> None:
    old.write_text(PLAIN + "    basic_auth: {username: me, password: canary-of-mine}\n")
    result = run(old, "--out", tmp_path / "new")
    assert result.exit_code == 0
    assert "canary-of-mine" not in result.output
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()}
    assert modes == {"prometheus.yml": "0o600", "discovery.yml": "0o600", "promring.yml": "0o644"}


def test_the_scrapers_need_no_file_that_only_the_discovery_read(old: Path, tmp_path: Path) -> None:
    old.write_text(
        """\
rule_files: [rules.yml]
scrape_configs:
  - job_name: cmdb
    http_sd_configs: [{url: "http://cmdb.example/sd", basic_auth: {username: u, password_file: of-discovery}}]
    basic_auth: {username: u, password_file: of-scrapes}
  - job_name: federate
    metrics_path: /federate
    http_sd_configs: [{url: "http://cmdb.example/sd", bearer_token_file: of-kept}]
"""
    )
    result = run(old, "--dry-run", "--output", "json")
    (needed,) = (one["what"] for one in json.loads(result.stdout)["findings"] if one["code"] == "PI013")
    assert needed == "relative paths stay as they are: of-kept, of-scrapes, rules.yml"


def test_what_is_to_do_next_can_be_done_as_it_is_printed(old: Path, tmp_path: Path) -> None:
    said = run(old, "--out", tmp_path / "new", "--discovery-url", "http://127.0.0.1:9095").stdout
    assert "discovery.yml --web.listen-address=127.0.0.1:9095 --storage.tsdb.path=" in said
    assert "promring.yml --web.listen-address=0.0.0.0:9600 --web.token-file=" in said
    assert "[PI039]" not in said


def test_a_scraper_where_the_prometheus_that_discovers_shall_listen_is_said(old: Path) -> None:
    said = run(old, "--dry-run", "--scraper", "127.0.0.1:9090", "--scraper", "127.0.0.1:9091").output
    assert "127.0.0.1:9090 is a scraper, and the Prometheus that discovers, too; give that one another port" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scrape_configs: [", ":2: did not find"),
        ("scrape_configs: {}", ":1: scrape_configs: must be a list of jobs"),
        ("- a\n", ":1: must be a mapping with scrape_configs"),
        ("scrape_configs:\n- job_name: a\n- job_name: b\n- job_name: a\n", ":4: scrape_configs[2](a): a job of this name"),
        ("scrape_configs:\n- scheme: http\n", ":2: scrape_configs[0]: job_name is missing"),
        (
            "scrape_configs:\n- job_name: a\n  scheme: http\n  scheme: https\n",
            ":4: scheme: key is there twice, first on line 3",
        ),
        ("scrape_configs:\n- job_name: a\n  static_configs: 5\n", ":2: scrape_configs[0]: static_configs must be a list"),
        ("a: *b\n", ":1: an unknown anchor is referenced"),
        ("a: &b [*b]\n", ":1: the value of an anchor contains itself"),
        (BOMB, ":7: more than 500000 values"),
    ],
)
def test_what_no_prometheus_takes_is_refused_with_its_line(old: Path, tmp_path: Path, text: str, said: str) -> None:
    old.write_text(text)
    result = run(old, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{old}{said}")
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_no_text_or_not_there_is_refused(old: Path, tmp_path: Path) -> None:
    old.write_bytes(b"a: 1\nb: \xff\n")
    assert f"{old}:2: not UTF-8" in run(old, "--dry-run").stderr
    result = run(tmp_path / "none.yml", "--dry-run")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/none.yml:1: No such file or directory\n")


def test_a_job_is_shared_or_kept_as_the_user_says(old: Path) -> None:
    result = run(old, "--dry-run", "--shard", "prometheus", "--keep", "node", "--output", "json")
    found = json.loads(result.stdout)
    assert {job["job"]: job["verdict"] for job in found["jobs"]} == {
        "prometheus": "sharded natively",
        "node": "left on every scraper",
        "docker": "sharded through discovery",
    }
    assert run(old, "--dry-run", "--keep", "nobody").exit_code == 2


def test_as_data_it_says_what_it_says_as_text(old: Path) -> None:
    text, data = run(old, "--dry-run"), json.loads(run(old, "--dry-run", "--output", "json").stdout)
    assert (data["exact"], data["written"], sum(data["counts"].values())) == (True, [], len(data["jobs"]))
    lines = [
        f"{f['file']}:{f['line']}:{' ' + f['path'] + ':' if f['path'] else ''} {f['level']}: {f['what']}"
        f"{'; ' + f['done'] if f['done'] else ''} [{f['code']}]"
        for f in data["findings"]
    ]
    assert lines == text.stderr.splitlines()


def test_slices_come_by_http_where_that_is_asked_for(old: Path, tmp_path: Path) -> None:
    assert run(old, "--out", tmp_path / "new", "--http-sd", "http://promring.example:9600/").exit_code == 0
    assert 'http_sd_configs: [{url: "http://promring.example:9600/sd/node/SCRAPER", refresh_interval: 1s}]' in (
        (tmp_path / "new" / "prometheus.yml").read_text()
    )
    assert run(old, "--dry-run", "--http-sd", "promring.example").exit_code == 2


def test_servers_that_are_shards_of_one_fleet_are_one(tmp_path: Path) -> None:
    for shard in (0, 1):
        (tmp_path / f"{shard}.yml").write_text(SHARD.format(shard))
    result = run(tmp_path / "0.yml", tmp_path / "1.yml", "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "shard 1 of 2" in result.stderr
    assert "hashmod" not in (tmp_path / "new" / "prometheus.yml").read_text()


def test_what_differs_between_inputs_is_named_without_its_values(tmp_path: Path) -> None:
    one = PLAIN + "    basic_auth: {username: me, password: canary-one}\n"
    (tmp_path / "0.yml").write_text(one)
    (tmp_path / "1.yml").write_text(one.replace("canary-one", "canary-two") + "  - job_name: more\nrule_files: [r.yml]\n")
    result = run(tmp_path / "0.yml", tmp_path / "1.yml", "--dry-run")
    assert result.exit_code == 3
    assert f"differs from {tmp_path}/0.yml:6 in basic_auth.password" in result.stderr
    assert "more" in result.stdout
    assert "not taken" in result.stdout
    assert "rule_files" in result.stderr
    assert "canary" not in result.output


def test_each_finding_has_a_code_of_its_own_and_the_page_lists_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
    for code, (level, meaning) in CODES.items():
        assert f"| {code} | {level} | {meaning} |" in page, code


@pytest.mark.parametrize(
    "url", ["http://u:p@h:x", "http://h:x", "http://h:99999", "http://", "http://h/?a=b", "ftp://h", "http://h h"]
)
@pytest.mark.parametrize("option", ["--http-sd", "--discovery-url"])
def test_a_url_that_nobody_could_ask_is_refused(old: Path, option: str, url: str) -> None:
    result = run(old, "--dry-run", option, url)
    assert (result.exit_code, f"Invalid value for {option}" in result.stderr) == (2, True), result.output


def test_a_folder_that_cannot_be_made_is_named_as_it_was_asked_for(old: Path) -> None:
    result = run(old, "--out", "/proc/new")
    assert result.exit_code == 2
    assert "/proc/new:1: " in result.stderr
    assert ".promring-tmp" not in result.output


@pytest.mark.parametrize(("url", "port"), [("http://a:23630", 23630), ("https://a/promring", 9600)])
def test_the_port_of_the_next_step_is_that_of_the_url(old: Path, tmp_path: Path, url: str, port: int) -> None:
    done = CliRunner().invoke(main, ["import", str(old), "--out", str(tmp_path / "new"), "--http-sd", url])
    assert f" --web.listen-address=0.0.0.0:{port} " in done.output, done.output


def test_new_files_of_included_jobs_are_named_as_files_for_the_scrapers(old: Path, tmp_path: Path) -> None:
    (old.parent / "jobs").mkdir()
    (old.parent / "jobs" / "more.yml").write_text(PLAIN.replace("job_name: ", "job_name: more-"))
    (old.parent / "jobs" / "kept.yml").write_text("scrape_configs: [{job_name: kept}]\n")
    old.write_text("scrape_config_files: [jobs/*.yml]\n" + PLAIN)
    result = run(old, "--out", tmp_path / "new")
    assert "put prometheus.yml where its configuration is, with an external label of its own,\n" in result.stdout
    assert "    and beside it, under these names: jobs/more.yml\n" in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if "[PI013]" in line]
    assert "every scraper must have these files; jobs/more.yml as it is written now" in line
    old.write_text(PLAIN)
    plain = run(old, "--out", tmp_path / "plain")
    assert "under these names" not in plain.stdout
