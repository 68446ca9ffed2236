"""The life of an agent's process: its actors, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.owner import Owned
from promring.agent.poller import Poller
from promring.agent.slicefile import set_aside
from promring.delivery.bundle import SERVICES_MOST
from promring.runtime.actors import Actor, run_actors
from promring.runtime.notify import Notify
from promring.runtime.threads import in_thread
from promring.telemetry import log

GRACE_S, OWNS_S = 4.0, 5.0


def _forget_those_of(before: str, folder: Path) -> None:
    """The lists of the scraper ``before``. Blocks."""
    note = (
        "its lists stay until ours come, whatever their generations; until then this scraper scrapes the other one's targets"
    )
    with contextlib.suppress(OSError):
        if files := set_aside(folder, SERVICES_MOST):
            log.get().warning("folder_was_of_another_scraper", dir=str(folder), was=before, files=len(files), note=note)


async def run(settings: AgentSettings, listen: tuple[str, int] | None, owned: Owned) -> None:
    """Until SIGINT or SIGTERM. Raises ``ListenError``, and ``TakenError`` when the agent of another scraper has taken the
    folder.
    """
    metrics, notify = AgentMetrics(), Notify()
    if owned.before:
        await in_thread(lambda: _forget_those_of(owned.before, settings.folder))
    poller = Poller(settings, metrics, log.get())
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    async def signals() -> None:
        await stop.wait()
        notify.stopping()

    async def ownership() -> None:
        while True:
            await asyncio.sleep(OWNS_S)
            if await in_thread(owned.still) and owned.before:
                await in_thread(lambda: _forget_those_of(owned.before, settings.folder))

    actors: dict[str, Actor] = {"signals": signals, "poller": poller.run, "systemd": notify.live, "folder": ownership}
    if listen is not None:
        from promring.web.agent import serve  # aiohttp's server is for those that listen

        actors["web"] = lambda: serve(*listen, poller, metrics, log.get())
    log.get().info("agent_starting", controllers=",".join(settings.controllers), dir=str(settings.folder))
    notify.ready()
    await run_actors(actors, GRACE_S)
    log.get().info("agent_stopped")
