"""A real Prometheus that promring runs and that needs more memory than it may have."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from promring.core.pool import pool_of
from promring.discovery import SourceContext
from promring.discovery.engine_process import EngineProcess
from promring.discovery.engine_section import MEMORY_LEAST, EngineSection
from promring.discovery.prometheus import PrometheusTargets
from promring.model import TargetGroup
from promring.telemetry import log
from tests.real.conftest import server
from tests.real.test_engine_process import configure, said, said_that
from tests.rows import Seen
from tests.waiting import until

TOO_MANY = 60_000


def fill(folder: Path, targets: int) -> None:
    labels = {f"__meta_label_{k}": f"value-{k}" * 10 for k in range(20)}
    groups = [{"targets": [f"10.0.{i >> 8}.{i & 255}:1"], "labels": {**labels, "__meta_n": f"{i}"}} for i in range(targets)]
    new = folder / "node.new"
    new.write_text(json.dumps(groups))
    new.rename(folder / "node.json")


@pytest.mark.row(63, did="a Prometheus that promring runs: a list that its memory does not hold")
async def test_an_engine_that_runs_out_of_memory_is_named_keeps_the_list_and_comes_back(tmp_path: Path, seen: Seen) -> None:
    config = configure(tmp_path, "node")
    fill(tmp_path, TOO_MANY)
    engine = EngineProcess(tmp_path / "storage", log.get())
    engine.want(EngineSection(config_file=config, program=server("prometheus3"), memory_max=MEMORY_LEAST))
    source = PrometheusTargets(scrape_pool="node", interval=1.0).source(SourceContext(tmp_path, engine))
    listed = pool_of([TargetGroup(("10.0.0.1:1",), ())])
    source.remember(listed)
    engine_runs = asyncio.create_task(engine.run())

    async def ails() -> bool:
        said_now = await said(source)
        return "memory" in said_now and "(memory_max: 256 MiB)" in said_now

    try:
        await until(ails, "what ails it", 60)
        first = engine.pid
        assert source.last is listed
        fill(tmp_path, 4)
        await until(lambda: said_that(source, "may not have discovered"), "an engine that lives", 60)
        assert engine.pid not in (None, first)
        assert source.last is listed
    finally:
        engine_runs.cancel()
        await asyncio.gather(engine_runs, return_exceptions=True)
    seen("it ended, was named with its limit, the last list stayed, and one that was started again answers")
