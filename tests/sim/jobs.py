"""The jobs of a fleet: where their targets come from, how often each is scraped, and what a list of them says.

The name of a target tells its job: ``n7.first.apps:9100`` is of the source ``first`` of the job ``apps``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from promring.core.fragment import ID_LABEL
from promring.runtime.http_client import Response

NAMES = ("nodes", "apps", "web", "disks")
SERVICE = NAMES[0]
"""The only job of a fleet with one."""


@dataclass
class Source:
    """``targets`` is the truth; ``mode``: empty, ``status 500``, ``hang``, ``cut``, ``empty`` or ``half``: of what it last
    told whoever asks, since half of a list that grew meanwhile is no doubtful answer.
    """

    targets: list[str]
    mode: str = ""
    told: dict[str, int] = field(default_factory=dict)
    """How many targets it last told everybody who asked, when it told all of them."""

    async def answer(self, who: str) -> Response:
        listed = self.targets
        match self.mode:
            case "status 500":
                return Response(500, {}, b"no")
            case "hang":
                await asyncio.sleep(3600)
            case "empty":
                listed = []
            case "half":
                listed = self.targets[: min(len(self.targets), self.told.get(who, len(self.targets))) // 2]
            case "":
                self.told[who] = len(listed)
        body = msgspec.json.encode([{"targets": [t]} for t in listed])
        return Response(200, {"content-type": "application/json"}, body[: len(body) // 2] if self.mode == "cut" else body)


@dataclass
class Job:
    """``replicas``: how many scrapers each target shall have."""

    name: str
    sources: dict[str, Source] = field(default_factory=dict)
    replicas: int = 1

    @classmethod
    def of(cls, name: str, sizes: Iterable[int], replicas: int = 1) -> Job:
        names = ("first", "second")
        sources = {s: Source(made(name, s, n)) for s, n in zip(names, sizes, strict=False)}
        return cls(name, sources, replicas)

    @property
    def targets(self) -> set[str]:
        return {t for source in self.sources.values() for t in source.targets}


def made(job: str, source: str, number: int) -> list[str]:
    """So many targets."""
    return [f"n{n}.{source}.{job}:9100" for n in range(number)]


@lru_cache(4096)
def job_of(target: str) -> str:
    return target.partition(":")[0].rpartition(".")[2]


class _Group(msgspec.Struct):
    targets: list[str]
    labels: dict[str, str] = {}


_groups = msgspec.json.Decoder(list[_Group]).decode


def ids_of(body: bytes) -> dict[str, str]:
    """Raises ValueError."""
    return {t: group.labels[ID_LABEL] for group in _groups(body) for t in group.targets}


@lru_cache(512)
def targets_of(body: bytes) -> tuple[str, ...]:
    return tuple(target for group in _groups(body) for target in group.targets)
