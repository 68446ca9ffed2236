"""Targets that are the server itself: known by their address after relabelling, in lists and in files that can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Verdict, Wishes

APPENDED = "{source_labels: [__address__], regex: '([^:]+)', target_label: __address__, replacement: '${1}:9100'}"
BY_LABEL = (
    "{source_labels: [__address__, port], separator: '|', regex: '(.+?)(?::\\d+)?\\|(\\d+)', target_label: __address__"
)
PROBE = """{source_labels: [__address__], target_label: __param_target},
{source_labels: [__param_target], target_label: instance}, {target_label: __address__, replacement: '%s'}"""


def converted(folder: Path, discovery: str, rules: str = "") -> Converted:
    text = f"scrape_configs:\n- job_name: j\n  {discovery}\n" + (f"  relabel_configs: [{rules}]\n" if rules else "")
    (folder / "prometheus.yml").write_text(text)
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(("s:9090",)))


def of_list(*targets: str) -> str:
    return f"static_configs: [{{targets: {json.dumps(targets)}, labels: {{port: '9100', host: far}}}}]"


def judged(found: Converted) -> tuple[Verdict, str]:
    codes = [finding.code for finding in found.findings if finding.code in ("PI005", "PI006")]
    return found.jobs[0].verdict, "".join(codes)


@pytest.mark.parametrize(
    ("rules", "stays"),
    [
        (APPENDED, True),
        (APPENDED.replace("(['", "(?P<h>['").replace("([^", "(?P<h>[^").replace("${1}", "${h}"), True),
        (BY_LABEL + ", replacement: '$1:$2'}", True),
        (BY_LABEL + ", replacement: '$1x:$2'}", False),
        (
            "{source_labels: [__address__], regex: '(?i)LOCALHOST', target_label: __address__, replacement: '[::1]:9100'}",
            True,
        ),
        ("{source_labels: [__meta_x], regex: (.+), target_label: __address__, replacement: 'a:1'}", True),
        (PROBE % "127.0.0.1:9115", True),
        (PROBE % "blackbox:9115", False),
        ("{source_labels: [host], target_label: __address__}", False),
        ("{source_labels: [host], target_label: tmp}, {source_labels: [tmp], target_label: __address__}", False),
        ("{source_labels: [__address__], regex: '\\pL+', target_label: __address__, replacement: 'a:1'}", True),
        ("{source_labels: [__address__], target_label: __address__, action: uppercase}", True),
    ],
)
def test_an_address_that_relabelling_leaves_on_the_server_is_the_server_itself(
    tmp_path: Path, rules: str, stays: bool
) -> None:
    alone, mixed = converted(tmp_path, of_list("localhost"), rules), converted(tmp_path, of_list("localhost", "a"), rules)
    assert judged(alone) == ((Verdict.KEPT, "PI006") if stays else (Verdict.NATIVE, ""))
    assert judged(mixed)[1] == ("PI005" if stays else "")
    assert mixed.jobs[0].verdict.sharded is not stays


@pytest.mark.parametrize("own", ["%{HOSTNAME}:9100", "$(HOST_IP):9100", "${NODE_NAME}"])
def test_an_address_that_the_environment_of_each_server_gives_is_its_own(tmp_path: Path, own: str) -> None:
    assert judged(converted(tmp_path, of_list(own))) == (Verdict.KEPT, "PI006")
    assert judged(converted(tmp_path, of_list(own, "a"))) == (Verdict.KEPT, "PI005")
    assert judged(converted(tmp_path, of_list(own), "{target_label: __address__, replacement: 'e.example:1'}"))[1] == ""
    assert judged(converted(tmp_path, of_list("a.%{HOSTNAME}")))[1] == ""


def test_targets_behind_an_exporter_of_the_server_are_shared(tmp_path: Path) -> None:
    assert judged(converted(tmp_path, of_list("10.0.0.9:22", "a:22"), PROBE % "127.0.0.1:9115")) == (Verdict.NATIVE, "")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[{"targets": ["localhost:9100"]}]', "PI006"),
        ("a.json", '[{"targets": ["localhost:9100", "a:9100"], "labels": {"port": "1"}}]', "PI005"),
        ("a.yml", "- targets: ['a:1']\n- targets: ['[::1]:1', null]\n", "PI005"),
        ("a.yaml", "- targets: ['a:1']\n", ""),
        ("a.json", '[{"targets": ["localhost:9100"', ""),
        ("a.json", "", ""),
        ("b.json", '[{"targets": ["localhost:9100"]}]', ""),
    ],
)
def test_a_list_in_a_file_that_can_be_read_here_is_looked_at(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / name).write_text(content)
    found = converted(tmp_path, f"file_sd_configs: [{{files: [sd/a*.{name.rpartition('.')[2]}]}}]", APPENDED)
    assert judged(found) == (Verdict.KEPT if said else Verdict.NATIVE, said)
    assert not said or f"of {tmp_path / 'sd' / name} is the server itself" in "".join(map(str, found.findings))


def test_a_file_that_nobody_can_read_here_leaves_it_open_what_else_there_is(tmp_path: Path) -> None:
    found = converted(tmp_path, "file_sd_configs: [{files: [none.json]}]\n  " + of_list("localhost"))
    assert judged(found) == (Verdict.KEPT, "PI005")
