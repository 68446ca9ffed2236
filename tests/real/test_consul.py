"""Consul restarted, amnesiac, down: no slice changes because of it, and the next death is seen all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from testbed.consul import ConsulProcess

from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.watch import HealthWatch
from promring.membership.consul import ConsulMembership
from promring.membership.direct import DirectProbes
from promring.model import Known
from promring.telemetry import log
from tests.real.stage import Stage, stage, write_targets
from tests.unit.test_consul import scraper
from tests.unit.test_membership import node, published
from tests.waiting import slower, until

CONSUL_TROUBLE = {"membership_gives_no_answer", "consul_index_went_back", "register_failed"}


async def restart(s: Stage, *, forget: bool) -> None:
    await s.consul.kill()
    if forget:
        s.consul.forget()
    await s.consul.start()
    await s.consul.until(lambda: s.consul.is_ready(s.session), "Consul again")

    async def all_back() -> bool:
        return len(await s.members()) == len(s.scrapers)

    await until(all_back, "every scraper passing in Consul again", 30)


@pytest.mark.row(3, 4, did="Consul restarted with its data, and without, with 6 scrapers")
@pytest.mark.parametrize("forget", [False, True], ids=["with its data", "without its data"])
async def test_a_consul_restart_changes_no_slice_and_hides_no_death(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, forget: bool
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= CONSUL_TROUBLE
        stamps = s.stamps()
        await restart(s, forget=forget)
        await asyncio.sleep(3)
        assert s.stamps() == stamps, "no slice was written"
        registered = s.controller.log_lines("register_service")
        assert len(registered) == (6 if forget else 3), "registered again only if Consul forgot"

        reshards = len(s.controller.log_lines("node_update_reshard"))
        killed, *left = s.scrapers
        await killed.kill()
        await until(lambda: s.placed_on(*left), "the death after the restart, not hidden by an old index", 10)
        assert len(s.controller.log_lines("node_update_reshard")) == reshards + 1


@pytest.mark.row(4, did="Consul restarted without its data, and a scraper died with it")
async def test_a_scraper_that_died_with_an_amnesiac_consul_is_not_taken_for_alive(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= CONSUL_TROUBLE
        killed, *left = s.scrapers
        await s.consul.kill()
        await killed.kill()
        s.consul.forget()
        await s.consul.start()
        await until(lambda: s.placed_on(*left), "its targets on the others", 40)
        await s.scraped_by_now()


async def test_a_check_that_consul_has_not_made_yet_takes_nobody_away(tmp_path: Path, each_consul: Path) -> None:
    """It is critical from when it is registered, or its agent is started, until it was made. Who answers lives meanwhile."""
    server = ConsulProcess(each_consul, tmp_path)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session, node() as (_, place), Client(Access(server.address)) as client:
            await server.until(lambda: server.is_ready(session), "Consul", 30)
            health = HealthWatch(client, "x", Catalogue(scraper), log.get())
            membership = ConsulMembership(client, health, None, log.get(), probes=DirectProbes("/-/ready", 0.5))
            async with published(membership) as answers:
                for name, port in (("lives", place[1]), ("dead", 1)):
                    check = {"HTTP": f"http://127.0.0.1:{port}/-/ready", "Interval": "1h", "Timeout": "1s"}
                    body = {"ID": name, "Name": "x", "Address": "127.0.0.1", "Port": port, "Check": check}
                    await server.put(session, "/v1/agent/service/register", body)
                await until(lambda: answers[-1:] == [Known((scraper(place),))], "who answers lives, who does not does not")
                checks = [c for i in await server.get(session, "/v1/health/service/x") for c in i["Checks"]]
                said = {c["CheckID"]: (c["Status"], c["Type"], c["Output"]) for c in checks if c["ServiceID"]}
                assert said == dict.fromkeys(("service:lives", "service:dead"), ("critical", "http", ""))
    finally:
        await server.kill()


@pytest.mark.row(1, did="Consul killed for 25 s; a target appears meanwhile")
async def test_consul_down_for_a_while_changes_nothing_but_new_targets_are_placed(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, count=61, http_sd=0) as s:
        s.allowed |= CONSUL_TROUBLE
        everything = s.farm.addresses
        late = everything[-1]
        write_targets(tmp_path, everything[:-1])
        await until(lambda: all(late not in slice_ for slice_ in s.slices().values()), "a list without the last target")
        await s.quiet()
        down_at = time.monotonic()
        await s.consul.kill()
        stamps = s.stamps()
        await asyncio.sleep(10)
        assert s.stamps() == stamps
        write_targets(tmp_path, everything)
        await until(lambda: s.placed_on(*s.scrapers), "a target that appeared while Consul was down")
        await s.quiet()
        assert await s.scraped_by_now() < 15 * slower()
        described = await s.controller.ask(s.session, "services/node_exporter")
        assert described["membership"]["stale"]
        assert str(s.consul.port) in described["membership"]["reason"]
        assert (await s.controller.get(s.session, "/-/ready")).status == 200
        stamps = s.stamps()
        await asyncio.sleep(max(0.0, 25 - (time.monotonic() - down_at)))
        assert s.stamps() == stamps

        await s.consul.start()
        await s.consul.until(lambda: s.consul.is_ready(s.session), "Consul again")

        async def heard() -> bool:
            return not (await s.controller.ask(s.session, "services/node_exporter"))["membership"]["stale"]

        await until(heard, "Consul heard again within 10 s", 10)
        assert s.stamps() == stamps
        killed, *left = s.scrapers
        await killed.kill()
        await until(lambda: s.placed_on(*left), "the next death seen")


@pytest.mark.row(1, did="promring started while Consul is down, with a state")
async def test_started_without_consul_it_serves_the_last_state_and_says_why_it_is_not_ready(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program) as s:
        s.allowed |= CONSUL_TROUBLE
        path = f"/sd/node_exporter/{s.scrapers[-1].id}"
        first = await s.controller.get(s.session, path)
        assert first.status == 200
        stamps = s.stamps()
        await s.controller.stop()
        await s.consul.kill()
        await s.controller.start()

        async def served() -> bool:
            if not await s.controller.ask(s.session, "status"):
                return False  # nobody listens yet
            return (await s.controller.get(s.session, path)).status == 200

        await until(served, "promring up without Consul, with the last state")
        again = await s.controller.get(s.session, path)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["etag"] == first.headers["etag"]
        ready = await s.controller.get(s.session, "/-/ready")
        assert ready.status == 503
        assert "not known" in ready.text()
        assert s.stamps() == stamps
        await s.consul.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "ready once Consul is there")
        assert s.stamps() == stamps


@pytest.mark.row(1, 38, did="promring started while Consul is down, without a state")
async def test_started_without_consul_and_without_state_it_serves_nothing_and_waits(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, start=False) as s:
        s.allowed |= CONSUL_TROUBLE
        await s.consul.kill()
        await s.controller.start()

        async def listens() -> bool:
            return bool(await s.controller.ask(s.session, "status"))

        async def unready() -> bool:
            response = await s.controller.get(s.session, "/-/ready")
            return response.status == 503 and str(s.consul.port) in response.text()

        await until(listens, "promring up without Consul")
        await until(unready, "503 with Consul's address in the reason")
        sd = await s.controller.get(s.session, f"/sd/node_exporter/{s.scrapers[-1].id}")
        assert sd.status == 503, "never [] for what is not known"
        assert s.slices() == {}
        await s.consul.start()
        await until(lambda: s.placed_on(*s.scrapers[:-1]) or bool(s.slices()), "slices once Consul is there", 30)
