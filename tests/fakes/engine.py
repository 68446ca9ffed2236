"""A Prometheus that discovers, for tests: what it lists, when it started, and what goes wrong is what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from aiohttp import web


class FakeEngine:
    """Use as an async context manager. ``pools``: by job, the discovered labels of each target; ``dropped`` likewise;
    ``jobs``: what the configuration says of each. ``fault``: ``down`` (503), ``malformed``, ``cut``, ``silent``, ``html``.
    """

    def __init__(self, pools: Mapping[str, list[dict[str, str]]], *, age_s: float = 3600.0) -> None:
        self.pools = dict(pools)
        self.dropped: dict[str, list[dict[str, str]]] = {}
        self.jobs: dict[str, dict[str, Any]] = {name: {} for name in pools}
        self.fault = ""
        self.basic_auth = ""
        """The header without which it answers 401; empty: it wants none."""
        self.syncs: int | dict[str, int] | None = None
        """How often it applied what it discovered, of every pool or by pool; None: it has no metrics."""
        self.refused = False
        """Whether it goes on with a configuration that is not its newest."""
        self.failures: dict[str, int] = {}
        """How often discoveries failed, by counter with its labels."""
        self.filters = True
        """Whether it answers for one scrape pool."""
        self.asked: list[str] = []
        """The path and query of each request."""
        self.start(age_s)

    def start(self, age_s: float = 0.0) -> None:
        """Begin a life so long ago."""
        self.started = datetime.now(UTC) - timedelta(seconds=age_s)

    async def __aenter__(self) -> FakeEngine:
        app = web.Application()
        app.router.add_get("/api/v1/{path:.*}", self._answer)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        path = request.match_info["path"]
        if self.basic_auth and request.headers.get("Authorization") != self.basic_auth:
            return web.Response(status=401, text="Unauthorized")
        if self.fault == "down":
            return web.Response(status=503, text="Service Unavailable")
        if self.fault == "silent":
            await asyncio.sleep(3600)
        if self.fault == "html":
            return web.Response(text="<html>a proxy</html>")
        if path == "status/config":
            configs = [{"job_name": name, **self._defaults, **more} for name, more in self.jobs.items()]
            return self._success({"yaml": yaml.safe_dump({"scrape_configs": configs})})
        if path == "status/runtimeinfo":
            return self._success({"startTime": self.started.isoformat(), "lastConfigTime": self.started.isoformat()})
        only = request.query.get("scrapePool") if self.filters else None
        data = {"activeTargets": self._listed(self.pools, only), "droppedTargets": self._listed(self.dropped, only)}
        if self.fault == "malformed":
            data["activeTargets"].append(5)
        if self.fault == "cut":
            return web.Response(body=(self._success(data).body or b"")[:-20])  # type: ignore[index]
        return self._success(data)

    async def _metrics(self, _: web.Request) -> web.Response:
        if self.syncs is None:
            return web.Response(status=404)
        numbers = self.syncs if isinstance(self.syncs, dict) else dict.fromkeys(self.pools, self.syncs)
        lines = [f'prometheus_target_scrape_pool_sync_total{{scrape_job="{name}"}} {n}' for name, n in numbers.items()]
        lines += [f'prometheus_target_scrape_pool_targets{{scrape_job="{n}"}} {len(p)}' for n, p in self.pools.items()]
        lines += [f"{counter} {count}" for counter, count in self.failures.items()]
        lines.append(f"prometheus_config_last_reload_successful {int(not self.refused)}")
        return web.Response(text="\n".join([f"process_start_time_seconds {self.started.timestamp()}", *lines, ""]))

    _defaults: Mapping[str, Any] = {
        "scheme": "http",
        "metrics_path": "/metrics",
        "scrape_interval": "100y",
        "scrape_timeout": "10s",
    }

    def _success(self, data: object) -> web.Response:
        return web.json_response({"status": "success", "data": data})

    def _listed(self, pools: Mapping[str, list[dict[str, str]]], only: str | None) -> list[Any]:
        own = {
            "__scheme__": "http",
            "__metrics_path__": "/metrics",
            "__scrape_interval__": "100y",
            "__scrape_timeout__": "10s",
        }
        return [
            {"discoveredLabels": {"job": name, **own, **labels}, "scrapePool": name, "health": "unknown"}
            for name, targets in pools.items()
            if only in (None, name)
            for labels in targets
        ]
