"""Consul slow, frozen, flapping, without quorum, lying: rows 1 to 11 of the failure list. No slice changes because of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from testbed.consul_cluster import ConsulCluster
from testbed.proxy import Down, Frozen, Latency, Replace, http_answer

from promring.runtime.http_client import new_session
from tests.real.stage import CONSUL_SERVICE, SERVICE, Stage, stage
from tests.rows import Seen
from tests.waiting import slower, until

TROUBLE = {"membership_gives_no_answer", "consul_index_went_back", "register_failed"}


class Pages:
    """How long promring's own pages took."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    @contextlib.asynccontextmanager
    async def watched(self, s: Stage) -> AsyncIterator[Pages]:
        async def ask() -> None:
            for path in itertools.cycle(["/-/healthy", "/api/v1/status", f"/sd/{SERVICE}/{s.scrapers[-1].id}", "/metrics"]):
                started = time.monotonic()
                assert (await s.controller.get(s.session, path)).status == 200
                self.times_s.append(time.monotonic() - started)
                await asyncio.sleep(0.05)

        asking = asyncio.ensure_future(ask())
        try:
            yield self
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    def __str__(self) -> str:
        slow = sorted(self.times_s)
        return f"{len(slow)} pages, p99 {1000 * slow[int(len(slow) * 0.99)]:.0f} ms, max {1000 * slow[-1]:.0f} ms"


async def death_is_seen(s: Stage, within_s: float = 15) -> float:
    killed, *left = s.scrapers
    await killed.kill()
    return await until(lambda: s.placed_on(*left), "the next death seen", within_s)


async def stale(s: Stage) -> bool:
    return bool((await s.controller.ask(s.session, f"services/{SERVICE}"))["membership"]["stale"])


async def fresh(s: Stage) -> bool:
    return not await stale(s)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.row(1, did="Consul killed for 5 minutes")
async def test_consul_down_for_five_minutes(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= TROUBLE
        stamps = s.stamps()
        await s.consul.kill()
        await asyncio.sleep(300)
        assert s.stamps() == stamps
        assert await s.scraped_by_now() < 15 * slower()
        await s.consul.start()
        await s.consul.until(lambda: s.consul.is_ready(s.session), "Consul again")
        healed = await until(lambda: fresh(s), "heard again", 10)
        assert s.stamps() == stamps
        seen(f"0 slices changed, every target scraped, heard again after {healed:.1f} s")


@pytest.mark.row(2, did="Consul half a second slow each way, then frozen for 20 s, through the proxy")
async def test_a_slow_or_frozen_consul_holds_up_nothing(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, proxied=True, http_sd=1) as s:
        s.allowed |= TROUBLE
        stamps = s.stamps()
        async with Pages().watched(s) as pages:
            s.between.fault = Latency(0.5)
            await asyncio.sleep(6)
            s.between.fault = Frozen()
            await asyncio.sleep(20)
            s.between.fault = None
            await until(lambda: fresh(s), "heard again", 10)
        assert s.stamps() == stamps
        times = sorted(pages.times_s)
        assert times[len(times) // 2] < 0.5, "most pages did not wait for the slow Consul"
        assert times[-1] < 15, "none waited for the frozen one"
        seconds = await death_is_seen(s)
        seen(f"{pages}; 0 slices changed; the next death in the slices after {seconds:.1f} s")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.row(2, did="Consul frozen for 75 s, longer than a blocking query may take, through the proxy")
async def test_a_blocking_query_to_a_frozen_consul_ends(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, proxied=True, http_sd=0) as s:
        s.allowed |= TROUBLE
        stamps, since = s.stamps(), time.monotonic()
        s.between.fault = Frozen()
        ended = await until(lambda: stale(s), "the query given up", 80)
        await asyncio.sleep(max(0.0, 75 - (time.monotonic() - since)))
        assert s.stamps() == stamps
        s.between.fault = None
        healed = await until(lambda: fresh(s), "heard again", 15)
        seen(f"given up after {ended:.0f} s, heard again after {healed:.1f} s, 0 slices changed")


@pytest.mark.row(3, did="Consul restarted; while it starts, a new scraper is registered in it")
async def test_what_is_registered_after_a_restart_is_seen(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, scrapers=2, http_sd=0, join_delay="0s") as s:
        s.allowed |= TROUBLE
        await s.consul.kill()
        s.consul.forget()  # as consul agent -dev: its indexes begin again
        await s.consul.start()
        await s.consul.until(lambda: s.consul.is_ready(s.session), "Consul again")

        async def all_back() -> bool:
            return len(await s.members()) == 2

        await until(all_back, "both registered again", 20)
        await until(lambda: fresh(s), "heard again", 10)
        found = len(s.controller.log_lines("node_update_reshard"))
        definition = {"ID": "late", "Name": CONSUL_SERVICE, "Address": "127.0.0.9", "Port": 9090}
        await s.consul.put(s.session, "/v1/agent/service/register", definition)
        seconds = await until(lambda: len(s.controller.log_lines("node_update_reshard")) > found, "the new one seen", 5)
        assert seconds <= slower()
        seen(f"seen {seconds:.2f} s after it was registered")


@pytest.mark.row(5, did="Consul down for 2 s and up for 2 s, in turn for 32 s, through the proxy")
async def test_a_flapping_consul_makes_no_churn(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    await flap(tmp_path, consul_program, seen, turns=8)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.row(5, did="Consul down for 2 s and up for 2 s, in turn for 2 minutes, through the proxy")
async def test_a_consul_that_flaps_for_two_minutes_makes_no_churn(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    await flap(tmp_path, consul_program, seen, turns=30)


async def flap(folder: Path, consul_program: Path, seen: Seen, *, turns: int) -> None:
    async with stage(folder, consul_program, None, proxied=True, http_sd=0) as s:
        s.allowed |= TROUBLE
        stamps, generation, connections = s.stamps(), await s.generation(), s.between.connections
        for _ in range(turns):
            s.between.fault = Down()
            await asyncio.sleep(2)
            s.between.fault = None
            await asyncio.sleep(2)
        assert (s.stamps(), await s.generation()) == (stamps, generation)
        made = s.between.connections - connections
        assert made <= 20 * turns
        await until(lambda: fresh(s), "heard again", 10)
        seconds = await death_is_seen(s)
        seen(f"0 generations, {made} connections; the next death in the slices after {seconds:.1f} s")


@pytest.mark.row(7, did="three Consul servers: the leader killed, then a second one, then both back")
async def test_a_consul_that_loses_its_leader_and_its_quorum(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    cluster = ConsulCluster(consul_program, tmp_path / "cluster")
    await cluster.start()
    try:
        async with new_session(keep_alive=False) as session:
            leader = await cluster.until_ready(session)
            ours = next(server for server in cluster.servers if server is not leader)
            async with stage(tmp_path, consul_program, None, consul=ours, http_sd=0, lock={}) as s:
                s.allowed |= TROUBLE | {"lock_gives_no_answer", "lease_over", "lease_lapsed", "lock_lost"}
                stamps = s.stamps()
                await leader.kill()
                await cluster.until_ready(session)
                await until(lambda: fresh(s), "heard again after the election", 30)

                async def leads() -> bool:
                    return len(await s.leaders()) == 1

                await until(leads, "led on, or again", 30)
                assert s.stamps() == stamps
                third = next(server for server in cluster.running if server is not ours)
                await third.kill()

                async def nobody_leads() -> bool:
                    return await s.leaders() == []

                over = await until(nobody_leads, "no quorum, no leader", 12)
                await asyncio.sleep(5)
                assert s.stamps() == stamps
                await cluster.start()
                await cluster.until_ready(session)
                healed = await until(lambda: fresh(s), "heard again", 30)
                await until(leads, "led again", 30)
                assert s.stamps() == stamps
                seconds = await death_is_seen(s, 20)
                seen(f"0 slices changed; no leader {over:.1f} s after the quorum was lost; next death {seconds:.1f} s")
                assert healed < 15 * slower()
    finally:
        await cluster.stop()


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n["
    yield from itertools.repeat(b" " * 65536)


LIES: dict[str, bytes | Callable[[], Iterator[bytes]]] = {
    "an HTML page": http_answer(b"<html>502 Bad Gateway</html>", X_Consul_Index="7"),
    "half of a list": http_answer(b'[{"Node": {"Node": "x"', content_type="application/json", X_Consul_Index="7"),
    "another shape": http_answer(b'{"Node": 7}', content_type="application/json", X_Consul_Index="7"),
    "no index": http_answer(b"[]", content_type="application/json"),
    "a redirect": http_answer(b"", status="301 Moved", Location="http://127.0.0.1:1/", X_Consul_Index="7"),
    "status 500": http_answer(b"rpc error: No cluster leader", status="500 Internal Server Error"),
    "an empty catalogue": http_answer(b"[]", content_type="application/json", X_Consul_Index="7"),
    "nothing": b"",
    "a body without an end": endless,
}


@pytest.mark.row(8, 9, did=f"answers that are none, in turn: {', '.join(LIES)}")
async def test_what_is_not_an_answer_changes_nothing(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, proxied=True, http_sd=0) as s:
        s.allowed |= TROUBLE
        stamps, process = s.stamps(), psutil.Process(s.controller.pid)
        before = most = process.memory_info().rss
        for name, answer in LIES.items():
            s.between.fault = Replace(answer)
            await until(lambda: stale(s), f"stale after {name}", 10)
            for _ in range(10):
                await asyncio.sleep(0.1)
                most = max(most, process.memory_info().rss)
            assert s.stamps() == stamps, name
            s.between.fault = None
            await until(lambda: fresh(s), f"heard again after {name}", 12)
        assert s.stamps() == stamps
        assert most - before < 200e6
        seconds = await death_is_seen(s)
        seen(f"0 slices changed, memory +{(most - before) / 1e6:.0f} MB at most, next death {seconds:.1f} s")


@pytest.mark.row(10, did="200 wake-ups of the watch in 10 s: an instance that is critical is registered again and again")
async def test_spurious_wake_ups_cost_no_cycle(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, reconcile_interval="60s", proxied=True) as s:
        noise = {"ID": "noise", "Name": CONSUL_SERVICE, "Address": "127.0.0.9", "Port": 1}
        check = {"TTL": "10m", "Status": "critical"}  # it never passes: what is passing stays the same
        await s.consul.put(s.session, "/v1/agent/service/register", {**noise, "Check": check})
        await settled(s)  # who is listed is another one by that, once
        began, cycles, cpu = time.monotonic(), await cycles_of(s), psutil.Process(s.controller.pid).cpu_times()
        first = await index_of(s)
        for number in range(200):
            again = {**noise, "Meta": {"number": str(number)}, "Check": check}
            await s.consul.put(s.session, "/v1/agent/service/register", again)
            await asyncio.sleep(0.05)
        after = psutil.Process(s.controller.pid).cpu_times()
        woken = await index_of(s) - first
        assert woken >= 200, "there were wake-ups"
        extra = await cycles_of(s) - cycles
        assert extra <= 1 + (time.monotonic() - began) // 60, "one each reconcile_interval"
        used = after.user + after.system - cpu.user - cpu.system
        seen(f"{woken} indexes further, {extra} cycles, {100 * used / 10:.0f} % of a core")


async def settled(s: Stage) -> None:
    """Until no cycle has run for two seconds."""
    known, since = await cycles_of(s), time.monotonic()
    while time.monotonic() - since < 2.0:
        await asyncio.sleep(0.2)
        if (now := await cycles_of(s)) != known:
            known, since = now, time.monotonic()


async def index_of(s: Stage) -> int:
    async with s.session.get(f"{s.consul.url}/v1/health/service/{CONSUL_SERVICE}?passing=1") as response:
        return int(response.headers["X-Consul-Index"])


async def cycles_of(s: Stage) -> int:
    text = (await s.controller.get(s.session, "/metrics")).body.decode()
    name = f'promring_reconcile_duration_seconds_count{{fleet="{SERVICE}"}} '
    return int(float(text.partition(name)[2].partition("\n")[0]))


@pytest.mark.row(11, did="a second registration of a scraper's address under another id, and one without a port")
async def test_two_registrations_of_one_scraper_are_one_and_it_is_said(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0) as s:
        s.allowed |= {"consul_instance_refused"}
        stamps = s.stamps()
        host, _, port = s.scrapers[0].id.partition(":")
        other = {"ID": "zz-again", "Name": CONSUL_SERVICE, "Address": host, "Port": int(port)}
        await s.consul.put(s.session, "/v1/agent/service/register", other)
        await s.consul.put(s.session, "/v1/agent/service/register", {"ID": "portless", "Name": CONSUL_SERVICE})
        refused = s.controller.log_lines
        await until(lambda: len(refused("consul_instance_refused")) >= 2, "both refused")
        named = "\n".join(refused("consul_instance_refused"))
        assert "zz-again" in named
        assert "portless" in named
        await asyncio.sleep(3)
        assert s.stamps() == stamps, "one slice a scraper, as before"
        seen("both refused and named, 0 slices changed")
