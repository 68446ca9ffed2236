"""The web server against clients: idle, slow, malformed, many, from other sites, with wrong passwords and tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import random
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
import trustme

from promring.config.load import load_with_lines
from promring.model import ConfigError
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.access import Access, WebConfig, load_web_config
from promring.web.hosts import Hosts
from promring.web.passwords import Passwords
from promring.web.server import WebSettings
from tests.leaks import open_descriptors
from tests.waiting import until

CONFIG = {
    "shard_services": [
        {
            "name": "node",
            "scrapers": {"probe": {"nodes": ["127.0.0.1:1", "127.0.0.1:2"], "interval": "60s", "timeout": "100ms"}},
            "targets": [{"file": {"files": ["targets.json"]}}],
            "delivery": [{"http_sd": {}}],
        }
    ]
}
PASSWORD = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


class Server:
    """A promring in this process whose scrapers are down; ``lines`` are those of its log."""

    def __init__(self, supervisor: Supervisor, session: aiohttp.ClientSession, log_text: io.StringIO) -> None:
        self.supervisor, self.session, self._log = supervisor, session, log_text
        self.port = supervisor.web_port
        self.opened: list[asyncio.StreamWriter] = []

    @property
    def lines(self) -> list[str]:
        return self._log.getvalue().splitlines()

    def refused(self, reason: str) -> float:
        sample = self.supervisor.metrics.registry.get_sample_value("promring_http_refused_total", {"reason": reason})
        return sample or 0.0

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, headers=named) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()

    async def raw(self, request: bytes) -> bytes:
        """All that is answered on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(30):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            await closed(writer)

    async def opens(self, count: int, first: bytes = b"") -> None:
        """Clients that send ``first`` and nothing else, and read nothing."""
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
                self.opened.append(writer)
                writer.write(first)


async def closed(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(folder: Path, *, token: bool = True, **web: Any) -> AsyncIterator[Server]:
    (folder / "promring.yml").write_text(json.dumps(CONFIG))
    (folder / "targets.json").write_text('[{"targets": ["t1:9100"]}]')
    (folder / "token").write_text("sesame\n")
    settings = WebSettings("127.0.0.1", 0, folder / "token" if token else None, **web)
    text, events = io.StringIO(), Events()
    log.configure(stream=text, keep=events.keep)
    options = Options(folder / "promring.yml", folder / "state", settings)
    supervisor = Supervisor(options, load_with_lines(folder / "promring.yml"), log.get(), events)
    task = asyncio.create_task(supervisor.run())
    try:
        await supervisor.web_bound()
        await until(lambda: supervisor.services != {}, "built")
        async with aiohttp.ClientSession() as session:
            made = Server(supervisor, session, text)
            try:
                yield made
            finally:
                await closed(*made.opened)
    finally:
        supervisor.stop()
        await task


LINES = ["GET /", "GET /nope", "PUT /", "GET /-/ready", "POST /-/reload", "GET /sd/node/x", "GET /\xff\x00", ""]


@pytest.mark.parametrize("line", LINES)
async def test_no_answer_names_the_libraries_that_serve_it(tmp_path: Path, line: str) -> None:
    async with serving(tmp_path) as s:
        told = await s.raw(f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))
        headers = told.partition(b"\r\n\r\n")[0]
        assert b"\r\nServer: promring\r\n" in headers + b"\r\n"
        assert b"aiohttp" not in headers
        assert b"Python" not in headers


async def test_with_no_answer_from_anybody_nothing_is_called_an_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as s:

        async def told() -> tuple[str, str]:
            found = json.loads((await s.get("/api/v1/services/node"))[2])["data"]["membership"]
            return found["state"], found["reason"]

        async def probed() -> bool:
            return (await told())[0] == "empty"

        await until(probed, "the scrapers were asked, and are down")
        assert await told() == ("empty", "no scraper is alive")


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", b"GET / HT", b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nX: "])
async def test_idle_clients_make_way_for_new_ones(tmp_path: Path, first: bytes) -> None:
    async with serving(tmp_path, connections_most=20) as s:
        before = open_descriptors()
        await s.opens(100, first)
        for _ in range(5):
            assert (await s.get("/-/healthy", Connection="close"))[0] == 200
        served = open_descriptors() - before - len(s.opened)
        assert served <= 25, "the server holds no more than its connections"
        text = (await s.get("/metrics"))[2].decode()
        assert "promring_http_connections_max 20.0" in text
        assert s.refused("idle") >= 80
        assert [line for line in s.lines if "level=error" in line] == []


async def test_clients_that_are_answered_are_not_cut_off_for_new_ones_which_are_refused_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, connections_most=4) as s:
        path = "/sd/node/127.0.0.1:1?wait=30s"
        polls = [asyncio.ensure_future(s.get(path)) for _ in range(2)]
        stream = await s.session.get(f"http://127.0.0.1:{s.port}/api/v1/events", headers={"Accept": "text/event-stream"})
        await until(lambda: len(s.supervisor.web.sd.polls) == 2, "both wait")
        assert (await s.get(path, Connection="close"))[0] == 503, "half of the connections may wait"
        answer = await s.session.get(f"http://127.0.0.1:{s.port}/api/v1/events", headers={"Accept": "text/event-stream"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        answer.close()
        assert (await s.get("/-/healthy", Connection="close"))[0] == 200, "the rest is for short requests"
        assert stream.status == 200
        assert not any(poll.done() for poll in polls)
        stream.close()
        for poll in polls:
            poll.cancel()


async def test_a_client_that_sends_no_whole_request_in_time_is_cut_off(tmp_path: Path) -> None:
    """In a time of its own: the listener is asked what is overdue later on."""
    async with serving(tmp_path) as s:
        await s.opens(3, b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        kept_reader, kept = await asyncio.open_connection("127.0.0.1", s.port)
        kept.write(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await kept_reader.readline()
        listener = s.supervisor.web.listener
        assert listener is not None
        await until(lambda: listener.connections >= 4, "connected")
        listener.sweep(asyncio.get_running_loop().time() + 12)
        assert s.refused("header_timeout") == 3
        await until(lambda: listener.connections == 1, "only the one that was served is left")
        listener.sweep(asyncio.get_running_loop().time() + 90)
        await until(lambda: listener.connections == 0, "nor that")
        assert s.refused("idle") == 0
        await closed(kept)


async def test_a_client_that_does_not_read_a_large_answer_is_cut_off_and_costs_little(tmp_path: Path) -> None:
    async with serving(tmp_path) as s:
        for n in range(900):
            log.get().info("large", n=n, text="x" * 900)
        request = b"GET /api/v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await s.opens(30, request * 12)  # more than the kernel's buffers take
        listener = s.supervisor.web.listener
        assert listener is not None
        await until(lambda: listener.stalled >= 20, "nobody reads")
        assert listener.unsent <= 30 * 200_000
        assert len((await s.get("/api/v1/events?limit=1000"))[2]) > 800_000, "others are served"
        listener.sweep(asyncio.get_running_loop().time() + 30)
        assert s.refused("read_timeout") >= 20


async def test_clients_that_speak_no_tls_or_nothing_are_no_events_and_do_not_stay(tmp_path: Path) -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    access = Access(tmp_path / "web.yml")
    async with serving(tmp_path, access=access, connections_most=20) as s:
        last = s.supervisor.events.last
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\xff" * 500):
            assert b"HTTP" not in await s.raw(nonsense)
        await s.opens(60)
        listener = s.supervisor.web.listener
        assert listener is not None
        await until(lambda: listener.connections <= 20, "bounded, handshakes among them")
        assert s.refused("tls") >= 3
        kept = {event.msg for event in s.supervisor.events.since(last)}
        assert not [msg for msg in kept if msg.startswith("http_")]
        assert len([line for line in s.lines if "http_refused" in line]) <= 3


# --- noise -----------------------------------------------------------------------------------------------------------

MALFORMED = [
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n",
]


@pytest.mark.row("A11", did="1,200 malformed requests of ten kinds")
async def test_malformed_requests_push_nothing_out_of_events_and_log(tmp_path: Path, seen: Any) -> None:
    async with serving(tmp_path) as s:
        log.get().info("a_decision", what="kept")
        for n in range(0, 1200, 20):
            sent = [MALFORMED[m % len(MALFORMED)] if m % 2 else MALFORMED[0] for m in range(n, n + 20)]
            await asyncio.gather(*map(s.raw, sent))
        events = s.supervisor.events.since()
        assert "a_decision" in {event.msg for event in events}
        assert not [e for e in events if e.msg.startswith("http") or e.level == "error"]
        assert s.refused("malformed") >= 700
        told = [line for line in s.lines if "http_refused" in line or "logger=" in line]
        assert 1 <= len(told) <= 5
        assert sum(map(len, s.lines)) < 20_000
        assert (await s.get("/-/healthy"))[0] == 200
        seen(f"{s.refused('malformed'):.0f} counted, {len(told)} log lines, no event")


async def test_whatever_bytes_come_the_server_goes_on_without_an_error_of_its_own(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    pieces = [
        b"GET ",
        b"POST ",
        b"CONNECT ",
        b"OPTIONS ",
        b"/",
        b"*",
        b"//x",
        b"?",
        b"%ff",
        b"\xff",
        b" HTTP/1.1\r\n",
        b"Host: ",
    ]
    pieces += [
        b"\r\n",
        b"\r\n\r\n",
        b"a",
        b":",
        b"\x00",
        b"Upgrade: x\r\nConnection: Upgrade\r\n",
        b"Expect: 1\r\n",
        b"[::1",
    ]
    pieces += [
        b"Authorization: Bearer \xff\r\n",
        b"http://\xed\xb2\x80/",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
    ]
    async with serving(tmp_path) as s:
        odd = [b"".join(rng.choices(pieces, k=rng.randrange(2, 14))) for _ in range(200)]
        asked = [asyncio.ensure_future(s.raw(some + b"\r\n\r\nGET /-/healthy HTTP/1.0\r\n\r\n")) for some in odd]
        await asyncio.wait(asked, timeout=3)
        assert s.supervisor.web.listener is not None
        s.supervisor.web.listener.sweep(asyncio.get_running_loop().time() + 20)  # some of them are no whole request
        await asyncio.gather(*asked)
        assert s.refused("error") == 0, [line for line in s.lines if "http_error" in line]
        assert (await s.get("/-/healthy"))[0] == 200


ROUTES = """
/ /services/{} /fleets/{} /where?target={} /static/{} /sd/{}/x /sd/node/{} /sd/node/x?wait={} /api/v1/services/{} /api/v1/{}
/api/v1/services/node/targets?q={} /api/v1/services/node/targets?scraper={} /api/v1/services/node/targets?limit={}
/api/v1/services/node/where?target={} /api/v1/fleets/node/plan?with={} /api/v1/fleets/node/plan?without={}
/api/v1/services/node/coverage?limit={} /api/v1/events?service={} /api/v1/events?since={} /{}
/api/v1/events?fleet={} /api/v1/fleets/{}
"""


async def test_no_text_in_a_request_makes_an_answer_that_is_an_error_of_ours(tmp_path: Path) -> None:
    texts = [
        "%ff",
        "%ed%b2%80",
        "%00",
        "%0d%0aX-Injected:%201",
        "%F0%9F%98%80",
        "-1",
        "1e9",
        "9" * 400,
        "a" * 3000,
        "%25%7B%7D",
    ]
    async with serving(tmp_path) as s:
        for route in ROUTES.split():
            for text in texts:
                path = route.format(text)
                answer = await s.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                head, _, body = answer.partition(b"\r\n\r\n")
                assert int(head.split()[1]) in (200, 400, 404, 503), path
                assert b"X-Injected" not in head
                assert b"Python" not in head
                body.decode()
        assert s.refused("error") == 0


async def test_names_of_files_that_are_no_text_stop_no_output(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/bad\xff.json"
    Path(os.fsdecode(odd)).write_bytes(b"nonsense")
    service = CONFIG["shard_services"][0] | {"targets": [{"file": {"files": ["bad*.json"]}}]}
    named = CONFIG["shard_services"][0] | {"name": "other", "targets": [{"file": {"files": [os.fsdecode(odd)]}}]}
    (tmp_path / "odd.yml").write_text(json.dumps({"shard_services": [service, named]}))
    async with serving(tmp_path) as s:
        (tmp_path / "promring.yml").write_bytes((tmp_path / "odd.yml").read_bytes())
        problems = (await s.supervisor.reload()).problems
        if problems:  # a name that is no text may be refused in the configuration: the pattern that finds it is not
            (tmp_path / "promring.yml").write_text(json.dumps({"shard_services": [service]}))
            assert not (await s.supervisor.reload()).problems
        await until(lambda: any("bad" in line for line in s.lines), "the bad file is told")
        s.supervisor.metrics.discovery_failures.labels("node", os.fsdecode(odd)).inc()
        log.get().warning("odd", name="\udcff", service="\udcfe")
        for path in ("/-/ready", "/metrics", "/", "/api/v1/status", "/api/v1/services", "/api/v1/events?limit=1000"):
            status, _, body = await s.get(path)
            assert status in (200, 503), (path, body)
            body.decode()
        assert "bad\\\\udcff" in (await s.get("/metrics"))[2].decode()
        assert any("msg=odd" in line and "\\udcff" in line for line in s.lines)
        async with s.session.get(
            f"http://127.0.0.1:{s.port}/api/v1/events?since=0", headers={"Accept": "text/event-stream"}
        ) as stream:
            async with asyncio.timeout(30):
                async for line in stream.content:
                    line.decode()
                    if b'msg":"odd' in line:
                        break


# --- passwords, tokens, names ----------------------------------------------------------------------------------------


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()


async def asked_many(s: Server, passwords: Sequence[str]) -> list[int]:
    async def one(password: str) -> int:
        return (await s.get("/-/healthy", Authorization=basic(password)))[0]

    return await asyncio.gather(*(one(p) for p in passwords))


async def test_many_wrong_passwords_are_checked_one_at_a_time_and_the_rest_is_told_to_come_again(tmp_path: Path) -> None:
    slow = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(10)).decode()
    access = Access(WebConfig(basic_auth_users={"prometheus": slow}))
    async with serving(tmp_path, access=access) as s:
        assert (await s.get("/-/healthy", Authorization=basic("open sesame")))[0] == 200
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, threading.active_count())
                await asyncio.sleep(0.002)

        before, watching = threading.active_count(), asyncio.create_task(watch())
        flood = asyncio.ensure_future(asked_many(s, [f"wrong {n}" for n in range(60)]))
        known = [(await s.get("/-/healthy", Authorization=basic("open sesame")))[0] for _ in range(20)]
        answers = await flood
        watching.cancel()
        assert set(known) == {200}, "who is known is not kept waiting"
        assert set(answers) == {401, 429}
        assert answers.count(429) >= 40
        assert most - before <= 6, "threads"
        status, headers, _ = await s.get("/-/healthy")
        assert (status, headers["www-authenticate"]) == (401, 'Basic realm="promring"')


async def test_passwords_from_many_addresses_are_checked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, came = 0, 0, threading.Event()

    def checkpw(given: bytes, hashed: bytes) -> bool:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if given == b"wrong 0":
            came.wait(0.5)  # another one that may be checked meanwhile comes in now
        elif inside > 1:
            came.set()
        inside -= 1
        return False

    monkeypatch.setattr("promring.web.passwords.bcrypt.checkpw", checkpw)
    passwords = Passwords({"prometheus": bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()})
    checks = (passwords.check("prometheus", f"wrong {n}", f"10.0.0.{n}") for n in range(20))
    assert not any(await asyncio.gather(*checks))
    assert most == 1


async def test_a_wrong_password_is_checked_once_however_often_it_is_given(tmp_path: Path) -> None:
    slow = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(9)).decode()
    async with serving(tmp_path, access=Access(WebConfig(basic_auth_users={"prometheus": slow}))) as s:
        assert set(await asked_many(s, ["wrong"] * 60)) == {401}, "none is told to come again: they are one question"
        assert set(await asked_many(s, ["wrong"] * 60)) == {401}
        assert s.refused("password") == 120


def test_a_hash_that_takes_minutes_to_check_is_refused(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users: {a: '$2b$31$" + "." * 53 + "'}\n")
    with pytest.raises(ConfigError, match="cost"):
        load_web_config(tmp_path / "web.yml")


@pytest.mark.parametrize("which", ["web.yml", "cert.pem", "key.pem"])
def test_a_file_of_the_web_configuration_that_blocks_its_reader_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    leaf = trustme.CA().issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    (tmp_path / which).unlink()
    os.mkfifo(tmp_path / which)
    with pytest.raises(ConfigError, match="regular file"):
        Access(tmp_path / "web.yml")


async def test_a_missing_a_wrong_and_an_unconfigured_token_are_told_apart(tmp_path: Path) -> None:
    async with serving(tmp_path) as s:
        cases = [({}, 401), ({"Authorization": "Bearer no"}, 403), ({"Authorization": basic("x")}, 401)]
        said = set()
        for headers, wanted in cases:
            status, _, body = await s.get("/-/reload", "POST", **headers)
            assert (status, b"--web.token-file" in body) == (wanted, True)
            said.add(json.loads(body)["error"])
        assert len(said) == 2
        assert (await s.get("/-/reload", "POST", Authorization="Bearer sesame"))[0] == 200
    async with serving(tmp_path, token=False) as s:
        status, _, body = await s.get("/-/reload", "POST", Authorization="Bearer sesame")
        assert (status, b"without --web.token-file" in body) == (403, True)


async def test_a_token_file_that_blocks_its_reader_stops_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as s:
        (tmp_path / "token").unlink()
        os.mkfifo(tmp_path / "token")
        async with asyncio.timeout(30):
            assert (await s.get("/-/reload", "POST", Authorization="Bearer sesame"))[0] == 403
            assert (await s.get("/-/healthy"))[0] == 200


READ = ["/", "/where", "/static/page.js", "/api/v1/status", "/api/v1/services", "/api/v1/events", "/nothing"]
FOR_ALL = ["/-/healthy", "/-/ready", "/metrics", "/sd/node/127.0.0.1:1"]


@pytest.mark.row("A7", did="requests by another name than the server's, and by pages of other sites")
async def test_a_page_whose_name_resolves_to_us_reads_nothing(tmp_path: Path, seen: Any) -> None:
    async with serving(tmp_path, allowed_hosts=("promring.example", "*.fleet.example")) as s:
        for path in READ:
            for host in (
                "evil.example",
                "evil.example:9600",
                "127.0.0.1.evil.example",
                "localhost.evil.example",
                "a b",
                "::::",
                "[::1].evil.example",
                "[localhost]",
                "127.0.0.1%evil.example",
            ):
                status, _, body = await s.get(path, Host=host)
                assert (status, b"--web.allowed-host" in body) == (421, True), (path, host)
            own = [
                "127.0.0.1",
                "localhost:1",
                "[::1]:9600",
                "[fe80::1%eth0]",
                "10.0.0.1:80",
                "promring.example",
                "PROMRING.example.:1",
            ]
            for host in [*own, "x.fleet.example", "a.localhost", os.uname().nodename]:
                assert (await s.get(path, Host=host))[0] in (200, 404), (path, host)
            assert (await s.get(path, Host="evil.example", Authorization="Bearer sesame"))[0] in (200, 404)
        for path in FOR_ALL:
            assert (await s.get(path, Host="promring.internal:9600"))[0] in (200, 503), path
        assert s.refused("host") == 9 * len(READ)
        seen("421 for the page and the API by nine foreign names; slices and metrics by any name")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://203.0.113.5"}, 403),
        ({"Origin": "http://[2001:db8::5]:9600"}, 403),
        ({"Origin": "http://127.0.0.9:3000"}, 200),
        ({"Origin": "http://[::1%lo]:3000"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({}, 200),
    ],
)
async def test_no_page_of_another_site_writes_even_with_the_token(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with serving(tmp_path) as s:
        assert (await s.get("/-/reload", "POST", Authorization="Bearer sesame", **headers))[0] == status


def test_an_address_that_is_allowed_may_stand_in_brackets_or_not() -> None:
    for allowed in ("[fd00::1]", "fd00::1", "10.0.0.9"):
        asked = "10.0.0.9" if allowed.startswith("10") else "[fd00::1]"
        assert (Hosts([allowed]).allows(f"{asked}:9600"), Hosts().allows(f"{asked}:9600")) == (True, False)


async def test_over_tls_and_with_users_any_name_will_do(tmp_path: Path) -> None:
    async with serving(tmp_path, access=Access(WebConfig(basic_auth_users={"prometheus": PASSWORD}))) as s:
        assert (await s.get("/api/v1/status", Host="any.example", Authorization=basic("open sesame")))[0] == 200
        assert (await s.get("/api/v1/status", Host="any.example"))[0] == 401
