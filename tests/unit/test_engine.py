"""Sources that take their targets from a Prometheus: what they believe, and how often it is asked."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from promring.config.http_client import HttpConfig
from promring.core.fragment import decode, fragments
from promring.discovery import Dropped, SourceContext
from promring.discovery.engine import Engine
from promring.discovery.engine_applied import applied_of
from promring.discovery.engine_status import life_in
from promring.discovery.list_rules import ANY
from promring.discovery.polling import poll
from promring.discovery.prometheus import SETTLE_S, UNDISCOVERED_S, PrometheusSource, PrometheusTargets
from promring.fleet.facts import FactBoard
from promring.model import DiscoveryError, Known
from promring.telemetry import log
from tests.fakes.engine import FakeEngine
from tests.hostile.drive import running
from tests.waiting import until

ASKS_ANEW_S = 1e-6
"""An interval so short that no answer is taken twice."""
A, B = {"__address__": "a:1", "__meta_x": "y"}, {"__address__": "b:1"}


def sources(engine: FakeEngine, *pools: str, interval: float = 30.0, timeout: float = 5.0) -> list[PrometheusSource]:
    context = SourceContext(Path())
    settings = [PrometheusTargets(url=engine.url, scrape_pool=p, interval=interval, timeout=timeout) for p in pools]  # type: ignore[arg-type]
    return [one.source(context) for one in settings]


async def addresses(source: PrometheusSource) -> list[str]:
    return sorted(one.address for one in map(decode, fragments(await source.fetch())))


def targets_requests(engine: FakeEngine) -> int:
    return sum("/targets" in path for path in engine.asked)


async def test_a_pool_is_what_the_engine_discovered_and_did_not_drop() -> None:
    async with FakeEngine({"node": [A, B], "other": [{"__address__": "c:1"}]}) as engine:
        engine.dropped = {"node": [{"__address__": "d:1"}]}
        node, other = sources(engine, "node", "other")
        pool = await node.fetch()
        assert [decode(one).labels for one in fragments(pool) if decode(one).address == "a:1"] == [{"__meta_x": "y"}]
        assert node.dropped == Dropped(1, ("d:1",))
        assert (await addresses(other), other.dropped) == (["c:1"], Dropped())


async def test_all_sources_of_one_engine_share_its_answers() -> None:
    names = [f"job{i}" for i in range(5)]
    async with FakeEngine({name: [A] for name in names}) as engine, AsyncExitStack() as stack:
        board = FactBoard().add("x", names)
        for name, source in zip(names, sources(engine, *names, interval=0.3), strict=True):
            await stack.enter_async_context(running(poll(name, source, board.cells[name].put, lambda _: None, log.get())))
        await until(lambda: all(cell.fact.good for cell in board.cells.values()), "all lists")
        assert targets_requests(engine) == 1
        engine.pools["job3"] = [A, B]
        good = board.cells["job3"].fact.good
        await until(lambda: board.cells["job3"].fact.good is not good, "the change")
        await until(lambda: targets_requests(engine) >= 5, "some more answers")
        first = engine.asked.count("/api/v1/status/config")
        assert all(cell.fact.repeats >= 1 for cell in board.cells.values())
        assert targets_requests(engine) <= first


async def test_sources_with_other_intervals_and_rules_share_one_request() -> None:
    async with FakeEngine({"node": [A], "other": [B]}) as engine:
        context = SourceContext(Path())
        keys = {"url": engine.url}
        node = PrometheusTargets.model_validate(keys | {"scrape_pool": "node", "interval": "10s"}).source(context)
        other = PrometheusTargets.model_validate(
            keys | {"scrape_pool": "other", "interval": "20s", "trusted": False}
        ).source(context)
        again = PrometheusTargets.model_validate(keys | {"scrape_pool": "node", "trusted": False}).source(context)
        assert (await addresses(node), await addresses(other), targets_requests(engine)) == (["a:1"], ["b:1"], 1)
        assert (await addresses(again), targets_requests(engine)) == (["a:1"], 2)  # two sets of rules for one pool


async def test_targets_are_read_again_only_when_the_engine_applied_something() -> None:
    async with FakeEngine({"node": [A], "other": []}) as engine:
        engine.syncs = 1
        node, other = sources(engine, "node", "other", interval=ASKS_ANEW_S)

        async def read() -> tuple[list[str], int]:
            found = await addresses(node)
            await other.fetch()
            return found, targets_requests(engine)

        assert await read() == (["a:1"], 1)
        before = await node.fetch()
        engine.pools["node"] = [B]  # which it did not apply yet
        assert await node.fetch() is before
        engine.syncs = 2
        assert await read() == (["b:1"], 3)
        engine.start(3600)
        assert (await read())[1] == 4
        engine.jobs["node"] = {"metrics_path": "/probe"}
        assert (await read())[1] == 5
        engine.fault, engine.syncs = "cut", 3
        with pytest.raises(DiscoveryError):
            await node.fetch()
        engine.fault = ""  # what was not read whole is not known
        assert await read() == (["b:1"], 8)


def targets_asked(engine: FakeEngine) -> list[str]:
    """For which scrape pools its targets were asked since the last call; a star: for all."""
    found = [path.partition("scrapePool=")[2] or "*" for path in engine.asked if "/targets" in path]
    engine.asked.clear()
    return found


async def test_only_the_pools_in_which_something_was_applied_are_read() -> None:
    names = [f"job{i}" for i in range(5)]
    async with FakeEngine({name: [A] for name in names}) as engine:
        engine.dropped = {"job0": [B], "job1": [B]}
        engine.syncs = dict.fromkeys(names, 1)
        taken = sources(engine, *names[:4], interval=ASKS_ANEW_S)

        async def read() -> list[list[str]]:
            return [await addresses(one) for one in taken]

        assert (await read(), targets_asked(engine)) == ([["a:1"]] * 4, ["*"])
        same = [await one.fetch() for one in taken]
        assert targets_asked(engine) == []
        engine.pools["job1"], engine.dropped = [A, B], {"job0": [A, B]}
        engine.syncs["job1"] = 2
        assert (await read(), targets_asked(engine)) == ([["a:1"], ["a:1", "b:1"], ["a:1"], ["a:1"]], ["job1"])
        assert [one.dropped.count for one in taken] == [1, 0, 0, 0], "of job0 nothing was applied"
        assert [one.last is pool for one, pool in zip(taken, same, strict=True)] == [True, False, True, True]
        engine.syncs |= {"job4": 2}
        assert (await read())[1:] == [["a:1", "b:1"], ["a:1"], ["a:1"]]
        assert targets_asked(engine) == [], "nobody takes that one"
        engine.pools["job0"], engine.fault, engine.syncs["job0"] = [B], "cut", 4
        with pytest.raises(DiscoveryError):
            await read()
        engine.fault = ""
        assert (await read())[0] == ["b:1"], "what was not read is not known"


async def test_pools_in_which_the_number_of_targets_changed_do_not_wait_for_the_others() -> None:
    names = [f"job{i}" for i in range(5)]
    async with FakeEngine({name: [A, {"__address__": name}] for name in names}) as engine:
        engine.syncs = 1
        taken = sources(engine, *names, interval=ASKS_ANEW_S)
        for one in taken:
            await one.fetch()
        assert targets_asked(engine) == ["*"]
        engine.syncs = 2  # a Prometheus applies all pools when one has news
        engine.pools["job3"] = [A, B, {"__address__": "job3"}]
        engine.pools["job4"] = [A, {"__address__": "swapped"}]
        assert await addresses(taken[3]) == ["a:1", "b:1", "job3"]
        assert targets_asked(engine) == ["job3", "job0"], "and one that may have changed"
        assert await addresses(taken[0]) == ["a:1", "job0"]
        engine.syncs, engine.pools["job2"] = 3, [A]
        assert await addresses(taken[4]) == ["a:1", "swapped"], "its turn comes"
        asked = targets_asked(engine)
        assert asked.index("job2") <= 2, "two are read at a time"
        assert asked.index("job4") < asked.index("job2") + 6
        assert await addresses(taken[2]) == ["a:1"]
        assert await addresses(taken[1]) == ["a:1", "job1"]
        assert "*" not in targets_asked(engine)


async def test_an_engine_that_does_not_answer_for_one_pool_is_read_whole() -> None:
    names = [f"job{i}" for i in range(5)]
    async with FakeEngine({name: [A] for name in names}) as engine:
        engine.filters, engine.syncs = False, dict.fromkeys(names, 1)
        taken = sources(engine, *names, interval=ASKS_ANEW_S)
        for number in (2, 3, 4):
            engine.pools["job1"] = [{"__address__": f"b:{number}"}]
            engine.syncs["job1"] = number
            assert [(await addresses(one))[0] for one in taken] == ["a:1", f"b:{number}", "a:1", "a:1", "a:1"]
        assert targets_asked(engine) == ["*", "job1", "*", "*"], "it is not asked for one again"


async def test_an_engine_that_refused_its_newest_configuration_gives_its_targets_and_is_said_to_fail() -> None:
    async with FakeEngine({"node": [A]}) as engine:
        engine.syncs, engine.refused = 1, True
        (node,) = sources(engine, "node", interval=ASKS_ANEW_S)
        with pytest.raises(DiscoveryError, match="refused its newest configuration, and goes on with the one") as trouble:
            await node.fetch()
        assert trouble.value.pool is not None
        assert len(trouble.value.pool) == 1
        engine.pools["node"], engine.syncs = [A, B], 2
        with pytest.raises(DiscoveryError) as trouble:
            await node.fetch()
        assert trouble.value.pool is node.last
        assert len(node.last) == 2
        engine.refused = False
        assert await addresses(node) == ["a:1", "b:1"]


METRICS = b"""\
process_start_time_seconds 1.7e+09
prometheus_target_scrape_pool_sync_total{scrape_job="a \\"b\\" \\\\c\\nd"} 7
prometheus_target_scrape_pool_sync_total{scrape_job="e"} 8
prometheus_target_scrape_pool_targets{scrape_job="f"} 9
prometheus_sd_discovered_targets{config="f",name="scrape"} 11
prometheus_sd_discovered_targets{config="f",name="notify"} 2
prometheus_sd_discovered_targets{config="g",name="scrape"} 3
"""


def test_how_often_each_pool_was_applied_is_read_from_the_metrics() -> None:
    found = applied_of(METRICS, "life")
    assert found is not None
    assert found.syncs == {'a "b" \\c\nd': b"7", "e": b"8"}
    assert found.sizes == {"f": [b"9", b"11"], "g": [b"3"]}
    again = applied_of(METRICS.replace(b"1.7", b"1.8"), "life")
    assert again is not None
    assert (again.syncs, again.life == found.life) == (found.syncs, False)
    assert applied_of(METRICS, "other") != found
    assert applied_of(b"", "life") is applied_of(METRICS.partition(b"prom")[0], "life") is None


@pytest.mark.parametrize(
    "odd",
    [
        b"prometheus_sd_" + b"a" * 300_000,
        b"prometheus_sd_refresh_failures_total{" + b"a" * 300_000 + b"} 1",
        b'prometheus_target_scrape_pool_sync_total{scrape_job="\n' * 20_000,
    ],
)
def test_metrics_with_names_as_long_as_can_be_take_no_time(odd: bytes) -> None:
    """Each of the patterns read such a run once from each of its letters on: minutes, in which no thread computes."""
    began = time.process_time()
    found, plain = (applied_of(text, "life") for text in (METRICS + odd + b"\n", METRICS))
    assert found
    assert plain
    assert (found.syncs, found.sizes) == (plain.syncs, plain.sizes)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("own_clock", "age_s"),
    [({}, 7200.0), ({"serverTime": "2026-01-01T01:00:30.5Z"}, 30.5), ({"serverTime": "2026-01-01T00:00:00Z"}, 0.0)],
    ids=["that of the answer", "its own", "which went back"],
)
def test_an_engine_is_as_old_as_its_own_clock_says(own_clock: dict[str, str], age_s: float) -> None:
    data = {"startTime": "2026-01-01T00:00:00Z", "lastConfigTime": "2026-01-01T01:00:00Z", **own_clock}
    answer = json.dumps({"data": data}).encode()
    life, loaded, age = life_in(answer, "Thu, 01 Jan 2026 03:00:00 GMT")
    assert (life in loaded, age) == (True, age_s)


async def test_one_source_asks_for_its_own_pool_only() -> None:
    async with FakeEngine({"node": [A]}) as engine:
        (node,) = sources(engine, "node")
        await node.fetch()
        assert [path for path in engine.asked if "/targets" in path] == ["/api/v1/targets?state=any&scrapePool=node"]


@pytest.mark.parametrize("fault", ["down", "malformed", "cut", "html", "silent"])
async def test_an_engine_in_trouble_gives_no_answer_and_what_was_known_stays(fault: str) -> None:
    async with FakeEngine({"node": [A]}) as engine:
        (node,) = sources(engine, "node", timeout=0.5)
        before = await node.fetch()
        engine.fault = fault
        with pytest.raises(DiscoveryError, match=engine.url) as trouble:
            await node.fetch()
        assert trouble.value.pool is None
        engine.fault = ""
        assert await node.fetch() is before


async def test_a_pool_that_the_engine_does_not_have_is_named_with_those_that_it_has() -> None:
    async with FakeEngine({"node": [A], "blackbox": []}) as engine:
        (source,) = sources(engine, "nodes")
        with pytest.raises(DiscoveryError, match=r"no scrape pool 'nodes' \(a job_name\); there is blackbox, node"):
            await source.fetch()


async def test_a_pool_without_targets_is_empty_when_the_engine_had_time_to_discover() -> None:
    async with FakeEngine({"node": []}) as engine:
        (source,) = sources(engine, "node")
        assert await addresses(source) == []
        engine.start(SETTLE_S - 30)
        (source,) = sources(engine, "node")
        with pytest.raises(DiscoveryError, match="may not have discovered everything"):
            await source.fetch()


async def test_an_engine_that_restarted_takes_nothing_until_it_is_settled() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        (node,) = sources(engine, "node")
        assert await addresses(node) == ["a:1", "b:1"]
        engine.start()
        engine.pools["node"] = [A]
        with pytest.raises(DiscoveryError, match="may not have discovered everything"):
            await node.fetch()
        engine.pools["node"] = [A, B, {"__address__": "c:1"}]  # more is believed at once
        assert await addresses(node) == ["a:1", "b:1", "c:1"]
        engine.start(SETTLE_S + 30)
        engine.pools["node"] = [A]
        assert await addresses(node) == ["a:1"]


async def test_an_engine_that_discovers_nothing_after_a_restart_is_doubted_for_longer() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        (node,) = sources(engine, "node")
        await node.fetch()
        engine.start(SETTLE_S + 30)
        engine.pools["node"] = []
        with pytest.raises(DiscoveryError, match="discovered nothing since it started"):
            await node.fetch()
        engine.start(UNDISCOVERED_S + 30)
        assert await addresses(node) == []


async def test_what_a_run_before_had_counts_as_the_last_list() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        (before,) = sources(engine, "node")
        pool = await before.fetch()
        (node,) = sources(engine, "node")
        node.remember(pool)
        engine.start()
        engine.pools["node"] = [A]
        with pytest.raises(DiscoveryError, match="may not have discovered everything"):
            await node.fetch()


async def test_nobody_is_asked_for_who_gave_up_waiting() -> None:
    async with FakeEngine({"node": [A]}) as engine:
        (node,) = sources(engine, "node", timeout=60.0)
        engine.fault = "silent"
        asking = asyncio.create_task(node.fetch())
        await until(lambda: bool(engine.asked), "the request")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        engine.fault = ""
        assert await addresses(node) == ["a:1"]


async def test_an_engine_that_is_polled_recovers() -> None:
    async with FakeEngine({"node": [A]}) as engine:
        (node,) = sources(engine, "node", interval=0.05)
        cell = FactBoard().add("x", ["node"]).cells["node"]
        async with running(poll("node", node, cell.put, lambda _: None, log.get())):
            await until(lambda: isinstance(cell.fact.newest, Known), "the list")
            engine.fault = "down"
            await until(lambda: not isinstance(cell.fact.newest, Known), "no answer")
            assert cell.fact.good is not None
            engine.fault = ""
            await until(lambda: isinstance(cell.fact.newest, Known), "the list again")


async def test_news_of_an_engine_are_read_when_it_is_looked_at_and_nobody_else_is_woken() -> None:
    async with FakeEngine({"node": [A], "other": [B], "more": [B]}) as fake:
        fake.syncs = 1
        engine = Engine(fake.url, HttpConfig())
        woken = {name: asyncio.Event() for name in fake.pools}
        for name, event in woken.items():
            engine.add(name, ANY, 5.0, 5.0)
            engine.woken[event] = name
        first = await engine.answer(0, 5.0)
        fake.pools["node"], fake.syncs = [A, B], 2
        for event in woken.values():
            event.clear()

        async def looked() -> bool:
            await asyncio.gather(engine.look(), engine.look())
            return engine.newest is not first

        await until(looked, "the next answer")
        assert [name for name, event in woken.items() if event.is_set()] == ["node"]
        assert engine.newest is not None
        assert (len(engine.newest.pools["node"]), engine.newest.unread) == (2, set())
