"""What another configuration means: decisions, who goes on with what, and what is remembered; pure, without servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from promring.config.load import loads
from promring.config.settings import Settings, ShardService
from promring.core.claims import Claims
from promring.core.difference import compare
from promring.core.plan import shares
from promring.core.pool import merge, pool_of
from promring.core.recall import recalled
from promring.core.standing import History
from promring.core.unresponsive import Answers
from promring.delivery import How, Leads, Outcome, always
from promring.fleet.asks import Asks
from promring.fleet.departures import PROOF_S, Departures
from promring.fleet.facts import FactBoard
from promring.fleet.retirement import Retirement, Retiring
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Orphan, Store, orphans
from promring.fleet.succession import collisions, id_of, succeed
from promring.fleet.successors import successors
from promring.fleet.ways import OldWay, places
from promring.membership.kubernetes import KubernetesScrapers
from promring.model import NEVER_ENDS, Generation, Members, Placement, Reply, Scraper, Slice, TargetGroup
from promring.model import Known as Answered
from promring.reload.decisions import Decision, Known, Question, decide, left_behind
from promring.reload.foresight import Now, foresee
from promring.rules import policy_of
from promring.telemetry import log
from tests.seeing import seen_with

NODES = ["10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:9090"]
PATH = "out/{host}_{port}.json"
POOL = pool_of([TargetGroup.of([f"t{n}:1"], {"rack": f"r{n % 5}"}) for n in range(60)])


def service(name: str = "pool", *, nodes: Sequence[Any] = NODES, path: str = PATH, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "scrapers": {"probe": {"nodes": list(nodes)}},
        "targets": [{"file": {"files": ["targets.json"]}}],
        "delivery": [{"file": {"path": path}}],
        **more,
    }


def settings(*services: dict[str, Any]) -> Settings:
    return loads(json.dumps({"consul": {"address": "127.0.0.1:8500"}, "shard_services": list(services)}), base=Path("/srv"))


def of(found: Settings) -> ShardService:
    return found.shard_services[0]


def remembered(old: ShardService, *, drained: Sequence[str] = ()) -> Memory:
    """A plan in force for all its nodes: each has every third target."""
    members = tuple(sorted(old.scraper(node) for node in old.listed))
    rows = np.arange(len(POOL))
    owners = (rows % len(members)).astype(np.int32)
    claims = Claims(tuple(s.id for s in members), POOL.ids, owners, np.zeros(len(rows)), np.full(len(rows), NEVER_ENDS))
    split = shares(Placement(members, POOL, owners[:, None]))
    slices = {s.id: Slice(old.name, s, Generation(3, 4), split.body(i), split.count(i)) for i, s in enumerate(members)}
    return Memory(
        members=members,
        services={old.name: ServiceMemory({"file:/srv/targets.json": POOL}, slices)},
        generation=Generation(3, 4),
        claims=claims,
        drained=frozenset(drained),
        history=History.of(members),
        listed=places(old.listed),
    )


def decisions(old: Settings, new: Settings, memories: dict[str, Memory] | None = None) -> list[Decision]:
    memories = {s.name: remembered(s) for s in old.shard_services} if memories is None else memories
    known = {n: Known(m.members, m.targets()) for n, m in memories.items()}
    return decide(old, new, known, foresee(Now(old, memories, known), new))


def kinds(found: Sequence[Decision]) -> list[str]:
    return [one.kind for one in found]


# --- who goes on with what -------------------------------------------------------------------------------------------


def test_a_service_with_another_name_and_the_same_scrapers_sources_and_places_goes_on() -> None:
    assert successors(settings(service("a")), settings(service("b"))) == {"b": "a"}


@pytest.mark.parametrize(
    "changes",
    [{"path": "elsewhere/{scraper}.json"}, {"targets": [{"file": {"files": ["others.json"]}}]}, {"nodes": NODES[1:]}],
    ids=["place", "sources", "scrapers"],
)
def test_sources_or_places_and_one_scraper_in_common_are_enough(changes: dict[str, Any]) -> None:
    assert successors(settings(service("a")), settings(service("b", **changes))) == {"b": "a"}


def test_nothing_in_common_is_another_service() -> None:
    other = service("b", path="b/{scraper}.json", targets=[{"file": {"files": ["b.json"]}}])
    assert successors(settings(service("a")), settings(other)) == {}
    assert successors(settings(service("a")), settings(service("b", nodes=["10.9.9.9:1"]))) == {}


def test_who_might_be_either_is_neither() -> None:
    two = [service("b", path="b/{scraper}.json"), service("c", path="c/{scraper}.json")]
    assert successors(settings(service("a")), settings(*two)) == {}, "the same sources twice, and other places"
    assert successors(settings(service("a")), settings(service("b"), two[1])) == {"b": "a"}, "one has the place, too"


def test_a_name_that_stays_is_never_another_ones_successor() -> None:
    old, new = settings(service("a"), service("b", path="b/{scraper}.json")), settings(service("b"))
    assert successors(old, new) == {"b": "b"}


def test_scrapers_of_a_file_that_are_listed_now_are_not_added() -> None:
    """A list in a file that becomes one in the configuration: who lives is known, and only who is new is said."""
    in_file = settings(service(scrapers={"file": {"path": "scrapers.json"}}))
    listed = settings(service(nodes=[*NODES, "10.0.0.9:9090"]))
    members = remembered(of(settings(service()))).members
    found = decide(in_file, listed, {"pool": Known(members, dict.fromkeys(NODES, 20))}, {})
    assert kinds(found) == ["membership_changed", "scrapers_added"]
    assert found[1].text.startswith("10.0.0.9:9090: each is given its share")
    assert found[1].numbers == {"scrapers": 1}


def test_targets_are_counted_once_whoever_has_them() -> None:
    slices = dict.fromkeys(NODES, 40)
    assert (Known((), slices).targets, Known((), slices, 60).targets) == (120, 60), "60 targets, two of each"


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_one_server_is_one_scraper_whatever_its_id_is() -> None:
    old, new = of(settings(service())), of(settings(service(identity="host")))
    before = remembered(old, drained=["10.0.0.2:9090", "10.7.7.7:1"])
    after = succeed(before, new)
    hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [s.id for s in after.members] == hosts
    slices = after.of("pool").slices
    assert list(slices) == list(after.claims.names) == list(after.history.standings) == hosts
    assert all(s.scraper.id == name for name, s in slices.items())
    assert after.drained == {"10.0.0.2", "10.7.7.7"}
    assert [s.generation for s in slices.values()] == [s.generation for s in before.every_slice]
    assert succeed(after, old).members == before.members, "and back"
    assert succeed(after, old).services == before.services
    answers = Answers((NODES[0], NODES[2], "10.7.7.7:1"), (NODES[2],))
    assert succeed(replace(before, answers=answers), new).answers == Answers((hosts[0], hosts[2]), (hosts[2],))
    same = succeed(before, old)
    assert (same.members, same.services, same.claims) == (before.members, before.services, before.claims)


def test_a_scraper_that_would_have_the_id_of_another_is_named() -> None:
    old = of(settings(service(nodes=["10.0.0.1:9090", "10.0.0.1:9091", "10.0.0.2:9090"])))
    new = of(settings(service(nodes=["10.0.0.1:9090", "10.0.0.2:9090"], identity="host")))
    memory = remembered(old)
    assert [s.id for s in collisions(memory, new)] == ["10.0.0.1:9091"]
    after = succeed(memory, new)
    assert [s.id for s in after.members] == ["10.0.0.1", "10.0.0.2"]
    assert len(set(after.claims.names)) == len(after.claims.names)


def test_who_was_listed_and_is_not_any_more_departs_and_may_come_back() -> None:
    old, new = of(settings(service())), of(settings(service(nodes=NODES[1:])))
    after = succeed(remembered(old), new)
    assert [s.id for s in after.members] == NODES
    assert [(s.id, s.draining) for s in after.departing] == [(NODES[0], False)], "it may be waited for others"
    foreign = succeed(remembered(old), new, foreign=True)
    assert [(s.id, s.draining) for s in foreign.members] == [(n, n == NODES[0]) for n in NODES]
    assert [(s.id, s.draining) for s in foreign.departing] == [(NODES[0], True)]
    assert after.listed == places(new.listed)
    again = succeed(after, new)
    assert again == after, "still departing after another reload"
    back = succeed(after, old)
    assert (back.departing, [s.draining for s in back.members]) == ((), [False] * 3)


def test_one_that_others_registered_in_consul_does_not_depart() -> None:
    consul = {"consul": {"service": "scr", "register": {"nodes": NODES[:2]}}}
    with_consul = of(settings(service(scrapers=consul)))
    memory = remembered(of(settings(service())))
    memory = replace(memory, listed=places(with_consul.listed))
    assert succeed(memory, with_consul).departing == (), "the third was never in the list"
    fewer = of(settings(service(scrapers={"consul": {"service": "scr", "register": {"nodes": NODES[:1]}}})))
    assert [s.id for s in succeed(memory, fewer).departing] == [NODES[1]]


def test_listed_weights_and_zones_count_at_once() -> None:
    new = of(settings(service(nodes=[{"address": NODES[0], "weight": 3, "zone": "z"}, *NODES[1:]])))
    after = succeed(remembered(of(settings(service()))), new)
    assert [(s.weight, s.zone) for s in after.members] == [(3.0, "z"), (1.0, ""), (1.0, "")]


def test_a_scraper_is_meant_by_its_id_its_address_or_its_only_host() -> None:
    one, two, three = Scraper("h1", "h1", 1), Scraper("h2:1", "h2", 1), Scraper("h2:2", "h2", 2)
    known = lambda: (one, two, three)  # noqa: E731
    assert [id_of(text, known) for text in ("h1", "h1:1", "h2:1", "h2", "x")] == ["h1", "h1", "h2:1", "h2", "x"]


async def test_a_state_keeps_who_departs_and_moves_with_the_name(tmp_path: Path) -> None:
    new = of(settings(service("new", nodes=NODES[1:])))
    memory = succeed(remembered(of(settings(service("old")))), new)
    await Store(tmp_path, "old", log.get()).save(remembered(of(settings(service("old")))))
    store = Store(tmp_path, "new", log.get(), replaces={"old": {"new"}})
    await store.save(memory)
    assert [p.name for p in tmp_path.glob("*.state")] == ["new.state"]
    read = Store(tmp_path, "new", log.get()).load()
    assert (read.departing, read.listed) == (memory.departing, memory.listed)


async def test_state_files_of_nobody_are_found_and_damaged_ones_are_left_alone(tmp_path: Path) -> None:
    await Store(tmp_path, "gone", log.get()).save(remembered(of(settings(service("gone")))))
    await Store(tmp_path, "here", log.get()).save(remembered(of(settings(service("here")))))
    (tmp_path / "odd.state").write_bytes(b"\0")
    found = orphans(tmp_path, {"here": ["here"]}, log.get())
    assert found == [Orphan("gone", tmp_path / "gone.state", dict.fromkeys(NODES, 20))]
    assert (tmp_path / "odd.state").exists()


# --- decisions -------------------------------------------------------------------------------------------------------


def test_the_same_configuration_decides_nothing() -> None:
    assert decisions(settings(service()), settings(service())) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"port": 9091}, "from the name p.test. (A, port 9090) to the name p.test. (A, port 9091); "),
        ({"type": "SRV", "port": None}, "from the name p.test. (A, port 9090) to the name p.test. (SRV); "),
    ],
)
def test_another_namespace_port_or_type_is_another_place_where_the_scrapers_come_from(
    changed: dict[str, Any], said: str
) -> None:
    name = {"name": "p.test.", "type": "A", "port": 9090}
    old, new = (settings(service(scrapers={"dns": one})) for one in (name, name | changed))
    members = remembered(of(settings(service()))).members
    found = decide(old, new, {"pool": Known(members, dict.fromkeys(NODES, 20))}, {})
    assert kinds(found) == ["membership_changed"]
    assert found[0].text.startswith(said)
    pods = {"namespace": "mon", "selector": "app=p", "port": 9090}
    where = [KubernetesScrapers.model_validate(pods | more).said for more in ({}, {"namespace": "other"}, {"port": 9601})]
    assert where[0] == "pods with app=p of mon at port 9090"
    assert len(set(where)) == 3


@pytest.mark.parametrize(
    ("changes", "wanted", "text"),
    [
        ({"identity": "host"}, ["identity_changed"], "host_port -> host: the same 3 scrapers"),
        ({"name": "other"}, ["service_renamed"], "was pool"),
        ({"nodes": NODES[1:]}, ["scrapers_removed"], "10.0.0.1:9090 with 20 targets"),
        ({"nodes": [*NODES, "10.0.0.4:9090"]}, ["scrapers_added"], "10.0.0.4:9090: each is given its share"),
        (
            {"path": "x/{scraper}.json"},
            ["delivery_changed"],
            "file -> file; the old way goes on being written until",
        ),
        (
            {"delivery": [{"http_sd": {}}]},
            ["delivery_changed"],
            "until each scraper has asked for its slice: /srv",
        ),
        ({"placement": {"hash_labels": ["rack"]}}, ["policy_changed"], "hash_labels none -> rack"),
        ({"placement": {"replication_factor": 2}}, ["policy_changed"], "replication_factor 1 -> 2"),
        ({"placement": {"capacity": 15}}, ["capacity_short"], "15 targets that are scraped now would have no room"),
        ({"placement": {"capacity": 20}}, ["policy_changed"], "capacity none -> 20"),
        ({"zones": {"label": "rack"}}, ["policy_changed"], "zones none -> rack"),
        ({"nodes": [{"address": NODES[0], "weight": 2}, *NODES[1:]]}, ["policy_changed"], "weight of 10.0.0.1:9090"),
        ({"targets": [{"file": {"files": ["other.json"]}}]}, ["sources_changed"], "doubted first"),
        (
            {"scrapers": {"consul": {"service": "scr"}}},
            ["membership_changed"],
            "from probes to Consul's scr",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_change_is_one_decision(changes: dict[str, Any], wanted: list[str], text: str) -> None:
    found = decisions(settings(service()), settings(service(**changes)))
    assert kinds(found) == wanted
    assert text in found[0].text
    assert found[0].loss is (wanted == ["capacity_short"])


def test_what_was_registered_in_a_service_of_consul_that_is_left_is_said_to_stay() -> None:
    def registered(service_name: str) -> dict[str, Any]:
        return {"consul": {"service": service_name, "register": {"nodes": NODES}}}

    old = settings(service(scrapers=registered("prom")))
    for new in (service(scrapers=registered("prom2")), service()):
        found = decisions(old, settings(new))
        (changed,) = (one for one in found if one.kind == "membership_changed")
        assert changed.text.endswith(
            "; what promring registered in Consul's prom stays there, as other controllers may use it"
        )


def test_a_removed_service_names_also_what_its_deliveries_before_wrote() -> None:
    """It was renamed, and its old files went on being written: they are left, too."""
    path = "out/{service}/{host}_{port}.json"
    was, now = of(settings(service("extra", path=path))), of(settings(service("extra2", path=path)))
    left = left_behind(now, Known((), dict.fromkeys(NODES, 20), ways=[OldWay(was.delivery[0], was)]))
    assert sorted(left.where) == [f"/srv/out/{name}/10.0.0.{n}_9090.json" for name in ("extra", "extra2") for n in (1, 2, 3)]


def test_a_removed_service_is_named_with_what_it_leaves() -> None:
    old = settings(service(), service("more", path="more/{scraper}.json"))
    (found,) = decisions(old, settings(service()))
    assert (found.kind, found.service, found.numbers) == ("service_removed", "more", {"targets": 60, "scrapers": 3})
    assert "60 targets on 10.0.0.1:9090, 10.0.0.2:9090, 10.0.0.3:9090" in found.text
    assert "/srv/more/10.0.0.1_9090.json" in found.text
    left = left_behind(old.shard_services[1], Known((), dict.fromkeys(NODES, 20)))
    assert (left.targets, len(left.where)) == (60, 3), "its listed scrapers, when nobody is known to live"


def test_an_identity_that_makes_one_of_two_is_a_loss() -> None:
    two = [*NODES, "10.0.0.1:9091"]
    found = decisions(settings(service(nodes=two)), settings(service(nodes=NODES, identity="host")))
    assert [(one.kind, one.loss) for one in found if one.kind == "identity_changed"] == [("identity_changed", True)]


def test_a_scraper_that_is_not_alive_is_forgotten() -> None:
    old = settings(service())
    memory = remembered(of(old))
    memory = replace(memory, members=memory.members[1:])
    found = decisions(old, settings(service(nodes=NODES[1:])), {"pool": memory})
    assert kinds(found) == ["scrapers_forgotten"]


def test_a_place_that_another_service_takes_over_is_not_written_twice() -> None:
    old = settings(service(), service("more", path="more/{scraper}.json"))
    new = settings(service(path="new/{scraper}.json"), service("more"))
    found = decisions(old, new)
    assert ("delivery_replaced", "pool") in [(one.kind, one.service) for one in found]
    assert "is written by more from now on" in next(one.text for one in found if one.kind == "delivery_replaced")


def test_what_is_foreseen_is_what_is_remembered_beside_what_would_be_placed() -> None:
    """Other labels to hash by: ids stay, so moves are counted."""
    old, new = settings(service()), settings(service(placement={"hash_labels": ["rack"]}))
    memory = remembered(of(old))
    pool = merge([POOL], ["rack"])
    assert sorted(pool.ids.tolist()) == sorted(POOL.ids.tolist())
    had = recalled(memory.claims, pool)
    assert had is not None
    assert had.counts() == dict.fromkeys(NODES, 20)
    now = Now(old, {"pool": memory}, {"pool": Known(memory.members)})
    (found,) = foresee(now, new).values()
    assert 0 < found.moved <= found.owned == 60
    assert compare(had, had).moved == 0
    assert policy_of(new.every_fleet[0]) == policy_of(old.every_fleet[0])


@pytest.mark.parametrize("stays", [NODES[:1], []], ids=["one stays", "none stays"])
def test_who_is_put_in_counts_in_a_preview(stays: list[str]) -> None:
    """They join when they are healthy; until then those that are taken out stay what they were."""
    old = settings(service(**DRAINED_FULL))
    nodes = [*stays, *(f"10.0.0.{n}:9090" for n in (7, 8, 9)[len(stays) :])]
    memory = remembered(of(old))
    now = Now(old, {"pool": memory}, {"pool": Known(memory.members)})
    found = foresee(now, settings(service(nodes=nodes, **DRAINED_FULL)), Question())["pool"]
    assert found.preview is not None
    counts = found.preview.after.counts()
    assert {name: count for name, count in counts.items() if count} == dict.fromkeys(nodes, 20)
    assert (found.moved >= 20 * (3 - len(stays)), found.lost) == (True, 0)


def test_one_that_is_put_in_again_and_was_drained_stays_drained_and_that_is_said() -> None:
    old, new = settings(service(nodes=NODES[1:])), settings(service())
    memories = {"pool": remembered(of(old), drained=[NODES[0], NODES[1]])}
    known = {"pool": Known(memories["pool"].members, drained=memories["pool"].drained)}
    (found,) = decide(old, new, known, foresee(Now(old, memories, known), new))
    assert found.text.endswith(f"; drained since before, and get nothing until `promring undrain`: {NODES[0]}")


DRAINED_FULL: dict[str, Any] = {"placement": {"capacity": 20, "load_factor": None}}
"""Room for 60 with three scrapers: one that is drained keeps its 20, for which nobody else has room."""


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": [*NODES, "10.0.0.4:9090"], **DRAINED_FULL},
        {"placement": {"capacity": 25, "load_factor": None}},
        {"placement": {"capacity": 20, "load_factor": None, "virtual_nodes": 7}},
    ],
    ids=["a fourth scraper", "more capacity", "the same room"],
)
def test_a_reload_is_not_refused_for_what_a_drained_scraper_keeps_without_room(changes: dict[str, Any]) -> None:
    old = settings(service(**DRAINED_FULL))
    found = decisions(old, settings(service(**changes)), {"pool": remembered(of(old), drained=[NODES[0]])})
    assert found
    assert not [one.line for one in found if one.loss]


def test_a_removed_scraper_for_whose_targets_there_is_no_room_keeps_them_and_is_no_loss() -> None:
    found = decisions(settings(service(**DRAINED_FULL)), settings(service(nodes=NODES[1:], **DRAINED_FULL)))
    assert [(one.kind, one.loss) for one in found] == [("scrapers_removed", False)]


def test_what_a_drained_scraper_may_keep_is_within_its_own_capacity() -> None:
    old, new = settings(service(**DRAINED_FULL)), settings(service(placement={"capacity": 15, "load_factor": None}))
    (found,) = decisions(old, new, {"pool": remembered(of(old), drained=[NODES[0]])})
    assert (found.kind, found.loss, found.numbers["lost"]) == ("capacity_short", True, 15)


def test_what_is_asked_without_a_scraper_counts_what_that_one_could_have_kept_as_lost() -> None:
    old = settings(service(**DRAINED_FULL))
    memory = remembered(of(old))
    now = Now(old, {"pool": memory}, {"pool": Known(memory.members)})
    assert foresee(now, old, Question(without=[NODES[0]]))["pool"].lost == 20


# --- scrapers that depart --------------------------------------------------------------------------------------------


def departing(**more: Any) -> tuple[Departures, list[float]]:
    clock = [100.0]
    gone = Scraper("a:1", "a", 1, draining=True)
    return Departures((gone,), log=log.get(), clock=lambda: clock[0], **more), clock


def die(one: Departures, clock: list[float]) -> None:
    one.put_probed("a:1", Reply.REFUSES)
    clock[0] += PROOF_S + 1
    one.put_probed("a:1", Reply.REFUSES)


def has(targets: int) -> dict[str, int]:
    return {"a:1": targets}


def test_one_ends_when_its_empty_slice_is_delivered_and_it_scrapes_nothing_of_it() -> None:
    one, clock = departing(audited=True)
    assert one.end(has(3), {"a:1"}, {}) == ()
    assert one.end(has(0), (), {}) == (), "not delivered"
    assert one.end(has(0), {"a:1"}, {}) == ()
    assert one.emptied == {"a:1"}
    assert one.end(has(0), {"a:1"}, {"a:1": seen_with([], 99.0)}) == (), "seen before it had the empty one"
    assert one.end(has(0), {"a:1"}, {"a:1": seen_with([7], 101.0)}) == (), "it goes on scraping"
    clock[0] += 2 * PROOF_S
    assert one.end(has(0), {"a:1"}, {"a:1": seen_with([7], 101.0)}) == ()
    assert [s.id for s in one.end(has(0), {"a:1"}, {"a:1": seen_with([], 102.0)})] == ["a:1"]
    assert (one.scrapers, one.gone) == ((), ())


def test_one_that_cannot_be_asked_ends_after_a_while_and_so_does_one_that_refuses_or_is_silent() -> None:
    one, clock = departing(audited=True)
    one.end(has(0), {"a:1"}, {})
    clock[0] += PROOF_S + 1
    assert one.end(has(0), {"a:1"}, {})
    for replies in ([Reply.REFUSES, Reply.REFUSES], [Reply.SILENT, Reply.SILENT], [Reply.REFUSES, Reply.SILENT]):
        dead, clock = departing(audited=True)
        dead.put_probed("a:1", Reply.ANSWERS)
        for reply in replies:
            assert dead.end(has(5), {"a:1"}, {}) == ()
            dead.put_probed("a:1", reply)
            clock[0] += PROOF_S + 1
        assert dead.end(has(5), {"a:1"}, {})


def test_one_that_is_restarted_stays_until_its_slice_is_empty() -> None:
    one, clock = departing(audited=True)
    for _ in range(3):
        one.put_probed("a:1", Reply.REFUSES)
        clock[0] += PROOF_S / 2 - 1
        assert one.end(has(5), {"a:1"}, {}) == ()
        one.put_probed("a:1", Reply.ANSWERS)
    clock[0] += 1
    assert one.end(has(5), {"a:1"}, {}) == ()
    assert one.end(has(0), {"a:1"}, {}) == ()
    assert one.end(has(0), {"a:1"}, {"a:1": seen_with([], clock[0] + 1)})


def test_one_that_asks_by_the_name_of_the_service_before_ends_when_it_has_fetched_the_empty_slice() -> None:
    asks = Asks(clock=lambda: clock[0])
    one, clock = departing(pulls=True, asks=asks)
    asks.note("before", "a:1")
    clock[0] += 5
    asks.note("before", "a:1")
    assert one.end(has(0), {"a:1"}, {}) == ()
    clock[0] += 5
    asks.note("before", "a:1")
    assert one.end(has(0), {"a:1"}, {})


def test_one_that_fetches_ends_when_it_has_fetched_the_empty_slice() -> None:
    asks = Asks(clock=lambda: clock[0])
    one, clock = departing(pulls=True, asks=asks)
    asks.note("pool", "a:1")
    clock[0] += 5
    asks.note("pool", "a:1")
    assert one.end(has(0), {"a:1"}, {}) == ()
    clock[0] += 5
    assert one.end(has(0), {"a:1"}, {}) == ()
    asks.note("pool", "a:1")
    assert one.end(has(0), {"a:1"}, {})


def test_they_are_drained_members_and_those_that_are_gone_are_none_until_consul_forgets_them() -> None:
    one, clock = departing(registered=True)
    facts, b = FactBoard(), Scraper("b:1", "b", 1)

    def members(*answer: Scraper) -> Members:
        facts.members.put(Answered(answer))
        newest = one.applied(facts.newest()).members.newest
        assert isinstance(newest, Answered)
        return newest.value

    assert [(s.id, s.draining) for s in members(b)] == [("a:1", True), ("b:1", False)]
    die(one, clock)
    assert one.end({}, (), {})
    assert [s.id for s in members(Scraper("a:1", "a", 1), b)] == ["b:1"], "Consul still has it"
    assert [s.id for s in members(b)] == ["b:1"]
    assert one.gone == ()
    assert [s.id for s in members(Scraper("a:1", "a", 1), b)] == ["a:1", "b:1"], "somebody registered it again"


def test_one_that_somebody_else_registered_is_a_scraper_like_any_other() -> None:
    one, clock = departing(registered=True)
    die(one, clock)
    one.end({}, (), {})
    assert [s.id for s in one.remembered] == ["a:1"], "kept in mind until Consul forgets it"
    one.of_others({("b", 1)})
    assert [s.id for s in one.gone] == ["a:1"]
    one.of_others({("a", 1)})
    assert one.remembered == ()


# --- deliveries that retire ------------------------------------------------------------------------------------------


class Sink:
    means = "memory"
    pulled = False
    outcome: How = "failed"

    def __init__(self) -> None:
        self.given: list[tuple[str, str, str]] = []
        self.now: Sequence[Slice] = ()

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self.now = slices
        self.given += [(s.service, s.scraper.id, s.sha256) for s in slices]
        return [Outcome(s.scraper.id, self.outcome, "no") for s in slices]


async def test_an_old_way_gets_each_slice_by_the_names_before_until_every_scraper_has_asked() -> None:
    old = of(settings(service("old")))
    now = [0.0]
    sink, asks = Sink(), Asks(clock=lambda: now[0])
    way = OldWay(old.delivery[0], old)
    retirement = Retirement([Retiring(way, sink)], service="new", asked_for=True, asks=asks, log=log.get())
    slices = [Slice("new", Scraper(h, h, 9090), Generation(1, 1), b"[]\n", 0) for h in ("10.0.0.1", "10.0.0.2")]
    await retirement.deliver(slices, always, pushes=True)
    assert [given[:2] for given in sink.given] == [("old", "10.0.0.1:9090"), ("old", "10.0.0.2:9090")]
    for _ in range(2):
        asks.note("new", "10.0.0.1")
    assert retirement.waiting_for(slices) == ["10.0.0.1", "10.0.0.2"], "a look by chance, and once more at once, is no use"
    now[0] += 5
    asks.note("new", "10.0.0.1")
    (described,) = retirement.going_on(slices)
    assert (described.waiting_for, described.places[0]) == (["10.0.0.2"], "/srv/out/10.0.0.1_9090.json")
    for _ in range(2):
        now[0] += 5
        asks.note("new", "10.0.0.2")
    sink.given.clear()
    await retirement.deliver(slices, always, pushes=True)
    assert (sink.given, retirement.ways) == ([], [])


async def test_a_failure_at_an_old_place_is_told_once_until_it_ends() -> None:
    old, sink = of(settings(service("old"))), Sink()
    retirement = Retirement([Retiring(OldWay(old.delivery[0], old), sink)], service="new", log=log.get())
    slices = [Slice("new", Scraper("h", "h", 9090), Generation(1, 1), b"[]\n", 0)]
    with capture_logs() as lines:
        for sink.outcome in ("failed", "waiting", "failed", "waiting", "failed", "written", "failed"):
            await retirement.deliver(slices, always, pushes=True)
    assert [line["event"] for line in lines] == ["old_delivery_failed"] * 2


async def test_what_an_old_way_serves_is_withdrawn_and_its_files_stay() -> None:
    old = of(settings(service("old")))
    served, written = Sink(), Sink()
    served.pulled = True
    ways = [Retiring(OldWay(old.delivery[0], old), sink) for sink in (served, written)]
    retirement = Retirement(ways, service="new", log=log.get())
    await retirement.deliver([Slice("new", Scraper("h", "h", 9090), Generation(1, 1), b"[]\n", 0)], always, pushes=True)
    await retirement.withdraw()
    assert (len(served.now), len(written.now)) == (0, 1)


def test_another_way_to_ask_scrapers_is_named_and_moves_nothing() -> None:
    old, new = settings(service()), settings(service(scraper_api={"scheme": "https", "path_prefix": "/p"}))
    (found,) = decisions(old, new)
    assert (found.kind, found.loss) == ("scraper_api_changed", False)
    assert found.text == "scheme, path_prefix: its scrapers are asked in another way from now on; no target moves"


def test_a_change_of_the_lock_is_said_to_need_a_restart() -> None:
    def locked(**controllers: Any) -> Settings:
        some = {"consul": {"address": "127.0.0.1:8500"}, "shard_services": [service()]}
        return loads(json.dumps(some | ({"controllers": controllers} if controllers else {})), base=Path("/srv"))

    consul, other, none = locked(lock={"consul": {}}), locked(lock={"consul": {"key": "other"}}), locked()
    for old, new in ((consul, none), (none, consul), (consul, other)):
        (decision,) = decide(old, new, {"pool": Known()}, {})
        assert (decision.kind, decision.service, decision.loss) == ("reload_needs_a_restart", "controllers", False)
    assert decide(consul, locked(lock={"consul": {}}), {"pool": Known()}, {}) == []
