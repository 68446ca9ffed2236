"""How promring asks somebody by HTTP, as a configuration says it: the keys of Prometheus' ``http_config``, its defaults.

Owns: those keys, which of them exclude each other, and what they become: headers, files of TLS, a proxy. Files are read each
time they are used, beside the event loop. A key that promring cannot do is refused by its name, with what to do instead.
Flow: a kind that asks by HTTP has these keys inline (``HttpClient``); ``headers()``, ``tls_files`` and ``proxy_for`` go to
``runtime.http_client.request`` for each request.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, model_validator
from yarl import URL

from promring.config.values import AbsolutePath, Model, SecretLinePath
from promring.runtime import secretfile
from promring.runtime.proxy import Proxy, is_proxied, proxy_of_environment, proxy_url
from promring.runtime.redact import Secret, SecretUrl
from promring.runtime.tls import TlsFiles

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADERS_MAX = 100
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
OUR_OWN = frozenset(("authorization", "host", "content-length", "content-encoding", "content-type", "accept-encoding"))
"""Headers that are no key of ``http_headers``."""


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("is not a text on one line")
    return Secret(value)


def _pem(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or "-----BEGIN " not in value:
        raise ValueError("is not the text of a certificate or key (PEM); a file is named with the key that ends in _file")
    return Secret(value)


def _header_name(name: str) -> str:
    if not HEADER.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of a header")
    if name.lower() in OUR_OWN:
        raise ValueError(f"the header {name} has keys of its own, or is promring's to say")
    return name


def instead(what: str) -> BeforeValidator:
    """Refuses a key, with what to do instead."""

    def refuse(_: object) -> None:
        raise ValueError(f"promring cannot do this: {what}")

    return BeforeValidator(refuse)


SecretText = Annotated[Secret, PlainValidator(_secret)]
Pem = Annotated[Secret, PlainValidator(_pem)]
ProxyUrl = Annotated[SecretUrl, PlainValidator(proxy_url)]
HeaderName = Annotated[str, BeforeValidator(_header_name)]
ConnectHeader = Annotated[str, Field(pattern=rf"^{HEADER.pattern}$")]
ConnectValues = Annotated[list[SecretText], Field(max_length=HEADERS_MAX)]
FromFile = Annotated[None, instead("write it into a file, and name that with the key that ends in _file")]
"""A reference to a secret manager."""
Token = Annotated[
    None, instead("have a program of yours write the token into a file, and name that in authorization.credentials_file")
]


def _either(model: Model, *names: str) -> None:
    """Raises ValueError when more than one of these is given."""
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) > 1:
        raise ValueError(f"either {' or '.join(given)}")


async def _text(value: Secret | None, file: Path | None) -> str:
    """Raises ``SecretError``."""
    return value.reveal() if value is not None else await secretfile.read_line(file) if file is not None else ""


class BasicAuth(Model):
    """``username`` or ``username_file``, ``password`` or ``password_file``."""

    username: str | None = None
    username_file: SecretLinePath | None = None
    username_ref: FromFile = None
    password: SecretText | None = None
    password_file: SecretLinePath | None = None
    password_ref: FromFile = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _either(self, "username", "username_file")
        _either(self, "password", "password_file")
        return self

    async def header(self) -> str:
        """Raises ``SecretError``."""
        name = self.username if self.username is not None else await _text(None, self.username_file)
        return basic(name, await _text(self.password, self.password_file))


class Authorization(Model):
    """``type``: any but Basic; ``credentials`` or ``credentials_file``."""

    type: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")] = "Bearer"
    credentials: SecretText | None = None
    credentials_file: SecretLinePath | None = None
    credentials_ref: FromFile = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _either(self, "credentials", "credentials_file")
        if self.type.lower() == "basic":
            raise ValueError("say basic_auth for the type Basic")
        return self

    async def header(self) -> str:
        """Raises ``SecretError``."""
        return f"{self.type} {await _text(self.credentials, self.credentials_file)}".strip()


class Tls(Model):
    """Files of TLS, read again when they are used. promring speaks TLS 1.2 and newer."""

    ca_file: AbsolutePath | None = None
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    def files(self) -> TlsFiles:
        return TlsFiles(self.ca_file, self.cert_file, self.key_file, self.server_name, self.insecure_skip_verify)


class TlsConfig(Tls):
    """The keys of Prometheus' ``tls_config``."""

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    ca_ref: FromFile = None
    cert_ref: FromFile = None
    key_ref: FromFile = None
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("ca", "cert", "key"):
            _either(self, name, f"{name}_file")
        if (self.cert_file is None and self.cert is None) != (self.key_file is None and self.key is None):
            raise ValueError("a certificate and its key go together: cert_file and key_file, or cert and key")
        if self.max_version is not None and self.max_version < self.min_version:
            raise ValueError("max_version must not be below min_version")
        return self

    def files(self) -> TlsFiles:
        newest = VERSIONS[self.max_version] if self.max_version else None
        return replace(
            super().files(),
            oldest=VERSIONS[self.min_version],
            newest=newest,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
        )


class HeaderValues(Model):
    """One value of a header: in ``values``, ``secrets`` or ``files``."""

    values: Annotated[list[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]], Field(max_length=1)] = Field(default=[])
    secrets: Annotated[list[SecretText], Field(max_length=1)] = Field(default=[])
    files: Annotated[list[SecretLinePath], Field(max_length=1)] = Field(default=[])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.values) + len(self.secrets) + len(self.files) != 1:
            raise ValueError("promring sends one value a header: say one, in values, secrets or files")
        return self

    async def text(self) -> str:
        """Raises ``SecretError``."""
        if self.values:
            return self.values[0]
        return await _text(self.secrets[0] if self.secrets else None, self.files[0] if self.files else None)


class HttpConfig(Model):
    """The keys of ``http_config``, inline."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: Token = None
    bearer_token: SecretText | None = None
    bearer_token_file: SecretLinePath | None = None
    tls_config: TlsConfig | None = None
    follow_redirects: bool = True
    enable_http2: bool = True
    """Taken, and without effect: promring speaks HTTP/1.1."""
    proxy_url: ProxyUrl | None = None
    no_proxy: str = ""
    """Hosts that are asked without the proxy, as Go reads it. With it this machine is asked without the proxy, too."""
    proxy_from_environment: bool = False
    proxy_connect_header: Annotated[dict[ConnectHeader, ConnectValues], Field(max_length=HEADERS_MAX)] = Field(default={})
    http_headers: Annotated[dict[HeaderName, HeaderValues], Field(max_length=HEADERS_MAX)] = Field(default={})

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _either(self, "basic_auth", "authorization", "bearer_token", "bearer_token_file")
        if self.proxy_from_environment and (self.proxy_url or self.no_proxy):
            raise ValueError("either proxy_from_environment or proxy_url with no_proxy")
        if self.no_proxy and not self.proxy_url:
            raise ValueError("no_proxy needs proxy_url")
        if self.proxy_connect_header and not self.proxy_url and not self.proxy_from_environment:
            raise ValueError("proxy_connect_header needs proxy_url or proxy_from_environment")
        if self.proxy_from_environment:
            for scheme in ("http", "https"):
                _proxy_of_environment(URL.build(scheme=scheme, host="host.invalid"))
        return self

    @property
    def tls_files(self) -> TlsFiles | None:
        return self.tls_config.files() if self.tls_config else None

    @property
    def identity(self) -> Hashable:
        """The same for the same values of all keys."""
        return *(_identity(getattr(self, name)) for name in HttpConfig.model_fields), self.tls_files

    def proxy_for(self, url: URL) -> Proxy | None:
        """The proxy of a request, if it has one."""
        if self.proxy_from_environment:
            found = _proxy_of_environment(url)
        else:
            found = self.proxy_url if not self.no_proxy or is_proxied(url, self.no_proxy) else None
        headers = ((name, value.reveal()) for name, values in self.proxy_connect_header.items() for value in values)
        return Proxy(found, tuple(headers)) if found else None

    async def headers(self) -> dict[str, str]:
        """What each request has. Raises ``SecretError``."""
        found = {name: await values.text() for name, values in self.http_headers.items()}
        if self.basic_auth is not None:
            found["Authorization"] = await self.basic_auth.header()
        elif self.authorization is not None:
            found["Authorization"] = await self.authorization.header()
        elif token := await _text(self.bearer_token, self.bearer_token_file):
            found["Authorization"] = f"Bearer {token}"
        return found


class HttpClient(HttpConfig):
    """``http_config`` of a part of promring's own: ``tls`` is the shorter name of ``tls_config``."""

    tls: Tls | None = None

    @model_validator(mode="after")
    def _one_tls(self) -> Self:
        _either(self, "tls", "tls_config")
        return self

    @property
    def tls_files(self) -> TlsFiles | None:
        return self.tls.files() if self.tls else super().tls_files


def _proxy_of_environment(url: URL) -> SecretUrl | None:
    """Raises ValueError for a proxy that promring cannot speak to."""
    try:
        return proxy_of_environment(os.environ, url)
    except ValueError as error:
        raise ValueError(f"proxy_from_environment: {url.scheme}_proxy: {error}") from None


def _identity(value: object) -> Hashable:
    if isinstance(value, BaseModel):
        return tuple((name, _identity(getattr(value, name))) for name in type(value).model_fields)
    if isinstance(value, dict):
        return tuple((key, _identity(inner)) for key, inner in value.items())
    return tuple(map(_identity, value)) if isinstance(value, list) else value


def basic(username: str, password: str) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
