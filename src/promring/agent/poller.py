"""Long-polls the controllers for one slice and keeps the file true to it.

Promises: the file holds a whole slice that a controller decided, or what it held before; an older generation is refused,
across restarts too; when no controller answers the file stays; what was changed by hand is put back within ``wait_s``;
however fast a controller or a proxy answers, it is asked at most ``RATE_PER_S`` times a second after a burst of ``BURST``,
and less and less often while it answers a long poll at once with nothing new.
Flow: ``GET /sd/{service}/{scraper}?wait=`` at one controller until it fails, then at the next; ``delivery.envelope`` writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp

from promring import disk, regular, secretfile
from promring.agent.metrics import AgentMetrics
from promring.delivery.envelope import Envelope, RefusedError, held, install, parse_generation
from promring.httpclient import HttpError, Response, TlsFiles, new_session, request
from promring.log import Logger
from promring.rate import Bucket, backoff_s
from promring.redact import shown
from promring.threads import beside, to_the_end
from promring.unforeseen import Unforeseen, kept_alive

SLICE_BYTES_MAX = 512 * 1024 * 1024
WAIT_S = 30.0
RATE_PER_S, BURST = 2.0, 10
EARLY = 0.5
"""An answer that brings nothing new before this share of the wait is over is one that did not wait."""
EARLY_FIRST_S, EARLY_MOST_S = 1.0, 5.0
ANSWER_S = 10.0
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.25, 10.0
RELOAD_TIMEOUT_S, RELOAD_AGAIN_S = 5.0, 2.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """``controllers``: base URLs, the first is asked first. ``reload_url``: POSTed after each write."""

    controllers: Sequence[str]
    service: str
    scraper: str
    file: Path
    reload_url: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    wait_s: float = WAIT_S


class _NoSliceError(Exception):
    """This controller gave no slice to take; the text says why."""


class Poller:
    def __init__(self, settings: AgentSettings, metrics: AgentMetrics, log: Logger) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log.bind(srv_name=settings.service, scraper=settings.scraper)
        self._said: dict[str, str] = {}
        self._said_open = False
        self._reload_due = asyncio.Event()
        self._faults = Unforeseen("agent", self._log)
        self._bucket, self._early = Bucket(RATE_PER_S, BURST), 0
        self.has_slice = False
        """Whether the file holds a slice that is known to be whole."""

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            if self._settings.reload_url:
                group.create_task(kept_alive("agent reload", self._reload, self._log))

    async def _poll(self) -> None:
        settings, failures, at = self._settings, 0, 0
        etag = await self._etag_of_file()
        if self.has_slice:
            self._log.info("slice_kept", file=str(settings.file), note="until a controller says otherwise")
        async with new_session() as session:
            while True:
                controller = settings.controllers[at % len(settings.controllers)]
                await self._bucket.take()
                try:
                    etag = await self._asked(session, controller, etag)
                except Exception as error:  # the supervisor of this loop: the file stays, the next controller is asked
                    known = isinstance(error, _NoSliceError | OSError)
                    self._failed(controller, str(error) if known else self._faults.note(error))
                    failures, at, etag = failures + 1, at + 1, ""
                    if failures % len(settings.controllers) == 0:  # every one of them
                        rounds = failures // len(settings.controllers)
                        await asyncio.sleep(backoff_s(rounds, BACKOFF_FIRST_S, BACKOFF_MOST_S))
                        etag = await self._etag_of_file()
                    continue
                if self._said.pop(controller, None) is not None:
                    self._log.info("controller_answers_again", controller=controller)
                failures = 0

    async def _asked(self, session: aiohttp.ClientSession, controller: str, etag: str) -> str:
        """``_ask``, and a pause when a long poll that should have waited ended at once without anything new."""
        began = time.monotonic()
        new = await self._ask(session, controller, etag)
        early = bool(etag) and new == etag and time.monotonic() - began < self._settings.wait_s * EARLY
        self._early = self._early + 1 if early else 0
        if self._early > BURST:
            if self._early == BURST + 1:
                note = "it, or a proxy, does not wait: asked less often"
                self._log.warning("controller_answers_at_once", controller=controller, note=note)
            most_s = min(EARLY_MOST_S, self._settings.wait_s)
            await asyncio.sleep(backoff_s(self._early - BURST, EARLY_FIRST_S, most_s))
        return new

    async def _ask(self, session: aiohttp.ClientSession, controller: str, etag: str) -> str:
        """One long poll and what follows from it; the ETag of what the file holds then."""
        settings = self._settings
        path = f"/sd/{quote(settings.service, safe='')}/{quote(settings.scraper, safe=':')}"
        headers = {"Accept-Encoding": "gzip"} | ({"If-None-Match": etag} if etag else {})
        if settings.token_file is not None:
            try:
                headers["Authorization"] = f"Bearer {await secretfile.read_line(settings.token_file)}"
            except secretfile.SecretError as error:
                raise _NoSliceError(str(error)) from error
        url = f"{controller}{path}?wait={settings.wait_s:g}s" if etag else f"{controller}{path}"
        deadline = (settings.wait_s if etag else 0.0) + ANSWER_S
        try:
            answer = await request(
                session,
                "GET",
                url,
                timeout_s=deadline,
                headers=headers,
                tls=settings.tls,
                body_bytes_max=SLICE_BYTES_MAX,
            )
        except HttpError as error:
            raise _NoSliceError(str(error)) from error
        if answer.status == 304 and etag:
            self._metrics.answered("same")
            return await self._etag_of_file()  # somebody may have changed it meanwhile
        if answer.status != 200:
            raise _NoSliceError(f"status {answer.status}: {answer.text()}")
        await self._take(answer)
        return await self._etag_of_file()

    async def _take(self, answer: Response) -> None:
        """Install a slice. Raises ``_NoSliceError`` when the receiver refuses it, OSError when the disk does."""
        try:
            generation = parse_generation(answer.headers.get("x-promring-generation", ""))
        except ValueError as error:
            raise _NoSliceError(f"X-Promring-Generation: {error}") from error
        envelope = Envelope(answer.body, answer.headers.get("x-promring-sha256", ""), generation)
        try:
            written = await to_the_end(lambda: install(self._settings.file, envelope))
        except RefusedError as error:
            self._metrics.answered("refused")
            raise _NoSliceError(answer.clean(str(error))) from error
        self.has_slice = True
        self._say_open()
        self._metrics.answered("written" if written else "same")
        self._metrics.slice_is(generation)
        if written:
            self._log.info("slice_written", generation=str(generation), bytes=len(answer.body))
            self._reload_due.set()

    async def _etag_of_file(self) -> str:
        """The ETag under which controllers serve what the file holds; empty when it is not what was received."""

        def look() -> str:
            have = held(self._settings.file)
            if have is None or self._settings.file.is_symlink() or not self._settings.file.is_file():
                return ""
            envelope = Envelope(regular.read(self._settings.file, SLICE_BYTES_MAX), have[1], have[0])
            return f'"{have[1][:32]}"' if envelope.is_whole() else ""

        try:
            etag = await beside(look)
        except OSError:
            etag = ""
        self.has_slice = self.has_slice or bool(etag)
        return etag

    def _say_open(self) -> None:
        """Once: whoever may replace the slice says what is scraped."""
        folder = self._settings.file.parent
        if not self._said_open and disk.is_open_to_all(folder):
            self._said_open = True
            self._log.warning("folder_writable_by_all", path=str(folder), remedy="chmod o-w, or give it the sticky bit")

    def _failed(self, controller: str, why: str) -> None:
        self._metrics.answered("failed")
        if self._said.get(controller) != why:
            self._log.warning("controller_gives_no_slice", controller=controller, error=why, note="the file stays")
        self._said[controller] = why

    async def _reload(self) -> None:
        """After each write, and until it works: a scraper that is just starting has its list anyway."""
        url, said = str(self._settings.reload_url), ""
        async with new_session(keep_alive=False) as session:
            while True:
                await self._reload_due.wait()
                self._reload_due.clear()
                try:
                    answer = await request(session, "POST", url, timeout_s=RELOAD_TIMEOUT_S)
                    why = "" if 200 <= answer.status < 300 else f"status {answer.status}: {answer.text()}"
                except HttpError as error:
                    why = str(error)
                self._metrics.reloads.labels("failed" if why else "ok").inc()
                if why:
                    if why != said:
                        self._log.error("scraper_reload_failed", url=shown(url), error=why)
                    self._reload_due.set()
                    await asyncio.sleep(RELOAD_AGAIN_S)
                said = why
