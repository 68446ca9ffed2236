"""Slices as files on other hosts, over ssh.

One kept connection a host, all hosts at once, each within its own deadline. On the far side one POSIX sh script does what
``envelope.install`` does here: it takes the bytes on stdin under a name that no file_sd glob matches, checks length and
SHA-256 of what it wrote, refuses a generation older than the one in ``.NAME.promring``, and renames. So a sender that is
killed, frozen or cut off leaves the old slice whole.

Promises: the host key is always checked against ``known_hosts``; only the one identity file is offered; no agent, no
password, no ``~/.ssh/config``, nothing is forwarded. A host that is refused for its key, or that refuses ours, is left
alone for ``pause_s``. A file that is known to hold its slice is asked about again after ``recheck_s``.
Not promised: that far ``sync`` reaches the disk where ``sync`` takes no file; a login shell that is not like sh.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import math
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from promring.delivery import Leads, Outcome, always
from promring.delivery.ssh_far import BrokenError, FarError, HostError, Work, one_line, push, reason
from promring.log import Logger
from promring.model import ConfigError, Generation, Scraper, Slice
from promring.template import own_folders, render
from promring.threads import BusyError, Single

if TYPE_CHECKING:
    import asyncssh

AT_ONCE = 50
KEYS_S = 1.0
"""So long the key files are waited for when they were read before."""
ODD = {
    "note_ignored": "it is written anew",
    "folder_writable_by_all": "chmod o-w, or give it the sticky bit",
}
"""What the far side may remark, and the remedy."""
INSTALL = "install it into promring's environment: pip install asyncssh"
KEEPALIVE_S = 15.0
# After the kinds of the keys that are known: a host with a key of another kind is then told from one that hangs up.
HOST_KEY_KINDS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class SshSettings:
    """``host`` and ``path`` are templates; ``timeout_s`` is for one host, from connecting to the rename."""

    host: str
    port: int
    user: str
    path: str
    identity_file: Path
    known_hosts: Path
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class SshPace:
    """Seconds: a host with a wrong key is left alone for ``pause_s``, a connection closed after ``idle_s`` without use. A
    file is looked at again after ``recheck_s``: less than the minute between two cycles.
    """

    pause_s: float = 60.0
    recheck_s: float = 50.0
    idle_s: float = 150.0


class UntrustedError(HostError):
    """Its key, or ours, is wrong: that stays so until a person mends it."""


class _Held(NamedTuple):
    generation: Generation
    sha256: str
    verified_at: float


class _Trust(NamedTuple):
    """What both key files say. ``of`` tells a file that was changed."""

    of: tuple[tuple[int, int, int], ...]
    key: asyncssh.SSHKey
    known_hosts: asyncssh.SSHKnownHosts


@dataclass
class _Host:
    """One far host: its kept connection, what its files are known to hold, and why it is left alone."""

    name: str
    connection: asyncssh.SSHClientConnection | None = None
    held: dict[str, _Held] = field(default_factory=dict)
    paused_until: float = 0.0
    trouble: str = ""
    """The key error that was said already; empty: none."""
    failing: bool = False
    step: str = ""
    odd: set[tuple[str, str]] = field(default_factory=set)
    """What was found odd at a path, and said."""

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None


class SshDelivery:
    """Raises ConfigError when asyncssh is not installed."""

    means = "ssh"
    pulled = False

    def __init__(self, settings: SshSettings, log: Logger, *, pace: SshPace | None = None) -> None:
        require_asyncssh()
        self._settings, self._log, self._pace = settings, log, pace or SshPace()
        self._hosts: dict[str, _Host] = {}
        self._leads: Leads = always
        self._trust: _Trust | None = None
        self._loading = asyncio.Lock()
        self._reading = Single()
        self._idle: asyncio.TimerHandle | None = None

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self._leads = leads
        done: dict[str, Outcome] = {}
        work: dict[str, dict[str, Slice]] = {}
        for slice_ in slices:
            if error := self._sort(slice_, work):
                done[slice_.scraper.id] = Outcome(slice_.scraper.id, "failed", error)
        if self._idle is not None:
            self._idle.cancel()
        self._forget(work.keys())
        hosts = [self._hosts.setdefault(name, _Host(name)) for name in work]
        room = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for host in sorted(hosts, key=lambda h: h.failing):  # those that answer do not wait for those that do not
                    group.create_task(self._serve(host, work[host.name], room, done))
        except asyncio.CancelledError:
            self._drop_all()
            raise
        self._idle = asyncio.get_running_loop().call_later(self._pace.idle_s, self._drop_all)
        return [done[s.scraper.id] for s in slices]

    async def close(self) -> None:
        """End every connection. Without it they end after ``idle_s``."""
        if self._idle is not None:
            self._idle.cancel()
        connections = [h.connection for h in self._hosts.values() if h.connection is not None]
        self._drop_all()
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()

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
            host.drop()
            if host.paused_until < now:
                del self._hosts[host.name]

    def _drop_all(self) -> None:
        for host in self._hosts.values():
            host.drop()

    # --- one host ----------------------------------------------------------------------------------------------------

    async def _serve(self, host: _Host, slices: dict[str, Slice], room: asyncio.Semaphore, done: dict[str, Outcome]) -> None:
        """Everything for one host, within its deadline."""
        now = time.monotonic()
        due = {path: s for path, s in slices.items() if not self._is_held(host, path, s, now)}
        done.update({s.scraper.id: Outcome(s.scraper.id, "same") for path, s in slices.items() if path not in due})
        if not due:
            return
        error = host.trouble
        if host.paused_until <= now:
            async with room:
                error = await self._serve_due(host, due, done)
        for path, slice_ in due.items():
            if slice_.scraper.id not in done:
                done[slice_.scraper.id] = Outcome(slice_.scraper.id, "failed", f"{host.name}:{path}: {error}")

    async def _serve_due(self, host: _Host, due: dict[str, Slice], done: dict[str, Outcome]) -> str:
        """Returns why not all of ``due`` is done."""
        error = ""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                for path, slice_ in due.items():
                    done[slice_.scraper.id] = await self._put(host, path, slice_)
            if host.trouble:
                host.trouble = ""
                self._log.info("ssh_host_trusted_again", host=host.name)
        except TimeoutError:
            host.drop()
            error = f"{host.step} took more than {self._settings.timeout_s:g} s"
        except UntrustedError as untrusted:
            error = str(untrusted)
            host.paused_until = time.monotonic() + self._pace.pause_s
            if host.trouble != error:
                host.trouble = error
                self._log.error("ssh_host_untrusted", host=host.name, error=error, left_alone_s=self._pace.pause_s)
        except HostError as failed:
            host.drop()
            error = str(failed)
        host.failing = bool(error)
        return error

    def _is_held(self, host: _Host, path: str, slice_: Slice, now: float) -> bool:
        held = host.held.get(path)
        if held is None or now - held.verified_at >= self._pace.recheck_s:
            return False
        return held[:2] == (slice_.generation, slice_.sha256)

    async def _put(self, host: _Host, path: str, slice_: Slice) -> Outcome:
        """Raises HostError."""
        if not self._leads():
            return Outcome(slice_.scraper.id, "withheld")
        before = host.held.get(path)
        if before is not None:  # whatever comes of this, it is to be looked at
            host.held[path] = before._replace(verified_at=-math.inf)
        try:
            remark = functools.partial(self._say_odd, host, path)
            written = await self._over_a_connection(host, Work(path, slice_, own_folders(self._settings.path), remark))
        except FarError as error:
            return Outcome.not_taken(slice_.scraper.id, f"{host.name}:{path}: {error}")
        if written and before is not None and before.sha256 == slice_.sha256:
            self._log.warning("slice_put_back", scraper=slice_.scraper.id, host=host.name, path=path)
        host.held[path] = _Held(slice_.generation, slice_.sha256, time.monotonic())
        return Outcome(slice_.scraper.id, "written" if written else "same")

    def _say_odd(self, host: _Host, path: str, what: str) -> None:
        """Once for a file: it is looked at again and again."""
        if what in ODD and (path, what) not in host.odd:
            host.odd.add((path, what))
            self._log.warning(what, host=host.name, path=path, remedy=ODD[what])

    async def _over_a_connection(self, host: _Host, work: Work) -> bool:
        """A kept connection that broke, or does not answer in half of the time, is replaced once."""
        patience_s = self._settings.timeout_s
        if host.connection is not None and not host.connection.is_closed():
            host.step = "asking"
            try:
                return await push(host.connection, work, patience_s, first_s=patience_s / 2)
            except BrokenError:
                pass
        host.drop()
        host.step = "connecting"
        host.connection = await self._connect(host.name)
        host.step = "writing"
        return await push(host.connection, work, patience_s, first_s=patience_s)

    async def _connect(self, name: str) -> asyncssh.SSHClientConnection:
        import asyncssh

        trust, settings = await self._trusting(), self._settings
        try:
            return await asyncssh.connect(
                name,
                settings.port,
                username=settings.user,
                client_keys=[trust.key],
                known_hosts=trust.known_hosts,
                server_host_key_algs=HOST_KEY_KINDS,
                config=None,
                agent_path=None,
                preferred_auth=("publickey",),
                password_auth=False,
                kbdint_auth=False,
                host_based_auth=False,
                gss_auth=False,
                gss_kex=False,
                x509_trusted_certs=None,
                compression_algs=("none",),
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=2,
            )
        except asyncssh.HostKeyNotVerifiable:
            port = settings.port if settings.port != 22 else None
            listed = any(trust.known_hosts.match(name, "", port)[:2])
            what = "its host key is not the one in" if listed else "it has no host key in"
            raise UntrustedError(f"{what} {settings.known_hosts}") from None
        except asyncssh.KeyExchangeFailed as error:
            raise UntrustedError(one_line(f"no key exchange: {error.reason}")) from error
        except (asyncssh.PermissionDenied, asyncssh.IllegalUserName) as error:
            raise UntrustedError(f"it refuses the user {settings.user} with {settings.identity_file}") from error
        except (asyncssh.Error, OSError, ValueError) as error:  # ValueError: a name that DNS cannot have
            raise HostError(f"cannot connect: {reason(error)}") from error

    async def _trusting(self) -> _Trust:
        """The two key files, read again when they have changed. Where they cannot be read for a while (a disk that hangs)
        what was read last goes on. Raises HostError.
        """
        known, patience_s = self._trust, self._settings.timeout_s
        async with self._loading:
            try:
                self._trust = await self._reading.run(
                    lambda: newest_trust(self._settings, known), KEYS_S if known else patience_s
                )
            except (TimeoutError, BusyError):
                if known is None:
                    files = f"{self._settings.identity_file} and {self._settings.known_hosts}"
                    raise HostError(f"{files}: not read within {patience_s:g} s") from None
            except OSError as error:
                raise HostError(f"{error.filename}: {error.strerror or error}") from error
            return self._trust or known  # type: ignore[return-value]  # not None: it was read, now or before


# --- the far side ----------------------------------------------------------------------------------------------------


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


def newest_trust(settings: SshSettings, known: _Trust | None) -> _Trust:
    """``known`` while the files are those of it. Raises HostError, OSError."""
    of = tuple(map(_signature, (settings.identity_file, settings.known_hosts)))
    return known if known is not None and known.of == of else read_trust(settings, of)


def read_trust(settings: SshSettings, of: tuple[tuple[int, int, int], ...]) -> _Trust:
    """Raises HostError, OSError."""
    import asyncssh

    try:
        key = asyncssh.read_private_key(settings.identity_file)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise HostError(one_line(f"{settings.identity_file}: {error}")) from error
    try:
        return _Trust(of, key, asyncssh.read_known_hosts(str(settings.known_hosts)))
    except ValueError as error:
        raise HostError(one_line(f"{settings.known_hosts}: {error}")) from error


def _signature(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
