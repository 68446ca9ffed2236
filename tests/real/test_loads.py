"""Loads that are learnt from real scrapers: what they have evens out in series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from promring.core.fragment import target
from promring.core.placement import Policy, place
from promring.core.pool import pool_of
from promring.core.ring import Ring
from promring.demo.scraper import ScraperProcess
from promring.model import Scraper, TargetGroup
from promring.runtime.address import parse_host_port
from tests.real.conftest import server
from tests.real.stage import Stage, stage
from tests.rows import Seen
from tests.waiting import until

HEAVY, LIGHT = 3000, 20
SERIES = {"series": {"interval": "300ms", "timeout": "5s"}}


def spread(s: Stage, series: dict[str, int]) -> float:
    """The series of the fullest scraper over the mean, by what is in the slices."""
    carried = [sum(series[a] + 1 for a in slice_) for slice_ in s.slices().values()]
    return max(carried) / (sum(carried) / len(carried))


def crowded(s: Stage, heavy: set[str]) -> ScraperProcess:
    """The scraper that has all of them."""
    return next(one for one in s.scrapers if heavy <= set(s.slice_of(one)))


async def has_series(s: Stage, scraper: ScraperProcess, count: int) -> bool:
    """Whether a Prometheus server has about so many series of targets now; stale ones do not count."""
    if scraper.is_vmagent:
        return True
    query = {"query": "count(demo_more)"}
    async with s.session.get(f"{scraper.url}/api/v1/query", params=query) as answer:
        result = (await answer.json())["data"]["result"]
    return bool(result) and abs(float(result[0]["value"][1]) / count - 1) < 0.05


def on_one_scraper(s: Stage) -> set[str]:
    """Nine targets that one scraper gets where each target counts 1."""
    pool = pool_of([TargetGroup.of(s.farm.addresses)])
    members = tuple(sorted(Scraper(one.id, *parse_host_port(one.id)) for one in s.scrapers))
    placed = place(pool, Ring(members, 512), Policy())
    first = [target(pool, row).address for row in np.flatnonzero(placed.owners[:, 0] == 0).tolist()]
    return set(first[:9])


@pytest.mark.row(64, did="targets with 20 and 3,000 series on Prometheus 3.5 and vmagent; controller restarted")
@pytest.mark.timeout(240)
async def test_heavy_targets_are_spread_over_prometheus_and_vmagent_and_stay_over_a_restart(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    three, vmagent = server("prometheus3"), server("vmagent")
    kinds = [(three, False), (three, False), (vmagent, False)]
    async with stage(
        tmp_path,
        consul_program,
        three,
        kinds=kinds,
        count=45,
        http_sd=0,
        placement={"capacity": 20_000},
        start=False,
    ) as s:
        heavy = on_one_scraper(s)
        series = {a: HEAVY if a in heavy else LIGHT for a in s.farm.addresses}
        s.farm.series.update(series)
        s.allowed |= {"loads_incomplete"}
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed at the start")
        before = spread(s, series)
        assert before > 2.5, "all heavy targets are on one scraper"
        servers = s.scrapers[:2]
        await until(lambda: has_series(s, crowded(s, heavy), 9 * HEAVY), "the crowded server has them all")

        config = yaml.safe_load(s.controller.config_file.read_text())
        config["shard_services"][0]["placement"]["loads"] = SERIES
        s.controller.config_file.write_text(yaml.safe_dump(config))
        answer = await s.controller.post(s.session, "/-/reload")
        assert answer.status == 200, answer.text()
        await until(lambda: spread(s, series) <= 1.1, "series evened out")
        await s.quiet()
        after = spread(s, series)
        seen(f"series of the fullest scraper over the mean: {before:.2f} before, {after:.2f} after")

        for one in servers:
            await until(lambda one=one: has_series(s, one, 3 * HEAVY), f"{one.id} has a third of them")  # type: ignore[misc]
        fleet = await s.controller.ask(s.session, "fleets/node_exporter")
        assert fleet["loads"]["kind"] == "series"
        assert fleet["room"]["needed"] == 2
        assert (await s.controller.ask(s.session, "where", target=min(heavy)))["targets"][0]["load"] > 2900
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert 'promring_scrapers_needed{fleet="node_exporter"} 2.0' in metrics
        assert len(s.controller.log_lines("loads_in_force")) >= 1
        moved = [line for line in s.controller.log_lines("reshard") if "reason=loads" in line]
        assert len(moved) == 1, "once in ten minutes"

        slices = s.slices()
        await s.controller.stop()
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "ready again")
        await s.scraped_by_now()
        await s.quiet()
        assert s.slices() == slices
