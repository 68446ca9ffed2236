"""Three Prometheus with eight jobs each: eight shard services of one fleet. Real servers, 2.42 and 3.5."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from promring.demo.scraper import ScraperProcess
from tests.real.conftest import server
from tests.real.moving import FLEET, Job, Kind, Lab, Means, lab, service_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("many_watchers")

JOBS = [f"job-{n}" for n in range(8)]
COUNT = 6
"""Targets of each job."""
INTERVAL_S = 3.0
LOAD_FACTOR = 1.10
PROBE_S, AUDIT_S = 1.0, 2.0
EACH: tuple[Means, ...] = ("file", "http_sd")


def job(name: str, means: Means = "file") -> Job:
    return Job(name, means, INTERVAL_S, count=COUNT)


@asynccontextmanager
async def fleet_of(
    folder: Path, means: Means, *, scrapers: int = 3, spare: Iterable[str] = (), **options: Any
) -> AsyncIterator[Lab]:
    """``spare``: jobs that the scrapers have, too, and that promring does not know yet."""
    kinds = [Kind(server(("prometheus", "prometheus3")[n % 2])) for n in range(scrapers)]
    jobs = [job(name, means) for name in (*JOBS, *spare)]
    async with lab(folder, kinds, jobs, together={"handover": {"overlap": "5s"}}, start=False, **options) as fleet:
        for name in spare:
            del fleet.jobs[name], fleet.services[name]
        fleet.controller.configure(fleet.config())
        await fleet.controller.start()
        await fleet.controller.until(lambda: fleet.controller.is_ready(fleet.session), "promring")
        await fleet.quiet()
        yield fleet


def load(fleet: Lab, scraper: ScraperProcess) -> int:
    """How many targets of all jobs it scrapes now."""
    return sum(fleet.load_of(name, scraper) for name in fleet.jobs)


def even(fleet: Lab, *scrapers: ScraperProcess) -> bool:
    """None of these scrapes more than the load factor times its share of all jobs' targets, and nobody else anything."""
    most = math.ceil(LOAD_FACTOR * sum(len(fleet.live(name)) for name in fleet.jobs) / len(scrapers))
    others = [one for one in fleet.scrapers if one not in scrapers]
    return all(0 < load(fleet, one) <= most for one in scrapers) and not any(load(fleet, one) for one in others)


async def settled(fleet: Lab, *scrapers: ScraperProcess) -> None:
    """Wait until these, and they alone, scrape every target of every job."""
    await until(
        lambda: all(map(fleet.settled, fleet.jobs)) and even(fleet, *scrapers),
        "each target of each job has one scraper, and the load of all jobs is even",
        60,
    )


async def described(fleet: Lab) -> dict[str, Any]:
    found: dict[str, Any] = await fleet.controller.ask(fleet.session, f"fleets/{FLEET}")
    return found


def missed(fleet: Lab, since: float) -> dict[str, int]:
    """By job, where any scrape was missed."""
    lost = {name: fleet.tally(name, since).missed for name in fleet.jobs}
    return {name: count for name, count in lost.items() if count}


@pytest.mark.parametrize("means", [*EACH, "agent"])
async def test_eight_jobs_are_one_even_load_and_a_drain_misses_no_scrape_of_any(tmp_path: Path, means: Means) -> None:
    async with fleet_of(tmp_path, means) as fleet:
        await settled(fleet, *fleet.scrapers)
        found = await described(fleet)
        assert found["services"] == JOBS
        assert found["targets"] == found["load"] == len(JOBS) * COUNT
        assert {one["id"]: one["load"] for one in found["scrapers"]} == {s.id: load(fleet, s) for s in fleet.scrapers}
        drained, since = fleet.scrapers[0], time.monotonic()
        await fleet.drain(drained, fleet.jobs)
        await settled(fleet, *fleet.scrapers[1:])
        await fleet.drain(drained, fleet.jobs, back=True)
        await settled(fleet, *fleet.scrapers)
        assert not missed(fleet, since)


@pytest.mark.parametrize("means", EACH)
async def test_a_death_and_a_join_are_of_all_jobs_at_once(tmp_path: Path, means: Means) -> None:
    async with fleet_of(tmp_path, means, scrapers=4, running=3) as fleet:
        dead, *living, joiner = fleet.scrapers
        await settled(fleet, dead, *living)
        had = {name: dead_has for name in JOBS if (dead_has := fleet.load_of(name, dead))}
        assert len(had) > 1, "targets of several jobs"
        await dead.kill()
        await settled(fleet, *living)
        since = time.monotonic()
        await fleet.start(joiner)
        await settled(fleet, *living, joiner)
        assert not missed(fleet, since), "a join is a planned move"
        lines = fleet.log_has(" msg=node_update_reshard ")
        assert {line.split("srv_name=")[1].split(" ")[0] for line in lines} == {FLEET}, "said once, of the fleet"
        assert len(lines) == len(set(lines)) == 2, lines


async def test_a_job_whose_source_is_dead_is_held_alone(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "file") as fleet:
        sick, well = JOBS[0], JOBS[1]

        async def is_so(name: str, targets: int, held: str = "", trouble: str = "") -> None:
            async def so() -> bool:
                found = await fleet.described(name)
                doubts, said = [one["reason"] for one in found["withheld"]], found["sources"][0]["reason"]
                return (found["targets"], doubts) == (targets, [held] if held else []) and trouble in said

            await until(so, f"{name} has {targets} targets, held: {held or 'nothing'}, its source: {trouble or 'well'}")

        (tmp_path / "targets" / f"{sick}.json").write_text("[{")
        await is_so(sick, COUNT, trouble="truncated")
        fleet.write_targets(well, fleet.targets[well][1:])
        await is_so(well, COUNT - 1)
        fleet.write_targets(sick, [])
        await is_so(sick, COUNT, "source_empty", "empty list")
        fleet.write_targets(well)
        await is_so(well, COUNT)
        metrics = (await fleet.controller.get(fleet.session, "/metrics")).body.decode()
        doubted = [line for line in metrics.splitlines() if line.startswith("promring_source_doubted{")]
        assert len(doubted) == 1
        assert f'reason="source_empty",service="{sick}"' in doubted[0]
        await settled(fleet, *fleet.scrapers)
        assert (await fleet.controller.post(fleet.session, f"/api/v1/fleets/{FLEET}/release")).status == 409
        assert (await fleet.controller.post(fleet.session, f"/api/v1/services/{sick}/release")).status == 200
        await is_so(sick, 0)
        await until(lambda: not any(fleet.slice_of(sick, scraper) for scraper in fleet.scrapers), "its slices are empty")


async def test_a_job_whose_source_never_answered_waits_alone(tmp_path: Path) -> None:
    kinds, late = [Kind(server("prometheus3"))] * 2, JOBS[-1]
    async with lab(tmp_path, kinds, [job(name) for name in JOBS], together={}, start=False) as fleet:
        (tmp_path / "targets" / f"{late}.json").unlink()
        fleet.controller.configure(fleet.config())
        await fleet.controller.start()
        await until(lambda: all(map(fleet.settled, JOBS[:-1])), "the other jobs are scraped", 60)
        assert not any(fleet.file_of(late, scraper).exists() for scraper in fleet.scrapers)
        held, others = await fleet.described(late), await fleet.described(JOBS[0])
        assert (held["targets"], held["held"]["reason"]) == (None, "targets_unknown")
        assert (others["targets"], others["held"], others["withheld"]) == (COUNT, None, [])
        await fleet.controller.until(lambda: fleet.controller.is_ready(fleet.session), "promring: it serves seven of eight")
        fleet.write_targets(late)
        await settled(fleet, *fleet.scrapers)


async def placed(fleet: Lab, name: str) -> dict[str, tuple[dict[str, str], str]]:
    """The targets of a job by address: labels and owner."""
    found = await fleet.controller.ask(fleet.session, f"services/{name}/targets", limit="1000")
    return {one["target"]: (one["labels"], one["scraper"]) for one in found["targets"]}


@pytest.mark.row(66, did="one of eight jobs of three Prometheus is removed by a reload, and another one added")
@pytest.mark.parametrize("means", EACH)
async def test_a_job_is_removed_and_another_one_added_by_a_reload(tmp_path: Path, means: Means) -> None:
    added, removed, kept = "added", JOBS[0], JOBS[1:]
    async with fleet_of(tmp_path, means, spare=[added]) as fleet:
        await settled(fleet, *fleet.scrapers)
        before, since = {name: await placed(fleet, name) for name in kept}, time.monotonic()
        del fleet.jobs[removed], fleet.services[removed]
        fleet.jobs[added] = job(added, means)
        fleet.services[added] = service_of(fleet, fleet.jobs[added])
        answer = await fleet.reload()
        assert answer.status == 200, answer.text()
        await settled(fleet, *fleet.scrapers)
        assert not {name for name in kept if fleet.tally(name, since).missed}
        moved = 0
        for name, had in before.items():
            has = await placed(fleet, name)
            assert {address: labels for address, (labels, _) in has.items()} == {a: labels for a, (labels, _) in had.items()}
            moved += sum(has[address] != had[address] for address in had)
        assert moved <= 2 * COUNT, "no more than what has come and what has gone can push"


async def test_a_scraper_is_probed_once_and_asked_once_an_interval_however_many_jobs_it_has(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "file", fronted=range(3)) as fleet:
        fleet.fleet["audit"] = {"interval": f"{AUDIT_S:g}s", "timeout": f"{AUDIT_S:g}s"}
        assert (await fleet.reload()).status == 200
        await settled(fleet, *fleet.scrapers)

        async def at_rest() -> bool:
            found = await described(fleet)
            return found["handing_over"] == 0 and all(one["state"] == "up" for one in found["scrapers"])

        await until(at_rest, "no hand-over is going on, and each scraper has its first verdict")
        fronts, since = list(fleet.fronts.values()), time.monotonic()
        for front in fronts:
            front.asked.clear()
        await until(lambda: all(front.asked["/api/v1/targets"] >= 5 for front in fronts), "five audits", 30)
        seconds = time.monotonic() - since
        for front in fronts:
            births = {"/api/v1/status/runtimeinfo"}  # asked of one that begins to answer again, as on a busy machine
            assert set(front.asked) - births == {"/-/ready", "/api/v1/targets"}
            assert front.asked["/-/ready"] <= seconds / (PROBE_S * 0.9) + 2
            assert front.asked["/api/v1/targets"] <= seconds / (AUDIT_S * 0.9) + 2


@pytest.mark.row(
    61, did="a cold start with one of four scrapers up, wait_for 3 within 10 min; then two more, one after the other"
)
async def test_at_a_cold_start_the_first_plan_waits_for_as_many_scrapers_as_it_is_told(tmp_path: Path) -> None:
    kinds, wanted = [Kind(server("prometheus3"))] * 4, {"wait_for": {"scrapers": 3, "at_most": "10m"}}
    async with lab(tmp_path, kinds, [job(name) for name in JOBS[:2]], together=wanted, running=1, start=False) as fleet:
        fleet.controller.configure(fleet.config())
        await fleet.controller.start()

        async def waits(up: int) -> bool:
            if not (found := await described(fleet)):
                return False  # the controller does not listen yet
            states = [one["state"] for one in found["scrapers"]]
            return states.count("up") == up and (found["held"] or {}).get("reason") == "warming_up"

        await until(lambda: waits(1), "one is up, and the plan waits")
        await fleet.start(fleet.scrapers[1])
        await until(lambda: waits(2), "two are up, and the plan waits")
        assert not any(fleet.file_of(name, scraper).exists() for name in fleet.jobs for scraper in fleet.scrapers)
        assert not await fleet.controller.is_ready(fleet.session)
        await fleet.start(fleet.scrapers[2])
        await settled(fleet, *fleet.scrapers[:3])
        assert len(fleet.log_has(" msg=reshard ")) == 1, "one plan, for all three"
