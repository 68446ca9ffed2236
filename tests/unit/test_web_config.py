"""``--web.config.file``: what each key of the exporter-toolkit does, seen by a client; what cannot be done is refused."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
import yaml

from promring.model import ConfigError
from promring.web.access import Access, Bucket, load_web_config
from promring.web.tls import _SUITES
from tests.unit.test_access import basic
from tests.unit.test_clients import serving

CLIENT = "scraper.example"
HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


@dataclass(frozen=True)
class Ground:
    """A folder with a certificate and a key for 127.0.0.1, and the authority of clients."""

    folder: Path
    ca: trustme.CA
    cert: str
    key: str

    def file(self, **config: object) -> Path:
        """A file with this ``tls_server_config``, beside certificate and key."""
        return self.whole(tls_server_config={"cert_file": "cert.pem", "key_file": "key.pem"} | config)

    def whole(self, **config: object) -> Path:
        path = self.folder / "web.yml"
        path.write_text(yaml.safe_dump(config))
        return path

    def client(self, name: str = "", ca: trustme.CA | None = None) -> ssl.SSLContext:
        """One that trusts the server; with a ``name``: with a certificate for it."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if name:
            (ca or self.ca).issue_cert(name).configure_cert(context)
        return context


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    cert, key = leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()
    for name, text in (("cert.pem", cert), ("key.pem", key), ("ca.pem", ca.cert_pem.bytes().decode())):
        (tmp_path / name).write_text(text)
    return Ground(tmp_path, ca, cert, key)


@dataclass(frozen=True)
class Agreed:
    version: str = ""
    cipher: str = ""


def handshake(access: Access, context: ssl.SSLContext) -> Agreed | None:
    """What server and client agree on; None when one of them ends it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    assert access.ssl_context is not None
    client = context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    sides = (client, access.ssl_context.wrap_bio(to_server, to_client, server_side=True))
    waiting = set(sides)
    for _ in range(6):
        for side in sides:
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return None
    return None if waiting else Agreed(client.version() or "", (client.cipher() or ("",))[0])


Change = Callable[[ssl.SSLContext], None]


def at_most_12(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def only_p384(context: ssl.SSLContext) -> None:
    context.set_ecdh_curve("secp384r1")


def prefers_chacha(context: ssl.SSLContext) -> None:
    at_most_12(context)
    context.set_ciphers("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256")


AES, CHACHA = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize(
    ("config", "change", "agreed"),
    [
        ({}, None, Agreed("TLSv1.3")),
        ({"min_version": "TLS13"}, None, Agreed("TLSv1.3")),
        ({"min_version": "TLS13"}, at_most_12, None),
        ({"max_version": "TLS12"}, None, Agreed("TLSv1.2")),
        ({"cipher_suites": [AES]}, at_most_12, Agreed("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")),
        ({"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]}, at_most_12, None),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"]}, None, Agreed("TLSv1.3")),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"]}, at_most_12, None),
        ({"cipher_suites": [AES, CHACHA]}, prefers_chacha, Agreed("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")),
        (
            {"cipher_suites": [AES, CHACHA], "prefer_server_cipher_suites": False},
            prefers_chacha,
            Agreed("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
        ),
        ({"curve_preferences": ["CurveP384"]}, only_p384, Agreed("TLSv1.3")),
        ({"curve_preferences": ["X25519"]}, only_p384, None),
        ({"client_auth_type": "RequestClientCert"}, None, Agreed("TLSv1.3")),
    ],
)
def test_versions_suites_and_curves_are_those_of_the_file(
    ground: Ground, config: dict[str, object], change: Change | None, agreed: Agreed | None
) -> None:
    client = ground.client()
    if change is not None:
        change(client)
    found = handshake(Access(ground.file(**config)), client)
    assert found == agreed or (found and agreed and not agreed.cipher and replace(found, cipher="") == agreed)


def test_every_suite_that_is_taken_is_known_to_openssl(ground: Ground) -> None:
    for name in _SUITES:
        assert Access(ground.file(cipher_suites=[name])).ssl_context is not None, name


@pytest.mark.parametrize(
    ("policy", "without", "with_one", "with_a_strange_one"),
    [("VerifyClientCertIfGiven", True, True, False), ("RequireAndVerifyClientCert", False, True, False)],
)
def test_client_certificates_are_verified_as_the_policy_says(
    ground: Ground, policy: str, without: bool, with_one: bool, with_a_strange_one: bool
) -> None:
    access = Access(ground.file(client_auth_type=policy, client_ca_file="ca.pem", max_version="TLS12"))
    assert bool(handshake(access, ground.client())) is without
    assert bool(handshake(access, ground.client(CLIENT))) is with_one
    assert bool(handshake(access, ground.client(CLIENT, trustme.CA()))) is with_a_strange_one


def test_certificate_key_and_authority_may_stand_in_the_file(ground: Ground) -> None:
    authority = ground.ca.cert_pem.bytes().decode()
    policy = {"client_ca": authority, "client_auth_type": "RequireAndVerifyClientCert"}
    file = ground.whole(tls_server_config={"cert": ground.cert, "key": ground.key, **policy})
    assert handshake(Access(file), ground.client(CLIENT)) is not None
    assert ground.key not in repr(load_web_config(file))


async def test_only_certificates_with_an_allowed_name_may_ask(ground: Ground) -> None:
    policy = {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"}
    access = Access(ground.file(**policy, client_allowed_sans=[CLIENT, "::1"]))
    async with serving(ground.folder, access=access) as s:

        async def status(context: ssl.SSLContext) -> int:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                async with session.get(f"https://127.0.0.1:{s.port}/-/healthy") as response:
                    return response.status

        assert await status(ground.client(CLIENT)) == 200
        assert await status(ground.client("0:0:0:0:0:0:0:1")) == 200, "an address is the same in any spelling"
        assert await status(ground.client("other.example")) == 403
        with pytest.raises(aiohttp.ClientError):
            await status(ground.client())


async def test_headers_rate_limit_and_a_reload_of_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60", "X-XSS-Protection": ""}
    file.write_text(yaml.safe_dump({"http_server_config": {"http2": False, "headers": headers}}))
    access = Access(file)
    async with serving(tmp_path, access=access) as s, aiohttp.ClientSession() as session:

        async def get(password: str = "") -> tuple[int, dict[str, str]]:
            given = {"Authorization": basic("alice", password)} if password else {}
            async with session.get(f"http://127.0.0.1:{s.port}/-/healthy", headers=given) as response:
                return response.status, dict(response.headers)

        status, said = await get()
        assert (status, said["X-Frame-Options"], said["Strict-Transport-Security"]) == (200, "deny", "max-age=60")
        assert said["X-Content-Type-Options"] == "nosniff"
        assert "X-XSS-Protection" not in said
        limit = {"interval": "1h", "burst": 3}
        file.write_text(yaml.safe_dump({"basic_auth_users": {"alice": HASH}, "rate_limit": limit}))
        access.reload()
        assert (await get())[0] == 401
        assert (await get("open sesame"))[0] == 200
        assert "X-Frame-Options" not in (await get("wrong"))[1]
        status, said = await get("open sesame")
        assert (status, said["Retry-After"]) == (429, "3600")
        file.write_text("rate_limit: {interval: 0}")
        access.reload()
        assert (await get())[0] == 200


def test_a_bucket_lets_a_burst_through_and_then_one_an_interval() -> None:
    clock = [100.0]
    bucket = Bucket(2.0, 3, lambda: clock[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock[0] += 2
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock[0] += 3600
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"min_version": "TLS10"}, "min_version: this version is not safe"),
        ({"min_version": "TLS14"}, "min_version: input should be 'TLS12' or 'TLS13'"),
        ({"min_version": "TLS13", "max_version": "TLS12"}, "min_version is above max_version"),
        ({"client_auth_type": "RequireAnyClientCert"}, "client_auth_type: a certificate that nobody verifies"),
        ({"client_ca_file": "ca.pem"}, "client_ca_file needs client_auth_type"),
        ({"client_allowed_sans": ["a"]}, "client_allowed_sans needs client_auth_type"),
        ({"cipher_suites": ["AES"]}, "cipher_suites[0]: unknown cipher suite 'AES'"),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"], "max_version": "TLS12"}, "cipher_suites has none for TLS12"),
        ({"curve_preferences": ["CurveP256", "X25519"]}, "curve_preferences: only one curve can be chosen"),
        ({"curve_preferences": ["P256"]}, "curve_preferences: unknown curve 'P256'"),
        ({"cert": "x"}, "cert and cert_file exclude each other"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_key(ground: Ground, config: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_web_config(ground.file(**config))
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http_server_config: {headers: {X-Frame-Options: never}}", "headers.X-Frame-Options"),
        ("http_server_config: {headers: {Server: x}}", "headers.Server: unknown key"),
        ("http_server_config: {headers: {X-XSS-Protection: 'a\\u00e9'}}".replace("'", '"'), "headers.X-XSS-Protection"),
        ("rate_limit: {interval: 1s, burst: 0}", "rate_limit.burst"),
        ("rate_limit: {interval: fast}", "rate_limit.interval: 'fast' is not a duration"),
    ],
)
def test_headers_and_limits_are_checked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "web.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_web_config(tmp_path / "web.yml")
    assert said in caught.value.problems[0]


@pytest.mark.parametrize("user", ["", "a:b", "a\nb", "a b"])
def test_a_name_that_no_user_can_have_is_said_in_words(tmp_path: Path, user: str) -> None:
    file = tmp_path / "web.yml"
    file.write_text(yaml.safe_dump({"basic_auth_users": {user: HASH}}))
    with pytest.raises(ConfigError) as refused:
        load_web_config(file)
    (said,) = refused.value.problems
    assert ": basic_auth_users." in said
    assert said.endswith(": the name of a user must not be empty, and has no colon and no space")
