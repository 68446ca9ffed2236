"""Files that are no configuration, and what an import says of them: where the configuration is, or that it is a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.source import InputError

MANIFEST = "apiVersion: v1\nkind: %s\n"
HELM = "global: {imageRegistry: a}\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- job_name: a\n  static_configs: []\n", "1: is a list of jobs; write scrape_configs: above it"),
        ("- a\n", "1: must be a mapping with scrape_configs"),
        (
            MANIFEST % "ConfigMap" + "data:\n  prometheus.yml: |\n    scrape_configs: []\n",
            "data.prometheus.yml; import that",
        ),
        (MANIFEST % "Secret" + "data: {a.yaml: LSBqb2JfbmFtZTogYQ==}\n", "1: is a manifest of Kubernetes; "),
        (HELM + "extraScrapeConfigs: |\n  - job_name: a\n", "has its configuration in extraScrapeConfigs; "),
        (HELM + "a: {serverFiles: {prometheus.yml: {scrape_configs: []}}}\n", "in a.serverFiles.prometheus.yml; import"),
        ("groups: [{name: a, rules: []}]\n", "1: has none of the sections of a configuration: alerting, "),
        ("x-a: {b: 1}\nservices: {prometheus: {image: a}}\n", "has none of the sections"),
        ("scrape_configs:\n{% for a in b %}\n", "; it looks like a template: import the file that is made of it"),
        ("a: 1\n{{#A}}\nb: 2\n{{/A}}\n", "; it looks like a template"),
        ("scrape_configs: [{job_name: a, x: {{ b | c }}}]\n", "1: a key must be a plain text; it looks like a template"),
    ],
)
def test_a_file_that_is_no_configuration_is_called_what_it_is(tmp_path: Path, text: str, what: str) -> None:
    (path := tmp_path / "prometheus.yml").write_text(text)
    with pytest.raises(InputError) as refused:
        read_configuration(path)
    assert what in refused.value.problems[0].removeprefix(str(path))


@pytest.mark.parametrize("text", ["", "---\n", "global: {scrape_interval: 1m}\n", "x-a: &a 1\n", "otlp: {}\n", "{}"])
def test_a_configuration_without_jobs_is_one(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "prometheus.yml").write_text(text)
    assert read_configuration(path).jobs == []
