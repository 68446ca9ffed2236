"""How promring asks by HTTP, with real sockets and TLS: a client certificate, a password, a redirect and a proxy at once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from promring.config.http_client import BasicAuth, Tls
from promring.core.pool import pool_of
from promring.discovery.http import HttpSource, HttpTargets
from promring.model import DiscoveryError, TargetGroup
from promring.runtime.redact import SecretUrl

NEW = (TargetGroup.of(["a:1"]),)


class Cmdb:
    """Lets in who has a certificate of the authority and the password, and sends everybody on to ``/moved``."""

    password = "first"

    async def old(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/moved")

    async def moved(self, request: web.Request) -> web.Response:
        wanted = "Basic " + base64.b64encode(f"promring:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != wanted:
            raise web.HTTPUnauthorized(text=f"not {request.headers.get('Authorization')}")
        return web.json_response([{"targets": ["a:1"]}])


@asynccontextmanager
async def serving(cmdb: Cmdb, ca: trustme.CA) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.add_routes([web.get("/sd", cmdb.old), web.get("/moved", cmdb.moved)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Proxy:
    """Makes tunnels (CONNECT) and remembers where to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b" ")[1].decode())
        host, _, port = self.asked[-1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying() -> AsyncIterator[tuple[Proxy, str]]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.tunnel, "127.0.0.1", 0)
    try:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    """With ``ca.pem`` and ``client.pem`` in the folder of the test."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made.issue_cert("promring.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    return made


async def test_a_list_comes_by_tls_with_a_client_certificate_a_password_a_redirect_and_a_proxy(
    tmp_path: Path, ca: trustme.CA
) -> None:
    cmdb, password = Cmdb(), tmp_path / "password"
    password.write_text("first\n")
    async with serving(cmdb, ca) as port, proxying() as (proxy, proxy_url):
        settings = HttpTargets(
            url=SecretUrl(f"https://127.0.0.1:{port}/sd"),
            timeout=30.0,
            basic_auth=BasicAuth(username="promring", password_file=password),
            tls=Tls(ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "client.pem"),
            proxy_url=SecretUrl(proxy_url),
        )
        source = HttpSource(settings)
        assert await source.fetch() == pool_of(NEW)
        assert set(proxy.asked) == {f"127.0.0.1:{port}"}

        cmdb.password = "second"
        with pytest.raises(DiscoveryError, match="status 401") as caught:
            await source.fetch()
        assert "first" not in str(caught.value), "the server repeats the header, and nobody shows it"
        password.write_text("second\n")
        assert await source.fetch() == pool_of(NEW), "the file is read again when it is used"

        stranger = HttpSource(settings.model_copy(update={"tls": Tls(ca_file=tmp_path / "ca.pem")}))
        with pytest.raises(DiscoveryError):
            await stranger.fetch()
        stays = HttpSource(settings.model_copy(update={"follow_redirects": False}))
        with pytest.raises(DiscoveryError, match="status 302"):
            await stays.fetch()
