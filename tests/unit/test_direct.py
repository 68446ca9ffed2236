"""Scrapers asked directly: who lives, who does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from promring.membership import direct
from promring.membership.direct import DirectProbes
from promring.model import Members, Reply, Scraper
from tests import jumping
from tests.waiting import until


@asynccontextmanager
async def answering(status: int | None) -> AsyncIterator[Scraper]:
    """A scraper that answers with ``status``, or never."""

    async def answer(_: web.Request) -> web.Response:
        if status is None:
            await asyncio.sleep(60)
        return web.Response(status=status or 200)

    app = web.Application()
    app.router.add_get("/-/healthy", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield Scraper(f"127.0.0.1:{port}", "127.0.0.1", port)
    await runner.cleanup()


def test_answers_refusals_and_silence_are_told_apart() -> None:
    async def told() -> None:
        async with answering(200) as up, answering(401) as locked, answering(500) as broken, answering(None) as hung:
            gone = Scraper("127.0.0.1:1", "127.0.0.1", 1)
            suspects: Members = (up, locked, broken, hung, gone)
            changed, verdicts = asyncio.Event(), dict[str, Reply]()
            task = asyncio.create_task(
                DirectProbes("/-/healthy", 0.2).run(
                    lambda: suspects, changed, lambda name, reply: verdicts.update({name: reply})
                )
            )
            try:
                await until(lambda: {up.id, locked.id} <= verdicts.keys(), "the living ones at the first probe", 2)
                assert (verdicts[up.id], verdicts[locked.id]) == (Reply.ANSWERS, Reply.ANSWERS)
                await until(lambda: gone.id in verdicts, "refused twice in a moment, whatever the hung one does", 2)
                assert (verdicts[gone.id], len(verdicts)) == (Reply.REFUSES, 3)
                await until(lambda: len(verdicts) == 5, "the others after three", 3 * (direct.PAUSE_S + 0.5))
                assert [verdicts[s.id] for s in (broken, hung)] == [Reply.SILENT, Reply.HANGS]
                suspects = ()
                changed.set()
                verdicts.clear()
                await asyncio.sleep(direct.PAUSE_S * 1.5)
                assert not verdicts, "nobody is suspected, nobody is asked"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    jumping.run(told())
