"""The alerts that the process judges itself are those that a Prometheus with the rules file would fire."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric

from promring.core.placement import Policy, place
from promring.core.preview import fit
from promring.core.ring import Ring
from promring.model import Scraper
from promring.web.alerts.conditions import CONDITIONS, RISES_S
from promring.web.alerts.judge import Alerts
from promring.web.alerts.readings import Readings, names_asked
from promring.web.alerts.rules import FILE, read_rules, said
from promring.web.answers.targets import SeenScraper, Uncovered
from promring.web.page.shown import THEN, alarms_of
from tests.laws.strategies import pool_of
from tests.promql import ROOT, RULES, selectors
from tests.unit.test_web import running
from tests.waiting import until

CASES: dict[str, Any] = {one["name"]: one for one in yaml.safe_load(RULES.with_suffix(".test.yml").read_text())["tests"]}
MINUTES = 120


def values(text: str) -> list[float]:
    """``0 0 1x3``, ``0+60x120``: as promtool reads them."""
    found: list[float] = []
    for part in text.split():
        match = re.fullmatch(r"(-?[\d.e]+)([+-][\d.]+)?(?:x(\d+))?", part)
        assert match, part
        start, step, more = float(match[1]), float(match[2] or 0), int(match[3] or 0)
        found += [start + step * n for n in range(more + 1)]
    return found


class Series:
    """The numbers of a case, a minute after the other."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.minute = 0
        self._series = []
        for one in case["input_series"]:
            name, _, labels = one["series"].partition("{")
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if pairs.pop("job", "") == "promring" and pairs.pop("instance", "") in ("c1:9600", ""):
                self._series.append((name, pairs, values(one["values"])))

    def collect(self) -> Iterator[Metric]:
        for name, labels, points in self._series:
            if self.minute < len(points):
                metric = Metric(name, "", "untyped")
                metric.add_sample(name, labels, points[self.minute])
                yield metric

    def clock(self) -> float:
        return self.minute * 60.0


def judged(case: dict[str, Any], minutes: int) -> tuple[Series, Alerts]:
    series = Series(case)
    alerts = Alerts(series.collect, lambda: "c1:9600", series.clock)
    for series.minute in range(minutes + 1):
        alerts.take()
    return series, alerts


def minutes_of(text: str) -> int:
    assert text.endswith("m")
    return int(text[:-1])


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_each_alert_fires_of_what_promtool_fires_it_of_and_alone(name: str) -> None:
    for wanted in CASES[name]["promql_expr_test"]:
        _, alerts = judged(CASES[name], minutes_of(wanted["eval_time"]))
        fires = {one.alert for one in alerts.every() if one.state == "firing"}
        assert fires == {re.search(r'alertname="(\w+)"', one["labels"])[1] for one in wanted.get("exp_samples", [])}  # type: ignore[index]


@pytest.mark.parametrize("at", [35, 110])
def test_in_health_nothing_fires(at: int) -> None:
    assert [one.alert for one in judged(CASES["health"], at)[1].every() if one.state == "firing"] == []


def test_an_alert_waits_as_long_as_its_rule_says_and_begins_anew_when_it_was_untrue_for_a_moment() -> None:
    up = "promring_scrapers{job='promring', fleet='main', state='down'}".replace("'", '"')
    case = {"input_series": [{"series": up, "values": "0 1x3 0 1x10"}]}

    def state(minute: int) -> list[tuple[str, float, float]]:
        return [(one.state, one.since, one.fires_at) for one in judged(case, minute)[1].every()]

    assert state(0) == []
    assert state(4) == [("pending", 60, 360)]
    assert state(5) == []
    assert state(10) == [("pending", 360, 660)]
    assert state(11) == [("firing", 360, 660)]


def test_a_source_that_never_gave_a_list_is_an_alert_and_one_that_failed_once_at_the_start_is_none() -> None:
    labels = '{job="promring", service="new", source="http"}'
    failures = {"series": f"promring_discovery_failures_total{labels}", "values": "0x2 0+1x100"}
    never = {"input_series": [failures]}
    fires = [one.labels for one in judged(never, 9)[1].every() if one.state == "firing"]
    assert fires == [{"service": "new", "source": "http"}]
    heard = {"series": f"promring_discovery_last_success_timestamp_seconds{labels}", "values": "240+60x100"}
    once = {"input_series": [failures | {"values": "0 1x100"}, heard]}
    assert judged(once, 9)[1].every() == []


def test_whoever_looks_sees_what_is_true_now_and_many_who_look_cost_one_reading() -> None:
    now, read = [100.0], [0]

    def collect() -> list[Metric]:
        read[0] += 1
        metric = Metric("promring_plan_held", "", "gauge")
        metric.add_sample("promring_plan_held", {"fleet": "a", "reason": "panic"}, 1.0)
        return [metric]

    alerts = Alerts(collect, lambda: "me:9600", lambda: now[0])
    assert [one.summary for one in alerts.every()] == ["The plan of fleet a, or a part of it, is held (panic)."]
    alerts.every()
    assert read == [1]
    now[0] += 2
    alerts.every()
    assert read == [2]
    now[0] -= 50  # the clock went back
    assert [one.since for one in alerts.every()] == [52.0]


def test_a_counter_that_was_reset_has_risen_by_what_it_counted_since() -> None:
    name = 'promring_reshards_total{job="promring", fleet="main", reason="scrapers"}'
    case = {"input_series": [{"series": name, "values": "0+10x5 0+1x30"}]}
    _, alerts = judged(case, 8)
    assert [one.value for one in alerts.every()] == []
    _, alerts = judged(case, 5)
    assert [one.value for one in alerts.every()] == [50]


def test_of_all_metrics_only_those_that_a_rule_asks_for_are_read() -> None:
    names = names_asked(CONDITIONS.values())
    in_rules = {
        name for rule in read_rules() if rule.judged for name in re.findall(r"\b(?:promring|process)_\w+", rule.expr)
    }
    own = {"promring_lock", "promring_leader_known"}
    assert names == (in_rules - {"promring_leader"}) | own, "a Prometheus watches all controllers, one process knows itself"
    readings = Readings(RISES_S, names)
    metric = Metric("promring_assigned_targets", "", "gauge")
    metric.add_sample("promring_assigned_targets", {"fleet": "a", "scraper": "b"}, 1.0)
    readings.take([metric], 1.0)
    assert readings.now("promring_assigned_targets") == {}


def test_the_texts_of_an_alert_are_filled_in() -> None:
    assert said("{{ $value }} of {{ $labels.fleet }} at {{ $labels.none }}.", {"fleet": "a"}, 12345.0) == "12345 of a at ."
    assert said("{{ $value | humanize }}", {}, 21.5) == "21.5"
    for rule in read_rules():
        assert "{" not in said(rule.summary + rule.description, {}, 1.0), rule.name


def test_every_alert_of_the_process_itself_has_a_condition_and_every_rise_its_span_in_the_rule() -> None:
    elsewhere = {rule.name for rule in read_rules() if not rule.judged}
    about_others = {rule.name for rule in read_rules() if re.search(r"\bup\{|promring_agent_|promring_leader", rule.expr)}
    assert elsewhere == about_others - {"PromringNoLeader"}, "each controller knows whether anybody leads"
    spans = {"5m": 300.0, "10m": 600.0, "15m": 900.0, "1h": 3600.0}
    found = {}
    for rule in read_rules():
        for name, span in re.findall(r"(promring_\w+)(?:\{[^}]*\})?\[(\w+)\]", rule.expr):
            if rule.judged:
                found[name] = spans[span]
    assert found == dict(RISES_S)
    assert all(list(selectors(rule.expr)) for rule in read_rules())


def test_the_rules_and_runbooks_of_the_page_are_those_of_the_files() -> None:
    made = runpy.run_path(str(ROOT / "scripts/make-alerts"))
    assert FILE.read_text() == made["rules"](), "make pages writes it"
    page = made["PAGE"].read_text()
    assert page == made["runbooks"](), "make pages writes it"
    for rule in read_rules():
        assert f'id="{rule.name.lower()}"' in page
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'id="(\w+)"', page))


def runbook_of(alert: str) -> str:
    text = (ROOT / "docs/runbooks.md").read_text()
    return text.partition(f"### {alert}\n")[2].partition("\n### ")[0]


def test_the_runbook_of_a_held_plan_has_a_row_for_each_reason_that_the_alert_may_name() -> None:
    lacking = [reason for reason in THEN if reason != "warming_up" and f"`{reason}`" not in runbook_of("PromringPlanHeld")]
    assert lacking == []


@pytest.mark.parametrize("alert", ["PromringTargetsNotScraped", "PromringTargetsDoubled"])
def test_the_runbooks_name_fields_of_the_coverage_that_are_lists_of_targets(alert: str) -> None:
    named = re.findall(r"`(lists\.\w+|\w+_targets|\w+_s)`", runbook_of(alert))
    assert named
    known = {f"lists.{field}" for field in Uncovered.__struct_fields__} | set(SeenScraper.__struct_fields__)
    assert set(named) <= known


async def test_the_api_and_the_page_say_which_alerts_are_true_and_lead_to_their_runbooks(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        (tmp_path / "promring.yml").write_text("nonsense: 1\n")
        await r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer sesame"})
        (tmp_path / "web.json").write_text("no json")
        found: list[dict[str, Any]] = []

        async def told() -> bool:
            found[:] = await r.data("/api/v1/alerts")
            return any(one["alert"] == "PromringReloadFailed" for one in found)

        await until(told, "the alert")
        one = next(one for one in found if one["alert"] == "PromringReloadFailed")
        assert one["state"] == "pending"
        assert one["fires_at"] == pytest.approx(one["since"] + 300, abs=0.01)
        assert one["runbook"] == "runbooks#promringreloadfailed"
        page = (await r.get("/alerts"))[2].decode()
        assert 'href="/runbooks#promringreloadfailed"' in page
        assert "refused its configuration" in page
        assert 'id="promringreloadfailed"' in (await r.get("/runbooks"))[2].decode()
        assert re.search(r"rules? (is|are) true, and becomes? (an )?alerts? if that lasts", (await r.get("/"))[2].decode())


def test_a_page_of_a_fleet_has_the_alerts_of_it_its_services_and_the_process() -> None:
    _, alerts = judged(CASES["PromringTargetsUnplaced"], 5)
    of_node = alerts.every()
    _, alerts = judged(CASES["PromringPlanHeld"], 5)
    of_main = alerts.every()
    _, alerts = judged(CASES["PromringNotReady"], 5)
    of_all = alerts.every()
    assert alarms_of([*of_node, *of_main, *of_all], "main", ["node"]) == [*of_node, *of_main, *of_all]
    assert alarms_of([*of_node, *of_main, *of_all], "main", []) == [*of_main, *of_all]
    assert alarms_of([*of_node, *of_main, *of_all], "other", ["node"]) == [*of_node, *of_all]


async def test_a_controller_says_itself_that_nobody_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as r:
        leadership = r.supervisor.leadership

        async def is_said() -> bool:
            return "No controller leads." in {one["summary"] for one in await r.data("/api/v1/alerts")}

        async def is_over() -> bool:
            return not await is_said()

        assert not await is_said()
        monkeypatch.setattr(leadership, "alone", False)
        await until(is_said, "nobody leads")
        leadership.follow("other:9600/1a2b", 7)
        await until(is_over, "another one leads")


def test_when_every_scraper_is_down_no_alert_says_that_others_scrape_their_targets() -> None:
    labels = '{job="promring", fleet="main", state='
    series = [
        {"series": f'promring_scrapers{labels}"{state}"}}', "values": f"{n}x20"} for state, n in (("up", 0), ("down", 3))
    ]
    said = {one.alert: one.description for one in judged({"input_series": series}, 10)[1].every() if one.state == "firing"}
    assert said.keys() == {"PromringNoScraperUp", "PromringScraperDown"}
    assert "as far as they have room and the plan is not held" in said["PromringScraperDown"]


def test_targets_that_lack_only_a_replica_are_not_said_to_be_scraped_by_nobody() -> None:
    policy = Policy(capacity=15, replication_factor=2)
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(2))
    found = fit(place(pool_of([f"t{n}:1" for n in range(20)]), Ring(members, policy.virtual_nodes), policy))
    assert found.unplaced > found.ownerless
    (rule,) = (one for one in read_rules() if one.name == "PromringTargetsUnplaced")
    assert "have no scraper" not in rule.summary
    assert "except by another one if they have replicas" in rule.description
