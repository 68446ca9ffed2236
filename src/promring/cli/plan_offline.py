"""The plan from a configuration alone: reads its facts once. Loaded by ``promring plan`` where no controller is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from promring import log
from promring.build import policy_of
from promring.cli import options
from promring.core.preview import preview
from promring.model import PromringError
from promring.once import read_facts


def planned(config_file: Path, service: str | None, without: Sequence[str], joining: Sequence[str]) -> dict[str, Any]:
    """The plan as plain values. Ends the command with a message when the facts, or the plan, cannot be had."""
    settings = options.load_or_exit(config_file)
    log.configure("error")
    found = {s.name: s for s in settings.shard_services}
    if service is None and len(found) > 1:
        raise click.UsageError(f"--service: which one? There is {', '.join(found)}")
    if service is not None and service not in found:
        raise click.UsageError(f"--service: no shard service {service!r}; there is {', '.join(found)}")
    chosen = found[service] if service else settings.shard_services[0]
    try:
        new = [chosen.joining(text) for text in joining]
        members, pool = asyncio.run(read_facts(settings, chosen, config_file, log.get()))
        described = preview(pool, members, policy_of(chosen), without=without, joining=new).describe()
    except (PromringError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    return {"service": chosen.name, "decided_by": "configuration", **described}
