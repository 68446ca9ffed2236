"""Long-polls the controllers for all slices of a scraper and keeps a file of each true to it.

Promises:

- Each file holds a whole slice that a controller decided, or what the file held before.
- An older slice is refused as ``agent.fence`` says, also after a restart.
- When no controller answers, or no controller has a slice for a file any more, the file stays.
- A file that was changed by hand is seen within ``LOOK_S`` and put back. Trouble with one file does not stop the others.
- Controllers are asked at most ``RATE_PER_S`` times a second after a burst of ``BURST``, however fast they or a proxy
  answer, and less and less often while a long poll is answered at once with nothing new.

Flow: ``GET /sd/{scraper}?wait=``, one at a time, at one controller until it fails or offers what is not taken, then at the
next (``agent.asking``); ``delivery.bundle`` opens the answer, ``agent.slicefile`` writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from promring.agent.asking import SLICE_BYTES_MAX, AgentSettings, Asker, CutError, Named, NoSliceError, asker, is_page
from promring.agent.at_disk import AtDisk
from promring.agent.meanwhile import unless
from promring.agent.metrics import AgentMetrics
from promring.agent.ready import remarks, unready
from promring.agent.reloads import Reloads
from promring.agent.said import Said
from promring.agent.slicefile import SliceFile, keys_in
from promring.agent.turns import Turns
from promring.delivery.bundle import SERVICES_MOST, BundleError, Listed, Listing, opened, unpacked
from promring.delivery.receiver import Note, RefusedError
from promring.runtime import disk
from promring.runtime.backoff import Bucket, backoff_s
from promring.runtime.http_client import Response
from promring.runtime.paths import file_name
from promring.runtime.pulse import Pulse
from promring.runtime.redact import PART
from promring.runtime.unforeseen import Lasting, Quiet, Unforeseen, kept_alive
from promring.telemetry.log import Logger

RATE_PER_S, BURST = 2.0, 10
EARLY = 0.5
"""An answer that brings nothing new before this share of the wait is over is one that did not wait."""
EARLY_FIRST_S, EARLY_MOST_S = 1.0, 5.0
BACKOFF_FIRST_S, BACKOFF_MOST_S, BACKOFF_DOUBT_S = 0.25, 10.0, 2.0
SHORT_S, LOOK_S = 0.1, 5.0
NOTES = {
    "not offered": "no plan of it, or this scraper is not in it: the file stays",
    "no service": "not configured any more: remove what reads the file, then it",
}


class Poller:
    def __init__(self, settings: AgentSettings, metrics: AgentMetrics, log: Logger) -> None:
        self._settings, self._metrics = settings, metrics
        self._log = log.bind(scraper=settings.scraper)
        self.files: dict[str, SliceFile] = {}
        """By the name of the file, without its ending."""
        self._failing, self._lasting = set[str](), Lasting()
        self._said, self._said_gone = Said(self._log), Quiet()
        self._reloads = Reloads(settings.reload_url, metrics, self._log) if settings.reload_url else None
        self._faults = Unforeseen("agent", self._log)
        self._bucket, self._early = Bucket(RATE_PER_S, BURST), 0
        self._pulse, self._disk = Pulse(), AtDisk()

    @property
    def has_slice(self) -> bool:
        """Whether some file holds a whole slice."""
        return any(file.keeps for file in self.files.values())

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._pulse.run())
            if self._reloads is not None:
                group.create_task(kept_alive("agent reload", self._reloads.run, self._log))

    async def _poll(self) -> None:
        controllers = self._settings.controllers
        turns = Turns(len(controllers))
        await self._find()
        async with asker(self._settings) as asking:
            while True:
                controller = controllers[turns.now]
                await self._bucket.take()
                try:
                    outcome = await self._asked(asking, controller, at_once=turns.at_once)
                except CutError as error:
                    turns.cut()
                    self._said.cut(controller, error.args[0])
                    continue
                except Exception as error:  # the supervisor of this loop: the files stay, the next controller is asked
                    known = isinstance(error, NoSliceError | OSError)
                    self._failed(controller, error if known else self._faults.note(error, controller=controller))
                    if rounds := turns.failed():
                        await asyncio.sleep(self._pause_s(rounds))
                    await self._look()
                    continue
                if outcome is None:
                    continue
                refused, lacking, removed = outcome
                if controller in self._failing:
                    self._failing.discard(controller)
                    self._log.info("controller_answers_again", controller=controller)
                troubled = any(file.trouble for file in self.files.values())
                if rounds := turns.answered(refused=refused, troubled=troubled, lacking=lacking, removed=removed):
                    self._hold_off(self._pause_s(rounds))

    def _pause_s(self, rounds: int) -> float:
        in_doubt = any(file.fence.doubts for file in self.files.values())
        return backoff_s(rounds, BACKOFF_FIRST_S, min(BACKOFF_MOST_S, BACKOFF_DOUBT_S) if in_doubt else BACKOFF_MOST_S)

    def _hold_off(self, for_s: float) -> None:
        """The long polls go on for the other files meanwhile."""
        for file in self.files.values():
            if file.trouble:
                file.decline(for_s)

    # --- one question --------------------------------------------------------------------------------------------------

    async def _asked(self, asking: Asker, controller: str, *, at_once: bool) -> tuple[bool, int, int] | None:
        """One question and what follows from it; a pause when a long poll ended at once without anything new. Whether
        something that was offered was not taken, for how many services there was nothing, how many of those are no more.
        None: files were changed meanwhile, and it was not answered.
        """
        named, had = self._named(), self._had()
        waits = not at_once and bool(named.have or named.declined)
        wait_s = self._wait_s(asking.wait_s(controller)) if waits else 0.0
        began = time.monotonic()
        asked = asking.ask(controller, named, wait_s=wait_s, fresh=at_once)
        if (answer := await unless(asked, self._changed, LOOK_S)) is None:
            return None
        refused, lacking, removed = await self._take(controller, answer, named)
        await self._look()  # somebody may have changed them meanwhile
        early = wait_s > 0 and not refused and self._had() == had and time.monotonic() - began < wait_s * EARLY
        self._early = self._early + 1 if early else 0
        if self._early > BURST:
            if self._early == BURST + 1:
                note = "it, or a proxy, does not wait: asked less often"
                self._log.warning("controller_answers_at_once", controller=controller, note=note)
            await asyncio.sleep(backoff_s(self._early - BURST, EARLY_FIRST_S, min(EARLY_MOST_S, wait_s)))
        return refused, lacking, removed

    def _named(self) -> Named:
        files = self.files.values()
        declined = [one for file in files for one in file.declined]
        outranked = {one.key: one.outranked for one in files if one.outranked}
        untaken = "; ".join(f"{file.service}: {file.trouble}" for file in files if file.trouble and file.offered)
        return Named([file.mark for file in files if file.has], declined[:SERVICES_MOST], outranked, untaken)

    def _had(self) -> Mapping[str, str]:
        return {key: file.has for key, file in self.files.items() if file.has}

    def _wait_s(self, most_s: float) -> float:
        """Until what was refused is wanted again."""
        soonest = [file.declined_for_s for file in self.files.values() if file.declined]
        return max(SHORT_S, min([most_s, *soonest]))

    async def _take(self, controller: str, answer: Response, named: Named) -> tuple[bool, int, int]:
        """As ``_asked``. Raises ``NoSliceError`` for what is no such answer."""
        try:
            if is_page(answer):
                raise BundleError("an HTML page, a proxy's: not promring's")
            listing, sent = opened(answer.body)
        except BundleError as error:
            raise NoSliceError(answer.clean(str(error))) from error
        if listing.named < len(named.have) + len(named.declined):
            self._said.dropped(controller)
        self._metrics.answered()
        outcomes, placed = set[str](), set[str]()
        for listed in listing.slices:
            if any(len(secret) >= PART and secret in listed.service for secret in answer.secrets):
                if self._said_gone.is_news(("secret", listed.sha256)):
                    said = "its name repeats a secret of the question"
                    self._log.warning("slice_not_taken", srv_name=answer.clean(listed.service), error=said)
                continue
            if (file := self._file_for(listed.service, placed)) is None:
                continue
            if listed.service not in sent:
                await self._heard(file, listed, controller)
                continue
            outcomes.add(await self._offered(file, listed, sent[listed.service], controller, answer))
        if "written" in outcomes and self._reloads is not None:
            self._reloads.due.set()
        gone = self._see_what_is_gone(listing, controller)
        return bool(outcomes & {"refused", "failed"}), gone + len(listing.without) + listing.blind, gone

    def _file_for(self, service: str, placed: set[str]) -> SliceFile | None:
        """None: there cannot be one. ``placed``: of this answer."""
        key = file_name(service)
        if key in placed or (key not in self.files and len(self.files) >= SERVICES_MOST):
            why = f"{key}.json is another service's" if key in placed else f"there are {SERVICES_MOST} files already"
            if self._said_gone.is_news(("none", service)):
                self._log.warning("slice_not_taken", srv_name=service, error=why)
            return None
        placed.add(key)
        file = self.files.get(key) or self._known(key)
        if file.service != service:
            self._metrics.forget(file.service)
            file.service = service
            self._metrics.know(service, file.fence.frozen)
        return file

    def _known(self, key: str) -> SliceFile:
        self.files[key] = file = SliceFile(self._settings.folder, key, self._pulse.awake)
        self._metrics.know(file.service, file.fence.frozen)
        return file

    async def _heard(self, file: SliceFile, listed: Listed, controller: str) -> None:
        """What is not sent we have, or do not want now, or comes with the next answer."""
        if file.has != listed.sha256:
            return
        try:
            offer = listed.sealed(b"").note
        except RefusedError:
            return
        if file.note is not None and offer.rank > file.note.rank:
            await self._climb(file, offer)
        self._metrics.took(file.service, "same")
        file.fence.saw(offer, file.note)
        file.accept(controller)

    async def _climb(self, file: SliceFile, newer: Note) -> None:
        try:
            await self._disk.write(file.path.name, lambda: file.climb(newer))
        except OSError as error:
            if self._said_gone.is_news(("note", file.key)):
                note = "the slice stays; until it is written, an older one could replace it"
                self._log.warning("note_not_written", srv_name=file.service, error=str(error), note=note)

    async def _offered(self, file: SliceFile, listed: Listed, body: bytes, controller: str, answer: Response) -> str:
        """Install what was sent: the outcome."""
        log, have = self._log.bind(srv_name=file.service), file.note

        def write() -> tuple[bool, int]:
            envelope = listed.sealed(unpacked(body, SLICE_BYTES_MAX) if listed.gzip else body)
            try:
                return file.install(envelope), len(envelope.body)
            finally:
                file.look()

        try:
            written, size = await self._disk.write(file.path.name, write)
        except Exception as error:  # whatever one slice brings about, the others are taken
            known = isinstance(error, RefusedError | BundleError | OSError)
            outcome = "refused" if isinstance(error, RefusedError | BundleError) else "failed"
            said = disk.why_not(file.path, error) if isinstance(error, OSError) else str(error)
            why = answer.clean(said if known else self._faults.note(error, controller=controller))
            self._metrics.took(file.service, outcome)
            file.outranked = error.have if isinstance(error, RefusedError) else None
            if outcome == "refused":
                self._refused(file, listed, why)
            if file.refuse(listed.sha256, why, controller):
                log.warning("slice_not_taken", controller=controller, error=why, note="the file stays")
            return outcome
        offer = listed.sealed(b"")
        self._said.opened(file.path.parent, to_all=file.is_open_to_all)
        self._metrics.took(file.service, outcome := "written" if written else "same")
        file.fence.saw(offer.note, have)
        file.accept(controller)
        if written:
            log.info("slice_written", file=str(file.path), generation=listed.generation, bytes=size)
        return outcome

    def _refused(self, file: SliceFile, listed: Listed, why: str) -> None:
        try:
            file.fence.refused(listed.sealed(b"").note, file.note, why)
        except RefusedError:  # it has no generation
            return

    def _see_what_is_gone(self, listing: Listing, controller: str) -> int:
        """Files for which this controller has nothing: they stay, and are still scraped. How many have no service there."""
        offered = {file_name(listed.service) for listed in listing.slices}
        configured = set(map(file_name, listing.without))
        for key, file in self.files.items():
            known = key in configured
            gone = "" if key in offered else "not offered" if known else "no service"
            if gone and gone != file.gone and file.is_there and self._said_gone.is_news((key, gone)):
                say = self._log.bind(srv_name=file.service, controller=controller, file=str(file.path))
                say.warning("slice_not_offered" if known else "slice_of_no_service", note=NOTES[gone])
            file.gone = gone
            self._metrics.offered(file.service, not gone)
        return len(self.files.keys() - offered - configured)

    # --- the files -----------------------------------------------------------------------------------------------------

    async def _find(self) -> None:
        """What is there from before."""
        folder = self._settings.folder
        try:
            keys = await self._disk.look(folder.name, lambda: keys_in(folder, SERVICES_MOST))
        except OSError:  # not there yet, or it says so when it is written to
            keys = []
        for key in keys:
            self._known(key)
        await self._look()
        await self._disk.look(folder.name, lambda: disk.remove_left_overs(folder))
        if self._reloads is not None and self.has_slice:
            self._reloads.due.set()  # the agent before may have ended before its reload worked
        for file in self.files.values():
            if file.has:
                note = "until a controller says otherwise"
                self._log.info("slice_kept", srv_name=file.service, file=str(file.path), note=note)

    async def _changed(self) -> bool:
        """Whether somebody changed or removed what is here."""
        had = self._had()
        await self._look()
        return self._had() != had

    async def _look(self) -> None:
        """At all files and their notes."""
        files = list(self.files.values())

        def look() -> list[SliceFile]:
            for file in files:
                file.look()
            return [file for file in files if file.is_gone]

        had = {file for file in files if file.has}
        for file in await self._disk.look(self._settings.folder.name, look):
            del self.files[file.key]
            self._metrics.forget(file.service)
        for file in self.files.values():
            if file.note is not None and file.has:  # the note is written first: it may be ahead of the file
                self._metrics.slice_is(file.service, file.note.generation)
            elif not file.keeps:
                self._metrics.slice_is_gone(file.service)
            if file in had and not file.has:
                note = "changed or removed: a controller is asked for it"
                self._log.warning("slice_changed_by_others", srv_name=file.service, file=str(file.path), note=note)

    # --- what is said --------------------------------------------------------------------------------------------------

    def unready(self) -> str:
        """As ``ready.unready``."""
        return "\n".join(filter(None, (self._disk.hangs, unready(self.files.values()))))

    def remarks(self) -> str:
        """As ``ready.remarks``."""
        return remarks(self.files.values(), self._reloads.trouble if self._reloads is not None else "")

    def _failed(self, controller: str, error: Exception | str) -> None:
        why = str(error)
        self._metrics.failed()
        if self._lasting.is_news(controller, why, begins=controller not in self._failing):
            self._log.warning("controller_gives_no_slice", controller=controller, error=why, note="the files stay")
        self._failing.add(controller)
