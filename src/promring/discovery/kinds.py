"""The kinds of sources: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.discovery import SourceSettings
from promring.discovery.consul import ConsulTargets
from promring.discovery.dns import DnsTargets
from promring.discovery.file import FileTargets
from promring.discovery.http import HttpTargets
from promring.discovery.prometheus import PrometheusTargets
from promring.discovery.python import PythonTargets

KINDS = table(
    ConsulTargets,
    DnsTargets,
    FileTargets,
    HttpTargets,
    PrometheusTargets,
    PythonTargets,
)
Targets = Annotated[SourceSettings, OneOf(KINDS)]
"""One entry of ``targets``: exactly one kind."""
