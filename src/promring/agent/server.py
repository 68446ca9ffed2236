"""The agent's own page for health checks and Prometheus."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.model import ListenError
from promring.runtime.text import clean


async def serve(host: str, port: int, poller: Poller, metrics: AgentMetrics) -> None:
    """Until cancelled. Raises ``ListenError`` when the address cannot be had."""

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="promring agent is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        why, more = poller.unready(), poller.remarks()
        text = "\n".join(one for one in (why or "promring agent is ready.", more) if one)
        return web.Response(status=503 if why else 200, text=clean(text) + "\n")

    async def counters(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=64 * 1024)
    app.add_routes([web.get("/-/healthy", healthy), web.get("/-/ready", ready), web.get("/metrics", counters)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ListenError(f"--web.listen-address {host}:{port}: {error.strerror}") from error
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
