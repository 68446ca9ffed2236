"""The section ``engine`` of a configuration: a Prometheus that promring runs, so that it discovers and scrapes nothing."""

from __future__ import annotations

from promring.config.kinds import Section
from promring.config.values import AbsolutePath


class EngineSection(Section):
    """``config_file``: a configuration of Prometheus; ``program``: default ``prometheus`` in ``PATH``."""

    key = "engine"
    missing = "needs a url, or the section `engine:` with the config_file of a Prometheus that promring runs"

    config_file: AbsolutePath
    program: AbsolutePath | None = None
