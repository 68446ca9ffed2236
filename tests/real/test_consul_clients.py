"""promring beside client agents of Consul, which keep its checks and ask the servers for all else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from testbed.consul import ConsulClient, ConsulProcess

from promring.consul.client import Access, Client
from promring.consul.lock import SESSION_LEAST_S, ConsulLockStore
from promring.model import ConsulError
from promring.runtime.http_client import new_session
from tests.rows import Seen
from tests.waiting import until


@asynccontextmanager
async def clients(program: Path, folder: Path, count: int = 2) -> AsyncIterator[list[ConsulClient]]:
    """Client agents of one server, which know it."""
    async with new_session(keep_alive=False) as session, AsyncExitStack() as stack:
        central = ConsulProcess(program, folder / "server")
        made = [ConsulClient(program, folder / name, central, name) for name in (f"client-{n}" for n in range(count))]
        for one in (central, *made):
            stack.push_async_callback(one.stop)
            await one.start()
            await one.until(lambda c=one: c.is_ready(session), "Consul")  # type: ignore[misc]
        yield made


@pytest.mark.row(
    6, did="the leader's Consul agent cannot ask its servers any more, which hear of it by gossip all the while"
)
async def test_an_agent_that_only_gossips_keeps_the_lock_from_nobody(tmp_path: Path, each_consul: Path, seen: Seen) -> None:
    """The check that such an agent keeps stays passing in the catalogue, and so does the agent."""
    async with clients(each_consul, tmp_path) as (ours, theirs):
        async with Client(Access(ours.address)) as client, Client(Access(theirs.address)) as another:
            lock, other = (ConsulLockStore(one, "leader", "x", 2.0) for one in (client, another))
            assert await lock.take(await lock.read()) == ""
            assert (await lock.read()).ours
            began = time.monotonic()
            while time.monotonic() - began < 2.1 * SESSION_LEAST_S:  # who lives keeps it
                assert (await lock.read()).ours
                assert (await other.read()).held
                await asyncio.sleep(1)
            ours.cut_from_servers()
            await until(lambda: fails(lock), "it cannot be asked any more")
            began = time.monotonic()

            async def is_taken() -> bool:
                return await other.take(await other.read()) == ""

            await until(is_taken, "another has the lock", 60)
            took = time.monotonic() - began
            ours.cut_from_servers(healed=True)

            async def knows() -> bool:
                with contextlib.suppress(ConsulError):
                    state = await lock.read()
                    return state.held and not state.ours
                return False

            await until(knows, "the first one knows")
            await other.release(b"")

            async def has_it_again() -> bool:
                return await lock.take(await lock.read()) == ""

            await until(has_it_again, "and can have it again")
            await lock.release(b"")
    seen(f"another has the lock after {took:.0f} s")


async def fails(lock: ConsulLockStore) -> bool:
    try:
        await lock.read()
    except ConsulError:
        return True
    return False
