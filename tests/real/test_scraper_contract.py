"""What promring relies on of a scraper, on Prometheus 2.42, Prometheus 3 and the stand-in: so the stand-in is honest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promring.audit.active import decoded, seen_by_pool, targets_of, with_dropped
from promring.audit.answers import AuditError
from promring.core.coverage import STALE_LEAST_S, Index
from promring.core.pool import pool_of
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.demo.targets import Farm
from promring.model import Scraper, TargetGroup
from promring.runtime.http_client import new_session, request
from tests.real.conftest import server

INTERVAL_S = 1.0
APPLIED_S = 12.0  # Prometheus applies changes on a 5 s throttle


@pytest.fixture(params=["stand-in", "prometheus", "prometheus3", "vmagent"])
async def scraper(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ScraperProcess, Path, Farm]]:
    program = None if request.param == "stand-in" else server(request.param)
    sd = tmp_path / "sd" / "slice.json"
    sd.parent.mkdir()
    async with Farm(6) as farm, new_session(keep_alive=False) as session:
        sd.write_bytes(slice_of(farm))
        made = ScraperProcess(program, tmp_path / "scraper", SdConfig(file=sd), port=free_port(), interval_s=INTERVAL_S)
        await made.start()
        try:
            await made.until(lambda: made.is_ready(session), "the scraper")
            yield made, sd, farm
        finally:
            await made.stop()


def slice_of(farm: Farm) -> bytes:
    """As a slice is, with an id in each line."""
    return b"[\n" + pool_of([TargetGroup.of(farm.addresses)]).blob[:-2] + b"\n]\n"


async def active(scraper: ScraperProcess) -> list[str]:
    async with new_session(keep_alive=False) as session:
        answer = await request(session, "GET", f"{scraper.url}/api/v1/targets?state=active", timeout_s=5)
    targets = json.loads(answer.body)["data"]["activeTargets"]
    return sorted(target["discoveredLabels"]["__address__"] for target in targets)


async def test_it_scrapes_what_its_file_lists_keeps_it_when_malformed_and_drops_it_only_for_an_empty_list(
    scraper: tuple[ScraperProcess, Path, Farm],
) -> None:
    process, sd, farm = scraper
    found = await farm.scraped_since(farm.addresses, time.monotonic(), APPLIED_S)
    assert None not in found.values()
    assert await active(process) == sorted(farm.addresses)
    # vmagent takes a file that is no list for an empty one: whole or not at all matters twice as much there.
    for broken in () if process.is_vmagent else ('[{"targets": ["127.0', "", '{"targets": []}'):
        sd.write_text(broken)
        await asyncio.sleep(0.5)
    await asyncio.sleep(5.5)
    assert await active(process) == sorted(farm.addresses), "a malformed list keeps the last good one"
    last = time.monotonic()
    found = await farm.scraped_since(farm.addresses, last, 3 * INTERVAL_S)
    assert None not in found.values()

    async with new_session(keep_alive=False) as session:  # what an audit reads is the same of all of them
        scraper_ = Scraper(process.id, "127.0.0.1", int(process.id.rpartition(":")[2]))
        told = await targets_of(session, scraper_, "active", "demo", 5.0)
        listed = list(decoded(told, "demo"))
        assert sorted(one.discovered["__address__"] for one in listed) == sorted(farm.addresses)
        assert all(one.up and one.interval_s == INTERVAL_S and not one.never_asked for one in listed)
        assert all(one.age_s is not None and one.age_s < STALE_LEAST_S for one in listed), "by its own clock"
        index = Index(pool_of([TargetGroup.of(farm.addresses)]))
        seen = seen_by_pool(told, {"demo": index}, 1000.0)["demo"]
        assert not isinstance(seen, AuditError)
        assert (seen.ids.tolist(), seen.foreign) == (sorted(index.pool.ids.tolist()), ()), "found by their ids"
        seen = with_dropped(seen, await targets_of(session, scraper_, "dropped", "demo", 5.0), "demo", index)
        assert (len(seen.dropped), seen.hidden) == (0, 0)
        whole = await targets_of(session, scraper_, "active", None, 5.0)
        with pytest.raises(AuditError, match=r"no scrape pool 'other' .*there is demo"):
            list(decoded(whole, "other"))

    temporary = sd.with_suffix(".promring-tmp")
    temporary.write_text(json.dumps([{"targets": farm.addresses[:2]}]))
    temporary.rename(sd)
    deadline = time.monotonic() + APPLIED_S
    while await active(process) != sorted(farm.addresses[:2]):
        assert time.monotonic() < deadline, "a renamed file is applied"
        await asyncio.sleep(0.2)
    sd.write_text("[]")
    while await active(process):
        assert time.monotonic() < deadline + APPLIED_S, "[] drops every target"
        await asyncio.sleep(0.2)


async def test_a_vmagent_that_drops_the_original_labels_proves_nothing_and_is_named(tmp_path: Path) -> None:
    """With ``-promscrape.dropOriginalLabels`` nothing tells which of its targets are which: they are not missing."""
    sd = tmp_path / "slice.json"
    async with Farm(3) as farm, new_session(keep_alive=False) as session:
        sd.write_bytes(slice_of(farm))
        port = free_port()
        process = ScraperProcess(server("vmagent"), tmp_path / "s", SdConfig(file=sd), port=port, interval_s=INTERVAL_S)
        process.arguments.append("-promscrape.dropOriginalLabels")
        await process.start()
        try:
            await process.until(lambda: process.is_ready(session), "vmagent")
            assert None not in (await farm.scraped_since(farm.addresses, time.monotonic(), APPLIED_S)).values()
            told = await targets_of(session, Scraper(process.id, "127.0.0.1", port), "active", "demo", 5.0)
            index = Index(pool_of([TargetGroup.of(farm.addresses)]))
            with pytest.raises(AuditError, match="dropOriginalLabels"):
                seen_by_pool(told, {"demo": index}, 1000.0)
        finally:
            await process.stop()


@pytest.mark.parametrize("name", ["prometheus", "prometheus3", "vmagent"])
async def test_relabelling_that_takes_the_id_away_makes_no_target_missing(name: str, tmp_path: Path) -> None:
    """With ``labelkeep`` Prometheus 2.42 shows no label from before relabelling that was taken away."""
    sd, program = tmp_path / "slice.json", server(name)
    async with Farm(3) as farm, new_session(keep_alive=False) as session:
        sd.write_bytes(slice_of(farm))
        port = free_port()
        process = ScraperProcess(program, tmp_path / "s", SdConfig(file=sd), port=port, interval_s=INTERVAL_S)
        keep = {"action": "labelkeep", "regex": "__address__|__scheme__|__metrics_path__|__scrape_.*|job"}
        job = {"job_name": "demo", "scrape_interval": "1s", "scrape_timeout": "1s", "relabel_configs": [keep]}
        process.configure([job | SdConfig(file=sd).part()])
        await process.start()
        try:
            await process.until(lambda: process.is_ready(session), "the scraper")
            assert None not in (await farm.scraped_since(farm.addresses, time.monotonic(), APPLIED_S)).values()
            told = await targets_of(session, Scraper(process.id, "127.0.0.1", port), "active", "demo", 5.0)
            index = Index(pool_of([TargetGroup.of(farm.addresses)]))
            seen = seen_by_pool(told, {"demo": index}, 1000.0)["demo"]
            assert not isinstance(seen, AuditError)
            named = (seen.unlabelled if name == "prometheus" else seen.ids).tolist()
            assert (named, seen.foreign) == (sorted(index.pool.ids.tolist()), ())
        finally:
            await process.stop()
