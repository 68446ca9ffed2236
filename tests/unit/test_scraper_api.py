"""Scrapers behind TLS, passwords and a path: what each answer means, and that secrets and certificates can be rotated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from promring.audit.active import targets_of
from promring.audit.answers import AuditError, OddError, OwnTroubleError
from promring.config.http_client import basic
from promring.config.load import loads
from promring.config.scraper_api import ScraperApi
from promring.consul.access import Access
from promring.consul.client import Client
from promring.consul.instances import MARK
from promring.consul.registration import CHECK, Registrar, Registration
from promring.membership.direct import DirectProbes
from promring.membership.kept import KeptProbe
from promring.membership.probe import ProbeScrapers
from promring.membership.probing import ProbeKeys, ProbeMembership
from promring.model import ConfigError, Known, Members, Reply, Scraper
from promring.runtime.http_client import DistrustError, HttpError, NotAskedError, new_session
from promring.telemetry import log
from tests.fakes.consul import FakeConsul
from tests.waiting import until

NODE = ("10.0.0.1", 9090)


@dataclass
class Guarded:
    """A scraper under ``/prom`` with TLS and a password that can be changed."""

    password: str = "first"
    port: int = 0
    asked: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def scraper(self) -> Scraper:
        return Scraper(self.address, "127.0.0.1", self.port)

    async def answer(self, request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == basic("promring", self.password)
        self.asked.append(200 if good else 401)
        return web.json_response({"status": "success", "data": {"activeTargets": []}}, status=self.asked[-1])

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None) -> AsyncIterator[Guarded]:
        app = web.Application()
        app.add_routes([web.get("/prom/-/ready", self.answer), web.get("/prom/api/v1/targets", self.answer)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


def served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def api(ca: trustme.CA, tmp_path: Path) -> ScraperApi:
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "password").write_text("first\n")
    return api_of(tmp_path)


def api_of(folder: Path, **changes: Any) -> ScraperApi:
    said = {
        "scheme": "https",
        "path_prefix": "prom/",
        "basic_auth": {"username": "promring", "password_file": str(folder / "password")},
        "tls": {"ca_file": str(folder / "ca.pem")},
    }
    return ScraperApi.model_validate({key: value for key, value in (said | changes).items() if value is not None})


async def told(api: ScraperApi, guarded: Guarded) -> tuple[object, object, object]:
    """What a probe on a kept connection, a direct probe and the audit find: a status, or the type of an error."""
    probe = KeptProbe(guarded.address, "/-/ready", idle_most=1, api=api)
    found: list[object] = []
    texts: list[str] = []
    async with new_session(keep_alive=False) as session:
        for asking in (
            probe.status(10.0),
            DirectProbes("/-/ready", 10.0, api=api)._reply(session, guarded.scraper),
            targets_of(session, guarded.scraper, "active", None, 10.0, api=api),
        ):
            try:
                answer = await asking
                found.append(answer if isinstance(answer, int | Reply | None) else "told")
            except (HttpError, AuditError) as error:
                found.append(type(error))
                texts.append(str(error))
    probe.close()
    assert [said for said in texts if "first" in said or "second" in said] == []
    return found[0], found[1], found[2]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("good", (200, Reply.ANSWERS, "told")),
        ("wrong password", (401, Reply.ANSWERS, OddError)),
        ("no password file", (NotAskedError, None, OwnTroubleError)),
        ("no ca file", (NotAskedError, None, OwnTroubleError)),
        ("expired", (DistrustError, Reply.ANSWERS, OddError)),
        ("other authority", (DistrustError, Reply.ANSWERS, OddError)),
        ("other name", (DistrustError, Reply.ANSWERS, OddError)),
        ("named", (200, Reply.ANSWERS, "told")),
        ("not verified", (200, Reply.ANSWERS, "told")),
        ("plain", (DistrustError, Reply.ANSWERS, OddError)),
        ("no prefix", (404, Reply.ANSWERS, OddError)),
    ],
)
async def test_what_each_answer_means(
    case: str, expected: tuple[object, ...], api: ScraperApi, ca: trustme.CA, tmp_path: Path
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = {
        "expired": lambda: ca.issue_cert("127.0.0.1", not_after=yesterday),
        "other authority": lambda: trustme.CA().issue_cert("127.0.0.1"),
        "other name": lambda: ca.issue_cert("scraper.example"),
        "named": lambda: ca.issue_cert("scraper.example"),
        "not verified": lambda: trustme.CA().issue_cert("scraper.example"),
    }.get(case, lambda: ca.issue_cert("127.0.0.1"))()
    match case:
        case "wrong password":
            (tmp_path / "password").write_text("second")
        case "no password file":
            (tmp_path / "password").unlink()
        case "no ca file":
            (tmp_path / "ca.pem").unlink()
        case "named":
            api = api_of(tmp_path, tls={"ca_file": str(tmp_path / "ca.pem"), "server_name": "scraper.example"})
        case "not verified":
            api = api_of(tmp_path, tls_config={"insecure_skip_verify": True}, tls=None)
        case "no prefix":
            api = api_of(tmp_path, path_prefix="/")
    async with Guarded().running(None if case == "plain" else served(certificate)) as guarded:
        assert await told(api, guarded) == expected


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_refuses_our_certificate_by_an_alert_is_not_dead(
    newest: ssl.TLSVersion, api: ScraperApi, ca: trustme.CA
) -> None:
    """With TLS 1.3 the alert comes after our own side of the handshake is done."""
    context = served(ca.issue_cert("127.0.0.1"))
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, newest
    ca.configure_trust(context)
    async with _refusing(context) as guarded:
        assert await told(api, guarded) == (DistrustError, Reply.ANSWERS, OddError)
        with pytest.raises(DistrustError, match="it refuses our TLS"):
            await KeptProbe(guarded.address, "/-/ready", idle_most=0, api=api).status(10.0)


@asynccontextmanager
async def _refusing(context: ssl.SSLContext) -> AsyncIterator[Guarded]:
    """A server that sends its alert before it closes, as those in Go do; asyncio's own closes without one."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
                secured.settimeout(10)
                with contextlib.suppress(OSError):
                    secured.do_handshake()
                with contextlib.suppress(OSError):
                    secured.shutdown(socket.SHUT_WR)  # ends TLS, too: what follows is read as it comes
                    while secured.recv(4096):  # or what is unread becomes a reset
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Guarded(port=listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        await asyncio.to_thread(thread.join)


async def test_who_closes_within_the_handshake_or_says_nothing_is_no_living_one(api: ScraperApi) -> None:
    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def hangs(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    over = asyncio.Event()
    for talk in (closes, hangs):
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        probe = KeptProbe(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "/-/ready", idle_most=1, api=api)
        with pytest.raises(HttpError) as caught:
            await probe.status(0.5)
        assert not isinstance(caught.value, DistrustError | NotAskedError)
        over.set()
        server.close()
        await server.wait_closed()


async def test_a_rotated_password_is_used_at_once_and_the_kept_connection_is_no_failure(
    api: ScraperApi, ca: trustme.CA, tmp_path: Path
) -> None:
    async with Guarded().running(served(ca.issue_cert("127.0.0.1"))) as guarded:
        probe = KeptProbe(guarded.address, "/-/ready", idle_most=1, api=api)
        assert [await probe.status(10.0) for _ in range(3)] == [200] * 3
        guarded.password = "second"
        (tmp_path / "password").write_text("second")
        assert await probe.status(10.0) == 200
        assert guarded.asked == [200, 200, 200, 401, 200]
        guarded.password = "third"
        assert await probe.status(10.0) == 401, "nobody told us"
        probe.close()


async def test_a_new_authority_is_used_for_the_next_connection(api: ScraperApi, ca: trustme.CA, tmp_path: Path) -> None:
    other = trustme.CA()
    async with Guarded().running(served(other.issue_cert("127.0.0.1"))) as guarded:
        assert await told(api, guarded) == (DistrustError, Reply.ANSWERS, OddError)
        other.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        assert await told(api, guarded) == (200, Reply.ANSWERS, "told")


async def test_a_fleet_with_a_wrong_password_lives_and_each_is_named(
    api: ScraperApi, ca: trustme.CA, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("second")
    async with (
        Guarded().running(served(ca.issue_cert("127.0.0.1"))) as one,
        Guarded().running(served(trustme.CA().issue_cert("127.0.0.1"))) as other,
    ):
        settings = ProbeScrapers.model_validate(
            {"nodes": [one.address, other.address], "interval": 5.0, "timeout": 5.0, "unhealthy_after": 1}, strict=False
        )
        both: Members = (one.scraper, other.scraper)
        membership = ProbeMembership("fleet", both, settings, log.get(), api)
        answers: list[object] = []
        task = asyncio.create_task(membership.run(answers.append))
        try:
            await until(lambda: Known(tuple(sorted(both))) in answers, "both count as alive")
            said = {node.id: (node.state, node.reason) for node in membership.nodes()}
            assert said[one.address][0] == said[other.address][0] == "up"
            assert "it refuses our credentials: status 401" in said[one.address][1]
            assert "the certificate is not trusted" in said[other.address][1]
            assert membership.probed["distrusted"] >= 4
            assert membership.probed["failure"] == 0
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# --- the check that Consul makes --------------------------------------------------------------------------------------


async def registered(registration: Registration, consul: FakeConsul, client: Client) -> None:
    before = consul.registrations
    registrar = Registrar(client, registration, frozenset, lambda _: None, lambda: True, log.get())
    task = asyncio.create_task(registrar.run())
    await until(lambda: consul.registrations > before, "registered")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("skip", "said_of_tls"), [(False, {"TLSServerName": "scraper.example"}), (True, {"TLSSkipVerify": True})]
)
async def test_consuls_check_has_scheme_prefix_name_and_headers_and_its_metadata_no_secret(
    skip: bool, said_of_tls: dict[str, object], api: ScraperApi, tmp_path: Path
) -> None:
    tls = {"insecure_skip_verify": skip, "server_name": "scraper.example"}
    wanted = Registration("x", {NODE: {}}, "/-/ready", 5.0, 2.0, api=api_of(tmp_path, tls=tls))
    said = wanted.definition(NODE, await wanted.api.headers(), alive=False)
    assert said["Check"] == {
        "HTTP": "https://10.0.0.1:9090/prom/-/ready",
        **said_of_tls,
        "Header": {"Authorization": [basic("promring", "first")]},
        "Interval": "5000ms",
        "Timeout": "2000ms",
        "Status": "critical",
    }
    tls_said = json.dumps(said_of_tls | {"Header": ["Authorization"]})
    assert said["Meta"] == {**MARK, CHECK: f"https /prom/-/ready {tls_said} every 5s within 2s"}


async def test_a_check_with_another_password_is_registered_again_and_once(api: ScraperApi, tmp_path: Path) -> None:
    wanted = Registration("x", {NODE: {}}, "/-/ready", 5.0, 2.0, api=api)
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        registrar = Registrar(client, wanted, frozenset, lambda _: None, lambda: True, log.get())
        for _ in range(3):
            await registrar._once()
        assert consul.registrations == 1
        (tmp_path / "password").write_text("second")
        for _ in range(3):
            await registrar._once()
        assert consul.registrations == 2
        await registered(wanted, consul, client)
        assert consul.registrations == 3, "a process that did not register it does not know its password"
        (tmp_path / "password").unlink()
        with pytest.raises(NotAskedError):
            await registrar._once()


# --- what a configuration may say -------------------------------------------------------------------------------------


def text(api: str, scrapers: str = "probe: {nodes: ['10.0.0.1:1']}") -> str:
    return f"""
consul: {{address: "127.0.0.1:8500"}}
shard_services:
  - name: x
    scrapers: {{{scrapers}}}
    scraper_api: {api}
    targets: [{{http: {{url: http://127.0.0.1/}}}}]
    delivery: [{{http_sd: {{}}}}]
"""


@pytest.fixture
def folder_of_pems(ca: trustme.CA, tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("promring").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    return tmp_path


REGISTER = "consul: {{service: x, register: {{nodes: ['10.0.0.1:1'], check: {{{}}}}}}}"
MUTUAL = "{scheme: https, tls_config: {cert_file: client.pem, key_file: client.pem}}"
OWN_CA = "{scheme: https, tls: {ca_file: ca.pem}}"


@pytest.mark.parametrize(
    ("api", "scrapers", "said"),
    [
        ("{tls: {}}", None, "tls needs scheme: https"),
        ("{scheme: ftp}", None, "scheme"),
        ("{path_prefix: 'a b'}", None, "path_prefix"),
        ("{path_prefix: '/x?y'}", None, "path_prefix"),
        ("{proxy_url: 'http://p:1'}", None, "asks scrapers directly"),
        ("{follow_redirects: true}", None, "no redirect of a scraper is followed"),
        ("{basic_auth: {username: a}, bearer_token_file: b}", None, "either basic_auth or bearer_token_file"),
        ("{oauth2: {}}", None, "authorization.credentials_file"),
        (MUTUAL, REGISTER.format(""), "scraper_api.tls_config.cert_file: the check that Consul makes cannot show"),
        (OWN_CA, REGISTER.format(""), "scraper_api.tls.ca_file: the check that Consul makes does not know"),
        ("{}", REGISTER.format("agent_tls: true"), "agent_tls: needs scraper_api.scheme: https"),
        (OWN_CA, REGISTER.format("agent_tls: true, tls_skip_verify: true"), "goes not with agent_tls"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(api: str, scrapers: str | None, said: str, folder_of_pems: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        loads(text(api, scrapers) if scrapers else text(api), base=folder_of_pems)


@pytest.mark.parametrize(
    ("api", "check"),
    [(MUTUAL, "agent_tls: true"), (OWN_CA, "agent_tls: true"), (OWN_CA, "tls_skip_verify: true"), ("{scheme: https}", "")],
)
def test_what_consuls_agents_can_do_is_taken(api: str, check: str, folder_of_pems: Path) -> None:
    (service,) = loads(text(api, REGISTER.format(check)), base=folder_of_pems).shard_services
    assert service.scraper_api.scheme == "https"


def test_services_of_a_fleet_have_its_scraper_api_and_none_of_their_own(tmp_path: Path) -> None:
    shared = """
fleets:
  - {name: f, scrapers: {probe: {nodes: ['10.0.0.1:1']}}, scraper_api: {path_prefix: p}, delivery: [{http_sd: {}}]}
shard_services:
  - {name: x, fleet: f, targets: [{http: {url: http://127.0.0.1/}}]}
"""
    (service,) = loads(shared).shard_services
    assert service.scraper_api.path_prefix == "/p"


async def test_a_session_of_the_audit_uses_new_certificates(api: ScraperApi, ca: trustme.CA, tmp_path: Path) -> None:
    """Although it keeps its connections."""
    async with Guarded().running(served(ca.issue_cert("127.0.0.1"))) as guarded, new_session() as session:

        async def ask() -> int:
            return (await api.get(session, guarded.address, "/-/ready", timeout_s=10)).status

        assert [await ask(), await ask()] == [200, 200]
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        with pytest.raises(DistrustError, match="not trusted"):
            await ask()
        assert isinstance(session, aiohttp.ClientSession)


@pytest.mark.parametrize(
    ("prefix", "status", "said"),
    [
        (
            "",
            404,
            "status 404: there is no /-/ready; scraper_api has no path_prefix, which must be the scraper's --web.route",
        ),
        ("/p", 404, "status 404: there is no /p/-/ready; scraper_api has path_prefix: /p, which must be"),
        ("", 302, "status 302: a redirect, which is not followed, from /-/ready; scraper_api has no path_prefix"),
        ("/p", 503, "status 503"),
    ],
)
async def test_a_wrong_path_prefix_is_named_by_probes_and_by_the_audit(prefix: str, status: int, said: str) -> None:
    guarded = Guarded()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="404 page not found")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    guarded.port = runner.addresses[0][1]
    api = ScraperApi.model_validate({"path_prefix": prefix})
    membership = ProbeMembership("x", (guarded.scraper,), ProbeKeys(interval=10.0, timeout=10.0), log.get(), api)
    running = asyncio.create_task(membership.run(lambda _: None))
    try:
        await until(lambda: membership.nodes()[0].state == "down", "its verdict")
        await until(lambda: membership.nodes()[0].reason.startswith(said), said)
        async with new_session() as session:
            with pytest.raises(AuditError) as trouble:
                await targets_of(session, guarded.scraper, "active", None, 5.0, api=api)
        assert ("--web.route-prefix" in str(trouble.value)) == (status != 503)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runner.cleanup()
