"""A Prometheus, or a vmagent, on loopback that scrapes nothing, and what it says its targets are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from promring.demo.process import Process, StartError, free_port
from promring.runtime.disk import install
from promring.runtime.http_client import HttpError, request

START_S = 60.0
TARGETS_BYTES_MAX = 1024**3
SETTLED_S = 6.0
"""Discoveries hand their targets on every 5 s."""
UNWATCHED = "Error adding file watcher"
"""Prometheus goes on without the files then."""
LIMIT = "are there inotify instances left (sysctl fs.inotify.max_user_instances)?"


class Seen(NamedTuple):
    """A target as it would be scraped."""

    url: str
    labels: tuple[tuple[str, str], ...]


Targets = dict[str, Counter[Seen]]
"""By job."""


class _Active(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    discovered_labels: dict[str, str]
    scrape_pool: str
    scrape_url: str


class _Data(msgspec.Struct, rename="camel"):
    active_targets: list[_Active] = []
    dropped_targets: list[msgspec.Raw] = []


class _Answer(msgspec.Struct):
    data: _Data


@asynccontextmanager
async def prometheus(program: Path, folder: Path, config: str) -> AsyncIterator[str]:
    """Runs in ``folder``, which has its ``prometheus.yml`` then. Gives its URL. Raises ``StartError``."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn", f"--storage.tsdb.path={folder / 'data'}"]
    async with _running([program, *options, f"--web.listen-address={address}"], folder, config) as process:
        yield await _ready(process, f"http://{address}", "/-/ready")


@asynccontextmanager
async def vmagent(program: Path, folder: Path, config: str) -> AsyncIterator[str]:
    """As ``prometheus``."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"-promscrape.config={folder / 'prometheus.yml'}", "-loggerLevel=WARN", f"-httpListenAddr={address}"]
    options += ["-remoteWrite.url=http://127.0.0.1:1/", f"-remoteWrite.tmpDataPath={folder / 'data'}"]
    async with _running([program, *options], folder, config) as process:
        yield await _ready(process, f"http://{address}", "/health")


@asynccontextmanager
async def _running(arguments: Sequence[str | Path], folder: Path, config: str) -> AsyncIterator[Process]:
    install(folder / "prometheus.yml", config.encode(), mode=0o600)
    process = Process(arguments, folder / "log", {"GOMAXPROCS": "2"})
    await process.start()
    try:
        yield process
    finally:
        await process.kill()
    if UNWATCHED in process.log_file.read_text(errors="replace"):
        name = Path(process.arguments[0]).name
        raise StartError(f"{name} could not watch its files, so it listed none of their targets: {LIMIT}")


async def _ready(process: Process, url: str, path: str) -> str:
    """``url``, when it answers there. Raises ``StartError``."""

    async def answers() -> bool:
        try:
            return (await request(session, "GET", f"{url}{path}", timeout_s=2)).status == 200
        except HttpError:
            return False

    async with aiohttp.ClientSession() as session:
        await process.until(answers, Path(process.arguments[0]).name, START_S)
    return url


async def settled_targets(
    urls: Sequence[str],
    enough: Callable[[Sequence[Targets]], bool] = lambda _: False,
    *,
    settled_s: float = SETTLED_S,
    discovered: bool = False,
) -> list[Targets]:
    """The targets of servers that were just started: once they are ``enough``, or have not changed for ``settled_s`` in a
    time that discoveries need. ``discovered``: with the labels before relabelling. Raises ``StartError``.
    """
    began = changed = time.monotonic()
    newest: list[tuple[Targets, int]] = []
    async with aiohttp.ClientSession() as session:
        while True:
            found = list(await asyncio.gather(*(_targets(session, url, discovered=discovered) for url in urls)))
            now = time.monotonic()
            if found != newest:
                newest, changed = found, now
            targets = [one for one, _ in found]
            if enough(targets) or (now - changed >= settled_s and now - began >= 2 * settled_s):
                return targets
            if now - began > START_S:
                raise StartError(f"the targets of {', '.join(urls)} do not settle within {START_S:g} s")
            await asyncio.sleep(0.5)


async def _targets(session: aiohttp.ClientSession, url: str, *, discovered: bool) -> tuple[Targets, int]:
    """With the number of those that relabelling dropped. Raises ``StartError``."""
    try:
        answer = await request(session, "GET", f"{url}/api/v1/targets", timeout_s=START_S, body_bytes_max=TARGETS_BYTES_MAX)
    except HttpError as error:
        raise StartError(f"{url}: {error}") from error
    return targets_in(answer.body, url, discovered=discovered)


def targets_in(body: bytes, url: str, *, discovered: bool) -> tuple[Targets, int]:
    """From what a server says of its targets: as ``settled_targets``, with the number of those that relabelling dropped.
    Raises ``StartError``.
    """
    try:
        data = msgspec.json.decode(body, type=_Answer).data
    except (ValueError, RecursionError) as error:
        raise StartError(f"{url}: its answer is no list of targets: {error}") from error
    found: Targets = {}
    for target in data.active_targets:
        labels = target.discovered_labels if discovered else target.labels
        seen = Seen(target.scrape_url, tuple(sorted(labels.items())))
        found.setdefault(target.scrape_pool, Counter())[seen] += 1
    return found, len(data.dropped_targets)
