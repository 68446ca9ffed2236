"""Jobs that ``promring import`` leaves on every scraper, and what of the old sharding may stay in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import SCRAPERS, Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Verdict, Wishes

PAIR = """\
      - {source_labels: [__address__], modulus: 2, target_label: __tmp_hash, action: hashmod}
      - {source_labels: [__tmp_hash], regex: 'SHARD', action: keep}
"""
RULES = f"    relabel_configs:\n{PAIR}      - {{target_label: dc, replacement: a}}\n"
JOB = "  - job_name: kept\n"
NODE = "  - job_name: node\n    static_configs: [{targets: [a:9100]}]\n"
STATIC = "    static_configs: [{targets: [%s]}]\n"
KEPT = {
    "federate": "    metrics_path: /federate\n" + STATIC % "a:9090, b:9090",
    "loopback": STATIC % "localhost:9100",
    "mixed": STATIC % "localhost:9100, a:9100",
    "asked for": STATIC % "c:9100, d:9100",
    "by a URL": "    file_sd_configs: [{files: ['http://x/a.json']}]\n",
    "of vmagent alone": "    consulagent_sd_configs: [{server: 'c:8500'}]\n",
}


def converted(folder: Path, *texts: str, keep: tuple[str, ...] = ()) -> Converted:
    for number, text in enumerate(texts):
        (folder / f"{number}.yml").write_text("scrape_configs:\n" + text)
    inputs = [read_configuration(folder / f"{number}.yml", number) for number in range(len(texts))]
    return convert(inputs, Wishes(keep=keep), Layout(("s:9090",)))


@pytest.mark.parametrize("shards", [("0", "1"), ("1",), ("$(SHARD)",), ("%{SHARD}",)])
@pytest.mark.parametrize("why", KEPT)
def test_a_job_on_every_scraper_keeps_nothing_of_the_old_sharding(tmp_path: Path, why: str, shards: tuple[str, ...]) -> None:
    text = NODE + JOB + KEPT[why] + RULES
    keep = ("kept",) if why == "asked for" else ()
    found = converted(tmp_path, *(text.replace("'SHARD'", f"'{shard}'") for shard in shards), keep=keep)
    assert found.jobs[1].verdict in (Verdict.KEPT, Verdict.NOT_TAKEN)
    assert found.files[SCRAPERS].content.decode().count("dc, replacement") == 1
    assert b"tmp_hash" not in found.files[SCRAPERS].content
    assert b"promring/node.json" in found.files[SCRAPERS].content
    said = [str(finding) for finding in found.findings if finding.code == "PI004"]
    assert len(said) == 1, found.findings
    assert "every scraper has all of its targets now" in said[0]
    joined = [finding.done for finding in found.findings if finding.code == "PI023"]
    assert joined == ["one job, on every scraper"] * (len(shards) - 1)


def test_a_hashmod_that_cannot_be_taken_out_is_said_of_a_job_that_shall_stay(tmp_path: Path) -> None:
    rules = RULES.replace("SHARD", "0|1")
    found = converted(tmp_path, JOB + KEPT["asked for"] + rules, keep=("kept",))
    assert (found.jobs[0].verdict, found.exact) == (Verdict.KEPT, False)
    assert [finding.code for finding in found.findings if finding.level == "error"] == ["PI003"]
    assert found.files[SCRAPERS].content.count(b"tmp_hash") == 2


def test_shards_that_stay_are_not_called_one(tmp_path: Path) -> None:
    """Where one hashmod of two cannot be taken out, the job is that of the first input."""
    more = "      - {source_labels: [a], modulus: 2, target_label: __tmp_b, action: hashmod}\n"
    texts = [JOB + KEPT["asked for"] + RULES.replace("SHARD", shard) + more for shard in "01"]
    found = converted(tmp_path, *texts)
    assert [finding.code for finding in found.findings if finding.level == "error"] == ["PI003", "PI021"]
    assert "PI023" not in [finding.code for finding in found.findings]


@pytest.mark.parametrize("discovery", ["static_configs: [{targets: ['a:1']}]", "kubernetes_sd_configs: [{role: pod}]"])
@pytest.mark.parametrize("place", ["%{NODE_NAME}", "$(NODE_NAME)", "${HOSTNAME}", "%{K8S_NODE_NAME}", "^%{HOST_IP}$"])
@pytest.mark.parametrize(
    "rule", ["{source_labels: [host], regex: '@', action: keep}", "{if: '{host!=\"@\"}', action: drop}"]
)
def test_a_rule_that_drops_by_the_servers_own_name_leaves_the_job_where_it_is(
    tmp_path: Path, rule: str, place: str, discovery: str
) -> None:
    """Shared, each target would go to a scraper that drops it."""
    text = f"{JOB}    {discovery}\n    relabel_configs: [{rule.replace('@', place)}]\n"
    found = converted(tmp_path, text)
    assert (found.jobs[0].verdict, found.exact) == (Verdict.KEPT, True)
    assert [finding.code for finding in found.findings if finding.where == "scrape_configs[0](kept)"] == ["PI006"]
    assert rule.replace("@", place) in found.files[SCRAPERS].content.decode()


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("{source_labels: [dc], regex: '%{DC}', action: keep}", "PI019"),
        ("{source_labels: [dc], regex: $(DC), action: drop}", "PI019"),
        ("{if: '{dc=\"%{DC}\"}', action: keep}", "PI019"),
        ("{source_labels: [dc], regex: '%{DC}', target_label: a}", ""),
        ("{target_label: node, replacement: '%{NODE_NAME}'}", ""),
        ("{target_label: __address__, replacement: '%{HOST_IP}:9115'}", "PI016"),
    ],
)
def test_a_place_holder_that_may_cost_targets_of_a_shared_job_is_said(tmp_path: Path, rule: str, code: str) -> None:
    found = converted(tmp_path, f"{JOB}    {STATIC.strip() % 'a:1'}\n    relabel_configs: [{rule}]\n")
    assert found.jobs[0].verdict is Verdict.NATIVE
    there = [finding.code for finding in found.findings if "relabel_configs[0]" in finding.where]
    assert there == ([code] if code else [])


def test_a_list_of_files_that_names_a_url_is_vmagents(tmp_path: Path) -> None:
    """vmagent reads it, in JSON or YAML and of any type; a Prometheus would look for a file."""
    found = converted(tmp_path, f"{JOB}    file_sd_configs: [{{files: ['sd/*.yml', 'http://u:hunter2@x/a.json']}}]\n")
    assert (found.jobs[0].verdict, found.configuration.vmagent, found.exact) == (Verdict.NOT_TAKEN, True, False)
    assert "a URL in file_sd_configs[0].files[1] is vmagent's alone" in "".join(map(str, found.findings))
    assert "hunter2" not in "".join(map(str, found.findings))
    assert b"files: ['sd/*.yml', 'http://u:hunter2@x/a.json']" in found.files[SCRAPERS].content


@pytest.mark.parametrize(
    ("discovery", "verdict"),
    [
        ("kubernetes_sd_configs: [{role: pod, selectors: [{role: pod, field: 'spec.nodeName=%{K8S_NODE_NAME}'}]}]", "KEPT"),
        ("consul_sd_configs: [{server: 'c:8500', node_meta: {name: '$(HOSTNAME)'}}]", "KEPT"),
        ("consul_sd_configs: [{server: '$(HOST_IP):8500'}]", "DISCOVERY"),
        ("static_configs: [{targets: ['a:1'], labels: {by: '%{HOSTNAME}'}}]", "NATIVE"),
    ],
)
def test_what_only_the_own_node_has_is_left_there_and_who_is_asked_on_it_knows_all(
    tmp_path: Path, discovery: str, verdict: str
) -> None:
    found = converted(tmp_path, f"{JOB}    {discovery}\n")
    assert found.jobs[0].verdict is Verdict[verdict]
    assert ("PI019" in [finding.code for finding in found.findings]) == (verdict != "KEPT")


def test_comments_of_lists_that_must_be_written_out_are_not_lost_in_silence(tmp_path: Path) -> None:
    lists = "    static_configs:\n    - &first {targets: [a:1]} # rack 3\n    - {<<: *first, labels: {b: c}}\n"
    found = converted(tmp_path, JOB + lists)
    (said,) = [finding for finding in found.findings if finding.code == "PI026"]
    assert (said.where, said.line) == ("scrape_configs[0](kept).static_configs", 4)
    for text in (lists.replace(" # rack 3", ""), "    static_configs:\n    - targets: [a:1] # rack 3\n"):
        assert "PI026" not in [finding.code for finding in converted(tmp_path, JOB + text).findings]
