"""The lock on a real etcd of three members with TLS and client certificates: what happens to a cluster that is run for
years, all of it to one pair of controllers.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec
import pytest
from testbed.etcd import EtcdCluster, EtcdProcess

from promring.etcd.access import Access
from promring.etcd.client import encoded
from promring.etcd.lock import NOTE
from tests.real.test_etcd import KEY, TTL_S, One, certificates, running, three
from tests.rows import Seen
from tests.waiting import slower, until


async def entry(member: EtcdProcess, session: aiohttp.ClientSession, key: str) -> dict[str, str]:
    """What etcd has under this key: its lease, revisions and value."""
    found = await member.call(session, "kv/range", {"key": encoded(key)})
    return msgspec.convert(found["kvs"], list[dict[str, str]])[0]


class Pair:
    """Two controllers. A leader that is stopped says nothing to anybody, as one that is killed."""

    def __init__(self, cluster: EtcdCluster, session: aiohttp.ClientSession, access: Access, stack: AsyncExitStack) -> None:
        self.cluster, self.session, self._access, self._stack = cluster, session, access, stack
        self.ones: list[One] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.highest = 0
        """Epoch that anybody led with."""

    async def start(self, name: str) -> None:
        one = One(self._access, name)
        self.ones.append(one)
        self._tasks[name] = await self._stack.enter_async_context(running(one))

    @property
    def leading(self) -> list[One]:
        return [one for one in self.ones if one.leadership.leads()]

    async def leads(self, why: str, timeout_s: float = 20.0) -> tuple[One, float]:
        """The one that leads, and after how many seconds. An epoch that is new is the highest of all."""
        seconds = await until(lambda: len(self.leading) == 1, f"one leads {why}", timeout_s)
        (leader,) = self.leading
        assert leader.leadership.epoch >= self.highest
        self.highest = leader.leadership.epoch
        return leader, seconds

    async def kill_leader(self, why: str) -> float:
        """Another one leads, and the one that was is back with nothing. The seconds that took."""
        leader, before = self.leading[0], self.highest
        name = leader.election._lease.name
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        self.ones.remove(leader)
        _, seconds = await self.leads(why)
        assert self.highest > before
        await self.start(name)
        known = self.ones[-1].leadership
        await until(lambda: known.epoch == self.highest - 1, "the one that is back follows")  # else receivers tell it
        return seconds

    async def key(self) -> dict[str, str]:
        member = next(one for one in self.cluster.members if one.running)
        return await entry(member, self.session, KEY)


async def loses_a_member(pair: Pair) -> float:
    """One of etcd's followers is killed, and our leader a moment later."""
    leads = await pair.cluster.leader(pair.session)
    lost = next(one for one in pair.cluster.members if one is not leads)
    await lost.kill()
    return await pair.kill_leader("with two members of three")


async def loses_its_quorum(pair: Pair) -> float:
    """Nobody leads on without a quorum, and somebody does soon after it is back."""
    there = [one for one in pair.cluster.members if one.running]
    (leader,) = pair.leading
    await there[0].kill()
    killed_at = time.monotonic()
    await until(lambda: not leader.leadership.leads(), "without a quorum nobody leads", 5)
    assert time.monotonic() - killed_at <= (leader.election._lease.lease_s + 0.5) * slower()
    await asyncio.sleep(2 * TTL_S)
    assert not pair.leading
    for one in pair.cluster.members:
        if not one.running:
            await one.start()
    _, seconds = await pair.leads("with the quorum back", 30)
    return seconds


async def is_compacted(pair: Pair) -> None:
    """Up to now, again and again, while the lock is held."""
    leader, epoch = pair.leading[0], pair.highest
    for _ in range(3):
        member = await pair.cluster.leader(pair.session)
        revision = (await member.call(pair.session, "kv/range", {"key": encoded(KEY)}))["header"]["revision"]  # type: ignore[index]
        await member.call(pair.session, "kv/put", {"key": encoded("other"), "value": encoded(str(revision))})
        await member.call(pair.session, "kv/compaction", {"revision": revision, "physical": True})
        await asyncio.sleep(0.5)
    assert pair.leading == [leader]
    assert leader.leadership.epoch == epoch


async def has_its_lease_revoked(pair: Pair) -> float:
    """By hand: etcd removes the key at once, and whoever leads next has a higher epoch."""
    before = pair.highest
    member = await pair.cluster.leader(pair.session)
    await member.call(pair.session, "lease/revoke", {"ID": (await pair.key())["lease"]})
    return await until(lambda: any(one.leadership.epoch > before for one in pair.leading), "a new epoch", 10)


async def is_restored_from_a_backup(pair: Pair) -> float:
    """Into a new cluster of one member, in which the revision, the lock and the note are those of two leaders before."""
    member, *others = pair.cluster.members
    backup = member.data.with_name("backup")
    await member.stop()
    shutil.copytree(member.data, backup)
    await member.start()
    await member.until(lambda: member.is_ready(pair.session), "the member is back")
    await pair.leads("after the backup")
    for _ in range(2):
        await pair.kill_leader("after the backup")
    for one in (member, *others):
        await one.kill()
    await until(lambda: not pair.leading, "nobody leads")
    shutil.rmtree(member.data)
    backup.rename(member.data)
    before, revision = pair.highest, int((await _alone(member, pair.session))["create_revision"])
    _, seconds = await pair.leads("on the restored data", 30)
    assert pair.highest > before, "above every epoch, whatever the store remembers"
    assert revision < before
    return seconds


async def _alone(member: EtcdProcess, session: aiohttp.ClientSession) -> dict[str, str]:
    await member.start_alone()
    await member.until(lambda: member.is_ready(session), "the restored etcd")
    return await entry(member, session, KEY + NOTE)


@pytest.mark.row(
    "E3", "E4", "E5", did="etcd of three with TLS: member killed, quorum lost, compacted, lease revoked, restored"
)
@pytest.mark.timeout(240)
async def test_the_lock_on_three_members_with_tls_outlives_what_happens_to_them(tmp_path: Path, seen: Seen) -> None:
    tls = certificates(tmp_path)
    async with three(tmp_path, tls) as (cluster, session), AsyncExitStack() as stack:
        pair = Pair(cluster, session, Access(cluster.endpoints, tls), stack)
        await pair.start("one")
        await pair.start("two")
        await pair.leads("at first")
        took = await loses_a_member(pair)
        assert took <= (TTL_S + 2.0) * slower()
        back = await loses_its_quorum(pair)
        await is_compacted(pair)
        revoked = await has_its_lease_revoked(pair)
        restored = await is_restored_from_a_backup(pair)
        seen(
            f"ttl {TTL_S:g} s: a member and our leader killed: next after {took:.1f} s; quorum back: {back:.1f} s; "
            f"lease revoked: {revoked:.1f} s; restored from a backup: {restored:.1f} s; epochs only climbed"
        )
