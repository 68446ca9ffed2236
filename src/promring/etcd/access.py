"""The section ``etcd`` of a configuration: where etcd is, and how to be let in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from promring.config.http_client import Tls
from promring.config.kinds import Problem, Section
from promring.config.values import SecretLinePath
from promring.runtime.http_client import TlsFiles, parse_base

ENDPOINTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Access:
    """Base URLs of members of one cluster, and how to be let in. ``username`` None: without a name."""

    endpoints: tuple[str, ...]
    tls: TlsFiles | None = None
    username: str | None = None
    password_file: Path | None = None


def _endpoint(text: str) -> str:
    _, unix_socket = parse_base(text)
    if unix_socket is not None:
        raise ValueError("is not host:port or http(s)://host:port")
    return text


class EtcdSection(Section):
    """``endpoints``: ``host:port`` or ``http(s)://host:port`` of members of one cluster, the nearest first."""

    key = "etcd"
    missing = "needs the section `etcd:` with endpoints"

    endpoints: Annotated[
        list[Annotated[str, AfterValidator(_endpoint)]],
        Field(min_length=1, max_length=ENDPOINTS_MAX, default_factory=lambda: ["127.0.0.1:2379"]),
    ]
    tls: Tls | None = None
    username: str | None = None
    password_file: SecretLinePath | None = None

    def relations(self, *, used: bool) -> Iterator[Problem]:
        if (self.username is None) != (self.password_file is None):
            yield (), "username and password_file go together"
        if self.tls is not None and any(one.startswith("http://") for one in self.endpoints):
            yield ("endpoints",), "with tls every endpoint is https"

    def access(self) -> Access:
        """``https`` without a section ``tls`` is checked against the authorities that the system trusts."""
        urls = tuple(str(parse_base(one, tls=self.tls is not None)[0]) for one in self.endpoints)
        tls = self.tls.files() if self.tls is not None else TlsFiles()
        return Access(urls, tls, self.username, self.password_file)
