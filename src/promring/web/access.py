"""Who may connect: ``--web.config.file`` in the format of Prometheus' exporter-toolkit, TLS and basic auth.

Passwords are bcrypt hashes, checked by ``web/passwords.py``. A request with the right bearer token passes too, so that
writes need one header.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

import bcrypt
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import AfterValidator, Field, ValidationError

from promring.config.document import show
from promring.config.load import from_pydantic, read_document
from promring.config.values import AbsolutePath, Model
from promring.model import ConfigError
from promring.runtime import regular
from promring.web.envelope import ApiError, Handler
from promring.web.passwords import Passwords
from promring.web.refusals import Refusals

COST_MOST = 15
"""Of a bcrypt hash: one check takes 3 s of a core then, and each step more twice as long."""


def _hash(text: str) -> str:
    kind, _, cost = text[1:7].partition("$")
    if kind in ("2a", "2b", "2x", "2y") and cost[:2].isdigit() and int(cost[:2]) > COST_MOST:
        raise ValueError(f"its cost is above {COST_MOST}: each check of a password would take many seconds")
    try:
        bcrypt.checkpw(b"", text.encode())
    except ValueError:
        raise ValueError("is not a bcrypt hash") from None
    return text


User = Annotated[str, Field(pattern=r"^[^:\s]+$")]
Hash = Annotated[str, AfterValidator(_hash)]


class TlsServer(Model):
    cert_file: AbsolutePath
    key_file: AbsolutePath
    client_auth_type: Literal["NoClientCert", "RequireAndVerifyClientCert"] = "NoClientCert"
    client_ca_file: AbsolutePath | None = None
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class WebConfig(Model):
    tls_server_config: TlsServer | None = None
    basic_auth_users: dict[User, Hash] = Field(default_factory=dict, repr=False)


def load_web_config(path: Path) -> WebConfig:
    """Raises ``ConfigError``, a line an error, as the configuration does; passwords and hashes are not shown."""
    document = read_document(path)
    try:
        made = WebConfig.model_validate(document.value, context={"base": path.absolute().parent})
    except ValidationError as error:
        found = [from_pydantic(e["loc"], e["msg"], e["type"], e["input"]) for e in error.errors(include_url=False)]
        raise ConfigError([f"{path}:{document.line(where)}: {show(where)}: {what}" for where, what in found]) from None
    tls = made.tls_server_config
    if tls is not None and (tls.client_auth_type == "NoClientCert") != (tls.client_ca_file is None):
        raise ConfigError([f"{path}:1: tls_server_config: client_ca_file and RequireAndVerifyClientCert go together"])
    return made


class Access:
    """What a ``WebConfig`` means for a server. Raises ``ConfigError`` when its TLS files make no TLS."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self._passwords = Passwords(config.basic_auth_users)
        tls = config.tls_server_config
        self.ssl_context = _context(tls) if tls is not None else None

    def try_out(self) -> None:
        """Whether ``reload`` would succeed; nothing changes. Reads files. Raises ``ConfigError``."""
        if self._config.tls_server_config is not None:
            _context(self._config.tls_server_config)

    def reload(self) -> None:
        """Read the certificate and key again; connections from now on get them. A changed client CA needs a restart.

        Raises ``ConfigError``, and nothing has changed then: both are tried out in another context first.
        """
        tls = self._config.tls_server_config
        if tls is not None and self.ssl_context is not None:
            _context(tls)
            self.ssl_context.load_cert_chain(tls.cert_file, tls.key_file)

    @property
    def open(self) -> bool:
        """Whether everyone may read."""
        return not self._config.basic_auth_users

    async def allows(self, request: web.Request) -> bool:
        """Whether the request has the name and password of a user. Raises ``ApiError`` when too many are checked already."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:  # not base64, not text
            return False
        return await self._passwords.check(user, password, request.remote or "")


def _context(tls: TlsServer) -> ssl.SSLContext:
    for file in (tls.cert_file, tls.key_file, tls.client_ca_file):
        if file is not None:
            _check(file)
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = getattr(ssl.TLSVersion, f"TLSv1_{tls.min_version[-1]}")
        context.load_cert_chain(tls.cert_file, tls.key_file)
        if tls.client_ca_file is not None:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise ConfigError([f"tls_server_config: {error}"]) from error
    return context


def _check(file: Path) -> None:
    """Raises ``ConfigError``, before OpenSSL would block on a FIFO."""
    try:
        regular.check(file)
    except OSError as error:
        raise ConfigError([f"tls_server_config: {file}: {error.strerror}"]) from error


Allows = Callable[[web.Request], Awaitable[bool]]


def guard(access: Access, has_token: Allows, refusals: Refusals) -> Middleware:
    """A middleware that lets nobody in but users and those with the token."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if access.open or await has_token(request) or await access.allows(request):
            return await handler(request)
        given = "Authorization" in request.headers
        if given:
            refusals.add("password", request.remote or "")
        text = "this user and password are wrong" if given else "a user name and password are needed"
        raise ApiError(401, "unauthorized", text, {"WWW-Authenticate": 'Basic realm="promring"'})

    return check
