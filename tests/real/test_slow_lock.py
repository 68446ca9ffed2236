"""The election over real stores behind a slow wire: who leads goes on, and a longer TTL is for a slower store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from testbed.proxy import FaultProxy, Latency

from promring.consul.lock import LEASE_MOST_S
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.telemetry import log
from tests.real.lock_grounds import GROUNDS, Ground
from tests.rows import Seen
from tests.waiting import until

LEADS_S = 15.0


@dataclass
class Candidate:
    leadership: Leadership
    proxy: FaultProxy
    lapses: list[float] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def die(self) -> None:
        """As by kill -9."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def candidate(ground: Ground, name: str, most_s: float) -> AsyncIterator[Candidate]:
    host, _, port = ground.address.rpartition(":")
    async with FaultProxy(host, int(port)) as proxy:
        one = Candidate(Leadership(alone=False), proxy)
        election = Election(
            ground.candidate(name, at=proxy.address),
            Lease(name, ground.ttl_s, most_s),
            one.leadership,
            informed=lambda: True,
            highest=lambda: 0,
            drained=dict,
            log=log.get(),
            lapsed=lambda: one.lapses.append(time.monotonic()),
        )
        one.task = asyncio.create_task(election.run())
        try:
            yield one
        finally:
            await one.die()


@pytest.mark.row(62, did="the store of the lock answers each request only after 0.5 s or 1 s")
@pytest.mark.parametrize(
    ("kind", "ttl_s", "each_way_s"),
    [("consul", 15.0, 0.15), ("etcd", 15.0, 0.5), ("kubernetes", 15.0, 0.5)],
)
async def test_a_slow_store_of_the_lock_costs_no_lease(
    kind: str, ttl_s: float, each_way_s: float, tmp_path: Path, seen: Seen
) -> None:
    """Consul's lease is short however long the TTL; the others' is as long as the TTL allows."""
    most_s = LEASE_MOST_S if kind == "consul" else ttl_s
    async with GROUNDS[kind](tmp_path) as ground, AsyncExitStack() as stack:
        ground.ttl_s = ttl_s
        both = [await stack.enter_async_context(candidate(ground, name, most_s)) for name in ("one", "two")]
        for one in both:
            one.proxy.fault = Latency(each_way_s)

        def led() -> list[Candidate]:
            return [one for one in both if one.leadership.leads()]

        await until(lambda: len(led()) == 1, "one leads", 60)
        (leader,) = led()
        until_at = time.monotonic() + LEADS_S
        while time.monotonic() < until_at:
            assert led() == [leader]
            await asyncio.sleep(0.05)
        assert not leader.lapses
        await leader.die()
        died_at = time.monotonic()
        (other,) = [one for one in both if one is not leader]
        await until(other.leadership.leads, "the other leads", 60)
        seen(f"{kind}, {2 * each_way_s:g} s an answer: no lapse, the other leads after {time.monotonic() - died_at:.0f} s")
