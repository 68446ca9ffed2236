"""What is said of what would happen, and of what may be done then."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from promring.cli import main
from promring.core.claims import Claims
from promring.core.placement import Policy, place
from promring.core.preview import preview
from promring.core.ring import Ring
from promring.fleet.slicing import InForce
from promring.model import Scraper
from promring.model.times import NEVER_ENDS
from promring.web.answers.fleets import Fleet
from promring.web.answers.status import Status
from promring.web.answers.targets import Beside, Place
from promring.web.forecasts import _said as forecast
from promring.web.page import endpoint
from promring.web.page.previews import shown as shown_preview
from promring.web.page.shown import elsewhere
from promring.web.views.fleets import describe, describe_fleet
from promring.web.views.targets import places
from tests.fakes.answers import convert
from tests.laws.strategies import pool_of
from tests.unit.test_forecasts import post, row
from tests.unit.test_page import shown
from tests.unit.test_web import running
from tests.waiting import until


async def test_the_command_that_the_page_names_for_one_that_comes_back_gives_the_numbers_of_the_page(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        name = r.nodes[0]
        had = (await row(r, name))["targets"]
        assert (await post(r, name, "drain"))[0] == 200

        async def planned() -> bool:
            plan = await r.data("/api/v1/fleets/node/plan")
            return any((one["id"], one["before"]) == (name, 0) for one in plan["scrapers"])

        await until(planned, "the plan is without it")
        page = await shown(r, f"/fleets/node/plan?with={name}")
        found = re.search(r"the same numbers: promring (plan --with \S+ --fleet \S+)", page.text)
        assert found
        arguments = [*found[1].split(), "--url", r.url, "--output", "json"]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        assert result.exit_code == 0, result.stderr
        plan = json.loads(result.stdout)
        assert (plan["moved"], plan["drained"]) == (had, [])
        assert f"targets that move {had} " in page.text
        assert (await row(r, name))["drained"], "nothing is touched"


@pytest.mark.parametrize(("capacity", "said"), [(12, "9 targets have no owner then, for want of room"), (20, "It fits")])
async def test_a_plan_with_targets_that_have_no_owner_before_and_after_is_not_said_to_fit(
    capacity: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(2))
    pool, policy = pool_of([f"t{n}:1" for n in range(45)]), Policy(capacity=capacity)
    found = preview(pool, members, policy, joining=[Scraper("s2:1", "s2", 1)])
    assert found.no_room == 0
    async with running(tmp_path) as r:
        monkeypatch.setattr("promring.web.page.endpoint.shown_preview", lambda _: shown_preview(found))
        page = await shown(r, f"/fleets/node/plan?without={r.nodes[0]}")
        assert said in page.text
        assert ("every target has an owner" in page.text) == (capacity == 20)


async def test_a_scraper_is_said_to_be_free_to_stop_only_when_no_other_fleet_has_targets_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_of = endpoint._said_of

    def drained(overview: Status, fleet: str) -> Fleet:
        found = said_of(overview, fleet)
        rows = [msgspec.structs.replace(one, drained=True, left=0, targets=0) for one in found.scrapers]
        return msgspec.structs.replace(found, scrapers=rows)

    async with running(tmp_path) as r:
        monkeypatch.setattr(endpoint, "_said_of", drained)
        page = (await shown(r, f"/fleets/node/scrapers/{r.nodes[0]}")).text
        assert re.search(r"nothing of fleet node is left, but it still has \d+ targets of fleet files-only", page)
        assert "it may be stopped" not in page
        monkeypatch.setattr(endpoint, "elsewhere", lambda *_: [])
        assert "nothing is left: it may be stopped" in (await shown(r, f"/fleets/node/scrapers/{r.nodes[0]}")).text


def test_what_a_scraper_has_besides_is_of_other_fleets_and_of_services_that_are_gone() -> None:
    fleets = [{"name": name, "scrapers": [{"id": "a:1", "targets": n}]} for name, n in (("x", 3), ("y", 1), ("z", 0))]
    overview = convert(Status, {"fleets": fleets, "left_behind": [{"service": "old", "scrapers": ["a:1"], "targets": 9}]})
    assert elsewhere(overview, "x", "a:1") == ["1 target of fleet y", "targets of old, which is not configured any more"]
    assert elsewhere(overview, "x", "b:1") == []
    unlooked = convert(Status, {"fleets": [{"name": "x", "unlooked": True}, {"name": "y"}]})
    assert len(elsewhere(unlooked, "x", "a:1")) == 1
    assert elsewhere(unlooked, "y", "a:1") == []
    new = convert(
        Status, {"services": [{"name": "db", "fleet": "x", "targets": None}, {"name": "y", "fleet": "x", "targets": 0}]}
    )
    assert elsewhere(new, "x", "a:1") == ["what it had of db, of which there is no plan yet"]


async def test_who_is_idle_and_has_a_target_besides_is_not_called_a_second_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def idle(*asked: Any) -> list[Place]:
        return [msgspec.structs.replace(one, besides=[Beside("a:1", "idle")]) for one in places(*asked)]

    monkeypatch.setattr("promring.web.page.explain.places", idle)
    async with running(tmp_path) as r:
        (place,) = await r.data("/api/v1/services/node/where?target=t3:9100")
        page = (await shown(r, f"/services/node/targets/{place['id']}")).text
        assert "idle a:1 lacks what it was given" in page
        assert "second opinion" not in page


async def test_a_second_opinion_is_not_counted_as_a_hand_over(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        fleet = r.supervisor.fleets["main"]
        moves, memory = fleet.reconciler.moves, fleet.reconciler.memory
        assert moves.in_force is not None
        placement, had = moves.in_force.placement, memory.claims
        besides = np.full(len(placement.owners), -1, dtype=np.int32)
        row = placement.pool.rows("web").start  # type: ignore[attr-defined]
        besides[row] = 1 - placement.owners[row, 0]

        def numbers(until: float) -> dict[str, int]:
            """With another scraper for one target of ``web``, until then."""
            claims = Claims(
                had.names,
                np.append(had.ids, placement.pool.ids[row]),
                np.append(had.scrapers, besides[row]),
                np.append(had.since, 0.0),
                np.append(had.until, until),
            )
            fleet.reconciler.memory = replace(memory, claims=claims)
            moves.in_force = InForce.of(replace(placement, owners=np.column_stack([placement.owners, besides])))
            services = {one.name: describe(one).handing_over for one in fleet.services.values()}
            return {"main": describe_fleet(fleet).handing_over} | services

        assert numbers(NEVER_ENDS) == {"main": 0, "node": 0, "web": 0}
        assert numbers(time.monotonic() + 30) == {"main": 1, "node": 0, "web": 1}


async def test_a_hand_over_that_goes_on_when_the_next_reshard_begins_is_not_said_to_have_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        timeline = r.supervisor.fleets["node"].reconciler.memory.timeline
        (initial,) = timeline.reshards
        moved = replace(initial, moved=20, held=20, ended_at=None)
        timeline.reshards.extend([replace(moved, at=initial.at + 60), replace(moved, at=initial.at + 100)])
        timeline.reshards[1] = replace(timeline.reshards[1], ended_at=initial.at + 100)
        assert "the next one began after 40 s" in (await shown(r, "/fleets/node")).text
        timeline.reshards[1] = replace(timeline.reshards[1], ended_at=initial.at + 90)
        assert "the hand-over ended after 30 s" in (await shown(r, "/fleets/node?sort=id")).text


def test_what_comes_back_is_counted_without_what_was_kept_for_want_of_room() -> None:
    """It never went away: its owner before is who keeps it."""
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(3))
    pool, policy = pool_of([f"t{n}:1" for n in range(70)]), Policy(capacity=30)
    first = place(pool, Ring(members, policy.virtual_nodes), policy)
    drained = tuple(replace(one, draining=True, weight=0.0) if one.id == "s0:1" else one for one in members)
    after = preview(pool, drained, policy, before=first, listed=members).after
    owners = after.owners.copy()
    owners[owners < 0] = [one.id for one in after.scrapers].index("s0:1")
    kept = replace(after, owners=owners)
    assert kept.counts()["s0:1"] == 10
    back = preview(pool, members, policy, before=kept, listed=members)
    assert forecast(back, "s0:1").come == back.after.counts()["s0:1"] - 10


async def test_a_plan_names_what_is_held_of_a_service_and_is_no_part_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, shrink_threshold=0.7) as r:
        assert (await r.data("/api/v1/fleets/node/plan"))["held"] == []
        r.write([{"targets": ["t1:9100"]}])

        async def held() -> bool:
            return bool((await r.data("/api/v1/services/node"))["withheld"])

        await until(held, "the short list is doubted")
        (one,) = (await r.data("/api/v1/fleets/node/plan"))["held"]
        assert (one["reason"], one["detail"].startswith("node: ")) == ("source_shrank", True)


async def test_who_has_a_target_and_is_dead_is_said_to_be_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as r:
        (place,) = await r.data("/api/v1/services/node/where?target=t3:9100")
        owner, ask = place["scraper"], ["where", "t3:9100", "--service", "node", "--url", r.url]
        assert place["down"] == []
        assert "scraped by" in (await shown(r, "/where?target=t3:9100")).text
        membership = r.supervisor.fleets["node"].membership
        nodes = [one._replace(state="down" if one.id == owner else "up") for one in membership.nodes()]
        monkeypatch.setattr(membership, "nodes", lambda: nodes)
        (place,) = await r.data("/api/v1/services/node/where?target=t3:9100")
        assert place["down"] == [owner]
        result = await asyncio.to_thread(CliRunner().invoke, main, ask)
        assert f"  scraper     {owner} (down) (" in result.stdout
        assert f"given to {owner} down: {owner}" in (await shown(r, "/where?target=t3:9100")).text
        page = (await r.get(f"/services/node/targets/{place['id']}"))[2].decode()
        assert '<p class="summary bad">owner' in page


async def test_the_last_scraper_that_counts_as_alive_is_not_said_to_live_when_it_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as r:
        membership = r.supervisor.fleets["node"].membership
        nodes = [one._replace(state="down") for one in membership.nodes()]
        monkeypatch.setattr(membership, "nodes", lambda: nodes)
        status, answer = await post(r, r.nodes[0], "drain")
        assert (status, "counts as alive, though it is down" in answer["error"]) == (409, True)
