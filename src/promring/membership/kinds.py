"""The kinds of membership: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.membership import ScraperSettings
from promring.membership.consul import ConsulScrapers
from promring.membership.probe import ProbeScrapers

KINDS = table(
    ConsulScrapers,
    ProbeScrapers,
)
Scrapers = Annotated[ScraperSettings, OneOf(KINDS, planned=("dns", "file"))]
"""What ``scrapers`` chooses: exactly one kind."""
