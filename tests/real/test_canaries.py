"""A9, I14: a canary in every place for a secret, and a search in every output, after good and bad answers.

Each canary is another word. What is searched: log, page, API, events, readiness, metrics, commands, state files, slices, the
arguments of all processes that promring started.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web
from testbed.agent import AgentProcess

from promring.consul.client import Access, Client
from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.model import ConsulError, DiscoveryError
from promring.runtime.http_client import HttpError, new_session, request
from tests.canaries import Canaries
from tests.fakes.echo import MODES, EchoServer
from tests.rows import Seen
from tests.sources import http_source
from tests.waiting import until

SERVICE = "node"
FEW = ("error", "list", "header", "zstd", "redirect elsewhere", "status line", "cut")
"""Of the ways to answer, for tests of whole processes."""


# --- what asks others, by itself ---------------------------------------------------------------------------------------


def chain(error: BaseException) -> str:
    """Everything of an error that a traceback would print."""
    return "".join(traceback.format_exception(error))


@pytest.mark.row("A9", did="a source with a query, a token and headers whose server repeats them in 15 bad answers; no TLS")
@pytest.mark.parametrize("mode", MODES)
async def test_no_error_of_a_source_repeats_the_requests_secrets(tmp_path: Path, mode: str, seen: Seen) -> None:
    canary = Canaries()
    (tmp_path / "bearer").write_text(canary("bearer"))
    (tmp_path / "headers").write_text(json.dumps({"X-Api-Key": canary("headers file"), "Cookie": f"s={canary('cookie')}"}))
    async with EchoServer() as server:
        server.mode = mode
        url = f"http://127.0.0.1:{server.port}/targets?token={canary('query')}&x={canary('second')}"
        source = http_source(url, 60.0, 1.0, tmp_path / "headers", tmp_path / "bearer")
        assert canary.found(repr(source)) == []
        if mode == "header":  # a whole answer, with odd headers
            assert len(await source.fetch()) == 0
        else:
            with pytest.raises(DiscoveryError) as caught:
                await source.fetch()
            assert canary.found(chain(caught.value)) == []
            assert "/targets" in str(caught.value), "but which source it was"
        plain = http_source(url.replace("http:", "https:"), 60.0, 1.0, tmp_path / "headers", tmp_path / "bearer")
        with pytest.raises(DiscoveryError) as caught:
            await plain.fetch()
        assert canary.found(chain(caught.value)) == []
    seen(f"{len(canary)} canaries, none in an error or its causes")


async def test_a_redirect_within_the_origin_is_followed_with_the_credentials_and_no_other(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    (tmp_path / "bearer").write_text("letmein")

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path_qs, request.headers.get("Authorization", "")))
        location = {"/a": "/b?x=1", "/b": f"http://127.0.0.1:{port}/c", "/out": f"http://localhost:{port}/c"}.get(
            request.path
        )
        if location is not None:
            raise web.HTTPTemporaryRedirect(location)
        return web.json_response([{"targets": ["t:1"]}])

    app = web.Application()
    app.router.add_get("/{path}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        inside, out = (
            http_source(f"http://127.0.0.1:{port}/{path}", 60.0, 30.0, bearer_token_file=tmp_path / "bearer")
            for path in ("a", "out")
        )
        assert len(await inside.fetch()) == 1
        assert asked == [(path, "Bearer letmein") for path in ("/a", "/b?x=1", "/c")]
        with pytest.raises(DiscoveryError, match=f"redirects to 'http://localhost:{port}/c'"):
            await out.fetch()
        assert len(asked) == 4, "nobody there was asked"
    finally:
        await runner.cleanup()


async def failure(call: Awaitable[object], timeout_s: float) -> str:
    """The whole traceback of a call to Consul, if it fails."""
    try:
        async with asyncio.timeout(timeout_s):
            await call
    except (ConsulError, TimeoutError) as error:
        return chain(error)
    return ""


@pytest.mark.row("A9", did="Consul's token from a file, from the environment, and a password, repeated in 15 bad answers")
@pytest.mark.parametrize("mode", MODES)
async def test_no_error_of_consul_repeats_the_token_or_the_password(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    canary = Canaries()
    (tmp_path / "token").write_text(canary("token file"))
    (tmp_path / "password").write_text(canary("password file"))
    async with EchoServer() as server:
        server.mode = mode
        address = f"127.0.0.1:{server.port}"
        for access in (
            Access(address, token_file=tmp_path / "token"),
            Access(address, username="promring", password_file=tmp_path / "password"),
            Access(address, token=canary("environment")),
        ):
            async with Client(access) as client:
                assert canary.found(repr(client)) == []
                for call in (client.services(), client.check_passes("x"), client.create_session("x", "y", 1.0, 10.0)):
                    assert canary.found(await failure(call, 0.3 if mode == "hang" else 30.0)) == []
    seen("no canary in an error or its causes")


@pytest.mark.row("A9", did="an agent whose token and reload URL are repeated by its controller and its scraper")
async def test_an_agent_says_nothing_of_its_token_and_of_its_reload_url(tmp_path: Path, seen: Seen) -> None:
    canary = Canaries()
    (tmp_path / "token").write_text(canary("token"))
    async with EchoServer() as controller, EchoServer() as scraper:
        password, query = quote(canary("reload password"), safe=""), canary("reload query")
        reload_url = f"http://user:{password}@127.0.0.1:{scraper.port}/-/reload?key={query}"
        more = (f"--token-file={tmp_path}/token", f"--reload-url={reload_url}", "--wait=1")
        where = f"http://127.0.0.1:{controller.port}"
        agent = AgentProcess(tmp_path / "agent", [where], "s:1", tmp_path / "sd", port=free_port(), more=more)
        await agent.start()
        try:
            async with new_session(keep_alive=False) as session:
                for mode in FEW[:4]:  # what else can be is tried above
                    controller.mode, before = mode, len(controller.asked)
                    await until(lambda n=before: len(controller.asked) > n, f"asked for {mode}", 60)  # type: ignore[misc]
                controller.mode = "odd slices"
                await until(lambda: "slice_not_taken" in agent.log_file.read_text(), "what is no slice is refused", 60)
                controller.mode, scraper.mode = "slice", "error"
                await until(lambda: "scraper_reload_failed" in agent.log_file.read_text(), "the reload failed", 60)
                for mode in FEW[3:]:
                    scraper.mode, before = mode, len(scraper.asked)
                    await until(lambda n=before: len(scraper.asked) > n, f"reloaded: {mode}", 60)  # type: ignore[misc]
                for path in ("/metrics", "/-/ready", "/-/healthy"):
                    assert canary.found((await agent.page(session, path))[1]) == []
        finally:
            await agent.stop()
        text = agent.log_file.read_text()
        assert "controller_gives_no_slice" in text
        assert canary.found(text) == []
    seen("no canary in its log and on its page")


# --- the daemon and its commands ---------------------------------------------------------------------------------------


@pytest.fixture
def canary() -> Canaries:
    return Canaries()


def configuration(folder: Path, canary: Canaries, source: int, tls: int, consul: int, scraper: int) -> dict[str, Any]:
    files = {
        "bearer": canary("bearer"),
        "headers": json.dumps({"X-Key": canary("header")}),
        "consul-token": canary("consul token"),
        "scraper-password": canary("password of scrapers"),
        "ssh-key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{canary('ssh key')}\n-----END OPENSSH PRIVATE KEY-----\n",
        "known_hosts": f"127.0.0.1 {canary('known hosts')}\n",
        "vars.yml": f"ansible_become_password: '{canary('ansible variable')}'\nbroken: [\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "good.json").write_text('[{"targets": ["t:1", "t:2"]}]')
    query = f"token={canary('query')}"
    http = {"refresh_interval": "1s", "timeout": "500ms", "bearer_token_file": str(folder / "bearer")}
    http["headers_file"] = str(folder / "headers")
    probe = {"probe": {"nodes": [f"127.0.0.1:{scraper}"], "interval": "1s", "healthy_after": 1}}
    ssh: dict[str, Any] = {"user": "nobody", "path": "/nowhere/{scraper}.json", "port": 1, "timeout": "1s"}
    ssh |= {"identity_file": str(folder / "ssh-key"), "known_hosts": str(folder / "known_hosts")}
    listed = [{"file": {"files": [str(folder / "good.json")]}}]
    badly_fed = {
        "name": SERVICE,
        "scrapers": probe,
        "scraper_api": {
            "basic_auth": {"username": "promring", "password_file": str(folder / "scraper-password")},
            "http_headers": {"X-Key": {"secrets": [canary("header of scrapers")]}},
        },
        "targets": [
            *listed,
            {"http": {"url": f"http://127.0.0.1:{source}/targets?{query}", **http}},
            {"http": {"url": f"https://127.0.0.1:{tls}/targets?{query}", **http}},
            {"python": {"callable": "canary_source:targets", "interval": "1s"}},
        ],
        "delivery": [{"http_sd": {}}],
    }
    ansible = {"extra_vars_file": str(folder / "vars.yml"), "timeout": "20s"}
    badly_delivered = [
        {"name": f"by_{kind}", "scrapers": probe, "join_delay": "0s", "targets": listed, "audit": None, "delivery": by}
        for kind, by in (
            ("file", [{"file": {"path": str(folder / "out/{scraper}.json")}}]),
            ("ssh", [{"ssh": ssh}]),
            ("ansible", [{"ansible": ansible}]),
        )
    ]
    by_consul = {
        "name": "by_consul",
        "scrapers": {"consul": {"service": "scrape"}},
        "targets": listed,
        "delivery": [{"http_sd": {}}],
    }
    (folder / "canary_source.py").write_text(
        f"def targets():\n    raise OSError('cannot get http://user:{canary('password of a callable')}@h/x')\n"
    )
    return {
        "global": {"reconcile_interval": "1s"},
        "consul": {"address": f"127.0.0.1:{consul}", "token_file": str(folder / "consul-token")},
        "shard_services": [badly_fed, *badly_delivered, by_consul],
    }


@asynccontextmanager
async def tls_server() -> AsyncIterator[int]:
    """With a certificate that nobody trusts."""
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def arguments_below(pid: int) -> str:
    """The command lines of a process and of all that it started: what ``ps`` shows."""
    lines, todo = [], [pid]
    while todo:
        one = todo.pop()
        try:
            lines.append(Path(f"/proc/{one}/cmdline").read_bytes().decode("utf-8", "replace"))
            todo += [int(p) for t in Path(f"/proc/{one}/task").iterdir() for p in (t / "children").read_text().split()]
        except OSError:
            continue
    return "\n".join(lines)


PATHS = (
    "/",
    f"/services/{SERVICE}",
    "/services/by_ssh",
    "/services/by_ansible",
    "/services/by_consul",
    "/where?target=t:1",
    "/-/ready",
    "/-/healthy",
    "/metrics",
    "/api/v1/status",
    "/api/v1/events",
    "/api/v1/services",
    f"/api/v1/services/{SERVICE}",
    "/api/v1/services/by_ssh",
    "/api/v1/services/by_ansible",
    f"/api/v1/services/{SERVICE}/targets",
    f"/api/v1/services/{SERVICE}/coverage",
    f"/api/v1/services/{SERVICE}/where?target=t:1",
    "/api/v1/fleets",
    f"/api/v1/fleets/{SERVICE}",
    f"/api/v1/fleets/{SERVICE}/plan",
    "/nowhere",
)


async def pages(controller: Controller, session: aiohttp.ClientSession, headers: dict[str, str]) -> str:
    """Everything that the web server gives, with its headers."""
    texts = []
    for path in PATHS:
        answer = await request(session, "GET", controller.url + path, timeout_s=30, headers=headers)
        texts.append(f"{path} {answer.status} {answer.headers} {answer.body.decode('utf-8', 'replace')}")
    return "\n".join(texts)


async def command(*arguments: str, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "promring",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(env or {})},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return output.decode("utf-8", "replace")


@pytest.mark.row("A9", did="a canary in each place for a secret; sources, Consul, ssh and Ansible fail in all ways")
async def test_no_output_of_a_running_controller_has_a_secret_in_it(tmp_path: Path, canary: Canaries, seen: Seen) -> None:
    hashed = bcrypt.hashpw(canary("web password").encode(), bcrypt.gensalt(4)).decode()
    canary.take("hash of the web password", hashed)
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{reader: '{hashed}'}}\n")
    async with EchoServer() as source, EchoServer() as consul, EchoServer() as scraper, tls_server() as tls:
        scraper.mode = "forbidden"  # repeats the credentials, and counts as alive
        config = configuration(tmp_path, canary, source.port, tls, consul.port, scraper.port)
        environment = {"CONSUL_HTTP_TOKEN": canary("consul environment")}
        controller = Controller(tmp_path, json.dumps(config, indent=1), port=free_port(), level="debug", env=environment)
        controller.token = canary("web token")
        (tmp_path / "token").write_text(controller.token)
        controller.arguments.append(f"--web.config.file={tmp_path}/web.yml")
        log_of = controller.log_file.read_text
        bearer = {"Authorization": f"Bearer {controller.token}"}
        async with new_session(keep_alive=False) as session:
            await controller.start()
            try:

                async def listens() -> bool:
                    try:
                        await request(session, "GET", f"{controller.url}/-/healthy", timeout_s=5)
                    except HttpError:
                        return False
                    return True

                await until(listens, "it listens", 40)
                shown, arguments = "", ""
                for mode in (*FEW, "hang"):
                    source.mode, consul.mode, before = mode, mode, len(source.asked)
                    await until(lambda n=before: len(source.asked) > n, f"asked for {mode}", 40)  # type: ignore[misc]
                    arguments += arguments_below(controller.pid)
                    shown += await pages(controller, session, bearer)
                for kind in ("by_ssh", "by_ansible"):
                    line = f"msg=delivery_failed fleet={kind} service={kind} "
                    await until(lambda line=line: line in log_of(), f"{kind} has failed", 60)  # type: ignore[misc]
                shown += await pages(controller, session, bearer)
                pair = f"reader:{canary('wrong web password')}".encode()
                wrong = f"Basic {base64.b64encode(pair).decode()}"
                shown += await pages(controller, session, {"Authorization": wrong})
                shown += await pages(controller, session, {"Authorization": f"Bearer {canary('wrong web token')}"})
                status = await command("status", f"--url={controller.url}", f"--token-file={tmp_path}/token")
                shown += status + await command("status", f"--url=http://reader:{canary('url of a command')}@127.0.0.1:1")
                shown += await command("check", str(controller.config_file))
                shown += await command("plan", f"--config.file={controller.config_file}", f"--service={SERVICE}")
                controller.config_file.write_text(f"{controller.config_file.read_text()}\nx: htp://u:{canary('reload')}@h\n")
                shown += (
                    await request(session, "POST", f"{controller.url}/-/reload", timeout_s=30, headers=bearer)
                ).body.decode()
                shown += await pages(controller, session, bearer)
            finally:
                await controller.stop()
        logged = controller.log_file.read_text()
        assert "discovery_failed" in logged
        assert "delivery_failed" in logged
        assert SERVICE in status
        kept = [p for p in (*(tmp_path / "state").iterdir(), *(tmp_path / "out").glob("*")) if p.is_file()]
        assert canary.found(logged) == []
        assert canary.found(shown) == []
        assert canary.found(arguments) == []
        assert [p.name for p in kept if canary.found(p.read_bytes())] == []
    seen(f"{len(canary)} canaries, {len(shown) + len(logged)} characters of output, {len(kept)} files, 0 found")
