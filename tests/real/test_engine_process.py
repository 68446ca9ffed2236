"""A real Prometheus that promring runs to discover."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from promring.demo.process import Process, free_port
from promring.discovery import SourceContext
from promring.discovery.engine_process import EngineProcess
from promring.discovery.engine_section import EngineSection
from promring.discovery.prometheus import PrometheusSource, PrometheusTargets
from promring.model import DiscoveryError
from promring.telemetry import log
from tests.real.conftest import server
from tests.rows import Seen
from tests.waiting import until


def configure(folder: Path, *jobs: str) -> Path:
    for job in jobs:
        (folder / f"{job}.json").write_text(json.dumps([{"targets": [f"{job}:1"]}]))
    found = [{"job_name": job, "file_sd_configs": [{"files": [str(folder / f"{job}.json")]}]} for job in jobs]
    config = folder / "discovery.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "100y"}, "scrape_configs": found}))
    return config


async def lists_one(source: PrometheusSource) -> bool:
    return await said(source) == "1 targets"


async def said(source: PrometheusSource) -> str:
    """Its targets, or why there are none."""
    try:
        return f"{len(await source.fetch())} targets"
    except DiscoveryError as error:
        return str(error)


async def said_that(source: PrometheusSource, text: str) -> bool:
    return text in await said(source)


@pytest.mark.row(63, did="a Prometheus that promring runs: killed, its configuration changed, wrong, stopped")
@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_an_engine_of_our_own_discovers_and_comes_back(name: str, tmp_path: Path, seen: Seen) -> None:
    config = configure(tmp_path, "node")
    engine = EngineProcess(tmp_path / "storage", log.get())
    wanted = EngineSection(config_file=config, program=server(name), memory_max=512 * 1024**2)
    engine.want(wanted)
    running = asyncio.create_task(engine.run())
    context = SourceContext(tmp_path, engine)
    node, other = (PrometheusTargets(scrape_pool=job, interval=0.5).source(context) for job in ("node", "other"))
    try:
        await until(lambda: lists_one(node), "its targets", 60)
        first = engine.pid
        assert first is not None
        assert "no scrape pool 'other'" in await said(other)
        os.kill(first, signal.SIGKILL)
        await until(lambda: engine.pid not in (None, first), "another one", 60)
        assert "does not run" not in await said(node)  # it waits until that one is ready
        again = engine.pid
        configure(tmp_path, "node", "other")
        engine.want(wanted)
        await until(lambda: lists_one(other), "the pool that came", 60)
        assert engine.pid == again
        process = psutil.Process(again)
        assert {one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert process.rlimit(psutil.RLIMIT_DATA) == (512 * 1024**2, 512 * 1024**2)
        config.write_text("scrape_configs: [{job_name: node, scrape_intervall: 5s}]")
        engine.want(wanted)

        async def refuses() -> bool:
            found = await said(node)
            return "refused its newest configuration" in found and "scrape_intervall not found" in found

        await until(refuses, "what is wrong with its configuration")
        process.suspend()
        await until(lambda: said_that(node, f"its process {again} is stopped"), "what is wrong with it")
        process.resume()
        await until(lambda: said_that(node, "refused its newest"), "its answers")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not Path(f"/proc/{again}").exists()
    seen("killed: another one runs; reloaded in place; a wrong configuration and a stop are said; ended with us")


async def test_an_engine_of_our_own_dies_with_a_promring_that_is_killed(tmp_path: Path) -> None:
    config = {
        "engine": {"config_file": str(configure(tmp_path, "node")), "program": str(server("prometheus3"))},
        "shard_services": [
            {
                "name": "x",
                "scrapers": {"probe": {"nodes": ["127.0.0.1:9"]}},
                "targets": [{"prometheus": {"scrape_pool": "node"}}],
                "delivery": [{"http_sd": {}}],
            }
        ],
    }
    (tmp_path / "promring.yml").write_text(yaml.safe_dump(config))
    options = (f"--config.file={tmp_path / 'promring.yml'}", f"--state.dir={tmp_path / 'state'}")
    promring = Process(
        [sys.executable, "-m", "promring", "run", *options, f"--web.listen-address=127.0.0.1:{free_port()}"],
        tmp_path / "log",
    )
    await promring.start()
    try:
        found: list[int] = []

        def child() -> bool:
            found[:] = map(int, Path(f"/proc/{promring.pid}/task/{promring.pid}/children").read_text().split())
            return len(found) == 1 and b"prometheus" in Path(f"/proc/{found[0]}/cmdline").read_bytes().partition(b"\0")[0]

        await until(child, "its engine", 60)
    finally:
        await promring.kill()
    await until(lambda: not Path(f"/proc/{found[0]}").exists(), "the end of its engine", 10)
