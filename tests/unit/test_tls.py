"""TLS: verified by default, an own CA, a client certificate; everything else is refused by name."""

from __future__ import annotations

import asyncio
import io
import re
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.consul.client import Access, Client
from promring.core.pool import pool_of
from promring.model import ConsulError, DiscoveryError, TargetGroup
from promring.runtime.http_client import TlsFiles
from promring.telemetry import log
from tests.sources import http_source
from tests.waiting import until


@asynccontextmanager
async def server(
    certificate: trustme.LeafCert | None, client_ca: trustme.CA | None = None, version: ssl.TLSVersion | None = None
) -> AsyncIterator[int]:
    """An https server that is a target source and a Consul without services; without a certificate a plain one.
    ``version``: the only one that it speaks.
    """

    async def targets(_: web.Request) -> web.Response:
        return web.json_response([{"targets": ["a:1"]}])

    async def health(_: web.Request) -> web.Response:
        return web.json_response([], headers={"X-Consul-Index": "7"})

    app = web.Application()
    app.add_routes([web.get("/targets", targets), web.get("/v1/health/service/x", health)])
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        if version is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
        if client_ca is not None:
            client_ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


async def fetch(port: int, tls: TlsFiles | None) -> object:
    return await http_source(f"https://127.0.0.1:{port}/targets", 60.0, 5.0, tls=tls).fetch()


async def test_an_own_ca_and_a_client_certificate_are_used(ca: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    leaf = ca.issue_cert("promring.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    files = TlsFiles(ca_file, tmp_path / "client.pem")
    async with server(ca.issue_cert("127.0.0.1"), client_ca=ca) as port:
        assert await fetch(port, files) == pool_of((TargetGroup.of(["a:1"]),))
        async with Client(Access(f"127.0.0.1:{port}", tls=files)) as client:
            assert client.url.scheme == "https"
            assert (await client.instances("x")).index == 7
        with pytest.raises(DiscoveryError):
            await fetch(port, TlsFiles(ca_file))


async def test_the_name_to_verify_can_be_given(ca: trustme.CA, ca_file: Path) -> None:
    async with server(ca.issue_cert("consul.example")) as port:
        with pytest.raises(DiscoveryError, match=r"127\.0\.0\.1"):
            await fetch(port, TlsFiles(ca_file))
        named = TlsFiles(ca_file, server_name="consul.example")
        assert await fetch(port, named) == pool_of((TargetGroup.of(["a:1"]),))
        async with Client(Access(f"https://127.0.0.1:{port}", tls=named)) as client:
            assert (await client.instances("x")).index == 7


@pytest.mark.row("A10", did="certificates of another CA, expired, for another name, TLS 1.1, none; source, Consul, agent")
@pytest.mark.parametrize("bad", ["unknown CA", "expired", "other name", "old version", "plain"])
async def test_a_bad_certificate_is_refused_and_said(bad: str, ca: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    certificate = {
        "unknown CA": trustme.CA().issue_cert("127.0.0.1"),
        "expired": ca.issue_cert("127.0.0.1", not_after=long_ago),
        "other name": ca.issue_cert("10.0.0.1"),
        "old version": ca.issue_cert("127.0.0.1"),
        "plain": None,
    }[bad]
    async with server(certificate, version=ssl.TLSVersion.TLSv1_1 if bad == "old version" else None) as port:
        why = r"(?i)certificate|ssl" if bad != "old version" else "cannot connect|TLS"
        with pytest.raises(DiscoveryError, match=why):
            await fetch(port, TlsFiles(ca_file))
        async with Client(Access(f"https://127.0.0.1:{port}", tls=TlsFiles(ca_file))) as client:
            with pytest.raises(ConsulError, match=why):
                await client.instances("x")
        settings = AgentSettings([f"https://127.0.0.1:{port}"], "s:1", tmp_path, tls=TlsFiles(ca_file))
        said = io.StringIO()
        log.configure("info", "logfmt", said)
        agent = asyncio.create_task(Poller(settings, AgentMetrics(), log.get()).run())
        await until(lambda: re.search(why, said.getvalue()) is not None, "the agent says why")
        agent.cancel()
        await asyncio.wait([agent])
        assert not (tmp_path / "x.json").exists()
        if certificate is not None and bad != "old version":
            skipped = TlsFiles(ca_file, insecure_skip_verify=True)
            assert await fetch(port, skipped) == pool_of((TargetGroup.of(["a:1"]),))
