"""Discoveries that fail inside a Prometheus: who is told of them, for how long, and what stays meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from promring.discovery.engine_config import Job
from promring.discovery.engine_failures import LASTS_S, Cause, Failures, failures_of, not_started
from promring.discovery.polling import poll
from promring.discovery.prometheus import SETTLE_S, PrometheusSource
from promring.fleet.facts import FactBoard
from promring.model import DiscoveryError
from promring.telemetry import log
from tests.fakes.engine import FakeEngine
from tests.hostile.drive import running
from tests.unit.test_engine import ASKS_ANEW_S, A, B, addresses, sources
from tests.waiting import until

OLD_AGE_S = 10 * LASTS_S
METRICS = b"""\
# TYPE prometheus_sd_refresh_failures_total counter
prometheus_sd_refresh_failures_total{mechanism="docker"} 7
prometheus_sd_refresh_failures_total{config="a \\"b\\"",mechanism="http"} 3
prometheus_sd_http_failures_total 5
prometheus_sd_linode_failures_total 5
prometheus_sd_consul_rpc_failures_total 1
prometheus_sd_dns_lookup_failures_total 2
prometheus_sd_dns_lookups_total 9
prometheus_sd_file_read_errors_total 1.2e+01
prometheus_sd_file_watcher_errors_total 4
prometheus_sd_kuma_fetch_failures_total 6
prometheus_sd_kubernetes_failures_total 0
prometheus_sd_kubernetes_http_request_total{status_code="200"} 100
prometheus_sd_kubernetes_http_request_total{status_code="410"} 50
prometheus_sd_kubernetes_http_request_total{status_code="403"} 3
prometheus_sd_kubernetes_http_request_total{status_code="<error>"} 4
prometheus_treecache_zookeeper_failures_total 10
prometheus_sd_failed_configs{name="notify"} 5
prometheus_sd_failed_configs{name="scrape"} 1
prometheus_sd_updates_delayed_total{name="scrape"} 8
"""
JOBS = {
    "web": Job((), frozenset({"http", "static"})),
    "names": Job((), frozenset({"dns"})),
    "both": Job((), frozenset({"dns", "http"})),
    "trees": Job((), frozenset({"nerve"})),
    "fixed": Job((), frozenset()),
}


def test_failures_are_read_from_the_metrics_of_each_kind_and_counted_once() -> None:
    assert failures_of(METRICS) == {
        Cause("docker"): 7,
        Cause("http", 'a "b"'): 3,
        Cause("consul"): 1,
        Cause("dns"): 2,
        Cause("file"): 12,
        Cause("kuma"): 6,
        Cause("kubernetes"): 7,
        Cause("zookeeper"): 10,
    }
    assert (not_started(METRICS), not_started(b"")) == (1, 0)
    odd = b'prometheus_sd_dns_lookup_failures_total much\nprometheus_sd__failures_total{a="'
    assert failures_of(odd) == {Cause("dns"): 0}


def said_of(counts: Mapping[Cause, float], *, broken: int = 0) -> dict[str, list[str]]:
    failures = Failures()
    failures.note({}, 0, "life", JOBS, age_s=OLD_AGE_S, now=0.0)
    failures.note(counts, broken, "life", JOBS, age_s=OLD_AGE_S, now=1.0)
    return {name: list(failures.of(name, JOBS, 1.0)) for name in JOBS}


def test_a_job_is_told_of_the_kinds_that_it_uses_and_no_more_than_is_known() -> None:
    said = said_of({Cause("dns"): 1, Cause("http", "web"): 1, Cause("zookeeper"): 1, Cause("ec2"): 1})
    lately = "failed there in the last 10 minutes"
    assert said == {
        "web": [f"a discovery by http of this job {lately}"],
        "names": [f"a discovery by dns {lately}: of this job or of 'both'"],
        "both": [f"a discovery by dns {lately}: of this job or of 'names'"],
        "trees": [f"a discovery by zookeeper {lately}; only this job has one"],
        "fixed": [],
    }
    assert [name for name, texts in said_of({}, broken=2).items() if texts] == ["web", "names", "both", "trees"]


def test_a_job_that_is_removed_while_it_fails_does_not_leave_the_blame_to_the_one_that_stays() -> None:
    stays = {"names": JOBS["names"]}
    for failed_at in (1.0, 2.0):  # seen before it was removed, and only after that
        failures = Failures()
        for now, jobs in ((0.0, JOBS), (1.0, JOBS), (2.0, stays), (3.0, stays)):
            failures.note({DNS: float(now >= failed_at)}, 0, "life", jobs, age_s=OLD_AGE_S, now=now)
        assert [text.partition(": ")[2] for text in failures.of("names", stays, 3.0)] == ["of this job or of 'both'"]
        failures.note({DNS: 2.0}, 0, "life", stays, age_s=OLD_AGE_S, now=4.0)
        assert [text.partition("; ")[2] for text in failures.of("names", stays, 4.0)] == ["only this job has one"]


DNS = Cause("dns")
LOOKS: list[tuple[str, list[tuple[float, float, str]], float, bool]] = [
    ("what was counted long before the first look is not known to be new", [(0, 9, "x")], OLD_AGE_S, False),
    ("what a young process counted is new", [(0, 9, "x")], 30.0, True),
    ("a count that stays is no failure", [(0, 9, "x"), (30, 9, "x")], OLD_AGE_S, False),
    ("a count that grew is one", [(0, 9, "x"), (30, 10, "x")], OLD_AGE_S, True),
    ("it lasts", [(0, 9, "x"), (30, 10, "x"), (LASTS_S, 10, "x")], OLD_AGE_S, True),
    ("it ends", [(0, 9, "x"), (30, 10, "x"), (31 + LASTS_S, 10, "x")], OLD_AGE_S, False),
    ("another process begins at nothing", [(0, 9, "x"), (30, 9, "y")], OLD_AGE_S, True),
    ("one that failed in nothing is well", [(0, 9, "x"), (30, 0, "y")], OLD_AGE_S, False),
]


@pytest.mark.parametrize(("looks", "age_s", "fails"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_a_kind_fails_as_long_as_its_last_failure_is_young(
    looks: list[tuple[float, float, str]], age_s: float, fails: bool
) -> None:
    failures = Failures()
    for now, count, life in looks:
        failures.note({DNS: count}, 0, life, JOBS, age_s=age_s, now=now)
    assert bool(list(failures.of("names", JOBS, looks[-1][0]))) is fails


LOOKUPS = "prometheus_sd_dns_lookup_failures_total"


async def failing(engine: FakeEngine) -> PrometheusSource:
    """With targets A and B, in an engine whose discovery by dns fails."""
    engine.syncs, engine.failures, engine.jobs["node"] = 1, {LOOKUPS: 3}, {"dns_sd_configs": [{"names": ["a"]}]}
    (node,) = sources(engine, "node", interval=ASKS_ANEW_S)
    assert (await addresses(node), node.troubles) == (["a:1", "b:1"], [])
    engine.failures = {LOOKUPS: 4}
    return node


async def test_a_discovery_that_fails_is_named_and_nothing_else_changes() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        node = await failing(engine)
        assert await addresses(node) == ["a:1", "b:1"]
        assert [text.partition(" failed ")[0] for text in node.troubles] == ["a discovery by dns"]
        engine.pools["node"], engine.syncs = [A], 2  # what the engine takes out is gone
        assert await addresses(node) == ["a:1"]


async def test_what_an_engine_does_not_find_again_after_a_start_stays_while_its_discovery_fails() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        node = await failing(engine)
        engine.start(SETTLE_S + 30)
        engine.pools["node"] = [A, {"__address__": "c:1"}]
        with pytest.raises(DiscoveryError, match=r"1 targets stay .* because a discovery by dns failed") as trouble:
            await node.fetch()
        assert trouble.value.pool is not None
        assert len(trouble.value.pool) == 3
        engine.pools["node"], engine.syncs = [{**B, "__meta_new": "1"}], 2
        assert await addresses(node) == ["b:1"]  # found again, and what was listed since the start may go


async def test_a_young_engine_that_is_doubted_says_what_fails_in_it() -> None:
    async with FakeEngine({"node": []}, age_s=SETTLE_S / 2) as engine:
        engine.syncs, engine.failures = 1, {'prometheus_sd_refresh_failures_total{mechanism="ec2"}': 1}
        engine.jobs["node"] = {"ec2_sd_configs": [{"region": "x"}]}
        (node,) = sources(engine, "node")
        with pytest.raises(DiscoveryError, match=r"may not have discovered everything .*; a discovery by ec2 failed"):
            await node.fetch()


async def test_an_empty_pool_after_a_start_keeps_its_targets_while_its_discovery_fails() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        node = await failing(engine)
        engine.start(OLD_AGE_S)
        engine.pools["node"] = []
        with pytest.raises(DiscoveryError, match="2 targets stay") as trouble:
            await node.fetch()
        assert trouble.value.pool == node.last
        assert len(node.last) == 2


async def test_a_source_whose_discovery_fails_behind_it_is_a_good_source() -> None:
    async with FakeEngine({"node": [A, B]}) as engine:
        node = await failing(engine)
        cell = FactBoard().add("x", ["node"]).cells["node"]
        async with running(poll("node", node, cell.put, lambda _: None, log.get())):
            await until(lambda: bool(node.troubles) and cell.fact.good is not None, "the trouble")
            assert (cell.fact.is_fresh, cell.fact.trouble) == (True, "")
