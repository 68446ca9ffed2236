"""What a reload, a Consul that is asked anew, and the next leader go on with, and what they leave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from promring.audit.answers import AheadError
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.instances import MARK
from promring.consul.watch import HealthWatch
from promring.core.idle import Idle, IdleJobs
from promring.core.joined import FleetPool, Part
from promring.core.learning import Learning
from promring.core.loads import LoadBook, ServiceLoads
from promring.core.placement import Policy, place
from promring.core.pool import merge, pool_of
from promring.core.ring import Ring
from promring.core.second_opinion import SecondOpinions
from promring.delivery import receiver
from promring.delivery.receiver import Envelope
from promring.election.leadership import Leadership
from promring.election.shared import DOWN_MOST, LOADS_KEPT_S
from promring.fleet.term import FOUND_AGAIN_S, Term
from promring.fleet.weighing import Weighing
from promring.loads.learner import Known as Learnt
from promring.membership.consul import ConsulMembership
from promring.membership.direct import DirectProbes
from promring.membership.listed import LISTED_STILL_S
from promring.model import (
    NONE_FAILING,
    Empty,
    Failing,
    Generation,
    Known,
    Loads,
    Members,
    Placement,
    Release,
    Scraper,
    Slice,
    TargetGroup,
    Waiting,
)
from promring.telemetry import log
from tests.fakes.consul import FakeConsul
from tests.telling import hears
from tests.unit.test_consul import OWN, SERF, entry, register, scraper
from tests.unit.test_fleet_reload import NODES, all_planned, keys, one, reloaded, settings
from tests.unit.test_membership import node, published
from tests.unit.test_term import FLEET, A, B, C, Clock, leading_after_another
from tests.unit.test_web import running
from tests.waiting import until

# --- Consul ----------------------------------------------------------------------------------------------------------


def membership(client: Client, last: Members = (), *, settle_s: float = 15.0, silent_s: float = 60.0) -> ConsulMembership:
    watch = HealthWatch(client, "x", Catalogue(scraper), log.get())
    probes = DirectProbes("/-/ready", 0.5, log.get())
    return ConsulMembership(
        client, watch, None, log.get(), last, settle_s=settle_s, silent_s=silent_s, probes=probes, catalogue=last
    )


def test_who_has_to_be_asked_is_what_it_was_before_a_reload_or_a_restart() -> None:
    fine = entry({SERF: "passing", OWN: "passing"}, ours=True)
    unsure = entry({SERF: "critical", OWN: "passing"}, ours=True)
    before, after = Catalogue(scraper), Catalogue(scraper)
    (lived,), _ = before.members([fine])
    after.lived((lived,))
    assert before.members([unsure])[0] == after.members([unsure])[0] == (lived,)


async def test_a_reload_while_an_agent_of_consul_is_dead_calls_nobody_dead_who_lives() -> None:
    async with node() as (_, place), node() as (_, other), FakeConsul() as consul, Client(Access(consul.address)) as client:
        both = Known(tuple(sorted([scraper(place), scraper(other)])))
        for host, port in (place, other):
            await register(client, port, host, Meta=dict(MARK))
        async with published(membership(client)) as answers:
            await until(lambda: answers[-1:] == [both], "both live")
        consul.elsewhere, consul.dead_agents = {f"x-{place[1]}": "far"}, {"far"}
        async with published(membership(client, both.value)) as answers:
            await until(lambda: answers[-1:] == [both], "both live")
            assert next(answer for answer in answers if isinstance(answer, Known | Empty)) == both


async def test_a_reload_while_consul_gets_its_catalogue_back_waits_for_those_that_lived_and_no_longer() -> None:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        for port in (1, 2, 3):
            await register(client, port)
        before = membership(client, settle_s=2.0)
        async with published(before) as answers:
            everyone = tuple(scraper(("10.0.0.1", port)) for port in (1, 2, 3))
            await until(lambda: answers[-1:] == [Known(everyone)], "all live")
            await consul.forget()
            await until(lambda: answers[-1] == Empty(), "it forgot all")
            for port in (1, 2):
                await register(client, port)
            await until(lambda: isinstance(answers[-1], Waiting), "the third one is waited for")
        after = membership(client, everyone, settle_s=3600.0)
        after.go_on_from(before)
        async with published(after) as answers:
            await until(lambda: any(isinstance(one, Waiting) for one in answers), "it still is")
            assert not any(isinstance(one, Known) for one in answers)
            await until(lambda: isinstance(answers[-1], Known), "its time, of before the reload, is over")


async def test_who_has_not_heard_of_consul_for_long_is_not_ready_because_of_a_reload() -> None:
    async with Client(Access("127.0.0.1:1")) as client:
        before, after = membership(client, silent_s=0.5), membership(client, silent_s=0.5)
        async with published(before):
            await until(lambda: bool(before.silent()), "it says so")
        after.go_on_from(before)
        async with published(after):
            await asyncio.sleep(0)
            assert after.silent()


# --- the supervisor --------------------------------------------------------------------------------------------------


async def test_a_service_that_locks_us_out_and_is_configured_no_more_does_not_keep_us_unready(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        term, out = r.supervisor.leadership, tmp_path / "out"
        first = min(path for path in out.glob("*.json") if not path.name.startswith("."))
        members = r.supervisor.fleets["files-only"].reconciler.memory.members
        newer = Slice(
            "files-only", next(s for s in members if s.host in first.name), Generation(term.epoch + 9, 1), b"[]\n", 0
        )
        for path in sorted(out.glob("*.json")):
            receiver.install(path, Envelope.of(newer), own=1)  # another controller without a lock
        (tmp_path / "targets.json").write_text(json.dumps([{"targets": [f"o{n}:1" for n in range(30)]}]))
        await until(lambda: term.locked_out_by is not None, "locked out")
        config = json.loads((tmp_path / "promring.yml").read_text())
        config["shard_services"] = [s for s in config["shard_services"] if s["name"] != "files-only"]
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        assert not (await r.supervisor.reload()).problems
        await until(lambda: term.locked_out_by is None, "nobody delivers there any more")
        assert term.rivals.gone_in("files-only", term.clock()) is None


async def test_a_clock_that_was_put_back_is_known_after_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        fleet, name, ahead = r.supervisor.fleets["node"], r.nodes[0], AheadError("ahead", 5000.0)
        clocks = fleet.audit._asker.clocks
        assert [clocks.stands(name, ahead, at) for at in (0.0, 600.0)] == [False, True]
        assert not (await r.supervisor.reload()).problems
        await until(lambda: r.supervisor.fleets["node"] is not fleet, "it runs")
        assert r.supervisor.fleets["node"].audit._asker.clocks.is_behind(name, 1001.0), "it still stores nothing"


@pytest.mark.parametrize("change", ["removed", "renamed", "moved away"])
def test_who_is_idle_for_one_service_stays_so_when_another_one_changes(change: str) -> None:
    old = settings(one("a"), one("b"), one("c"), main=keys())
    before = all_planned(old)
    jobs = IdleJobs({("a", NODES[0]): 5.0}, {("a", NODES[0]): Idle(30, 30), ("c", NODES[0]): Idle(30, 30)})
    before["main"] = replace(before["main"], opinions=SecondOpinions(jobs=jobs))
    new = {
        "removed": settings(one("a"), one("b"), main=keys()),
        "renamed": settings(one("a"), one("b"), one("better", files="c"), main=keys()),
        "moved away": settings(one("a"), one("b"), one("c", "other"), main=keys(), other=keys()),
    }[change]
    found = reloaded(old, new, before)["main"].opinions.jobs
    assert found.idle.keys() == found.since.keys() == {("a", NODES[0])}
    same = reloaded(old, old, before)["main"].opinions.jobs
    assert same.idle.keys() == jobs.idle.keys()


# --- who leads -------------------------------------------------------------------------------------------------------


def test_a_lease_that_comes_back_lists_nobody_for_longer() -> None:
    """The store of the lock gave no answer for a moment each minute, and nobody else led."""
    clock = Clock()
    leadership = leading_after_another(clock)
    leadership.lead("me", 4, clock.now + 10.0)
    term = Term(FLEET, leadership, log.get())
    assert term.begins()
    for _ in range(int(LISTED_STILL_S / 60.0)):
        assert set(term.catalogue((A, B))) == {A, B, C}
        clock.now += 60.0
        leadership.lead("me", 4, clock.now + 59.0)
        term.tell_down(term.catalogue((A, B)), (A, B), ())
    assert set(term.catalogue((A, B))) == {A, B}


def test_an_epoch_that_is_raised_prolongs_nothing_that_we_said_ourselves() -> None:
    """Somebody writes without the lock: the epoch is raised each 30 s."""
    clock = Clock()
    leadership = Leadership(alone=False, clock=clock)
    leadership.follow("one", 2)
    hears(leadership, failing={FLEET: Failing.of([C.id])})
    leadership.lead("me", 4, float("inf"))
    term, raised = Term(FLEET, leadership, log.get()), range(6, 6 + 2 * int(FOUND_AGAIN_S / 30.0), 2)
    for epoch in raised:
        term.begins()
        assert term.failing(NONE_FAILING).scrapers == (C.id,)
        term.tell_failing(term.failing(NONE_FAILING))
        clock.now += 30.0
        leadership.lead("me", epoch, float("inf"))
    assert term.begins()
    assert term.failing(NONE_FAILING) == NONE_FAILING, "nobody found it sick since"
    leadership.follow("one", 90)
    hears(leadership, failing={FLEET: Failing.of([C.id])})
    leadership.lead("me", 92, float("inf"))
    assert term.begins()
    assert term.failing(NONE_FAILING).scrapers == (C.id,), "another one led in between"


def test_what_is_down_of_fleets_that_are_gone_leaves_the_note() -> None:
    """The fleet has had another name since a rolling restart: what the last leader of the old name told takes no room."""
    leadership = Leadership(alone=False, clock=Clock())
    leadership.shared.fleets = frozenset({"new"})
    leadership.follow("one", 2)
    hears(leadership, down={"old": tuple(Scraper(f"{n}:1", str(n), 1) for n in range(DOWN_MOST))}, waiting={})
    leadership.lead("me", 4, float("inf"))
    leadership.shared.placed_over("new", (C,), ())
    assert leadership.told.down == {"new": (C,)}


def test_loads_of_another_fleet_that_we_told_in_a_term_long_ago_are_not_forgotten_at_once() -> None:
    clock = Clock()
    leadership = Leadership(alone=False, clock=clock)
    leadership.lead("me", 4, clock.now + 10.0)
    for fleet in ("one", "two"):
        leadership.shared.placed_by(fleet, b"book")
    leadership.follow("other", 6)
    clock.now += LOADS_KEPT_S
    hears(leadership, loads={"one": b"newer", "two": b"newer"})
    leadership.lead("me", 8, float("inf"))
    leadership.shared.placed_by("one", b"newer")
    assert leadership.told.loads == {"one": b"newer", "two": b"newer"}, "the other fleet tells its own in a moment"


def test_a_release_in_the_first_note_that_is_read_releases_nothing() -> None:
    """All controllers were down for a day; the note has what was released just before."""
    started, let_go = Leadership(alone=False, clock=Clock()), (Release("source_shrank", ("file", "3")),)
    hears(started, released={"node": let_go})
    assert started.shared.lately_released("node") == (), "nobody knows how old that is"
    hears(started, released={"node": let_go, "db": let_go})
    assert started.shared.lately_released("db") == let_go
    empty = Leadership(alone=False, clock=Clock())
    hears(empty, released={})
    hears(empty, released={"node": let_go})
    assert empty.shared.lately_released("node") == let_go


async def test_what_was_learnt_in_an_earlier_term_is_not_placed_by_in_the_next() -> None:
    members = tuple(Scraper(f"{name}:1", name, 1) for name in "ab")
    pool = FleetPool.of({"db": Part(merge([pool_of([TargetGroup.of([f"t{n}:1" for n in range(40)])])], None, None), 1, 0)})
    policy, now = Policy(8), [1000.0]
    term = Leadership(alone=False, clock=lambda: 0.0)
    weighing = Weighing(leadership=term, wake=lambda: None, log=log.get(), learns=True, monotonic=lambda: now[0])
    placed = place(pool, Ring(members, 8), policy)

    async def by(loads: Loads | None, *, trial: bool = False) -> Placement:
        assert trial in (True, False)
        return place(pool, Ring(members, 8), policy, loads)

    def learnt(load: int, at: float) -> LoadBook:
        return LoadBook({"db": ServiceLoads(load)}, at)

    term.lead("me", 4, 10.0)
    weighing.receive(Learnt(Learning(), learnt(700, 0.0), pool))
    term.follow("other", 6)  # for hours; it learns, and tells its own
    now[0] += 7200.0
    term.lead("me", 8, 10.0)  # nothing was learnt in this term yet
    now[0] += 3600.0
    assert await weighing.newer(placed, learnt(300, 5.0), by, policy) is None
    weighing.receive(Learnt(Learning(), learnt(700, 9.0), pool))
    assert await weighing.newer(placed, learnt(300, 5.0), by, policy) is not None
