"""The life of an agent's process: its actors, until a signal."""

from __future__ import annotations

import asyncio
import signal

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.runtime.actors import Actor, run_actors
from promring.runtime.notify import Notify
from promring.telemetry import log

GRACE_S = 4.0


async def run(settings: AgentSettings, listen: tuple[str, int] | None) -> None:
    """Until SIGINT or SIGTERM. Raises ``ListenError``."""
    metrics, notify = AgentMetrics(), Notify()
    poller = Poller(settings, metrics, log.get())
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    async def signals() -> None:
        await stop.wait()
        notify.stopping()

    actors: dict[str, Actor] = {"signals": signals, "poller": poller.run, "systemd": notify.live}
    if listen is not None:
        from promring.web.agent import serve  # aiohttp's server is for those that listen

        actors["web"] = lambda: serve(*listen, poller, metrics, log.get())
    log.get().info("agent_starting", controllers=",".join(settings.controllers), dir=str(settings.folder))
    notify.ready()
    await run_actors(actors, GRACE_S)
    log.get().info("agent_stopped")
