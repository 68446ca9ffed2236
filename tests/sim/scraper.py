"""Scrapers and the sources of their targets: what they answer, and what a scraper does with the file beside it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from promring.core.pool import ID_LABEL
from promring.httpclient import Response
from promring.model import Generation
from tests.sim.faketime import WALL_S, Process

SERVICE = "nodes"
PORT = 9090


@dataclass(eq=False)
class Scraper:
    """``hidden``: it lives, but Consul's checks do not reach it. ``disk``: empty, ``full``, ``cut`` (half of the bytes
    arrive) or ``stalls`` (they arrive ``stall_s`` later, whatever became of the sender).
    """

    host: str
    file: Path
    up: bool = True
    frozen: bool = False
    hidden: bool = False
    disk: str = ""
    stall_s: float = 0.0
    started_at: float = 0.0
    in_file: dict[str, float] = field(default_factory=dict)
    """Targets in its file, and since when."""
    loaded: frozenset[str] = frozenset()
    ids: dict[str, str] = field(default_factory=dict)
    """The label that holds the id of each of them."""
    scraped_at: float = 0.0
    """When it last scraped all that it has."""
    scraped: set[str] = field(default_factory=set)
    accepted: tuple[Generation, str] = (Generation(0, 0), "")
    term: int = 0
    pulls: bool = False
    """Whether an agent keeps its file."""
    maker: Process | None = None
    """The controller that made its slice, and since when it is that one."""
    maker_since: float = 0.0
    _read: object = None

    @property
    def id(self) -> str:
        return f"{self.host}:{PORT}"

    @property
    def answers(self) -> bool:
        return self.up and not self.frozen

    @property
    def process(self) -> Process:
        return Process(self.host)

    def active_targets(self) -> bytes:
        active = [
            {
                "discoveredLabels": {"__address__": t, ID_LABEL: self.ids[t]},
                "labels": {"instance": t},
                "scrapePool": SERVICE,
                "lastScrape": _text(self.scraped_at) if t in self.scraped else "0001-01-01T00:00:00Z",
                "health": "up" if t in self.scraped else "unknown",
                "scrapeInterval": "1s",
            }
            for t in sorted(self.loaded)
        ]
        return json.dumps({"status": "success", "data": {"activeTargets": active}}).encode()

    def restart(self, now: float) -> None:
        self.up, self.frozen, self.started_at = True, False, now
        self.loaded, self._read = frozenset(), None
        self.scraped = set()

    def look(self, now: float) -> set[str]:
        """Once a second: scrape what was loaded, load the file when it changed. What it scrapes no more."""
        self.scraped, self.scraped_at = set(self.loaded), now
        try:
            stat = self.file.stat()
        except FileNotFoundError:
            return set()
        if self._read == (signature := (stat.st_ino, stat.st_mtime_ns, stat.st_size)):
            return set()
        self._read = signature
        try:
            self.ids = ids_of(self.file.read_bytes())
            self.loaded = frozenset(self.ids)
        except ValueError:
            return set()  # as Prometheus: it goes on with what it has
        dropped = self.scraped - self.loaded
        self.scraped -= dropped
        return dropped


@dataclass
class Source:
    """``targets`` is the truth; ``mode``: empty, ``status 500``, ``hang``, ``cut``, ``empty`` or ``half``."""

    targets: list[str]
    mode: str = ""

    async def answer(self) -> Response:
        listed = self.targets
        match self.mode:
            case "status 500":
                return Response(500, {}, b"no")
            case "hang":
                await asyncio.sleep(3600)
            case "empty":
                listed = []
            case "half":
                listed = self.targets[: len(self.targets) // 2]
        body = json.dumps([{"targets": [t]} for t in listed]).encode()
        return Response(200, {"content-type": "application/json"}, body[: len(body) // 2] if self.mode == "cut" else body)


def _text(now: float) -> str:
    return datetime.fromtimestamp(WALL_S + now, tz=UTC).isoformat()


def ids_of(body: bytes) -> dict[str, str]:
    return {t: group["labels"][ID_LABEL] for group in json.loads(body) for t in group["targets"]}


def targets_of(body: bytes) -> list[str]:
    return [target for group in json.loads(body) for target in group["targets"]]
