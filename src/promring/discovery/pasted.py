"""Blocks of Prometheus, pasted under ``targets`` as they stand in a job of ``prometheus.yml``: same keys, defaults, units.

A list of blocks is one entry of ``targets``; each block is a source of its own, but static ones, which are one together.
What needs a Prometheus (``kubernetes_sd_configs`` and the like) is refused by its name, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from promring.config.http_client import HttpConfig, SecretText, basic
from promring.config.kinds import Problem
from promring.consul.access import Access, base_address
from promring.discovery import Source, SourceContext, SourceSettings
from promring.discovery.consul_query import ConsulQuery
from promring.discovery.dns import DnsTargets
from promring.discovery.file import FileTargets
from promring.discovery.http import HttpQuery
from promring.discovery.list_rules import ListRules
from promring.discovery.pasted_keys import Blocks
from promring.model import TargetPool
from promring.runtime.tls import TlsFiles

if TYPE_CHECKING:
    from promring.discovery.consul_source import ConsulSource  # numpy, which the settings need not

STATIC_CONFIRMED_S = 60.0


class _Each(Blocks):
    """Each block is a source of its own."""

    def source(self, context: SourceContext) -> Source:
        raise TypeError(f"{self.kind} is made of its parts")


class ConsulSdConfig(ConsulQuery, HttpConfig):
    """A block of ``consul_sd_configs``. ``server``: host and port; ``username`` and ``password``: an older way to say
    ``basic_auth``.
    """

    kind = "consul_sd_config"

    server: str = "localhost:8500"
    scheme: Literal["http", "https"] = "http"
    path_prefix: str = ""
    token: SecretText | None = None
    datacenter: str = ""
    username: str = ""
    password: SecretText | None = None

    @property
    def in_datacenters(self) -> Sequence[str]:
        return [self.datacenter] if self.datacenter else ()

    @property
    def source_name(self) -> str:
        chosen = [*(f"tag={tag}" for tag in self.tags), *(f"dc={one}" for one in self.in_datacenters)]
        return f"consul:{self.server}/{','.join([*(self.services or ['*']), *chosen])}"

    def relations(self) -> Iterator[Problem]:
        if "://" in self.server:
            yield ("server",), "is host:port; http or https is the key scheme"
        else:
            try:
                base_address(f"{self.scheme}://{self.server}")
            except ValueError as error:
                yield ("server",), f"{error}"
        if self.token is not None and self.authorization is not None:
            yield ("token",), "either token or authorization"
        if (self.username or self.password is not None) and (self.basic_auth or self.authorization):
            yield ("username",), "either username and password, or basic_auth, or authorization"

    def source(self, context: SourceContext) -> ConsulSource:
        from promring.discovery.consul_source import ConsulSource

        access = Access(
            f"{self.scheme}://{self.server}",
            tls=self.tls_files or (TlsFiles() if self.scheme == "https" else None),
            path_prefix=f"/{self.path_prefix.strip('/')}" if self.path_prefix.strip("/") else "",
            token=self.token.reveal() if self.token else None,
            http=self,
        )
        return ConsulSource(access, self, rules=ListRules(self.trusted, context.legacy_names))

    async def headers(self) -> dict[str, str]:
        found = await super().headers()
        if self.username:
            found["Authorization"] = basic(self.username, self.password.reveal() if self.password else "")
        return found


class HttpSdConfig(HttpQuery):
    """A block of ``http_sd_configs``. The time-out is the interval, as with Prometheus."""

    kind = "http_sd_config"

    @property
    def timeout_s(self) -> float:
        return self.refresh_interval


class ConsulSdConfigs(_Each):
    """``consul_sd_configs`` of a job."""

    kind = "consul_sd_configs"
    block = ConsulSdConfig


class DnsSdConfigs(_Each):
    """``dns_sd_configs`` of a job."""

    kind = "dns_sd_configs"
    block = DnsTargets


class FileSdConfigs(_Each):
    """``file_sd_configs`` of a job."""

    kind = "file_sd_configs"
    block = FileTargets


class HttpSdConfigs(_Each):
    """``http_sd_configs`` of a job."""

    kind = "http_sd_configs"
    block = HttpSdConfig


# --- static_configs --------------------------------------------------------------------------------------------------


class StaticConfig(SourceSettings):
    """A group of ``static_configs``."""

    kind = "static_config"

    targets: list[str] = Field(default=[])
    labels: dict[str, str] = Field(default={})

    @property
    def source_name(self) -> str:
        return "static"

    def source(self, context: SourceContext) -> StaticSource:
        return StaticSource([self], ListRules(self.trusted, context.legacy_names))


class StaticConfigs(Blocks):
    """``static_configs`` of a job: one source."""

    kind = "static_configs"
    block = StaticConfig

    @property
    def parts(self) -> Sequence[SourceSettings]:
        return (self,)

    @property
    def source_name(self) -> str:
        return "static"

    def source(self, context: SourceContext) -> StaticSource:
        groups = [block for block in self.blocks if isinstance(block, StaticConfig)]
        return StaticSource(groups, ListRules(self.trusted, context.legacy_names))


class StaticSource:
    """Targets that stand in the configuration. Asked again and again, so that what a reload took away is confirmed."""

    interval_s = STATIC_CONFIRMED_S

    def __init__(self, groups: Sequence[StaticConfig], rules: ListRules) -> None:
        self._groups, self._rules = groups, rules
        self._pool: TargetPool | None = None

    async def fetch(self) -> TargetPool:
        """Raises ``DiscoveryError``."""
        from promring.discovery.groups import read_pool
        from promring.discovery.json_list import Group

        if self._pool is None:
            listed = (Group(list(one.targets), dict(one.labels)) for one in self._groups)
            self._pool = read_pool(listed, "static_configs", rules=self._rules)
        return self._pool
