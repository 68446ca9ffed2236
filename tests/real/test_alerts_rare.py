"""Alerts that need an engine, a fault of promring, a certificate or a minute: a real Prometheus fires them, and they end."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from testbed.agent import AgentProcess

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session
from tests.fakes.slices import FakeSlices
from tests.real.test_alerts import PROBE, TARGETS, Fake, in_a_hurry
from tests.real.test_discovery_engine import EngineProcess, engine_of
from tests.real.test_watching import Watched
from tests.unit.test_certificates import pem
from tests.waiting import until

PLANTED = """
import runpy, sys
from pathlib import Path
from promring.audit import asking
fault, real = Path(sys.argv.pop(1)), asking.targets_of
def targets_of(*given, **more):
    if fault.exists():
        raise LookupError("planted")
    return real(*given, **more)
asking.targets_of = targets_of
runpy.run_module("promring", run_name="__main__")
"""
"""promring, with a fault while there is a file of this name."""
A, B = (b'[{"targets":["%s:1"]}]\n' % name for name in (b"a", b"b"))


def authority(days: float) -> str:
    """One that is half a year old, and ends in so many days."""
    now = datetime.now(UTC).replace(microsecond=0)
    return pem(now - timedelta(days=180), now + timedelta(days=days)).decode()


def settings(folder: Path, fake: Fake, engine: EngineProcess, ends_in_days: float) -> dict[str, Any]:
    (folder / "more.json").write_text(json.dumps([{"targets": TARGETS}]))
    listed = {"url": f"http://{fake.name}/list", "tls_config": {"ca": authority(ends_in_days)}}
    service = {
        "name": "node",
        "scrapers": {"probe": {"nodes": [fake.name], **PROBE}},
        "audit": {"interval": "1s", "timeout": "1s"},
        "targets": [
            {"prometheus": {"url": engine.url, "scrape_pool": "node", "interval": "1s"}},
            {"file": {"files": ["more.json"]}},
            {"http": listed},
        ],
        "delivery": [{"file": {"path": "out/{service}/{scraper}.json"}}],
    }
    return {"shard_services": [service]}


@asynccontextmanager
async def watching(folder: Path, program: Path, jobs: dict[str, int]) -> AsyncIterator[Watched]:
    """A Prometheus with the shipped rules, and a job for each of these ports."""
    watcher = ScraperProcess(program, folder, SdConfig(), port=free_port())
    scraped = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()]
    told = {"global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"}, "rule_files": ["rules.yml"]}
    watcher.config_file.write_text(yaml.safe_dump({**told, "scrape_configs": scraped}))
    (watcher.config_file.parent / "rules.yml").write_text(in_a_hurry())
    async with new_session() as session:
        try:
            await watcher.start()
            await until(partial(watcher.is_ready, session), "the Prometheus that watches")
            yield Watched(session, watcher)
        finally:
            await watcher.stop()


async def one_target(_: web.Request) -> web.Response:
    return web.json_response([{"targets": ["l:1"]}])


@asynccontextmanager
async def serving(fake: Fake) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/list", one_target)
    app.router.add_route("*", "/{any:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(fake.name.partition(":")[2])).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def ends(watched: Watched, alert: str) -> None:
    async def is_over() -> bool:
        return not await watched.fires(alert)

    await until(is_over, f"the end of {alert}")


async def test_of_an_engine_a_fault_an_authority_and_an_agent_that_refuses_everything(
    tmp_path: Path, prometheus_program: Path
) -> None:
    folder, own, agents = tmp_path / "c", free_port(), free_port()
    folder.mkdir()
    fake = Fake(folder / "out", free_port())
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(engine_of("prometheus3", tmp_path))
        slices = await stack.enter_async_context(FakeSlices().running())
        await stack.enter_async_context(serving(fake))
        engine.configure("node")
        engine.list_in("node", [{"targets": ["a:1"]}])
        slices.offer(A, "9.1")
        agent = AgentProcess(tmp_path / "agent", [slices.url], "s:1", tmp_path / "into", port=agents)
        controller = Controller(folder, settings(folder, fake, engine, 20), port=own)
        controller.arguments = [sys.executable, "-c", PLANTED, str(folder / "fault"), *controller.arguments[3:]]
        for process in (engine, agent, controller):
            stack.push_async_callback(process.stop)
            await process.start()
        await until((tmp_path / "into" / "x.json").exists, "the slice of the agent")
        slices.offer(B, "5.1")  # from now on it refuses for a minute
        jobs = {"promring": own, "promring-agent": agents}
        w = await stack.enter_async_context(watching(tmp_path / "prometheus", prometheus_program, jobs))

        await until(partial(w.fires, "PromringCertificateEnds"), "the alert of the authority")
        said = (await w.firing())["PromringCertificateEnds"]["labels"]
        assert (said["kind"], said["path"]) == (
            "authority",
            f"{controller.config_file}: shard_services[node].targets[2].tls_config.ca",
        )
        controller.configure(settings(folder, fake, engine, 900))
        session = await stack.enter_async_context(new_session())
        assert (await controller.reload(session)).status == 200
        await ends(w, "PromringCertificateEnds")

        (engine.lists / "node.json").write_text("[")
        await until(partial(w.fires, "PromringDiscoveryBehindFailing"), "the alert of the engine")

        (folder / "fault").touch()
        await until(partial(w.fires, "PromringUnforeseen"), "the alert of the fault")
        assert f" scraper={fake.name} " in controller.log_lines("unforeseen")[0]
        (folder / "fault").unlink()
        await ends(w, "PromringUnforeseen")

        await until(partial(w.fires, "PromringAgentFrozen"), "the alert of the agent", 120)
        slices.offer(B, "10.1")
        await ends(w, "PromringAgentFrozen")
