"""The environment of Consul's own commands, read as they read it: the same reaches a server from them and from promring."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from promring.config.load import loads
from promring.config.settings import Settings
from promring.consul.access import ConsulSection
from promring.consul.client import Client
from promring.consul.environment import read_environment
from promring.model import ConsulError

PEER = "consul.example"


@dataclass
class Servers:
    """A plain one, one with TLS, one that wants a client's certificate, one on a socket; and what reached them."""

    at: dict[str, str] = field(default_factory=dict)
    reached: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Which server, the token, the Authorization."""


@asynccontextmanager
async def servers(ca: trustme.CA, folder: Path) -> AsyncIterator[Servers]:
    made, runners = Servers(), []
    for name in ("plain", "tls", "mutual", "named", "socket"):

        async def answer(request: web.Request, name: str = name) -> web.Response:
            headers = request.headers
            made.reached.append((name, headers.get("X-Consul-Token"), headers.get("Authorization")))
            return web.json_response([{"Key": "x", "Value": "eA==", "ModifyIndex": 1}], headers={"X-Consul-Index": "1"})

        app = web.Application()
        app.router.add_get("/v1/kv/x", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        if name == "socket":
            await web.UnixSite(runner, str(folder / "consul.sock")).start()
            made.at[name] = f"unix://{folder / 'consul.sock'}"
            continue
        context = None
        if name != "plain":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            ca.issue_cert(PEER if name == "named" else "127.0.0.1").configure_cert(context)
            if name == "mutual":
                ca.configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        made.at[name] = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        for runner in runners:
            await runner.cleanup()


# `{tls}` and the like are addresses, `{folder}` has the files. The second: which server hears of it, nobody when empty.
TABLE: dict[str, tuple[dict[str, str], str]] = {
    "an address": ({"ADDR": "{plain}"}, "plain"),
    "http://": ({"ADDR": "http://{plain}"}, "plain"),
    "https://": ({"ADDR": "https://{tls}", "CACERT": "ca.pem"}, "tls"),
    "a socket": ({"ADDR": "{socket}"}, "socket"),
    "SSL": ({"ADDR": "{tls}", "SSL": "true", "CACERT": "ca.pem"}, "tls"),
    "SSL=1": ({"ADDR": "{tls}", "SSL": "1", "CACERT": "ca.pem"}, "tls"),
    "SSL=False": ({"ADDR": "{plain}", "SSL": "False"}, "plain"),
    "SSL and http://, to a server with TLS": ({"ADDR": "http://{tls}", "SSL": "true", "CACERT": "ca.pem"}, "tls"),
    "SSL and http://, to a plain server": ({"ADDR": "http://{plain}", "SSL": "true", "TOKEN": "t"}, ""),
    "SSL to a plain server": ({"ADDR": "{plain}", "SSL": "true", "TOKEN": "t"}, ""),
    "no CA": ({"ADDR": "{tls}", "SSL": "true"}, ""),
    "another CA": ({"ADDR": "{tls}", "SSL": "true", "CACERT": "other.pem"}, ""),
    "a folder of CAs": ({"ADDR": "{tls}", "SSL": "true", "CAPATH": "cas"}, "tls"),
    "a file of another CA goes before a folder": (
        {"ADDR": "{tls}", "SSL": "true", "CAPATH": "cas", "CACERT": "other.pem"},
        "",
    ),
    "no verification": ({"ADDR": "{tls}", "SSL": "true", "SSL_VERIFY": "false"}, "tls"),
    "another name": ({"ADDR": "{named}", "SSL": "true", "CACERT": "ca.pem"}, ""),
    "the name given": ({"ADDR": "{named}", "SSL": "true", "CACERT": "ca.pem", "TLS_SERVER_NAME": PEER}, "named"),
    "a client's certificate": (
        {"ADDR": "https://{mutual}", "CACERT": "ca.pem", "CLIENT_CERT": "client.pem", "CLIENT_KEY": "client.key"},
        "mutual",
    ),
    "no client's certificate": ({"ADDR": "https://{mutual}", "CACERT": "ca.pem"}, ""),
    "TLS files without SSL": ({"ADDR": "{plain}", "CACERT": "ca.pem", "TOKEN": "t"}, "plain"),
    "a token": ({"ADDR": "{plain}", "TOKEN": "t1"}, "plain"),
    "a token's file": ({"ADDR": "{plain}", "TOKEN_FILE": "token"}, "plain"),
    "a token's file goes before a token": ({"ADDR": "{plain}", "TOKEN_FILE": "token", "TOKEN": "t1"}, "plain"),
    "an empty file does not": ({"ADDR": "{plain}", "TOKEN_FILE": "empty", "TOKEN": "t1"}, "plain"),
    "a user": ({"ADDR": "{plain}", "AUTH": "someone:with:colons"}, "plain"),
    "a user without a password": ({"ADDR": "{plain}", "AUTH": "someone"}, "plain"),
    "a user and a token": ({"ADDR": "{plain}", "AUTH": "someone:x", "TOKEN": "t1"}, "plain"),
    "empty values": ({"ADDR": "{plain}", "AUTH": "", "TOKEN": "", "SSL": "", "CACERT": ""}, "plain"),
}
OF_TLS = {"CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY", "TLS_SERVER_NAME"}


def environment(given: Mapping[str, str], at: Mapping[str, str], folder: Path) -> dict[str, str]:
    found = {}
    for name, value in given.items():
        text = value.format(**at)
        if value and name in (*OF_TLS, "TOKEN_FILE") and name != "TLS_SERVER_NAME":
            text = str(folder / value)
        found[f"CONSUL_{name}" if name in OF_TLS else f"CONSUL_HTTP_{name}"] = text
    return found


def files(ca: trustme.CA, folder: Path) -> None:
    client = ca.issue_cert("promring.example")
    client.private_key_pem.write_to_path(str(folder / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    (folder / "cas").mkdir()
    ca.cert_pem.write_to_path(str(folder / "cas" / "any-name"))
    trustme.CA().cert_pem.write_to_path(str(folder / "cas" / "another.pem"))
    (folder / "token").write_text("t2\n")
    (folder / "empty").write_text("\n")


def settings(consul: str = "{}") -> Settings:
    return loads(
        f"""
consul: {consul}
shard_services:
  - name: x
    scrapers: {{probe: {{nodes: [10.0.0.1:1]}}}}
    targets: [{{http: {{url: http://127.0.0.1/}}}}]
    delivery: [{{http_sd: {{}}}}]
"""
    )


async def test_the_same_reaches_a_server_as_from_consuls_own_commands(each_consul: Path, tmp_path: Path) -> None:
    ca = trustme.CA()
    files(ca, tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    wrong = []
    async with servers(ca, tmp_path) as made:
        for name, (given, expected) in TABLE.items():
            environ = environment(given, made.at, tmp_path)
            command = [str(each_consul), "kv", "get", "x"]
            await asyncio.to_thread(
                subprocess.run, command, env=clean | environ, capture_output=True, timeout=60, check=False
            )
            theirs, made.reached = made.reached, []
            assert read_environment(environ).problems == {}, name
            async with Client(settings().sections.get(ConsulSection).access(environ)) as client:
                try:
                    assert (await client.key("x")).value == b"x"
                except ConsulError:
                    assert made.reached == [], name
            ours, made.reached = made.reached, []
            if ours != theirs or [one[0] for one in ours] != [expected] * bool(expected):
                wrong.append(f"{name}: from promring {ours}, from consul {theirs}, expected at {expected or 'nobody'}")
    assert wrong == []


async def test_what_the_configuration_says_goes_before_the_environment(tmp_path: Path) -> None:
    ca = trustme.CA()
    files(ca, tmp_path)
    tls = {"CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": str(tmp_path / "ca.pem")}
    everything = {"CONSUL_HTTP_TOKEN": "t1", "CONSUL_HTTP_TOKEN_FILE": str(tmp_path / "empty"), "CONSUL_HTTP_AUTH": "a:b"}
    async with servers(ca, tmp_path) as made:

        async def reached(consul: str, environ: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
            made.reached = []
            async with Client(settings(consul).sections.get(ConsulSection).access(environ)) as client:
                try:
                    await client.key("x")
                except ConsulError:
                    assert made.reached == []
            return made.reached

        token = f"token_file: {tmp_path / 'token'}"
        assert await reached(f"{{address: '{made.at['plain']}', {token}}}", everything) == [("plain", "t2", None)]
        assert await reached(f"{{address: '{made.at['plain']}'}}", {"CONSUL_HTTP_ADDR": "127.0.0.1:1", **everything}) == [
            ("plain", "t1", "Basic YTpi")
        ]
        with_ca = f"tls: {{ca_file: {tmp_path / 'ca.pem'}}}"
        # Never in clear when TLS is asked for, here or there; and verified when the configuration says with what.
        for consul, environ in (
            (f"{{address: 'http://{made.at['plain']}'}}", {**tls, **everything}),
            (f"{{address: 'http://{made.at['plain']}', {with_ca}, {token}}}", {}),
            (f"{{address: '{made.at['plain']}', {with_ca}, {token}}}", {"CONSUL_HTTP_SSL": "false"}),
            (
                f"{{address: '{made.at['named']}', {with_ca}}}",
                {"CONSUL_HTTP_SSL_VERIFY": "false"},
            ),
        ):
            assert await reached(consul, environ) == [], consul
        assert await reached(f"{{address: 'http://{made.at['tls']}', {with_ca}, {token}}}", {}) == [("tls", "t2", None)]
        assert await reached(f"{{address: '{made.at['tls']}'}}", {**tls, "CONSUL_HTTP_TOKEN": "t1"}) == [("tls", "t1", None)]
        pair = {"CONSUL_CLIENT_CERT": str(tmp_path / "client.pem"), "CONSUL_CLIENT_KEY": str(tmp_path / "client.key")}
        assert await reached(f"{{address: '{made.at['mutual']}', {with_ca}}}", pair) == [("mutual", None, None)]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CONSUL_HTTP_ADDR", "user:pw@h:1", "credentials do not belong in the address"),
        ("CONSUL_HTTP_ADDR", "ftp://h:1", "is not host:port"),
        ("CONSUL_HTTP_ADDR", "h:1/consul", "must be an address only"),
        ("CONSUL_HTTP_SSL", "yes", "must be true or false"),
        ("CONSUL_HTTP_SSL", "TRue", "must be true or false"),
        ("CONSUL_HTTP_SSL_VERIFY", "no", "must be true or false"),
        ("CONSUL_HTTP_TOKEN", "canary\nX: y", "no HTTP header"),
        ("CONSUL_HTTP_AUTH", "canary:\r\n", "no HTTP header"),
        ("CONSUL_HTTP_TOKEN_FILE", "/nowhere/token", "is not a file"),
        ("CONSUL_HTTP_TOKEN_FILE", "/dev/zero", "is not a file"),
        ("CONSUL_CACERT", "/nowhere/ca", "is not a file"),
        ("CONSUL_CACERT", __file__, "makes no TLS context"),
        ("CONSUL_CAPATH", "/nowhere", "is not a folder"),
        ("CONSUL_CLIENT_KEY", __file__, "needs CONSUL_CLIENT_CERT"),
        ("CONSUL_CLIENT_CERT", __file__, "makes no TLS context"),
        ("CONSUL_NAMESPACE", "team", "Enterprise"),
        ("CONSUL_PARTITION", "part", "Enterprise"),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error_that_names_its_variable(name: str, value: str, why: str) -> None:
    problems = read_environment({name: value}).problems
    assert list(problems) == [name]
    assert why in problems[name]
    assert "canary" not in problems[name]
    assert read_environment({"CONSUL_NAMESPACE": "default", "CONSUL_SOMETHING": "else"}).problems == {}
