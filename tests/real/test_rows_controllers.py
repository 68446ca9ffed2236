"""Two controllers cut off from each other, frozen in the middle of a write, with a clock that jumps; a rogue with an old
epoch: rows 6 and 41 to 43 of the failure list.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from testbed import faketime, netns
from testbed.consul import ConsulProcess
from testbed.consul_cluster import ConsulCluster
from testbed.faketime import DAY_S, WallClock
from testbed.netns import Network

from promring.delivery.file import FileDelivery
from promring.delivery.receiver import held
from promring.demo.controller import Controller
from promring.demo.process import Process
from promring.model import Generation, Scraper, Slice
from promring.runtime.http_client import new_session
from promring.telemetry import log
from tests.real.stage import CONSUL_SERVICE, SERVICE, USUAL, configuration, stage, unlisted, write_targets
from tests.real.test_controllers import CONSUL_TROUBLE, LOCK_TROUBLE, TAKE_OVER_S, epoch_of, taken_over
from tests.real.torn import FarSide
from tests.rows import Seen
from tests.waiting import slower, until


def needs(why_not: str) -> None:
    if why_not:
        if os.environ.get("CI"):
            pytest.fail(why_not)
        pytest.skip(why_not)


# --- two sides of a partition ----------------------------------------------------------------------------------------


class Sides:
    """Consul in one network namespace, a controller in each of two others, their slices in one folder."""

    def __init__(self, folder: Path, network: Network, consul: ConsulProcess, session: Any) -> None:
        self.folder, self.network, self.consul, self.session = folder, network, consul, session
        self.controllers: dict[str, Controller] = {}

    async def start(self, name: str) -> Controller:
        config = configuration(self.folder, self.consul, [])
        del config["shard_services"][0]["scrapers"]["consul"]["register"]
        config["global"] = {"reconcile_interval": "2s"}
        config["controllers"] = {"lock": {"consul": {}}}
        made = Controller(self.folder / name, config, port=9600)
        address = self.network.address(name)
        made.url = f"http://{address}:9600"
        listen = [f"--web.listen-address={address}:9600" if "listen-address" in x else x for x in made.arguments]
        made.arguments = self.network.arguments(name, listen)
        self.controllers[name] = made
        await made.start()
        await made.until(lambda: made.is_ready(self.session), name)
        return made

    async def leads(self, name: str) -> bool:
        status = await self.controllers[name].ask(self.session, "status")
        return bool(status and status["leader"])

    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((self.folder / "out" / SERVICE).glob("*.json"))}

    def epochs(self) -> set[int]:
        """Of what the receivers took last."""
        notes = [held(p) for p in sorted((self.folder / "out" / SERVICE).glob("*.json"))]
        return {note[0].epoch for note in notes if note}

    def placed(self, count: int) -> bool:
        """Whether so many targets are in a slice; one that moves may be in two, as these scrapers confirm nothing."""
        bodies = self.files().values()
        return len({a for body in bodies for group in json.loads(body) for a in group["targets"]}) == count


@contextlib.asynccontextmanager
async def sides(folder: Path, consul_program: Path) -> AsyncIterator[Sides]:
    async with contextlib.AsyncExitStack() as stack:
        network = stack.enter_context(Network("consul", "a", "b"))
        address = network.address("consul")
        consul = ConsulProcess(consul_program, folder / "consul", extra={"bind_addr": address, "client_addr": address})
        consul.arguments = network.arguments("consul", consul.arguments)
        consul.address, consul.url = f"{address}:{consul.port}", f"http://{address}:{consul.port}"
        session = await stack.enter_async_context(new_session(keep_alive=False))
        await consul.start()
        stack.push_async_callback(consul.stop)
        await consul.until(lambda: consul.is_ready(session), "Consul")
        for n in (1, 2, 3):
            check = {"TTL": "1h", "Status": "passing"}
            scraper = {"ID": f"s{n}", "Name": CONSUL_SERVICE, "Address": f"10.9.9.{n}", "Port": 9090, "Check": check}
            await consul.put(session, "/v1/agent/service/register", scraper)
        write_targets(folder, [f"10.8.8.{n}:9100" for n in range(60)])
        made = Sides(folder, network, consul, session)
        try:
            yield made
        finally:
            network.heal()
            for controller in made.controllers.values():
                await controller.stop()
        said = unlisted(list(made.controllers.values()), USUAL | LOCK_TROUBLE | CONSUL_TROUBLE)
        assert not said, "\n".join(said)


CUTS = ["both ways", "what it sends is lost", pytest.param("what it is sent is lost", marks=pytest.mark.long)]


@pytest.mark.row(6, did="the leader cut off from Consul, both ways and one way, by a network namespace")
@pytest.mark.parametrize("cut", CUTS)
async def test_the_other_side_of_a_partition_leads(tmp_path: Path, consul_program: Path, seen: Seen, cut: str) -> None:
    needs(netns.available())
    async with sides(tmp_path, consul_program) as s:
        a = await s.start("a")
        await until(lambda: s.leads("a"), "a leads")
        await until(lambda: s.placed(60), "every target placed")
        b = await s.start("b")
        files, since = s.files(), time.monotonic()
        if cut == "both ways":
            s.network.partition("a", "consul")
        else:
            s.network.partition(*(("a", "consul") if cut == "what it sends is lost" else ("consul", "a")), one_way=True)

        async def over() -> bool:
            return not await s.leads("a")

        stepped_down = await until(over, "a steps down by its own clock", 12)
        await until(lambda: s.leads("b"), "b leads", 30)
        seconds = time.monotonic() - since
        assert seconds <= slower() * TAKE_OVER_S + (5 if cut == "what it is sent is lost" else 0)
        await until(lambda: s.epochs() == {epoch_taken(b)}, "the receivers know b's epoch", 10)
        assert s.files() == files, "and not a byte is another one"
        write_targets(tmp_path, [f"10.8.8.{n}:9100" for n in range(61)])
        await until(lambda: s.placed(61), "b delivers, a does not")
        files = s.files()
        s.network.heal()
        await until(lambda: bool(a.log_lines("lock_held_by")) or bool(a.log_lines("lock_lost")), "a knows who leads", 20)
        await asyncio.sleep(3)
        assert s.files() == files
        assert (await s.leads("a"), await s.leads("b")) == (False, True)
        assert s.epochs() == {epoch_taken(b)}
        seen(f"{cut}: stepped down after {stepped_down:.1f} s, the other leads after {seconds:.1f} s, 0 old slices accepted")


def epoch_taken(controller: Controller) -> int:
    """The epoch that a leader took last, as its log says."""
    lines = controller.log_lines("lock_acquired")
    return int(lines[-1].partition("epoch=")[2].split()[0]) if lines else -1


@pytest.mark.row(
    6, 7, 15, did="kill -9 of the leader and of the Consul server that it registered the scrapers with, of three"
)
@pytest.mark.timeout(180)
async def test_the_leaders_host_dies_with_its_consul_agent(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    cluster = ConsulCluster(consul_program, tmp_path / "cluster")
    await cluster.start()
    try:
        async with new_session(keep_alive=False) as session:
            leading = await cluster.until_ready(session)
            ours, theirs = [server for server in cluster.servers if server is not leading]
            guard = {"panic_hold": "5s"}
            async with stage(tmp_path, consul_program, None, scrapers=4, consul=ours, http_sd=0, lock={}, guard=guard) as s:
                s.allowed |= CONSUL_TROUBLE | LOCK_TROUBLE
                second = await s.join_in("second", theirs)
                stamps, since = s.stamps(), time.monotonic()
                ours.signal(signal.SIGKILL)
                await s.controller.kill()
                await ours.kill()
                _, seconds = await taken_over(s, s.controller, since)
                await until(lambda: len(second.log_lines("register_service")) >= 4, "registered with the living agent", 30)

                async def all_pass() -> bool:
                    entries = await theirs.get(s.session, f"/v1/health/service/{CONSUL_SERVICE}?passing=1")
                    return len(entries) >= 4

                passing = await until(all_pass, "passing there", 20)
                await asyncio.sleep(7)
                described = await second.ask(s.session, f"services/{SERVICE}")
                assert (described["held"], described["withheld"]) == (None, [])
                assert s.stamps() == stamps
                killed, *left = s.scrapers
                await killed.kill()
                await until(lambda: s.placed_on(*left), "a death seen by the living agent", 20)
                seen(f"the other leads after {seconds:.1f} s and registers them again (passing {passing:.1f} s later)")
                seen("0 slices changed; the next death is seen")
    finally:
        await cluster.stop()


# --- writes of one whose time is over ---------------------------------------------------------------------------------


@pytest.mark.row(41, did="a rogue writes slices of the epoch before, as fast as it can, while the leader delivers changes")
async def test_no_write_of_an_old_epoch_is_accepted(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}, count=61) as s:
        s.allowed |= LOCK_TROUBLE | {
            "delivery_failed",
            "scraper_undeliverable",
        }  # it may hold a lock
        epoch = await epoch_of(s, s.controller)
        body = b'[{"targets":["127.0.0.1:666"]}]\n'
        rogue = FileDelivery(str(tmp_path / "out/{service}/{scraper}.json"), log.get())
        attempts = refused = 0
        deadline = time.monotonic() + 60
        turn = 0
        while (attempts < 1500 or turn < 6) and time.monotonic() < deadline:
            if attempts >= 250 * turn:  # a change now and then, so that they write at the same time
                turn += 1
                write_targets(tmp_path, s.farm.addresses[: 61 - turn % 2])
            slices = [
                Slice(SERVICE, Scraper(x.id, "127.0.0.1", int(x.id.split(":")[1])), Generation(epoch - 1, attempts), body, 1)
                for x in s.scrapers
            ]
            for outcome in await rogue.deliver(slices):
                attempts += 1
                assert outcome.outcome in ("refused", "failed"), outcome
                refused += outcome.outcome == "refused"
            assert not any("127.0.0.1:666" in addresses for addresses in s.slices().values())
        assert refused >= 1000
        write_targets(tmp_path, s.farm.addresses)
        await until(lambda: s.placed_on(*s.scrapers), "the leader's last word")
        seen(
            f"files: {attempts} attempts, {refused} refused by epoch, 0 accepted, while the leader delivered {turn} changes"
        )


@pytest.mark.row(41, did="the same to the far side of ssh")
async def test_no_write_of_an_old_epoch_is_accepted_on_a_far_host(tmp_path: Path, seen: Seen) -> None:
    far = FarSide(tmp_path)
    assert far.run(Generation(7, 1), word="w") == "written"
    for attempt in range(120):
        said = await asyncio.to_thread(far.run, Generation(6, 1000 + attempt), word=f"w{attempt}")
        assert said == "refused 7.1"
    assert far.generation() == (7, 1)
    seen("120 attempts, 120 refused, 0 accepted")


@pytest.mark.skipif(shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not here")
@pytest.mark.row(
    42, did="SIGSTOP of the leader in the middle of a put (strace holds its fsync), resumed after the take-over"
)
async def test_a_leader_frozen_in_the_middle_of_a_put_puts_nothing_over_its_successor(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}, count=61) as s:
        s.allowed |= LOCK_TROUBLE | {"delivery_failed", "scraper_undeliverable"}
        second = await s.join_in("second")
        trace = ["strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=900000"]
        tracer = Process([*trace, "-p", str(s.controller.pid)], tmp_path / "strace.log")
        await tracer.start()
        await asyncio.sleep(0.5)
        folder = s.path_of(s.scrapers[0]).parent
        write_targets(tmp_path, s.farm.addresses[:60])
        await until(lambda: any(p.name.endswith("-tmp") for p in folder.iterdir()), "a slice being written")
        since = time.monotonic()
        s.controller.signal(signal.SIGSTOP)
        leader, seconds = await taken_over(s, s.controller, since)
        assert leader is second
        assert seconds <= slower() * TAKE_OVER_S
        write_targets(tmp_path, s.farm.addresses[1:61])
        await asyncio.sleep(4)
        newest = epoch = await epoch_of(s, second)
        before = {x.id: held(s.path_of(x)) for x in s.scrapers}
        ours = sum(note is not None and note[0].epoch == epoch for note in before.values())
        assert ours >= len(s.scrapers) - 1, "all but the one whose receiver the frozen one holds"
        await tracer.stop()
        s.controller.signal(signal.SIGCONT)
        for _ in range(40):
            notes = {x.id: held(s.path_of(x)) for x in s.scrapers}
            for name, note in notes.items():
                assert note is not None
                assert note[0] >= (before[name] or (Generation(0, 0), ""))[0], "generations only climb"
            before = notes
            await asyncio.sleep(0.1)

        def successor_has_all() -> bool:
            wanted = sorted(s.farm.addresses[1:61])
            notes = [held(s.path_of(x)) for x in s.scrapers]
            everywhere = sorted(a for x in s.slices().values() for a in x) == wanted
            return everywhere and all(n is not None and n[0].epoch == newest for n in notes)

        await until(successor_has_all, "every slice is the successor's", 20)
        assert await s.leaders() == [second]
        seen(
            f"the other leads after {seconds:.1f} s, wrote {ours} of {len(s.scrapers)} meanwhile; no older one over a newer"
        )


# --- the wall clock --------------------------------------------------------------------------------------------------


@pytest.mark.row(43, did="the wall clock of the leader jumps a day ahead, two days back, a year ahead (libfaketime)")
async def test_a_jump_of_the_wall_clock_changes_nothing(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    needs(faketime.available())
    with WallClock(tmp_path / "clock") as clock:
        async with stage(tmp_path, consul_program, None, http_sd=0, lock={}, env=clock.env) as s:
            s.allowed |= LOCK_TROUBLE | CONSUL_TROUBLE
            stamps, generation, epoch = s.stamps(), await s.generation(), await epoch_of(s, s.controller)
            for jump in (DAY_S, -2 * DAY_S, 365 * DAY_S):
                clock.jump(jump)
                await asyncio.sleep(5)
                assert (s.stamps(), await s.generation()) == (stamps, generation)
                assert await s.leaders() == [s.controller]
            assert await epoch_of(s, s.controller) == epoch
            killed, *left = s.scrapers
            await killed.kill()
            seconds = await until(lambda: s.placed_on(*left), "a death seen all the same")
            logged = s.controller.log_lines("node_update_reshard")[-1]
            assert f"ts={time.gmtime().tm_year + 1}" in logged, "the process did see the jumps"
            await s.controller.stop()
            seen(f"0 generations, the same epoch, still leads; a death in the slices after {seconds:.1f} s")
