"""Slices by Ansible, the original program's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promring.delivery import Outcome
from promring.log import Logger
from promring.model import Slice


@dataclass(frozen=True, slots=True)
class AnsibleSettings:
    """``playbook`` None: the one that comes with promring. ``timeout_s`` is for one push to all hosts together."""

    playbook: Path | None = None
    dest_sd_file_name: str = "file_sd_by_promring.json"
    dest_dir: str = "/opt/app/prometheus/sd"
    service_port: int | None = None
    reload: bool = False
    user: str | None = None
    identity_file: Path | None = None
    extra_vars_file: Path | None = None
    timeout_s: float = 10.0


class AnsibleDelivery:
    means = "ansible"

    def __init__(self, settings: AnsibleSettings, log: Logger) -> None:
        self._settings, self._log = settings, log

    async def deliver(self, slices: Sequence[Slice]) -> list[Outcome]:
        raise NotImplementedError
