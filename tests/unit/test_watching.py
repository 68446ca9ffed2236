"""Alert rules, their runbooks, the dashboard and the page of metrics say what promring really exports."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as plain

from promring.demo.process import find
from tests.promql import ROOT, RULES, alerts, grouped_by, selectors
from tests.unit.test_web import running
from tests.waiting import patient

FROM_PROMETHEUS = {"job", "instance", "le"}
"""Labels that no metric of ours has by itself."""
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / name))


def exported() -> dict[str, set[str]]:
    """The labels of each metric of controllers and agents."""
    made = script("make-metrics-page")
    rows = {row.name: set(row.labels) for row in (*made["controller"](), *made["agent"]())}
    return rows | {name: set[str]() for name in (*PROCESS, "up")}


def unknown(query: str, metrics: dict[str, set[str]]) -> list[str]:
    wrong = []
    for name, labels in selectors(query):
        if name not in metrics:
            wrong.append(name)
        elif foreign := labels - metrics[name] - FROM_PROMETHEUS:
            wrong.append(f"{name}{sorted(foreign)}")
    known = set().union(FROM_PROMETHEUS, *(metrics.get(name, set()) for name, _ in selectors(query)))
    return wrong + sorted(grouped_by(query) - known)


def panels() -> list[dict[str, Any]]:
    return list(json.loads((ROOT / "deploy/grafana/promring.json").read_text())["panels"])


def test_the_page_of_metrics_is_what_the_code_exports() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == script("make-metrics-page")["page"](), "make pages writes it"


async def test_the_page_of_metrics_is_what_a_running_controller_exports(tmp_path: Path) -> None:
    said = {row.name: (row.kind, set(row.labels)) for row in script("make-metrics-page")["controller"]()}
    async with running(tmp_path, shared=True) as r:
        await r.get("/nowhere")
        families = list(plain((await r.get("/metrics"))[2].decode()))
    found = {f"{f.name}_total" if f.type == "counter" else f.name: f for f in families if f.name.startswith("promring_")}
    assert {name: f.type for name, f in found.items()} == {name: kind for name, (kind, _) in said.items()}
    for name, family in found.items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == said[name][1], sample


def test_queries_name_what_is_exported() -> None:
    metrics = exported()
    queries = [rule["expr"] for rule in alerts()]
    queries += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    assert len(queries) > 70
    assert [(query, wrong) for query in queries if (wrong := unknown(query, metrics))] == []
    assert unknown('sum by (shard) (promring_targets{fleet="a"}) + promring_nope', metrics) == [
        "promring_targets['fleet']",
        "promring_nope",
        "shard",
    ], "a wrong query is seen"


def test_every_metric_that_can_be_wrong_has_an_alert_or_a_panel() -> None:
    used = {name for rule in alerts() for name, _ in selectors(rule["expr"])}
    used |= {name for panel in panels() for target in panel.get("targets", []) for name, _ in selectors(target["expr"])}
    ours = {name for name in exported() if name.startswith("promring_")}
    for_people = {  # numbers to look at, not to watch
        "promring_build_info",
        "promring_lock",
        "promring_leader_known",  # the controller judges by it; a Prometheus sees all controllers
        "promring_tasks",
        "promring_assigned_targets",
        "promring_config_last_reload_success_timestamp_seconds",
        "promring_agent_answers_total",
        "promring_agent_reloads_total",
        "promring_agent_slice_epoch",
        "promring_agent_slice_generation",
    }
    assert ours - used - for_people == set(), "give it a panel in scripts/make-dashboard, or name it above"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    page = (ROOT / "docs/runbooks.md").read_text()
    sections = re.findall(r"^### (\w+)\n\n\*(critical|warning)\.\*", page, re.MULTILINE)
    assert sections == [(rule["alert"], rule["labels"]["severity"]) for rule in alerts()]  # type: ignore[index]
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"  # type: ignore[index]


def test_every_log_line_that_a_runbook_names_is_one() -> None:
    lines = set(re.findall(r"`(\w+)`", (ROOT / "docs/log.md").read_text()))
    named = re.findall(r"log lines? ((?:`\w+`(?:, | and | or )?)+)", (ROOT / "docs/runbooks.md").read_text())
    assert len(named) >= 10
    assert {word for one in named for word in re.findall(r"\w+_\w+|unforeseen", one)} <= lines


def test_every_alert_is_proved_to_fire() -> None:
    tests = yaml.safe_load(RULES.with_suffix(".test.yml").read_text())["tests"]
    assert [one["name"] for one in tests] == ["health", *(rule["alert"] for rule in alerts())]


def test_promtool_takes_the_rules_and_their_tests() -> None:
    promtool = find("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; scripts/fetch-servers gets it")
    for arguments in (["check", "rules", RULES.name], ["test", "rules", RULES.with_suffix(".test.yml").name]):
        done = subprocess.run(
            [promtool, *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=patient(60), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_its_script_writes_and_no_panel_covers_another() -> None:
    assert (ROOT / "deploy/grafana/promring.json").read_text() == script("make-dashboard")["text"](), "make pages writes it"
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
