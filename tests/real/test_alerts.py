"""Each alert that promring ships fires on a real Prometheus when what it is about happens; in health none does."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml
from aiohttp import web
from testbed.agent import AgentProcess
from testbed.consul import ConsulProcess
from testbed.proxy import FaultProxy, Latency

from promring.core.fragment import ID_LABEL
from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session
from tests.promql import alerts
from tests.real.conftest import server
from tests.real.test_watching import Watched, rules_without_waiting
from tests.waiting import until

PROBE = {"path": "/-/ready", "interval": "200ms", "timeout": "200ms", "unhealthy_after": 2}
TARGETS = [f"127.0.0.1:{n}" for n in range(1, 31)]


class Fake:
    """A scraper that runs what its file says, but for what it ``lacks``, and with what it has ``beyond``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.name, self._folder = f"127.0.0.1:{port}", folder
        self.lacks = 0
        self.beyond: set[str] = set()
        self.deaf = self.hangs = False

    async def answer(self, request: web.Request) -> web.Response:
        if not request.path.endswith("/targets"):
            return web.Response(text="ready")
        if self.hangs:
            await asyncio.sleep(20)
        if self.deaf:
            raise web.HTTPInternalServerError
        return web.json_response({"status": "success", "data": {"activeTargets": self._active(), "droppedTargets": []}})

    def _active(self) -> list[dict[str, Any]]:
        groups = [
            (file.parent.name, group)
            for file in sorted(self._folder.glob("*/*.json"))
            if file.stem == self.name.replace(":", "_") or file.parent.name in self.beyond
            for group in json.loads(file.read_text())
        ]
        found = {(service, group["labels"][ID_LABEL]): group for service, group in groups}
        return [
            {
                "scrapePool": service,
                "discoveredLabels": {"__address__": group["targets"][0], **group["labels"]},
                "health": "up",
                "lastScrape": datetime.now(UTC).isoformat(),
                "scrapeInterval": "1s",
            }
            for (service, _), group in sorted(found.items())[self.lacks :]
        ]


class Yard:
    """One controller, one agent, four scrapers, and the Prometheus that watches."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, watcher: ScraperProcess) -> None:
        self.folder, self.session = folder, session
        self._watcher, self.watched = watcher, Watched(session, watcher)
        self.fakes: list[Fake] = []
        self.runners: list[web.AppRunner] = []
        self.controllers: list[Controller] = []

    async def fires(self, *names: str) -> None:
        for name in names:
            await until(partial(self.watched.fires, name), f"the alert {name}")

    async def stop(self) -> None:
        for process in (self._watcher, *self.controllers):
            await process.stop()

    def watch(self, job: str, *ports: int) -> None:
        path = self.folder / f"{job}.json"
        path.with_suffix(".new").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        path.with_suffix(".new").rename(path)


def in_a_hurry() -> str:
    """The shipped rules, which fire at once; minutes and hours are seconds."""
    text = yaml.safe_dump(rules_without_waiting())
    text = re.sub(r"\[\d+[mh]\]", "[10s]", text)
    return re.sub(r"> (600|300|900|120|30|20)\b", lambda found: "> 8" if int(found[1]) > 30 else "> 1", text)


def settings(folder: Path, fakes: list[Fake]) -> dict[str, Any]:
    names = [fake.name for fake in fakes]
    (folder / "nodes.json").write_text(json.dumps(names))
    for name in ("node", "shop"):
        (folder / f"{name}.json").write_text(json.dumps([{"targets": TARGETS}]))
    main = {
        "name": "main",
        "scrapers": {"file": {"path": "nodes.json", "probe": PROBE}},
        "join_delay": "0s",
        "handover": {"overlap": "20s"},
        "audit": {"interval": "9s", "timeout": "9s", "second_opinion": False},
        "delivery": [{"file": {"path": "out/{service}/{scraper}.json"}}],
    }
    visited: dict[str, Any] = {
        "name": "visited",
        "scrapers": {"probe": {"nodes": names[:2], **PROBE}},
        "join_delay": "0s",
        "audit": None,
        "delivery": [{"http_sd": {}}],
    }
    return {
        "fleets": [main, visited],
        "shard_services": [
            {"name": "node", "fleet": "main", "targets": [{"file": {"files": ["node.json"]}}]},
            {"name": "shop", "fleet": "visited", "targets": [{"file": {"files": ["shop.json"]}}]},
        ],
    }


@asynccontextmanager
async def yard(folder: Path, program: Path) -> AsyncIterator[Yard]:
    watcher = ScraperProcess(program, folder / "prometheus", SdConfig(), port=free_port())
    jobs = [
        {"job_name": job, "file_sd_configs": [{"files": [str(folder / f"{job}.json")], "refresh_interval": "1s"}]}
        for job in ("promring", "promring-agent")
    ]
    for job in jobs:
        (folder / f"{job['job_name']}.json").write_text("[]")
    told = {"global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"}, "rule_files": ["rules.yml"]}
    watcher.config_file.write_text(yaml.safe_dump({**told, "scrape_configs": jobs}))
    (watcher.config_file.parent / "rules.yml").write_text(in_a_hurry())
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session())
        y = Yard(folder, session, watcher)
        (folder / "c0").mkdir()
        for _ in range(4):
            fake = Fake(folder / "c0" / "out", free_port())
            app = web.Application()
            app.router.add_route("*", "/{any:.*}", fake.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", int(fake.name.partition(":")[2])).start()
            y.fakes.append(fake)
            y.runners.append(runner)
        y.controllers.append(Controller(folder / "c0", settings(folder / "c0", y.fakes), port=free_port()))
        y.watch("promring", y.controllers[0].port)
        stack.push_async_callback(y.stop)
        for process in (watcher, *y.controllers):
            await process.start()
        yield y


@pytest.fixture
async def y(tmp_path: Path, prometheus_program: Path) -> AsyncIterator[Yard]:
    async with yard(tmp_path, prometheus_program) as made:
        yield made


async def well(y: Yard) -> None:
    """Until all is well, and nothing fires."""
    controller = y.controllers[0]
    await controller.until(lambda: controller.is_ready(y.session), "promring is ready")
    covered = 'promring_uncovered_targets{service="node"} == 0'

    firing: dict[str, Any] = {}

    async def quiet() -> bool:
        firing.clear()
        firing.update(await y.watched.firing())
        return bool(await y.watched.series(covered)) and not firing

    try:
        await until(quiet, "no alert while all is well")
    except AssertionError as error:
        raise AssertionError(f"all is well: {sorted(firing)}") from error


async def changed(y: Yard, change: Callable[[dict[str, Any]], None]) -> None:
    controller = y.controllers[0]
    config = yaml.safe_load(controller.config_file.read_text())
    change(config)
    controller.configure(config)
    answer = await controller.post(y.session, "/-/reload?force=true")
    assert answer.status == 200, answer.body


async def test_of_targets(y: Yard) -> None:
    """Some nobody scrapes, some two do, of some nobody can say, some have no scraper; and nobody looked for long."""
    await well(y)
    first, *others = y.fakes
    first.lacks = 3
    await y.fires("PromringTargetsNotScraped")
    first.lacks, first.beyond = 0, {"node"}
    await y.fires("PromringTargetsDoubled")
    first.beyond, first.deaf = set(), True
    await y.fires("PromringTargetsUnproved")
    await changed(y, lambda config: config["fleets"][0].update(placement={"capacity": 5}))
    await y.fires("PromringTargetsUnplaced", "PromringNoRoomForLoss")
    for fake in others:
        fake.hangs = True
    await y.fires("PromringAuditOld")


async def test_of_scrapers(y: Yard) -> None:
    """One comes and goes, does not come, is dead; most are, all are; nobody knows who they are, or can ask them."""
    await well(y)
    nodes, names = y.folder / "c0" / "nodes.json", [fake.name for fake in y.fakes]

    async def flaps() -> bool:
        for listed in (names[1:], names):
            nodes.write_text(json.dumps(listed))
            await asyncio.sleep(1)
        return await y.watched.fires("PromringFlapping")

    await until(flaps, "the alert PromringFlapping")
    for _ in range(3):
        await y.session.get(f"{y.controllers[0].url}/sd/shop/{names[0]}")
        await asyncio.sleep(0.6)
    await y.fires("PromringScraperNotAsking")
    await y.runners[0].cleanup()
    await y.fires("PromringScraperDown")
    for runner in y.runners[1:3]:
        await runner.cleanup()
    await y.fires("PromringPlanHeld")
    await y.runners[3].cleanup()
    await y.fires("PromringNoScraperUp")
    nodes.write_text("[")
    await y.fires("PromringScraperListFails", "PromringMembershipUnknown")
    authority, secret = trustme.CA(), {"scraper_api": {"scheme": "https", "tls": {"ca_file": "ca.pem"}}}
    authority.cert_pem.write_to_path(nodes.with_name("ca.pem"))
    port = int(names[0].partition(":")[2])
    async with serving_tls(port, trustme.CA().issue_cert("127.0.0.1")):
        await changed(y, lambda config: config["fleets"][1].update(secret))
        await y.fires("PromringProbesImpossible")


@asynccontextmanager
async def serving_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_of_lists_and_of_what_is_written(y: Yard) -> None:
    """Lists that are gone, doubted, partly refused; a drain that cannot end; slices, state, configuration that cannot be."""
    await well(y)
    controller, folder = y.controllers[0], y.folder / "c0"
    barred = folder / "out" / "node" / f"{y.fakes[0].name.replace(':', '_')}.json"
    barred.unlink()
    barred.mkdir()
    (folder / "node.json").write_text(json.dumps([{"targets": TARGETS[1:]}]))
    await y.fires("PromringScraperExcluded")
    barred.rmdir()
    (folder / "shop.json").write_text(json.dumps([{"targets": [*TARGETS, ""]}]))
    await y.fires("PromringEntriesRefused")
    (folder / "shop.json").unlink()
    await y.fires("PromringSourceFailing")
    (folder / "node.json").write_text("[]")
    await y.fires("PromringSourceDoubted")
    (folder / "node.json").write_text(json.dumps([{"targets": TARGETS}]))
    for fake in y.fakes[1:]:
        fake.lacks = 30
    await controller.post(y.session, f"/api/v1/fleets/main/scrapers/{y.fakes[0].name}/drain")
    await y.fires("PromringDrainStuck", "PromringHandOverStuck")
    shutil.rmtree(folder / "out")
    (folder / "out").write_text("no folder")
    (folder / "node.json").write_text(json.dumps([{"targets": TARGETS[1:]}]))  # a change that is delivered late
    await y.fires("PromringDeliveryFailing")
    await asyncio.sleep(3)
    (folder / "out").unlink()
    await y.fires("PromringSlow")
    central = {"promql": {"url": "http://127.0.0.1:1", "query": "up", "interval": "1s"}}
    await changed(y, lambda config: config["fleets"][0].update(placement={"loads": central}))
    await y.fires("PromringLoadsUnknown")
    shutil.rmtree(folder / "state")
    (folder / "state").write_text("no folder")
    await y.fires("PromringStateNotSaved")
    controller.configure("fleets: [")
    assert (await controller.reload(y.session)).status == 400
    await y.fires("PromringReloadFailed")


async def test_of_controllers(y: Yard) -> None:
    """Two without a lock; none that leads; one that is short of everything; one that is gone; none."""
    await well(y)
    first = y.controllers[0]
    (y.folder / "c1").mkdir()
    for file in first.folder.glob("*.json"):
        shutil.copy(file, y.folder / "c1")
    (y.folder / "c1" / "node.json").write_text(json.dumps([{"targets": TARGETS[:25]}]))  # or both write the same
    config = yaml.safe_load(first.config_file.read_text())
    config["fleets"][0]["delivery"] = [{"file": {"path": str(first.folder / "out/{service}/{scraper}.json")}}]
    second = Controller(y.folder / "c1", config, port=free_port())
    y.controllers.append(second)
    y.watch("promring", first.port, second.port)
    await second.start()
    await y.fires("PromringTwoLeaders", "PromringLockedOut")
    await second.stop()
    await y.fires("PromringDown")
    await leases_lapse(y, second, config)
    second.configure(config | locked("127.0.0.1:1"))
    shutil.rmtree(second.folder / "state")
    (second.folder / "nodes.json").unlink()
    second.arguments = ["sh", "-c", 'ulimit -n 128; exec "$@"', "promring", *second.arguments]
    await second.start()
    y.watch("promring", second.port)
    await y.fires("PromringNoLeader", "PromringNotReady")
    open_ = [await asyncio.open_connection("127.0.0.1", second.port) for _ in range(60)]
    await y.fires("PromringConnectionsShort")
    soft = len(list(Path(f"/proc/{second.pid}/fd").iterdir())) + 2
    resource.prlimit(second.pid, resource.RLIMIT_NOFILE, (soft, soft))
    await y.fires("PromringDescriptorsShort")
    for _, writer in open_:
        writer.close()
    await second.kill()
    await y.fires("PromringAbsent")


def locked(address: str) -> dict[str, Any]:
    return {"consul": {"address": address}, "controllers": {"lock": {"consul": {"key": "promring/leader"}}}}


async def leases_lapse(y: Yard, second: Controller, config: dict[str, Any]) -> None:
    """With a lock in a Consul that answers after a second."""
    async with AsyncExitStack() as stack:
        consul = ConsulProcess(server("consul"), y.folder / "consul")
        stack.push_async_callback(consul.stop)
        await consul.start()
        await consul.until(lambda: consul.is_ready(y.session), "Consul")
        host, _, port = consul.address.rpartition(":")
        proxy = await stack.enter_async_context(FaultProxy(host, int(port)))
        proxy.fault = Latency(0.5)
        second.configure(config | locked(proxy.address))
        stack.push_async_callback(second.stop)
        await second.start()
        y.watch("promring", second.port)
        await y.fires("PromringLeaseLapses")


async def test_of_agents(y: Yard) -> None:
    """One that cannot write, whose file nobody gives any more, that nobody answers, and that is gone."""
    await well(y)
    controller, into, port = y.controllers[0], y.folder / "into", free_port()
    nobody = [f"--reload-url=http://127.0.0.1:{free_port()}/-/reload"]
    agent = AgentProcess(y.folder / "agent", [controller.url], y.fakes[0].name, into, port=port, more=nobody)
    await agent.start()
    try:
        y.watch("promring-agent", port)
        await until((into / "shop.json").exists, "the slice of the agent")
        await y.fires("PromringAgentReloadFails")
        shutil.rmtree(into)
        into.write_text("no folder")
        (y.folder / "c0" / "shop.json").write_text(json.dumps([{"targets": TARGETS[1:]}]))
        await y.fires("PromringAgentCannotWrite", "PromringListNotTaken")
        said = f"asks for its list, and has not taken it for .*: shop: {into / 'shop.json'}: "

        async def told() -> bool:
            (visited,) = [one for one in await controller.ask(y.session, "fleets") if one["name"] == "visited"]
            return any(one["id"] == y.fakes[0].name and re.search(said, one["trouble"]) for one in visited["scrapers"])

        await until(told, "the controller says why")
        assert not await y.watched.fires("PromringScraperNotAsking"), "it asks"
        into.unlink()
        await until((into / "shop.json").exists, "the slice of the agent again")
        (y.folder / "c0" / "other.json").write_text(json.dumps([{"targets": TARGETS}]))
        other = {"name": "other", "fleet": "visited", "targets": [{"file": {"files": ["other.json"]}}]}
        await changed(y, lambda config: config["shard_services"].append(other))
        await changed(y, lambda config: config["shard_services"].pop(1))
        await y.fires("PromringAgentFileLeft")
        await controller.stop()
        await y.fires("PromringAgentAlone")
    finally:
        await agent.stop()
    await y.fires("PromringAgentDown")


def test_every_alert_is_provoked() -> None:
    text = "".join(Path(__file__).with_name(name).read_text() for name in ("test_alerts.py", "test_alerts_rare.py"))
    assert {one["alert"] for one in alerts() if f'"{one["alert"]}"' not in text} == set()
