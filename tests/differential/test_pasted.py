"""Values without quotes in pasted blocks, beside real Prometheus."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from textwrap import indent

import pytest

from promring.config.load import loads
from promring.core.fragment import decode, fragments
from promring.discovery import SourceContext
from tests.real.conftest import server

pytestmark = pytest.mark.real

BLOCK = """\
static_configs:
  - targets: [1.5, true, 0x50, 12:30:45, 8_0]
    labels:
      {a: true, b: yes, c: ~, d: null, e: , f: 1.50, g: 0x50, h: 080, i: 1e3, j: .5, k: 2024-01-01, l: 12:30:45,
       m: 1_000, n: .inf, o: 'x', p: off, q: -0, r: 0o17, s: "true", t: 'null'}
"""
FRAME = """\
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["h:1"]}}
    delivery: [{http_sd: {}}]
    targets:
"""


def of_the_job(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != "job" and not name.startswith(("__s", "__m"))}


async def test_values_without_quotes_are_the_texts_that_prometheus_makes_of_them(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs:\n  - job_name: x\n" + indent(BLOCK, " " * 4))
    command: list[str | Path] = [server("promtool"), "check", "service-discovery", "--timeout=1s", config, "x"]
    said = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=60)
    theirs = {one["discoveredLabels"]["__address__"]: of_the_job(one["discoveredLabels"]) for one in json.loads(said.stdout)}
    (static,) = loads(FRAME + indent(BLOCK, " " * 6), base=tmp_path).shard_services[0].targets
    pool = await static.source(SourceContext(tmp_path)).fetch()
    ours = {one.address: {"__address__": one.address, **one.labels} for one in map(decode, fragments(pool))}
    assert ours == theirs
    assert len(ours) == 5
