"""The kinds of loads: one row each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from promring.config.kinds import OneOf, table
from promring.loads import LoadSettings
from promring.loads.count import CountLoads
from promring.loads.promql import PromqlLoads
from promring.loads.series import SeriesLoads

KINDS = table(
    CountLoads,
    SeriesLoads,
    PromqlLoads,
)
COUNT = CountLoads()


def _by_name(value: object) -> object:
    """A kind without keys may be said by its name alone."""
    return {value: {}} if isinstance(value, str) else value


AnyLoads = Annotated[LoadSettings, OneOf(KINDS), BeforeValidator(_by_name)]
"""What ``placement.loads`` chooses: a kind by its name, or exactly one kind with its keys."""
