"""A farm of targets: many small exporters in this process, which remember when they were scraped."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable

from aiohttp import web

KEPT = 4096


class Farm:
    """``count`` exporters on free ports of 127.0.0.1. Use as an async context manager. ``series``: by address, so many more
    series than one that it has.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.series: dict[str, int] = {}
        self._hits: dict[str, deque[float]] = {}

    async def __aenter__(self) -> Farm:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        for _ in range(self._count):
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._hits = {f"{host}:{port}": deque(maxlen=KEPT) for host, port in self._runner.addresses}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def addresses(self) -> list[str]:
        return list(self._hits)

    def scrapes(self, address: str) -> list[float]:
        """When ``address`` was scraped: monotonic seconds, oldest first, the last ``KEPT`` of them."""
        return list(self._hits[address])

    def first_after(self, address: str, moment: float) -> float | None:
        """Seconds from ``moment`` to the first scrape after it."""
        return next((at - moment for at in self._hits[address] if at > moment), None)

    async def scraped_since(self, addresses: Iterable[str], moment: float, timeout_s: float) -> dict[str, float | None]:
        """Wait until each address was scraped after ``moment``: seconds it took, None for those that never were."""
        names, deadline = list(addresses), time.monotonic() + timeout_s
        while True:
            found = {name: self.first_after(name, moment) for name in names}
            if None not in found.values() or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.05)

    async def _metrics(self, request: web.Request) -> web.Response:
        assert request.transport is not None  # the request is being answered
        host, port = request.transport.get_extra_info("sockname")[:2]
        address = f"{host}:{port}"
        self._hits[address].append(time.monotonic())
        more = "".join(f'demo_more{{n="{n}"}} 1\n' for n in range(self.series.get(address, 0)))
        return web.Response(text=f"# TYPE demo_port gauge\ndemo_port {port}\n{more}", content_type="text/plain")
