"""The hosts of a fleet, as the ssh deliveries of its services share them.

All deliveries with the same connection settings share one ``SshHosts``. A host has one connection and one try at a time; in
a try every file that is due is written, several beside each other. A failure of the connection (it cannot be made, nothing
comes back, a wrong key) is told to all files of the host, and the host is tried again for all of them together. A failure of
one file (a full folder, a disk that hangs) concerns that file only.

Promises: a host that hangs or refuses holds up no other host, and is tried once, however many services have files there. A
delivery that leaves takes its files with it; the last delivery closes the connections.
Flow: ``ssh.SshDelivery`` says what it wants and reads how it ended; ``ssh_host`` has the connection and the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promring.delivery import Outcome
from promring.delivery.receiver import Envelope
from promring.delivery.receiver_sh import REMEDIES
from promring.delivery.ssh_connect import Connector, UntrustedError
from promring.delivery.ssh_host import Failed, File, Held, Host, Owner, Result, are_same
from promring.delivery.ssh_push import CrowdedError, FarError, HostError, Work
from promring.delivery.ssh_trust import UnsentError
from promring.model import LONG_AGO, Slice
from promring.runtime.backoff import backoff_s
from promring.runtime.resolver import Resolver
from promring.runtime.unforeseen import Unforeseen
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    from promring.delivery.ssh import SshSettings

AT_ONCE, SLOW_AT_ONCE = 50, 10
"""Tries at a moment: of hosts that answer, and of those that did not the last time."""


@dataclass(frozen=True, slots=True)
class SshPace:
    """Seconds: a host with a wrong key is left alone for ``pause_s``, one that failed for ``retry_first_s``, then twice as
    long each time up to ``retry_most_s``; a connection is closed after ``idle_s`` without use. A file is looked at again
    after ``recheck_s``: less than the minute between two cycles. ``deliver`` waits ``wait_s`` for hosts that answered the
    last time, ``slow_wait_s`` for those that did not.
    """

    pause_s: float = 60.0
    recheck_s: float = 50.0
    idle_s: float = 150.0
    retry_first_s: float = 1.0
    retry_most_s: float = 30.0
    wait_s: float = 1.0
    slow_wait_s: float = 0.1


class SshHosts:
    """``settings``: how the hosts are reached; the path is each delivery's own."""

    def __init__(
        self, settings: SshSettings, log: Logger, *, pace: SshPace | None = None, resolver: Resolver | None = None
    ) -> None:
        self.settings, self.pace, self._log = settings, pace or SshPace(), log
        self._connector = Connector(settings.key_files, settings.route, settings.timeout, log, resolver or Resolver())
        self._faults = Unforeseen("ssh", log)
        self._hosts: dict[str, Host] = {}
        self._owners = set[Owner]()
        self._rooms = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(SLOW_AT_ONCE)
        self._idle: asyncio.TimerHandle | None = None

    # --- who has files here ------------------------------------------------------------------------------------------

    def join(self, owner: Owner) -> None:
        self._owners.add(owner)

    async def leave(self, owner: Owner) -> None:
        """Its files are written no more. The last one ends the connections."""
        self._owners.discard(owner)
        await self.stop(owner)
        if self._owners:
            return
        if self._idle is not None:
            self._idle.cancel()
        tries = {h.task for h in self._hosts.values() if h.task is not None and not h.task.done()}
        for task in tries:
            task.cancel()
        if tries:
            await asyncio.wait(tries)
        connections = [h.link.connection for h in self._hosts.values() if h.link.connection is not None]
        self._drop(self._hosts.values())
        await self._connector.close()
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()

    async def stop(self, owner: Owner) -> None:
        """Nobody writes its files after this. Hosts that no other delivery has files on are left."""
        pushes = self.forget(owner, ())
        if pushes:
            await asyncio.wait(pushes)

    def file(self, owner: Owner, name: str, path: str) -> tuple[Host, File]:
        host = self._hosts.setdefault(name, Host(name))
        for file in host.files:
            if file.owner is owner and file.path == path:
                return host, file
        host.files.append(made := File(owner, path))
        return host, made

    def forget(self, owner: Owner, wanted: Collection[File]) -> set[asyncio.Task[None]]:
        """Its files that are not ``wanted``; and hosts that have no file any more. Returns the pushes that end for it."""
        kept, now, ending = set(wanted), time.monotonic(), set[asyncio.Task[None]]()
        for host in list(self._hosts.values()):
            for file in [f for f in host.files if f.owner is owner and f not in kept]:
                host.files.remove(file)
                file.wanted, file.told_waiting = None, False
                if file.push is not None and not file.push.done():
                    file.push.cancel()
                    ending.add(file.push)
                file.settle(None)
            if not host.files:
                if host.task is not None:
                    host.task.cancel()
                host.link.drop()
                if host.paused_until < now:
                    del self._hosts[host.name]
        return ending

    # --- what is to be done ------------------------------------------------------------------------------------------

    def is_held(self, file: File, slice_: Slice) -> bool:
        if file.held is None or time.monotonic() - file.held.verified_at >= self.pace.recheck_s:
            return False
        return file.held[:2] == (slice_.generation, slice_.sha256)

    def begin(self, hosts: Iterable[Host]) -> None:
        """A try for each that has something due; what became due while one is under way, it does, too."""
        now = time.monotonic()
        for host in hosts:
            if host.is_left_alone(now):
                continue
            for file in host.files:
                file.tried = None  # who asks again wants it tried again, also while others' files are under way
            for file in (due := self._due(host)):
                file.await_end()
            if due and not host.busy:
                host.told_waiting = False
                host.task = asyncio.create_task(self._try(host))
                host.task.add_done_callback(functools.partial(self._ended, host))
            elif due:
                self._widen(host)
        self._await_idleness()

    def _await_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self.pace.idle_s, self._drop_all)

    def _due(self, host: Host) -> list[File]:
        """Those that went well the last time first: one that hangs holds up no other."""
        now, due = time.monotonic(), []
        for file in host.files:
            wanted, tried = file.wanted, file.tried
            if wanted is None or file.is_pushed or file.retry_at > now or self.is_held(file, wanted):
                continue
            if tried is None or not are_same(tried, wanted):
                due.append(file)
        return sorted(due, key=lambda file: file.slow)

    def _drop(self, hosts: Iterable[Host]) -> None:
        for host in hosts:
            host.link.drop()

    def _drop_all(self) -> None:
        """Nobody has used them for long. Those that are still in use are looked at again."""
        self._drop(host for host in self._hosts.values() if not host.busy)
        if any(host.busy for host in self._hosts.values()):
            self._await_idleness()

    # --- one try of one host -----------------------------------------------------------------------------------------

    async def _try(self, host: Host) -> None:
        async with self._rooms[host.slow]:
            host.begin()
            try:
                while pushes := self._widen(host):
                    await asyncio.wait(pushes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await host.end()
        self._conclude(host)

    def _widen(self, host: Host) -> set[asyncio.Task[None]]:
        """Begin with what is due, as far as there are channels. Returns the pushes that are under way."""
        if host.is_open and host.failed is None:
            for file in self._due(host)[: max(0, host.channels - len(host.pushed))]:
                assert file.wanted is not None  # else it is not due
                file.tried = file.wanted
                file.push = asyncio.create_task(self._serve(host, file, file.wanted))
                file.push.add_done_callback(lambda _: self._widen(host))
        return {file.push for file in host.pushed if file.push is not None}

    def _conclude(self, host: Host) -> None:
        """Take note of how the try ended; what it did not come to since the host failed has failed, too."""
        failed, now = host.failed, time.monotonic()
        host.slow = failed is not None or host.told_waiting
        if failed is not None:
            host.failures, host.error = host.failures + 1, failed.error
            host.retry_at = now + backoff_s(host.failures, self.pace.retry_first_s, self.pace.retry_most_s)
            for file in host.files:
                if file.wanted is not None and file.is_awaited and not file.is_pushed:
                    file.settle(_result(host, file, file.wanted, failed))
        elif host.answered:
            host.failures, host.error, host.retry_at = 0, "", 0.0

    def _ended(self, host: Host, _: asyncio.Task[None]) -> None:
        if any(file.is_awaited for file in host.files):
            self.begin([host])  # came when the try was about to end

    # --- one file ----------------------------------------------------------------------------------------------------

    async def _serve(self, host: Host, file: File, slice_: Slice) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.timeout):
                outcome = await self._put(host, file, slice_)
        except CrowdedError as error:
            if len(host.pushed) > 1:
                host.channels, file.tried = max(1, len(host.pushed) - 1), None
                return
            self._settle(host, file, slice_, self._blame(host, error, began))
        except Exception as error:  # the one place for what nobody foresaw: it costs this push
            self._settle(host, file, slice_, self._blame(host, error, began))
        else:
            if outcome.outcome != "withheld":
                self._answered(host)
            self._settle(host, file, slice_, outcome)

    def _answered(self, host: Host) -> None:
        host.link.heard_at = time.monotonic()
        if host.trouble:
            host.trouble = ""
            self._log.info("ssh_host_trusted_again", host=host.name)

    def _blame(self, host: Host, error: Exception, began: float) -> Failed:
        """Why a push was not done; whether the host is to blame, and with it all that it has not come to."""
        if isinstance(error, TimeoutError):
            failed = Failed(
                "unsent" if host.link.step.ours else "failed",
                f"{host.link.step.text} took more than {self.settings.timeout:g} s",
            )
            if host.link.heard_at > began:
                return failed  # this file's
        elif isinstance(error, UntrustedError):
            failed = Failed("failed", str(error))
            self._leave_alone(host, failed.error)
        elif isinstance(error, HostError):
            failed = Failed("unsent" if isinstance(error, UnsentError) else "failed", str(error))
        else:
            host.link.drop()
            return Failed("unsent", self._faults.note(error))
        host.link.drop()
        host.failed = failed
        return failed

    def _settle(self, host: Host, file: File, slice_: Slice, ended: Outcome | Failed) -> None:
        """A failure of the file's own is a reason to leave it alone for a while; the host has its own."""
        if ended is host.failed:
            return  # told to all files when the try ends
        result = _result(host, file, slice_, ended) if isinstance(ended, Failed) else Result(slice_, ended)
        if not result.outcome.was_not_brought:
            file.failures, file.retry_at = 0, 0.0
        else:
            file.failures += 1
            wait_s = backoff_s(file.failures, self.pace.retry_first_s, self.pace.retry_most_s)
            file.retry_at = time.monotonic() + wait_s
        file.settle(result, self.pace.wait_s)

    def _leave_alone(self, host: Host, error: str) -> None:
        host.paused_until = time.monotonic() + self.pace.pause_s
        if host.trouble != error:
            host.trouble = error
            self._log.error("ssh_host_untrusted", host=host.name, error=error, left_alone_s=self.pace.pause_s)

    async def _put(self, host: Host, file: File, slice_: Slice) -> Outcome:
        """Raises HostError."""
        owner, before = file.owner, file.held
        if not owner.leads():
            return Outcome(slice_.scraper.id, "withheld")
        if before is not None:  # whatever comes of this, it is to be looked at
            file.held = before._replace(verified_at=LONG_AGO)
        try:
            work = Work(file.path, Envelope.of(slice_), owner.own, functools.partial(_say_odd, host, file), owner.leads)
            outcome = await host.send(work, self._connector, self.settings.timeout)
        except FarError as error:
            return Outcome.not_taken(slice_.scraper.id, f"{host.name}:{file.path}: {error}", error.have)
        if outcome == "written" and before is not None and before.sha256 == slice_.sha256:
            owner.log.warning("slice_put_back", scraper=slice_.scraper.id, host=host.name, path=file.path)
        if outcome != "withheld":
            file.held = Held(slice_.generation, slice_.sha256, time.monotonic())
        return Outcome(slice_.scraper.id, outcome)


def _result(host: Host, file: File, slice_: Slice, failed: Failed) -> Result:
    return Result(slice_, Outcome(slice_.scraper.id, failed.outcome, f"{host.name}:{file.path}: {failed.error}"))


def _say_odd(host: Host, file: File, what: str) -> None:
    """Once for a file: it is looked at again and again."""
    if what in REMEDIES and what not in file.odd:
        file.odd.add(what)
        file.owner.log.warning(what, host=host.name, path=file.path, remedy=REMEDIES[what])
