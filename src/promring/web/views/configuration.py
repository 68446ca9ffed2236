"""The configuration in force, as an answer."""

from __future__ import annotations

from collections.abc import Sequence

from promring.config.effective import effective
from promring.config.load import Loaded
from promring.web.answers.status import EffectiveConfiguration, Setting


def configuration(loaded: Loaded, taken_at: float | None, flags: Sequence[Setting] = ()) -> EffectiveConfiguration:
    """Blocks for as long as there are thousands of services."""
    settings = [
        Setting(one.key, one.value, "default" if one.line is None else "file", one.line)
        for one in effective(loaded.settings, loaded.document)
    ]
    return EffectiveConfiguration(loaded.name, taken_at, list(flags), settings)
