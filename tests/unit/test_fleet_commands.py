"""Commands about a fleet of several services: what they ask, what they print, and which fleet they mean."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from promring.cli import main
from promring.demo.process import free_port
from tests.fakes.controller import FakeController, one_fleet, one_service, status, success, whole
from tests.unit.test_web import scrapers

ONE, TWO = "10.0.0.1:9090", "10.0.0.2:9090"
DRAINED = {"scraper": ONE, "alive": True, "kept": True, "had": 4, "left": 4, "keeps_all": False, "forecast": None}


def of_main(name: str, **changed: Any) -> dict[str, Any]:
    return one_service(name=name, fleet="main", **{"scrapers": [], **changed})


def shared(*services: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The status of the fleet ``main`` of these, beside the service ``node`` with a fleet of its own."""
    own = one_service()
    fleet = one_fleet(*services, scrapers=own["scrapers"], **changed)
    return whole([fleet, one_fleet(own)], [*services, own])


def invoked(answers: dict[str, tuple[int, Any]], *arguments: str) -> tuple[Result, list[str]]:
    with FakeController(answers) as fake:
        result = CliRunner().invoke(main, [*arguments, "--url", fake.url])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result, [path for _, path, _ in fake.asked]


def test_loads_and_room_are_lines_of_the_status() -> None:
    loads = {"kind": "series", "learnt": 7, "spread": 1.08, "moved_at": None, "troubles": ["10.0.0.2:9090: 422: agent"]}
    room = {"load": 900, "each": 200, "weight": 2.0, "scrapers": 4, "needed": 5, "after_scraper": 6, "after_zone": 8}
    result, _ = invoked({"/api/v1/status": (200, shared(of_main("db"), loads=loads, room=room))}, "status")
    lines = result.stdout.splitlines()
    needs = "load 900 needs 5 scrapers of weight 2, at most 200 each (6 to lose one, 8 to lose a zone); 4 there"
    assert f"  room: {needs}" in lines
    assert "  loads: series, 7 targets learnt, the fullest scraper has 1.08 times its share" in lines
    assert "    10.0.0.2:9090: 422: agent" in lines


def test_a_fleet_of_several_services_is_shown_once_and_one_of_its_own_as_its_service() -> None:
    source = one_service()["sources"][0]
    bad = source | {"state": "unknown", "reason": "no answer", "refused": 2, "remarks": ["a", "b"]}
    bad |= {"dropped": {"count": 3, "among": ["x:1", "y:1"]}}
    panic = {"reason": "panic", "detail": "2 of 3 are gone", "until": None}
    doubt = {"reason": "source_shrank", "detail": "web says 1", "until": None}
    warned = {"level": "warn", "text": "no whole answer"}
    web = of_main("web", sources=[bad], withheld=[panic, doubt], summary=warned)
    answer = shared(of_main("db", withheld=[panic]), web, withheld=[panic], targets=8, load=8, limit=12)
    result, _ = invoked({"/api/v1/status": (200, answer)}, "status")
    assert result.stdout.splitlines() == [
        "promring 0.1.0: ready, but not all is well with web",
        "",
        "main: 2 services, 8 targets, load 8 of 12, generation 1.2, membership known",
        "  4 of 4 targets seen scraped 3 s ago",
        "  held: 2 of 3 are gone",
        "  scraper        state  targets    load  generation  note",
        "  10.0.0.1:9090  up           2  2 of 3  1.2",
        "  10.0.0.2:9090  up           2  2 of 3  1.2",
        "  service db: 4 targets; 4 of 4 targets seen scraped 3 s ago; from file:/targets.json (4, known)",
        "  service web: 4 targets; no whole answer; from file:/targets.json (4, unknown)",
        "    held: web says 1",
        "    source file:/targets.json: no answer",
        "    2 entries left out: a; b",
        "    3 dropped there by relabelling: x:1, y:1, …",
        "",
        "node: 4 targets, generation 1.2, membership known",
        "  4 of 4 targets seen scraped 3 s ago",
        "  scraper        state  targets  generation  note",
        "  10.0.0.1:9090  up           2  1.2",
        "  10.0.0.2:9090  up           2  1.2",
        "  source file:/targets.json: 4 targets, known",
    ]


def test_what_is_amiss_with_a_source_is_said_of_a_service_alone_as_of_one_of_several() -> None:
    amiss = {"state": "unknown", "reason": "no answer", "refused": 2, "remarks": ["a", "b"], "troubles": ["dns fails there"]}
    bad = one_service()["sources"][0] | amiss | {"dropped": {"count": 3, "among": ["x:1", "y:1"]}}
    alone, several = one_service(sources=[bad]), of_main("web", sources=[bad])
    answers = whole([one_fleet(alone)], [alone]), shared(several)
    for answer in answers:
        result, _ = invoked({"/api/v1/status": (200, answer)}, "status")
        for said in (
            "no answer",
            "2 entries left out: a; b",
            "3 dropped there by relabelling: x:1, y:1, …",
            "dns fails there",
        ):
            assert said in result.stdout


def test_a_fleet_without_a_plan_or_a_bound_says_so() -> None:
    answer = shared(of_main("db", targets=None), targets=None, load=None, limit=None)
    lines = invoked({"/api/v1/status": (200, answer)}, "status")[0].stdout.splitlines()
    assert "main: 1 service, no plan, generation 1.2, membership known" in lines
    (line,) = (one for one in lines if one.startswith("  service db: no plan; "))
    answer["services"][0]["sources"][0] |= {"targets": None, "state": "unknown"}
    lines = invoked({"/api/v1/status": (200, answer)}, "status")[0].stdout.splitlines()
    assert f"{line.partition(' (')[0]} (no list, unknown)" in lines
    unbound = one_service()["scrapers"][0] | {"limit": None}
    answer = shared(of_main("db"))
    answer["fleets"][0]["scrapers"] = [unbound]
    lines = invoked({"/api/v1/status": (200, answer)}, "status")[0].stdout.splitlines()
    assert "  10.0.0.1:9090  up           2     2  1.2" in lines


@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_the_fleet_that_has_the_scraper_is_meant_and_of_several_one_must_be_named(command: str) -> None:
    both = shared(of_main("db"))["fleets"]
    both[1] = both[1] | {"scrapers": both[1]["scrapers"][:1]}
    answers: dict[str, tuple[int, Any]] = {"/api/v1/fleets": (200, both)}
    for fleet in ("main", "node"):
        for scraper in (ONE, TWO, "x:1"):
            path = f"/api/v1/fleets/{fleet}/scrapers/{scraper.replace(':', '%3A')}/{command}"
            answers[path] = (200, DRAINED | {"fleet": fleet, "scraper": TWO})
    no_wait = ["--no-wait"] * (command == "drain")
    result, paths = invoked(answers, command, TWO, *no_wait)
    assert (result.exit_code, paths[-1].split("/")[4]) == (0, "main")
    assert result.stdout.startswith(f"main: {TWO}")
    result, paths = invoked(answers, command, ONE, *no_wait)
    assert (result.exit_code, "--fleet: which one? There is main, node" in result.stderr) == (2, True)
    assert len(paths) == 1, "nothing is changed"
    result, paths = invoked(answers, command, ONE, *no_wait, "--fleet", "node", "--fleet", "main")
    assert (result.exit_code, [path.split("/")[4] for path in paths[1:]]) == (0, ["node", "main"])
    result, _ = invoked(answers, command, "x:1", *no_wait)
    assert (result.exit_code, "no fleet has the scraper 'x:1'; there is main, node" in result.stderr) == (1, True)
    result, _ = invoked(answers, command, ONE, *no_wait, "--fleet", "nope")
    assert (result.exit_code, "no fleet 'nope'; there is main, node" in result.stderr) == (1, True)
    answers["/api/v1/fleets"] = (200, both[:1])
    result, paths = invoked(answers, command, "x:1", *no_wait)
    assert paths[-1].startswith("/api/v1/fleets/main/scrapers/x%3A1/"), "the controller knows by which names it is known"


@pytest.mark.parametrize(("name", "kind"), [("main", "fleets"), ("db", "services"), ("node", "fleets")])
def test_a_release_is_of_a_fleet_or_of_a_service(name: str, kind: str) -> None:
    let_go: dict[str, Any] = {"leads": True, "released": [{"reason": "panic", "detail": "2 of 3"}]}
    answers = {
        "/api/v1/fleets": (200, shared(of_main("db"))["fleets"]),
        f"/api/v1/{kind}/{name}/release": (200, let_go),
    }
    result, _ = invoked(answers, "release", name)
    assert (result.exit_code, result.stdout) == (0, f"{name}: released panic: 2 of 3\n")
    let_go |= {"waits_for": "no scraper is alive"}
    result, _ = invoked(answers, "release", name)
    assert result.stdout.splitlines()[1] == (
        f"{name}: it is done when the plan of the fleet is not held any more: no scraper is alive"
    )
    let_go |= {"leads": False, "leader": "b:9600/1a2b"}
    result, _ = invoked(answers, "release", name)
    assert (result.exit_code, "released here only, which moves nothing" in result.stderr) == (1, True)
    assert result.stderr.endswith(" follows, and b:9600/1a2b leads\n")


def test_a_drain_is_over_when_no_service_of_the_fleet_has_a_target_there() -> None:
    first, second = one_service()["scrapers"]
    empty = first | {"targets": 0, "left": 0, "drained": True}
    answer = shared(of_main("db"), of_main("web"))
    answer["fleets"][0]["scrapers"] = [empty, second]
    answers = {
        "/api/v1/fleets": (200, answer["fleets"][:1]),
        "/api/v1/fleets/main/scrapers/10.0.0.1%3A9090/drain": (200, DRAINED),
        "/api/v1/status": (200, answer),
    }
    result, _ = invoked(answers, "drain", ONE)
    assert (result.exit_code, result.stdout) == (0, f"main: {ONE} drained: it holds nothing\n")


def test_the_events_of_a_fleet_say_which_service_they_are_of() -> None:
    event = {"id": 1, "ts": "t", "level": "info", "msg": "m", "service": "", "fleet": "main", "fields": {}}
    answers: dict[str, tuple[int, Any]] = {"/api/v1/events": (200, [event, event | {"service": "db"}])}
    result, paths = invoked(answers, "events", "--fleet", "main")
    assert result.stdout.splitlines() == ["t info m fleet=main", "t info m fleet=main service=db"]
    assert paths == ["/api/v1/events?limit=50&fleet=main"]


# --- from a configuration --------------------------------------------------------------------------------------------


def configured(folder: Path, port: int = 1, path: str = "'out/{fleet}/{service}/{scraper}.json'") -> Path:
    (folder / "a.json").write_text(json.dumps([{"targets": [f"a{n}:1" for n in range(30)]}]))
    (folder / "b.json").write_text(json.dumps([{"targets": [f"b{n}:1" for n in range(10)]}]))
    file = folder / "x.yml"
    file.write_text(
        f"""
fleets:
- name: main
  scrapers: {{probe: {{nodes: ['127.0.0.1:{port}'], interval: 100ms, timeout: 100ms, unhealthy_after: 100}}}}
  delivery: [{{file: {{path: {path}}}}}]
shard_services:
- {{name: a, fleet: main, job: job a, targets: [{{file: {{files: [a.json]}}}}]}}
- {{name: b, fleet: main, targets: [{{file: {{files: [b.json]}}}}], placement: {{replication_factor: 2}}}}
- name: c
  job: job a
  scrapers: {{probe: {{nodes: ['127.0.0.1:2']}}}}
  targets: [{{file: {{files: [a.json]}}}}]
  delivery: [{{http_sd: {{}}}}]
"""
    )
    return file


def test_scrape_config_prints_a_job_for_each_service_of_a_fleet(tmp_path: Path) -> None:
    file = configured(tmp_path)
    base = ["scrape-config", "--config.file", str(file)]
    result = CliRunner().invoke(main, [*base, "--fleet", "main", "--scraper", "127.0.0.1:1"])
    assert result.exit_code == 0, result.output
    jobs = {job["job_name"]: job["file_sd_configs"][0]["files"] for job in yaml.safe_load(result.stdout)["scrape_configs"]}
    assert jobs == {
        "job a": [f"{tmp_path}/out/main/a/127.0.0.1_1.json"],
        "b": [f"{tmp_path}/out/main/b/127.0.0.1_1.json"],
    }
    assert CliRunner().invoke(main, [*base, "--scraper", "127.0.0.1:1"]).stdout == result.stdout, "whose scraper it is"
    twice = CliRunner().invoke(main, base)
    assert (twice.exit_code, "(--fleet prints those of one fleet)" in twice.stderr) == (1, True)
    nobody = CliRunner().invoke(main, [*base, "--fleet", "nope"])
    assert (nobody.exit_code, "no fleet 'nope'; there is main, c" in nobody.stderr) == (1, True)
    other = CliRunner().invoke(main, [*base, "--fleet", "main", "c"])
    assert (other.exit_code, "no shard service 'c' in fleet main; there is a, b" in other.stderr) == (1, True)


async def test_a_plan_of_the_file_alone_places_all_services_of_a_fleet_together(tmp_path: Path) -> None:
    async with scrapers(1) as (node,):
        file = configured(tmp_path, int(node.rpartition(":")[2]))
        result = await _beside("plan", "--offline", "--config.file", str(file), "--with", "10.0.0.9:9090", "--output=json")
        assert (result.exit_code, "--fleet: which one? There is main, c" in result.stderr) == (2, True)
        result = await _beside(
            "plan", "--offline", "--config.file", str(file), "--fleet", "main", "--with", "10.0.0.9:9090", "--output=json"
        )
        assert result.exit_code == 0, result.output
        plan = json.loads(result.stdout)
        assert (plan["fleet"], plan["targets"]) == ("main", 40)
        after = {row["id"]: row["after"] for row in plan["scrapers"]}
        assert sum(after.values()) == 30 + 2 * 10, "two owners for each of the other service"
        assert max(after.values()) <= plan["most"]
        missing = await _beside("plan", "--offline", "--config.file", str(file), "--without", node, "--output=json")
        assert "no scraper would be left" in missing.stderr, "the only fleet that lists it"
        file.write_text(file.read_text().replace("- name: main\n", "- name: main\n  placement: {loads: series}\n"))
        result = await _beside("plan", "--offline", "--config.file", str(file), "--fleet", "main")
        assert (result.exit_code, "here each target counts 1" in result.stderr) == (0, True), "nobody has learnt any"


def test_a_plan_without_the_list_of_one_service_is_none(tmp_path: Path) -> None:
    file = configured(tmp_path, free_port())
    (tmp_path / "b.json").unlink()
    result = CliRunner().invoke(main, ["plan", "--offline", "--config.file", str(file), "--fleet", "nope"])
    assert (result.exit_code, "no fleet 'nope'; there is main, c" in result.stderr) == (2, True)
    result = CliRunner().invoke(main, ["plan", "--offline", "--config.file", str(file), "--fleet", "main"])
    assert (result.exit_code, result.stderr.startswith("Error: main: no scraper is alive; 127.0.0.1:")) == (1, True)


async def _beside(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, list(arguments))


def test_a_simulated_fleet_is_balanced_over_all_its_services() -> None:
    arguments = ["simulate", "--scrapers", "10", "--targets", "3000", "--services", "50"]
    data = json.loads(CliRunner().invoke(main, [*arguments, "--output=json"]).stdout)
    assert (data["services"], data["targets"]) == (50, 3000)
    assert data["balance"]["count_max_over_mean"] <= 1.10
    assert "3000 targets of 50 services on 10 scrapers" in CliRunner().invoke(main, arguments).stdout
    zoned = CliRunner().invoke(main, [*arguments, "--zones", "3", "--replicas", "2"])
    assert zoned.exit_code == 0, zoned.output
    few = CliRunner().invoke(main, ["simulate", "--scrapers", "2", "--targets", "3", "--services", "4"])
    assert (few.exit_code, "more than there are targets" in few.stderr) == (2, True)


def test_an_answer_without_fleets_is_of_another_version() -> None:
    old = {name: value for name, value in status().items() if name != "fleets"}
    result, _ = invoked({"/api/v1/status": (200, success(old))}, "status")
    said = "an answer of another version of promring? (Object missing required field `fleets`)"
    assert (result.exit_code, said in result.stderr) == (1, True)
