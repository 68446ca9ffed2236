"""Targets from Consul: labels, what is believed after a restart, partial failures, what the token may not see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from promring.consul.access import Access
from promring.core.fragment import decode, fragments
from promring.discovery.consul import ConsulTargets
from promring.discovery.consul_labels import Query, pool_of_instances, services_of
from promring.discovery.consul_query import DOUBT_S
from promring.discovery.consul_source import ConsulSource
from promring.model import DiscoveryError, TargetPool


def entry(id_: str, port: int = 1, checks: tuple[str, ...] = (), **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Node": "n1", "Address": "10.0.0.1"},
        "Service": {"ID": id_, "Port": port, **service},
        "Checks": [{"CheckID": f"c{i}", "Status": status} for i, status in enumerate(checks)],
    }


def labels(one: dict[str, Any], query: Query = Query("web", "dc1")) -> dict[str, str]:  # noqa: B008 - a value
    pool = pool_of_instances(json.dumps([one]).encode(), query, "Consul")
    found = decode(next(iter(fragments(pool))))
    return {**{name.removeprefix("__meta_consul_"): v for name, v in found.labels.items()}, "__address__": found.address}


@pytest.mark.parametrize(
    ("checks", "health"),
    [
        ((), "passing"),
        (("passing", "warning"), "warning"),
        (("warning", "critical", "passing"), "critical"),
        (("passing", "odd"), None),
    ],
)
def test_health_is_the_worst_of_all_checks(checks: tuple[str, ...], health: str | None) -> None:
    assert labels(entry("a", checks=checks)).get("health") == health


def test_maintenance_is_worse_than_critical() -> None:
    one = entry("a", checks=("critical",))
    for check in ("_node_maintenance", "_service_maintenance:a"):
        one["Checks"].append({"CheckID": check, "Status": "critical"})
        assert labels(one)["health"] == "maintenance"


def test_an_instance_without_anything_is_a_target_of_its_node() -> None:
    pool = pool_of_instances(json.dumps([entry("a", port=0)]).encode(), Query("web", "dc1"), "Consul")
    one = decode(next(iter(fragments(pool))))
    assert one.address == "10.0.0.1:0"
    assert {name.removeprefix("__meta_consul_"): value for name, value in one.labels.items()} == {
        "address": "10.0.0.1",
        "service": "web",
        "dc": "dc1",
        "node": "n1",
        "tags": ",,",
        "service_port": "0",
        "service_id": "a",
        "health": "passing",
    }


def test_a_port_of_the_configuration_goes_into_the_address_only() -> None:
    found = labels(entry("a", port=80), Query("web", "dc1", port=9100))
    assert (found["__address__"], found["service_port"]) == ("10.0.0.1:9100", "80")


def test_two_keys_that_become_one_label_are_decided_by_name_and_said() -> None:
    body = json.dumps([entry("a", Meta={"rack_id": "2", "rack-id": "1"})]).encode()
    pool = pool_of_instances(body, Query("web", "dc1"), "Consul")
    assert decode(next(iter(fragments(pool)))).labels["__meta_consul_service_metadata_rack_id"] == "1"
    assert (pool.refused, len(pool.remarks)) == (0, 1)
    assert "'rack-id' and 'rack_id' would both be" in pool.remarks[0]


def test_an_instance_that_makes_no_sense_is_left_out_and_named() -> None:
    body = json.dumps([entry("a"), {"Node": 5}, entry("b", Port="x")]).encode()
    pool = pool_of_instances(body, Query("web", "dc1"), "Consul")
    assert (len(pool), pool.refused) == (1, 2)
    assert pool.remarks[0].startswith("web[1]: ")
    with pytest.raises(DiscoveryError, match="no instance of web can be understood"):
        pool_of_instances(b'[{"Node": 5}]', Query("web", "dc1"), "Consul")


@pytest.mark.parametrize(
    ("wanted", "tags", "found"),
    [((), (), ["a", "b", "c"]), (("a", "x"), (), ["a"]), ((), ("t",), ["b"]), ((), ("t", "u"), ["b"]), ((), ("T",), [])],
)
def test_the_catalogue_says_which_services_are_asked_for(
    wanted: tuple[str, ...], tags: tuple[str, ...], found: list[str]
) -> None:
    assert services_of(b'{"c":[],"b":["u","t"],"a":null}', wanted, tags) == found


class Catalogue:
    """A Consul of our own making, without blocking: ``services`` by name, ``index`` of each answer."""

    def __init__(self, services: dict[str, list[dict[str, Any]]]) -> None:
        self.services, self.index, self.status = services, 100, 200
        self.broken: set[str] = set()
        self.filtered: str | None = None
        self.asked: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        headers = {"X-Consul-Index": str(self.index)}
        if self.filtered is not None:
            headers["X-Consul-Results-Filtered-By-ACLs"] = self.filtered
        name = request.path.rpartition("/")[2]
        if self.status != 200 or name in self.broken:
            return web.Response(status=500, text="No path to datacenter")
        if request.path == "/v1/agent/self":
            return web.json_response({"Config": {"Datacenter": "dc1"}})
        if request.path == "/v1/catalog/services":
            return web.json_response({name: [] for name in self.services}, headers=headers)
        return web.json_response(self.services.get(name, []), headers=headers)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def source(address: str, clock: Clock, **keys: Any) -> ConsulSource:
    return ConsulSource(Access(address), ConsulTargets(**keys), patience_s=0.0, clock=clock)


def ids(pool: TargetPool | None) -> list[str]:
    return (
        sorted(decode(one).labels["__meta_consul_service_id"] for one in fragments(pool)) if pool is not None else ["none"]
    )


async def doubted(source: ConsulSource) -> tuple[list[str], str]:
    with pytest.raises(DiscoveryError) as error:
        await source.fetch()
    return ids(error.value.pool), str(error.value)


async def test_a_service_without_an_answer_keeps_its_list_and_one_that_is_gone_is_empty() -> None:
    consul, clock = Catalogue({"web": [entry("w1")], "api": [entry("a1", 2)], "old": [entry("o1", 3)]}), Clock()
    async with consul.running() as address:
        every = source(address, clock)
        assert ids(await every.fetch()) == ["a1", "o1", "w1"]
        clock.now += 31
        consul.broken = {"web"}
        consul.services = {"web": [], "api": [entry("a2", 2)]}
        assert await doubted(every) == (["a2", "w1"], f"Consul at {address}: status 500: No path to datacenter")
        consul.broken = set()
        clock.now += 31
        assert ids(await every.fetch()) == ["a2"]


async def test_an_index_that_went_back_is_doubt_for_a_while_about_what_is_missing() -> None:
    consul, clock = Catalogue({"web": [entry("w1"), entry("w2", 2)]}), Clock()
    async with consul.running() as address:
        web_only = source(address, clock, services=["web"])
        assert ids(await web_only.fetch()) == ["w1", "w2"]
        consul.index = 12
        consul.services["web"] = [entry("w1")]
        for _ in range(2):
            clock.now += 25
            found, why = await doubted(web_only)
            assert (found, "its index went" in why) == (["w1", "w2"], True)
        consul.services["web"] = [entry("w1"), entry("w2", 2), entry("w3", 3)]  # more is believed at once
        assert ids(await web_only.fetch()) == ["w1", "w2", "w3"]
        consul.services["web"] = []
        clock.now += DOUBT_S
        assert ids(await web_only.fetch()) == []


async def test_a_catalogue_whose_index_went_back_takes_no_service_away_for_a_while() -> None:
    consul, clock = Catalogue({"web": [entry("w1")], "api": [entry("a1", 2)]}), Clock()
    async with consul.running() as address:
        every = source(address, clock)
        await every.fetch()
        consul.index = 12
        consul.services = {"consul": []}
        clock.now += 31
        assert (await doubted(every))[0] == ["a1", "w1"]
        clock.now += DOUBT_S
        assert ids(await every.fetch()) == []


async def test_an_empty_answer_that_the_token_may_not_see_is_none() -> None:
    consul, clock = Catalogue({"web": [entry("w1")]}), Clock()
    async with consul.running() as address:
        web_only, every = source(address, clock, services=["web"]), source(address, clock)
        assert ids(await web_only.fetch()) == ids(await every.fetch()) == ["w1"]
        consul.filtered, consul.services = "true", {}
        clock.now += 31
        assert "the token may not see its instances" in (await doubted(web_only))[1]
        assert "shows no service to this token" in (await doubted(every))[1]
        consul.filtered = None  # before 1.11
        assert "not even its own" in (await doubted(every))[1]


async def test_a_consul_that_is_down_is_asked_once_and_what_was_known_stays() -> None:
    consul, clock = Catalogue({f"s{i}": [entry(f"i{i}", i + 1)] for i in range(30)}), Clock()
    async with consul.running() as address:
        named = source(address, clock, services=list(consul.services), datacenter="dc1")
        assert len(await named.fetch()) == 30
    clock.now += 31
    found, why = await doubted(named)
    assert len(found) == 30
    assert why.count("cannot connect") == 1


async def test_what_is_asked_has_all_that_the_keys_say() -> None:
    consul, clock = Catalogue({"web": [entry("w1")]}), Clock()
    keys = {
        "services": ["web"],
        "tags": ["a", "b"],
        "node_meta": {"os": "linux"},
        "datacenters": ["x", "y"],
        "namespace": "n",
    }
    async with consul.running() as address:
        tagged = source(address, clock, **keys, allow_stale=False)
        assert len(await tagged.fetch()) == 0  # no service has the tags
        consul.services["web"] = []
        assert consul.asked[0] == "/v1/catalog/services?dc=x&ns=n&node-meta=os:linux"
        assert len(consul.asked) == 2
        named = source(address, clock, services=["web"], datacenter="x", health_filter="Service.ID == a")
        await named.fetch()
        assert consul.asked[2] == "/v1/health/service/web?dc=x&filter=Service.ID+%3D%3D+a&stale="


async def test_the_datacenter_of_the_agent_is_read_once() -> None:
    consul, clock = Catalogue({"web": [entry("w1")]}), Clock()
    async with consul.running() as address:
        own = source(address, clock, services=["web"])
        consul.status = 500
        assert (await doubted(own))[0] == ["none"]
        consul.status = 200
        for _ in range(2):
            pool = await own.fetch()
            clock.now += 31
        assert decode(next(iter(fragments(pool)))).labels["__meta_consul_dc"] == "dc1"
        assert consul.asked.count("/v1/agent/self") == 2
