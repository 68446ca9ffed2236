"""Figures of loads: what scrapers and a central store answer, and what is made of answers that are none."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from promring.config.scraper_api import PLAIN
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy
from promring.core.pool import pool_of
from promring.loads import Asked, LoadContext, Round
from promring.loads.learner import Known, Learner
from promring.loads.promql import PromqlLoads, PromqlSource
from promring.loads.series import SeriesSource, query_for
from promring.model import Members, Placement, TargetGroup
from promring.runtime.redact import SecretUrl
from promring.telemetry import log
from tests.fakes.figures import FigureServer, figure_server, series, targets_of, vector
from tests.waiting import until

POOL = pool_of([TargetGroup.of(["a:1", "b:1", "c:1"], {"env": "x"})])
BLACKBOX = pool_of(
    [
        TargetGroup.of(["probe:9115"], {"__param_target": "https://shop"}),
        TargetGroup.of(["plain"]),
        TargetGroup.of(["named:1"], {"instance": "me"}),
    ]
)
SOURCE = SeriesSource(60.0, 5.0, PLAIN)


def asked(scrapers: Members, pool: FleetPool | None = None, jobs: dict[str, str] | None = None) -> Asked:
    pool = pool or FleetPool.of({"web": Part(POOL)})
    owners = np.tile(np.arange(max(1, len(scrapers)), dtype=np.int32), (len(pool), 1))  # each has them all
    return Asked(Placement(scrapers, pool, owners), jobs or {"web": "web"})


def said(found: Round, service: str = "web") -> list[float]:
    """The figures in order of the targets' addresses; -1 for none."""
    pool = {"web": POOL, "box": BLACKBOX}[service]
    if service not in found.figures:
        return [-1.0] * len(pool)
    by_id = dict(zip(found.figures[service].ids.tolist(), found.figures[service].values.tolist(), strict=True))
    names = sorted((pool.fragment(row), by_id.get(int(pool.ids[row]), -1.0)) for row in range(len(pool)))
    return [value for _, value in names]


def of(address: str, value: object, **more: str) -> dict[str, Any]:
    return series({"env": "x", "job": "web", "instance": address, **more}, value)


async def test_a_prometheus_is_asked_for_its_targets_and_what_their_scrapes_gave() -> None:
    result = vector(of("a:1", 7), of("b:1", 800), of("c:1", 9), of("other:1", 5), of("a:1", 99, federated="yes"))
    async with figure_server(FigureServer(targets_of(POOL, "web"), result)) as server:
        found = await SOURCE.ask(asked((server.scraper,)))
    assert (said(found), found.troubles) == ([7.0, 800.0, 9.0], {})
    assert server.asked == ['scrape_samples_post_metric_relabeling{job=~"web"} and up{job=~"web"} == 1']


async def test_vmagent_says_it_with_its_targets_and_is_asked_no_query() -> None:
    targets = targets_of(POOL, "web", samples={"a:1": 7, "b:1": 800, "c:1": 9})
    async with figure_server(FigureServer(targets)) as server:
        found = await SOURCE.ask(asked((server.scraper,)))
    assert (said(found), found.troubles, server.asked) == ([7.0, 800.0, 9.0], {}, [])


def test_jobs_of_any_name_are_asked_for_by_their_name() -> None:
    assert query_for({'a"b', "c.d|e"}).count(r'{job=~"a\"b|c\\.d\\|e"}') == 2
    assert query_for({f"job-{n}" for n in range(500)}) == "scrape_samples_post_metric_relabeling and up == 1"


NONE = [-1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("result", "figures", "trouble"),
    [
        (
            vector(of("a:1", "NaN"), of("b:1", 8), of("c:1", 9)),
            [-1.0, 8.0, 9.0],
            "1 odd figures left out, such as nan of a:1",
        ),
        (
            vector(of("a:1", "-3"), of("b:1", "+Inf"), of("c:1", 9)),
            [-1.0, -1.0, 9.0],
            "2 odd figures left out, such as -3 of",
        ),
        (vector(of("a:1", 1e12), of("b:1", 8), of("c:1", 9)), [-1.0, 8.0, 9.0], "1 odd figures left out, such as 1e+12"),
        (vector(of("a:1", "many"), of("b:1", 8), of("c:1", 9)), [-1.0, 8.0, 9.0], "1 odd figures left out, such as nan"),
        (vector(of("b:1", 8)), [-1.0, 8.0, -1.0], "no figures yet of 2 of 3 targets"),
        (vector(), NONE, "no figures yet of 3 of 3 targets"),
        (b"", NONE, "not the answer of a query"),
        (b"<html>no</html>", NONE, "not the answer of a query"),
        ({"status": "error", "error": "x"}, NONE, "not the answer of a query"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, NONE, "not the answer of a query"),
        (
            b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}',
            NONE,
            "does not go on",
        ),
        (b'{"status":"success","data":{"resultType":"vector","result":[1,2]}}', NONE, "an entry that is not an object"),
        (b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":1}}]}}', NONE, "/api/v1/query: "),
        (b'{"status":"success","data":{"resultType":"vector","result":[' + b'{"a":' * 40, NONE, "nested deeper"),
    ],
)
async def test_what_is_no_figure_is_left_out_and_named(result: Any, figures: list[float], trouble: str) -> None:
    async with figure_server(FigureServer(targets_of(POOL, "web"), result)) as server:
        found = await SOURCE.ask(asked((server.scraper,)))
    assert said(found) == figures
    assert trouble in found.troubles[server.scraper.id]


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (422, {"status": "error", "error": "unavailable with Prometheus Agent"}, "422: unavailable with Prometheus Agent"),
        (503, b"Service Unavailable", "503: Service Unavailable"),
        (401, b"", "refuses our credentials: status 401"),
    ],
)
async def test_a_scraper_that_answers_no_query_is_named_and_keeps_nobody_from_the_others(
    status: int, body: Any, trouble: str
) -> None:
    good = FigureServer(targets_of(POOL, "web", samples={"a:1": 7, "b:1": 8, "c:1": 9}))
    async with figure_server(FigureServer(targets_of(POOL, "web"), body, status)) as bad, figure_server(good):
        found = await SOURCE.ask(asked((bad.scraper, good.scraper)))
    assert said(found) == [7.0, 8.0, 9.0]
    assert list(found.troubles) == [bad.scraper.id]
    assert trouble in found.troubles[bad.scraper.id]


@pytest.mark.parametrize(
    "targets",
    [b"", b"[]", b'{"status":"success","data":{"activeTargets":[1]}}', b'{"data":{"activeTargets":[{"labels":3}]}}'],
)
async def test_a_list_of_targets_that_is_none_is_named(targets: bytes) -> None:
    async with figure_server(FigureServer(targets)) as server:
        found = await SOURCE.ask(asked((server.scraper,)))
    assert said(found) == NONE
    assert "/api/v1/targets" in found.troubles[server.scraper.id]


async def test_a_scraper_is_not_believed_for_targets_of_others() -> None:
    both = targets_of(POOL, "web", samples={"a:1": 7, "b:1": 8, "c:1": 9})
    async with figure_server(FigureServer(both)) as one, figure_server(FigureServer(both)) as two:
        question = asked((one.scraper, two.scraper))
        owners = np.array([[0], [0], [0]], dtype=np.int32)
        placement = Placement(question.placement.scrapers, question.placement.pool, owners)
        found = await SOURCE.ask(Asked(placement, question.jobs))
        assert len(found.figures["web"].ids) == 3, "of the first only"
        two.targets = ()
        assert (await SOURCE.ask(question)).troubles == {two.scraper.id: "lists none of its 3 targets as up"}


async def test_targets_that_are_down_or_of_other_jobs_say_nothing() -> None:
    down = targets_of(POOL, "web", health="down", samples={"a:1": 0})
    other = targets_of(POOL, "other", samples={"a:1": 5})
    async with figure_server(FigureServer([*down, *other])) as server:
        found = await SOURCE.ask(asked((server.scraper,)))
    assert (said(found), found.troubles) == (NONE, {server.scraper.id: "lists none of its 3 targets as up"})


async def test_of_two_scrapers_with_figures_far_apart_the_higher_counts_and_it_is_said() -> None:
    low = FigureServer(targets_of(POOL, "web", samples={"a:1": 10, "b:1": 100, "c:1": 50}))
    high = FigureServer(targets_of(POOL, "web", samples={"a:1": 11, "b:1": 900, "c:1": 60}))
    async with figure_server(low), figure_server(high):
        found = await SOURCE.ask(asked((low.scraper, high.scraper)))
    pool = FleetPool.of({"web": Part(POOL)})
    known = await learnt(pool, found)
    loads = known.learning.loads(pool)
    assert loads is not None
    assert sorted(loads.tolist()) == [11, 60, 900]
    assert found.troubles == {"figures": "of 1 targets two scrapers have figures far apart: the higher ones count"}


class Said:
    """A source of loads that says one round again and again."""

    interval_s = 0.01

    def __init__(self, found: Round) -> None:
        self.found, self.rounds = found, 0

    async def ask(self, asked: Asked) -> Round:
        self.rounds += 1
        return self.found


async def learnt(pool: FleetPool, found: Round) -> Known:
    """What is known after many rounds of it."""
    known: list[Known] = []
    source, failed = Said(found), list[None]()
    learner = Learner(
        source,
        {"web": "web"},
        100,
        Policy(),
        leads=lambda: True,
        in_force=lambda: asked((), pool).placement,
        book=lambda: None,
        receive=known.append,
        failed=lambda: failed.append(None),
        log=log.get(),
    )
    task = asyncio.create_task(learner.run())
    try:
        await until(lambda: source.rounds > 31, "enough rounds")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert learner.troubles == found.troubles
    assert bool(failed) is bool(found.troubles)
    return known[-1]


def promql(server: FigureServer, **more: Any) -> PromqlSource:
    return PromqlLoads(url=SecretUrl(server.url), **more).source(LoadContext())


async def test_a_central_store_is_asked_one_query_and_targets_are_found_by_job_and_instance() -> None:
    result = vector(
        *(series({"job": "web", "instance": f"{n}:1", "shard": shard}, v) for n, shard, v in (("a", "1", 7), ("a", "2", 8))),
        series({"job": "web", "instance": "b:1"}, "NaN"),
        series({"job": "box", "instance": "https://shop"}, 30),
        series({"job": "box", "instance": "plain:80"}, 40),
        series({"job": "box", "instance": "me"}, 50),
        series({"job": "else", "instance": "c:1"}, 60),
    )
    pool = FleetPool.of({"web": Part(POOL), "box": Part(BLACKBOX, salt=3)})
    async with figure_server(FigureServer(result=result)) as server:
        source = promql(server, query="heavy")
        found = await source.ask(asked((), pool, {"web": "web", "box": "box"}))
        again = await source.ask(asked((), pool, {"web": "web", "box": "box"}))
    assert said(found) == [8.0, -1.0, -1.0]
    assert sorted(said(found, "box")) == [30.0, 40.0, 50.0]
    assert said(again, "box") == said(found, "box")
    assert server.asked == ["heavy", "heavy"]
    assert found.troubles == {server.url: "1 odd figures left out, such as nan of b:1"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (
            {"warnings": ["no store [10.0.0.7:10901]\nmatched", "timeout"]},
            "; it says: no store [10.0.0.7:10901] matched; timeout",
        ),
        ({"warnings": ["x" * 5000]}, f"; it says: {'x' * 200}"),
        ({"warnings": [[1]]}, ""),
        ({"warnings": "none"}, ""),
        ({}, ""),
    ],
)
async def test_a_store_that_has_a_part_only_is_named_with_what_it_says_of_that(more: dict[str, Any], why: str) -> None:
    half = vector(of("a:1", 7), of("other:1", 5, note='"warnings":["me"]'))
    async with figure_server(FigureServer(result={**half, **more})) as server:
        found = await promql(server).ask(asked(()))
    assert said(found) == [7.0, -1.0, -1.0]
    assert found.troubles == {server.url: f"no figures of 2 of 3 targets{why}"}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-3", 1e12, "many"])
async def test_a_figure_of_a_store_that_cannot_be_is_left_out_and_named(value: object) -> None:
    result = vector(of("a:1", value), of("b:1", 8), of("b:1", 800, replica="2"), of("c:1", 9))
    async with figure_server(FigureServer(result=result)) as server:
        found = await promql(server).ask(asked(()))
    assert said(found) == [-1.0, 800.0, 9.0], "of several series of one target the highest"
    assert found.troubles[server.url].startswith("1 odd figures left out, such as")


async def test_a_store_that_is_down_or_refuses_us_gives_no_figures_and_no_secret() -> None:
    async with figure_server(FigureServer(status=403)) as server:
        source = promql(server)
        refused = await source.ask(asked(()))
    gone = await source.ask(asked(()))
    assert "refuses our credentials: status 403" in refused.troubles[server.url]
    assert "cannot connect" in gone.troubles[server.url]
    assert (refused.figures, gone.figures) == ({}, {})


async def test_who_does_not_lead_asks_nobody() -> None:
    source = Said(Round())
    learner = Learner(
        source,
        {},
        100,
        Policy(),
        leads=lambda: False,
        in_force=lambda: asked(()).placement,
        book=lambda: None,
        receive=lambda _: None,
        failed=lambda: None,
        log=log.get(),
    )
    task = asyncio.create_task(learner.run())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (source.rounds, learner.asked_at) == (0, 0.0)
