"""``promring import`` carries any job: what it does not change says the same, whatever is written in it and how."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from promring.importing import discovering
from promring.importing.configuration import Configuration, jobs_of
from promring.importing.convert import DISCOVERY, SCRAPERS, convert
from promring.importing.services import Layout
from promring.importing.source import flat, parse_source
from promring.importing.verdicts import Verdict, Wishes

TEXTS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z"), exclude_characters="\u2028\u2029\x85"), max_size=12
)
LABELS = st.dictionaries(st.sampled_from(["a", "b", "__param_x", "rack"]), TEXTS, max_size=3)
ADDRESSES = st.lists(st.sampled_from(["h:1", "10.0.0.1:9100", "https://x.org/a?b#c", "[::1:2]:3"]), min_size=1, max_size=3)
GROUPS = st.lists(st.fixed_dictionaries({"targets": ADDRESSES}, optional={"labels": LABELS}), min_size=1, max_size=3)
RULES = st.lists(
    st.fixed_dictionaries(
        {"target_label": st.sampled_from(["x", "instance"])},
        optional={"regex": TEXTS, "replacement": st.sampled_from(["$1", "${1}:x", "%s"]), "separator": TEXTS},
    ),
    max_size=3,
)
DISCOVERIES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"static_configs": GROUPS}),
    st.fixed_dictionaries({"file_sd_configs": st.just([{"files": ["/x/*.json"]}])}),
    st.fixed_dictionaries({"docker_sd_configs": st.just([{"host": "tcp://d:2375"}])}),
    st.fixed_dictionaries({"static_configs": GROUPS, "ec2_sd_configs": st.just([{"region": "eu"}])}),
    st.just({}),
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "scheme": st.sampled_from(["http", "https"]),
        "params": st.dictionaries(st.sampled_from(["module", "match[]"]), st.lists(TEXTS, max_size=2), max_size=2),
        "basic_auth": st.fixed_dictionaries({"username": TEXTS, "password": TEXTS}),
        "relabel_configs": RULES,
        "honor_labels": st.booleans(),
        "sample_limit": st.integers(0, 10**6),
    },
)


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Keys in any order."""
    found = draw(OTHERS) | draw(DISCOVERIES)
    order = draw(st.permutations(["job_name", *found]))
    return {key: found.get(key, "") for key in order}


CONFIGURATIONS = st.lists(jobs(), max_size=4).map(
    lambda listed: {
        "global": {"scrape_interval": "15s"},
        "scrape_configs": [{**job, "job_name": f"job {n}"} for n, job in enumerate(listed)],
        "rule_files": ["/r/*.yml"],
    }
)


def with_comments(text: str, every: int) -> str:
    """Comments between lines and behind them, where the style has a line a key."""
    lines = text.splitlines()
    if every == 0 or any("'" in line or '"' in line or "|" in line or ">" in line for line in lines):
        return text  # it may be within a text
    return "\n".join(f"{line}  # c{n}" if n % every == 0 else line for n, line in enumerate(lines)) + "\n# end\n"


AS_FOUND = [yaml.safe_load(rule) for rule in discovering.AS_FOUND]


@given(
    value=CONFIGURATIONS,
    flow=st.sampled_from([True, False, None]),
    indent=st.sampled_from([2, 3, 4]),
    width=st.sampled_from([30, 80, 10**6]),
    comments=st.integers(0, 3),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_a_configuration_says_the_scrapers_one_says_but_for_the_discovery(
    value: dict[str, Any], flow: bool | None, indent: int, width: int, comments: int, newline: str
) -> None:
    dumped = yaml.safe_dump(value, sort_keys=False, default_flow_style=flow, indent=indent, width=width, allow_unicode=True)
    text = with_comments(dumped, comments if width == 10**6 else 0).replace("\n", newline)
    source = parse_source(text.encode(), Path("/etc/prometheus/prometheus.yml"), "p.yml")
    found = convert([Configuration(source, jobs=jobs_of(source, 0))], Wishes(), Layout())
    new = yaml.safe_load(found.files[SCRAPERS].content)
    expected = copy.deepcopy(yaml.safe_load(text))
    for job, judged in zip(expected["scrape_configs"], found.jobs, strict=True):
        if judged.verdict.sharded:
            for key in [key for key in job if key.endswith(("_sd_configs", "static_configs"))]:
                del job[key]
            job["file_sd_configs"] = [{"files": [f"promring/{found.names[judged.job.name]}.json"]}]
    assert new == expected
    assert not any(finding.code == "PI026" for finding in found.findings)
    through = [judged for judged in found.jobs if judged.verdict is Verdict.DISCOVERY]
    if through:
        discovered = yaml.safe_load(found.files[DISCOVERY].content)["scrape_configs"]
        old = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
        for job in discovered:
            rules = [rule for rule in job.get("relabel_configs", ()) if rule not in AS_FOUND]
            job.update({"relabel_configs": rules} if rules else {})
        assert discovered == [{**old[judged.job.name], "scrape_interval": "100y"} for judged in through]


@given(value=CONFIGURATIONS, flow=st.sampled_from([True, False, None]))
def test_a_node_stands_where_it_says(value: dict[str, Any], flow: bool | None) -> None:
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=flow, allow_unicode=True)
    source = parse_source(text.encode(), Path("/p.yml"), "p.yml")
    for name, (_, node) in flat(source.root).items():
        if node.flow or node.kind == "scalar":
            assert yaml.safe_load(text[node.start : node.end]) == value[name]
    for job in jobs_of(source, 0):
        for key, (start, node) in flat(job.node).items():
            assert text[start.start :].startswith((key, f'"{key}"', f"'{key}'"))
            assert start.end <= node.end <= len(text)
