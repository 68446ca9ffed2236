"""The one line of a service: what is known, since when, and never more than that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog

from promring.audit.look import Look
from promring.audit.settings import AuditKeys
from promring.audit.watch import Audit
from promring.config.scraper_api import PLAIN
from promring.consul.client import Access, Client
from promring.core.claims import Claims
from promring.core.handover import owned_now, without_room
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place
from promring.core.preview import fit
from promring.core.ring import Ring
from promring.delivery import Leads, Outcome, always
from promring.election.leadership import Leadership
from promring.fleet.decision_log import FAILED_SAID_MOST
from promring.fleet.deliveries import ServiceDeliveries
from promring.model import Scraper, Slice, Unknown
from promring.model.times import NEVER_ENDS
from promring.telemetry import log
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics
from promring.web.answers.fleets import Fleet, Service
from promring.web.answers.parts import Summary
from promring.web.views.summary import LEVELS, summary
from tests.fakes.answers import convert
from tests.fakes.consul import FakeConsul
from tests.hostile.drive import running as in_task
from tests.laws.strategies import pool_of
from tests.unit.test_consul import put, register
from tests.unit.test_membership import consul_membership, published, scraper
from tests.unit.test_page import shown
from tests.unit.test_web import running
from tests.waiting import until

SEEN = {"at": 1.0, "age_s": 6.2, "interval_s": 30.0, "ratio": 1.0, "targets": 45, "covered": 45}
REST = {"no_room": 0, "sick": None}
NONE = dict.fromkeys(("missing", "unproved", "doubled", "dropped", "down"), 0)


def scrapers(*down: int, last: bool = False, standing: str = "in") -> list[dict[str, Any]]:
    """Three of them with 15 targets each; these are down, or were when that was last known."""
    rows = []
    for n in range(3):
        state = "down" if n in down else "up"
        seen: dict[str, Any] = {"state": "unknown", "last_state": state} if last else {"state": state, "last_state": None}
        rows.append(seen | {"id": f"10.0.0.{n}:9090", "targets": 15, "standing": standing, "delivery_error": None} | REST)
    return rows


def keeping(count: int) -> list[dict[str, Any]]:
    """One of them keeps so many that nobody else has room for."""
    first, *others = scrapers()
    return [first | {"no_room": count}, *others]


def sick() -> list[dict[str, Any]]:
    """One of them reaches nothing."""
    first, *others = scrapers()
    return [first | {"sick": "reaches 0 of 15"}, *others]


def service(*, coverage: dict[str, Any] | None = None, **changed: Any) -> Service:
    part = {
        "targets": 45,
        "coverage": SEEN | NONE | (coverage or {}),
        "fits": {"unplaced": 0, "ownerless": 0},
        "held": None,
        "withheld": [],
        "membership": {"stale": False},
        "sources": [{"name": "file:/t.json", "stale": False}],
        "scrapers": scrapers(),
    } | changed
    return convert(Service, part)


def fleet(**changed: Any) -> Fleet:
    part = {
        "targets": 45,
        "coverage": SEEN | NONE,
        "fits": {"unplaced": 0, "ownerless": 0},
        "membership": {"stale": False},
        "scrapers": scrapers(),
    }
    return convert(Fleet, part | changed)


def test_a_fleet_is_not_good_while_a_change_of_one_of_its_services_is_held_or_a_list_is_old() -> None:
    assert summary(fleet()).level == "good"
    assert summary(fleet(services_held=["node"])).text.startswith("a change of node is held; ")
    assert summary(fleet(services_stale=["node", "db"])).text.startswith("no whole answer for node, db; ")
    assert {summary(fleet(**{key: ["node"]})).level for key in ("services_held", "services_stale")} == {"warn"}


def test_all_proved_a_moment_ago_and_nothing_doubted_is_good() -> None:
    assert summary(service()) == Summary("good", "45 of 45 targets seen scraped 6 s ago")
    assert summary(service(coverage={"dropped": 20, "covered": 25})).level == "good", "a job may drop what it likes"
    assert summary(service(coverage={"down": 22})).level == "good", "targets that are down are asked"


@pytest.mark.parametrize(
    ("changed", "level", "said"),
    [
        ({"coverage": {"unproved": 16, "covered": 29}}, "warn", "29 of 45 targets seen scraped 6 s ago (16 unproved)"),
        ({"coverage": {"missing": 2, "covered": 43}}, "bad", "43 of 45 targets seen scraped 6 s ago (2 missing)"),
        ({"coverage": {"doubled": 11}}, "warn", "(11 doubled)"),
        ({"coverage": {"age_s": 900.0}}, "warn", "45 of 45 targets seen scraped 900 s ago, which is old"),
        ({"coverage": {"at": None}}, "unknown", "the scrapers were not asked yet"),
        (
            {"coverage": {"dropped": 45, "covered": 0}},
            "warn",
            "(45 dropped): relabelling drops every one, so nothing is scr",
        ),
        ({"coverage": {"down": 23}}, "warn", "(23 down): most are asked without success"),
        ({"targets": 50}, "unknown", "45 of 45 targets seen scraped 6 s ago; there are 50 now"),
        ({"targets": None}, "unknown", "no plan yet"),
        ({"scrapers": scrapers(0, 2)}, "bad", "10.0.0.0:9090, 10.0.0.2:9090 down, still counted as alive with 30 targets"),
        ({"scrapers": scrapers(1, last=True)}, "bad", "10.0.0.1:9090 down, still counted as alive with 15 targets"),
        (
            {"scrapers": scrapers(0, standing="out"), "held": {"detail": "x"}},
            "bad",
            "10.0.0.0:9090 down, and nobody else is given the 15 targets of it",
        ),
        ({"scrapers": sick()}, "bad", "10.0.0.0:9090 sick: reaches 0 of 15"),
        (
            {"coverage": {"missing": 15, "covered": 30}, "scrapers": [{**one, "scraped": 0} for one in scrapers()[:1]]},
            "bad",
            "10.0.0.0:9090 scrapes nothing of its slice: does its list reach it?",
        ),
        ({"held": {"detail": "x"}}, "warn", "the plan is held"),
        ({"withheld": [{"detail": "x"}]}, "warn", "a change is held"),
        ({"membership": {"stale": True}}, "warn", "the scrapers are not known now"),
        ({"membership": {"stale": True, "state": "empty"}}, "bad", "no scraper is alive"),
        (
            {"membership": {"stale": False, "list_trouble": "status 403"}},
            "warn",
            "the list of scrapers cannot be had, the last one stays: status 403",
        ),
        ({"unsaved": "No space left on device"}, "warn", "the state is not saved: No space left on device"),
        ({"sources": [{"name": "s", "stale": True}]}, "warn", "no whole answer from s"),
        ({"fits": {"unplaced": 9, "ownerless": 9}}, "bad", "9 targets lack an owner: no room"),
        ({"fits": {"unplaced": 9, "ownerless": 2}}, "bad", "2 targets lack an owner: no room"),
        ({"fits": {"unplaced": 9, "ownerless": 0}}, "warn", "9 targets have fewer owners than wanted: no room"),
        ({"fits": {"unplaced": 1, "ownerless": 1}}, "bad", "1 target lacks an owner: no room"),
        ({"fits": {"unplaced": 9, "ownerless": 9}, "scrapers": []}, "bad", "9 targets lack an owner: no room"),
        ({"scrapers": keeping(9)}, "warn", "9 targets stay where they shall not be: no room elsewhere"),
        ({"fits": {"unplaced": 9, "ownerless": 9}, "scrapers": keeping(6)}, "bad", "9 targets lack an owner: no room"),
    ],
)
def test_what_is_not_proved_or_not_known_is_never_good(changed: dict[str, Any], level: str, said: str) -> None:
    found = summary(service(**changed))
    assert found.level == level
    assert said in found.text


def test_what_a_drained_scraper_keeps_is_not_taken_off_what_lacks_an_owner() -> None:
    """Who keeps a target for want of room is its owner: what fits is said of that."""
    members = tuple(Scraper(f"s{n}:1", f"s{n}", 1, weight=float(n > 0)) for n in range(3))
    pool, policy = pool_of([f"t{n}:1" for n in range(75)]), Policy(capacity=30)
    placed = place(pool, Ring(members, policy.virtual_nodes), policy)
    lacking = np.flatnonzero(placed.owners[:, 0] < 0)
    scrapers = placed.owners[:, 0].copy()
    scrapers[lacking[:10]] = [one.id for one in placed.scrapers].index("s0:1")
    has = scrapers >= 0
    zeros, names = np.zeros(has.sum()), tuple(one.id for one in placed.scrapers)
    claims = Claims(names, pool.ids[has], scrapers[has], zeros, zeros + NEVER_ENDS)
    found, kept = fit(owned_now(claims, placed)), without_room(claims, placed)
    assert (len(lacking), found.ownerless, kept) == (15, 5, {"s0:1": 10})
    said = summary(fleet(fits={"unplaced": found.unplaced, "ownerless": found.ownerless}, scrapers=keeping(10)))
    assert (said.level, "5 targets lack an owner: no room" in said.text) == ("bad", True)
    assert "10 targets stay where they shall not be" in said.text


def test_with_the_audit_off_nothing_is_called_good() -> None:
    found = summary(msgspec.structs.replace(service(), coverage=None))
    assert (found.level, "audit is off" in found.text) == ("unknown", True)


def test_coverage_from_before_the_death_of_two_of_three_is_not_the_first_thing_that_is_said() -> None:
    found = summary(service(scrapers=scrapers(0, 1), held={"detail": "2 of 3 are gone"}))
    dead, proved, held = found.text.split("; ")
    assert "still counted as alive with 30 targets" in dead
    assert (proved, held) == ("45 of 45 targets seen scraped 6 s ago", "the plan is held") or proved == "the plan is held"
    assert found.level == LEVELS[-1]


def test_who_is_dead_and_counts_as_dead_is_no_trouble_of_what_is_scraped() -> None:
    assert summary(service(scrapers=scrapers(1, standing="out"))).level == "good"


# --- where it comes from ---------------------------------------------------------------------------------------------


async def test_status_and_page_say_what_is_not_proved_beside_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as r:  # its scrapers have health pages and no API: nothing can be proved

        async def looked() -> bool:
            one = await r.data("/api/v1/services/node")
            return one["coverage"]["at"] is not None and one["coverage"]["targets"] == 40

        await until(looked, "the audit looked once")
        one = await r.data("/api/v1/services/node")
        assert one["coverage"]["unproved"] == 40
        assert one["summary"]["level"] == "warn"
        assert "0 of 40 targets seen scraped" in one["summary"]["text"]
        page = await shown(r, "/")
        assert one["summary"]["text"].split(" seen")[0] in page.text
        assert "40 targets are not proved to be scraped: who has them cannot be asked" in page.text


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
async def test_how_old_a_look_is_does_not_go_by_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    async with running(tmp_path) as r:

        async def seen() -> tuple[float | None, float]:
            coverage = (await r.data("/api/v1/services/node"))["coverage"]
            return coverage["at"], coverage["age_s"]

        async def is_old() -> bool:
            at, age_s = await seen()
            return at is not None and age_s >= 0.5

        async def goes_on() -> bool:
            """Compared only if no other look came meanwhile."""
            (at, before), by_the_clock = await seen(), time.time
            with monkeypatch.context() as clock:
                clock.setattr(time, "time", lambda: by_the_clock() + step_s)
                again, after = await seen()
            assert again != at or before <= after < before + 600.0
            return again == at

        await until(is_old, "the audit looked once, and that is some time ago")
        await until(goes_on, "the same look was seen before and after the step")


async def test_with_consul_gone_each_scraper_has_its_last_state_and_consul_is_named_once() -> None:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        membership = consul_membership(client, None, log.get())
        async with published(membership) as answers:
            await register(client, 1)
            await register(client, 2)
            await until(lambda: len(getattr(answers[-1], "value", ())) == 2 if answers else False, "both")
            await put(client, "/v1/agent/check/fail/service:x-2")
            await until(lambda: len(getattr(answers[-1], "value", ())) == 1, "one is dead")
            consul.fault = "status 500"
            consul.wake()
            await until(lambda: isinstance(answers[-1], Unknown), "Consul is gone")
            states = {one.id: one for one in membership.nodes()}
            up, down = (states[scraper(("10.0.0.1", port)).id] for port in (1, 2))
            assert [(one.state, one.last) for one in (up, down)] == [("unknown", "up"), ("unknown", "down")]
            assert "500" not in up.reason + down.reason, "that is said of the membership"


class Failing:
    """A delivery that says what it is told to."""

    means, pulled = "file", False

    def __init__(self, error: str) -> None:
        self.error = error

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        return [Outcome("a:1", "failed" if self.error else "written", self.error)]


@pytest.mark.parametrize("errors", [("the disk is full", ""), ("", "the disk is full")])
async def test_of_two_deliveries_of_one_kind_neither_hides_the_other(errors: tuple[str, str]) -> None:
    logger: Logger = structlog.get_logger()
    failing = [Failing(error) for error in errors]
    couriers = ServiceDeliveries("f", "s", failing, Leadership(), lambda: None, Metrics(), logger)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert not await couriers.deliver([], remembered=False, pushes=True)
    assert {name: outcomes[0].error for name, outcomes in couriers.outcomes.items()} == {
        "file": errors[0],
        "file 2": errors[1],
    }
    assert [line["event"] for line in lines] == ["delivery_failed"], "told once"


class AllFail(Failing):
    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        return [Outcome(f"a{n}:1", "failed", self.error) for n in range(1000)]


async def test_of_a_thousand_that_fail_at_once_some_are_named_and_the_rest_counted_once() -> None:
    logger: Logger = structlog.get_logger()
    couriers = ServiceDeliveries("f", "s", [AllFail("no route")], Leadership(), lambda: None, Metrics(), logger)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert not await couriers.deliver([], remembered=False, pushes=True)
    assert [line.get("scraper") for line in lines] == [f"a{n}:1" for n in range(FAILED_SAID_MOST)] + [None]
    assert lines[-1]["scrapers"] == 1000 - FAILED_SAID_MOST
    assert {line["error"] for line in lines} == {"no route"}


async def test_what_is_not_scraped_yet_is_no_warning_and_what_lasts_is() -> None:
    gone = Scraper("127.0.0.1:1", "127.0.0.1", 1)
    pool = FleetPool.of({"x": Part(pool_of(["t:1"]))})
    placement = place(pool, Ring((gone,), 8), Policy(8))
    logger: Logger = structlog.get_logger()
    with structlog.testing.capture_logs() as lines:
        audit = Audit(
            AuditKeys(interval=0.02, timeout=1.0),
            PLAIN,
            {"x": Look("x", "x", 0, logger)},
            in_force=lambda: placement,
            waiting=lambda: (),
            receive=lambda _: None,
            wanted=asyncio.Event(),
            look_at=None,
            log=logger,
            lasts_s=0.2,
        )
        async with in_task(audit.run()):
            await until(lambda: len([x for x in lines if x["event"] == "coverage"]) == 2, "both lines")
            await asyncio.sleep(0.1)
    assert [x["log_level"] for x in lines if x["event"] == "coverage"] == ["info", "warning"]
