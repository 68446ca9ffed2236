"""Values without quotes in pasted blocks, beside real Prometheus."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import indent

import pytest
from aiohttp import web

from promring.config.load import loads
from promring.core.fragment import decode, fragments
from promring.core.pool import merge
from promring.demo.process import Process, free_port
from promring.discovery import SourceContext
from promring.runtime.http_client import HttpError, new_session, request
from tests.fakes.slices import serving
from tests.real.conftest import server
from tests.waiting import until

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


MIXED = """\
static_configs:
  - targets: [a:1, b:1, a:1]
    labels: {from: static, job: mine}
  - targets: [b:1, c:1]
    labels: {from: static, job: mine}
  - targets: [c:1]
    labels: {__scheme__: https, __param_module: x, from: static}
file_sd_configs:
  - files: [one.json, "t*.yml"]
  - files: [one.json]
http_sd_configs:
  - url: HTTP
"""
ONE = [{"targets": ["a:1", "d:1"], "labels": {"from": "file"}}, {"targets": ["b:1"], "labels": {"from": "static", "x": ""}}]
TWO = '- targets: ["a:1", "e:1"]\n  labels: {from: file, size: x}\n- targets: ["a:1"]\n'
HTTP = [
    {"targets": ["a:1", "f:1"], "labels": {"from": "file"}},
    {"targets": ["a:1"], "labels": {"from": "http"}},
    {"targets": []},
]


@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_a_job_of_several_discoveries_has_the_targets_that_prometheus_has(name: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ONE))
    (tmp_path / "two.yml").write_text(TWO)

    async def list_of(_: web.Request) -> web.Response:
        return web.json_response(HTTP)

    app = web.Application()
    app.router.add_get("/", list_of)
    async with serving(app) as url:
        block = MIXED.replace("HTTP", url)
        (service,) = loads(FRAME + indent(block, " " * 6), base=tmp_path).shard_services
        sources = [part.source(SourceContext(tmp_path)) for one in service.targets for part in one.parts]
        whole = merge([await source.fetch() for source in sources], ranks=[0] * len(sources))
        ours = {scraped({"__address__": one.address, **one.labels}) for one in map(decode, fragments(whole))}
        async with prometheus(name, tmp_path, block) as api, new_session() as session:
            theirs: set[object] = set()

            async def agree() -> bool:
                try:
                    answer = await request(session, "GET", f"{api}/api/v1/targets?state=active", timeout_s=30)
                except HttpError:
                    return False
                if answer.status != 200:
                    return False
                listed = json.loads(answer.body)["data"]["activeTargets"]
                theirs.clear()
                theirs.update((one["scrapeUrl"], *_final(one["labels"])) for one in listed)
                return theirs == ours

            await until(agree, "the same targets", 20)
    assert len(ours) == 12


def scraped(labels: dict[str, str]) -> tuple[object, ...]:
    """What Prometheus makes of discovered labels: the URL and the labels of the target."""
    module = f"?module={labels['__param_module']}" if "__param_module" in labels else ""
    url = f"{labels.get('__scheme__', 'http')}://{labels['__address__']}/metrics{module}"
    return url, *_final({"instance": labels["__address__"], "job": "x", **labels})


def _final(labels: dict[str, str]) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in labels.items() if not name.startswith("__"))


@asynccontextmanager
async def prometheus(name: str, folder: Path, block: str) -> AsyncIterator[str]:
    config = folder / "prometheus.yml"
    config.write_text("global: {scrape_interval: 100y}\nscrape_configs:\n  - job_name: x\n" + indent(block, " " * 4))
    address = f"127.0.0.1:{free_port()}"
    agent = "--agent" if name == "prometheus3" else "--enable-feature=agent"
    options = (f"--config.file={config}", f"--storage.agent.path={folder / 'data'}", f"--web.listen-address={address}")
    server_of_it = Process([server(name), agent, *options], folder / "log")
    await server_of_it.start()
    try:
        yield f"http://{address}"
    finally:
        await server_of_it.stop()
