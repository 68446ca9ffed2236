"""Targets that relabelling makes equal, which one server scrapes once, and scrapers that share them would each scrape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Verdict, Wishes

HOST = "{source_labels: [__address__], regex: '([^:]+).*', target_label: __address__, replacement: '$1:9100'}"
PROBE = """{source_labels: [__address__], target_label: __param_target},
{target_label: __address__, replacement: 'blackbox.example:9115'}"""
TWO = [{"targets": ["a.example:1", "a.example:2"]}]


def converted(folder: Path, groups: list[dict[str, object]], rules: str, *, in_file: bool) -> Converted:
    (folder / "list.json").write_text(json.dumps(groups))
    discovery = "file_sd_configs: [{files: [list.json]}]" if in_file else f"static_configs: {json.dumps(groups)}"
    text = f"scrape_configs:\n- job_name: j\n  {discovery}\n" + (f"  relabel_configs: [{rules}]\n" if rules else "")
    (folder / "prometheus.yml").write_text(text)
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(("s:9090",)))


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(
    ("groups", "rules", "shown"),
    [
        (TWO, HOST, "a.example:1 and a.example:2"),
        (TWO, f"{HOST}, {{source_labels: [__address__], target_label: x}}", "a.example:1 and a.example:2"),
        (TWO, f"{{source_labels: [__address__], target_label: x}}, {HOST}", ""),
        (TWO, f"{{source_labels: [__address__], target_label: __tmp}}, {HOST}", ""),
        (TWO, f"{{source_labels: [__address__], target_label: __meta_x}}, {HOST}", "a.example:1 and a.example:2"),
        (
            TWO,
            f"{{source_labels: [__address__], target_label: x}}, {HOST}, {{regex: x, action: labeldrop}}",
            "a.example:1 and",
        ),
        (TWO, PROBE, ""),
        (TWO, f"{{source_labels: [__address__], regex: '.*:2', action: drop}}, {HOST}", ""),
        (TWO, f"{{source_labels: [__address__], regex: '.*:2', action: keep}}, {HOST}", ""),
        (TWO, f"{{source_labels: [__address__], regex: 'a.*', action: keep}}, {HOST}", "a.example:1 and a.example:2"),
        (TWO, f"{{source_labels: [__address__], target_label: x, action: lowercase}}, {HOST}", ""),
        (TWO, f"{{source_labels: [__address__], regex: '(?P<x>[[:^alpha:]]*)', target_label: x}}, {HOST}", ""),
        (TWO, "", ""),
        ([{"targets": ["a.example:1", "a.example:1"]}], HOST, ""),
        ([*TWO, {"targets": ["b.example:1"], "labels": {"x": "y"}}], "{regex: x, action: labeldrop}", ""),
        (
            [{"targets": ["a.example:1"], "labels": {"x": "y"}}, {"targets": ["a.example:1"]}],
            "{regex: x, action: labeldrop}",
            "two entries of a.example:1",
        ),
    ],
)
def test_a_job_whose_targets_relabelling_makes_equal_goes_where_they_are_made_one(
    tmp_path: Path, groups: list[dict[str, object]], rules: str, shown: str, in_file: bool
) -> None:
    found = converted(tmp_path, groups, rules, in_file=in_file)
    (judged,) = found.jobs
    assert judged.verdict is (Verdict.DISCOVERY if shown else Verdict.NATIVE)
    assert judged.why.startswith(f"relabelling makes one target of {shown}" if shown else "")
    assert ("PI007" in [finding.code for finding in found.findings]) is bool(shown)
