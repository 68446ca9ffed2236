"""Targets from real Consul servers, label by label what Prometheus' own discovery package makes of the same catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from testbed.consul import ConsulProcess
from testbed.sdoracle import SdOracle, Targets, as_targets

from promring.consul.access import Access
from promring.core.fragment import decode, fragments
from promring.discovery import SourceContext
from promring.discovery.consul import ConsulTargets
from promring.discovery.consul_source import ConsulSource
from promring.discovery.pasted import ConsulSdConfig
from promring.model import DiscoveryError, TargetPool
from promring.runtime.http_client import new_session, request
from tests.real.conftest import server
from tests.waiting import until

NODES: Mapping[str, dict[str, Any]] = {
    "plain": {"Address": "10.1.0.1"},
    "MixedCase": {"Address": "10.1.0.2", "NodeMeta": {"rack-id": "r1", "os": "linux", "empty": ""}},
    "six": {"Address": "fd00::6", "TaggedAddresses": {"lan": "fd00::6", "wan": "198.51.100.6", "lan_ipv4": "10.1.0.6"}},
}
CHECKS = ("passing", "warning", "critical")


def _service(name: str, id_: str, port: int = 0, **more: Any) -> dict[str, Any]:
    return {"Service": name, "ID": id_, "Port": port, **more}


CATALOGUE: list[tuple[str, dict[str, Any], list[dict[str, str]]]] = [
    (
        "plain",
        _service("web", "web-1", 80, Tags=["a", "prod"]),
        [{"CheckID": "w1", "ServiceID": "web-1", "Status": "passing"}],
    ),
    ("MixedCase", _service("web", "Web-2", 81, Tags=["A", "b,c"], Address="203.0.113.2"), []),
    (
        "six",
        _service("web", "web-3", 82, Tags=["prod", "a"]),
        [{"CheckID": "w3", "ServiceID": "web-3", "Status": "critical"}],
    ),
    (
        "plain",
        _service("web", "web-4", 0, Meta={"Version": "1.2", "a-b": "ü", "none": ""}),
        [{"CheckID": "w4", "ServiceID": "web-4", "Status": "warning"}, {"CheckID": "n", "Status": "passing"}],
    ),
    (
        "MixedCase",
        _service("api", "api-1", 9000, Address="fd00::9", TaggedAddresses={"lan": {"Address": "1.2.3.4", "Port": 5}}),
        [{"CheckID": "_node_maintenance", "Status": "critical"}],
    ),
    ("six", _service("odd name", "odd", 7, Tags=[]), []),
]
JOBS: Mapping[str, dict[str, Any]] = {
    "everything": {},
    "named": {"services": ["web", "api", "absent"]},
    "tags": {"services": ["web"], "tags": ["prod", "a"]},
    "tags of all": {"tags": ["prod"]},
    "separator": {"services": ["web"], "tag_separator": ";"},
    "node meta": {"services": ["web"], "node_meta": {"os": "linux"}},
    "datacenter": {"services": ["web"], "datacenter": "dc1", "allow_stale": False},
    "filter": {"services": ["web", "api"], "filter": '"prod" in ServiceTags'},
    "health filter": {"services": ["web"], "health_filter": 'Service.ID == "web-1"'},
}
NOT_IN_OLD = ("filter",)
"""Consul 1.8 has no filter for the catalogue."""


async def register(session: aiohttp.ClientSession, consul: ConsulProcess) -> None:
    for node, service, checks in CATALOGUE:
        body = {"Node": node, **NODES[node], "Service": service, "Checks": [{"Node": node, **check} for check in checks]}
        answer = await request(session, "PUT", f"{consul.url}/v1/catalog/register", timeout_s=10, json=body)
        assert answer.status == 200, answer.text()


@asynccontextmanager
async def running(program: Path, folder: Path) -> AsyncIterator[tuple[ConsulProcess, aiohttp.ClientSession]]:
    consul = ConsulProcess(program, folder)
    await consul.start()
    try:
        async with new_session() as session:
            await until_ready(consul, session)
            yield consul, session
    finally:
        await consul.stop()


async def until_ready(consul: ConsulProcess, session: aiohttp.ClientSession) -> None:
    await until(lambda: consul.is_ready(session), "Consul", 60)


def source_of(consul: ConsulProcess, block: Mapping[str, Any]) -> ConsulSource:
    """As if the block were pasted."""
    return ConsulSdConfig(server=consul.address, **block).source(SourceContext(Path()))


def labels_of(pool: TargetPool) -> Targets:
    return as_targets([{"__address__": one.address, **one.labels} for one in map(decode, fragments(pool))])


async def test_targets_have_the_labels_of_prometheus_own_package(each_consul: Path, tmp_path: Path) -> None:
    oracle_program = server("sdoracle")
    async with running(each_consul, tmp_path / "consul") as (consul, session):
        await register(session, consul)
        jobs = {name: block for name, block in JOBS.items() if each_consul.name == "consul14" or name not in NOT_IN_OLD}
        blocks = {name: {"consul_sd_configs": [{"server": consul.address, **block}]} for name, block in jobs.items()}
        oracle = SdOracle(oracle_program, tmp_path / "oracle", blocks)
        await oracle.start()
        try:
            for name, block in jobs.items():
                ours: Targets = frozenset()

                async def agree(name: str = name, block: Mapping[str, Any] = block) -> bool:
                    nonlocal ours  # read again: the agent adds to its own node after its start
                    ours = labels_of(await source_of(consul, block).fetch())
                    return oracle.targets().get(name) == ours

                with contextlib.suppress(AssertionError):
                    await until(agree, name, 10)
                theirs = oracle.targets().get(name, frozenset())
                assert ours == theirs, (name, ours - theirs, theirs - ours)
                assert ours, name
        finally:
            await oracle.stop()


async def test_a_change_is_heard_at_once_and_a_consul_that_lost_its_data_takes_no_target(
    consul_program: Path, tmp_path: Path
) -> None:
    async with running(consul_program, tmp_path / "consul") as (consul, session):
        await register(session, consul)
        ahead_s = 0.0
        source = ConsulSource(Access(consul.address), ConsulTargets(), clock=lambda: time.monotonic() + ahead_s)
        stop = asyncio.Event()
        assert len(await source.fetch()) == 7  # with Consul itself
        heard = 0

        async def listen() -> None:
            nonlocal heard
            async for _ in source.changes(stop):
                heard += 1

        watching = asyncio.create_task(listen())
        try:
            await until(lambda: heard >= 1, "the first reads of the watches")
            await source.fetch()
            heard_before = heard
            gone = {"Node": "six", "ServiceID": "odd"}
            await request(session, "PUT", f"{consul.url}/v1/catalog/deregister", timeout_s=10, json=gone)
            await until(lambda: heard > heard_before, "the change")

            async def is_gone() -> bool:
                return len(await source.fetch()) == 6

            await until(is_gone, "the target is gone", 20)
            await consul.kill()
            consul.forget()
            await consul.start()
            await until_ready(consul, session)
            ahead_s = 31.0
            with pytest.raises(DiscoveryError, match="index") as doubt:
                await source.fetch()
            assert doubt.value.pool is not None
            assert len(doubt.value.pool) == 6
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
