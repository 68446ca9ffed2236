"""The Prometheus that promring runs to discover: what the configuration takes, and what is said of one that does not run."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from promring.config.load import loads
from promring.discovery import SourceContext
from promring.discovery.engine_process import LINES_MOST, EngineProcess
from promring.discovery.engine_section import EngineSection
from promring.discovery.prometheus import PrometheusTargets
from promring.model import ConfigError, DiscoveryError
from promring.telemetry import log
from tests.waiting import until

VERSION = '#!/bin/sh\nif [ "$1" = --version ]; then echo "prometheus, version 3.5.0 (x)"; exit; fi\n'


def section(folder: Path, script: str | None, mode: int = 0o755, memory_max: int | None = None) -> EngineSection:
    program = folder / "program"
    if script is not None:
        program.write_text(script)
        program.chmod(mode)
    return EngineSection(config_file=folder / "discovery.yml", program=program, memory_max=memory_max)


@asynccontextmanager
async def running(folder: Path, wanted: EngineSection | None) -> AsyncIterator[EngineProcess]:
    engine = EngineProcess(folder / "engine", log.get())
    engine.want(wanted)
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


TROUBLES: list[tuple[str | None, int, str]] = [
    (None, 0o755, "cannot be started: No such file or directory"),
    (VERSION, 0o644, "cannot be started: Permission denied"),
    ("#!/bin/sh\necho node_exporter, version 1.5.0\n", 0o755, "--version does not name a version of Prometheus"),
    (VERSION + "echo 'ts=1 level=info msg=hello' >&2; exit 3\n", 0o755, "ended with status 3"),
    (
        VERSION + "echo 'ts=1 level=error err=\"no such field\"' >&2; exit 1\n",
        0o755,
        'status 1: level=error err="no such field"',
    ),
    (
        VERSION + "echo 'level=ERROR err=\"listen tcp 127.0.0.1:7: bind: address already in use\"'; exit 1\n",
        0o755,
        "listen tcp 127.0.0.1:7: bind: address already in use",
    ),
    (VERSION + "kill -9 $$\n", 0o755, "was ended by SIGKILL, as the kernel does when memory is short"),
    (VERSION + "kill -6 $$\n", 0o755, "was ended by SIGABRT"),
    (
        VERSION + "echo level=warn msg=x; echo fatal error: runtime: out of memory; echo; echo goroutine 1; exit 2\n",
        0o755,
        "ended with status 2: fatal error: runtime: out of memory",
    ),
]


@pytest.mark.parametrize(("script", "mode", "why"), TROUBLES)
async def test_a_source_says_why_the_engine_does_not_run(script: str | None, mode: int, why: str, tmp_path: Path) -> None:
    async with running(tmp_path, section(tmp_path, script, mode)) as engine:
        source = PrometheusTargets(scrape_pool="node").source(SourceContext(tmp_path, engine))
        with pytest.raises(DiscoveryError) as trouble:
            await source.fetch()
        assert str(trouble.value).startswith("engine: the engine does not run: ")
        assert why in str(trouble.value)


async def test_an_engine_has_no_more_memory_than_it_may(tmp_path: Path) -> None:
    says = "echo level=error data=$(ulimit -d) soft=$GOMEMLIMIT score=$(cat /proc/self/oom_score_adj); exit 1\n"
    async with running(tmp_path, section(tmp_path, VERSION + says, memory_max=512 * 1024**2)) as engine:
        with pytest.raises(DiscoveryError, match=r"data=524288 soft=429496729B score=1000 \(memory_max: 512 MiB\)"):
            await engine.url()


async def test_an_engine_that_is_stopped_is_said_to_be(tmp_path: Path) -> None:
    async with running(tmp_path, section(tmp_path, VERSION + "exec sleep 1000\n")) as engine:
        await until(lambda: engine.pid is not None, "its start")
        assert engine.condition == ""
        os.kill(engine.pid or 0, signal.SIGSTOP)
        await until(lambda: engine.condition == f"its process {engine.pid} is stopped (SIGSTOP)", "its stop")
    assert engine.condition == ""


async def test_warnings_and_errors_of_the_engine_are_lines_of_our_log_and_not_too_many(tmp_path: Path) -> None:
    lines = io.StringIO()
    log.configure(stream=lines)
    says = "for i in $(seq 200); do echo level=INFO msg=a; echo time=x level=WARN msg=b$i; done; echo panic; exit 1\n"
    async with running(tmp_path, section(tmp_path, VERSION + says)):
        await until(lambda: "engine_ended" in lines.getvalue(), "its end")
    found = [line for line in lines.getvalue().splitlines() if "engine_says" in line]
    assert len(found) == LINES_MOST
    assert 'line="level=WARN msg=b1"' in found[0]
    assert "status 1: panic" in lines.getvalue()


async def test_an_engine_that_is_not_wanted_any_more_ends_and_one_that_is_wanted_starts(tmp_path: Path) -> None:
    async with running(tmp_path, None) as engine:
        with pytest.raises(DiscoveryError, match="no section `engine`"):
            await engine.url()
        engine.want(section(tmp_path, VERSION + "exec sleep 1000\n"))
        await until(lambda: engine.pid is not None, "its start")
        folder = Path(f"/proc/{engine.pid}")
        engine.want(None)
        await until(lambda: not folder.exists(), "its end")


async def test_an_engine_that_does_not_end_is_killed_when_promring_ends_meanwhile(tmp_path: Path) -> None:
    deaf = f"trap '' TERM\ntouch {tmp_path}/deaf\nwhile :; do sleep 0.1; done\n"
    async with running(tmp_path, section(tmp_path, VERSION + deaf)) as engine:
        await until(lambda: (tmp_path / "deaf").exists() and engine.pid is not None, "its start")
        folder = Path(f"/proc/{engine.pid}")
        engine.want(None)
        await until(lambda: engine.pid is None, "it is told to end")
        assert folder.exists()
    await until(lambda: not folder.exists(), "its end")


def loaded(targets: dict[str, Any], **top: Any) -> None:
    service = {"name": "x", "scrapers": {"probe": {"nodes": ["h:1"]}}, "delivery": [{"http_sd": {}}]}
    loads(
        yaml.safe_dump({"shard_services": [service | {"targets": [{"prometheus": targets}]}]} | top),
        name="x",
        base=Path("/"),
    )


POOL = {"scrape_pool": "node"}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (POOL, {}, "needs a url, or the section `engine:`"),
    (POOL | {"basic_auth": {"username": "x"}}, {"engine": {"config_file": "x"}}, r"basic_auth: goes with a url"),
    (POOL, {"engine": {}}, r"engine.config_file: is required"),
    (POOL, {"engine": {"config_file": "x", "memory_max": "2GB"}}, r"memory_max: '2GB' is not a size such as 512MiB"),
    (POOL, {"engine": {"config_file": "x", "memory_max": "64MiB"}}, r"engine.memory_max: "),
]


@pytest.mark.parametrize(("targets", "top", "why"), REFUSED)
def test_a_pool_has_a_url_or_the_engine_that_promring_runs(targets: dict[str, Any], top: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        loaded(targets, **top)


def test_a_pool_of_the_engine_that_promring_runs(tmp_path: Path) -> None:
    config = tmp_path / "discovery.yml"
    config.touch()
    loaded(POOL, engine={"config_file": str(config), "memory_max": "2GiB"})
    loaded(POOL | {"url": "http://a:1"}, engine={"config_file": str(config)})


async def test_a_command_that_asks_by_itself_says_that_the_engine_is_elsewhere(tmp_path: Path) -> None:
    source = PrometheusTargets(scrape_pool="node").source(SourceContext(tmp_path))
    with pytest.raises(DiscoveryError, match="runs in `promring run` only"):
        await source.fetch()
