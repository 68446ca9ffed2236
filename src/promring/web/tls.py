"""TLS of promring's own port, as ``tls_server_config`` of Prometheus' exporter-toolkit has it.

Promises: what a file asks for is done, or refused by the name of its key. Not done: TLS before 1.2, client certificates that
nobody verifies, an order of several curves (Python offers one, or those of OpenSSL).
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from promring.config.values import AbsolutePath, Model
from promring.model import ConfigError
from promring.runtime import regular
from promring.runtime.certificates import AUTHORITY, CERTIFICATE, Place, Validity, told

_TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    **{
        f"TLS_ECDHE_{key}_WITH_{there}": f"ECDHE-{key}-{here}"
        for key in ("ECDSA", "RSA")
        for there, here in (
            ("AES_128_CBC_SHA", "AES128-SHA"),
            ("AES_256_CBC_SHA", "AES256-SHA"),
            ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
            ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
            ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
            ("CHACHA20_POLY1305", "CHACHA20-POLY1305"),
        )
    },
}
"""The names that Go gives cipher suites of TLS 1.2, and those of OpenSSL."""
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_PROVED = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")


def _version(text: object) -> object:
    if text in ("TLS10", "TLS11"):
        raise ValueError("this version is not safe (RFC 8996) and not offered; TLS12 or TLS13")
    return text


def _client_auth(text: object) -> object:
    if text in ("RequireAnyClientCert", "RequireClientCert"):
        raise ValueError("a certificate that nobody verifies proves nothing; RequireAndVerifyClientCert")
    return text or "NoClientCert"


def _suite(name: str) -> str:
    if name not in _SUITES and name not in _TLS13_SUITES:
        raise ValueError(f"unknown cipher suite {name!r}; such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    return name


def _curves(names: list[str]) -> list[str]:
    if wrong := [name for name in names if name not in _CURVES]:
        raise ValueError(f"unknown curve {wrong[0]!r}; one of {', '.join(_CURVES)}")
    if len(names) > 1:
        raise ValueError("only one curve can be chosen here; without the key OpenSSL offers X25519, P-256, P-521 and P-384")
    return names


Version = Annotated[Literal["TLS12", "TLS13"], BeforeValidator(_version)]
ClientAuth = Annotated[
    Literal["NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
    BeforeValidator(_client_auth),
]


class TlsServer(Model):
    cert: str = ""
    key: str = Field(default="", repr=False)
    client_ca: str = ""
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    client_ca_file: AbsolutePath | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    client_allowed_sans: list[str] = Field(default_factory=list)
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: list[Annotated[str, AfterValidator(_suite)]] = Field(default_factory=list)
    prefer_server_cipher_suites: bool = True
    curve_preferences: Annotated[list[str], AfterValidator(_curves)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> TlsServer:
        for name in ("cert", "key"):
            _one_of(name, getattr(self, name), getattr(self, f"{name}_file"), needed=True)
        _one_of("client_ca", self.client_ca, self.client_ca_file, needed=False)
        if (self.client_ca or self.client_ca_file) and self.client_auth_type == "NoClientCert":
            raise ValueError("client_ca_file needs client_auth_type: RequireAndVerifyClientCert")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        if self._only_tls13 and self.max_version == "TLS12":
            raise ValueError("cipher_suites has none for TLS12")
        return self

    @property
    def _only_tls13(self) -> bool:
        return bool(self.cipher_suites) and all(name in _TLS13_SUITES for name in self.cipher_suites)

    def context(self) -> ssl.SSLContext:
        """Reads the files. Raises ``ConfigError`` when they make no TLS."""
        for file in (self.cert_file, self.key_file, self.client_ca_file):
            if file is not None:
                _check(file)
        try:
            return self._context()
        except (OSError, ValueError) as error:
            raise ConfigError([f"tls_server_config: {error}"]) from error

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = _VERSIONS["TLS13" if self._only_tls13 else self.min_version]
        context.maximum_version = _VERSIONS[self.max_version]
        if suites := [_SUITES[name] for name in self.cipher_suites if name in _SUITES]:
            context.set_ciphers(":".join(suites))
        if not self.prefer_server_cipher_suites:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        for curve in self.curve_preferences:
            context.set_ecdh_curve(_CURVES[curve])
        with _as_file(self.cert, self.cert_file) as cert, _as_file(self.key, self.key_file) as key:
            context.load_cert_chain(cert, key)
        if self.client_auth_type in _PROVED:
            if self.client_ca or self.client_ca_file:
                context.load_verify_locations(self.client_ca_file, cadata=self.client_ca or None)
            else:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            must = self.client_auth_type == "RequireAndVerifyClientCert"
            context.verify_mode = ssl.CERT_REQUIRED if must else ssl.CERT_OPTIONAL
        return context

    def validity(self, name: str) -> dict[Place, Validity]:
        """Of the certificate, and of the authorities for clients. ``name``: of the file with this section. Blocks."""
        found: dict[Place, Validity] = {}
        for key, kind in (("cert", CERTIFICATE), ("client_ca", AUTHORITY)):
            file = getattr(self, f"{key}_file")
            with suppress(OSError):
                text = getattr(self, key).encode() if file is None else file.read_bytes()
                found |= told(f"{name}: tls_server_config.{key}" if file is None else str(file), kind, text)
        return found

    def admits(self, certificate: Mapping[str, object] | None) -> bool:
        """Whether a verified client certificate, as ``SSLObject.getpeercert`` tells it, has a name that is allowed."""
        names = (certificate or {}).get("subjectAltName", ())
        found = {_canonical(name) for _, name in names} if isinstance(names, tuple) else set()
        return not self.client_allowed_sans or not found.isdisjoint(map(_canonical, self.client_allowed_sans))


def _one_of(name: str, text: str, file: Path | None, *, needed: bool) -> None:
    if text and file is not None:
        raise ValueError(f"{name} and {name}_file exclude each other")
    if needed and not text and file is None:
        raise ValueError(f"{name}_file is required")


def _canonical(name: str) -> str:
    """One text for each IP address; any other name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


@contextmanager
def _as_file(text: str, file: Path | None) -> Iterator[Path]:
    """``file``, or one that has ``text``, in memory only."""
    if file is not None:
        yield file
        return
    descriptor = os.memfd_create("promring-pem")
    try:
        os.write(descriptor, text.encode())
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _check(file: Path) -> None:
    """Raises ``ConfigError``, before OpenSSL would block on a FIFO."""
    try:
        regular.check(file)
    except OSError as error:
        raise ConfigError([f"tls_server_config: {file}: {error.strerror}"]) from error
