"""A fleet of two services over HTTP: page, API and metrics of a whole promring in this process."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from click.testing import CliRunner, Result

from promring.cli import main
from tests.unit.test_page import TOKEN, Text, shown
from tests.unit.test_web import Running, running
from tests.waiting import until


class Keys(HTMLParser):
    """The ids and data-keys of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.feed(page.decode())

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [pair for pair in attrs if pair[0] in ("id", "data-key")]


async def run(r: Running, *arguments: str) -> Result:
    """A command, asked of this promring."""
    more = ["--url", r.url, *(["--token-file", str(r.folder / "token")] if arguments[0] in WRITES else [])]
    result = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


WRITES = ("drain", "undrain", "release")


def sections(page: bytes) -> dict[str, bytes]:
    """What stands between the beginning of a section and that of the next, by its data-key."""
    parts = re.split(rb'<section (?:class="[^"]*" )?data-key="', page)[1:]
    return {part.partition(b'"')[0].decode(): part for part in parts}


async def test_a_fleet_is_a_section_with_its_scrapers_once_and_its_services_in_it(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        page = (await r.get("/"))[2]
        found = sections(page)
        assert list(found) == ["fleet main", "service node", "service web", "fleet files-only", "events"]
        fleet, node, web, own = (Text(found[name]) for name in list(found)[:4])
        assert "main of the shop" in fleet.text
        assert "targets 60 scrapers up 2 of 2" in fleet.text
        assert "load 60 of 66" in fleet.text
        for scraper in (await r.data("/api/v1/fleets/main"))["scrapers"]:
            assert f"{scraper['id']} up {scraper['targets']} " in fleet.text
            assert f"{scraper['load']} · fair 30 · limit {scraper['limit']}" in fleet.text
        assert sorted(fleet.posts) == sorted(f"/api/v1/fleets/main/scrapers/{quote(node)}/drain" for node in r.nodes)
        assert ("targets 40 covered" in node.text, "targets 20 covered" in web.text) == (True, True)
        for one in (node, web):
            assert one.posts == []
            assert not any(scraper in one.text for scraper in r.nodes)
            assert "source state targets refused last good answer" in one.text
        assert "scrapers up 2 of 2" in own.text
        assert sorted(own.posts) == sorted(f"/api/v1/fleets/files-only/scrapers/{quote(node)}/drain" for node in r.nodes)
        assert max(Counter(Keys(page).found).values()) == 1, "what the script tells apart"


async def test_a_fleet_and_each_of_its_services_have_a_page(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        assert list(sections((await r.get("/fleets/main"))[2])) == ["fleet main", "service node", "service web", "events"]
        found = sections((await r.get("/services/web"))[2])
        assert list(found) == ["service web", "events"]
        page = Text(found["service web"])
        assert "of fleet main" in page.text
        for scraper in (await r.data("/api/v1/services/web"))["scrapers"]:
            assert f"{scraper['id']} up {scraper['targets']}" in page.text
        assert all(post.startswith("/api/v1/fleets/main/") for post in page.posts)
        assert list(sections((await r.get("/fleets/files-only"))[2])) == ["fleet files-only", "events"]
        assert (await r.get("/fleets/web"))[0] == 404


async def test_what_is_held_of_one_service_stands_with_it_and_is_released_by_its_name(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True, shrink_threshold=0.7) as r:
        r.write([{"targets": ["t1:9100"]}])
        release = "/api/v1/services/node/release"

        async def held() -> bool:
            return release in (await shown(r, "/")).posts

        await until(held, "it is held")
        page = sections((await r.get("/"))[2])
        assert "held: source shrank" in Text(page["service node"]).text
        held_of = [name for name, part in page.items() if b"<b>held: " in part and name != "events"]
        assert held_of == ["service node", "fleet files-only"], "who reads the same list, and not the fleet"
        status = (await run(r, "status")).stdout.partition("files-only: ")[0]
        assert status.count("says 1 targets, the plan has 40 of it") == 1
        refused = await run(r, "release", "main")
        assert (refused.exit_code, "main: nothing to release" in refused.stderr) == (1, True)
        assert (
            "no fleet or service 'x'; there is: fleets main, files-only; services node, web, files-only"
            in (await run(r, "release", "x")).stderr
        )
        done = await run(r, "release", "node")
        assert (done.exit_code, done.stdout.startswith("node: released source_shrank: ")) == (0, True), done.output

        async def planned() -> bool:
            return bool((await r.data("/api/v1/services/node"))["targets"] == 1)

        await until(planned, "the short list is planned")
        assert (await r.data("/api/v1/services/web"))["targets"] == 20


async def test_what_is_held_of_the_scrapers_stands_with_the_fleet_once(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        for node in r.nodes:
            assert (await post(r, f"fleets/main/scrapers/{node}/drain?force=true"))[0] == 200

        async def held() -> bool:
            return (await r.data("/api/v1/fleets/main"))["held"] is not None

        await until(held, "nobody may take anything")
        page = sections((await r.get("/"))[2])
        parts = {name for name, part in page.items() if b"plan held:" in part}
        assert parts == {"fleet main"}
        assert b"plan held:" in (await r.get("/services/web"))[2], "there it stands alone"
        status = (await run(r, "status")).stdout
        assert len([line for line in status.splitlines() if line.strip().startswith("plan held")]) == 1


async def post(r: Running, path: str) -> tuple[int, Any]:
    async with r.session.post(f"{r.url}/api/v1/{path}", headers=TOKEN) as answer:
        return answer.status, json.loads(await answer.read())


async def test_a_drain_and_a_plan_are_of_all_services_of_the_fleet(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        gone, stays = r.nodes
        asked = await run(r, "drain", gone, "--no-wait")
        assert (asked.exit_code, "--fleet: which one? There is main, files-only" in asked.stderr) == (2, True)
        had = {name: await mine(r, name, gone) for name in ("node", "web")}
        assert min(had.values()) > 0
        planned = await run(r, "plan", "--fleet", "main", "--without", gone, "--output", "json")
        plan = json.loads(planned.stdout)
        assert (plan["fleet"], plan["targets"], plan["moved"]) == ("main", 60, sum(had.values()))
        drained = await run(r, "drain", gone, "--fleet", "main", "--no-wait")
        assert drained.exit_code == 0, drained.output
        of = sum(had.values())
        assert f"main: {of} of {of} go to 1 other, which then carries at most 60" in drained.stdout
        fleet = {one["id"]: one for one in (await r.data("/api/v1/fleets/main"))["scrapers"]}
        assert {name: one["drained"] for name, one in fleet.items()} == {gone: True, stays: False}
        own = (await r.data("/api/v1/fleets/files-only"))["scrapers"]
        assert not any(one["drained"] for one in own), "another fleet on the same scrapers"
        back = await run(r, "undrain", gone, "--fleet", "main")
        assert (back.exit_code, back.stdout.startswith(f"main: {gone} undrained: ")) == (0, True)
        both = await run(r, "drain", gone, "--fleet", "main", "--fleet", "files-only", "--no-wait", "--output", "json")
        assert [one["fleet"] for one in json.loads(both.stdout)] == ["main", "files-only"]


async def mine(r: Running, service: str, scraper: str) -> int:
    rows = (await r.data(f"/api/v1/services/{service}"))["scrapers"]
    return next(int(one["targets"]) for one in rows if one["id"] == scraper)


async def test_the_status_shows_a_fleet_once_and_its_services_under_it(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        lines = (await run(r, "status")).stdout.splitlines()
        assert len([line for line in lines if line.startswith("main: 2 services, 60 targets, load 60 of 66, ")]) == 1
        assert len([line for line in lines if line.startswith("  service node: 40 targets; ")]) == 1
        assert len([line for line in lines if line.startswith("  service web: 20 targets; ")]) == 1
        assert len([line for line in lines if line.startswith("files-only: 40 targets, ")]) == 1
        for node in r.nodes:
            assert len([line for line in lines if line.strip().startswith(node)]) == 2, "once in each fleet"


async def test_what_the_loss_of_one_does_is_on_the_page_of_a_service_with_a_fleet_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        config = json.loads((tmp_path / "promring.yml").read_text())
        config["shard_services"][0]["placement"] = {"capacity": 30, "load_factor": None}
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        async with r.session.post(f"{r.url}/-/reload", headers=TOKEN) as answer:
            assert answer.status == 200, await answer.text()

        async def bounded() -> bool:
            return bool((await r.data("/api/v1/fleets/node"))["limit"] == 60)

        await until(bounded, "the capacity is in force")
        for path, key in (("/", "fleet node"), ("/fleets/node", "fleet node"), ("/services/node", "service node")):
            page = Text(sections((await r.get(path))[2])[key])
            assert "10 have no room 40 each" in page.text, path
        assert "have no room" not in Text(sections((await r.get("/"))[2])["fleet files-only"]).text


METRICS = """scrapers{fleet="main",state="up"} 2.0
targets{service="node"} 40.0
targets{service="web"} 20.0
unplaced_targets{service="web"} 0.0
handing_over_targets{fleet="main"} 0.0
reshards_total{fleet="main",reason="initial"}
targets_moved_total{fleet="main"}
reconcile_duration_seconds_count{fleet="main"}
delivery_lag_seconds_count{fleet="main"}
membership_last_success_timestamp_seconds{fleet="main"}
discovery_last_success_timestamp_seconds{service="web",source="file:"""


async def test_metrics_of_scrapers_are_of_the_fleet_and_those_of_targets_of_a_service(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        text = (await r.get("/metrics"))[2].decode()
        for line in METRICS.splitlines():
            assert f"promring_{line}" in text, line
        for what, wanted in (("assigned_targets", 60), ("assigned_load", 60), ("capacity_load", 66)):
            values = [
                float(line.split()[1]) for line in text.splitlines() if line.startswith(f'promring_{what}{{fleet="main",')
            ]
            assert (len(values), sum(values)) == (2, wanted), what
        assert 'fleet="web"' not in text
        assert 'service="main"' not in text


async def test_events_of_a_fleet_are_those_of_its_services_too(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        events = await r.data("/api/v1/events?fleet=main&limit=1000")
        assert {event["service"] for event in events} <= {"", "node", "web"}
        assert all("fleet" not in event["fields"] for event in events)
        assert any(event["msg"] == "reshard" and event["fleet"] == "main" for event in events)
        of_web = await r.data("/api/v1/events?service=web&limit=1000")
        assert {event["service"] for event in of_web} <= {"", "web"}
        assert any(event["msg"] == "node_update_reshard" or event["msg"] == "reshard" for event in of_web), "its scrapers"
        out = await run(r, "events", "--fleet", "main", "--limit", "1000")
        assert "reshard fleet=main " in out.stdout
        assert (await run(r, "events", "--fleet", "main", "--service", "web")).exit_code == 2
        own = await r.data("/api/v1/events?fleet=files-only&limit=1000")
        assert {event["service"] for event in own} <= {"", "files-only"}
