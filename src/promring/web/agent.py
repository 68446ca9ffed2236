"""The agent's own pages for health checks and Prometheus: its connections are bounded as a controller's are.

Whoever reaches the port may not take the descriptors that the agent needs to ask controllers and to write files.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.runtime.text import clean
from promring.telemetry.log import Logger
from promring.web.connection import mark
from promring.web.listener import Listener, connections_most
from promring.web.refusals import Refusals


async def serve(host: str, port: int, poller: Poller, metrics: AgentMetrics, log: Logger, most: int | None = None) -> None:
    """Until cancelled. ``most`` connections at a time; None: half of the descriptors. Raises ``ListenError`` when it cannot
    have the address.
    """

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="promring agent is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        why, more = poller.unready(), poller.remarks()
        text = "\n".join(one for one in (why or "promring agent is ready.", more) if one)
        return web.Response(status=503 if why else 200, text=clean(text) + "\n")

    async def counters(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[mark], client_max_size=64 * 1024)
    app.add_routes([web.get("/-/healthy", healthy), web.get("/-/ready", ready), web.get("/metrics", counters)])
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None  # set up
        refusals = Refusals(metrics.http_refused, log)
        listener = Listener(server, refusals, tls=lambda: None, most=most or connections_most())
        await listener.bind(host, port)
        await listener.run()
    finally:
        await runner.cleanup()
