"""What a daemon costs while nothing changes: 1,000 scrapers that are probed every 2 s, 10,000 targets; and a plain aiohttp
loop that asks the same of the same scrapers on kept connections, beside it.

The scrapers are one process that answers every loopback address at one port. Both are measured by the seconds of CPU
that the kernel counts for the process.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

import aiohttp

from bench.report import console
from promring.demo.controller import Controller
from promring.demo.process import free_port

SCRAPERS, TARGETS, INTERVAL_S = 1000, 10_000, 2.0
SETTLE_S, MEASURE_S = 30.0, 60.0
READY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 28\r\n\r\nPrometheus Server is Ready.\n"
)
EMPTY = b'{"status":"success","data":{"activeTargets":[],"droppedTargets":[]}}'
TARGETS_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(EMPTY), EMPTY)


async def run() -> None:
    port = free_port()
    addresses = [f"127.1.{n // 250}.{n % 250 + 1}:{port}" for n in range(SCRAPERS)]
    scrapers = multiprocessing.Process(target=play_scrapers, args=(port,))
    scrapers.start()
    try:
        plain = await _measure_plain(addresses)
        ours = await _measure_daemon(addresses)
    finally:
        scrapers.kill()
        scrapers.join()
    rate = SCRAPERS / INTERVAL_S
    console.print(
        f"at rest, {SCRAPERS} scrapers probed every {INTERVAL_S:g} s, {TARGETS} targets: {ours:.1%} of a core (asked: 15 %);"
        f" a plain aiohttp loop with the same {rate:g} GETs a second on kept connections: {plain:.1%}"
    )


async def _measure_daemon(addresses: list[str]) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = [{"targets": [f"10.{n // 62500}.{n // 250 % 250}.{n % 250}:9100" for n in range(TARGETS)]}]
        (folder / "targets.json").write_text(json.dumps(targets))
        service = {
            "name": "node",
            "scrapers": {"probe": {"nodes": addresses, "interval": f"{INTERVAL_S:g}s"}},
            "targets": [{"file": {"files": ["targets.json"]}}],
            "delivery": [{"http_sd": {}}],
        }
        daemon = Controller(folder, {"shard_services": [service]}, port=free_port(), level="error")
        await daemon.start()
        try:
            async with aiohttp.ClientSession() as session:
                while not await daemon.is_ready(session):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.2)
            await asyncio.sleep(SETTLE_S)
            return await _share(daemon.pid)
        finally:
            await daemon.stop()


async def _measure_plain(addresses: list[str]) -> float:
    asking = multiprocessing.Process(target=_ask_plainly, args=(addresses,))
    asking.start()
    try:
        await asyncio.sleep(2 * INTERVAL_S)
        assert asking.pid is not None
        return await _share(asking.pid)
    finally:
        asking.kill()
        asking.join()


async def _share(pid: int) -> float:
    """Of a core, over ``MEASURE_S``."""
    before, began = _cpu_s(pid), time.monotonic()
    await asyncio.sleep(MEASURE_S)
    return (_cpu_s(pid) - before) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Scraper(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(TARGETS_ANSWER if data.startswith(b"GET /api/") else READY)


def play_scrapers(port: int) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Scraper, "0.0.0.0", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(main())


def _ask_plainly(addresses: list[str]) -> None:
    async def one(session: aiohttp.ClientSession, address: str) -> None:
        await asyncio.sleep(random.uniform(0, INTERVAL_S))
        while True:
            async with session.get(f"http://{address}/-/ready", timeout=aiohttp.ClientTimeout(total=1.0)) as answer:
                await answer.read()
            await asyncio.sleep(INTERVAL_S)

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(one(session, address) for address in addresses))

    asyncio.run(main())
