"""A reload that changes who shares scrapers: services come together in a fleet, leave one, move; fleets are renamed.

What is remembered of scrapers and targets goes on, and what is decided is said once.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promring.config.load import load, load_with_lines, loads
from promring.config.node import parse_node
from promring.config.settings import FleetOfServices, Settings
from promring.core.claims import NO_CLAIMS, Claims, Departed
from promring.core.joined import FleetPool, FleetShares, Part, part_of, salt_of, salted
from promring.core.placement import place
from promring.core.pool import merge, pool_of
from promring.core.recall import recalled
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions, Sick
from promring.core.standing import History
from promring.core.trials import Trial
from promring.core.unresponsive import Answers
from promring.delivery import Leads, Outcome, always
from promring.delivery.http_sd import HttpSdDelivery
from promring.discovery import file as file_source
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store, orphans, strays
from promring.fleet.succession import heirs, inherited, origins
from promring.fleet.successors import successors
from promring.fleet.ways import places
from promring.model import NEVER_ENDS, Failing, Generation, Slice, TargetGroup, TargetPool
from promring.reload.decisions import Decision, Known, LeftBehind, decide
from promring.reload.foresight import Now, foresee
from promring.reload.left import remember
from promring.rules import placing_of, policy_of
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.server import WebSettings
from tests.unit.test_web import running, scrapers
from tests.waiting import until

NODES = ["10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:9090"]
OTHERS = ["10.0.0.7:9090", "10.0.0.8:9090"]
COMMON = [f"common{n}:1" for n in range(20)]


def listed(service: str) -> TargetPool:
    """60 targets, a third of which every service has."""
    return pool_of([TargetGroup.of([*COMMON, *(f"{service}{n}:1" for n in range(40))], {"rack": "r"})])


POOLS = {name: listed(name) for name in "abcd"}


def keys(nodes: Sequence[str] = NODES, **more: Any) -> dict[str, Any]:
    delivery = [{"file": {"path": "out/{service}/{host}_{port}.json"}}]
    return {"scrapers": {"probe": {"nodes": list(nodes)}}, "delivery": delivery, **more}


def own(name: str, nodes: Sequence[str] = NODES, **more: Any) -> dict[str, Any]:
    """A service with a fleet of its own."""
    return {**keys(nodes), **one(name, None), **more}


def one(name: str, fleet: str | None = "main", files: str = "", **more: Any) -> dict[str, Any]:
    named = {} if fleet is None else {"fleet": fleet}
    return {"name": name, **named, "targets": [{"file": {"files": [f"{files or name}.json"]}}], **more}


def settings(*services: dict[str, Any], **fleets: dict[str, Any]) -> Settings:
    named = [{"name": name, **some} for name, some in fleets.items()]
    return loads(json.dumps({"fleets": named, "shard_services": list(services)}), base=Path("/srv"))


APART = settings(own("a"), own("b"))
TOGETHER = settings(one("a"), one("b"), main=keys())


def pool_for(fleet: FleetOfServices, pools: Mapping[str, TargetPool] = POOLS) -> FleetPool:
    found = {}
    for service in fleet.services:
        how = placing_of(service)
        found[service.name] = Part(merge([pools[service.name]], how.hash_labels, None), how.replicas, how.salt)
    return FleetPool.of(found)


def planned(fleet: FleetOfServices, pools: Mapping[str, TargetPool] = POOLS) -> Memory:
    """A plan of it in force: each target where its fleet places it."""
    members = tuple(sorted(fleet.keys.scraper(node) for node in fleet.keys.listed))
    pool, policy = pool_for(fleet, pools), policy_of(fleet)
    placed = place(pool, Ring(members, policy.virtual_nodes), policy)
    rows, columns = np.nonzero(placed.owners >= 0)
    owners = placed.owners[rows, columns].astype(np.int32)
    claims = Claims(
        tuple(s.id for s in members), pool.ids[rows], owners, np.zeros(len(rows)), np.full(len(rows), NEVER_ENDS)
    )
    split, generation = FleetShares(placed), Generation(3, 4 + len(fleet.services))
    services = {}
    for service in fleet.services:
        name = service.name
        slices = [Slice(name, s, generation, split.body(i, name), len(split.of(i, name))) for i, s in enumerate(members)]
        services[name] = ServiceMemory(
            {f"file:/srv/{name}.json": pools[name]}, {s.scraper.id: s for s in slices}, {"file": 9.0}
        )
    return Memory(members, services, generation, claims, history=History.of(members), listed=places(fleet.keys.listed))


def all_planned(found: Settings) -> dict[str, Memory]:
    return {fleet.name: planned(fleet) for fleet in found.every_fleet}


def reloaded(old: Settings, new: Settings, memories: Mapping[str, Memory] | None = None) -> dict[str, Memory]:
    """What the fleets of ``new`` know."""
    memories = all_planned(old) if memories is None else memories
    came_from = origins(old, new, successors(old, new), memories)
    return {fleet.name: inherited(fleet, memories, came_from)[0] for fleet in new.every_fleet}


def has(memory: Memory, fleet: str, service: str) -> set[tuple[int, str]]:
    """Who has which target of the service: the claims, by the ids of its list."""
    ids = salted(memory.claims.ids, salt_of(fleet, service))
    rows = zip(ids.tolist(), memory.claims.scrapers.tolist(), strict=True)
    mine = set(POOLS[service[0]].ids.tolist())
    return {(target, memory.claims.names[scraper]) for target, scraper in rows if target in mine}


def decisions(old: Settings, new: Settings, memories: Mapping[str, Memory] | None = None) -> list[Decision]:
    memories = all_planned(old) if memories is None else memories
    known = {}
    for service in old.shard_services:
        memory = memories[service.fleet]
        counts = {name: s.targets for name, s in memory.of(service.name).slices.items()}
        known[service.name] = Known(memory.members, counts)
    return decide(old, new, known, foresee(Now(old, memories, known), new))


def said(found: Sequence[Decision]) -> list[tuple[str, str]]:
    return [(one.kind, one.service) for one in found]


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_two_services_with_the_same_scrapers_become_one_fleet_and_keep_all_they_have() -> None:
    before = all_planned(APART)
    left = replace(before["a"].members[0], draining=True)
    before["a"] = replace(before["a"], drained=frozenset({NODES[1]}), generation=Generation(5, 1))
    before["b"] = replace(before["b"], drained=frozenset({NODES[2]}))
    after = reloaded(APART, TOGETHER, before)["main"]
    assert after.members == before["a"].members
    assert {name: one.slices for name, one in after.services.items()} == {n: before[n].of(n).slices for n in "ab"}
    assert [after.of(n).sources_at for n in "ab"] == [{"file": 9.0}] * 2
    assert after.generation == Generation(5, 1), "the highest: it only climbs"
    assert after.drained == {NODES[1], NODES[2]}
    assert set(after.history.standings) == set(NODES)
    assert (after.listed, after.departing) == (before["a"].listed, ())
    for name in "ab":
        assert has(after, "main", name) == has(before[name], name, name)
    assert len(np.unique(after.claims.ids)) == len(after.claims) == 120, "the common ones are two targets each"
    departing = replace(before["b"], departing=(left,))
    assert reloaded(APART, TOGETHER, {**before, "b": departing})["main"].departing == (), "it is listed"


def test_and_back_again_each_has_what_it_had() -> None:
    before = all_planned(APART)
    main = replace(reloaded(APART, TOGETHER, before)["main"], drained=frozenset(NODES[:1]))
    after = reloaded(TOGETHER, APART, {"main": main})
    for name in "ab":
        assert after[name].services == before[name].services
        assert has(after[name], name, name) == has(before[name], name, name)
        assert len(after[name].claims) == 60
        assert (after[name].members, after[name].drained) == (before[name].members, frozenset(NODES[:1]))
        assert after[name].generation >= before[name].generation


def test_what_is_recalled_of_a_joined_fleet_is_who_had_what() -> None:
    before, (fleet,) = all_planned(APART), TOGETHER.every_fleet
    after = reloaded(APART, TOGETHER, before)["main"]
    had = recalled(after.claims, pool_for(fleet))
    assert had is not None
    for name in "ab":
        part = part_of(had, name)
        assert part is not None
        assert part.counts() == {n: s.targets for n, s in before[name].of(name).slices.items()}


def test_what_is_tried_elsewhere_and_what_cannot_be_delivered_goes_on_with_the_service_it_is_of() -> None:
    before = all_planned(APART)
    tried = {name: int(POOLS[name].ids[0]) for name in "ab"}
    for name, target in tried.items():
        sick = {NODES[0]: Sick(50.0, 300.0, 4, 5, 3, 2)} if name == "a" else {}
        opinions = SecondOpinions(trials={target: Trial(NODES[1], 1.0)}, again_at={target: (9.0, 600.0)}, scrapers=sick)
        before[name] = replace(before[name], opinions=opinions, undelivered=Failing.of(NODES[:1], {(name, NODES[1])}))
        heard = Answers(tuple(NODES[:2]), (NODES[1],)) if name == "a" else Answers((NODES[2],))
        before[name] = replace(before[name], answers=heard)
    after = reloaded(APART, TOGETHER, before)["main"]
    there = {int(salted(POOLS[name].ids, salt_of("main", name))[0]) for name in "ab"}
    assert after.opinions.trials.keys() == after.opinions.again_at.keys() == there
    assert after.opinions.scrapers.keys() == {NODES[0]}
    assert after.answers == Answers(tuple(NODES), (NODES[1],))
    assert after.undelivered == Failing((NODES[0],), (("a", NODES[1]), ("b", NODES[1])))
    back = reloaded(TOGETHER, APART, {"main": after})
    for name in "ab":
        assert back[name].opinions.trials == before[name].opinions.trials
        assert back[name].undelivered == before[name].undelivered
    renamed = reloaded(APART, settings({**own("c"), **one("c", None, files="a")}, own("b")), before)["c"]
    assert (renamed.opinions.trials, renamed.undelivered.refusing) == (before["a"].opinions.trials, (("c", NODES[1]),))
    fewer = reloaded(APART, settings(own("a", NODES[2:]), own("b")), before)["a"]
    assert fewer.opinions.trials.keys() == {tried["a"]}, "who tried it departs, and lives"


def test_what_those_had_who_left_before_a_reload_they_have_when_they_come_back() -> None:
    before = all_planned(APART)
    for name in "ab":
        departed = Departed().and_then(before[name].claims, NODES[1:], 7.0)
        before[name] = replace(before[name], departed=departed)
    main = reloaded(APART, TOGETHER, before)["main"]
    assert main.departed.left == {NODES[0]: 7.0}
    back = main.departed.back(NO_CLAIMS, NODES, 9.0)
    for name in "ab":
        had = {one for one in has(before[name], name, name) if one[1] == NODES[0]}
        assert has(replace(main, claims=back), "main", name) == had
        again = reloaded(TOGETHER, APART, {"main": main})[name]
        assert has(replace(again, claims=again.departed.back(NO_CLAIMS, NODES, 9.0)), name, name) == had
    assert main.after_leaving(main.departed) is main
    assert main.departed.and_then(main.claims, NODES, 8.0).left == {}


def test_a_look_that_is_still_to_come_is_so_for_whoever_goes_on() -> None:
    before = all_planned(APART)
    before["b"] = replace(before["b"], unlooked=True)
    assert reloaded(APART, TOGETHER, before)["main"].unlooked
    assert {name: one.unlooked for name, one in reloaded(APART, APART, before).items()} == {"a": False, "b": True}


def test_claims_that_end_go_on_with_the_service_they_are_of() -> None:
    before = all_planned(APART)
    claims = before["b"].claims
    before["b"] = replace(before["b"], claims=replace(claims, until=np.where(claims.scrapers == 0, 50.0, NEVER_ENDS)))
    after = reloaded(APART, TOGETHER, before)["main"]
    assert after.claims.held == int((claims.scrapers == 0).sum())
    held = salted(after.claims.ids[np.isfinite(after.claims.until)], salt_of("main", "b"))
    assert set(held.tolist()) == set(claims.ids[claims.scrapers == 0].tolist())


def test_a_service_that_is_put_into_a_fleet_of_one_name_with_it_keeps_its_ids() -> None:
    new = settings(one("a", "a"), one("b", "a"), a=keys())
    before = all_planned(APART)
    after = reloaded(APART, new, before)["a"]
    assert has(after, "a", "a") == has(before["a"], "a", "a")
    assert set(before["a"].claims.ids.tolist()) < set(after.claims.ids.tolist())
    assert has(after, "a", "b") == has(before["b"], "b", "b")


def test_a_service_is_added_to_a_fleet_and_removed_from_it() -> None:
    three = settings(one("a"), one("b"), one("c"), main=keys())
    before = all_planned(TOGETHER)
    after = reloaded(TOGETHER, three, before)["main"]
    assert after == before["main"], "of the new one nothing is known"
    fewer = reloaded(three, TOGETHER, all_planned(three))["main"]
    assert set(fewer.services) == {"a", "b"}
    assert len(fewer.claims) == 120
    assert has(fewer, "main", "b") == has(all_planned(three)["main"], "main", "b")


def test_a_service_that_comes_back_has_what_its_state_file_knows() -> None:
    """It was removed, and left its file; a reload has it again."""
    old, both = settings(own("a")), all_planned(APART)
    after = reloaded(old, APART, both)
    assert after["b"].services == both["b"].services
    assert len(after["b"].claims) == 60


def test_a_service_is_renamed_within_its_fleet() -> None:
    new = settings(one("a"), one("better", files="b"), main=keys())
    before = all_planned(TOGETHER)["main"]
    assert successors(TOGETHER, new) == {"a": "a", "better": "b"}
    after = reloaded(TOGETHER, new, {"main": before})["main"]
    assert {s.service for s in after.of("better").slices.values()} == {"better"}
    assert [s.body for s in after.of("better").slices.values()] == [s.body for s in before.of("b").slices.values()]
    assert has(after, "main", "better") == has(before, "main", "b")
    assert has(after, "main", "a") == has(before, "main", "a")
    assert len(after.claims) == 120


def test_a_fleet_is_renamed_and_all_it_knows_goes_on() -> None:
    new = settings(one("a", "a"), one("b", "a"), a=keys())
    before = replace(all_planned(TOGETHER)["main"], drained=frozenset(NODES[:1]))
    after = reloaded(TOGETHER, new, {"main": before})["a"]
    assert replace(after, claims=before.claims) == before
    for name in "ab":
        assert has(after, "a", name) == has(before, "main", name), "whichever salts its name makes of them"


def test_a_service_moves_between_two_fleets_that_stay() -> None:
    fleets = {"main": keys(), "other": keys(OTHERS)}
    old = settings(one("a"), one("b", "other"), one("d", "other"), **fleets)
    new = settings(one("a"), one("b"), one("d", "other"), **fleets)
    before = all_planned(old)
    before["main"] = replace(before["main"], drained=frozenset({NODES[0]}))
    after = reloaded(old, new, before)
    main, other = after["main"], after["other"]
    assert [s.id for s in main.departing] == OTHERS, "they keep what they have of it until the new ones scrape it"
    assert [s.draining for s in main.members] == [False] * 3 + [True] * 2
    assert main.drained == {NODES[0]}
    assert has(main, "main", "b") == has(before["other"], "other", "b")
    assert (set(other.services), len(other.claims), other.departing) == ({"d"}, 60, ())
    assert {s.id for s in other.members} == set(OTHERS)


def test_a_fleet_keeps_its_drains_when_all_its_services_are_others() -> None:
    old = settings(one("a"), own("b"), main=keys())
    before = all_planned(old)
    before["main"] = replace(before["main"], drained=frozenset({NODES[0]}))
    after = reloaded(old, settings(one("b"), main=keys()), before)["main"]
    assert (after.drained, set(after.services)) == (frozenset(NODES[:1]), {"b"})


def test_one_that_leaves_one_fleet_and_is_in_the_other_does_not_depart_there() -> None:
    """Consul knows it as a scraper of the first; it was taken out of the list of the second."""
    consul = {"scrapers": {"consul": {"service": "scr"}}}
    document = {
        "consul": {"address": "127.0.0.1:8500"},
        "fleets": [{"name": "main", **keys(), **consul}],
        "shard_services": [one("a"), one("b")],
    }
    new = loads(json.dumps(document), base=Path("/srv"))
    before = all_planned(APART)
    gone = replace(before["b"].members[0], draining=True)
    before["b"] = replace(before["b"], departing=(gone,), members=(gone, *before["b"].members[1:]))
    after = reloaded(APART, new, before)["main"]
    assert (after.departing, [s.draining for s in after.members]) == ((), [False] * 3)


# --- state files -----------------------------------------------------------------------------------------------------


def stores(folder: Path, old: Settings, new: Settings, memories: Mapping[str, Memory]) -> dict[str, tuple[Store, Memory]]:
    came_from = origins(old, new, successors(old, new), memories)
    found = {fleet.name: inherited(fleet, memories, came_from) for fleet in new.every_fleet}
    replaced = heirs({name: names for name, (_, names) in found.items()})
    return {name: (Store(folder, name, log.get(), replaces=replaced[name]), memory) for name, (memory, _) in found.items()}


async def saved(folder: Path, memories: Mapping[str, Memory]) -> None:
    for name, memory in memories.items():
        await Store(folder, name, log.get()).save(memory)


def timeless(memory: Memory) -> Memory:
    """Without what is told in seconds from the start."""
    return replace(memory, history=History())


def files(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.state"))


async def test_the_file_of_a_fleet_that_is_no_more_goes_when_all_that_go_on_with_it_are_saved(tmp_path: Path) -> None:
    before = all_planned(TOGETHER)
    await saved(tmp_path, before)
    made = stores(tmp_path, TOGETHER, APART, before)
    for name, there in (("a", ["a", "main"]), ("b", ["a", "b"])):
        store, memory = made[name]
        await store.save(memory)
        assert files(tmp_path) == there
    assert Store(tmp_path, "a", log.get()).load().services == {"a": before["main"].of("a")}
    ((store, memory),) = stores(tmp_path, APART, TOGETHER, {n: m for n, (_, m) in made.items()}).values()
    await store.save(memory)
    assert files(tmp_path) == ["main"]
    assert timeless(Store(tmp_path, "main", log.get()).load()) == timeless(memory)


async def test_the_file_of_a_fleet_that_stays_is_its_own_whoever_leaves_it(tmp_path: Path) -> None:
    fleets = {"main": keys(), "other": keys(OTHERS)}
    old = settings(one("a"), one("b", "other"), one("d", "other"), **fleets)
    new = settings(one("a"), one("b"), one("d", "other"), **fleets)
    before = all_planned(old)
    await saved(tmp_path, before)
    made = stores(tmp_path, old, new, before)
    await made["other"][0].save(made["other"][1])
    await made["main"][0].save(made["main"][1])
    assert files(tmp_path) == ["main", "other"]
    assert set(Store(tmp_path, "other", log.get()).load().services) == {"d"}


async def test_the_file_of_a_renamed_fleet_goes_when_the_new_one_is_written(tmp_path: Path) -> None:
    new = settings(one("a", "new"), one("b", "new"), new=keys())
    before = all_planned(TOGETHER)
    await saved(tmp_path, before)
    ((store, memory),) = stores(tmp_path, TOGETHER, new, before).values()
    await store.save(memory)
    assert files(tmp_path) == ["new"]
    assert timeless(Store(tmp_path, "new", log.get()).load()) == timeless(memory)


@pytest.mark.parametrize(("old", "new"), [(APART, TOGETHER), (TOGETHER, APART)], ids=["together", "apart"])
async def test_a_start_with_other_fleets_finds_what_their_services_had(tmp_path: Path, old: Settings, new: Settings) -> None:
    before = all_planned(old)
    await saved(tmp_path, {**before, "c": all_planned(settings(own("c")))["c"]})
    (tmp_path / "odd.state").write_bytes(b"\0")
    fleets = {fleet.name: [s.name for s in fleet.services] for fleet in new.every_fleet}
    found = strays(tmp_path, fleets, log.get())
    assert {n: timeless(m) for n, m in found.items()} == {n: timeless(m) for n, m in before.items()}, (
        "and nothing of a service that is not configured"
    )
    came_from = origins(None, new, {}, found)
    for fleet in new.every_fleet:
        memory, names = inherited(fleet, found, came_from)
        for service in fleet.services:
            was = came_from[service.name].fleet
            assert has(memory, fleet.name, service.name) == has(before[was], was, service.name)
            assert memory.of(service.name) == before[was].of(service.name)
            assert was in names
    assert (tmp_path / "odd.state").exists()


async def test_a_start_with_a_service_moved_between_two_fleets_finds_it_in_the_other_one() -> None:
    fleets = {"main": keys(), "other": keys()}
    old = settings(one("a"), one("b", "other"), one("d", "other"), **fleets)
    new = settings(one("a"), one("b"), one("d", "other"), **fleets)
    before = all_planned(old)
    came_from = origins(None, new, {}, before)
    assert came_from["b"] == ("other", "b")
    main, other = (inherited(fleet, before, came_from)[0] for fleet in new.every_fleet)
    assert (set(main.services), set(other.services)) == ({"a", "b"}, {"d"})


async def test_a_service_that_is_not_configured_is_found_in_the_file_of_its_fleet(
    tmp_path: Path,
) -> None:
    await saved(tmp_path, all_planned(TOGETHER))
    (found,) = orphans(tmp_path, {"main": ["a"]}, log.get())
    assert (found.service, sum(found.scrapers.values()), found.live) == ("b", 60, True)
    assert not orphans(tmp_path, {"other": ["a", "b"]}, log.get()), "both are configured, in another fleet"


def test_of_two_plans_a_start_goes_on_with_the_newer_one() -> None:
    found = all_planned(APART) | all_planned(TOGETHER)
    assert origins(None, TOGETHER, {}, found) == {"a": ("main", "a"), "b": ("main", "b")}
    assert origins(None, APART, {}, found) == {"a": ("main", "a"), "b": ("main", "b")}, "main's are of generation 3.6"
    older = {**found, "main": planned(settings(one("a"), main=keys()).every_fleet[0])}
    assert origins(None, TOGETHER, {}, older) == {"a": ("main", "a"), "b": ("b", "b")}, "as new: its own fleet's"
    assert origins(None, APART, {}, older) == {"a": ("a", "a"), "b": ("b", "b")}


# --- decisions -------------------------------------------------------------------------------------------------------


def test_coming_together_says_who_moves_and_what_of_the_whole_fleet() -> None:
    found = decisions(APART, TOGETHER)
    assert said(found)[0] == ("fleet_changed", "a")
    assert ("fleet_changed", "b") in said(found)
    assert "from fleet a to fleet main" in found[0].text
    foreseen = foresee(Now(APART, all_planned(APART), {}), TOGETHER)["main"]
    assert foreseen.owned == 120, "the targets of both"
    of_fleet = [one for one in found if one.service == "main"]
    assert [one.kind for one in of_fleet] == ["policy_changed"] * (foreseen.moved > 0)


def test_the_capacity_of_a_scraper_is_for_all_services_of_its_fleet() -> None:
    """Each alone fits with room for 30; together they do not, and that is said once, of the fleet."""
    limited: dict[str, Any] = {"placement": {"capacity": 30}}
    old = settings(own("a", **limited), own("b", **limited))
    found = decisions(old, settings(one("a"), one("b"), main=keys(**limited)))
    short = [one for one in found if one.kind == "capacity_short"]
    assert [(one.service, one.loss, one.numbers["lost"]) for one in short] == [("main", True, 30)]
    assert "less room: 30 targets" in short[0].text


def test_a_change_of_the_fleet_is_one_decision_whoever_is_in_it() -> None:
    more = [*NODES[1:], "10.0.0.4:9090"]
    found = decisions(TOGETHER, settings(one("a"), one("b"), main=keys(more, placement={"load_factor": 1.5})))
    assert said(found) == [("scrapers_removed", "main"), ("scrapers_added", "main"), ("policy_changed", "main")]
    removed, _, changed = found
    counts = all_planned(TOGETHER)["main"].targets()
    assert removed.numbers == {"scrapers": 1, "targets": counts[NODES[0]]}, "of both services"
    assert changed.numbers["owned"] == 120
    identity = decisions(TOGETHER, settings(one("a"), one("b"), main=keys(identity="host")))
    assert said(identity) == [("identity_changed", "main")]
    assert identity[0].numbers["scrapers"] == 3


def test_how_one_service_is_placed_is_said_with_its_fleet_and_counted_there() -> None:
    by_rack = one("b", placement={"hash_labels": ["rack"]})
    (found,) = decisions(TOGETHER, settings(one("a"), by_rack, main=keys()))
    assert (found.kind, found.service, found.numbers["owned"]) == ("policy_changed", "main", 120)
    assert "hash_labels of b none -> rack" in found.text
    assert 0 < found.numbers["moved"] <= 60 * 2


def test_scrapers_of_all_that_come_together_are_looked_at() -> None:
    """b's second scraper is in no list any more."""
    old = settings(own("a", NODES[:2]), own("b", [NODES[0], *OTHERS]))
    found = decisions(old, settings(one("a"), one("b"), main=keys([*NODES, OTHERS[0]])))
    (removed,) = (one for one in found if one.kind == "scrapers_removed")
    counts = all_planned(old)["b"].targets()
    assert (removed.service, removed.numbers) == ("main", {"scrapers": 1, "targets": counts[OTHERS[1]]})
    (added,) = (one for one in found if one.kind == "scrapers_added")
    assert added.text.startswith(f"{NODES[2]}:")


def test_a_service_that_moves_is_said_and_its_old_fleet_stays() -> None:
    fleets = {"main": keys(), "other": keys(OTHERS)}
    old = settings(one("a"), one("b", "other"), one("d", "other"), **fleets)
    found = decisions(old, settings(one("a"), one("b"), one("d", "other"), **fleets))
    assert ("fleet_changed", "b") in said(found)
    kinds = {one.kind for one in found}
    assert kinds <= {"fleet_changed", "policy_changed"}, "no scraper is taken out of a list"
    (moves,) = (one for one in found if (one.kind, one.service) == ("policy_changed", "main"))
    assert moves.numbers["owned"] == 120
    assert moves.numbers["moved"] >= 60
    assert "its services are others" in moves.text


def test_a_service_that_moves_does_not_change_how_the_fleets_place() -> None:
    """Fleets that stay keep their zones, limits and weights: they are not changed because a service has those of another."""
    fleets = {"main": keys(zones={"label": "rack"}, placement={"load_factor": 1.5}), "other": keys(OTHERS)}
    old = settings(one("a"), one("b", "other"), one("d", "other"), **fleets)
    found = decisions(old, settings(one("a"), one("b", placement={"hash_labels": ["x"]}), one("d", "other"), **fleets))
    (text,) = (one.text for one in found if (one.kind, one.service) == ("policy_changed", "main"))
    assert text.startswith("hash_labels of b none -> x: "), "that is the service's own, and is said"
    back = decisions(old, settings(one("a", "other"), one("b", "other"), one("d", "other"), **fleets))
    (text,) = (one.text for one in back if (one.kind, one.service) == ("policy_changed", "other"))
    assert text.startswith("its services are others: "), text


def test_what_changes_nothing_decides_nothing() -> None:
    assert decisions(TOGETHER, TOGETHER) == []
    added = decisions(TOGETHER, settings(one("a"), one("b"), one("c"), main=keys()))
    assert said(added) == [("service_added", "c")]


def test_a_service_is_removed_from_a_fleet_and_renamed_in_it() -> None:
    three = settings(one("a"), one("b"), one("c"), main=keys())
    found = [one for one in decisions(three, TOGETHER) if one.kind != "policy_changed"]
    assert said(found) == [("service_removed", "c")]
    assert found[0].numbers["targets"] == 60
    renamed = decisions(TOGETHER, settings(one("a"), one("better", files="b"), main=keys()))
    assert said(renamed)[0] == ("service_renamed", "better")
    assert "fleet_changed" not in [one.kind for one in renamed]


def test_a_renamed_fleet_is_said_once_and_moves_nothing() -> None:
    new = settings(one("a", "new"), one("b", "new"), new=keys())
    (found,) = decisions(TOGETHER, new)
    assert (found.kind, found.service) == ("fleet_renamed", "new")
    assert "was main" in found.text
    split = decisions(TOGETHER, settings(one("a", "new"), own("b"), new=keys()))
    assert [one for one in said(split) if one[0].startswith("fleet")] == [("fleet_changed", "a"), ("fleet_changed", "b")]


def test_a_service_renamed_with_its_own_fleet_is_renamed_once() -> None:
    renamed = decisions(APART, settings(own("a"), own("better", targets=[{"file": {"files": ["b.json"]}}])))
    assert ("service_renamed", "better") in said(renamed)
    assert not [one for one in renamed if one.kind.startswith("fleet")]


# --- a running promring ----------------------------------------------------------------------------------------------


class Promring:
    """In ``folder``, with whatever configuration is written there."""

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        self.folder, self.file = folder, folder / "promring.yml"
        probe = {"nodes": nodes, "interval": "100ms", "timeout": "100ms", "unhealthy_after": 100}
        self.keys: dict[str, Any] = {"scrapers": {"probe": probe}, "delivery": [{"http_sd": {}}], "audit": None}
        self.keys |= {"placement": {"load_factor": None}, "join_delay": "0s"}
        for name in "ab":
            (folder / f"{name}.json").write_text(json.dumps([{"targets": [*COMMON, f"{name}:1"]}]))
        self.supervisor: Supervisor

    def write(self, *, together: bool) -> None:
        services = [one(name) if together else {**self.keys, **one(name, None)} for name in "ab"]
        fleets = [{"name": "main", **self.keys}] if together else []
        document = {"global": {"debounce": "10ms"}, "fleets": fleets, "shard_services": services}
        self.file.write_text(json.dumps(document))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        log.configure(stream=io.StringIO())
        options = Options(self.file, self.folder / "state", WebSettings("127.0.0.1", 0, None))
        self.supervisor = Supervisor(options, load_with_lines(self.file), log.get(), Events())
        task = asyncio.create_task(self.supervisor.run())
        try:
            await self.until_in_force()
            yield
        finally:
            self.supervisor.stop()
            await task

    async def until_in_force(self) -> None:
        fleets = [fleet.name for fleet in load(self.file).every_fleet]
        await until(lambda: list(self.supervisor.fleets) == fleets, "the fleets run")
        await until(lambda: not self.supervisor.unready(), "ready")
        await until(lambda: all(s.state.decided for s in self.supervisor.services.values()), "all are decided")
        await until(lambda: files(self.folder / "state") == sorted(fleets), "their states, and no others")

    def bodies(self) -> dict[tuple[str, str], bytes]:
        services = self.supervisor.services.items()
        return {(name, scraper): s.body for name, service in services for scraper, s in service.slices.items()}

    def generations(self) -> dict[str, Generation]:
        return {name: max(s.generation for s in one.slices.values()) for name, one in self.supervisor.services.items()}


async def test_fleets_come_together_and_part_in_a_running_promring_and_over_a_restart(tmp_path: Path) -> None:
    async with scrapers(2) as nodes:
        promring = Promring(tmp_path, nodes)
        promring.write(together=False)
        async with promring.running():
            before, generations = promring.bodies(), promring.generations()
            assert len(before) == 4
            fleet = promring.supervisor.fleets["a"]
            assert not fleet.memory().unlooked
            fleet.reconciler.moves.takeover.begin()
            assert fleet.memory().unlooked
            for together in (True, False, True):
                promring.write(together=together)
                found = await promring.supervisor.reload()
                assert (found.problems, [one.kind for one in found.decisions]) == ((), ["fleet_changed"] * 2)
                await promring.until_in_force()
                assert promring.bodies() == before
                now = promring.generations()
                assert all(now[name] >= generations[name] for name in "ab")
                generations = now
        for together in (False, True):
            promring.write(together=together)
            async with promring.running():
                assert promring.bodies() == before


@pytest.mark.parametrize("kind", ["probe", "file"])
async def test_scrapers_that_come_with_a_service_get_nothing_of_the_services_of_its_new_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also not for a moment, before the list of the new fleet is read again; nor in the plan of that moment."""
    async with scrapers(4) as nodes:
        (tmp_path / "listed.json").write_text(json.dumps([{"address": node} for node in nodes[2:]]))
        promring = Promring(tmp_path, nodes)
        here = {"file": {"path": str(tmp_path / "listed.json")}} if kind == "file" else {"probe": {"nodes": nodes[2:]}}
        shared = {"delivery": [{"http_sd": {}}], "placement": {"load_factor": None}, "join_delay": "0s"}
        fleets = [
            {"name": "from", "scrapers": {"probe": {"nodes": nodes[:2]}}, **shared},
            {"name": "to", "scrapers": here, **shared},
        ]

        def write(fleet: str) -> None:
            targets = [f"10.9.9.{n}:1" for n in range(20)]
            services = [
                {"name": name, "fleet": where, "targets": {"static_configs": [{"targets": targets}]}}
                for name, where in (("comes", fleet), ("stays", "from"), ("there", "to"))
            ]
            promring.file.write_text(json.dumps({"fleets": fleets, "shard_services": services}))

        write("from")
        async with promring.running():
            served: list[set[str]] = []
            real = HttpSdDelivery.deliver

            async def deliver(delivery: HttpSdDelivery, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
                served.extend({s.scraper.id} for s in slices if s.service == "there")
                return await real(delivery, slices, leads)

            monkeypatch.setattr(HttpSdDelivery, "deliver", deliver)
            write("to")
            assert not (await promring.supervisor.reload()).problems
            await promring.until_in_force()
            await until(lambda: set(nodes) == promring.supervisor.services["comes"].slices.keys(), "make before break")
            await until(lambda: set().union(*served) >= set(nodes[2:]), "they are served")
            assert set().union(*served) == set(nodes[2:]) == promring.supervisor.services["there"].slices.keys()


def test_a_service_that_moves_between_fleets_of_consul_does_not_bring_its_scrapers() -> None:
    def consul(name: str) -> dict[str, Any]:
        return {**keys(), "scrapers": {"consul": {"service": name}}}

    def of(where: str) -> Settings:
        named = [{"name": "main", **consul("pm")}, {"name": "other", **consul("po")}]
        services = [one("a"), one("b", "other"), one("c", where)]
        text = json.dumps({"consul": {"address": "127.0.0.1:8500"}, "fleets": named, "shard_services": services})
        return loads(text, base=Path("/srv"))

    old, new = of("other"), of("main")
    fleets = {fleet.name: fleet for fleet in old.every_fleet}
    (keys_of,) = [fleet.keys for fleet in old.every_fleet if fleet.name == "main"]
    ours, theirs = (tuple(keys_of.scraper(parse_node(node)) for node in some) for some in (NODES, OTHERS))
    memories = {
        "main": Memory(members=ours, services={"a": ServiceMemory({"s": POOLS["a"]})}),
        "other": Memory(members=theirs, services={"c": ServiceMemory({"s": POOLS["c"]})}),
    }
    assert set(fleets) == set(memories)
    came_from = origins(old, new, successors(old, new), memories)
    (main,) = [fleet for fleet in new.every_fleet if fleet.name == "main"]
    memory, names = inherited(main, memories, came_from, old)
    assert names == ["main", "other"]
    assert [s.id for s in memory.departing] == OTHERS, "they are emptied, make before break"
    assert [s.id for s in memory.members if not s.draining] == NODES


async def test_a_service_that_left_its_fleet_is_named_at_each_start_until_its_file_is_removed(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        config = json.loads((tmp_path / "promring.yml").read_text())
        gone = config["shard_services"].pop(1)
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        await r.supervisor.reload()
        await until(lambda: "web" not in r.supervisor.services, "it is out")
        file = tmp_path / "state/web.left.json"
        await until(lambda: any(str(file) in where for one in r.supervisor.left_behind for where in one.where), "remembered")
        (behind,) = (await r.data("/api/v1/status"))["left_behind"]
        assert (behind["service"], behind["targets"], str(file) in behind["where"][-1]) == ("web", 20, True)
        fleets = {fleet.name: [s.name for s in fleet.services] for fleet in r.supervisor.settings.every_fleet}
        await until(lambda: not orphans(tmp_path / "state", fleets, log.get()), "the state is saved without it")
    for _ in range(2):
        assert await named_at_a_start(tmp_path) == ["web"]
    file.write_text("no JSON")
    assert await named_at_a_start(tmp_path) == []
    remember(tmp_path / "state", [LeftBehind("web", ["a:1"], 3, ["there"])], log.get())
    assert await named_at_a_start(tmp_path) == ["web"]
    config["shard_services"].append(gone)
    (tmp_path / "promring.yml").write_text(json.dumps(config))
    assert await named_at_a_start(tmp_path) == []
    assert not file.exists(), "it is configured again"


async def named_at_a_start(folder: Path) -> list[str]:
    """Who is named as left behind by a start with the configuration that is there."""
    supervisor = Supervisor(
        Options(folder / "promring.yml", folder / "state", WebSettings("127.0.0.1", 0)),
        load_with_lines(folder / "promring.yml"),
        log.get(),
        Events(),
    )
    task = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor.services != {}, "started")
    supervisor.stop()
    await task
    return [one.service for one in supervisor.left_behind]


async def test_a_reload_lets_go_what_came_from_the_only_file_of_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart does not: the folder may not be mounted yet."""
    monkeypatch.setattr(file_source, "PATIENCE_S", 0.2)
    async with scrapers(1) as nodes:
        promring = Promring(tmp_path, nodes)
        (tmp_path / "gone").mkdir()
        promring.write(together=False)
        document = json.loads(promring.file.read_text())
        document["shard_services"][0]["targets"] = [{"file": {"files": ["a.json", "gone/*.json"]}}]
        document["shard_services"][0]["guard"] = {"shrink_threshold": 0.1}
        promring.file.write_text(json.dumps(document))

        def has_it() -> bool:
            return any(b'"gone:1"' in body for body in promring.bodies().values())

        (tmp_path / "gone/x.json").write_text('[{"targets": ["gone:1"]}]')
        async with promring.running():
            assert has_it()
        (tmp_path / "gone/x.json").unlink()
        async with promring.running():
            (source,) = promring.supervisor.services["a"].sources
            cell = promring.supervisor.services["a"].facts.cells[source]
            await until(lambda: "reload if its targets shall go" in cell.fact.trouble, "the file is missed")
            assert has_it()
            assert not (await promring.supervisor.reload()).problems
            await until(lambda: not has_it(), "nobody misses it any more")
