"""Files that are no configuration, and what an import says of them: where the configuration is, or that it is a template."""

from __future__ import annotations

import codecs
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


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a: b".encode("utf-16-le"), "1: the character U+0000 is not allowed; save the file as UTF-8"),
        (codecs.BOM_UTF32_LE + "a: b".encode("utf-32-le"), "1: the character U+0000 is not allowed; save the file as UTF-8"),
        (codecs.BOM_UTF16_BE + b"\0a\0:\0", "1: not UTF-16; save the file as UTF-8"),
        (b"a: b\nc: \7\n", "2: the character U+0007 is not allowed"),
        (codecs.BOM_UTF16_LE * 2 + "a: b\nc: d\n".encode("utf-16-le"), "1: it begins with two byte order marks, "),
        (codecs.BOM_UTF8 * 2 + b"a: b\nc: d\n", "1: it begins with two byte order marks, "),
    ],
)
def test_a_file_that_is_no_text_for_prometheus_either_says_what_to_do(tmp_path: Path, content: bytes, what: str) -> None:
    (path := tmp_path / "prometheus.yml").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_configuration(path)
    assert refused.value.problems[0].removeprefix(f"{path}:").startswith(what)
