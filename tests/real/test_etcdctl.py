"""The least right of the lock in etcd, given with etcdctl as the page says."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from testbed.etcd import EtcdProcess

from promring.etcd.access import Access
from promring.etcd.client import Client
from promring.etcd.lock import EtcdLockStore
from promring.model import EtcdError
from promring.runtime.http_client import new_session
from tests.blocks import ROOT, blocks
from tests.real.conftest import server
from tests.waiting import patient

PASSWORD = "sesame"


def typed(line: str, program: Path, endpoint: str, passwords: int) -> tuple[int, str]:
    """Exit status and output of a line of shell at a terminal, at which a password is typed so many times."""
    env = {"PATH": f"{program.parent}:/usr/bin:/bin", "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoint}
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            ["bash", "-e", "-c", line], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True
        )
        os.write(ours, f"{PASSWORD}\n".encode() * passwords)
        out, _ = process.communicate(timeout=patient(60))
        return process.returncode, out
    finally:
        os.close(ours)
        os.close(theirs)


async def test_the_rights_that_the_page_gives_with_etcdctl_are_those_that_the_lock_needs(tmp_path: Path) -> None:
    program, etcd = server("etcdctl"), EtcdProcess(server("etcd"), tmp_path / "etcd")
    (block,) = (one for one in blocks(ROOT / "docs/operations.md") if "etcdctl" in one.text)
    (tmp_path / "password").write_text(PASSWORD)
    async with new_session(keep_alive=False) as session:
        try:
            await etcd.start()
            await etcd.until(lambda: etcd.is_ready(session), "etcd")
            status, out = typed(block.text, program, etcd.url, 2)
            assert status == 0, out
            root = f"etcdctl user add root:{PASSWORD}; etcdctl user grant-role root root; etcdctl auth enable"
            status, out = typed(root, program, etcd.url, 0)
            assert status == 0, out
            async with Client(Access((etcd.url,), username="promring", password_file=tmp_path / "password")) as client:
                lock = EtcdLockStore(client, "promring/leader", "me", 5.0)
                assert await lock.take(await lock.read()) == ""
                seen = await lock.read()
                assert seen.ours
                assert await lock.renew(seen, b"note")
                with pytest.raises(EtcdError, match="readwrite on other"):
                    await EtcdLockStore(client, "other", "me", 5.0).read()
        finally:
            await etcd.stop()
