"""Who may connect: ``--web.config.file`` in the format of Prometheus' exporter-toolkit.

TLS is in ``web/tls.py``. Passwords are bcrypt hashes, checked by ``web/passwords.py``. A request with the right bearer token
passes too, so that writes need one header. Every key of the format is taken; what cannot be done is an error that names it.
"""

from __future__ import annotations

import base64
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import bcrypt
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import AfterValidator, Field, ValidationError

from promring.config.document import show
from promring.config.load import from_pydantic, read_document
from promring.config.values import Duration, Model
from promring.model import ConfigError
from promring.runtime.certificates import Place, Validity
from promring.web.envelope import ApiError, Handler
from promring.web.passwords import Passwords
from promring.web.refusals import Refusals
from promring.web.tls import TlsServer

COST_MOST = 15
"""Of a bcrypt hash: one check takes 3 s of a core then, and each step more twice as long."""


def _hash(text: str) -> str:
    kind, _, cost = text[1:7].partition("$")
    if kind in ("2a", "2b", "2x", "2y") and cost[:2].isascii() and cost[:2].isdigit() and int(cost[:2]) > COST_MOST:
        raise ValueError(f"its cost is above {COST_MOST}: each check of a password would take many seconds")
    try:
        bcrypt.checkpw(b"", text.encode())
    except ValueError:
        raise ValueError("is not a bcrypt hash") from None
    return text


def _user(name: str) -> str:
    if not name or ":" in name or any(map(str.isspace, name)):
        raise ValueError("the name of a user must not be empty, and has no colon and no space")
    return name


User = Annotated[str, AfterValidator(_user)]
Hash = Annotated[str, AfterValidator(_hash)]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]


class ResponseHeaders(Model):
    """Empty: as promring answers by itself."""

    content_security_policy: HeaderValue = Field(default="", alias="Content-Security-Policy")
    frame_options: Literal["", "deny", "sameorigin"] = Field(default="", alias="X-Frame-Options")
    content_type_options: Literal["", "nosniff"] = Field(default="", alias="X-Content-Type-Options")
    xss_protection: HeaderValue = Field(default="", alias="X-XSS-Protection")
    strict_transport_security: HeaderValue = Field(default="", alias="Strict-Transport-Security")


class HttpServer(Model):
    http2: bool = True
    """Taken, and without effect: promring speaks HTTP/1.1, which every client of HTTP/2 speaks, too."""
    headers: ResponseHeaders = ResponseHeaders()


class RateLimit(Model):
    interval: Duration = 0.0
    burst: Annotated[int, Field(ge=1)] = 1


class WebConfig(Model):
    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[User, Hash] = Field(default_factory=dict, repr=False)
    rate_limit: RateLimit = RateLimit()


def load_web_config(path: Path) -> WebConfig:
    """Raises ``ConfigError``, a line an error, as the configuration does; passwords and hashes are not shown."""
    document = read_document(path)
    try:
        return WebConfig.model_validate(document.value, context={"base": path.absolute().parent})
    except ValidationError as error:
        told = [(e, e["loc"][:-1] if e["loc"][-1:] == ("[key]",) else e["loc"]) for e in error.errors(include_url=False)]
        found = [from_pydantic(at, e["msg"], e["type"], e["input"]) for e, at in told]
        raise ConfigError([f"{path}:{document.line(where)}: {show(where)}: {what}" for where, what in found]) from None


class Bucket:
    """A token bucket: ``burst`` requests at once, then one each ``interval_s``. ``now`` is the clock, in seconds."""

    def __init__(self, interval_s: float, burst: int, now: Callable[[], float] = monotonic) -> None:
        self.interval_s = interval_s
        self._burst, self._now = float(burst), now
        self._tokens, self._at = self._burst, now()

    def take(self) -> bool:
        """Whether one more request may be answered."""
        if not self.interval_s:
            return True
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self.interval_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a ``WebConfig`` means for a server."""

    config: WebConfig
    tls: ssl.SSLContext | None
    certificates: Mapping[Place, Validity]
    passwords: Passwords
    bucket: Bucket

    @classmethod
    def of(cls, config: WebConfig, name: str) -> _Rules:
        """``name``: of its file. Raises ``ConfigError`` when its TLS files make no TLS."""
        tls, limit = config.tls_server_config, config.rate_limit
        bucket = Bucket(limit.interval, limit.burst)
        context, certificates = (tls.context(), tls.validity(name)) if tls else (None, {})
        return cls(config, context, certificates, Passwords(config.basic_auth_users), bucket)


class Access:
    """``source``: a ``--web.config.file``, or what would be in one; None: everybody may connect. Raises ``ConfigError``."""

    def __init__(self, source: Path | WebConfig | None = None) -> None:
        self._source = source
        self._rules = self._read()

    def _read(self) -> _Rules:
        if isinstance(self._source, Path):
            return _Rules.of(load_web_config(self._source), str(self._source))
        return _Rules.of(self._source or WebConfig(), "")

    def try_out(self) -> None:
        """Whether ``reload`` would succeed; nothing changes. Reads files. Raises ``ConfigError``."""
        self._read()

    def reload(self) -> None:
        """Read the file, certificates and keys again; connections and requests from now on get them.

        Raises ``ConfigError``, and nothing has changed then. What did not change keeps what it remembers.
        """
        before, now = self._rules, self._read()
        same_users = before.config.basic_auth_users == now.config.basic_auth_users
        same_limit = before.config.rate_limit == now.config.rate_limit
        self._rules = _Rules(
            now.config,
            now.tls,
            now.certificates,
            before.passwords if same_users else now.passwords,
            before.bucket if same_limit else now.bucket,
        )

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """For the next connection; None: without TLS."""
        return self._rules.tls

    @property
    def certificates(self) -> Mapping[Place, Validity]:
        """Of the certificate that is shown, and of the authorities for clients."""
        return self._rules.certificates

    @property
    def open(self) -> bool:
        """Whether everyone may read."""
        return not self._rules.config.basic_auth_users

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that every answer gets."""
        set_here: dict[str, str] = self._rules.config.http_server_config.headers.model_dump(by_alias=True)
        return {name: value for name, value in set_here.items() if value}

    def in_time(self) -> float:
        """0 when one more request may be answered now, else the seconds in which the next may."""
        bucket = self._rules.bucket
        return 0.0 if bucket.take() else bucket.interval_s

    def admits(self, certificate: Mapping[str, object] | None) -> bool:
        """Whether a client with this verified certificate may ask."""
        tls = self._rules.config.tls_server_config
        return tls is None or tls.admits(certificate)

    async def allows(self, request: web.Request) -> bool:
        """Whether the request has the name and password of a user. Raises ``ApiError`` when too many are checked already."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:  # not base64, not text
            return False
        return await self._rules.passwords.check(user, password, request.remote or "")


Allows = Callable[[web.Request], Awaitable[bool]]


def guard(access: Access, has_token: Allows, refusals: Refusals) -> Middleware:
    """A middleware that lets in users and those with the token, with an allowed certificate, within ``rate_limit``."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if wait_s := access.in_time():
            refusals.add("busy", "rate_limit")
            raise ApiError(429, "busy", "more requests than rate_limit allows", retry_after_s=math.ceil(wait_s))
        if not access.admits(request.get_extra_info("peercert")):
            refusals.add("tls", "a certificate without a name of client_allowed_sans")
            raise ApiError(403, "forbidden", "the client certificate has no name of client_allowed_sans")
        if access.open or await has_token(request) or await access.allows(request):
            return await handler(request)
        given = "Authorization" in request.headers
        if given:
            refusals.add("password", request.remote or "")
        text = "this user and password are wrong" if given else "a user name and password are needed"
        raise ApiError(401, "unauthorized", text, {"WWW-Authenticate": 'Basic realm="promring"'})

    return check
