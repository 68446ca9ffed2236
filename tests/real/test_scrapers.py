"""Scrapers that die, hang, stop, join, on a real Consul and three real Prometheus servers."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import server
from tests.real.stage import Stage, stage
from tests.waiting import until


async def orphans_scraped_again(s: Stage, orphans: list[str], since: float) -> None:
    found = await s.farm.scraped_since(orphans, since, 30.0)
    assert orphans
    assert None not in found.values(), f"orphans never scraped again: {[a for a, t in found.items() if t is None]}"


@pytest.mark.row(12, did="kill -9 of one of 3 Prometheus")
@pytest.mark.parametrize("version", ["prometheus", "prometheus3"])
async def test_targets_of_a_killed_scraper_are_scraped_elsewhere(tmp_path: Path, consul_program: Path, version: str) -> None:
    async with stage(tmp_path, consul_program, server(version)) as s:
        await s.scraped_by_now()
        before = s.slices()
        killed, *left = s.scrapers
        moment = time.monotonic()
        await killed.kill()
        await until(lambda: len(s.slice_of(left[0])) > len(before[left[0].id]), "orphans in another slice")
        await orphans_scraped_again(s, before[killed.id], moment)
        log = s.controller.log_lines("node_update_reshard")[-1]
        assert f"newnodes={','.join(sorted(x.id for x in left))}" in log
        assert s.slice_of(killed) == before[killed.id], "what the dead one has is not touched"


@pytest.mark.row(13, did="SIGSTOP of one of 3 Prometheus, then SIGCONT")
async def test_a_frozen_scraper_is_noticed_and_comes_back(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        frozen, *left = s.scrapers
        orphans = s.slice_of(frozen)
        moment = time.monotonic()
        frozen.signal(signal.SIGSTOP)
        await until(lambda: s.placed_on(*left), "the frozen scraper's targets on the others")
        await orphans_scraped_again(s, orphans, moment)
        frozen.signal(signal.SIGCONT)
        await until(lambda: s.placed_on(*s.scrapers), "the thawed scraper back in the plan")
        await s.scraped_by_now()


@pytest.mark.row(21, did="a 4th Prometheus started, then stopped")
async def test_a_join_and_a_graceful_stop_move_only_what_they_must(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    options: dict[str, Any] = {"scrapers": 4, "running": 3, "count": 120, "http_sd": 0}
    async with stage(tmp_path, consul_program, prometheus_program, **options) as s:
        *first, joining = s.scrapers
        before = s.slices()
        await joining.start()
        await until(lambda: s.placed_on(*s.scrapers), "the new scraper in the plan")
        after = s.slices()
        moved = sum(len(set(before[x.id]) - set(after[x.id])) for x in first)
        assert 0 < len(after[joining.id]) <= moved <= 1.5 * len(s.farm.addresses) / 4
        await s.scraped_by_now()

        await joining.stop()
        await until(lambda: s.placed_on(*first), "the targets back on the first three")
        assert {x.id: s.slice_of(x) for x in first} == {x.id: before[x.id] for x in first}
        await s.scraped_by_now()


@pytest.mark.row(16, did="kill -9 of every Prometheus, then all started again")
async def test_all_scrapers_dead_keeps_every_slice_and_all_come_back(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        await s.scraped_by_now()
        for scraper in s.scrapers:
            scraper.signal(signal.SIGKILL)

        async def held() -> bool:
            described = await s.controller.ask(s.session, "services/node_exporter")
            return bool(described["held"]) and described["held"]["reason"] == "no_scrapers"

        await until(held, "the plan held")
        stamps = s.stamps()
        assert all(s.slices().values()), "no slice was emptied"
        await asyncio.sleep(2.5)  # more than a reconcile interval
        assert s.stamps() == stamps, "held: nothing is written"
        await s.controller.until(lambda: s.controller.is_ready(s.session), "promring, which goes on")
        for scraper in s.scrapers:
            await scraper.kill()
            await scraper.start()
        await until(lambda: s.placed_on(*s.scrapers), "the targets placed on all again", 20)
        await s.scraped_by_now()
