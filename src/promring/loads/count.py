"""``loads: count``: each target counts 1, and nobody is asked."""

from __future__ import annotations

from promring.loads import LoadContext, LoadSettings


class CountLoads(LoadSettings):
    kind = "count"

    @property
    def learns(self) -> bool:
        return False

    def source(self, context: LoadContext) -> None:
        return None
