"""One answer of a scraper about the jobs of several services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import structlog
from aiohttp import web

from promring.audit import absent
from promring.audit.look import Look
from promring.audit.settings import AuditKeys
from promring.audit.watch import Audit
from promring.config.scraper_api import PLAIN
from promring.core.fragment import ID_LABEL
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.model import Placement, Scraper
from promring.telemetry.log import Logger
from tests.hostile.drive import running as in_task
from tests.laws.strategies import pool_of
from tests.waiting import until


class Server:
    """A scraper that has a target of the job ``known`` and of no other. ``drops``: the id of a target of ``lacking`` that
    its relabelling drops.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.id = 0
        self.drops: int | None = None

    async def targets(self, request: web.Request) -> web.Response:
        self.asked.append(request.query_string)
        scraped = {"lastScrape": datetime.now(UTC).isoformat(), "health": "up"}
        active = [{"scrapePool": "known", "discoveredLabels": {ID_LABEL: f"{self.id:016x}"}, **scraped}]
        dropped: list[dict[str, object]] = []
        if self.drops is not None:
            dropped = [{"scrapePool": "lacking", "discoveredLabels": {ID_LABEL: f"{self.drops:016x}"}}]
        return web.json_response({"status": "success", "data": {"activeTargets": active, "droppedTargets": dropped}})


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, Scraper]]:
    server, app = Server(), web.Application()
    app.router.add_get("/api/v1/targets", server.targets)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        yield server, Scraper(f"127.0.0.1:{port}", "127.0.0.1", port)
    finally:
        await runner.cleanup()


def auditing(looks: dict[str, Look], placement: Placement, outside: Sequence[Scraper] = ()) -> Audit:
    return Audit(
        AuditKeys(interval=0.02, timeout=1.0),
        PLAIN,
        looks,
        in_force=lambda: placement,
        waiting=lambda: (),
        receive=lambda _: None,
        wanted=asyncio.Event(),
        look_at=None,
        log=structlog.get_logger(),
        outside=lambda: outside,
    )


async def test_a_job_that_is_not_there_is_said_once_and_not_where_nothing_of_it_is_to_be() -> None:
    async with serving() as (server, scraper):
        lists = {"known": ["t:1"], "lacking": ["t:2"], "empty": []}
        pool = FleetPool.of({name: Part(pool_of(some), salt=salt_of("main", name)) for name, some in lists.items()})
        server.id = int(pool.parts["known"].pool.ids[0])
        placement = place(pool, Ring((scraper,), 8), Policy(8))
        logger: Logger = structlog.get_logger()
        looks = {name: Look(name, name, salt_of("main", name), logger) for name in lists}
        with structlog.testing.capture_logs() as lines:
            audit = auditing(looks, placement)
            async with in_task(audit.run()):
                await until(lambda: len(server.asked) >= 5, "five looks")
        said = [(line["event"], line["service"], line["error"]) for line in lines if line["log_level"] == "warning"]
        why = "(the job_name of its targets), or its list did not reach that server yet"
        assert said == [("job_missing", "lacking", f"no scrape pool 'lacking' {why}; there is known")]
        found = looks["lacking"].coverage
        assert (looks["lacking"].failed, found and (len(found.missing), len(found.unproved))) == ({}, (1, 0)), "not scraped"
        assert server.asked.count("state=active") >= 4, "one question for all jobs"
        assert server.asked.count("state=dropped&scrapePool=lacking") == 1, "what it drops is asked for now and then only"


async def test_an_answer_is_not_read_again_for_a_job_of_which_the_scraper_shall_have_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Prometheus shows no pool whose list is empty, and small jobs leave many scrapers with an empty one."""

    def read_again(_: bytes) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(absent, "active_targets", read_again)
    async with serving() as (server, scraper):
        lists = {"known": ["t:1"], "empty": []}
        pool = FleetPool.of({name: Part(pool_of(some), salt=salt_of("main", name)) for name, some in lists.items()})
        server.id = int(pool.parts["known"].pool.ids[0])
        placement = place(pool, Ring((scraper,), 8), Policy(8))
        logger: Logger = structlog.get_logger()
        looks = {name: Look(name, name, salt_of("main", name), logger) for name in lists}
        audit = auditing(looks, placement)
        async with in_task(audit.run()):
            await until(lambda: looks["known"].coverage is not None, "a look")
    assert (set(looks["known"].seen), looks["known"].failed) == ({scraper.id}, {})


async def test_a_job_of_which_relabelling_drops_all_that_a_scraper_has_is_there() -> None:
    async with serving() as (server, scraper):
        pool = FleetPool.of(
            {name: Part(pool_of([f"{name}:1"]), salt=salt_of("main", name)) for name in ("known", "lacking")}
        )
        server.id, server.drops = (int(pool.parts[name].pool.ids[0]) for name in ("known", "lacking"))
        placement = place(pool, Ring((scraper,), 8), Policy(8))
        logger: Logger = structlog.get_logger()
        looks = {name: Look(name, name, salt_of("main", name), logger) for name in pool.names}
        audit = auditing(looks, placement)
        async with in_task(audit.run()):
            await until(lambda: looks["lacking"].coverage is not None, "a look that was compared")
        assert looks["lacking"].failed == {}
        found = looks["lacking"].coverage
        assert found is not None
        assert (len(found.dropped), len(found.missing)) == (1, 0)


async def test_a_scraper_that_shall_have_none_of_the_only_job_is_not_warned_of() -> None:
    async with serving() as (server, scraper):
        pool = FleetPool.of({"lacking": Part(pool_of([]), salt=salt_of("main", "lacking"))})
        placement = place(pool, Ring((scraper,), 8), Policy(8))
        logger: Logger = structlog.get_logger()
        with structlog.testing.capture_logs() as lines:
            audit = Audit(
                AuditKeys(interval=0.02, timeout=1.0),
                PLAIN,
                {"lacking": Look("lacking", "lacking", salt_of("main", "lacking"), logger)},
                in_force=lambda: placement,
                waiting=lambda: (),
                receive=lambda _: None,
                wanted=asyncio.Event(),
                look_at=None,
                log=logger,
            )
            async with in_task(audit.run()):
                await until(lambda: len(server.asked) >= 5, "five looks")
        assert [line for line in lines if line["event"] == "audit_failed"] == []


@pytest.mark.parametrize("has", [True, False])
async def test_a_target_that_a_live_scraper_outside_the_plan_scrapes_too_is_doubled(has: bool) -> None:
    """It came back and waits for its share, and goes on with what its last list says; or it has another list."""
    async with serving() as (server, scraper), serving() as (other, waits):
        pool = FleetPool.of({"known": Part(pool_of(["t:1", "t:2"]), salt=salt_of("main", "known"))})
        server.id = int(pool.parts["known"].pool.ids[0])
        other.id = server.id if has else server.id ^ 1
        placement = place(pool, Ring((scraper,), 8), Policy(8))
        look = Look("known", "known", salt_of("main", "known"), structlog.get_logger())
        async with in_task(auditing({"known": look}, placement, [waits]).run()):
            await until(lambda: look.coverage is not None, "a look")
        assert look.coverage is not None
        assert look.coverage.doubled.tolist() == ([0] if has else [])
        assert (look.coverage.scrapers[waits.id].foreign, set(look.seen)) == (1, {scraper.id}), "it decides nothing"
        assert (len(look.coverage.missing), len(look.coverage.unproved)) == (1, 0)


async def test_a_scraper_outside_the_plan_that_does_not_answer_proves_nothing_and_stops_nothing() -> None:
    async with serving() as (server, scraper):
        pool = FleetPool.of({"known": Part(pool_of(["t:1"]), salt=salt_of("main", "known"))})
        server.id = int(pool.parts["known"].pool.ids[0])
        look = Look("known", "known", salt_of("main", "known"), structlog.get_logger())
        nobody = Scraper("127.0.0.1:1", "127.0.0.1", 1)
        audit = auditing({"known": look}, place(pool, Ring((scraper,), 8), Policy(8)), [nobody])
        async with in_task(audit.run()):
            await until(lambda: look.coverage is not None, "a look")
        assert look.coverage is not None
        assert (look.coverage.ratio, set(look.coverage.scrapers)) == (1.0, {scraper.id})
