"""The kinds of sources: one row each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from promring.config.kinds import OneOf, table
from promring.config.values import ENTRIES_MAX
from promring.discovery import SourceSettings
from promring.discovery.consul import ConsulTargets
from promring.discovery.dns import DnsTargets
from promring.discovery.file import FileTargets
from promring.discovery.http import HttpTargets
from promring.discovery.pasted import PASTED, hint
from promring.discovery.pasted import is_text as is_text
from promring.discovery.prometheus import PrometheusTargets
from promring.discovery.python import PythonTargets

KINDS = table(
    ConsulTargets,
    DnsTargets,
    FileTargets,
    HttpTargets,
    PrometheusTargets,
    PythonTargets,
    *PASTED,
)
Targets = Annotated[SourceSettings, OneOf(KINDS, hint=hint)]
"""One entry of ``targets``: exactly one kind."""


def _entries(value: object) -> object:
    """Blocks of Prometheus may be pasted as they stand, without the dash of a list."""
    return [{key: blocks} for key, blocks in value.items()] if isinstance(value, dict) else value


EveryTargets = Annotated[list[Targets], BeforeValidator(_entries), Field(min_length=1, max_length=ENTRIES_MAX)]
"""All of ``targets``, in order of precedence."""
