"""The kinds of sources: one row each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from promring.config.kinds import OneOf, Table
from promring.config.values import ENTRIES_MAX
from promring.discovery import SourceSettings
from promring.discovery.pasted_keys import PASTED, hint
from promring.discovery.pasted_keys import is_text as is_text

KINDS = Table(
    SourceSettings,
    {
        "consul": "promring.discovery.consul:ConsulTargets",
        "dns": "promring.discovery.dns:DnsTargets",
        "file": "promring.discovery.file:FileTargets",
        "http": "promring.discovery.http:HttpTargets",
        "prometheus": "promring.discovery.prometheus:PrometheusTargets",
        "python": "promring.discovery.python:PythonTargets",
        **{key: f"promring.discovery.pasted:{name}" for key, name in PASTED.items()},
    },
)
Targets = Annotated[SourceSettings, OneOf(KINDS, hint=hint)]
"""One entry of ``targets``: exactly one kind."""


def _entries(value: object) -> object:
    """Blocks of Prometheus may be pasted as they stand, without the dash of a list."""
    return [{key: blocks} for key, blocks in value.items()] if isinstance(value, dict) else value


EveryTargets = Annotated[list[Targets], BeforeValidator(_entries), Field(min_length=1, max_length=ENTRIES_MAX)]
"""All of ``targets``, in order of precedence."""
