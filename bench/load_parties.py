"""Who has to do with the controller of ``bench.load``, each kind in a process of its own: scrapers' health pages, agents,
scrapers that ask for their lists, people at the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path
from typing import TextIO

import aiohttp
from aiohttp import web

from promring.agent import WAIT_S
from promring.agent.asking import AgentSettings, Named, NoSliceError, asker
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.delivery.bundle import mark, opened
from promring.runtime.http_client import new_session, request
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

SCRAPERS, AGENTS, WRITERS, SERVICES, WATCHERS = 1000, 500, 25, 50, 100
POLL_S, PAGE_EVERY_S, PAGE_AFTER_EVENT_S = 60.0, 5.0, 0.1


def host_of(number: int) -> str:
    return f"127.1.{number // 250}.{number % 250 + 1}"


def service_of(number: int) -> str:
    return f"s{number:02d}"


async def _fleet(port: int, bare: int) -> None:
    """Health pages of all scrapers on one port of many addresses, and a bare server as a yardstick."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/-/healthy", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for at in (port, bare):
        await web.TCPSite(runner, "0.0.0.0", at, backlog=2048).start()
    await asyncio.Event().wait()


async def _agents(port: int, controller: str, folder: Path) -> None:
    log.configure("error")
    favour_the_loop()
    with (folder.parent / "arrived").open("a", buffering=1) as arrived:
        async with asyncio.TaskGroup() as group:
            for n in range(AGENTS):
                settings = AgentSettings([controller], f"{host_of(n)}:{port}", folder / str(n))
                if n % (AGENTS // WRITERS) == 0:
                    group.create_task(Poller(settings, AgentMetrics(), log.get()).run())
                else:
                    group.create_task(_ask(settings, arrived))


async def _ask(settings: AgentSettings, arrived: TextIO) -> None:
    """As an agent asks; what comes is noted, not written."""
    have: dict[str, str] = {}
    async with asker(settings) as asking:
        while True:
            named = Named(list(have.values()))
            try:
                answer = await asking.ask(settings.controllers[0], named, wait_s=WAIT_S if have else 0, fresh=False)
            except NoSliceError:
                await asyncio.sleep(1)
                continue
            came, (listing, sent) = time.time_ns(), opened(answer.body)
            for one in listing.slices:
                have[one.service] = mark(one.service, one.sha256)
            arrived.writelines(f"{service} {came}\n" for service in sent)


async def _pollers(port: int, controller: str) -> None:
    """Each scraper without an agent asks for each list once a minute, at its own moment."""

    async def one(session: aiohttp.ClientSession, scraper: str, service: str, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            began = time.monotonic()
            headers = {"Accept-Encoding": "gzip"}
            await request(session, "GET", f"{controller}/sd/{service}/{scraper}", timeout_s=30, headers=headers)
            await asyncio.sleep(max(0.0, began + POLL_S - time.monotonic()))

    async with new_session(connections_max=SCRAPERS) as session, asyncio.TaskGroup() as group:
        for n in range(AGENTS, SCRAPERS):
            for s in range(SERVICES):
                group.create_task(one(session, f"{host_of(n)}:{port}", service_of(s), random.uniform(0, POLL_S)))


async def _watchers(controller: str, file: Path) -> None:
    """People who look at the page. Writes how long each answer took, seconds."""
    took: list[float] = []

    async def listen(session: aiohttp.ClientSession, rang: asyncio.Event) -> None:
        async with session.get(f"{controller}/api/v1/events", headers={"Accept": "text/event-stream"}) as answer:
            async for _ in answer.content:
                rang.set()

    async def look(session: aiohttp.ClientSession, rang: asyncio.Event) -> None:
        while True:
            began = time.monotonic()
            async with session.get(controller) as answer:
                await answer.read()
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(PAGE_AFTER_EVENT_S, 2 * took[-1]))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(rang.wait(), PAGE_EVERY_S)
            rang.clear()

    endless = aiohttp.ClientTimeout(total=None)
    made = aiohttp.ClientSession(timeout=endless, connector=aiohttp.TCPConnector(limit=0))
    async with made as session, asyncio.TaskGroup() as group:
        for _ in range(WATCHERS):
            rang = asyncio.Event()
            group.create_task(listen(session, rang))
            group.create_task(look(session, rang))
        while True:
            file.with_suffix(".new").write_text(json.dumps(took))
            file.with_suffix(".new").rename(file)
            await asyncio.sleep(1)


def _main(kind: str, port: str, *more: str) -> None:
    if kind == "fleet":
        asyncio.run(_fleet(int(port), int(more[0])))
    elif kind == "agents":
        asyncio.run(_agents(int(port), more[0], Path(more[1])))
    elif kind == "watchers":
        asyncio.run(_watchers(more[0], Path(more[1])))
    else:
        asyncio.run(_pollers(int(port), more[0]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
