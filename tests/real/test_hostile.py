"""One real ``promring run`` with a hostile scraper, a hostile source and a hostile Consul among good ones."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import HttpError, new_session
from tests.fakes.hostile import CORPUS, HostilePeer, Shape, plain
from tests.hostile.test_consul import SERVICES
from tests.hostile.test_scrapers import TARGETS
from tests.hostile.test_sources import LIST
from tests.rows import Seen
from tests.waiting import until

ROUND_MOST_S = 3.0
EVERY = 8
"""Of the hostile answers, where there is little time."""
EMPTY = ("null", "empty", "many")
"""Words of the cases that a source may mean: no targets. They are the guard's business."""
NONE = Shape(TARGETS.before, b"", TARGETS.after, keys=TARGETS.keys)


def honest_scraper(head: bytes) -> bytes:
    """A health page and a list of targets."""
    return plain(NONE.body(b""), {}) if b"/api/v1/targets" in head.split(b"\r\n")[0] else plain(b"ok", {})


class OnlyTheApi(HostilePeer):
    """A scraper whose probe goes well, and whose API is hostile."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if b"/api/" in line:
            await super()._serve(reader, writer)
            return
        with contextlib.suppress(OSError):
            writer.write(plain(b"ok", {}))
            await writer.drain()
        writer.close()


def service(name: str, scrapers: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "scrapers": scrapers,
        "targets": targets,
        "join_delay": "200ms",
        "delivery": [{"http_sd": {}}],
        "audit": {"interval": "300ms", "timeout": "300ms"},
        "job": "x",
    }


def probing(*peers: HostilePeer) -> dict[str, Any]:
    return {"probe": {"nodes": [peer.address for peer in peers], "path": "/-/ready", "interval": "5s", "timeout": "5s"}}


@asynccontextmanager
async def pinged(port: int) -> AsyncIterator[list[float]]:
    """How long ``/-/healthy`` took, again and again, while the block runs. No answer at all fails. In a thread: the peers
    hold this loop.
    """
    took: list[float] = []
    stop = threading.Event()

    def ping() -> None:
        while not stop.wait(0.02):
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/-/healthy")
            assert connection.getresponse().status == 200
            connection.close()
            took.append(time.monotonic() - began)

    task = asyncio.create_task(asyncio.to_thread(ping))
    try:
        yield took
    finally:
        stop.set()
        await task


def typical(took: list[float]) -> float:
    return sorted(took)[len(took) // 2]


@pytest.mark.row(52, did="promring run: a hostile scraper, source and Consul among good ones, every hostile answer of each")
async def test_a_daemon_among_hostile_peers_lives_answers_and_changes_no_slice(
    tmp_path: Path, long: bool, seen: Seen
) -> None:
    file = tmp_path / "targets.json"
    file.write_text(json.dumps([{"targets": [f"t{n}:1" for n in range(20)]}]))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        scraper, other = [await stack.enter_async_context(OnlyTheApi(NONE)) for _ in range(2)]
        source = await stack.enter_async_context(HostilePeer(LIST))
        consul = await stack.enter_async_context(HostilePeer(SERVICES))
        config = {
            "consul": {"address": consul.address},
            "shard_services": [
                service("good", probing(other), [{"file": {"files": [str(file)]}}]),
                service("scraper", probing(scraper, other), [{"file": {"files": [str(file)]}}]),
                service(
                    "source",
                    probing(other),
                    [
                        {"file": {"files": [str(file)]}},
                        {"http": {"url": f"http://{source.address}/sd", "refresh_interval": "200ms", "timeout": "200ms"}},
                    ],
                ),
                service("consul", {"consul": {"service": "x"}}, [{"file": {"files": [str(file)]}}]),
            ],
        }
        controller = Controller(tmp_path / "promring", config, port=free_port())
        stack.push_async_callback(controller.stop)
        await controller.start()
        await controller.until(lambda: controller.is_ready(session), "promring", 60)
        ids = {"good": other, "scraper": scraper, "source": other}

        async def slices() -> dict[str, bytes]:
            found = {}
            for name, peer in ids.items():
                answer = await controller.get(session, f"/sd/{name}/{peer.address}")
                found[name] = answer.body if answer.status == 200 else b""
            answer = await controller.get(session, "/sd/consul/127.0.0.1:1")
            return {**found, "consul": answer.body if answer.status == 200 else b""}

        await until(lambda: whole(slices), "every service has its slice", 60)
        await asyncio.sleep(1.5)
        before = await slices()
        async with pinged(controller.port) as idle:
            await asyncio.sleep(2)
        peers = [scraper, source, consul]
        count = 0
        async with pinged(controller.port) as busy:
            for name in list(source.cases())[:: 1 if long else EVERY]:
                for peer in peers:
                    meant = peer is source and any(word in name for word in EMPTY)
                    peer.play(name, None if meant else peer.cases()[name] if name in peer.cases() else CORPUS["binary"])
                with contextlib.suppress(AssertionError):  # some go on for long
                    await until(lambda: bool(scraper.served and source.served), name, ROUND_MOST_S)
                assert controller.running, controller.log_tail(20)
                count += 1
        assert all(peer.ever > count / 4 for peer in peers), [peer.ever for peer in peers]
        assert await slices() == before, "no byte of a slice changed"
        for peer in peers:
            peer.play("honest", None)
        await until(lambda: controller.is_ready(session), "ready", 30)
        assert await slices() == before
        assert not controller.log_lines("unforeseen")
        seen(
            f"{count} rounds of three hostile answers: alive, slices unchanged, /-/healthy {len(busy)} times, "
            f"typically {typical(busy) / typical(idle):.1f} times as long as idle, "
            f"longest {max(busy) / max(idle):.1f} times the longest idle one"
        )


async def whole(slices: Any) -> bool:
    try:
        return all((await slices()).values())
    except HttpError:
        return False
