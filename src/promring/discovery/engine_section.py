"""The section ``engine`` of a configuration: a Prometheus that promring runs, so that it discovers and scrapes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from promring.config.kinds import Section
from promring.config.values import AbsolutePath, Size

MEMORY_LEAST = 256 * 1024**2
"""Below this a Prometheus without a target hardly starts."""


class EngineSection(Section):
    """``config_file``: a configuration of Prometheus; ``program``: default ``prometheus`` in ``PATH``; ``memory_max``: bytes
    beyond which the kernel gives it no memory, so that it ends and is started again; default: no such limit.
    """

    key = "engine"
    missing = "needs a url, or the section `engine:` with the config_file of a Prometheus that promring runs"

    config_file: AbsolutePath
    program: AbsolutePath | None = None
    memory_max: Annotated[Size, Field(ge=MEMORY_LEAST)] | None = None
