"""``promring agent`` whose disk does not take what it is given: full, read-only, forbidden, of the wrong kind."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from testbed.agent import AgentProcess

from promring.delivery.askers import why_in
from promring.delivery.bundle import UNTAKEN
from promring.demo.process import free_port
from promring.runtime.http_client import new_session
from tests.fakes.slices import FakeSlices
from tests.real.torn import fill, needs_root, remount, tmpfs
from tests.rows import Seen
from tests.waiting import until

RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root, too, needs the rights of files then."""
MENDED_S = 40.0
"""The agent tries again after at most 10 s; a busy machine takes longer."""


def listed(*names: str) -> bytes:
    return json.dumps([{"targets": list(names)}]).encode()


SMALL, LARGE = listed("a:1"), listed(*(f"host-{n}.example:9100" for n in range(10_000)))


class Beside:
    """One agent with its folder, and the controller that it asks."""

    def __init__(self, folder: Path, controller: FakeSlices) -> None:
        self.into, self.controller = folder / "sd", controller
        self.file = self.into / "x.json"
        self.agent = AgentProcess(folder / "agent", [controller.url], "s:1", self.into, port=free_port(), more=("--wait=1",))

    async def takes(self, body: bytes, generation: str) -> None:
        self.controller.offer(body, generation)
        await until(self.has(body), f"{generation} is written", MENDED_S)

    def has(self, body: bytes) -> Callable[[], bool]:
        return lambda: self.file.exists() and self.file.read_bytes() == body

    async def cannot_take(self, why: str) -> None:
        """It keeps what it has, names path and reason in its log and to the controller, and asks on."""
        self.controller.offer(LARGE, "1.2")
        said = f"{self.file}: {why}"
        await until(lambda: said in "".join(self.agent.log_lines("slice_not_taken")), f"it says: {said}", MENDED_S)
        await until(lambda: said in why_in(self.controller.asked[-1].headers.get(UNTAKEN, "")), "it tells the controller")
        tries = await self.failures()

        async def tried_again() -> bool:
            return await self.failures() >= tries + 2

        await until(tried_again, "it tries again", MENDED_S)
        assert self.agent.running
        assert len(self.agent.log_lines("slice_not_taken")) == 1, "it says so once"
        async with new_session() as session:
            status, text = await self.agent.page(session, "/-/ready")
        assert status == 200, "it has a slice, although an older one"
        assert f"x: stays as it was: {said}" in text
        assert await self.metric("promring_agent_slice_generation") == 1, "that of the slice in the file"

    async def failures(self) -> int:
        return await self.metric('promring_agent_slices_total{outcome="failed"')

    async def metric(self, series: str) -> int:
        async with new_session() as session:
            _, text = await self.agent.page(session, "/metrics")
        (line,) = [one for one in text.splitlines() if one.startswith(series)]
        return int(float(line.split()[-1]))


@asynccontextmanager
async def beside(folder: Path, *before: str) -> AsyncIterator[Beside]:
    """``before``: how the agent is called."""
    async with FakeSlices().running() as controller:
        made = Beside(folder, controller)
        made.agent.arguments = [*before, *made.agent.arguments]
        await made.agent.start()
        try:
            await made.takes(SMALL, "1.1")
            yield made
        finally:
            assert await made.agent.stop() == 0


@pytest.mark.row(33, did="an agent loses the right to write its folder")
async def test_an_agent_without_the_right_to_its_folder_keeps_its_slice_says_why_and_recovers(
    tmp_path: Path, seen: Seen
) -> None:
    async with beside(tmp_path, *(RIGHTS if os.geteuid() == 0 else ())) as b:
        b.into.chmod(0o555)
        (b.into / ".x.json.promring-lock").unlink(missing_ok=True)
        await b.cannot_take("Permission denied")
        assert b.file.read_bytes() == SMALL
        b.into.chmod(0o755)
        await until(b.has(LARGE), "written once it was allowed", MENDED_S)
    seen("the old slice; path and reason in its log and at the controller; written by itself once it was allowed")


@pytest.mark.row(33, did="a folder in place of an agent's file")
async def test_an_agent_that_finds_a_folder_in_place_of_its_file_says_so_and_recovers(tmp_path: Path) -> None:
    async with beside(tmp_path) as b:
        b.file.unlink()
        b.file.mkdir()
        b.controller.offer(LARGE, "1.2")
        await until(lambda: str(b.file) in "".join(b.agent.log_lines("slice_not_taken")), "it says so", MENDED_S)
        b.file.rmdir()
        await until(b.has(LARGE), "written once there was room", MENDED_S)


@needs_root
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.row(33, did="the disk of an agent is full, or read-only")
async def test_an_agent_on_a_full_or_read_only_disk_keeps_its_slice_says_why_and_recovers(
    tmp_path: Path, fault: str
) -> None:
    with tmpfs(tmp_path / "sd", "128k"):
        async with beside(tmp_path) as b:
            if fault == "full":
                fill(b.into / "filler", 4096)
                await b.cannot_take("No space left on device")
            else:
                remount(b.into, "ro")
                await b.cannot_take("Read-only file system")
            assert b.file.read_bytes() == SMALL
            assert [one.name for one in b.into.iterdir() if one.name.endswith("-tmp")] == []
            remount(b.into, "rw,size=2m")
            await until(b.has(LARGE), "written once it could be", MENDED_S)


@pytest.mark.row(33, did="an agent may write no file as large as its slice (RLIMIT_FSIZE)")
async def test_an_agent_that_may_not_write_so_large_a_file_keeps_its_slice_says_why_and_recovers(tmp_path: Path) -> None:
    async with beside(tmp_path) as b:
        most = resource.prlimit(b.agent.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(b.agent.pid, resource.RLIMIT_FSIZE, (64 * 1024, most[1]))
        await b.cannot_take("File too large")
        assert b.file.read_bytes() == SMALL
        assert [one.name for one in b.into.iterdir() if one.name.endswith("-tmp")] == []
        resource.prlimit(b.agent.pid, resource.RLIMIT_FSIZE, most)
        await until(b.has(LARGE), "written once it may be", MENDED_S)
