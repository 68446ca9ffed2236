"""The kinds of membership: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, Table
from promring.membership import ScraperSettings

KINDS = Table(
    ScraperSettings,
    {
        "consul": "promring.membership.consul:ConsulScrapers",
        "dns": "promring.membership.dns:DnsScrapers",
        "file": "promring.membership.file:FileScrapers",
        "kubernetes": "promring.membership.kubernetes:KubernetesScrapers",
        "probe": "promring.membership.probe:ProbeScrapers",
    },
)
Scrapers = Annotated[ScraperSettings, OneOf(KINDS)]
"""What ``scrapers`` chooses: exactly one kind."""
