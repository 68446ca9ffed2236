"""Consul says more than alive and dead: maintenance, warnings, datacenters, odd instances. Row 58 of the failure list."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from testbed.consul import ConsulProcess

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess
from promring.runtime.http_client import new_session, request
from tests.real.stage import CONSUL_SERVICE, SERVICE, Stage, stage
from tests.rows import Seen
from tests.waiting import until

TROUBLE = {"consul_instance_refused"}


def service_id(scraper: ScraperProcess) -> str:
    return f"{CONSUL_SERVICE}-{scraper.id.replace(':', '-')}"


async def maintain(s: Stage, scraper: ScraperProcess | None, *, on: bool = True) -> None:
    """One scraper, or the agent's node."""
    what = f"service/maintenance/{service_id(scraper)}" if scraper else "maintenance"
    await s.consul.put(s.session, f"/v1/agent/{what}?enable={str(on).lower()}")


async def described(s: Stage, scraper: ScraperProcess) -> dict[str, Any]:
    found = (await s.controller.ask(s.session, f"services/{SERVICE}"))["scrapers"]
    return next(one for one in found if one["id"] == scraper.id)


@pytest.mark.row(58, did="maintenance of one of three Prometheus, then its end; then maintenance, and it is killed")
async def test_maintenance_of_a_scraper_is_a_drain_without_a_missed_scrape(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        await s.scraped_by_now()
        drained, *left = s.scrapers
        mine, since = s.slice_of(drained), time.monotonic()
        await maintain(s, drained)
        await until(lambda: s.placed_on(*left) and not s.slice_of(drained), "drained, and its slice is empty", 40)
        worst = max(gaps(s, mine, since).values())
        assert worst < 3, f"make before break: a target was not scraped for {worst:.1f} s"
        one = await described(s, drained)
        assert (one["state"], one["drained"]) == ("up", True)
        assert "maintenance" in one["reason"]
        assert await s.held() == ""
        await maintain(s, drained, on=False)
        await until(lambda: s.placed_on(*s.scrapers), "it has its share again", 40)
        await s.quiet()
        await maintain(s, drained)
        await drained.kill()
        await until(lambda: s.placed_on(*left), "a death is a death", 20)
        await s.scraped_by_now()

        async def down() -> bool:
            return bool((await described(s, drained))["state"] == "down")

        await until(down, "said to be dead")
        seen(f"drained: {len(mine)} targets moved, longest gap {worst:.1f} s at 1 s; undrained; killed in it: dead")


def gaps(s: Stage, addresses: list[str], since: float) -> dict[str, float]:
    """The longest time without a scrape of each, from ``since`` until now."""
    found = {}
    for address in addresses:
        times = [since, *(at for at in s.farm.scrapes(address) if at >= since), time.monotonic()]
        found[address] = max(later - earlier for earlier, later in itertools.pairwise(times))
    return found


@pytest.mark.row(58, did="the agent beside promring: node maintenance, a critical node check")
async def test_what_is_said_of_the_agent_beside_promring_moves_nothing_and_hides_no_death(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0) as s:
        stamps, reshards = s.stamps(), len(s.controller.log_lines("node_update_reshard"))
        await maintain(s, None)
        await asyncio.sleep(3)
        node_check = {"ID": "disk", "Name": "disk", "TTL": "1h", "Status": "critical"}
        await s.consul.put(s.session, "/v1/agent/check/register", node_check)
        await asyncio.sleep(3)
        assert s.stamps() == stamps
        assert len(s.controller.log_lines("node_update_reshard")) == reshards
        killed, *left = s.scrapers
        await killed.kill()
        took = await until(lambda: s.placed_on(*left), "a death meanwhile", 20)
        seen(f"0 slices changed, a death meanwhile in the slices after {took:.1f} s")


@pytest.mark.row(
    58, did="an instance without a port, one with a path as address, one in another spelling; a check that warns"
)
async def test_odd_instances_are_named_and_hide_no_death(tmp_path: Path, each_consul: Path, seen: Seen) -> None:
    async with stage(tmp_path, each_consul, None, http_sd=0) as s:
        s.allowed |= TROUBLE
        stamps = s.stamps()
        port = int(s.scrapers[0].id.rpartition(":")[2])
        odd: list[dict[str, Any]] = [
            {"ID": "portless", "Address": "127.0.0.1"},
            {"ID": "path", "Address": "127.0.0.1/../../x?y", "Port": 80},
            {"ID": "zz-spelling", "Address": "::ffff:127.0.0.1", "Port": port},
        ]
        for one in odd:
            await s.consul.put(s.session, "/v1/agent/service/register", {"Name": CONSUL_SERVICE, **one})
        warning = {"ID": "warns", "Name": "warns", "ServiceID": service_id(s.scrapers[1]), "TTL": "1h", "Status": "warning"}
        await s.consul.put(s.session, "/v1/agent/check/register", warning)

        def named() -> bool:
            lines = "\n".join(s.controller.log_lines("consul_instance_refused"))
            return all(one["ID"] in lines for one in odd)

        await until(named, "each is named")

        async def warned() -> bool:
            return bool((await described(s, s.scrapers[1]))["reason"] == "warning in Consul")

        await until(warned, "the warning is said")
        assert s.stamps() == stamps
        killed, *left = s.scrapers
        await killed.kill()
        took = await until(lambda: s.placed_on(*left), "a death", 20)
        assert len(s.controller.log_lines("consul_instance_refused")) <= 2 * len(odd)
        seen(f"3 left out and named, a warning takes nobody away; a death in the slices after {took:.1f} s")


@pytest.mark.row(58, did="two Consul datacenters, joined over WAN; promring beside an agent of the other one")
async def test_nothing_is_written_in_a_datacenter_that_is_not_read(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    wan = [free_port(), free_port()]
    made = []
    for number, name in enumerate(("dc1", "dc2")):
        ports = {"http": free_port(), "dns": -1, "grpc": -1, "serf_lan": free_port(), "server": free_port()}
        extra = {
            "datacenter": name,
            "node_name": f"node-{name}",
            "ports": ports | {"serf_wan": wan[number]},
            "retry_join_wan": [f"127.0.0.1:{wan[1 - number]}"],
            "retry_interval_wan": "500ms",
        }
        made.append(ConsulProcess(consul_program, tmp_path / name, port=ports["http"], extra=extra))
    ours, other = made
    folder = tmp_path / "promring"
    folder.mkdir()
    (folder / "targets.json").write_text('[{"targets": ["10.0.0.1:9100"]}]')
    config: dict[str, Any] = {
        "consul": {"address": ours.address, "datacenter": "dc2"},
        "shard_services": [
            {
                "name": "x",
                "scrapers": {"consul": {"service": "scrapers", "register": {"nodes": ["127.0.0.1:1"]}}},
                "targets": [{"file": {"files": ["targets.json"]}}],
                "delivery": [{"file": {"path": "out/{scraper}.json"}}],
                "join_delay": "0s",
            }
        ],
    }
    controller = Controller(folder, config, port=free_port())
    try:
        for consul in made:
            await consul.start()
        async with new_session(keep_alive=False) as session:
            for consul in made:
                await consul.until(lambda c=consul: c.is_ready(session), "Consul")  # type: ignore[misc]

            async def joined() -> bool:
                answer = await request(session, "GET", f"{ours.url}/v1/catalog/nodes?dc=dc2", timeout_s=5)
                return answer.status == 200 and b"node-dc2" in answer.body

            await until(joined, "dc1 reaches dc2", 60)
            await controller.start()
            await until(lambda: bool(controller.log_lines("register_failed")), "refused", 30)
            await asyncio.sleep(7)  # longer than a look
            (said,) = controller.log_lines("register_failed")
            assert "is an agent of datacenter dc1 and registers there only" in said
            assert controller.log_lines("register_service") == []
            for consul in made:
                assert await consul.get(session, "/v1/health/service/scrapers") == []
            there = {"ID": "s-1", "Name": "scrapers", "Address": "127.0.0.1", "Port": 1}
            await other.put(session, "/v1/agent/service/register", there)
            await until((folder / "out" / "127.0.0.1_1.json").exists, "what others registered in dc2 is read", 30)
            seen("0 registrations in either datacenter, the reason said once; scrapers of the other datacenter are read")
    finally:
        await controller.stop()
        for consul in made:
            await consul.stop()
