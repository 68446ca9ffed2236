"""vmagent's rules under ``global``, which the targets of every job go through before those of the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import DISCOVERY, Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Verdict, Wishes

STATIC = "static_configs: [{targets: ['%s']}]"
INCLUDED = "- {job_name: b, static_configs: [{targets: ['b:1']}]}\n"


def converted(folder: Path, rules: str, discovery: str = STATIC % "a:1", own: str = "") -> Converted:
    (folder / "more.yml").write_text(INCLUDED)
    (folder / "prometheus.yml").write_text(
        f"global:\n  relabel_configs: [{rules}]\nscrape_config_files: [more.yml]\n"
        f"scrape_configs:\n- job_name: a\n  {discovery}\n" + (f"  relabel_configs: [{own}]\n" if own else "")
    )
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(("s:9090",)))


@pytest.mark.parametrize(
    ("rule", "verdict", "code"),
    [
        ("{source_labels: [host], regex: '%{NODE_NAME}', action: keep}", Verdict.KEPT, "PI006"),
        ("{if: '{host!=\"%{HOSTNAME}\"}', action: drop}", Verdict.KEPT, "PI006"),
        ("{target_label: __metrics_path__, replacement: /federate}", Verdict.KEPT, "PI006"),
        ("{source_labels: [__address__], modulus: 2, target_label: __tmp_h, action: hashmod}", Verdict.NOT_TAKEN, "PI003"),
        ("{source_labels: [dc], regex: '%{DC}', action: keep}", Verdict.NATIVE, "PI019"),
        ("{source_labels: [__meta_filepath], target_label: file}", Verdict.NATIVE, "PI015"),
        ("{target_label: __address__, replacement: 'localhost:9115'}", Verdict.NATIVE, "PI016"),
    ],
)
def test_a_rule_for_all_jobs_means_for_each_what_it_would_mean_there(
    tmp_path: Path, rule: str, verdict: Verdict, code: str
) -> None:
    found = converted(tmp_path, rule)
    assert {judged.job.name: judged.verdict for judged in found.jobs} == {"a": verdict, "b": verdict}
    said = [finding for finding in found.findings if finding.code == code]
    assert [finding.where for finding in said] == ["scrape_configs[0](a)", "scrape_configs[0](b)"]
    if code != "PI006":
        assert all("global.relabel_configs[0]" in finding.what for finding in said)


def test_an_address_is_what_rules_for_all_jobs_make_of_it(tmp_path: Path) -> None:
    away = "{source_labels: [__address__], regex: 'localhost:(.*)', target_label: __address__, replacement: 'far:$1'}"
    assert [one.verdict for one in converted(tmp_path, away, STATIC % "localhost:1").jobs] == [Verdict.NATIVE] * 2


def test_what_a_job_drops_after_rules_for_all_jobs_is_not_dropped_without_them(tmp_path: Path) -> None:
    """The Prometheus that discovers has no rules for all jobs: it would find none."""
    keep = "{source_labels: [team], regex: web, action: keep}"
    found = converted(tmp_path, "{target_label: team, replacement: web}", "docker_sd_configs: [{host: 'tcp://d:1'}]", keep)
    assert found.jobs[0].verdict is Verdict.DISCOVERY
    assert b"keep" not in found.files[DISCOVERY].content
    said = {finding.code: str(finding) for finding in found.findings}
    assert "relabel_configs" in said["PI025"]
    assert "discovery.yml has none of its rules" in said["PI014"]
