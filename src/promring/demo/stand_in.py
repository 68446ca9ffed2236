"""A small stand-in for Prometheus, used where a real one cannot be had.

Does what promring sees of one: ``/-/ready``, ``/-/healthy``, file_sd and http_sd with Prometheus' rules for lists
(malformed or no answer keeps the last list; ``[]``, ``null`` and a removed file drop every target), scrapes at an interval
with an offset of its own for each target, ``/api/v1/targets``. The same contract tests run on it and on Prometheus.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import click
import xxhash
from aiohttp import web

from promring.discovery import groups
from promring.model import DiscoveryError, TargetGroup
from promring.runtime.http_client import HttpError, new_session, request

LOOK_S = 1.0
SCRAPE_TIMEOUT_S = 2.0
PIECE_BYTES = 64 * 1024


class StandIn:
    def __init__(self, listen: str, interval_s: float, file: Path | None, url: str | None, job: str = "demo") -> None:
        self._job = job
        self._listen, self._interval_s, self._file, self._url = listen, interval_s, file, url
        self._scraping: dict[str, asyncio.Task[None]] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._last: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        app = web.Application()
        for path in ("/-/ready", "/-/healthy"):
            app.router.add_get(path, self._ok)
        app.router.add_get("/api/v1/targets", self._targets)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        host, _, port = self._listen.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        async with new_session(keep_alive=False) as session:
            while True:
                await self._look(session)
                await asyncio.sleep(LOOK_S)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        try:
            listed = await self._fetch(session)
        except (DiscoveryError, HttpError):
            return  # no usable answer: go on with the last list
        wanted = {address: dict(group.labels) for group in listed for address in group.targets}
        self._labels = wanted
        for address in self._scraping.keys() - wanted.keys():
            self._scraping.pop(address).cancel()
            self._last.pop(address, None)
        for address in wanted.keys() - self._scraping.keys():
            self._scraping[address] = asyncio.create_task(self._scrape_for_ever(address))

    async def _fetch(self, session: aiohttp.ClientSession) -> tuple[TargetGroup, ...]:
        if self._file is not None:
            try:
                return groups.listed(await asyncio.to_thread(self._file.read_bytes), str(self._file))
            except FileNotFoundError:
                return ()
        answer = await request(session, "GET", str(self._url), timeout_s=5)
        if answer.status != 200 or not answer.headers.get("content-type", "").startswith("application/json"):
            raise HttpError(f"status {answer.status}")
        return groups.listed(answer.body, str(self._url))

    async def _scrape_for_ever(self, address: str) -> None:
        offset = xxhash.xxh3_64_intdigest(f"{self._listen} {address}".encode()) / 2**64 * self._interval_s
        await asyncio.sleep((offset - time.time()) % self._interval_s)
        while True:
            started = time.time()
            health = "up" if await _scraped(address) else "down"
            self._last[address] = {"health": health, "at": datetime.fromtimestamp(started, UTC).isoformat()}
            await asyncio.sleep(max(0.0, started + self._interval_s - time.time()))

    async def _ok(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    async def _targets(self, _: web.Request) -> web.Response:
        active = [
            {
                "discoveredLabels": {"__address__": address, **self._labels.get(address, {})},
                "labels": {"instance": address, **self._labels.get(address, {})},
                "scrapeUrl": f"http://{address}/metrics",
                "scrapePool": self._job,
                "health": self._last.get(address, {}).get("health", "unknown"),
                "lastScrape": self._last.get(address, {}).get("at", "0001-01-01T00:00:00Z"),
                "scrapeInterval": f"{self._interval_s:g}s",
            }
            for address in self._scraping
        ]
        return web.json_response(
            {"status": "success", "data": {"activeTargets": active, "droppedTargets": []}}, dumps=json.dumps
        )


async def _scraped(address: str) -> bool:
    """Whether it answers with 200, to the end, in time. Without an HTTP client, which would cost more than all else here."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(SCRAPE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(f"GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                status = await reader.readline()
                while await reader.read(PIECE_BYTES):
                    pass
            finally:
                writer.close()
    except (OSError, ValueError):  # also when the time is over
        return False
    return status.split(b" ")[1:2] == [b"200"]


@click.command()
@click.option("--listen", required=True)
@click.option("--interval", "interval_s", type=float, default=5.0)
@click.option("--file", type=click.Path(path_type=Path))
@click.option("--url")
@click.option("--job", default="demo")
def main(listen: str, interval_s: float, file: Path | None, url: str | None, job: str) -> None:
    asyncio.run(StandIn(listen, interval_s, file, url, job).run())


if __name__ == "__main__":
    main()
