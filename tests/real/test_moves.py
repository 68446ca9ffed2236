"""Planned moves between real servers when something is not as it should be: no target misses a scrape.

A missed scrape is a whole interval in which nobody scraped a live target with success; a refused scrape is none.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from testbed.front import HANGS
from testbed.proxy import Down, FaultProxy

from tests.gaps import Tally
from tests.real.conftest import server
from tests.real.moving import Job, Kind, Lab, lab
from tests.waiting import slower, until

INTERVAL_S = 3.0
OVERLAP = "5s"
JOB = "node"

EACH = ["prometheus", "prometheus3"]


def job(**changes: Any) -> Job:
    service = {"handover": {"overlap": OVERLAP}, **changes.pop("service", {})}
    return Job(JOB, interval_s=changes.pop("interval_s", INTERVAL_S), service=service, **changes)


def of(name: str, count: int = 3, *, agent: bool = False, check: str | None = "1s") -> list[Kind]:
    return [Kind(server(name), agent, check)] * count


async def cost(fleet: Lab, seconds: float, since: float, name: str = JOB) -> Tally:
    """What it cost from ``since`` on until after so many seconds."""
    await asyncio.sleep(seconds)
    return fleet.tally(name, since)


def held_by_others(fleet: Lab, new: int) -> set[str]:
    """What is in a slice of anybody but this scraper."""
    others = [scraper for i, scraper in enumerate(fleet.scrapers) if i != new]
    return {address for scraper in others for address in fleet.slice_of(JOB, scraper)}


@pytest.mark.row(67, did="a scraper that reaches no target joins")
async def test_a_scraper_that_reaches_no_target_joins_and_takes_nothing_over(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3"), [job()], running=2) as fleet:
        blind, since = fleet.scrapers[2], time.monotonic()
        fleet.exporter.refused = {(blind.id, "")}
        await fleet.start(blind)
        await until(lambda: bool(fleet.slice_of(JOB, blind)), "it has a slice")
        found = await cost(fleet, 25, since)
        assert found.missed == 0, found


@pytest.mark.row(67, did="a scraper loses the way to all of its targets, then to most of them, and stays ready")
@pytest.mark.parametrize("reaches", [0, 2])
async def test_a_scraper_that_fails_what_others_reach_is_named_and_replaced(tmp_path: Path, reaches: int) -> None:
    service = {"audit": {"interval": "4s", "timeout": "2s"}, "job": JOB}
    async with lab(tmp_path, of("prometheus3"), [job(count=30, service=service)]) as fleet:
        sick, since = fleet.scrapers[0], time.monotonic()
        lost = fleet.slice_of(JOB, sick)[reaches:]
        fleet.exporter.refused = {(sick.id, address) for address in fleet.targets[JOB]} - {
            (sick.id, address) for address in fleet.slice_of(JOB, sick)[:reaches]
        }

        async def named() -> bool:
            return any(one["id"] == sick.id and one["sick"] for one in (await fleet.described(JOB))["scrapers"])

        await until(named, "the sick one is named", 40)
        await until(lambda: set(lost) <= fleet_scrapes(fleet, sick), "what it fails is scraped by others", 40)
        assert fleet.log_has(" msg=scraper_sick ")
        assert fleet.tally(JOB, since).longest_s < 40 * slower(), "two audits, and what a hand-over takes"


def fleet_scrapes(fleet: Lab, but: Any) -> set[str]:
    """The targets that anybody but this scraper scrapes now."""
    return {address for address, by in fleet.scraping(JOB).items() if by - {but.id}}


@pytest.mark.row(68, did="a live scraper is drained, with room for 12 of its targets and the others' 15 elsewhere")
async def test_what_has_no_room_elsewhere_stays_with_the_drained_scraper(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3"), [job(service={"placement": {"capacity": 6}})]) as fleet:
        drained, since = fleet.scrapers[0], time.monotonic()
        await fleet.drain(drained, [JOB])
        found = await cost(fleet, 25, since)
        assert found.missed == 0, found
        assert fleet.load_of(JOB, drained) == 3, "15 targets, room for 12 elsewhere"
        assert fleet.settled(JOB)


async def test_another_identity_is_the_same_three_servers(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3"), [job(service={"guard": {"panic_hold": "2s"}})]) as fleet:
        since = time.monotonic()
        fleet.services[JOB]["identity"] = "host"
        answer = await fleet.reload()
        found = await cost(fleet, 40, since)
        assert found.missed == 0, found
        assert len((await fleet.described(JOB))["scrapers"]) == 3, answer.text()
        assert len(fleet.log_has(" msg=reshard ")) < 10, "it falls quiet"


async def test_a_renamed_service_goes_on_with_its_drains_and_its_doubts(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3"), [job()]) as fleet:
        path = str(tmp_path / "out" / JOB / "{scraper}.json")
        fleet.services[JOB] |= {"delivery": [{"file": {"path": path}}], "audit": {"interval": "5s"}, "job": JOB}
        assert (await fleet.reload()).status == 200
        drained = fleet.scrapers[0]
        await fleet.drain(drained, [JOB])
        await until(lambda: fleet.load_of(JOB, drained) == 0 and fleet.settled(JOB), "drained", 40)
        since = time.monotonic()
        fleet.services = {"renamed": fleet.services[JOB]}
        answer = await fleet.reload()
        found = await cost(fleet, 15, since)
        assert fleet.slice_of(JOB, drained) == [], answer.text()
        assert found.missed == 0, found
        fleet.write_targets(JOB, fleet.targets[JOB][:2])
        fleet.services = {"third": fleet.services["renamed"]}
        answer = await fleet.reload()
        found = await cost(fleet, 15, since)
        assert found.missed == 0, f"a source that says 2 of 15 at that moment is doubted: {found} {answer.text()}"


async def test_seven_of_ten_stopped_in_a_row_are_dead_at_once(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3", 10), [job(count=30)]) as fleet:
        left = fleet.scrapers[:3]
        for scraper in fleet.scrapers[3:]:
            scraper.signal(signal.SIGTERM)
            await asyncio.sleep(1)
        await until(lambda: held_by(fleet, left) == set(fleet.live(JOB)), "the three have everything, without a hold", 15)


def held_by(fleet: Lab, scrapers: list[Any]) -> set[str]:
    return {address for scraper in scrapers for address in fleet.slice_of(JOB, scraper)}


async def test_a_service_that_is_taken_out_is_said_or_its_slices_are_emptied(tmp_path: Path) -> None:
    jobs = [job(), Job("retired", interval_s=INTERVAL_S)]
    async with lab(tmp_path, of("prometheus3"), jobs) as fleet:
        before = len(fleet.log_has("retired"))
        del fleet.services["retired"]
        assert (await fleet.reload()).status == 200
        await asyncio.sleep(10)
        emptied = not any(fleet.slice_of("retired", scraper) for scraper in fleet.scrapers)
        assert fleet.log_has("retired")[before:] or emptied, "its files are scraped for ever and nothing is said"


@pytest.mark.row(51, did="a job whose relabelling drops half of the targets; a drain")
@pytest.mark.parametrize("name", [*EACH, "vmagent"])
async def test_what_relabelling_drops_is_not_missing_and_no_hand_over_waits_for_it(tmp_path: Path, name: str) -> None:
    async with lab(tmp_path, of(name), [job(halved=True, service={"handover": {"overlap": "10m"}})]) as fleet:
        drained, since = fleet.scrapers[0], time.monotonic()
        await fleet.drain(drained, [JOB])
        await until(lambda: fleet.slice_of(JOB, drained) == [], "handed over by proof, not by time", 40)
        await asyncio.sleep(INTERVAL_S)
        found = fleet.tally(JOB, since)
        assert found.missed == 0, found

        async def whole() -> bool:
            said = await fleet.coverage(JOB)
            return said.get("ratio") == 1.0 and said.get("missing") == 0

        await until(whole, "coverage is 1.0", 20)


@pytest.mark.row(48, did="the new owner is over its target_limit: it lists all targets as active and asks none")
@pytest.mark.parametrize("name", EACH)
async def test_over_its_target_limit_the_new_owner_asks_nobody_and_the_old_one_stays(tmp_path: Path, name: str) -> None:
    async with lab(tmp_path, of(name), [job()], running=2) as fleet:
        limited, since = fleet.scrapers[2], time.monotonic()
        limited.configure([fleet.scrape_job(fleet.jobs[JOB], limited) | {"target_limit": 2}])
        await fleet.start(limited)
        await until(lambda: len(fleet.slice_of(JOB, limited)) > 2, "it has a slice")
        found = await cost(fleet, 25, since)
        assert found.missed == 0, found
        assert held_by_others(fleet, 2) == set(fleet.live(JOB)), "the old owners keep them"


@pytest.mark.row(48, did="every scraper is over its target_limit")
@pytest.mark.parametrize("name", EACH)
async def test_targets_that_are_listed_but_never_asked_are_not_covered(tmp_path: Path, name: str) -> None:
    async with lab(tmp_path, of(name), [job()]) as fleet:
        for scraper in fleet.scrapers:
            scraper.configure([fleet.scrape_job(fleet.jobs[JOB], scraper) | {"target_limit": 2}])
            scraper.signal(signal.SIGHUP)

        async def told() -> bool:
            said = await fleet.coverage(JOB)
            return bool(said) and said["ratio"] == 0.0 and "target_limit" in json.dumps(said)

        await until(told, "coverage is 0, and the reason is named", 40)


@pytest.mark.row(48, did="a scraper joins that has other jobs, and not this one")
@pytest.mark.parametrize("name", [*EACH, "vmagent"])
async def test_a_scraper_without_the_job_joins_and_takes_nothing_over(tmp_path: Path, name: str) -> None:
    """A fresh server, which has no job but its own yet: time alone ended the hand-over to it, and nobody scraped."""
    async with lab(tmp_path, of(name), [job()], running=2) as fleet:
        fresh, since = fleet.scrapers[2], time.monotonic()
        own = {"job_name": "own", "static_configs": [{"targets": [fresh.id]}]}
        fresh.configure([own])
        await fleet.start(fresh)
        await until(lambda: bool(fleet.slice_of(JOB, fresh)), "it has a slice")
        found = await cost(fleet, 30, since)
        assert found.missed == 0, found
        assert held_by_others(fleet, 2) == set(fleet.live(JOB)), "the old owners keep them"
        assert "no scrape pool 'node'" in json.dumps(await fleet.coverage(JOB)), "the reason is named"
        fresh.configure([own, fleet.scrape_job(fleet.jobs[JOB], fresh)])
        fresh.signal(signal.SIGHUP)
        await until(lambda: held_by_others(fleet, 2) != set(fleet.live(JOB)), "seen, and handed over", 40)


@pytest.mark.parametrize("answer", [HANGS, 503])
async def test_nobody_lets_go_to_a_scraper_whose_api_does_not_answer(tmp_path: Path, answer: int) -> None:
    async with lab(tmp_path, of("prometheus3"), [job()], running=2, fronted=[2]) as fleet:
        mute, since = fleet.scrapers[2], time.monotonic()
        front = fleet.fronts[mute.id]
        front.answers["/api/"] = answer
        await fleet.start(mute)
        await until(lambda: bool(fleet.slice_of(JOB, mute)), "it has a slice")
        found = await cost(fleet, 25, since)
        assert found.missed == 0, found
        assert held_by_others(fleet, 2) == set(fleet.live(JOB)), "the old owners keep them"
        front.answers.clear()
        await until(lambda: held_by_others(fleet, 2) != set(fleet.live(JOB)), "seen, and handed over", 40)


@pytest.mark.row(47, did="a real Prometheus that replays its WAL for 20 s, probed on /-/healthy")
@pytest.mark.parametrize(("name", "agent"), [("prometheus", False), ("prometheus3", False), ("prometheus3", True)])
async def test_nobody_lets_go_to_a_scraper_that_replays_its_wal(tmp_path: Path, name: str, agent: bool) -> None:
    kinds = of(name, agent=agent)
    async with lab(tmp_path, kinds, [job()]) as fleet:
        fleet.services[JOB]["scrapers"]["probe"]["path"] = "/-/healthy"
        assert (await fleet.reload()).status == 200
        returning, *left = fleet.scrapers
        await returning.stop()
        await until(lambda: held_by(fleet, left) == set(fleet.live(JOB)), "its targets are with the others", 30)
        await until(lambda: fleet.load_of(JOB, returning) == 0 and fleet.settled(JOB), "and scraped by them", 40)
        since = time.monotonic()
        await fleet.start_with_replay(returning, 20)
        await until(lambda: fleet.load_of(JOB, returning) > 0 and fleet.settled(JOB), "it has its targets again", 60)
        found = fleet.tally(JOB, since)
        assert found.missed == 0, found


async def misses_nothing_in_a_drain(fleet: Lab) -> None:
    drained, since = fleet.scrapers[0], time.monotonic()
    await fleet.drain(drained, [JOB])
    await until(lambda: fleet.load_of(JOB, drained) == 0 and fleet.settled(JOB), "drained", 80)
    found = fleet.tally(JOB, since)
    assert found.missed == 0, found


@pytest.mark.row(49, did="a drain of a job with an interval of twenty times the overlap")
async def test_an_interval_longer_than_the_overlap_misses_nothing(tmp_path: Path) -> None:
    service = {"handover": {"overlap": "1s"}}
    async with lab(tmp_path, of("prometheus3"), [job(interval_s=20.0, count=60, service=service)]) as fleet:
        await misses_nothing_in_a_drain(fleet)


@pytest.mark.row(50, did="vmagents that ask for their lists every 15 s, with an overlap of 5 s")
async def test_the_old_owner_stays_until_the_new_one_has_asked_for_its_list(tmp_path: Path) -> None:
    async with lab(tmp_path, of("vmagent", check="15s"), [job(delivery="http_sd")]) as fleet:
        await misses_nothing_in_a_drain(fleet)


@pytest.mark.row(50, did="a Prometheus that stopped asking for its list")
async def test_a_scraper_that_stopped_asking_for_its_list_gets_nobody_to_let_go(tmp_path: Path) -> None:
    async with lab(tmp_path, of("prometheus3"), [job(delivery="http_sd")]) as fleet:
        drained, deaf, _ = fleet.scrapers
        async with FaultProxy("127.0.0.1", int(fleet.controller.url.rpartition(":")[2])) as between:
            fleet.http_sd_at = f"http://{between.address}"
            fleet.configure(deaf)
            deaf.signal(signal.SIGHUP)
            await asyncio.sleep(8)
            await until(lambda: fleet.load_of(JOB, deaf) > 0 and fleet.settled(JOB), "it asks through the proxy", 40)
            between.fault = Down()
            since = time.monotonic()
            await fleet.drain(drained, [JOB])
            found = await cost(fleet, 25, since)
            assert found.missed == 0, found
            between.fault = None
            await until(lambda: fleet.load_of(JOB, drained) == 0 and fleet.settled(JOB), "it asks again", 60)
            assert fleet.tally(JOB, since).missed == 0
