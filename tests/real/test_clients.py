"""A daemon with few descriptors, while strangers take all they can get."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from aiohttp import web

from promring.demo.process import Process, free_port
from tests.waiting import until

DESCRIPTORS, IDLE, FLOOD = 256, 300, 60
FLOOD_EVERY_S = 0.2
"""Ten times as many passwords as can be checked; without a pause the clients took the cores from the tests beside them."""


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()}


@pytest.mark.row(53, "A7", "A11", did="256 descriptors, 300 idle sockets, 60 clients, five wrong passwords a second each")
async def test_strangers_take_neither_descriptors_nor_cores_from_the_fleet(tmp_path: Path, seen: Any) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        probed = 0

        async def ready(_: web.Request) -> web.Response:
            nonlocal probed
            probed += 1
            return web.Response(text="ready")

        app = web.Application()
        app.router.add_get("/-/ready", ready)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        for _ in range(3):
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        nodes = [f"{host}:{port}" for host, port in runner.addresses]
        service = {
            "name": "node",
            "scrapers": {"probe": {"nodes": nodes, "interval": "500ms", "timeout": "500ms", "unhealthy_after": 100}},
            "targets": [{"file": {"files": ["targets.json"], "refresh_interval": "1s"}}],
            "delivery": [{"file": {"path": "out/{scraper}.json"}}],
        }
        (tmp_path / "promring.yml").write_text(json.dumps({"shard_services": [service]}))
        (tmp_path / "targets.json").write_text(json.dumps([{"targets": [f"t{n}:1" for n in range(30)]}]))
        hashed = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(10)).decode()
        (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: '{hashed}'}}\n")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        run = f"ulimit -n {DESCRIPTORS}; exec {sys.executable} -m promring run --web.config.file=web.yml"
        run = f"cd {tmp_path}; {run} --web.listen-address=127.0.0.1:{port}"
        daemon = Process(["bash", "-c", run], tmp_path / "promring.log")
        await daemon.start()
        opened: list[asyncio.StreamWriter] = []

        async def status(path: str = "/-/ready", password: str = "open sesame", host: str = "") -> int:
            headers = basic(password) | ({"Host": host} if host else {})
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url + path, headers=headers, timeout=aiohttp.ClientTimeout(30)) as response:
                    await response.read()
                    return response.status
            return 0

        async def is_ready() -> bool:
            return await status() == 200

        async def idle() -> None:
            """Whom a full queue does not take would ask again for two minutes."""
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(10):
                    opened.append((await asyncio.open_connection("127.0.0.1", port))[1])

        async def flood(n: int) -> None:
            for turn in range(1_000_000):
                await status("/", f"wrong {n} {turn}")
                await asyncio.sleep(FLOOD_EVERY_S)

        try:
            await daemon.until(is_ready, "promring", 60)
            await asyncio.gather(*(idle() for _ in range(IDLE)))
            strangers = [asyncio.create_task(flood(n)) for n in range(FLOOD)]
            slowest, begun = 0.0, probed
            for turn in range(9):
                asked = time.monotonic()
                assert await status(["/-/ready", "/metrics", "/"][turn % 3]) == 200
                slowest = max(slowest, time.monotonic() - asked)
            held = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
            assert held <= DESCRIPTORS - 64, "a reserve is left"
            await until(lambda: probed >= begun + 6, "scrapers are probed all the while", 60)
            (tmp_path / "targets.new").write_text(json.dumps([{"targets": [f"t{n}:1" for n in range(31)]}]))
            (tmp_path / "targets.new").rename(tmp_path / "targets.json")

            def delivered() -> set[str]:
                """Each once: when the new one moves another, two have that one until the hand-over ends, in minutes."""
                texts = [p.read_text() for p in (tmp_path / "out").glob("*.json")]
                return {target for text in texts for g in json.loads(text) for target in g["targets"]}

            await until(lambda: len(delivered()) == 31, "a new target is delivered all the while", 60)
            for task in strangers:
                task.cancel()
            await asyncio.gather(*strangers, return_exceptions=True)
            log = daemon.log_file.read_text()
            assert daemon.running
            assert log.count("msg=node_update_reshard") <= 3, "nobody was taken for dead"
            assert "Too many open files" not in log
            assert "Traceback" not in log
            async with session.get(url + "/api/v1/events?limit=1000", headers=basic("open sesame")) as response:
                told = [event["msg"] for event in (await response.json())["data"]]
            assert not [msg for msg in told if msg.startswith("http_")]
            seen(f"{held} descriptors held, a known user's slowest answer {slowest:.1f} s, {len(told)} events, nobody died")
        finally:
            for writer in opened:
                writer.close()
            await daemon.stop()
            await runner.cleanup()
