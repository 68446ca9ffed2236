"""A running promring attacked by those who hold no part of it: clients, users and hosts. As ``test_attacks``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from testbed.sshd import SshdProcess, make_key

from promring.demo.controller import Controller
from promring.demo.process import Process, free_port
from promring.runtime.http_client import new_session, request
from tests.fakes.hostile import MEGA
from tests.real.conftest import server
from tests.real.town import service, town
from tests.rows import Seen
from tests.waiting import until

# --- clients -----------------------------------------------------------------------------------------------------------

HOST = "Host: 127.0.0.1\r\n"
REQUESTS: dict[str, str] = {
    "two lengths": f"POST /-/reload HTTP/1.1\r\n{HOST}Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "length and chunks": f"POST /-/reload HTTP/1.1\r\n{HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    f"POST /-/reload HTTP/1.1\r\n{HOST}\r\n",
    "chunks twice": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks with a space": f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": f"GET / HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n",
    "bare line feeds": "POST /-/reload HTTP/1.1\nHost: 127.0.0.1\n\n",
    "the method in a header": f"GET /-/reload HTTP/1.1\r\n{HOST}X-HTTP-Method-Override: POST\r\n\r\n",
    "the method in the query": f"GET /-/reload?_method=POST HTTP/1.1\r\n{HOST}\r\n",
    "another method": f"RELOAD /-/reload HTTP/1.1\r\n{HOST}\r\n",
    "TRACE": f"TRACE / HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT": f"CONNECT 169.254.169.254:80 HTTP/1.1\r\n{HOST}\r\n",
    "an absolute address": "GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "slashes": f"POST //-//reload HTTP/1.1\r\n{HOST}\r\n",
    "dots": f"GET /static/../../../../etc/passwd HTTP/1.1\r\n{HOST}\r\n",
    "escaped dots": f"GET /static/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\n{HOST}\r\n",
    "a semicolon": f"POST /-/reload;x=1 HTTP/1.1\r\n{HOST}\r\n",
    "a NUL": f"GET /static/page.js%00.css HTTP/1.1\r\n{HOST}\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "two hosts": f"GET / HTTP/1.1\r\n{HOST}Host: evil.example\r\n\r\n",
    "another host": "GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a body of a terabyte": f"POST /api/v1/plan HTTP/1.1\r\n{HOST}Content-Length: 1099511627776\r\n\r\n" + "x" * 100_000,
    "a chunk of exabytes": f"POST /api/v1/plan HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
    + "x" * 9999,
    "many headers": f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 50_000 + "\r\n",
    "a long line": "GET /" + "x" * 1_000_000 + f" HTTP/1.1\r\n{HOST}\r\n",
    "an upgrade": f"GET / HTTP/1.1\r\n{HOST}Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAAA\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a thousand in a row": f"GET /-/healthy HTTP/1.1\r\n{HOST}\r\n" * 1000,
}


async def raw(port: int, said: bytes) -> bytes:
    """What it answers, up to a megabyte and for at most three seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(3):
            writer.write(said)
            await writer.drain()
            while (more := await reader.read(65536)) and len(got) < MEGA:
                got += more
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return got


@pytest.mark.row(
    "A7", "A11", did="promring run: smuggled, folded, endless requests, paths with tricks, floods of streams and of sockets"
)
async def test_a_client_without_the_token_changes_nothing_and_holds_nobody_up(tmp_path: Path, seen: Seen) -> None:
    async with town(tmp_path) as t:
        port = t.controller.port
        for name, said in REQUESTS.items():
            got = await raw(port, said.encode())
            assert b"root:" not in got, name
            assert not re.search(rb"HTTP/1.1 5(?!0[135])", got), (name, got[:300])
            assert t.controller.running, name
        await t.goes_on()
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        try:
            for n, one in enumerate(sockets):
                path = ("/api/v1/events", f"/sd/good/s{n}:1?wait=5m", f"/sd/s{n}:1?wait=5m")[n % 3]
                one.sendall(f"GET {path} HTTP/1.1\r\n{HOST}Accept: text/event-stream\r\n\r\n".encode())
            await t.goes_on()
        finally:
            for one in sockets:
                one.close()
        actions = await t.controller.ask(t.session, "actions")
        assert actions == []
    seen(f"{len(REQUESTS)} kinds of requests and 300 streams: nothing changed")


# --- another user of the machine ----------------------------------------------------------------------------------------


@pytest.mark.row(
    "A13", did="promring run: the folder of slices, and the state, are swapped for links while slices are written"
)
async def test_links_in_the_place_of_folders_lead_no_write_outside(tmp_path: Path, seen: Seen) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out/odd"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    swaps, stop = 0, threading.Event()

    def swap() -> None:
        """The whole folder, then the file in it: now a link to elsewhere, now a hard link, now as it was."""
        nonlocal swaps
        while not stop.wait(0.001):
            with contextlib.suppress(OSError):
                for found in out.iterdir():
                    if found.suffix == ".json":
                        found.unlink()
                        (os.link if swaps % 2 else os.symlink)(victim / "kept", found)
            with contextlib.suppress(OSError):
                out.rename(out.with_name("aside"))
                out.symlink_to(victim)
                stop.wait(0.001)
                out.unlink()
                out.with_name("aside").rename(out)
            swaps += 1

    listed = [{"file": {"files": [str(tmp_path / "targets.json")]}}]
    by_file = [{"file": {"path": str(tmp_path / "out/{service}/{scraper}.json")}}]
    async with town(tmp_path, lambda honest: [service("odd", [honest], listed, delivery=by_file)]) as t:
        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(15):
                await t.goes_on()
        finally:
            stop.set()
            thread.join()
        assert [path.name for path in victim.iterdir()] == ["kept"]
        assert (victim / "kept").read_text() == "kept"
        assert swaps > 20
    seen(f"{swaps} swaps during 15 changes: nothing was written outside")


# --- a host of ssh -----------------------------------------------------------------------------------------------------

SHELLS = {
    "never ends": "sleep 1000",
    "endless output": "yes promring 0 written",
    "endless errors": "yes 'an error' >&2",
    "escapes": r"printf '\033[2J\033]0;x\007promring 0 error \033[31m\r\nforged\n'",
    "binary": "head -c 1000000 /dev/urandom",
    "lies": "echo promring 0 written; echo promring 0 same; echo promring 9 written",
    "a long line": "head -c 50000000 /dev/zero | tr '\\0' x",
}


@pytest.mark.row(
    34, 52, did="promring run: an ssh host with a long banner that answers without end, with escapes, with lies"
)
async def test_a_hostile_ssh_host_takes_nothing_from_the_others(tmp_path: Path, seen: Seen) -> None:
    key = make_key(tmp_path / "key")
    sshd = SshdProcess(server("sshd"), tmp_path / "sshd", key)
    (tmp_path / "banner").write_bytes(b"\x1b[31mwelcome\r\n" * 100_000)
    config = tmp_path / "sshd/sshd_config"
    config.write_text(config.read_text() + f"Banner {tmp_path / 'banner'}\n")
    (tmp_path / "known").write_text(sshd.known_hosts_line())
    authorized = tmp_path / "sshd/authorized_keys"
    own = authorized.read_text()
    ssh = {
        "user": sshd.user,
        "port": sshd.port,
        "path": str(tmp_path / "far/{service}.json"),
        "timeout": "2s",
        "identity_file": str(key),
        "known_hosts": str(tmp_path / "known"),
    }
    listed = [{"file": {"files": [str(tmp_path / "targets.json")]}}]
    await sshd.start()
    try:
        await sshd.until(sshd.is_ready, "sshd", 60)
        async with town(tmp_path, lambda honest: [service("far", [honest], listed, delivery=[{"ssh": ssh}])]) as t:
            for line in SHELLS.values():
                await sshd.stop()  # a connection that is there keeps the command with which it began
                authorized.write_text(f'command="{line}" {own}'.replace('"' + line + '"', json.dumps(line)))
                await sshd.start()
                await sshd.until(sshd.is_ready, "sshd", 60)
                await t.goes_on()
                await asyncio.sleep(2.5)
                assert t.controller.running
            await until(
                lambda: "msg=delivery_failed fleet=far" in t.controller.log_file.read_text(), "a failure that is said"
            )
    finally:
        await sshd.stop()
    seen(f"{len(SHELLS)} ways of answering: the others' slices as before")


# --- who comes for slices in the name of another -----------------------------------------------------------------------


@pytest.mark.row(
    52, "A11", did="promring run: a stranger comes again and again for the slice of a scraper that has just joined"
)
async def test_who_comes_in_the_name_of_a_scraper_ends_no_hand_over_that_can_be_seen(tmp_path: Path, seen: Seen) -> None:
    """The scraper that joins never comes itself, and its API says that it scrapes nothing."""
    port, overlap_s = free_port(), 2.0
    nodes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        farm = await stack.enter_async_context(answering(20, {"/metrics": b"up 1\n"}))
        (tmp_path / "targets.json").write_text(json.dumps([{"targets": farm}]))
        for node in nodes[:2]:
            asks = ["--listen", node, "--interval", "1", "--url", f"http://127.0.0.1:{port}/sd/x/{node}"]
            honest = Process([sys.executable, "-m", "promring.demo.stand_in", *asks], tmp_path / "stand-in.log")
            stack.push_async_callback(honest.stop)
            await honest.start()
        one = service("x", [], [{"file": {"files": [str(tmp_path / "targets.json")]}}], job="demo")
        one["scrapers"] = {"probe": {"nodes": nodes, "interval": "1s", "timeout": "1s", "healthy_after": 1}}
        one |= {"handover": {"overlap": f"{overlap_s:g}s"}, "wait_for": {"scrapers": 2, "at_most": "1m"}}
        controller = Controller(tmp_path / "promring", {"shard_services": [one]}, port=port)
        stack.push_async_callback(controller.stop)
        await controller.start()

        async def says_of(key: str) -> int:
            return int((await controller.ask(session, "services/x") or {}).get(key) or 0)

        async def covered() -> bool:
            return ((await controller.ask(session, "services/x/coverage") or {}).get("ratio") or 0) == 1.0

        await until(covered, "both scrape all of it", 120)
        lies = json.dumps({"status": "success", "data": {"activeTargets": [], "droppedTargets": []}}).encode()
        await stack.enter_async_context(
            answering(1, {"/-/ready": b"ok", "/api/v1/targets": lies}, port=int(nodes[2].rpartition(":")[2]))
        )

        async def begun() -> bool:
            return await says_of("handing_over") > 0

        async def asked() -> set[int]:
            paths = f"/sd/x/{nodes[2]}", f"/sd/{nodes[2]}"
            return {(await request(session, "GET", f"{controller.url}{p}", timeout_s=30)).status for p in paths}

        async def served() -> bool:
            return await asked() == {200}

        await until(begun, "the third has joined", 60)
        before = await says_of("handing_over")
        await until(served, "its slice can be had: it is planned a moment before", 60)
        began = time.monotonic()
        while time.monotonic() < began + 6 * overlap_s:
            assert await asked() == {200}
            await asyncio.sleep(0.7)
        assert await says_of("handing_over") == before, "the old owners let nothing go"
    seen(f"{before} targets stayed with their owners for {6 * overlap_s:.0f} s")


@asynccontextmanager
async def answering(count: int, pages: dict[str, bytes], port: int = 0) -> AsyncIterator[list[str]]:
    """So many addresses that give these pages, in JSON or as text."""
    app = web.Application()
    for path, body in pages.items():
        app.router.add_get(path, page(body))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        for _ in range(count):
            await web.TCPSite(runner, "127.0.0.1", port).start()
        yield [f"127.0.0.1:{address[1]}" for address in runner.addresses]
    finally:
        await runner.cleanup()


def page(body: bytes) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json" if body[:1] == b"{" else "text/plain")

    return answer
