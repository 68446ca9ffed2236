"""Drains and plans over the API: what is refused, what is said before, and a plan that knows what the controller does."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promring.core.placement import Policy, place
from promring.core.preview import preview
from promring.core.ring import Ring
from promring.core.standing import DELAY_MOST_S, State
from promring.fleet.store import Store
from promring.model import Scraper
from promring.telemetry import log
from promring.web.views.plans import described
from tests.laws.strategies import pool_of
from tests.unit.test_web import Running, running
from tests.waiting import until

TOKEN = {"Authorization": "Bearer sesame"}


async def post(r: Running, scraper: str, what: str, query: str = "") -> tuple[int, dict[str, Any]]:
    url = f"{r.url}/api/v1/fleets/node/scrapers/{scraper}/{what}{query}"
    async with r.session.post(url, headers=TOKEN) as answer:
        body = json.loads(await answer.read())
        return answer.status, body.get("data") or body


async def row(r: Running, scraper: str) -> dict[str, Any]:
    rows = (await r.data("/api/v1/services/node"))["scrapers"]
    found: dict[str, Any] = next(one for one in rows if one["id"] == scraper)
    return found


async def test_a_drain_answers_what_is_left_and_who_will_carry_it(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        gone, stays = r.nodes
        had = (await row(r, gone))["targets"]
        status, answer = await post(r, gone, "drain")
        assert (status, answer["drained"], answer["had"], answer["left"], answer["keeps_all"]) == (
            200,
            True,
            had,
            had,
            False,
        )
        told = answer["forecast"]
        assert (told["leave"], told["no_room"], told["others"], told["fullest"]["id"]) == (had, 0, 1, stays)
        assert told["fullest"]["load"] == 40
        assert (await row(r, gone))["left"] == had, "it is not called drained while it holds them"
        assert (await row(r, stays))["left"] is None
        status, answer = await post(r, gone, "undrain")
        assert (status, answer["drained"], answer["was_drained"], answer["alive"]) == (200, False, True, True)
        status, answer = await post(r, gone, "undrain")
        assert (status, answer["drained"], answer["was_drained"]) == (200, False, False)


async def test_an_undrain_of_one_that_its_list_drains_says_that_this_goes_on(tmp_path: Path) -> None:
    """In maintenance in Consul, or its pod is being deleted."""
    async with running(tmp_path) as r:
        leaves, reconciler = r.nodes[0], r.supervisor.fleets["node"].reconciler
        members = tuple(replace(one, draining=one.id == leaves) for one in reconciler.memory.members)
        reconciler.memory = replace(reconciler.memory, members=members)
        status, answer = await post(r, leaves, "undrain")
        assert (status, answer["drained"], answer["was_drained"]) == (200, True, False)


@pytest.mark.parametrize("path", ["fleets/node/plan?without={typo}", "services/node/targets?scraper={typo}"])
async def test_a_scraper_that_is_not_there_is_answered_with_the_one_that_may_have_been_meant(
    path: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as r:
        _, _, body = await r.get(f"/api/v1/{path.format(typo=r.nodes[0] + '0')}")
    assert f"; did you mean '{r.nodes[0]}'" in json.loads(body)["error"]


async def test_what_comes_back_is_said_by_an_undrain(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        gone = r.nodes[0]
        had = (await row(r, gone))["targets"]
        await post(r, gone, "drain")

        async def planned() -> bool:
            plan = await r.data("/api/v1/fleets/node/plan")
            return any(one["id"] == gone and one["before"] == 0 for one in plan["scrapers"])

        await until(planned, "the plan is without it")
        assert (await post(r, gone, "undrain"))[1]["forecast"]["come"] == had


async def test_the_last_scraper_that_lives_is_not_drained_unless_forced_and_keeps_everything_then(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        first, last = r.nodes
        await post(r, first, "drain")
        status, answer = await post(r, last, "drain")
        assert status == 409
        assert f"{last} is the last scraper that lives" in answer["error"]
        assert not (await row(r, last))["drained"]
        status, answer = await post(r, last, "drain", "?force=true")
        assert (status, answer["keeps_all"], answer["forecast"]) == (200, True, None)

        async def held() -> bool:
            found = (await r.data("/api/v1/services/node"))["held"]
            return found is not None and found["reason"] == "no_scrapers"

        await until(held, "nobody could take anything")
        assert (await row(r, last))["left"] > 0


async def test_others_that_are_down_do_not_make_a_scraper_one_of_several(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        fleet = r.supervisor.fleets["node"]
        alive, dead = r.nodes
        states = fleet.membership.nodes
        fleet.membership.nodes = lambda: [n._replace(state="down") if n.id == dead else n for n in states()]  # type: ignore[method-assign]
        status, answer = await post(r, alive, "drain")
        assert (status, f"the others are down ({dead})" in answer["error"]) == (409, True)
        assert (await post(r, dead, "drain"))[0] == 200, "it is not the one that lives"


async def test_a_plan_knows_what_is_drained_and_touches_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        drained, stays = r.nodes
        await post(r, drained, "drain")
        generation = (await r.data("/api/v1/services/node"))["generation"]
        plan = await r.data("/api/v1/fleets/node/plan")
        after = {one["id"]: one["after"] for one in plan["scrapers"]}
        assert (after, plan["drained"], plan["decided_by"]) == ({drained: 0, stays: 40}, [drained], "controller")
        joined = await r.data("/api/v1/fleets/node/plan?with=10.0.0.9:9090")
        assert {one["id"]: one["after"] for one in joined["scrapers"]}[drained] == 0
        status, _, body = await r.get(f"/api/v1/fleets/node/plan?without={stays}")
        assert (status, b"no scraper would be left" in body) == (400, True), "the other one is drained"
        now = (await r.data("/api/v1/services/node"))["generation"]
        assert int(now.split(".")[1]) - int(generation.split(".")[1]) <= 2, "what the drain does, and no more"


def test_what_nobody_else_has_room_for_is_counted() -> None:
    pool = pool_of([f"t{n}:1" for n in range(45)])
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1) for n in range(3))
    policy = Policy(capacity=18)
    before = place(pool, Ring(members, policy.virtual_nodes), policy)
    found = preview(pool, members, policy, without=["s0:1"], before=before)
    assert (found.no_room, described(found).no_room, described(found).fits.unplaced) == (9, 9, 9)
    assert preview(pool, members, policy, before=before).no_room == 0


async def test_who_keeps_what_has_no_room_is_said_with_the_number(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        node = r.nodes[0]
        r.supervisor.fleets["node"].reconciler.moves.no_room = {node: 9}
        assert (await row(r, node))["no_room"] == 9
        assert b"9 stay: no room elsewhere" in (await r.get("/services/node"))[2]


async def test_a_drain_that_is_answered_is_on_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        node = r.nodes[0]
        assert (await post(r, node, "drain"))[1]["kept"]
        saved = r.supervisor.fleets["node"].reconciler
        assert (saved.saved, saved.memory.drained) == (True, frozenset({node}))
        assert Store(tmp_path / "state", "node", log.get()).load().drained == {node}


async def test_a_drain_is_kept_when_other_controllers_can_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lock: once a note has it. The leader may be cut off from its store and lose the lock in the next seconds."""
    monkeypatch.setattr("promring.web.forecasts.SAVED_S", 0.2)
    async with running(tmp_path) as r:
        leadership = r.supervisor.leadership
        leadership.alone = False
        leadership.lead("us", leadership.epoch + 2, float("inf"))
        assert (await post(r, r.nodes[0], "drain"))[1]["kept"] is False
        leadership.shared.written(leadership.told)
        assert (await post(r, r.nodes[0], "drain"))[1]["kept"] is True


async def test_a_flapper_that_waits_says_until_when_and_why(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        waits, stays = r.nodes
        judge = r.supervisor.fleets["node"].reconciler.judge
        now = time.monotonic()
        one = replace(judge.history.standings[waits], state=State.JOINING, since=now, flaps=6)
        judge.history = replace(judge.history, standings={**judge.history.standings, waits: one})
        found = await row(r, waits)
        assert found["standing"] == "joining"
        assert found["joins_at"] - time.time() == pytest.approx(DELAY_MOST_S, abs=60.0)
        assert re.fullmatch(r"waits up to \d+ s more for targets: it left 6 times soon after it came", found["trouble"])
        assert (await row(r, stays))["joins_at"] is None
