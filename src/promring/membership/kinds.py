"""The kinds of membership: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.membership import ScraperSettings
from promring.membership.consul import ConsulScrapers
from promring.membership.dns import DnsScrapers
from promring.membership.file import FileScrapers
from promring.membership.kubernetes import KubernetesScrapers
from promring.membership.probe import ProbeScrapers

KINDS = table(
    ConsulScrapers,
    DnsScrapers,
    FileScrapers,
    KubernetesScrapers,
    ProbeScrapers,
)
Scrapers = Annotated[ScraperSettings, OneOf(KINDS)]
"""What ``scrapers`` chooses: exactly one kind."""
