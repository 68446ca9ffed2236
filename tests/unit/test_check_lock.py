"""``promring check --online`` and the lock: who leads, or why that cannot be known, before the first run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from click.testing import CliRunner, Result

from promring.cli import main
from promring.election.note import Note
from promring.election.store import LockState
from promring.kubernetes.access import Access
from promring.kubernetes.client import Client
from promring.kubernetes.lock import KubernetesLockStore
from promring.runtime.http_client import TlsFiles
from tests.fakes.kubernetes import FakeKubernetes

CONFIG = """
kubernetes: {{kubeconfig: {kubeconfig}}}
controllers: {{lock: {{kubernetes: {{namespace: mon}}}}}}
shard_services:
- name: node
  scrapers: {{probe: {{nodes: ['127.0.0.1:1']}}}}
  targets: [{{file: {{files: [a.json]}}}}]
  delivery: [{{http_sd: {{}}}}]
"""


async def checked(file: Path, *more: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["check", str(file), "--online", *more])


def of_lock(out: Result) -> list[str]:
    return [line for line in out.output.splitlines() if line.startswith("controllers: ")]


async def test_a_check_says_who_leads_and_takes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "promring.yml"
    async with FakeKubernetes() as kubernetes:
        file.write_text(CONFIG.format(kubeconfig=kubernetes.kubeconfig(tmp_path)))
        assert of_lock(await checked(file)) == ["controllers: lock in kubernetes: mon/promring: nobody leads"]
        assert kubernetes.leases == {}, "it made none"
        async with Client(Access(kubernetes.url, "mon", TlsFiles())) as client:
            store = KubernetesLockStore(client, "mon/promring", "c1:9600/abcd", 5.0)
            await store.take(LockState())
            await store.renew(await store.read(), Note(leader="c1:9600/abcd", epoch=7).encode())
        assert of_lock(await checked(file)) == ["controllers: lock in kubernetes: mon/promring: c1:9600/abcd leads"]
        kubernetes.said = 403, b'{"message": "leases is forbidden"}'
        out = await checked(file)
        assert (out.exit_code, "leases is forbidden" in of_lock(out)[0]) == (1, True), out.output
    out = await checked(file)
    (line,) = of_lock(out)
    assert (out.exit_code, "Connection refused" in line) == (1, True), line


async def test_without_a_lock_nothing_is_said_of_one(tmp_path: Path) -> None:
    file = tmp_path / "promring.yml"
    text = CONFIG.format(kubeconfig="none")
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("kubernetes", "controllers"))))
    assert of_lock(await checked(file)) == []
