"""Slices over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promring.delivery import Outcome
from promring.log import Logger
from promring.model import Slice


@dataclass(frozen=True, slots=True)
class SshSettings:
    """``host`` and ``path`` are templates; ``timeout_s`` is for one host, from connecting to the rename."""

    host: str
    port: int
    user: str
    path: str
    identity_file: Path
    known_hosts: Path
    timeout_s: float = 5.0


class SshDelivery:
    means = "ssh"

    def __init__(self, settings: SshSettings, log: Logger) -> None:
        self._settings, self._log = settings, log

    async def deliver(self, slices: Sequence[Slice]) -> list[Outcome]:
        raise NotImplementedError
