"""Prometheus' own discovery packages (``scripts/build-sdoracle``), asked what they make of discovery blocks and of lists."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from promring.demo.process import Process

Targets = frozenset[frozenset[tuple[str, str]]]
"""The labels of each target as it is discovered, ``__address__`` among them, without empty ones."""


def as_targets(labels: Sequence[Mapping[str, str]]) -> Targets:
    return frozenset(frozenset((name, value) for name, value in one.items() if value) for one in labels)


class SdOracle(Process):
    """``jobs``: by name, blocks as in ``prometheus.yml``: ``{"consul_sd_configs": [...]}``."""

    def __init__(self, program: Path, folder: Path, jobs: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "jobs.json"  # JSON is YAML
        config.write_bytes(msgspec.json.encode(jobs))
        super().__init__([program, config], folder / "sdoracle.log", {"GOMAXPROCS": "2"})

    def targets(self) -> dict[str, Targets]:
        """What it handed on last, by job."""
        lines = [line for line in self.log_file.read_bytes().splitlines() if line.startswith(b"{")]
        found = msgspec.json.decode(lines[-1], type=dict[str, list[dict[str, str]]]) if lines else {}
        return {job: as_targets(labels) for job, labels in found.items()}


class Verdict(msgspec.Struct, frozen=True):
    targets: list[dict[str, str]]
    error: str = ""


class ListOracle:
    """Reads lists as a ``file_sd_configs`` does. A context manager: its program ends with it."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program, "lists"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> ListOracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._process.terminate()
        self._process.communicate()

    def read(self, ending: str, text: bytes) -> Targets | str:
        """``ending``: ``yml`` or ``json``. A text: why it is refused."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        into.write(f"{ending} ".encode() + b64encode(text) + b"\n")
        into.flush()
        found = msgspec.json.decode(out.readline(), type=Verdict)
        return found.error or as_targets(found.targets)
