"""Files of secrets and certificates that hang, vanish, or are no files: one part fails clearly, or keeps what it had."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.config.load import loads
from promring.consul.client import Access, Client
from promring.model import ConfigError, ConsulError, DiscoveryError
from promring.runtime.secretfile import LastGood, SecretError
from promring.runtime.tls import TlsFiles
from promring.telemetry import log
from tests.fakes.hostile import HostilePeer
from tests.hostile.drive import running
from tests.hostile.test_agent import SLICES, sparse, waits
from tests.hostile.test_sources import LIST
from tests.sources import http_source
from tests.waiting import until

NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a terabyte": sparse,
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "two lines": lambda path: path.write_text("canary-31\ncanary-41"),
    "nothing": lambda path: path,
}

pytestmark = pytest.mark.timeout(120)


@pytest.mark.row(54, did="token, password, headers or CA file: FIFO, device, folder, a terabyte, binary, missing")
@pytest.mark.parametrize("kind", NO_FILES)
async def test_a_secret_that_is_no_file_is_a_clear_error_of_its_part_and_holds_nobody_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secret"
    NO_FILES[kind](path)
    ca = path if kind not in ("no text", "two lines") else tmp_path / "none"
    async with HostilePeer(LIST) as peer:
        url = f"http://{peer.address}/"
        for source in (
            http_source(url, 1.0, 5.0, bearer_token_file=path),
            http_source(url, 1.0, 5.0, headers_file=path),
            http_source(url.replace("http:", "https:"), 1.0, 5.0, tls=TlsFiles(ca)),
        ):
            with pytest.raises(DiscoveryError) as caught:
                await source.fetch()
            assert "canary" not in str(caught.value)
        for access in (
            Access(peer.address, token_file=path),
            Access(peer.address, username="u", password_file=path),
            Access(f"https://{peer.address}", tls=TlsFiles(ca)),
        ):
            async with Client(access) as client:
                with pytest.raises(ConsulError) as refused:
                    await client.instances("x")
                assert "canary" not in str(refused.value)


@pytest.mark.row(54, did="the token file of a running agent becomes a FIFO, then a file again")
async def test_an_agent_outlives_a_token_file_that_is_a_fifo(tmp_path: Path) -> None:
    token = tmp_path / "token"
    os.mkfifo(token)
    async with HostilePeer(SLICES) as peer:
        peer.honest = waits
        settings = AgentSettings([f"http://{peer.address}"], "s:1", tmp_path, token_file=token, wait_s=0.3)
        poller = Poller(settings, AgentMetrics(), log.get())
        async with running(poller.run()):
            await asyncio.sleep(0.5)
            assert not poller.has_slice
            token.unlink()
            token.write_text("secret")
            await until(lambda: poller.has_slice, "read again", 60)


def test_a_configuration_that_names_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    text = """
consul: {address: "127.0.0.1:1", token_file: token}
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["127.0.0.1:1"]}}
    targets: [{file: {files: [x.json]}}]
    delivery: [{http_sd: {}}]
"""
    with pytest.raises(ConfigError, match="not a regular file"):
        loads(text, base=tmp_path)


@pytest.mark.row(54, did="a file that was read hangs, then answers again: the last one is used meanwhile")
async def test_a_file_that_hangs_is_replaced_by_what_it_last_held_and_read_once_at_a_time() -> None:
    free, calls = threading.Event(), list[int]()
    free.set()

    def work(_: str | None) -> str:
        calls.append(1)
        free.wait(120)
        return f"read {len(calls)}"

    one = LastGood("/mnt/dead/token", work)
    assert await one.get() == "read 1"
    free.clear()
    for _ in range(5):
        assert await one.get() == "read 1"
    assert len(calls) == 2, "the read that hangs is not begun again"
    free.set()
    await until(lambda: not one.hangs, "the mount is back")
    assert await one.get() == "read 3"


async def test_a_file_that_hangs_from_the_first_is_said_and_holds_nobody_up() -> None:
    free = threading.Event()
    one = LastGood("/mnt/dead/token", lambda _: free.wait(120))
    with pytest.raises(SecretError, match="/mnt/dead/token: not read within 1 s"):
        await one.get()
    free.set()
    await until(lambda: not one.hangs, "it ended")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
async def test_trouble_on_the_way_keeps_the_last_one_and_a_file_that_is_gone_does_not(number: int) -> None:
    trouble: list[OSError] = []

    def work(_: str | None) -> str:
        for error in trouble:
            raise error
        return "good"

    one = LastGood("token", work)
    assert await one.get() == "good"
    trouble[:] = [OSError(number, "trouble", "token")]
    assert await one.get() == "good"
    trouble[:] = [FileNotFoundError(errno.ENOENT, "No such file", "token")]
    with pytest.raises(SecretError, match="token: No such file"):
        await one.get()
