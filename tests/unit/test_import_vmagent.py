"""Which configurations are vmagent's: by what stands in them, else by what the programs here say."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.importing.configuration import Configuration, read_configuration
from promring.importing.quiet import quiet_text
from tests.unit.test_import_running import judge

JOB = "scrape_configs:\n- job_name: j\n  static_configs: [{targets: ['h:1']}]\n"
REFUSES = 'echo "  FAILED: line 3: not a valid target" >&2; exit 1'


def read(folder: Path, text: str) -> Configuration:
    (folder / "prometheus.yml").write_text(text)
    return read_configuration(folder / "prometheus.yml")


@pytest.mark.parametrize(
    ("text", "vmagents"),
    [
        (JOB + "  metric_relabel_configs: [{if: 'go_x', action: drop}]\n", True),
        (JOB + "  metric_relabel_configs: [{regex: go_.*, action: drop_metrics}]\n", True),
        (JOB + "  metric_relabel_configs: [{source_labels: [a], regex: [b, c], action: drop}]\n", True),
        (JOB + "  relabel_configs: [{source_labels: [a, b], action: Keep_If_Equal}]\n", True),
        (JOB + "global: {metric_relabel_configs: [{regex: a, action: labeldrop}]}\n", True),
        (JOB + "global: {relabel_configs: [{target_label: dc, replacement: a}]}\n", True),
        (JOB + "  metric_relabel_configs: [{regex: a, action: labeldrop}]\nglobal: {scrape_interval: 1m}\n", False),
        (JOB + "  metric_relabel_configs: [{regex: a, action: labeldropp}]\n", False),
        (JOB + "  relabel_configs: [{source_labels: [a], regex: b, action: kep}]\n", False),
    ],
)
def test_what_only_vmagent_has_makes_a_configuration_vmagents(tmp_path: Path, text: str, vmagents: bool) -> None:
    assert read(tmp_path, text).vmagent == vmagents


def test_what_vmagent_has_under_global_is_left_out_where_a_prometheus_shall_run(tmp_path: Path) -> None:
    rules = "[{regex: a, action: labeldrop}]"
    found = read(
        tmp_path, f"global: {{scrape_interval: 1m, relabel_configs: {rules}, metric_relabel_configs: {rules}}}\n{JOB}"
    )
    assert quiet_text(found, found.jobs, {}).startswith("global:\n  {scrape_interval: 1m}\n")


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PROMRING_SERVERS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    return tmp_path / "bin"


def imported(folder: Path, text: str) -> Result:
    (folder / "prometheus.yml").write_text(text)
    return CliRunner().invoke(main, ["import", str(folder / "prometheus.yml"), "--dry-run", "--scraper", "s:9090"])


def test_what_prometheus_refuses_and_vmagent_takes_is_vmagents(tmp_path: Path, bin_folder: Path) -> None:
    judge(bin_folder, "promtool", "3.5.0", REFUSES)
    judge(bin_folder, "vmagent", "1.100", 'case "$*" in *-dryRun*prometheus.yml*) exit 0;; esac; exit 1')
    result = imported(tmp_path, JOB.replace("h:1", "http://h:1/metrics"))
    assert result.exit_code == 0, result.output
    assert "prometheus.yml:3: warning: promtool: not a valid target; " in result.stderr
    assert f"{bin_folder / 'vmagent'} takes it: it is read as vmagent's [PI040]" in result.stderr


def test_what_both_refuse_is_refused_and_without_a_vmagent_its_program_is_asked_for(
    tmp_path: Path, bin_folder: Path
) -> None:
    judge(bin_folder, "promtool", "3.5.0", REFUSES)
    alone = imported(tmp_path, JOB)
    assert (alone.exit_code, "prometheus.yml:3: promtool: not a valid target" in alone.stderr) == (2, True)
    assert "if it is vmagent's, put a vmagent on PATH" in alone.stderr
    judge(bin_folder, "vmagent", "1.100", "exit 1")
    assert imported(tmp_path, JOB).exit_code == 2
    assert "put a vmagent on PATH" not in imported(tmp_path, JOB).stderr


def test_where_no_program_is_here_it_is_said_that_nobody_judged(tmp_path: Path, bin_folder: Path) -> None:
    alone = imported(tmp_path, JOB)
    assert (alone.exit_code, "nobody has judged whether a Prometheus takes this file [PI046]" in alone.stderr) == (0, True)
    assert "PI046" not in imported(tmp_path, JOB + "  stream_parse: true\n").stderr
    judge(bin_folder, "promtool", "3.5.0")
    assert "PI046" not in imported(tmp_path, JOB).stderr


def test_what_prometheus_refuses_of_vmagents_values_is_said_of_discovery_yml(tmp_path: Path, bin_folder: Path) -> None:
    judge(bin_folder, "promtool", "3.5.0", REFUSES)
    result = imported(
        tmp_path, JOB.replace("static_configs: [{targets: ['h:1']}]", "docker_sd_configs: [{}]\n  stream_parse: true")
    )
    assert result.exit_code == 3, result.output
    assert "discovery.yml:3: error: promtool: not a valid target [PI035]" in result.stderr


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{source_labels: [a], regex: b, action: keep}", "discovery.yml drops them before that"),
        ("{if: 'x', action: drop}", "promring shares them before, discovery.yml has none of its rules"),
        ("{source_labels: [a], regex: b, action: keep}, {if: 'x', target_label: c}", "discovery.yml has none of its rules"),
    ],
)
def test_who_drops_targets_is_said_as_it_is(tmp_path: Path, bin_folder: Path, rule: str, said: str) -> None:
    text = JOB.replace("static_configs: [{targets: ['h:1']}]", f"docker_sd_configs: [{{}}]\n  relabel_configs: [{rule}]")
    (line,) = [line for line in imported(tmp_path, text).stderr.splitlines() if "[PI014]" in line]
    assert said in line


@pytest.mark.parametrize(
    ("value", "said", "hint"),
    [
        ("$(SHARDS)", "$(SHARDS)", "; $(SHARDS) is a place-holder: write its value there"),
        ("'%{SCRAPE_LIMIT_OF_ALL}'", "%{SCRAP...", "; %{SCRAPE_LIMIT_OF_ALL} is a place-holder: write its value there"),
        ("many", "many", ""),
    ],
)
def test_a_value_that_is_refused_because_it_is_a_place_holder_is_called_one(
    tmp_path: Path, bin_folder: Path, value: str, said: str, hint: str
) -> None:
    judge(bin_folder, "promtool", "3.5.0", f"echo '  line 4: cannot unmarshal !!str `{said}` into uint64' >&2; exit 1")
    result = imported(tmp_path, f"{JOB}  sample_limit: {value}\n")
    assert result.stderr.splitlines()[0].endswith(f"promtool: cannot unmarshal !!str `{said}` into uint64{hint}")


def test_what_a_program_says_twice_is_said_once(tmp_path: Path, bin_folder: Path) -> None:
    judge(bin_folder, "promtool", "3.5.0", 'echo "  line 3: a\n  line 3: a\n  line 2: a" >&2; exit 1')
    assert [line.count(": promtool: a") for line in imported(tmp_path, JOB).stderr.splitlines()] == [1, 1, 0]


@pytest.mark.parametrize("text", ["---\n", "--- # nothing\n", "null\n", "~", "\n"])
def test_a_file_with_nothing_in_it_has_no_jobs(tmp_path: Path, bin_folder: Path, text: str) -> None:
    """Prometheus takes it."""
    judge(bin_folder, "promtool", "3.5.0")
    result = imported(tmp_path, text)
    assert (result.exit_code, result.stdout.splitlines()[0][:7]) == (0, "0 jobs:"), result.output
