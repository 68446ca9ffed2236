"""What a reload changes is a decision: said before and after, moved make before break, nothing forgotten. Real servers.

Missed: whole scrape intervals in which nobody scraped a target, from the targets' own record.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from testbed.consul import ConsulProcess

from promring.delivery.askers import ONE_LOOK_S
from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.demo.targets import Farm
from promring.runtime.http_client import new_session
from tests.rows import Seen
from tests.waiting import patient, until

INTERVAL_S = 5.0
SETTLED_S = 90.0
CONSUL_SERVICE = "scrape_pool"


class Looked(SdConfig):
    """A file that is looked at every 5 s: where the machine's inotify instances are used up, a change goes unnoticed."""

    def part(self) -> dict[str, Any]:
        if self.file is None:
            return super().part()
        return {"file_sd_configs": [{"files": [str(self.file)], "refresh_interval": "5s"}]}


class Moves:
    """Prometheus servers that read ``sd/HOST_PORT.json``, a farm of targets, and promring with one service, ``pool``."""

    def __init__(
        self, folder: Path, session: aiohttp.ClientSession, farm: Farm, scrapers: list[ScraperProcess], controller_port: int
    ) -> None:
        self.folder, self.session, self.farm, self.scrapers = folder, session, farm, scrapers
        self.consul: ConsulProcess | None = None
        self.nodes: list[Any] = [s.id for s in scrapers]
        (folder / "sd").mkdir()
        self.put(farm.addresses)
        self.controller = Controller(folder, {"shard_services": []}, port=controller_port)

    def put(self, addresses: Sequence[str]) -> None:
        rows = [{"targets": [a], "labels": {"rack": f"r{i % 7}"}} for i, a in enumerate(addresses)]
        (self.folder / "new").write_text(json.dumps(rows))
        (self.folder / "new").rename(self.folder / "targets.json")

    def service(self, name: str = "pool", **changes: Any) -> dict[str, Any]:
        scrapers: dict[str, Any] = {"probe": {"nodes": self.nodes, "interval": "1s", "timeout": "1s"}}
        if self.consul is not None:
            check = {"path": "/-/ready", "interval": "1s", "timeout": "1s"}
            scrapers = {"consul": {"service": CONSUL_SERVICE, "register": {"nodes": self.nodes, "check": check}}}
        return {
            "name": name,
            "scrapers": scrapers,
            "join_delay": "1s",
            "audit": {"interval": "5s", "timeout": "3s"},
            "job": "pool",
            "targets": [{"file": {"files": [f"{self.folder}/targets.json"], "refresh_interval": "5s"}}],
            "delivery": [{"file": {"path": f"{self.folder}/sd/{{host}}_{{port}}.json"}}],
            **changes,
        }

    def configure(self, *services: dict[str, Any]) -> None:
        config: dict[str, Any] = {"global": {"reconcile_interval": "5s"}, "shard_services": list(services)}
        if self.consul is not None:
            config["consul"] = {"address": self.consul.address}
        self.controller.configure(json.dumps(config))

    async def reload(self, *services: dict[str, Any], force: bool = False) -> tuple[int, str]:
        self.configure(*services)
        headers = {"Authorization": f"Bearer {self.controller.token}"}
        url = f"{self.controller.url}/-/reload?force={'true' if force else 'false'}"
        async with self.session.post(url, headers=headers, timeout=aiohttp.ClientTimeout(patient(60))) as answer:
            return answer.status, await answer.text()

    async def foresee(self, *services: dict[str, Any]) -> Any:
        """What ``promring plan`` asks."""
        before = self.controller.config_file.read_text()
        self.configure(*services)
        text = self.controller.config_file.read_text()
        self.controller.configure(before)
        headers = {"Authorization": f"Bearer {self.controller.token}"}
        async with self.session.post(f"{self.controller.url}/api/v1/plan", data=text, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["data"]

    def slice_of(self, scraper: ScraperProcess, folder: str = "sd") -> list[str]:
        path = self.folder / folder / f"{scraper.id.replace(':', '_')}.json"
        return [t for group in json.loads(path.read_bytes()) for t in group["targets"]] if path.exists() else []

    async def active(self, scraper: ScraperProcess) -> list[str]:
        try:
            async with self.session.get(f"{scraper.url}/api/v1/targets?state=active") as answer:
                found = (await answer.json())["data"]["activeTargets"]
        except (aiohttp.ClientError, ValueError, KeyError):
            return []
        return [t["discoveredLabels"]["__address__"] for t in found]

    async def scraped_by(self, scrapers: Collection[ScraperProcess], times: int = 1) -> bool:
        """Whether these have every target, each ``times``, and nobody else has one."""
        found = [a for s in scrapers for a in await self.active(s)]
        others = [a for s in self.scrapers if s not in scrapers for a in await self.active(s)]
        return sorted(found) == sorted(self.farm.addresses * times) and not others

    async def settled(self, *scrapers: ScraperProcess, times: int = 1, name: str = "pool") -> float:
        """Until these scrape all, no hand-over is going on, and each target was scraped once more."""

        async def done() -> bool:
            described = await self.controller.ask(self.session, f"services/{name}")
            quiet = described and not described["handing_over"] and described["targets"]
            return bool(quiet) and await self.scraped_by(scrapers or self.scrapers, times)

        took = await until(done, f"all scraped by {len(scrapers or self.scrapers)}, {times} times", SETTLED_S)
        found = await self.farm.scraped_since(self.farm.addresses, time.monotonic(), patient(4 * INTERVAL_S))
        assert None not in found.values()
        return took

    def missed(self, since: float) -> int:
        """Whole intervals without a scrape, of all targets together, since then. A scrape that is late is not one missed."""
        now, lost = time.monotonic(), 0
        for address in self.farm.addresses:
            scrapes = self.farm.scrapes(address)
            before = [at for at in scrapes if at <= since][-1:]
            for a, b in pairwise([*before, *(at for at in scrapes if at > since), now]):
                lost += max(0, int((b - a) / INTERVAL_S) - 1)
        return lost

    def said(self, msg: str) -> list[str]:
        return self.controller.log_lines(msg)

    def moves(self, reason: str) -> list[int]:
        """``moved`` of each reshard for this reason."""
        lines = [line for line in self.said("reshard") if f" reason={reason} " in line]
        return [int(re.search(r" moved=(\d+)", line)[1]) for line in lines]  # type: ignore[index]

    async def status(self, name: str = "pool") -> Any:
        return await self.controller.ask(self.session, f"services/{name}")


@asynccontextmanager
async def moves(
    folder: Path,
    prometheus: Path,
    *,
    scrapers: int = 3,
    running: int | None = None,
    targets: int = 30,
    consul: Path | None = None,
    hosts: bool = False,
    http_sd: bool = False,
    **changes: Any,
) -> AsyncIterator[Moves]:
    """``running``: so many are listed at first, default all; ``hosts``: each scraper has an address of its own; ``http_sd``:
    they ask promring.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        farm = await stack.enter_async_context(Farm(targets))
        made: list[ScraperProcess] = []
        port = free_port()
        for i in range(scrapers):
            host = f"127.0.0.{i + 11}" if hosts else "127.0.0.1"
            own = free_port(host)
            sd: SdConfig = Looked(file=folder / f"sd/{host}_{own}.json")
            if http_sd:
                sd = SdConfig(url=f"http://127.0.0.1:{port}/sd/pool/{host}:{own}")
            made.append(
                ScraperProcess(
                    prometheus, folder / f"scraper-{i}", sd, host=host, port=own, interval_s=INTERVAL_S, job="pool"
                )
            )
            stack.push_async_callback(made[-1].stop)
        for scraper in made:
            await scraper.start()
        for scraper in made:
            await scraper.until(lambda s=scraper: s.is_ready(session), scraper.id)  # type: ignore[misc]
        m = Moves(folder, session, farm, made, port)
        if consul is not None:
            m.consul = ConsulProcess(consul, folder / "consul")
            await m.consul.start()
            stack.push_async_callback(m.consul.stop)
            await m.consul.until(lambda: m.consul.is_ready(session), "Consul")  # type: ignore[union-attr]
        m.nodes = m.nodes[:running]
        m.configure(m.service(**changes))
        await m.controller.start()
        stack.push_async_callback(m.controller.stop)
        await m.settled(*made[:running])
        yield m


@pytest.mark.row(70, did="identity, then the service's name, changed by a reload, each alone; one scraper drained")
async def test_another_identity_and_another_name_forget_nothing(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program, hosts=True) as m:
        drained, *left = m.scrapers
        answer = await m.controller.post(m.session, f"/api/v1/fleets/pool/scrapers/{drained.id}/drain")
        assert answer.status == 200
        await m.settled(*left)
        since = time.monotonic()

        assert "identity_changed" in str(await m.foresee(m.service(identity="host")))
        status, text = await m.reload(m.service(identity="host"))
        assert (status, "identity_changed: host_port -> host: the same 3 scrapers" in text) == (200, True), text
        await until(lambda: len(m.said("reload")) == 1, "said")
        await asyncio.sleep(3 * INTERVAL_S)
        described = await m.status()
        assert [(s["id"], s["drained"]) for s in described["scrapers"]] == [
            (s.id.partition(":")[0], s is drained) for s in m.scrapers
        ]
        assert (m.slice_of(drained), len(m.moves("policy"))) == ([], 1)
        assert m.said("plan_held")[1:] == [], "no doubt"
        await m.settled(*left)
        first, before = m.missed(since), {s.id: m.slice_of(s) for s in m.scrapers}

        status, text = await m.reload(m.service("renamed", identity="host"))
        assert (status, "service_renamed: was pool" in text) == (200, True), text
        await asyncio.sleep(3 * INTERVAL_S)
        assert {s.id: m.slice_of(s) for s in m.scrapers} == before, "the drained one has nothing"
        assert [p.name for p in (tmp_path / "state").glob("*.state")] == ["renamed.state"]
        m.put(m.farm.addresses[:3])

        async def doubted() -> bool:
            described = await m.status("renamed")
            return bool(described["withheld"])

        await until(doubted, "a much shorter list is doubted under the new name, too")
        m.put(m.farm.addresses)
        second = m.missed(since)
        assert (first, second) == (0, 0)
    seen(f"missed {first} and {second}; the same ids, the drained one stays empty, slices byte-equal")


@pytest.mark.row(
    56, 70, did="hash labels, virtual nodes, replication, load factor and a weight changed by reloads, each alone"
)
async def test_another_policy_is_a_planned_move_that_is_counted(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program) as m:
        a, b, _ = m.scrapers
        weighed = [{"address": a.id, "weight": 3}, *(s.id for s in m.scrapers[1:])]
        steps: list[tuple[str, dict[str, Any], int]] = [
            ("hash_labels none -> rack", {"placement": {"hash_labels": ["rack"]}}, 1),
            ("hash_labels rack -> none; virtual_nodes 512 -> 100", {"placement": {"virtual_nodes": 100}}, 1),
            ("load_factor 1.1 -> none; virtual_nodes 100 -> 512", {"placement": {"load_factor": None}}, 1),
            ("replication_factor 1 -> 2; load_factor none -> 1.1", {"placement": {"replication_factor": 2}}, 2),
            ("replication_factor 2 -> 1", {}, 1),
        ]
        found = []
        for said, changes, times in steps:
            since, counted = time.monotonic(), len(m.moves("policy"))
            foreseen = next(d for d in (await m.foresee(m.service(**changes)))["decisions"] if d["kind"] == "policy_changed")
            status, text = await m.reload(m.service(**changes))
            assert (status, f"policy_changed: {said}" in text) == (200, True), text
            await m.settled(times=times)
            moved = m.moves("policy")[counted:]
            assert moved, f"{said}: not logged as a change of policy"
            assert moved[0] == foreseen["numbers"]["moved"], said
            found.append((moved[0], m.missed(since)))
        since, m.nodes = time.monotonic(), weighed
        status, text = await m.reload(m.service())
        assert (status, f"policy_changed: weight of {a.id}" in text) == (200, True), text
        await until(lambda: len(m.slice_of(a)) > 1.5 * len(m.slice_of(b)), "its share is larger")
        await m.settled()
        assert m.moves("policy")[-1] > 0
        found.append((m.moves("policy")[-1], m.missed(since)))
        assert [lost for _, lost in found] == [0] * len(found)
        assert found[0][0] > 0, "other labels to hash by move something"
    seen("; ".join(f"moved {moved}, missed {lost}" for moved, lost in found))


@pytest.mark.row(70, 66, did="a living scraper taken out of probe.nodes")
async def test_a_scraper_that_is_taken_out_of_the_list_hands_over_and_then_has_nothing(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program) as m:
        gone, *left = m.scrapers
        since, had = time.monotonic(), len(m.slice_of(gone))
        m.nodes = [s.id for s in left]
        assert "scrapers_removed" in str(await m.foresee(m.service()))
        status, text = await m.reload(m.service())
        assert (status, f"scrapers_removed: {gone.id} with {had} targets" in text) == (200, True), text
        await m.settled(*left)
        assert m.slice_of(gone) == []
        await until(lambda: len(m.said("scraper_departed")) == 1, "it is let go")
        await asyncio.sleep(INTERVAL_S)
        assert not m.said("plan_held")[1:], "no doubt, no panic"
        described = await m.status()
        assert [s["id"] for s in described["scrapers"]] == sorted(s.id for s in left)
        lost = m.missed(since)
        assert lost == 0
    seen(f"{had} targets handed over, its slice emptied, forgotten; missed {lost}")


@pytest.mark.row(70, did="two of three scrapers taken out, and two others put in, by one reload")
async def test_two_of_three_that_are_replaced_at_once_hand_over_to_those_that_come(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program, scrapers=5, running=3) as m:
        stays, *gone = m.scrapers[:3]
        come, had = m.scrapers[3:], len(m.slice_of(stays))
        most, since = had, time.monotonic()
        m.nodes = [stays.id, *(s.id for s in come)]
        foreseen = await m.foresee(m.service())
        (fleet,) = foreseen["fleets"]
        counts = {one["id"]: one["after"] for one in fleet["preview"]["scrapers"]}
        status, text = await m.reload(m.service())
        assert (status, "scrapers_removed" in text, "scrapers_added" in text) == (200, True, True), text

        async def handed_over() -> bool:
            nonlocal most
            most = max(most, len(m.slice_of(stays)))
            return await m.scraped_by([stays, *come])

        await until(handed_over, "those that stay and come have all", SETTLED_S)
        await m.settled(stays, *come)
        share = max(had, counts[stays.id])  # of other ports others: the ring may give it more than it had
        assert most <= share + len(m.farm.addresses) // 5, "it is not given what those shall have that come"
        assert all(m.slice_of(s) == [] for s in gone)
        assert {name: len(m.slice_of(s)) for s in (stays, *come) for name in [s.id]} == {
            name: count for name, count in counts.items() if count
        }, "as it was foreseen"
        lost = m.missed(since)
        assert lost == 0
    seen(f"the one that stays had {had} targets, at most {most} meanwhile; missed {lost}")


@pytest.mark.row(70, 66, did="a living scraper taken out of register.nodes of Consul")
async def test_one_that_promring_registered_is_deregistered_when_it_has_nothing(
    tmp_path: Path, prometheus_program: Path, consul_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program, consul=consul_program) as m:
        assert m.consul is not None
        gone, *left = m.scrapers
        since = time.monotonic()
        m.nodes = [s.id for s in left]
        status, text = await m.reload(m.service())
        assert (status, "scrapers_removed" in text) == (200, True), text
        await m.settled(*left)

        async def deregistered() -> bool:
            assert m.consul is not None
            entries = await m.consul.get(m.session, f"/v1/health/service/{CONSUL_SERVICE}")
            return sorted(f"{e['Service']['Address']}:{e['Service']['Port']}" for e in entries) == sorted(s.id for s in left)

        await until(deregistered, "deregistered")
        await asyncio.sleep(INTERVAL_S)
        assert m.slice_of(gone) == []
        assert not [line for line in m.said("plan_held")[1:] if "panic" in line]
        lost = m.missed(since)
        assert lost == 0
    seen(f"handed over, emptied, deregistered; missed {lost}")


@pytest.mark.row(
    70, did="file -> http_sd, before the scrapers ask for it; a death meanwhile; then they ask; and http_sd -> file"
)
async def test_the_old_way_goes_on_until_the_new_one_is_used(tmp_path: Path, prometheus_program: Path, seen: Seen) -> None:
    async with moves(tmp_path, prometheus_program) as m:
        dies, *left = m.scrapers
        since = time.monotonic()
        status, text = await m.reload(m.service(delivery=[{"http_sd": {}}]))
        assert (status, "the old way goes on being written until each scraper has asked" in text) == (200, True), text
        await asyncio.sleep(2 * INTERVAL_S)
        (old,) = (await m.status())["retiring"]
        assert (old["kind"], old["waiting_for"]) == ("file", sorted(s.id for s in m.scrapers))
        assert m.missed(since) == 0
        await dies.stop()
        await m.settled(*left)
        for scraper in left:
            for _ in range(3):
                async with m.session.get(f"{m.controller.url}/sd/pool/{scraper.id}") as answer:
                    assert answer.status == 200
                await asyncio.sleep(ONE_LOOK_S + 0.1)
        await until(lambda: len(m.said("delivery_retired")) == 1, "the files are not written any more")
        assert (await m.status())["retiring"] == []
        status, text = await m.reload(m.service())
        assert (status, "the old way goes on being served until the next restart" in text) == (200, True), text
        await asyncio.sleep(INTERVAL_S)
        async with m.session.get(f"{m.controller.url}/sd/pool/{left[0].id}") as answer:
            assert answer.status == 200, "never 404 while it retires"
    seen("the files were written until each scraper had asked; a death meanwhile was taken over; /sd/ never 404")


@pytest.mark.row(70, did="another path for the files, with a name of the scraper that changes at the same time")
async def test_files_at_the_old_place_are_written_until_a_restart(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program, hosts=True) as m:
        there = [{"file": {"path": f"{tmp_path}/elsewhere/{{scraper}}.json"}}]
        status, text = await m.reload(m.service(identity="host", delivery=there))
        assert (status, "until the next restart, as nobody can tell" in text) == (200, True), text
        m.put(m.farm.addresses[5:])
        await until(lambda: sum(len(m.slice_of(s)) for s in m.scrapers) == 25, "the old place follows")
        files = sorted(p.name for p in (tmp_path / "elsewhere").glob("*.json"))
        assert files == sorted(f"{s.id.partition(':')[0]}.json" for s in m.scrapers)
        m.put(m.farm.addresses)
        await m.settled()
        assert m.slice_of(m.scrapers[0]) == [
            t for g in json.loads((tmp_path / "elsewhere" / files[0]).read_bytes()) for t in g["targets"]
        ]
    seen("both places hold the newest slices, the old one by the ids before")


@pytest.mark.row(70, did="capacity lowered below what is scraped, without and with force")
async def test_what_takes_targets_from_living_scrapers_is_refused_unless_it_is_forced(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program) as m:
        before = {s.id: m.slice_of(s) for s in m.scrapers}
        small = m.service("pool", placement={"capacity": 8})
        foreseen = await m.foresee(small)
        assert foreseen["refused"]
        status, text = await m.reload(small)
        assert (status, "6 targets that are scraped now would have no room" in text) == (400, True), text
        assert "--force" in text
        await asyncio.sleep(INTERVAL_S)
        assert {s.id: m.slice_of(s) for s in m.scrapers} == before
        status, text = await m.reload(small, force=True)
        assert (status, "capacity_short" in text) == (200, True), text
        assert m.said("capacity_short")
    seen("refused with the number (6), nothing changed; taken with force")


@pytest.mark.row(
    70, 66, did="identity, name, a scraper, path, replication, hash labels in one reload, another service removed in it"
)
async def test_all_together_in_one_reload_misses_no_scrape(tmp_path: Path, prometheus_program: Path, seen: Seen) -> None:
    async with moves(tmp_path, prometheus_program, scrapers=4, hosts=True) as m:
        (tmp_path / "others.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{n}" for n in range(1, 31)]}]))
        other = m.service(
            "other",
            delivery=[{"file": {"path": f"{tmp_path}/other/{{scraper}}.json"}}],
            targets=[{"file": {"files": [f"{tmp_path}/others.json"]}}],
            audit=None,
        )
        status, text = await m.reload(m.service(), other)
        assert status == 200, text
        gone, *left = m.scrapers
        await until(lambda: sum(len(m.slice_of(s, "other")) for s in m.scrapers) == 30, "the other service has slices", 60)
        since = time.monotonic()
        m.nodes = [s.id for s in left]
        new = m.service(
            "renamed",
            identity="host",
            placement={"hash_labels": ["rack"], "replication_factor": 2},
            delivery=[{"http_sd": {}}, {"file": {"path": f"{tmp_path}/elsewhere/{{scraper}}.json"}}],
        )
        foreseen = {d["kind"] for d in (await m.foresee(new))["decisions"]}
        status, text = await m.reload(new)
        assert status == 200, text
        kinds = {
            "service_renamed",
            "identity_changed",
            "scrapers_removed",
            "policy_changed",
            "delivery_changed",
            "service_removed",
        }
        assert kinds <= foreseen
        assert all(m.said(kind) for kind in kinds)
        await m.settled(*left, times=2, name="renamed")
        lost = m.missed(since)
        assert m.slice_of(gone) == []
        data = await m.controller.ask(m.session, "status")
        (behind,) = data["left_behind"]
        assert (behind["service"], behind["targets"]) == ("other", 30)
        assert data["renamed"] == {"pool": "renamed"}
        assert lost == 0
        await m.controller.stop()
        await m.controller.start()
        await until(lambda: m.controller.is_ready(m.session), "started again")
        data = await m.controller.ask(m.session, "status")
        assert [one["service"] for one in data["left_behind"]] == ["other"]
        assert m.said("state_without_service")
    seen(f"missed {lost}; the removed service is named in log, answer and status, after a restart, too")


@pytest.mark.row(70, did="a restart instead of a reload, with another identity and a scraper less")
async def test_a_restart_with_another_configuration_forgets_nothing(
    tmp_path: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with moves(tmp_path, prometheus_program, hosts=True) as m:
        gone, *left = m.scrapers
        since = time.monotonic()
        await m.controller.stop()
        m.nodes = [s.id for s in left]
        m.configure(m.service(identity="host"))
        await m.controller.start()
        await m.settled(*left)
        await until(lambda: len(m.said("scraper_departed")) == 1, "it is let go")
        assert m.slice_of(gone) == []
        lost = m.missed(since)
        assert lost == 0
    seen(f"the same servers by their new ids, the one that is not listed handed over; missed {lost}")
