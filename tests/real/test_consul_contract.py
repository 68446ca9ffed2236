"""What promring relies on of Consul, on the real one and on the fake: so the fake is honest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from testbed.consul import ConsulProcess

from promring.consul.client import Access, Client, Instances
from promring.runtime.http_client import new_session, request
from tests.fakes.consul import FakeConsul
from tests.real.conftest import server
from tests.waiting import slower, until


class Subject:
    """A Consul, real or fake, and a client of it."""

    def __init__(self, client: Client, real: ConsulProcess | None, fake: FakeConsul | None) -> None:
        self.client, self.real, self.fake = client, real, fake

    async def register(self, number: int, *, status: str = "passing", address: str = "127.0.0.1", **more: object) -> str:
        """A service with a TTL check, so that the test says its health."""
        definition = {
            "ID": f"x-{number}",
            "Name": "x",
            "Address": address,
            "Port": 9000 + number,
            "Check": {"TTL": "1h", "Status": status},
            **more,
        }
        await self.client.register(definition)
        return f"x-{number}"

    async def verdict(self, service_id: str, verdict: str) -> None:
        await self.put(f"/v1/agent/check/{verdict}/service:{service_id}")

    async def put(self, path: str) -> None:
        async with new_session(keep_alive=False) as session:
            url = f"{self.client.url}{path}".replace("//v1", "/v1")
            assert (await request(session, "PUT", url, timeout_s=5)).status == 200

    async def conditions(self) -> list[tuple[bool | None, bool, bool]]:
        """Alive, drained, warning of each instance, by the ids."""
        entries = (await self.client.instances("x")).entries
        found = [e.condition() for e in sorted(entries, key=lambda e: e.service.id)]
        return [(one.alive, one.drained, one.warning) for one in found]

    async def forget(self) -> None:
        if self.fake is not None:
            await self.fake.forget()
        if self.real is not None:
            await self.real.kill()
            self.real.forget()
            await self.real.start()
            async with new_session(keep_alive=False) as session:
                await self.real.until(lambda: self.real.is_ready(session), "Consul again")  # type: ignore[union-attr]


@pytest.fixture(params=["fake", "consul", "consul14"])
async def consul(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        async with FakeConsul() as fake, Client(Access(fake.address)) as client:
            yield Subject(client, None, fake)
        return
    process = ConsulProcess(server(request.param), tmp_path)
    await process.start()
    try:
        async with new_session(keep_alive=False) as session:
            await process.until(lambda: process.is_ready(session), "Consul")
        async with Client(Access(process.address)) as client:
            yield Subject(client, process, None)
    finally:
        await process.stop()


async def alone(consul: Subject, service_id: str) -> Instances:
    """The answer in which this is the only instance."""
    found = await consul.client.instances("x")
    while [entry.service.id for entry in found.entries] != [service_id]:
        found = await consul.client.instances("x", index=found.index, wait_s=5)
    return found


async def test_an_unknown_service_is_an_empty_answer_with_an_index(consul: Subject) -> None:
    found = await consul.client.instances("nobody")
    assert found.entries == []
    assert found.index >= 1


async def test_a_blocking_read_returns_when_something_changed(consul: Subject) -> None:
    one = await consul.register(1)
    before = await alone(consul, one)
    waiting = asyncio.ensure_future(consul.client.instances("x", index=before.index, wait_s=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await consul.verdict(one, "fail")
    after = await asyncio.wait_for(waiting, 5)
    assert [entry.condition().alive for entry in after.entries] == [False]
    assert after.index > before.index


async def test_a_blocking_read_without_a_change_ends_after_its_wait_with_the_same_answer(consul: Subject) -> None:
    one = await consul.register(1)
    before = await alone(consul, one)
    started = time.monotonic()
    assert await consul.client.instances("x", index=before.index, wait_s=1) == before
    assert 0.9 < time.monotonic() - started < 5 * slower()


async def test_an_instance_without_an_address_has_its_nodes(consul: Subject) -> None:
    await consul.register(1, address="")

    async def listed() -> bool:
        return [e.host for e in (await consul.client.instances("x")).entries] == ["127.0.0.1"]

    await until(listed, "the node's address")


async def test_a_restart_without_data_answers_empty_with_a_lower_index(consul: Subject) -> None:
    for number in range(3):
        await consul.register(number)

    async def listed() -> bool:
        return len((await consul.client.instances("x")).entries) == 3

    await until(listed, "three instances")
    for verdict in ["warn", "pass"] * 10:
        await consul.verdict("x-0", verdict)
    before = await consul.client.instances("x")
    await consul.forget()
    after = await consul.client.instances("x")
    assert after.entries == []
    assert after.index < before.index


async def test_maintenance_is_a_check_of_its_own_name_beside_those_that_say_whether_it_lives(consul: Subject) -> None:
    await consul.register(1)
    await consul.register(2, status="critical")
    live, dead, warned = (True, False, False), (False, False, False), (True, False, True)
    await until(lambda: agrees(consul, [live, dead]), "registered")
    for service in ("x-1", "x-2"):
        await consul.put(f"/v1/agent/service/maintenance/{service}?enable=true")
    await until(lambda: agrees(consul, [(True, True, False), (False, True, False)]), "maintenance of both instances")
    await consul.put("/v1/agent/maintenance?enable=true")
    for service in ("x-1", "x-2"):
        await consul.put(f"/v1/agent/service/maintenance/{service}?enable=false")
    await until(lambda: agrees(consul, [(True, True, False), (False, True, False)]), "maintenance of the node")
    await consul.put("/v1/agent/maintenance?enable=false")
    await consul.verdict("x-2", "warn")
    await until(lambda: agrees(consul, [live, warned]), "over")


async def agrees(consul: Subject, expected: list[tuple[bool | None, bool, bool]]) -> bool:
    return await consul.conditions() == expected


async def test_an_instance_without_a_port_or_a_check_is_in_the_answer_and_has_weights(consul: Subject) -> None:
    await consul.register(1, Port=0)
    await consul.register(2, Weights={"Passing": 7, "Warning": 3})
    await consul.client.register({"ID": "x-3", "Name": "x", "Address": "127.0.0.1", "Port": 9003})

    async def listed() -> bool:
        return len((await consul.client.instances("x")).entries) == 3

    await until(listed, "all three")
    entries = (await consul.client.instances("x")).entries
    one, two, three = sorted(entries, key=lambda e: e.service.id)
    assert (one.service.port, two.service.port, three.service.port) == (0, 9002, 9003)
    assert (one.weight(one.condition()), two.weight(two.condition())) == (1, 7)
    assert [e.condition().alive for e in (one, two, three)] == [True, True, True]


async def test_the_agent_says_its_node_and_datacenter(consul: Subject) -> None:
    assert await consul.client.agent() == ("test", "dc1")
    assert await consul.client.own_datacenter() == "dc1"
