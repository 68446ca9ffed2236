"""The kinds of loads: one row each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from promring.config.kinds import OneOf, Table
from promring.loads import LoadSettings
from promring.loads.count import CountLoads

KINDS = Table(
    LoadSettings,
    {
        "count": "promring.loads.count:CountLoads",
        "series": "promring.loads.series:SeriesLoads",
        "promql": "promring.loads.promql:PromqlLoads",
    },
)
COUNT = CountLoads()


def _by_name(value: object) -> object:
    """A kind without keys may be said by its name alone."""
    return {value: {}} if isinstance(value, str) else value


AnyLoads = Annotated[LoadSettings, OneOf(KINDS), BeforeValidator(_by_name)]
"""What ``placement.loads`` chooses: a kind by its name, or exactly one kind with its keys."""
