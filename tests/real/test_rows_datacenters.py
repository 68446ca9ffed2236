"""Two datacenters of Consul, joined over WAN; the far one stands still, and so does everything that is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from testbed.consul import ConsulProcess

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import HttpError, new_session, request
from tests.rows import Seen
from tests.waiting import until

STOOD_STILL_S = 45.0
"""Longer than a question to a datacenter waits."""


@contextlib.asynccontextmanager
async def datacenters(program: Path, folder: Path, session: Any) -> AsyncIterator[list[ConsulProcess]]:
    """``dc1`` and ``dc2``, which reach each other."""
    wan, made = [free_port(), free_port()], list[ConsulProcess]()
    for number, name in enumerate(("dc1", "dc2")):
        ports = {"http": free_port(), "dns": -1, "grpc": -1, "serf_lan": free_port(), "server": free_port()}
        extra = {
            "datacenter": name,
            "node_name": f"node-{name}",
            "ports": ports | {"serf_wan": wan[number]} | ({"grpc_tls": -1} if program.name == "consul14" else {}),
            "retry_join_wan": [f"127.0.0.1:{wan[1 - number]}"],
            "retry_interval_wan": "500ms",
        }
        made.append(ConsulProcess(program, folder / name, port=ports["http"], extra=extra))
    try:
        for consul in made:
            await consul.start()
        for consul in made:
            await consul.until(lambda c=consul: c.is_ready(session), "Consul")  # type: ignore[misc]

        async def joined() -> bool:
            try:
                answer = await request(session, "GET", f"{made[0].url}/v1/catalog/nodes?dc=dc2", timeout_s=5)
            except HttpError:
                return False
            return answer.status == 200 and b"node-dc2" in answer.body

        await until(joined, "dc1 reaches dc2", 60)
        yield made
    finally:
        for consul in made:
            await consul.stop()


async def register(consul: ConsulProcess, session: Any, name: str, number: int) -> None:
    there = {"ID": f"{name}-{number}", "Name": name, "Address": f"10.0.0.{number}", "Port": 9100}
    await consul.put(session, "/v1/agent/service/register", there)


@pytest.mark.row(58, did="two Consul datacenters joined over WAN; the far one is stopped for 45 s, then goes on")
async def test_a_datacenter_that_stands_still_keeps_its_targets_and_scrapers_and_holds_nobody_else_up(
    tmp_path: Path, each_consul: Path, seen: Seen
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        near, far = await stack.enter_async_context(datacenters(each_consul, tmp_path, session))
        await register(near, session, "node", 1)
        await register(far, session, "node", 2)
        await far.put(
            session, "/v1/agent/service/register", {"ID": "s", "Name": "scrapers", "Address": "127.0.0.1", "Port": 1}
        )
        both = {"services": ["node"], "datacenters": ["dc1", "dc2"], "refresh_interval": "2s"}
        service = {
            "name": "x",
            "scrapers": {"consul": {"service": "scrapers"}},
            "targets": [{"consul": both}],
            "delivery": [{"file": {"path": str(tmp_path / "out/{service}/{scraper}.json")}}],
            "join_delay": "0s",
            "audit": None,
            "guard": {"shrink_threshold": 0, "growth_threshold": None},
        }
        local = {**service, "name": "y", "fleet": "far", "targets": [{"consul": {**both, "datacenters": ["dc1"]}}]}
        fleet = {key: service[key] for key in ("scrapers", "delivery", "join_delay", "audit")}
        services = [{key: one[key] for key in ("name", "targets", "guard")} | {"fleet": "far"} for one in (service, local)]
        config = {
            "consul": {"address": near.address, "datacenter": "dc2"},
            "fleets": [{"name": "far", **fleet}],
            "shard_services": services,
        }
        without_aliases = json.loads(json.dumps(config))
        controller = Controller(tmp_path / "promring", without_aliases, port=free_port())
        await controller.start()
        stack.push_async_callback(controller.stop)

        def has(name: str, *numbers: int) -> bool:
            path = tmp_path / "out" / name / "127.0.0.1_1.json"
            if not path.exists():
                return False
            found = sorted(a for group in json.loads(path.read_bytes()) for a in group["targets"])
            return found == [f"10.0.0.{number}:9100" for number in numbers]

        await until(lambda: has("x", 1, 2) and has("y", 1), "targets of both, on the scraper of dc2", 60)
        far.signal(signal.SIGSTOP)
        await register(near, session, "node", 3)
        took = await until(lambda: has("y", 1, 3) and has("x", 1, 2, 3), "what is new in dc1 is seen, what dc2 had stays")
        await asyncio.sleep(STOOD_STILL_S)
        assert has("y", 1, 3)
        assert has("x", 1, 2, 3)
        far.signal(signal.SIGCONT)
        await register(far, session, "node", 4)
        back = await until(lambda: has("x", 1, 2, 3, 4), "what is new in dc2 is seen", 60)
        seen(f"its target and its scraper stayed; news of dc1 in slices after {took:.1f} s, of dc2 {back:.1f} s after that")
