"""The section ``consul`` of a configuration: where Consul is, and how to be let in.

Every kind that speaks with Consul uses it. What the section does not say, the ``CONSUL_*`` variables do (``environment``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator
from yarl import URL

from promring.config.http_client import Tls
from promring.config.kinds import Problem, Section
from promring.config.values import SecretLinePath
from promring.consul.environment import ADDRESS, read_environment
from promring.runtime.http_client import TlsFiles, parse_base
from promring.runtime.proxy import Proxy


class HttpOptions(Protocol):
    """How to ask by HTTP, beyond what Consul itself knows."""

    def proxy_for(self, url: URL) -> Proxy | None:
        """The proxy of a request, if it has one."""

    async def headers(self) -> Mapping[str, str]:
        """Of one request. Raises ``SecretError``."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where Consul is and how to be let in. ``address`` None: the local agent; ``tls`` given: never without TLS, whatever
    scheme the address has. A ``token_file`` with something in it goes before ``token``; ``token`` None: it must hold one.
    """

    address: str | None = None
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    tls: TlsFiles | None = None
    datacenter: str | None = None
    path_prefix: str = ""
    """Before every path, as a proxy may want it."""
    http: HttpOptions | None = None
    """What each request has besides."""
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def base_address(text: str) -> str:
    parse_base(text)
    return text


class ConsulSection(Section):
    """``address``: ``host:port``, ``http(s)://…`` or ``unix:///…``; ``datacenter``: where scrapers are read."""

    key = "consul"
    missing = f"needs the section `consul:` with an address, or {ADDRESS}"

    address: Annotated[str, AfterValidator(base_address)] | None = None
    token_file: SecretLinePath | None = None
    username: str | None = None
    password_file: SecretLinePath | None = None
    tls: Tls | None = None
    datacenter: str | None = None

    @classmethod
    def is_described_elsewhere(cls) -> bool:
        return bool(os.environ.get(ADDRESS))

    def relations(self, *, used: bool) -> Iterator[Problem]:
        """Variables that are used, for want of a key, and cannot be; keys that exclude each other."""
        if used:
            yield from self._environment()
        if (self.username is None) != (self.password_file is None):
            yield (), "username and password_file go together"
        if self.username is not None and self.token_file is not None:
            yield (), "either token_file or username with password_file"

    def _environment(self) -> Iterator[Problem]:
        unused = {ADDRESS} if self.address is not None else set()
        if self._has_credentials:
            unused |= {"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_AUTH"}
        for name, why in read_environment(os.environ).problems.items():
            if name not in unused:
                yield (), f"{name} {why}"

    @property
    def _has_credentials(self) -> bool:
        return self.token_file is not None or self.username is not None

    def access(self, environ: Mapping[str, str] = os.environ) -> Access:
        """What the section says, and the ``CONSUL_*`` variables where it says nothing. Credentials in the section are the
        only ones then; a section ``tls`` alone decides about verification.
        """
        given, own = read_environment(environ), self._has_credentials
        address = self.address or given.address
        wants_tls = self.tls is not None or given.ssl or (address or "").startswith("https://")
        return Access(
            address=address,
            token_file=self.token_file if own else given.token_file,
            username=self.username if own else given.username,
            password_file=self.password_file,
            tls=_tls(self.tls, given.tls) if wants_tls else None,
            datacenter=self.datacenter,
            token=None if own else given.token or "",
            password=None if own else given.password,
        )


def _tls(section: Tls | None, given: TlsFiles) -> TlsFiles:
    if section is None:
        return given
    ours = section.files()
    return TlsFiles(
        ca_file=ours.ca_file or given.ca_file,
        cert_file=ours.cert_file or given.cert_file,
        key_file=ours.key_file if ours.cert_file else given.key_file,
        server_name=ours.server_name or given.server_name,
        insecure_skip_verify=ours.insecure_skip_verify,
        ca_folder=None if ours.ca_file else given.ca_folder,
    )
