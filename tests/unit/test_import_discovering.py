"""``discovery.yml``: targets may have an interval of their own, and are neither lost by it nor scraped."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.importing.configuration import jobs_of, read_configuration, rules_of
from promring.importing.convert import DISCOVERY, SCRAPERS, Converted, convert
from promring.importing.discovering import NEVER
from promring.importing.quiet import quiet_text
from promring.importing.services import Layout
from promring.importing.source import get, parse_source, text_of
from promring.importing.verdicts import Wishes

DOCKER = "docker_sd_configs: [{host: 'tcp://d:1'}]"
FROM_LABEL = "{source_labels: [__meta_docker_container_label_every], regex: (.+), target_label: __scrape_interval__}"
AS_THEY_ARE = [("", "__tmp_promring_${1}"), ("", "")]
OVER = [("__scrape_interval__", NEVER), ("__scrape_timeout__", "10s")]


def converted(folder: Path, *lines: str) -> Converted:
    text = "\n".join(["scrape_configs:", "- job_name: j", *(f"  {line}" for line in lines)])
    (folder / "prometheus.yml").write_text(text)
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(("s:9090",)))


def rules_in(text: str) -> list[tuple[str, str]]:
    (job,) = jobs_of(parse_source(text.encode(), Path("/d.yml"), "d.yml"), 0)
    return [(text_of(get(rule, "target_label")), text_of(get(rule, "replacement"))) for rule in rules_of(job)]


@pytest.mark.parametrize(
    "lines",
    [
        (DOCKER, f"relabel_configs: [{FROM_LABEL}]"),
        (DOCKER, f"relabel_configs: [{FROM_LABEL}, ]  # every"),
        (DOCKER, "relabel_configs:", f"- {FROM_LABEL}  # every", "# more", "scheme: https"),
        (DOCKER, "relabel_configs:", "  - target_label: __scrape_timeout__", "    replacement: 5s", "", "scheme: https"),
        ("relabel_configs:", "  - action: LabelMap", "    regex: __meta_docker_container_label_prom_(.+)", DOCKER),
        (DOCKER, "relabel_configs: [{action: labelmap, regex: 'x_(.+)', replacement: '__scrape_${1}__'}]"),
        (DOCKER, "relabel_configs: [{target_label: '__${1}__', source_labels: [a], replacement: 5s}]"),
        (DOCKER, "static_configs: [{targets: ['a:1'], labels: {__scrape_interval__: 5s}}]"),
        (DOCKER, "relabel_configs:", "http_sd_configs: [{url: 'http://x/'}]"),
        (DOCKER, "relabel_configs: []", "file_sd_configs: [{files: [x.json]}]"),
    ],
)
def test_an_interval_of_its_own_costs_no_target_where_targets_are_only_found(tmp_path: Path, lines: tuple[str, ...]) -> None:
    """Below the timeout of the Prometheus that discovers it would be refused there; above, scraped."""
    found = converted(tmp_path, *lines)
    before = [rule for rule in rules_in(found.configuration.main.text) if rule not in OVER]
    assert rules_in(found.files[DISCOVERY].content.decode()) == AS_THEY_ARE + before + OVER
    assert rules_in(found.files[SCRAPERS].content.decode()) == before
    assert rules_in(quiet_text(found.configuration, found.configuration.jobs, {})) == before + OVER


def test_what_sets_no_interval_is_carried_as_it_is(tmp_path: Path) -> None:
    rules = "relabel_configs: [{action: labelmap, regex: (.+), replacement: 'a_$1'}, {target_label: b, replacement: c}]"
    found = converted(tmp_path, DOCKER, "static_configs: [{targets: ['a:1']}]", rules)
    assert rules.partition("[")[2] in found.files[DISCOVERY].content.decode()


@pytest.mark.parametrize(
    "rule",
    [
        "{source_labels: [__scrape_interval__], regex: 15s, action: keep}",
        "{source_labels: [a, __scrape_timeout__], regex: ';5s', action: drop}",
        "{source_labels: [a], target_label: __scrape_interval__, action: keepequal}",
    ],
)
def test_a_rule_that_drops_by_the_interval_drops_nothing_where_that_is_another(tmp_path: Path, rule: str) -> None:
    found = converted(tmp_path, DOCKER, f"relabel_configs: [{rule}, {{target_label: b, replacement: c}}]")
    assert rules_in(found.files[DISCOVERY].content.decode()) == [*AS_THEY_ARE, ("b", "c")]
    assert rule in found.files[SCRAPERS].content.decode()


@pytest.mark.parametrize("rules", ["", "relabel_configs: [{source_labels: [a], regex: b, action: keep}]"])
def test_where_no_rule_changes_labels_none_is_added(tmp_path: Path, rules: str) -> None:
    assert b"promring_" not in converted(tmp_path, DOCKER, rules).files[DISCOVERY].content
