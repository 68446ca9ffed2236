"""The mistakes that are likeliest when a configuration is typed: the line that is said leads to the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.config.load import loads
from promring.model import ConfigError

GOOD = """
fleets:
  - name: main
    scrapers: {probe: {nodes: [10.0.0.1:9090, 10.0.0.2:9090]}}
    delivery: [{http_sd: {}}]
shard_services:
  - name: node
    fleet: main
    targets: [{file: {files: [t/*.json]}}]
"""
FILE = "{file: {files: [t/*.json]}}"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("    delivery", "\tdelivery", 5, "the line begins with a tab, and YAML is indented with spaces"),
        ("fleet: main", "fleet: mian", 8, "there is no fleet 'mian'; did you mean 'main'?"),
        (FILE, "{static: {targets: [a:1]}}", 9, "targets[0].static: unknown key; there is consul, dns, file, http, "),
        (FILE, "{fille: {}}", 9, "targets[0].fille: unknown key; did you mean 'file'?"),
        ("{http_sd: {}}", "{rsync: {}}", 5, "delivery[0].rsync: unknown key; there is http_sd, file, ssh, ansible, command"),
        ("[{http_sd: {}}]", "{http_sd: {}}", 5, "fleets[0].delivery: must be a list"),
        ("    delivery", "    guard: {panic_threshold: 50%}\n    delivery", 5, "valid number: 50% is 0.5"),
        ("{http_sd: {}}", "{file: {path: {service}.json}}", 5, "a text with { or } needs quotes around it"),
        ("10.0.0.1:9090", "${SCRAPER}", 4, "a text with { or } needs quotes around it"),
        ("{http_sd: {}}", "{file: {path: 'o/{job}.json'}}", 5, "unknown {job}; there is {fleet} {host} {port} {scraper}"),
        ("10.0.0.1:9090", "prometheus-1", 4, "nodes[0]: 'prometheus-1' is not host:port"),
        ("nodes: [", "path: -/ready, nodes: [", 4, "path: '-/ready' must begin with / and have no space"),
        ("fleet: main", "<<: {fleet: main}", 8, "<<: unknown key; merge keys are not read: write the keys out"),
        ("fleet: main", "relabel_configs: []", 8, "relabel_configs: unknown key; it stays in the job on the scrapers"),
        ("fleet: main", "dns_sd_configs: []", 8, "unknown key; it stands under targets: [{dns_sd_configs: ...}]"),
        ("fleet: main", "kubernetes_sd_configs: []", 8, "unknown key; kubernetes_sd_configs: let a Prometheus discover"),
        (FILE, "{dns: {names: [a b]}}", 9, "names[0]: 'a b' is no name: there is a space in it"),
        ("nodes: [", "interval: 5, nodes: [", 4, "interval: 5 is not a duration such as 500ms, 5s or 1m"),
    ],
)
def test_what_is_said_leads_to_the_mend(old: str, new: str, line: int, said: str, tmp_path: Path) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as error:
        loads(GOOD.replace(old, new), base=tmp_path)
    assert any(one.startswith(f"<text>:{line}: ") and said in one for one in error.value.problems), error.value.problems


def test_a_fleet_whose_name_is_no_text_is_no_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        loads(GOOD.replace("name: main", "name: [main]"), base=tmp_path)
    assert not any("did you mean" in one for one in error.value.problems)
