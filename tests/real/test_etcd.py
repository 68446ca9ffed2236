"""The lock on real etcd servers: behind TLS and passwords, and on three members of which one is killed or frozen."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import trustme
from testbed.etcd import EtcdCluster, EtcdProcess

from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.etcd.access import Access
from promring.etcd.client import Client, encoded
from promring.etcd.lock import NOTE, EtcdLockStore
from promring.model import EtcdError
from promring.runtime.http_client import TlsFiles, new_session
from promring.telemetry import log
from tests.real.conftest import server
from tests.real.stage import stage
from tests.real.test_controllers import LOCK_TROUBLE, epoch_of, taken_over, works
from tests.rows import Seen
from tests.waiting import slower, until

TTL_S = 3.0
KEY = "promring/leader"


# --- TLS and passwords -----------------------------------------------------------------------------------------------


def certificates(folder: Path) -> TlsFiles:
    """A certificate with its key, for a server on loopback and for who asks it, and the authority of that."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    files = TlsFiles(folder / "ca.pem", folder / "both.pem", folder / "both.key")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "both.pem")
    leaf.private_key_pem.write_to_path(folder / "both.key")
    return files


async def with_users(etcd: EtcdProcess, session: aiohttp.ClientSession) -> None:
    """``root``, and ``promring`` with the least right that suffices."""
    for name, password in (("root", "r00t"), ("promring", "first")):
        await etcd.call(session, "auth/user/add", {"name": name, "password": password})
        await etcd.call(session, "auth/role/add", {"name": name})
        await etcd.call(session, "auth/user/grant", {"user": name, "role": name})
    for key in (KEY, KEY + NOTE):
        right = {"permType": "READWRITE", "key": encoded(key)}
        await etcd.call(session, "auth/role/grant", {"name": "promring", "perm": right})
    await etcd.call(session, "auth/enable")


class Guarded(NamedTuple):
    """An etcd that asks for passwords, a session for it that goes on, and ``stack``, which closes what a test opens."""

    etcd: EtcdProcess
    session: aiohttp.ClientSession
    stack: AsyncExitStack

    async def store(self, access: Access, key: str = KEY, name: str = "me") -> EtcdLockStore:
        return EtcdLockStore(await self.stack.enter_async_context(Client(access)), key, name, TTL_S)

    async def as_root(self, path: str, body: Mapping[str, object]) -> None:
        root = await self.etcd.call(self.session, "auth/authenticate", {"name": "root", "password": "r00t"})
        await self.etcd.call(self.session, path, body, token=str(root["token"]))


@asynccontextmanager
async def guarded(folder: Path, tls: TlsFiles | None = None) -> AsyncIterator[Guarded]:
    etcd = EtcdProcess(server("etcd"), folder / "etcd", tls=tls)
    await etcd.start()
    try:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session(keep_alive=False))
            await etcd.until(lambda: etcd.is_ready(session), "etcd")
            await with_users(etcd, session)
            yield Guarded(etcd, session, stack)
    finally:
        await etcd.stop()


@pytest.mark.row("E1", did="etcd with TLS, client certificates and users; the password changes while the lock is held")
async def test_over_tls_with_the_least_right_and_a_password_that_changes(tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    password = tmp_path / "password"
    password.write_text("first\n")
    async with guarded(tmp_path, tls) as asked:
        urls, store = (asked.etcd.url,), asked.store
        good = await store(Access(urls, tls, "promring", password))
        assert not (await good.read()).held
        assert await good.take(await good.read()) == ""
        seen = await good.read()
        assert seen.ours
        assert await good.renew(seen, b"note")

        with pytest.raises(EtcdError, match="user name is empty"):
            await (await store(Access(urls, tls))).read()
        with pytest.raises(EtcdError, match=f"readwrite on other/key and other/key{NOTE}"):
            await (await store(Access(urls, tls, "promring", password), "other/key")).read()
        for files, why in ((TlsFiles(), "the certificate is not trusted"), (TlsFiles(tls.ca_file), "etcd at https")):
            with pytest.raises(EtcdError, match=why):
                await (await store(Access(urls, files, "promring", password))).read()

        await asked.as_root("auth/user/changepw", {"name": "promring", "password": "second"})
        with pytest.raises(EtcdError, match="authentication failed"):
            await (await store(Access(urls, tls, "promring", password))).read()
        password.write_text("second\n")
        assert (await good.read()).ours, "the new password is read from its file when the old token does not do"
        await good.release(b"last")
        assert (await (await store(Access(urls, tls, "promring", password))).read()).note == b"last"


async def test_who_may_not_touch_the_lock_any_more_does_not_keep_it_from_others(tmp_path: Path) -> None:
    """A sign of life needs no right, and the lease would go on for ever."""
    async with guarded(tmp_path) as asked:
        stores = []
        for user, password in (("promring", "first"), ("root", "r00t")):
            (tmp_path / user).write_text(password)
            access = Access((asked.etcd.url,), TlsFiles(), user, tmp_path / user)
            stores.append(await asked.store(access, name=user))
        lock, other = stores
        assert await lock.take(await lock.read()) == ""
        assert (await lock.read()).ours
        await asked.as_root("auth/role/revoke", {"role": "promring", "key": encoded(KEY)})

        async def is_free() -> bool:
            with pytest.raises(EtcdError, match="permission denied"):
                await lock.read()  # it goes on asking
            return not (await other.read()).held

        await until(is_free, "the lock is free", 60)
        assert await other.take(await other.read()) == ""
        await other.release(None)
        right = {"permType": "READWRITE", "key": encoded(KEY)}
        await asked.as_root("auth/role/grant", {"name": "promring", "perm": right})

        async def is_ours() -> bool:
            return await lock.take(await lock.read()) == ""

        await until(is_ours, "it has the lock again", 60)
        await lock.release(None)


# --- three members ---------------------------------------------------------------------------------------------------


class One:
    """A controller's part in the election, with a client of its own."""

    def __init__(self, access: Access, name: str) -> None:
        self.client = Client(access)
        self.leadership = Leadership(alone=False)
        self.election = Election(
            EtcdLockStore(self.client, KEY, name, TTL_S),
            Lease(name, TTL_S),
            self.leadership,
            informed=lambda: True,
            highest=lambda: self.leadership.epoch,
            drained=dict,
            log=log.get(),
        )


@asynccontextmanager
async def running(one: One) -> AsyncIterator[asyncio.Task[None]]:
    async with one.client:
        task = asyncio.create_task(one.election.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def three(folder: Path, tls: TlsFiles | None = None) -> AsyncIterator[tuple[EtcdCluster, aiohttp.ClientSession]]:
    cluster = EtcdCluster(server("etcd"), folder, tls)
    async with new_session(keep_alive=False) as session:
        try:
            await cluster.start(session)
            yield cluster, session
        finally:
            await cluster.stop()


@pytest.mark.row("E2", did="kill -9, or SIGSTOP, of etcd's own leader of three at the moment in which ours is lost")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_another_leads_when_etcds_own_leader_is_lost_together_with_ours(tmp_path: Path, seen: Seen, how: int) -> None:
    async with three(tmp_path) as (cluster, session):
        ones = [One(Access(cluster.endpoints), name) for name in ("one", "two")]
        async with running(ones[0]) as first, running(ones[1]) as second:
            await until(lambda: any(one.leadership.leads() for one in ones), "one leads")
            turned = 1 if ones[1].leadership.leads() else 0
            leader, other, task = ones[turned], ones[1 - turned], (first, second)[turned]
            lost = await cluster.leader(session)
            lost.signal(how)
            task.cancel()
            started = time.monotonic()
            await until(other.leadership.leads, "the other leads", 20)
            took = time.monotonic() - started
            assert other.leadership.epoch > leader.leadership.epoch
            assert took <= (TTL_S + 4.0) * slower()
            lost.signal(signal.SIGCONT)
            await asyncio.sleep(1)
            assert other.leadership.leads(), "the member that is back takes nothing away"
        seen(f"with ttl {TTL_S:g} s the other leads after {took:.1f} s")


# --- the daemon ------------------------------------------------------------------------------------------------------


@pytest.mark.row(42, did="a lock in etcd: etcd frozen until the lease ends, SIGSTOP of the leader, kill -9 of the next")
async def test_two_controllers_with_a_lock_in_etcd(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    """etcd is away for a while, the leader is frozen and thaws, the next leader is killed."""
    etcd = EtcdProcess(server("etcd"), tmp_path / "etcd")
    await etcd.start()
    try:
        async with new_session(keep_alive=False) as session:
            await etcd.until(lambda: etcd.is_ready(session), "etcd")
        async with stage(tmp_path, consul_program, None, http_sd=0, lock={}, etcd=etcd) as s:
            s.allowed |= LOCK_TROUBLE
            first, second = s.controller, await s.join_in("second")
            assert await s.leaders() == [first]
            stamps, epoch = s.stamps(), await epoch_of(s, first)

            etcd.signal(signal.SIGSTOP)
            await until(lambda: bool(first.log_lines("lease_over")), "the lease ends", 15)
            assert await s.leaders() == []
            etcd.signal(signal.SIGCONT)

            async def one_leads() -> bool:
                return len(await s.leaders()) == 1

            await until(one_leads, "one leads again", 20)
            assert s.stamps() == stamps, "without etcd nothing changes"
            (leader,) = await s.leaders()
            follower = second if leader is first else first
            assert (await epoch_of(s, leader) > epoch) or leader is first

            since = time.monotonic()
            leader.signal(signal.SIGSTOP)
            after, frozen_s = await taken_over(s, leader, since)
            assert after is follower
            await works(s)
            await s.quiet(follower)
            stamps = s.stamps()
            leader.signal(signal.SIGCONT)
            await until(
                lambda: bool(leader.log_lines("lock_lost") or leader.log_lines("lease_over")), "the thawed one knows"
            )
            assert await s.leaders() == [follower]
            assert s.stamps() == stamps

            since = time.monotonic()
            await follower.kill()
            after, killed_s = await taken_over(s, follower, since)
            assert after is leader
            assert max(frozen_s, killed_s) <= 7.0 * slower()
            await works(s)
            seen(
                f"frozen: another leads after {frozen_s:.1f} s; killed: after {killed_s:.1f} s; etcd away: 0 slices changed"
            )
    finally:
        await etcd.stop()
