"""The tools of the fault bench on real processes: a cluster of Consuls, a network that is cut, a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from testbed import faketime, netns
from testbed.consul_cluster import ConsulCluster
from testbed.faketime import DAY_S, WallClock
from testbed.netns import Network

from promring.demo.process import Process
from promring.runtime.http_client import new_session
from tests.waiting import until

PORT = 7000

# Says something to the other one every 20 ms, and answers TCP; what it hears makes its file longer.
TALKER = """
import socket, sys, threading, time
own, other, port, heard = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((own, port))
tcp = socket.create_server((own, port))
def hear():
    with open(heard, "ab", 0) as file:
        while True:
            file.write(udp.recv(100)[:1])
def answer():
    while True:
        tcp.accept()[0].close()
for part in (hear, answer):
    threading.Thread(target=part, daemon=True).start()
while True:
    udp.sendto(b"x", (other, port))
    time.sleep(0.02)
"""

CLOCKS = """
import os, sys, time
while True:
    clocks = time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), os.stat(sys.argv[1]).st_mtime
    time.sleep(0.02)
    print(*clocks, flush=True)
"""


def needs(why_not: str) -> None:
    if why_not:
        if os.environ.get("CI"):
            pytest.fail(why_not)
        pytest.skip(why_not)


async def test_a_cluster_elects_a_leader_survives_its_death_and_takes_it_back(tmp_path: Path, consul_program: Path) -> None:
    cluster = ConsulCluster(consul_program, tmp_path)
    async with new_session(keep_alive=False) as session:
        try:
            await cluster.start()
            first = await cluster.until_ready(session)
            assert len(await cluster.followers(session)) == 2
            await first.put(session, "/v1/kv/kept", "yes")

            await first.kill()
            second = await cluster.until_ready(session)
            assert second is not first
            assert len(await second.get(session, "/v1/kv/kept")) == 1

            third = (await cluster.followers(session))[0]
            await third.kill()

            async def leaderless() -> bool:
                return await cluster.leader(session) is None

            await until(leaderless, "no quorum, no leader", 15)
            await cluster.start()
            await cluster.until_ready(session)
            assert len(cluster.running) == 3
            assert len(await first.get(session, "/v1/kv/kept")) == 1
        finally:
            await cluster.stop()
    assert not cluster.running


@pytest.fixture
def network() -> Iterator[Network]:
    needs(netns.available())
    with Network("a", "b", "c") as made:
        yield made


class Talkers:
    """One process in each of two namespaces, which talk to each other all the time."""

    def __init__(self, network: Network, folder: Path) -> None:
        program = folder / "talker.py"
        program.write_text(TALKER)
        self.processes, self.heard = [], {}
        for own, other in (("a", "b"), ("b", "a")):
            self.heard[own] = folder / f"heard-by-{own}"
            arguments = [program, network.address(own), network.address(other), PORT, self.heard[own]]
            command = network.arguments(own, [sys.executable, *map(str, arguments)])
            self.processes.append(Process(command, folder / f"{own}.log"))

    async def hearing(self, for_s: float = 0.5) -> set[str]:
        """Who hears something of what is said from now on."""
        await asyncio.sleep(0.1)
        before = {name: path.stat().st_size for name, path in self.heard.items()}
        await asyncio.sleep(for_s)
        return {name for name, path in self.heard.items() if path.stat().st_size > before[name]}


@asynccontextmanager
async def talking(network: Network, folder: Path) -> AsyncIterator[Talkers]:
    talkers = Talkers(network, folder)
    try:
        for process in talkers.processes:
            await process.start()
        await until(lambda: all(p.exists() and p.stat().st_size for p in talkers.heard.values()), "both hear")
        yield talkers
    finally:
        for process in talkers.processes:
            await process.stop()


async def test_a_network_is_cut_both_ways_or_one_way_in_silence_and_heals(network: Network, tmp_path: Path) -> None:
    async with talking(network, tmp_path) as talkers:
        assert await talkers.hearing() == {"a", "b"}
        network.partition("a", "b")
        assert await talkers.hearing() == set()
        for name in ("a", "b"):  # the test itself is not cut off
            socket.create_connection((network.address(name), PORT), timeout=2).close()
        network.heal()
        assert await talkers.hearing() == {"a", "b"}
        network.partition("a", "b", one_way=True)
        assert await talkers.hearing() == {"a"}
        network.heal()
        network.partition("b", "a", one_way=True)
        assert await talkers.hearing() == {"b"}
        network.partition("a", "c")
        assert await talkers.hearing() == {"b"}
        network.heal()
        assert await talkers.hearing() == {"a", "b"}
        assert all(p.running for p in talkers.processes)


async def test_who_connects_through_a_cut_hears_nothing_until_it_heals(network: Network, tmp_path: Path) -> None:
    connects = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20).close()"
    async with talking(network, tmp_path):
        network.partition("a", "b", one_way=True)
        command = network.arguments("a", [sys.executable, "-c", connects, network.address("b"), str(PORT)])
        client = Process(command, tmp_path / "client.log")
        await client.start()
        try:
            await asyncio.sleep(1.0)
            assert client.running, client.log_tail()
            network.heal()
            async with asyncio.timeout(60):
                assert await client.wait() == 0, client.log_tail()
        finally:
            await client.stop()


async def test_signals_reach_the_process_in_the_namespace_and_it_dies_with_its_parent(
    network: Network, tmp_path: Path
) -> None:
    command = network.arguments("a", ["sleep", "60"])
    process = Process(command, tmp_path / "log")
    await process.start()
    await until(lambda: _command_of(process.pid) == "sleep 60", "it is the program itself")
    assert await process.stop() == -signal.SIGTERM

    parent = (
        "import asyncio, sys; from pathlib import Path; from promring.demo.process import Process\n"
        "async def main():\n    p = Process(sys.argv[2:], Path(sys.argv[1])); await p.start()\n"
        "    print(p.pid, flush=True); await p.wait()\nasyncio.run(main())"
    )
    started = Process([sys.executable, "-c", parent, tmp_path / "log", *command], tmp_path / "pid")
    await started.start()
    await until(lambda: (tmp_path / "pid").read_text().strip().isdecimal(), "the grandchild runs")
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: _command_of(pid) == "sleep 60", "the grandchild is the program itself")
    await started.kill()
    await until(lambda: _command_of(pid) == "", "the grandchild died with its parent", 5)


def test_two_networks_live_side_by_side_and_nothing_is_left_of_them(network: Network) -> None:
    with Network("a", "b") as other:
        assert other.address("a") != network.address("a")
        assert Path("/sys/class/net", other.link).exists()
    assert not Path("/sys/class/net", other.link).exists()


async def test_the_network_of_a_killed_process_goes_with_it(tmp_path: Path) -> None:
    needs(netns.available())
    source = (
        "import time; from testbed.netns import Network\n"
        "with Network('a', 'b') as n: print(n.link, flush=True); time.sleep(60)"
    )
    killed = Process([sys.executable, "-c", source], tmp_path / "log")
    await killed.start()
    try:
        await until(lambda: killed.log_file.read_text().startswith("promring"), "it has its network")
        link = Path("/sys/class/net", killed.log_file.read_text().strip())
        assert link.exists()
    finally:
        await killed.kill()
    await until(lambda: not link.exists(), "the kernel has removed it")


async def test_the_wall_clock_jumps_a_day_and_no_other_clock(tmp_path: Path) -> None:
    needs(faketime.available())
    with WallClock(tmp_path) as clock:
        log = tmp_path / "clocks"
        process = Process([sys.executable, "-c", CLOCKS, __file__], log, clock.env)
        await process.start()

        def now() -> list[float]:
            """How far the last whole line is from the true clocks: wall, monotonic, boot; and the time of a file."""
            said = [float(word) for word in log.read_text().rpartition("\n")[0].splitlines()[-1].split()]
            true = time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), Path(__file__).stat().st_mtime
            return [s - t for s, t in zip(said, true, strict=True)]

        def off_by(wall_s: float) -> bool:
            with contextlib.suppress(IndexError, ValueError):
                wall, *others = now()
                return abs(wall - wall_s) < 2 and all(abs(o) < 2 for o in others)
            return False

        try:
            await until(lambda: off_by(0), "the true time at first")
            for jump_s, off_s in ((DAY_S, DAY_S), (-3 * DAY_S, -2 * DAY_S), (2 * DAY_S, 0.0)):
                clock.jump(jump_s)
                await until(lambda off_s=off_s: off_by(off_s), f"off by {off_s} s")  # type: ignore[misc]
        finally:
            await process.kill()
    left = [p.name for p in Path("/dev/shm").iterdir() if p.name.endswith(f"_{process.pid}")]
    assert left == []


def _command_of(pid: int) -> str:
    """Empty when it is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
