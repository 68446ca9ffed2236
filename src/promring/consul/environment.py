"""What the environment says about Consul, read as Consul's own commands read it (its ``DefaultConfig``).

Promises: every variable that those commands know is used, or refused by name; a value that they would only warn about is an
error here, because what they go on with then is plain HTTP, or no verification. With ``CONSUL_HTTP_SSL`` nothing goes out
in clear, whatever the scheme in an address. Values of variables are secrets: no error contains one.
Flow: ``config`` shows the problems, ``build`` puts these values where the configuration says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from promring.runtime.http_client import TlsFiles, parse_base

ADDRESS = "CONSUL_HTTP_ADDR"
TRUE = {"1", "t", "T", "TRUE", "true", "True"}
FALSE = {"0", "f", "F", "FALSE", "false", "False"}
DEFAULT = "default"
"""The only namespace and partition of a Consul that is not Enterprise."""


@dataclass(frozen=True, slots=True)
class ConsulEnvironment:
    """``ssl``: TLS is wanted although no address says https. ``problems``: why a variable cannot be used, by
    its name.
    """

    address: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl: bool = False
    tls: TlsFiles = field(default_factory=TlsFiles)
    problems: Mapping[str, str] = field(default_factory=dict)


def read_environment(environ: Mapping[str, str]) -> ConsulEnvironment:
    """Empty variables count as absent, as in Consul's commands."""
    given = {name: value for name, value in environ.items() if name.startswith("CONSUL_") and value}
    username, colon, password = given.get("CONSUL_HTTP_AUTH", "").partition(":")
    tls = TlsFiles(
        ca_file=_path(given, "CONSUL_CACERT"),
        cert_file=_path(given, "CONSUL_CLIENT_CERT"),
        key_file=_path(given, "CONSUL_CLIENT_KEY"),
        server_name=given.get("CONSUL_TLS_SERVER_NAME"),
        insecure_skip_verify=given.get("CONSUL_HTTP_SSL_VERIFY") in FALSE,
        ca_folder=_path(given, "CONSUL_CAPATH"),
    )
    return ConsulEnvironment(
        address=given.get(ADDRESS),
        token=given.get("CONSUL_HTTP_TOKEN"),
        token_file=_path(given, "CONSUL_HTTP_TOKEN_FILE"),
        username=username if username or colon else None,
        password=password if username or colon else None,
        ssl=given.get("CONSUL_HTTP_SSL") in TRUE,
        tls=tls,
        problems=dict(_problems(given)) or dict(_no_context(tls)),
    )


def _problems(given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if ADDRESS in given:
        try:
            parse_base(given[ADDRESS])
        except ValueError as error:
            yield ADDRESS, str(error)
    for name in ("CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"):
        if given.get(name, "true") not in TRUE | FALSE:
            yield name, "must be true or false (or 1, 0, t, f)"
    for name in ("CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH"):
        if not _fits_a_header(given.get(name, "")):
            yield name, "has characters that no HTTP header can carry"
    for name in ("CONSUL_HTTP_TOKEN_FILE", "CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"):
        if name in given and (why := _unreadable(given[name])):
            yield name, why
    if "CONSUL_CAPATH" in given and not Path(given["CONSUL_CAPATH"]).is_dir():
        yield "CONSUL_CAPATH", "is not a folder"
    if "CONSUL_CLIENT_KEY" in given and "CONSUL_CLIENT_CERT" not in given:
        yield "CONSUL_CLIENT_KEY", "needs CONSUL_CLIENT_CERT"
    for name in ("CONSUL_NAMESPACE", "CONSUL_PARTITION"):
        if given.get(name, DEFAULT) != DEFAULT:
            yield name, "is for Consul Enterprise; promring reads and registers in the default one only: unset it"


def _no_context(tls: TlsFiles) -> Iterator[tuple[str, str]]:
    if tls == TlsFiles():
        return
    try:
        tls.context()
    except (OSError, ValueError) as error:
        name = "CONSUL_CLIENT_CERT" if tls.cert_file else "CONSUL_CAPATH" if tls.ca_folder else "CONSUL_CACERT"
        yield name, f"makes no TLS context: {' '.join(str(error).split())}"


def _unreadable(text: str) -> str:
    try:
        if not Path(text).is_file():  # a FIFO or a device would block whoever reads it
            return "is not a file"
        Path(text).open("rb").close()
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'not a path'}"
    return ""


def _path(given: Mapping[str, str], name: str) -> Path | None:
    return Path(given[name]) if name in given else None


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()
