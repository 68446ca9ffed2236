"""The kinds of sources: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.discovery import SourceSettings
from promring.discovery.file import FileTargets
from promring.discovery.http import HttpTargets
from promring.discovery.python import PythonTargets

KINDS = table(
    FileTargets,
    HttpTargets,
    PythonTargets,
)
Targets = Annotated[SourceSettings, OneOf(KINDS, planned=("consul", "dns", "prometheus"))]
"""One entry of ``targets``: exactly one kind."""
