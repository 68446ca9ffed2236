"""Options that are spans of time."""

from __future__ import annotations

import click

from promring.runtime.duration import parse_duration


class Seconds(click.ParamType[float]):
    """``10m``, ``30s``: a span of time."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
