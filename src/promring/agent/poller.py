"""Long-polls the controllers for one slice and keeps the file true to it.

Promises: the file holds a whole slice that a controller decided, or what it held before; an older one is refused as
``agent.fence`` says, across restarts too; when no controller answers the file stays; what was changed by hand is put back
within ``wait_s``; however fast a controller or a proxy answers, it is asked at most ``RATE_PER_S`` times a second after a
burst of ``BURST``, and less and less often while it answers a long poll at once with nothing new.
Flow: ``GET /sd/{service}/{scraper}?wait=`` at one controller until it fails, then at the next (``agent.asking``);
``delivery.envelope`` writes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from promring import disk, regular
from promring.agent.asking import SLICE_BYTES_MAX, AgentSettings, Asker, CutError, NoSliceError, asker
from promring.agent.fence import Fence
from promring.agent.metrics import AgentMetrics
from promring.delivery.envelope import Envelope, Note, RefusedError, install, noted, parse_follows, parse_generation
from promring.httpclient import HttpError, Response, new_session, request
from promring.log import Logger
from promring.model import Generation
from promring.rate import Bucket, backoff_s
from promring.redact import shown
from promring.threads import beside, to_the_end
from promring.unforeseen import Unforeseen, kept_alive

RATE_PER_S, BURST = 2.0, 10
EARLY = 0.5
"""An answer that brings nothing new before this share of the wait is over is one that did not wait."""
EARLY_FIRST_S, EARLY_MOST_S = 1.0, 5.0
BACKOFF_FIRST_S, BACKOFF_MOST_S, BACKOFF_DOUBT_S = 0.25, 10.0, 2.0
RELOAD_TIMEOUT_S, RELOAD_AGAIN_S = 5.0, 2.0


@dataclass(frozen=True, slots=True)
class _Have:
    """What the file holds: the ETag under which controllers serve it, empty when it is not what was received; its note."""

    etag: str = ""
    note: Note | None = None


class _RefusedError(NoSliceError):
    """The receiver does not take it."""


class Poller:
    def __init__(self, settings: AgentSettings, metrics: AgentMetrics, log: Logger) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log.bind(srv_name=settings.service, scraper=settings.scraper)
        self._said: dict[str, str] = {}
        self._said_open, self._said_cut = False, set[str]()
        self._reload_due = asyncio.Event()
        self._faults = Unforeseen("agent", self._log)
        self.fence = Fence()
        metrics.frozen.set_function(lambda: float(bool(self.fence.frozen())))
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
        settings, failures, at, have = self._settings, 0, 0, await self._look()
        if self.has_slice:
            self._log.info("slice_kept", file=str(settings.file), note="until a controller says otherwise")
        async with asker(settings) as asking:
            while True:
                controller = settings.controllers[at % len(settings.controllers)]
                await self._bucket.take()
                try:
                    have = await self._asked(asking, controller, have, again=failures > 0)
                except CutError as error:
                    at += 1
                    self._say_cut(controller, error.args[0])
                    continue
                except Exception as error:  # the supervisor of this loop: the file stays, the next controller is asked
                    known = isinstance(error, NoSliceError | OSError)
                    self._failed(controller, error if known else self._faults.note(error))
                    failures, at = failures + 1, at + 1
                    if failures % len(settings.controllers) == 0:  # every one of them
                        most_s = min(BACKOFF_MOST_S, BACKOFF_DOUBT_S) if self.fence.doubts else BACKOFF_MOST_S
                        await asyncio.sleep(backoff_s(failures // len(settings.controllers), BACKOFF_FIRST_S, most_s))
                    have = await self._look()
                    continue
                if self._said.pop(controller, None) is not None:
                    self._log.info("controller_answers_again", controller=controller)
                failures = 0

    async def _asked(self, asking: Asker, controller: str, have: _Have, *, again: bool) -> _Have:
        """One question and what follows from it; a pause when a long poll that should have waited ended at once without
        anything new. ``again``: the one before failed, so an answer is wanted at once.
        """
        began, waits = time.monotonic(), bool(have.etag) and not again
        answer = await asking.ask(controller, have.etag, waits=waits, fresh=again)
        if answer.status == 304:
            self._metrics.answered("same")
            self.fence.saw(_named(answer, have.etag), have.note)
        else:
            await self._take(answer, have)
        new = await self._look()  # somebody may have changed it meanwhile
        wait_s = asking.wait_s(controller)
        early = waits and new.etag == have.etag and time.monotonic() - began < wait_s * EARLY
        self._early = self._early + 1 if early else 0
        if self._early > BURST:
            if self._early == BURST + 1:
                note = "it, or a proxy, does not wait: asked less often"
                self._log.warning("controller_answers_at_once", controller=controller, note=note)
            await asyncio.sleep(backoff_s(self._early - BURST, EARLY_FIRST_S, min(EARLY_MOST_S, wait_s)))
        return new

    async def _take(self, answer: Response, have: _Have) -> None:
        """Install a slice. Raises ``NoSliceError`` when the receiver refuses it, OSError when the disk does."""
        offer = _offered(answer)
        rule = self.fence.rule()
        try:
            written = await to_the_end(lambda: install(self._settings.file, offer, rule=rule))
        except RefusedError as error:
            self._metrics.answered("refused")
            why = answer.clean(str(error))
            self.fence.refused(offer.note, have.note, why)
            raise _RefusedError(why) from error
        self.has_slice = True
        self._say_open()
        self._metrics.answered("written" if written else "same")
        self.fence.saw(offer.note, have.note)
        if written:
            self._log.info("slice_written", generation=str(offer.generation), bytes=len(answer.body))
            self._reload_due.set()

    async def _look(self) -> _Have:
        """At the file and its note."""

        def look() -> _Have:
            note, file = noted(self._settings.file), self._settings.file
            if note is None or file.is_symlink() or not file.is_file():
                return _Have("", note)
            envelope = Envelope(regular.read(file, SLICE_BYTES_MAX), note.sha256, note.generation)
            return _Have(f'"{note.sha256[:32]}"' if envelope.is_whole() else "", note)

        try:
            have = await beside(look)
        except OSError:
            have = _Have()
        self.has_slice = self.has_slice or bool(have.etag)
        if have.note is not None:
            self._metrics.slice_is(have.note.generation)
        return have

    def _say_open(self) -> None:
        """Once: whoever may replace the slice says what is scraped."""
        folder = self._settings.file.parent
        if not self._said_open and disk.is_open_to_all(folder):
            self._said_open = True
            self._log.warning("folder_writable_by_all", path=str(folder), remedy="chmod o-w, or give it the sticky bit")

    def unready(self) -> str:
        """Why the file is not what a controller wants; empty when it is, or when there is nobody to say so."""
        return self.fence.frozen() if self.has_slice else "no slice yet"

    def _say_cut(self, controller: str, after_s: float) -> None:
        if controller not in self._said_cut:
            self._said_cut.add(controller)
            note = "a proxy between, or a restart: the next ones are shorter"
            self._log.info("long_poll_cut", controller=controller, after_s=round(after_s, 1), note=note)

    def _failed(self, controller: str, error: Exception | str) -> None:
        why = str(error)
        if not isinstance(error, _RefusedError):
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


def _offered(answer: Response) -> Envelope:
    """The slice of a 200. Raises ``NoSliceError`` when headers are missing or are nonsense."""
    if "x-promring-generation" not in answer.headers:
        raise NoSliceError("no X-Promring-Generation in the answer: not promring's, or a proxy leaves headers out")
    try:
        generation = parse_generation(answer.headers["x-promring-generation"])
        follows = parse_follows(answer.headers.get("x-promring-follows", ""), generation)
    except ValueError as error:
        raise NoSliceError(f"X-Promring-Generation: {error}") from error
    return Envelope(answer.body, answer.headers.get("x-promring-sha256", ""), generation, follows)


def _named(answer: Response, etag: str) -> Note:
    """What a 304 speaks of; as old as can be when a proxy left it out."""
    try:
        return _offered(answer).note
    except NoSliceError:
        return Note(Generation(0, 0), etag)
