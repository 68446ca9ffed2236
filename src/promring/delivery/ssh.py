"""Slices as files on other hosts, over ssh.

One kept connection a host, all hosts beside each other, each try within its own deadline. ``deliver`` drives: it begins a
try for every host that has something due, and does not wait long for it. What has not ended is ``waiting``, goes on in the
background, and rings when it has ended; a host that failed is left alone for a while, longer each time. On the far side one
POSIX sh script does what ``envelope.install`` does here (``ssh_far``): a sender that is killed, frozen or cut off leaves
the old slice whole.

Promises: the newest slice wins; ``leads`` is asked before the bytes travel; nothing goes on after ``close`` or a cancelled
``deliver``. A host that is refused for its key, or that refuses ours, is left alone for ``pause_s``. A file that is known to
hold its slice is asked about again after ``recheck_s``. Trouble on our own side or on the way is ``unsent``.
Not promised: that far ``sync`` reaches the disk where ``sync`` takes no file.
Flow: ``ssh_connect`` has names, keys and jump hosts, ``ssh_far`` the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from promring.delivery import Leads, Outcome, always
from promring.delivery.ssh_connect import Connector, Hop, Route, UntrustedError
from promring.delivery.ssh_far import FarError, HostError, Work
from promring.delivery.ssh_host import TURN, Failed, Held, Host, Result, are_same
from promring.delivery.ssh_trust import KeyFiles, UnsentError
from promring.log import Logger
from promring.model import ConfigError, Scraper, Slice
from promring.rate import backoff_s
from promring.resolver import Resolver
from promring.template import own_folders, render
from promring.unforeseen import Unforeseen

AT_ONCE, SLOW_AT_ONCE = 50, 10
"""Tries at a moment: of hosts that answer, and of those that did not the last time."""
ODD = {
    "note_ignored": "it is written anew",
    "folder_writable_by_all": "chmod o-w, or give it the sticky bit",
}
"""What the far side may remark, and the remedy."""
INSTALL = "install it into promring's environment: pip install asyncssh"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class SshSettings:
    """``host`` and ``path`` are templates; ``timeout_s`` is for one try of one host, from connecting to the rename."""

    host: str
    port: int
    user: str
    path: str
    identity_file: Path
    known_hosts: Path
    timeout_s: float = 5.0
    certificate_file: Path | None = None
    proxy_jump: tuple[Hop, ...] = ()

    @property
    def key_files(self) -> KeyFiles:
        return KeyFiles(self.identity_file, self.known_hosts, self.certificate_file)


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


class SshDelivery:
    """Raises ConfigError when asyncssh is not installed."""

    means = "ssh"
    pulled = False

    def __init__(
        self, settings: SshSettings, log: Logger, *, pace: SshPace | None = None, resolver: Resolver | None = None
    ) -> None:
        require_asyncssh()
        self._settings, self._log, self._pace = settings, log, pace or SshPace()
        route = Route(settings.port, settings.user, settings.proxy_jump)
        self._connector = Connector(settings.key_files, route, settings.timeout_s, log, resolver or Resolver())
        self._faults = Unforeseen("ssh", log)
        self._hosts: dict[str, Host] = {}
        self._tries = set[asyncio.Task[None]]()
        self._leads: Leads = always
        self._ring: Callable[[], None] = lambda: None
        self._rooms = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(SLOW_AT_ONCE)
        self._idle: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None

    def when_done(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self._leads = leads
        done: dict[str, Outcome] = {}
        work: dict[str, dict[str, Slice]] = {}
        for slice_ in slices:
            if error := self._sort(slice_, work):
                done[slice_.scraper.id] = Outcome(slice_.scraper.id, "failed", error)
        self._silence()
        self._forget(work.keys())
        hosts = [self._hosts.setdefault(name, Host(name)) for name in work]
        try:
            for host in hosts:
                host.want(work[host.name])
                self._begin(host)
            await self._wait_for([host for host in hosts if host.busy])
        except asyncio.CancelledError:
            await self._stop()
            raise
        for host in hosts:
            done.update({s.scraper.id: self._outcome(host, path, s) for path, s in host.wanted.items()})
        self._wake_later(hosts)
        return [done[s.scraper.id] for s in slices]

    async def close(self) -> None:
        """End every try and every connection. Without it connections end after ``idle_s``."""
        self._ring = lambda: None
        self._silence()
        connections = [h.connection for h in self._hosts.values() if h.connection is not None]
        await self._stop()
        await self._connector.close()
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()

    async def _stop(self) -> None:
        """Nobody writes after this."""
        tries = set(self._tries)
        for task in tries:
            task.cancel()
        if tries:
            await asyncio.wait(tries)
        self._drop_all()

    # --- timers ------------------------------------------------------------------------------------------------------

    def _silence(self) -> None:
        for timer in (self._idle, self._again):
            if timer is not None:
                timer.cancel()

    def _wake_later(self, hosts: Iterable[Host]) -> None:
        """Ring when the first host that failed is due again; close connections that nobody uses."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        self._idle = loop.call_later(self._pace.idle_s, self._drop_all)
        due = [h.retry_at for h in hosts if h.failures and not h.busy and h.paused_until <= now]
        if due:
            self._again = loop.call_later(max(0.0, min(due) - now), self._ring)

    async def _wait_for(self, busy: Sequence[Host]) -> None:
        """Not long, and hardly at all for those that let us wait the last time."""
        for slow, wait_s in ((False, self._pace.wait_s), (True, self._pace.slow_wait_s)):
            if tasks := [h.task for h in busy if h.slow is slow and h.task is not None and not h.task.done()]:
                await asyncio.wait(tasks, timeout=wait_s)

    # --- which host, which file --------------------------------------------------------------------------------------

    def path(self, slice_: Slice) -> str:
        return str(render(self._settings.path, slice_.service, slice_.scraper))

    def _sort(self, slice_: Slice, work: dict[str, dict[str, Slice]]) -> str:
        """Put the slice to the others of its host. Returns why it cannot be delivered, or an empty text."""
        try:
            name = render_host(self._settings.host, slice_.scraper)
        except ValueError as error:
            return f"{error}:{self.path(slice_)}: not a host name"
        path = self.path(slice_)
        other = work.setdefault(name, {}).setdefault(path, slice_)
        if other is not slice_:
            return f"{name}:{path}: it is the file of {other.scraper.id} already; put {{scraper}} into the path"
        return ""

    def _forget(self, wanted: Collection[str]) -> None:
        """Leave the hosts that have no slice any more."""
        now = time.monotonic()
        for host in [h for h in self._hosts.values() if h.name not in wanted]:
            host.stop()
            if host.paused_until < now:
                del self._hosts[host.name]

    def _drop_all(self) -> None:
        for host in self._hosts.values():
            if not host.busy:
                host.drop()

    def _is_held(self, host: Host, path: str, slice_: Slice) -> bool:
        held = host.held.get(path)
        if held is None or time.monotonic() - held.verified_at >= self._pace.recheck_s:
            return False
        return held[:2] == (slice_.generation, slice_.sha256)

    # --- one host ----------------------------------------------------------------------------------------------------

    def _begin(self, host: Host) -> None:
        """A try, if one is due and none is under way."""
        now = time.monotonic()
        due = any(not self._is_held(host, path, s) for path, s in host.wanted.items())
        if due and not host.busy and host.paused_until <= now and host.retry_at <= now:
            host.step, host.told_waiting = TURN, False
            host.task = asyncio.create_task(self._try(host))
            self._tries.add(host.task)
            host.task.add_done_callback(functools.partial(self._ended, host))

    def _ended(self, host: Host, task: asyncio.Task[None]) -> None:
        self._tries.discard(task)
        if not task.cancelled() and host.told_waiting:
            self._ring()

    def _outcome(self, host: Host, path: str, slice_: Slice) -> Outcome:
        """What is to be told of a slice now: how its try ended, once; then whether it is there."""
        result = host.results.pop(path, None)
        if result is not None and (are_same(result.of, slice_) or result.outcome.outcome in ("failed", "unsent")):
            return result.outcome._replace(scraper=slice_.scraper.id)
        if self._is_held(host, path, slice_):
            return Outcome(slice_.scraper.id, "same")
        if host.paused_until > time.monotonic():
            return Outcome(slice_.scraper.id, "failed", f"{host.name}:{path}: {host.trouble}")
        if host.busy:
            host.slow = host.told_waiting = True
        error = host.errors.get(path) or f"{host.name}:{path}: {host.step.text} takes long"
        return Outcome(slice_.scraper.id, "waiting", error)

    async def _try(self, host: Host) -> None:
        async with self._rooms[host.slow]:
            due = [path for path, s in host.wanted.items() if not self._is_held(host, path, s)]
            failed = await self._serve(host, due)
        for path in due:
            if failed is not None and path not in host.results and (slice_ := host.wanted.get(path)):
                outcome = Outcome(slice_.scraper.id, failed.outcome, f"{host.name}:{path}: {failed.error}")
                host.results[path] = Result(slice_, outcome)
        ended = {path: host.results[path].outcome for path in due if path in host.results}
        host.errors = {path: outcome.error for path, outcome in ended.items() if outcome.outcome in ("failed", "unsent")}
        host.slow = bool(host.errors) or host.told_waiting
        host.failures = host.failures + 1 if host.errors else 0
        wait_s = backoff_s(host.failures, self._pace.retry_first_s, self._pace.retry_most_s) if host.errors else 0.0
        host.retry_at = time.monotonic() + wait_s

    async def _serve(self, host: Host, due: Iterable[str]) -> Failed | None:
        """Returns why not all of ``due`` is done; what is done is in the results."""
        for path in due:
            host.results.pop(path, None)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                for path in due:
                    if (slice_ := host.wanted.get(path)) is not None:  # the newest, whatever was wanted at the beginning
                        host.results[path] = Result(slice_, await self._put(host, path, slice_))
            if host.trouble:
                host.trouble = ""
                self._log.info("ssh_host_trusted_again", host=host.name)
        except TimeoutError:
            host.drop()
            kind = "unsent" if host.step.ours else "failed"
            return Failed(kind, f"{host.step.text} took more than {self._settings.timeout_s:g} s")
        except UntrustedError as untrusted:
            self._leave_alone(host, str(untrusted))
            return Failed("failed", str(untrusted))
        except HostError as error:
            host.drop()
            return Failed("unsent" if isinstance(error, UnsentError) else "failed", str(error))
        except Exception as error:  # the one place for what nobody foresaw: it costs this try
            host.drop()
            return Failed("unsent", self._faults.note(error))
        return None

    def _leave_alone(self, host: Host, error: str) -> None:
        host.paused_until = time.monotonic() + self._pace.pause_s
        if host.trouble != error:
            host.trouble = error
            self._log.error("ssh_host_untrusted", host=host.name, error=error, left_alone_s=self._pace.pause_s)

    async def _put(self, host: Host, path: str, slice_: Slice) -> Outcome:
        """Raises HostError."""
        if not self._leads():
            return Outcome(slice_.scraper.id, "withheld")
        before = host.held.get(path)
        if before is not None:  # whatever comes of this, it is to be looked at
            host.held[path] = before._replace(verified_at=-math.inf)
        try:
            remark = functools.partial(self._say_odd, host, path)
            work = Work(path, slice_, own_folders(self._settings.path), remark, self._still_leads)
            outcome = await host.push(work, self._connector, self._settings.timeout_s)
        except FarError as error:
            return Outcome.not_taken(slice_.scraper.id, f"{host.name}:{path}: {error}")
        if outcome == "written" and before is not None and before.sha256 == slice_.sha256:
            self._log.warning("slice_put_back", scraper=slice_.scraper.id, host=host.name, path=path)
        if outcome != "withheld":
            host.held[path] = Held(slice_.generation, slice_.sha256, time.monotonic())
        return Outcome(slice_.scraper.id, outcome)

    def _still_leads(self) -> bool:
        """By the newest ``leads``: a try may be older."""
        return self._leads()

    def _say_odd(self, host: Host, path: str, what: str) -> None:
        """Once for a file: it is looked at again and again."""
        if what in ODD and (path, what) not in host.odd:
            host.odd.add((path, what))
            self._log.warning(what, host=host.name, path=path, remedy=ODD[what])


# --- names, files, texts ---------------------------------------------------------------------------------------------


def require_asyncssh() -> None:
    try:
        import asyncssh  # noqa: F401  # whether it is there, and its 0.2 s before the first delivery
    except ImportError as error:
        raise ConfigError([f"delivery.ssh needs asyncssh ({error}); {INSTALL}"]) from error


def render_host(template: str, scraper: Scraper) -> str:
    """The host to connect to. Raises ValueError, with its ``repr``, for what is neither a plain host name nor an address."""
    name = template.replace("{host}", scraper.host)
    if not _HOST_NAME.fullmatch(name):
        try:
            ipaddress.ip_address(name if "%" not in name else "")
        except ValueError:
            raise ValueError(repr(name[:80])) from None
    return name
