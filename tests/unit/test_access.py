"""``--web.config.file``: TLS and basic auth for promring's own port."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme

from promring.config.load import load_with_lines
from promring.model import ConfigError
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.access import Access, load_web_config
from promring.web.server import WebSettings

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
CONFIG = """
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["127.0.0.1:1"]}}
    targets: [{file: {files: [t.json]}}]
    delivery: [{http_sd: {}}]
"""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_only_users_and_the_token_get_in_over_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    (tmp_path / "web.yml").write_text(
        f"tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\nbasic_auth_users: {{alice: '{HASH}'}}\n"
    )
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "promring.yml").write_text(CONFIG)
    access = Access(tmp_path / "web.yml")
    web = WebSettings("127.0.0.1", 0, tmp_path / "token", access)
    supervisor = Supervisor(
        Options(tmp_path / "promring.yml", tmp_path, web), load_with_lines(tmp_path / "promring.yml"), log.get(), Events()
    )
    task = asyncio.create_task(supervisor.run())
    await supervisor.web_bound()
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    url = f"https://127.0.0.1:{supervisor.web_port}"
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:

            async def status(path: str = "/-/healthy", method: str = "GET", **headers: str) -> int:
                async with session.request(method, url + path, headers=headers) as response:
                    return response.status

            assert await status() == 401
            assert await status("/nothing") == 401
            for user, password in (("alice", "wrong"), ("bob", "open sesame"), ("", "")):
                assert await status(Authorization=basic(user, password)) == 401
            for _ in range(2):
                assert await status(Authorization=basic("alice", "open sesame")) == 200
            for nonsense in ("Basic", "Basic !!!", "Basic gA==", "Bearer no", "Bearer \udcff", "Basic \udce9"):
                assert await status(Authorization=nonsense) == 401
            assert await status(Authorization="Bearer t0ken") == 200
            reader = basic("alice", "open sesame")
            assert await status("/-/reload", "POST", Authorization=reader) == 401, "a reader does not write"
            assert await status("/-/reload", "POST", Authorization="Bearer t0ken") == 200
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url + "/-/healthy")
    finally:
        supervisor.stop()
        await task


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("basic_auth_users: {alice: plain}", "w.yml:1: basic_auth_users.alice: is not a bcrypt hash"),
        ("basic_auth_users: {alice: $2b$²²$x}", "w.yml:1: basic_auth_users.alice: is not a bcrypt hash"),
        ("tls_server_config: {cert_file: c.pem}", "w.yml:1: tls_server_config: key_file is required"),
        ("\nusers: {}", "w.yml:2: users: unknown key"),
        ("tls_server_config: {cert_file: c, key_file: k, client_ca_file: x}", "w.yml:1: tls_server_config: client_ca_file"),
        ("a: 1\na: 2", "w.yml:2: a: duplicate key"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "w.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_web_config(tmp_path / "w.yml")
    assert any(line.startswith(f"{tmp_path}/{expected}") for line in caught.value.problems), caught.value.problems
    assert "plain" not in str(caught.value)


def test_tls_files_that_are_none_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_text("tls_server_config: {cert_file: w.yml, key_file: w.yml}")
    with pytest.raises(ConfigError, match="tls_server_config"):
        Access(tmp_path / "w.yml")


def test_a_reload_in_the_middle_of_a_rotation_keeps_the_certificate_that_works(tmp_path: Path) -> None:
    ca = trustme.CA()
    old, new = ca.issue_cert("127.0.0.1"), ca.issue_cert("127.0.0.1")
    old.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    old.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    (tmp_path / "w.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}")
    access = Access(tmp_path / "w.yml")

    def shakes_hands() -> bool:
        trusting = ssl.create_default_context()
        ca.configure_trust(trusting)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        assert access.ssl_context is not None
        client = trusting.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        server = access.ssl_context.wrap_bio(to_server, to_client, server_side=True)
        done: set[str] = set()
        for _ in range(6):
            for name, side in (("client", client), ("server", server)):
                try:
                    side.do_handshake()
                    done.add(name)
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError:
                    return False
        return done == {"client", "server"}

    assert shakes_hands()
    new.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))  # the key is still the old one
    with pytest.raises(ConfigError):
        access.reload()
    assert shakes_hands()
    new.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    access.reload()
    assert shakes_hands()
