"""The lock by itself, on a real Consul that loses answers, refuses, and has something else in the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from testbed.consul import ConsulProcess

from promring.consul.client import Access, Client, Key
from promring.consul.lock import ConsulLock, ConsulLockSettings
from promring.election.leadership import Leadership
from promring.model import ConsulError
from promring.runtime.http_client import new_session
from promring.telemetry import log
from tests.rows import Seen
from tests.waiting import until

KEY = "promring/leader"


class Lossy(Client):
    """A client whose next calls do what they do, and the answer is lost; or that may not write the key."""

    lost: int = 0
    denied: bool = False

    async def acquire(self, name: str, key: Key, session: str, value: bytes) -> str:
        if self.denied:
            raise ConsulError("permission denied (403)", 403)
        why_not = await Client.acquire(self, name, key, session, value)
        if self.lost:
            self.lost -= 1
            raise ConsulError("no whole answer within 2 s")
        return why_not


@dataclass
class One:
    """A controller's lock, and what it comes to."""

    client: Lossy
    leadership: Leadership
    lock: ConsulLock
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.lock.run())

    async def die(self) -> None:
        """As by kill -9: nothing is released."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Ground:
    consul: ConsulProcess
    session: aiohttp.ClientSession
    made: list[One]
    stack: list[Lossy]

    async def one(self, name: str, *, highest: int = 0, informed: bool = True) -> One:
        client = Lossy(Access(self.consul.address))
        await client.__aenter__()
        self.stack.append(client)
        leadership = Leadership(alone=False)
        settings = ConsulLockSettings(key=KEY, check_ttl=3.0)
        lock = ConsulLock(
            client,
            settings,
            leadership,
            name=name,
            informed=lambda: informed,
            highest=lambda: max(highest, leadership.epoch),
            drained=dict,
            log=log.get(),
        )
        self.made.append(One(client, leadership, lock))
        return self.made[-1]

    async def sessions(self) -> int:
        return len(await self.consul.get(self.session, "/v1/session/list"))

    async def put(self, value: bytes) -> None:
        async with self.session.put(f"{self.consul.url}/v1/kv/{KEY}", data=value) as response:
            assert response.status == 200

    async def value(self) -> Any:
        async with self.session.get(f"{self.consul.url}/v1/kv/{KEY}?raw") as response:
            return json.loads(await response.read())


@pytest.fixture
async def ground(tmp_path: Path, consul_program: Path) -> AsyncIterator[Ground]:
    async with _ground(tmp_path, consul_program) as made:
        yield made


@asynccontextmanager
async def _ground(folder: Path, program: Path) -> AsyncIterator[Ground]:
    consul = ConsulProcess(program, folder / "consul")
    await consul.start()
    async with new_session(keep_alive=False) as session:
        made = Ground(consul, session, [], [])
        try:
            await consul.until(lambda: consul.is_ready(session), "Consul")
            yield made
        finally:
            for one in made.made:
                await one.die()
            for client in made.stack:
                await client.__aexit__()
            await consul.stop()


async def test_an_answer_that_is_lost_locks_nobody_out_and_brings_no_old_epoch(ground: Ground) -> None:
    first, second = await ground.one("one"), await ground.one("two")
    first.start()
    await until(first.leadership.leads, "the first leads")
    epoch = first.leadership.epoch
    await first.die()
    second.client.lost = 1
    second.start()
    await until(second.leadership.leads, "the second leads although it never heard so", 15)
    assert second.leadership.epoch > epoch
    assert (await ground.value())["epoch"] == second.leadership.epoch
    assert not first.leadership.leads()


async def test_who_may_not_write_the_key_leaves_no_sessions(ground: Ground) -> None:
    one = await ground.one("one")
    one.client.denied = True
    one.start()
    await asyncio.sleep(5)
    assert await ground.sessions() <= 1
    one.client.denied = False
    await until(one.leadership.leads, "it leads once it may", 10)
    await one.lock.release()
    assert await ground.sessions() == 0


async def test_epochs_never_repeat_while_three_lead_in_turn(ground: Ground, seen: Seen) -> None:
    epochs: list[int] = []
    ones = [await ground.one(f"{n}") for n in range(3)]
    for one in ones:
        one.start()
    for _ in range(9):

        def leaders() -> list[One]:
            return [one for one in ones if one.leadership.leads()]

        await until(lambda: len(leaders()) == 1, "one leads", 15)
        (leader,) = leaders()
        epochs.append(leader.leadership.epoch)
        assert leader.task is not None
        leader.task.cancel()
        await asyncio.gather(leader.task, return_exceptions=True)
        await leader.lock.release()
        await until(lambda was=leader: any(one is not was for one in leaders()), "another leads", 15)  # type: ignore[misc]
        leader.start()
    assert epochs == sorted(set(epochs))


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"[]", b"{}", b'{"epoch": -1}', b'{"epoch": 100000000000000000000}', b'{"epoch": "7"}', b"[" * 100_000],
    ids=["nothing", "no JSON", "a list", "an empty object", "below zero", "too high", "a text", "deep"],
)
async def test_whatever_stands_in_the_key_somebody_leads(ground: Ground, value: bytes) -> None:
    await ground.put(value)
    one = await ground.one("one", highest=41)
    one.start()
    await until(one.leadership.leads, "it leads", 10)
    assert one.leadership.epoch >= 43
    before = one.leadership.epoch
    await ground.put(b'{"leader": "nobody", "epoch": 3}')  # by hand, while it is locked

    async def put_back() -> bool:
        return bool((await ground.value()).get("leader") == "one")

    await until(put_back, "put back", 10)
    assert one.leadership.leads()
    assert one.leadership.epoch == before


async def test_a_drain_survives_a_stop_at_once(ground: Ground) -> None:
    one = await ground.one("one")
    one.start()
    await until(one.leadership.leads, "it leads")
    one.leadership.drain("x", frozenset({"a:1"}))
    assert one.task is not None
    one.task.cancel()
    await asyncio.gather(one.task, return_exceptions=True)
    await one.lock.release()
    assert (await ground.value())["drained"] == {"x": ["a:1"]}


async def test_who_knows_less_leads_only_when_nobody_else_does_for_long(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promring.consul.lock.PATIENCE_S", 3.0)
    stale, knowing = await ground.one("stale", informed=False), await ground.one("knowing")
    stale.start()
    await asyncio.sleep(2)
    assert not stale.leadership.leads()
    knowing.start()
    await until(knowing.leadership.leads, "the one that knows leads")
    await asyncio.sleep(5)
    assert not stale.leadership.leads(), "it saw the key held: its patience begins when that ends"
    await knowing.die()
    waited = await until(stale.leadership.leads, "in the end it has to do", 20)
    assert waited > 3


async def test_the_lease_is_short_however_long_the_ttl() -> None:
    assert ConsulLockSettings(key=KEY, check_ttl=60.0).lease_s <= 4
    assert ConsulLockSettings(key=KEY, check_ttl=2.0).lease_s == pytest.approx(1.6)
