"""A scraper that dies or hangs while its check, or a Consul that gives no answer, goes on saying that it lives."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from testbed.etcd import EtcdProcess

from promring.demo.controller import Controller
from promring.demo.scraper import ScraperProcess
from tests.real.conftest import server
from tests.real.stage import CONSUL_SERVICE, SERVICE, Stage, stage
from tests.waiting import until

INTERVAL_S = 1.0
NAMED = {"scraper_unresponsive", "audit_failed", "coverage"}
TAKEN_OVER_S = 300.0
"""An audit, a minute of refusals or three without an answer, a hand-over; only a hang passes."""


@pytest.mark.parametrize(
    ("sent", "says"),
    [(signal.SIGKILL, "refuses connections"), (signal.SIGSTOP, "accepts connections and does not answer")],
    ids=["killed", "stopped"],
)
async def test_what_a_scraper_had_goes_to_others_although_its_check_passes(
    tmp_path: Path, consul_program: Path, sent: signal.Signals, says: str
) -> None:
    """Its check looks at Consul. A machine accepts connections for a stopped process, so a TCP check would pass as well."""
    async with stage(tmp_path, consul_program, server("prometheus3"), audit={"interval": "5s"}, http_sd=0) as s:
        s.allowed |= NAMED
        mute = s.scrapers[0]
        await checked_by_something_else(s, mute)
        await until(lambda: looked_at(s, s.controller), "the audit knows all of them", 60)
        had = s.slice_of(mute)
        assert had
        await (mute.kill() if sent == signal.SIGKILL else stopped(mute))
        mute_at = time.monotonic()
        await until(lambda: not s.slice_of(mute), "its file is emptied when others have what it had", TAKEN_OVER_S)
        await until(lambda: scraped_again(s, had, mute_at), "others scrape it", 60)
        assert sorted(await s.members()) == sorted(one.id for one in s.scrapers), "Consul says that it lives"
        fleet = await s.controller.ask(s.session, f"fleets/{SERVICE}")
        assert fleet is not None
        assert {one["id"]: one["unresponsive"] for one in fleet["scrapers"] if one["unresponsive"]} == {mute.id: says}
        assert fleet["summary"]["level"] == "bad"
        assert f"{mute.id} counts as alive and {says}" in fleet["summary"]["text"]
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert f'promring_scrapers_excluded{{fleet="{SERVICE}",reason="unresponsive"}} 1.0' in metrics
        await (mute.start() if sent == signal.SIGKILL else stopped(mute, back=True))
        await until(lambda: bool(s.slice_of(mute)), "it gets its share back", TAKEN_OVER_S)
        await s.quiet()
        await s.scraped_by_now()


async def stopped(scraper: ScraperProcess, *, back: bool = False) -> None:
    scraper.signal(signal.SIGCONT if back else signal.SIGSTOP)


async def test_what_dies_while_consul_is_down_is_scraped_by_others(tmp_path: Path, consul_program: Path) -> None:
    """Two controllers with their lock in etcd: the follower, which one scraper asks for its list, goes by what the leader
    finds.
    """
    etcd = EtcdProcess(server("etcd"), tmp_path / "etcd")
    await etcd.start()
    try:
        async with stage(tmp_path, consul_program, server("prometheus3"), audit={"interval": "5s"}, lock={}, etcd=etcd) as s:
            s.allowed |= {
                "scraper_unresponsive",
                "audit_failed",
                "coverage",
                "membership_gives_no_answer",
                "register_failed",
            }
            second, first = await s.join_in("second"), s.controller
            assert await s.leaders() == [first]
            await first.stop()
            await until(lambda: leads(s, second), "the second leads", 60)
            await first.start()
            await first.until(lambda: first.is_ready(s.session), "the first follows, and is asked for a list")
            for one in (first, second):
                await until(lambda c=one: looked_at(s, c), "the audit knows all of them", 120)  # type: ignore[misc]
            dead = s.scrapers[0]
            had = s.slice_of(dead)
            await s.consul.kill()
            await dead.kill()
            killed_at = time.monotonic()
            await until(lambda: not s.slice_of(dead), "its file is emptied when others have what it had", TAKEN_OVER_S)
            await until(lambda: scraped_again(s, had, killed_at), "others scrape it", 60)
            assert await s.leaders() == [second]
            await s.consul.start()
            await s.consul.until(lambda: s.consul.is_ready(s.session), "Consul")
            await until(lambda: has_left(s, dead), "Consul says that it is gone", 60)
            await s.scraped_by_now()
    finally:
        await etcd.stop()


async def leads(s: Stage, controller: Controller) -> bool:
    return await s.leaders() == [controller]


async def checked_by_something_else(s: Stage, scraper: ScraperProcess) -> None:
    """Consul's check of it looks at Consul itself from now on."""
    service = f"{CONSUL_SERVICE}-{scraper.id.replace(':', '-')}"
    there = await s.consul.get(s.session, f"/v1/agent/service/{service}")
    same = {key: there[key] for key in ("Address", "Port", "Meta", "Tags")}
    check = {"HTTP": f"http://127.0.0.1:{s.consul.port}/v1/status/leader", "Interval": "1s", "Status": "passing"}
    definition = {"ID": service, "Name": CONSUL_SERVICE, "Check": check, **same}
    await s.consul.put(s.session, "/v1/agent/service/register", definition)


async def looked_at(s: Stage, controller: Controller) -> bool:
    fleet = await controller.ask(s.session, f"fleets/{SERVICE}")
    return bool(fleet) and all(one["scraped"] == one["targets"] > 0 for one in fleet["scrapers"])


async def has_left(s: Stage, scraper: ScraperProcess) -> bool:
    return scraper.id not in await s.members()


def scraped_again(s: Stage, addresses: list[str], killed_at: float) -> bool:
    """Whether each was scraped a moment ago, and after that."""
    since = max(time.monotonic() - 3 * INTERVAL_S, killed_at + 1.0)
    return all((s.farm.scrapes(address)[-1:] or [0.0])[0] > since for address in addresses)
