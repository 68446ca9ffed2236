"""The lock in a Lease on a real kube-apiserver, where there is one: the rights of the manifest, and a take-over."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from testbed.etcd import EtcdProcess
from testbed.kubernetes import ACCOUNT, ApiServer, manifest

from promring.config.kinds import Sections
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.election.store import LockStore
from promring.kubernetes.access import KubernetesSection
from promring.kubernetes.lock import KubernetesLockSettings
from promring.model import KubernetesError
from promring.runtime.http_client import new_session
from promring.telemetry import log
from tests.real.conftest import server
from tests.rows import Seen
from tests.waiting import slower, until

TTL_S = 3.0


@pytest.mark.row("K8", did="a lock in Kubernetes: before the manifest, with its rights, and without the leader")
async def test_with_the_rights_of_the_manifest_another_leads_when_the_leader_is_gone(tmp_path: Path, seen: Seen) -> None:
    program, etcd = server("kube-apiserver"), EtcdProcess(server("etcd"), tmp_path / "etcd")
    api = ApiServer(program, tmp_path / "api", etcd)
    async with new_session(keep_alive=False) as session, AsyncExitStack() as stack:
        await etcd.start()
        stack.push_async_callback(etcd.stop)
        await api.start()
        stack.push_async_callback(api.kill)
        await api.until(lambda: api.is_ready(session), "kube-apiserver", 120)

        await api.namespace(session, "mon")
        await api.create(session, ACCOUNT)
        account = await api.account_token(session, "mon", "promring")

        async def store(name: str, token: str = account) -> LockStore:
            file = tmp_path / f"token of {name}"
            file.write_text(token)
            sections = Sections([KubernetesSection(kubeconfig=api.kubeconfig(tmp_path / name, file, "mon"))])
            settings = KubernetesLockSettings(name="promring", lease=TTL_S)
            return await stack.enter_async_context(settings.store(name, sections))

        with pytest.raises(KubernetesError, match=r'promring" cannot get resource "leases".*403'):
            await (await store("too early")).read()
        with pytest.raises(KubernetesError, match="401"):
            await (await store("nobody", "another-token")).read()
        await api.apply(session, manifest("rbac"))

        first, second = Leadership(alone=False), Leadership(alone=False)

        def election(store: LockStore, name: str, leadership: Leadership) -> asyncio.Task[None]:
            made = Election(
                store,
                Lease(name, TTL_S),
                leadership,
                informed=lambda: True,
                highest=lambda: leadership.epoch,
                drained=dict,
                log=log.get(),
            )
            return asyncio.create_task(made.run())

        tasks = [election(await store("first"), "first", first)]
        try:
            await until(first.leads, "the first leads")
            tasks.append(election(await store("second"), "second", second))
            await until(lambda: second.leader == "first", "the second follows")
            await asyncio.sleep(TTL_S + 1)
            await until(first.leads, "it renews: else the other one leads now")
            assert not second.leads()
            tasks[0].cancel()
            started = time.monotonic()
            await until(second.leads, "the second leads", 20)
            took = time.monotonic() - started
            assert took <= (TTL_S + 2.0) * slower()
            assert second.epoch > first.epoch
            seen(f"with a lease of {TTL_S:g} s the other leads after {took:.1f} s")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
