"""Targets from Consul, as promring's own kind: with the section ``consul``, or an address and credentials of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from promring.config.http_client import Tls
from promring.config.kinds import Problem, Section
from promring.config.values import SecretLinePath
from promring.consul.access import Access, ConsulSection, base_address
from promring.discovery import SourceContext
from promring.discovery.consul_query import ConsulQuery, Texts
from promring.discovery.list_rules import ListRules

if TYPE_CHECKING:
    from promring.discovery.consul_source import ConsulSource


class ConsulTargets(ConsulQuery):
    """``datacenter`` or ``datacenters``: default the agent's own. ``port``: instead of the instances' own. ``address``: of
    another agent than that of the section ``consul``, from which nothing else is taken then.
    """

    kind = "consul"
    section = ConsulSection

    datacenter: str | None = None
    datacenters: Texts = Field(default=[])
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    address: Annotated[str, AfterValidator(base_address)] | None = None
    token_file: SecretLinePath | None = None
    tls: Tls | None = None

    @property
    def needs(self) -> type[Section] | None:
        return ConsulSection if self.address is None else None

    @property
    def in_datacenters(self) -> Sequence[str]:
        return [self.datacenter] if self.datacenter else self.datacenters

    @property
    def instead_of_port(self) -> int | None:
        return self.port

    @property
    def source_name(self) -> str:
        chosen = [*(f"tag={tag}" for tag in self.tags), *(f"dc={one}" for one in self.in_datacenters)]
        return f"consul:{','.join([*(self.services or ['*']), *chosen])}"

    def relations(self) -> Iterator[Problem]:
        if self.datacenter and self.datacenters:
            yield ("datacenters",), "either datacenter or datacenters"

    def source(self, context: SourceContext) -> ConsulSource:
        from promring.discovery.consul_source import ConsulSource  # numpy, which the settings need not

        return ConsulSource(self.access(context), self, rules=ListRules(self.trusted, context.legacy_names))

    def access(self, context: SourceContext) -> Access:
        tls = self.tls.files() if self.tls else None
        if self.address is not None:
            return Access(self.address, token_file=self.token_file, tls=tls)
        shared = context.sections.get(ConsulSection).access()
        if self.token_file is not None:
            shared = replace(
                shared, token_file=self.token_file, token=None, username=None, password_file=None, password=None
            )
        return replace(shared, datacenter=None, tls=tls or shared.tls)
