"""A scraper, or a store, that says how heavy targets are: what it answers is what the test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from promring.core.fragment import ID_LABEL, target
from promring.model import Scraper, TargetPool


def targets_of(pool: TargetPool, job: str, *, health: str = "up", samples: Mapping[str, float] | None = None) -> list[Any]:
    """The active targets as a server lists them; ``samples``: by address, as vmagent says them."""
    found = []
    for row in range(len(pool)):
        one = target(pool, row)
        labels = {**one.labels, "job": job, "instance": one.address}
        said = {} if samples is None else {"lastSamplesScraped": samples.get(one.address, 0)}
        id_ = {ID_LABEL: f"{int(pool.ids[row]):016x}"}
        found.append({"discoveredLabels": {**labels, **id_}, "labels": labels, "scrapePool": job, "health": health, **said})
    return found


def series(labels: Mapping[str, str], value: object) -> dict[str, Any]:
    """One series of a vector."""
    return {"metric": {"__name__": "scrape_samples_post_metric_relabeling", **labels}, "value": [1700000000.0, str(value)]}


def vector(*some: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(some)}}


@dataclass
class FigureServer:
    """``targets``, ``result``: what it answers, bytes as they are; ``status``: of the query; ``asked``: the queries."""

    targets: Sequence[Any] | bytes = ()
    result: Any = field(default_factory=vector)
    status: int = 200
    port: int = 0
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def scraper(self) -> Scraper:
        return Scraper(f"127.0.0.1:{self.port}", "127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def list_targets(self, _: web.Request) -> web.Response:
        if isinstance(self.targets, bytes):
            return web.Response(body=self.targets)
        return web.json_response({"status": "success", "data": {"activeTargets": list(self.targets)}})

    async def query(self, request: web.Request) -> web.Response:
        self.asked.append(request.query.get("query", ""))
        self.headers.append(dict(request.headers))
        body = self.result if isinstance(self.result, bytes) else json.dumps(self.result).encode()
        return web.Response(body=body, status=self.status)


@asynccontextmanager
async def figure_server(server: FigureServer) -> AsyncIterator[FigureServer]:
    """Listens on a free port of loopback."""
    app = web.Application()
    app.router.add_get("/api/v1/targets", server.list_targets)
    app.router.add_get("/api/v1/query", server.query)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
