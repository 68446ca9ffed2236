"""Several controllers and one lock: killed, frozen, stopped, cut off; one writes, and never an old one over a new one."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from promring.demo.controller import Controller
from promring.demo.process import free_port
from tests.real.stage import BELIEVED, SERVICE, Stage, stage, write_targets
from tests.rows import Seen
from tests.waiting import slower, until

TAKE_OVER_S = 10.0
HELD = "json: Resource temporarily unavailable"
"""Who leads was frozen while it wrote this file, and holds it."""
LOCK_TROUBLE = {"lock_lost", "lease_over", "lease_lapsed", "lock_gives_no_answer", "lock_not_released", HELD}
CONSUL_TROUBLE = {"membership_gives_no_answer", "consul_index_went_back", "register_failed"}


async def only(s: Stage) -> Controller:
    """The one that leads."""
    (leader,) = await s.leaders()
    return leader


async def taken_over(s: Stage, was: Controller, since: float) -> tuple[Controller, float]:
    """Who leads now instead of ``was``, and after how many seconds."""

    others = [c for c in s.controllers if c is not was]
    leads = [False] * len(others)

    async def another() -> bool:  # the one that is frozen would not answer
        leads[:] = [bool((await c.ask(s.session, "status") or {}).get("leader")) for c in others]
        return any(leads)

    await until(another, "another one leads", 3 * TAKE_OVER_S)
    return others[leads.index(True)], time.monotonic() - since


async def works(s: Stage) -> None:
    """Whoever leads delivers: a new list gets into the slices."""
    last = s.farm.addresses[-1]
    shorter = s.farm.addresses[:-1]
    write_targets(s.folder, shorter)
    # in a hand-over two scrapers have a target for a while
    await until(lambda: {a for x in s.slices().values() for a in x} == set(shorter), f"{last} out of the slices")
    write_targets(s.folder, s.farm.addresses)
    await until(lambda: s.placed_on(*s.scrapers), f"{last} back in the slices")


async def epoch_of(s: Stage, controller: Controller) -> int:
    status = await controller.ask(s.session, "status")
    return int(status["controllers"]["epoch"])


def written(controller: Controller) -> int:
    """How often this controller changed a slice, as its log says."""
    return len(controller.log_lines("reshard"))


@pytest.mark.row(42, did="kill -9, or SIGSTOP for 15 s, of the leader of two; its lock is bound to a TTL check of 5 s")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_another_one_leads_within_ten_seconds(tmp_path: Path, consul_program: Path, seen: Seen, how: int) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}) as s:
        s.allowed |= LOCK_TROUBLE
        second = await s.join_in("second")
        first = await only(s)
        assert first is s.controller
        stamps, before = s.stamps(), await epoch_of(s, first)
        since = time.monotonic()
        first.signal(how)
        leader, seconds = await taken_over(s, first, since)
        assert leader is second
        assert seconds <= slower() * TAKE_OVER_S
        assert await epoch_of(s, second) > before
        await until(lambda: len(second.log_lines("epoch")) >= 2, "the new epoch in its slices")
        await asyncio.sleep(1)
        assert s.stamps() == stamps, "taking over changes no byte"
        await works(s)
        if how == signal.SIGSTOP:
            await asyncio.sleep(max(0.0, 15 - (time.monotonic() - since)))
            stamps = s.stamps()
            first.signal(signal.SIGCONT)
            await until(lambda: bool(first.log_lines("lock_lost") or first.log_lines("lease_over")), "the thawed one knows")
            await asyncio.sleep(3)
            assert s.stamps() == stamps, "the thawed one writes nothing"
            assert await s.leaders() == [second]
        else:
            await first.wait()
            await first.start()
            await first.until(lambda: first.is_ready(s.session), "back")
            await asyncio.sleep(2)
            assert await s.leaders() == [second], "who comes back follows"
        seen(f"{'killed' if how == signal.SIGKILL else 'frozen'}: the other leads after {seconds:.1f} s, 0 slices changed")


@pytest.mark.row(46, did="SIGTERM of the leader of two")
async def test_a_clean_stop_hands_the_lock_over_at_once(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}) as s:
        s.allowed |= LOCK_TROUBLE
        second = await s.join_in("second")
        stamps, since = s.stamps(), time.monotonic()
        stopping = asyncio.ensure_future(s.controller.stop())
        leader, seconds = await taken_over(s, s.controller, since)
        await stopping
        assert leader is second
        assert seconds < 3 * slower()
        assert s.controller.log_lines("lock_released")
        assert s.stamps() == stamps
        await works(s)
        services = await s.consul.get(s.session, "/v1/catalog/service/promring")
        assert len(services) == 1, "who stopped took itself out of Consul"
        seen(f"released, the other leads after {seconds:.2f} s")


@pytest.mark.row(38, did="an http_sd client asks leader and follower in turn while targets change and the leader is killed")
async def test_a_follower_serves_the_same_slices_and_never_goes_back(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, lock={}) as s:
        s.allowed |= LOCK_TROUBLE
        fresh = await s.join_in("second")
        path = f"/sd/{SERVICE}/{s.scrapers[-1].id}"
        served: dict[int, list[tuple[int, int]]] = {c.port: [] for c in s.controllers}
        asked = 0

        async def ask() -> None:
            nonlocal asked
            while True:
                for c in s.controllers:
                    if not c.running:
                        continue
                    try:
                        answer = await c.get(s.session, path)
                    except Exception:  # it is being killed
                        continue
                    asked += 1
                    assert answer.status in (200, 503)
                    if answer.status == 200:
                        epoch, n = map(int, answer.headers["x-promring-generation"].split("."))
                        served[c.port].append((epoch, n))
                await asyncio.sleep(0.01)

        asking = asyncio.ensure_future(ask())
        for _ in range(3):
            await works(s)

        async def the_same() -> bool:  # the follower reads a list that changed a little later
            first, second = [(await c.get(s.session, path)).body for c in s.controllers]
            return first == second

        await until(the_same, "the follower computes the same slices")
        leads, follows = [(await c.get(s.session, path)).headers["x-promring-generation"] for c in s.controllers]
        assert int(follows.split(".")[0]) < int(leads.split(".")[0]), "a follower's slices are older than the leader's"
        since = time.monotonic()
        await s.controller.kill()
        await taken_over(s, s.controller, since)
        await works(s)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for port, generations in served.items():
            assert generations == sorted(generations), port
            assert len(generations) > 10
        assert fresh.running
        seen(f"{asked} answers of two controllers, 0 older than one before from the same; the same bytes from both")


def status_of(controller: Controller) -> str:
    """As a person sees it."""
    command = [sys.executable, "-m", "promring", "status", f"--url={controller.url}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


async def test_a_drain_is_shared_with_all_controllers_and_only_the_leader_takes_it(
    tmp_path: Path, consul_program: Path
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}) as s:
        s.allowed |= LOCK_TROUBLE
        second = await s.join_in("second")
        leads, follows = [await asyncio.to_thread(status_of, c) for c in s.controllers]
        assert re.search(r"^  leads, epoch \d+$", leads, re.MULTILINE)
        assert re.search(rf"^  follows \S+:{s.controller.port}/[0-9a-f]{{4}}, epoch \d+$", follows, re.MULTILINE)
        path = f"/api/v1/fleets/{SERVICE}/scrapers/{s.scrapers[0].id}/drain"
        refused = await second.post(s.session, path)
        assert refused.status == 409
        assert str(s.controller.port) in refused.text(), "it names who leads"
        assert (await s.controller.post(s.session, path)).status == 200
        await until(lambda: s.slice_of(s.scrapers[0]) == [], "drained", 40)

        async def known() -> bool:
            described = await second.ask(s.session, f"services/{SERVICE}")
            return bool(next(x for x in described["scrapers"] if x["id"] == s.scrapers[0].id)["drained"])

        await until(known, "the follower knows")
        await s.controller.stop()
        await until(lambda: second.log_lines("lock_acquired") != [], "the other leads")
        await asyncio.sleep(2)
        assert s.slice_of(s.scrapers[0]) == [], "still drained under the next leader"


async def test_with_consul_gone_nobody_pushes_and_the_last_slices_stay(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}) as s:
        s.allowed |= LOCK_TROUBLE | CONSUL_TROUBLE
        await s.join_in("second")
        stamps = s.stamps()
        await s.consul.kill()
        await until(lambda: bool(s.controller.log_lines("lease_over")), "the lease over", 12)
        assert await s.leaders() == []
        write_targets(s.folder, s.farm.addresses[:-1])
        await asyncio.sleep(4)
        assert s.stamps() == stamps
        await s.consul.start()
        shorter = sorted(s.farm.addresses[:-1])
        await until(lambda: sorted(a for x in s.slices().values() for a in x) == shorter, "delivered by who leads again", 40)
        assert len(await s.leaders()) == 1


@pytest.mark.row(41, did="a receiver gets an epoch that this lock never gave: somebody else wrote there")
async def test_a_leader_raises_its_epoch_above_what_receivers_have(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}) as s:
        s.allowed |= LOCK_TROUBLE | {"delivery_failed", "epoch_raised", "scraper_undeliverable"}
        before = await epoch_of(s, s.controller)
        for scraper in s.scrapers:
            file = s.path_of(scraper)
            note = file.with_name(f".{file.name}.promring")
            generation, digest = note.read_text().split()
            note.write_text(f"{int(generation.split('.')[0]) + 1000}.7 {digest}\n")
            file.touch()  # it is looked at again
        await until(lambda: bool(s.controller.log_lines("epoch_raised")), "noticed")

        async def above() -> bool:
            return await epoch_of(s, s.controller) > before + 1000

        await until(above, "raised")
        await works(s)
        refused = re.findall(r'outcome="refused".*? (\d+)', (await s.controller.get(s.session, "/metrics")).text(10**6))
        assert sum(map(int, refused)) >= 1
        seen(f"refused, counted, epoch raised from {before} to {await epoch_of(s, s.controller)}, delivered")


SOURCE_BROKEN = {"discovery_failed"}


async def left_behind(s: Stage) -> Controller:
    """A second controller that was away while the list grew, and is back while the source is broken for everybody."""
    write_targets(s.folder, s.farm.addresses[:40])
    await until(lambda: sum(map(len, s.slices().values())) == 40, "40 targets placed")
    await s.quiet()
    second = await s.join_in("second")
    await asyncio.sleep(2)
    await second.stop()
    write_targets(s.folder, s.farm.addresses)
    await until(lambda: s.placed_on(*s.scrapers), "60 targets placed")
    await s.quiet()
    await asyncio.sleep(2)
    (s.folder / "targets.json").write_text("[{")
    await second.start()
    await until(lambda: bool(second.log_lines("discovery_failed")), "the second asked the source")
    return second


@pytest.mark.row(25, 38, 42, did="a controller that was away is back with an old list, the source is down, the leader dies")
async def test_a_controller_that_was_left_behind_serves_and_pushes_nothing_old(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, lock={}, guard=BELIEVED) as s:
        s.allowed |= LOCK_TROUBLE | SOURCE_BROKEN | {"release"}
        second = await left_behind(s)
        path = f"/sd/{SERVICE}/{s.scrapers[0].id}"
        assert (await second.get(s.session, path)).status == 503, "it does not know"
        assert (await second.get(s.session, "/-/ready")).status == 503
        stamps, since = s.stamps(), time.monotonic()
        await s.controller.kill()
        await taken_over(s, s.controller, since)
        await asyncio.sleep(4)
        assert s.stamps() == stamps, "it leads since nobody else does, and takes nothing away"
        described = await second.ask(s.session, f"services/{SERVICE}")
        assert described["held"]["reason"] == "targets_unknown"
        assert "the last leader had another list" in described["held"]["detail"]
        write_targets(s.folder, s.farm.addresses[:59])
        await until(lambda: sum(map(len, s.slices().values())) == 59, "placed as soon as the source answers", 20)
        assert (await second.get(s.session, path)).status == 200
        seen("503 and held until the source answered, 0 slices changed")


class Inventory:
    """Lists the targets over http; those who ask with a header ``Who`` that is ``cut`` get no answer."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.cut = ""

    async def answer(self, request: web.Request) -> web.Response:
        if self.cut and request.headers.get("Who") == self.cut:
            return web.Response(status=500)
        return web.json_response([{"targets": self.listed}])

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


def asked_by(url: str, who: str) -> dict[str, Any]:
    return {"http": {"url": url, "refresh_interval": "1s", "http_headers": {"Who": {"values": [who]}}}}


@pytest.mark.row(25, 38, 42, did="a list grew, the second controller cannot read it, and the leader dies")
async def test_a_controller_that_could_not_read_the_last_list_takes_nothing_away(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    inventory = Inventory()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(inventory.served())
        made = stage(
            tmp_path, consul_program, None, http_sd=0, lock={}, guard=BELIEVED, start=False, targets=[asked_by(url, "first")]
        )
        s = await stack.enter_async_context(made)
        s.allowed |= LOCK_TROUBLE | SOURCE_BROKEN
        inventory.listed = s.farm.addresses[:40]
        await s.controller.start()
        await until(lambda: sum(map(len, s.slices().values())) == 40, "40 targets placed")
        config = yaml.safe_load(s.controller.config_file.read_text())
        config["shard_services"][0]["targets"] = [asked_by(url, "second")]
        second = Controller(s.folder / "second", config, port=free_port())
        s.others.append(second)
        await second.start()
        await second.until(lambda: second.is_ready(s.session), "the second")
        path = f"/sd/{SERVICE}/{s.scrapers[0].id}"
        await until_status(s, second, path, 200)
        inventory.cut = "second"
        await until(lambda: bool(second.log_lines("discovery_failed")), "the second cannot read the list")
        inventory.listed = s.farm.addresses
        await until(lambda: s.placed_on(*s.scrapers), "60 targets placed")
        await until_status(s, second, path, 503)
        await s.quiet()
        stamps, since = s.stamps(), time.monotonic()
        await s.controller.kill()
        await taken_over(s, s.controller, since)
        await asyncio.sleep(4)
        assert s.stamps() == stamps, "it leads, and takes nothing away"
        described = await second.ask(s.session, f"services/{SERVICE}")
        assert described["held"]["reason"] == "targets_unknown"
        inventory.listed, inventory.cut = s.farm.addresses[:59], ""
        await until(lambda: sum(map(len, s.slices().values())) == 59, "placed as soon as the source answers", 20)
        await until_status(s, second, path, 200)
        seen("503 as soon as the leader knew more, held after it died until the source answered, 0 slices changed")


async def until_status(s: Stage, controller: Controller, path: str, status: int) -> None:
    async def answered() -> bool:
        return (await controller.get(s.session, path)).status == status

    await until(answered, f"{path} is {status}")


@pytest.mark.row(15, 38, did="the checks of 4 of 6 fail while they live; a person releases the plan at the leader of two")
async def test_a_release_at_the_leader_is_for_all_controllers(tmp_path: Path, consul_program: Path, seen: Seen) -> None:
    # Four deaths at once, and a delay that outlasts them: else one controller may act on fewer of them before the panic.
    async with stage(tmp_path, consul_program, None, scrapers=6, lock={}, leave_delay="5s") as s:
        s.allowed |= LOCK_TROUBLE | {"release"}
        second = await s.join_in("second")
        *_, left = s.scrapers  # it asks for its slice by http_sd
        await asyncio.gather(*(s.call_dead(x) for x in s.scrapers[:4]))

        async def held() -> list[bool]:
            described = [await c.ask(s.session, f"services/{SERVICE}") for c in s.controllers]
            return [bool(d["held"]) and d["held"]["reason"] == "panic" for d in described]

        async def all_held() -> bool:
            return all(await held())

        await until(all_held, "both hold")
        path = f"/sd/{SERVICE}/{left.id}"
        before = [(await c.get(s.session, path)).body for c in s.controllers]
        assert before[0] == before[1]
        since = time.monotonic()
        assert (await s.controller.post(s.session, f"/api/v1/services/{SERVICE}/release")).status == 200

        async def both_serve_more() -> bool:
            bodies = [(await c.get(s.session, path)).body for c in s.controllers]
            return bodies[0] == bodies[1] != before[0] and not any(await held())

        await until(both_serve_more, "both have let go", 10)
        took = time.monotonic() - since
        assert second.log_lines("plan_released")
        assert not second.log_lines("release"), "nobody asked it"
        seen(f"leader and follower serve the same larger slice {took:.1f} s after the release")
