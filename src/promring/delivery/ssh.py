"""Slices as files on other hosts, over ssh: the delivery of one service.

``deliver`` begins a try of every host that has a file due (``ssh_hosts``, shared by the services of a fleet), and does not
wait long for it. A try that has not ended is ``waiting``: it goes on in the background, and wakes the loop at its end. A
host that failed is left alone for a while, longer each time. On the other host ``receiver.sh`` writes the slice: a sender
that is killed, frozen or cut off leaves the old slice whole.

Promises: the newest slice wins; ``leads`` is asked before the bytes travel; nothing goes on after ``close`` or a cancelled
``deliver``. A host that is refused for its key, or that refuses ours, is left alone for ``pause_s``. A file that is known to
hold its slice is asked about again after ``recheck_s``. Trouble on our own side or on the way is ``unsent``.
Not promised: that far ``sync`` reaches the disk where ``sync`` takes no file.
Flow: ``ssh_hosts`` has the hosts, ``ssh_connect`` names, keys and jump hosts, ``ssh_push`` sends a slice.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from promring.config.kinds import Problem
from promring.config.templates import HostTemplate, RemoteTemplate, read_as_pattern
from promring.config.values import AbsolutePath, Interval, Port, UserName, key_of_file
from promring.delivery import Leads, Names, Outcome, Place, always
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.delivery.ssh_connect import Route, parse_jump
from promring.delivery.ssh_host import File, Host, are_same
from promring.delivery.ssh_hosts import SshHosts, SshPace
from promring.delivery.ssh_trust import KeyFiles, UnsentError, read_trust, why_not_valid
from promring.model import ConfigError, Scraper, Slice
from promring.runtime.paths import of_fleet, own_folders, path_of, render
from promring.runtime.resolver import Resolver
from promring.telemetry.log import Logger

__all__ = ["SshDelivery", "SshHosts", "SshPace", "SshSettings", "render_host", "require_asyncssh"]
INSTALL = "install it into promring's environment: pip install asyncssh"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
Places = dict[str, tuple[Host, File]]
"""By scraper."""


def _jump(text: str) -> str:
    parse_jump(text, "")
    return text


def _jumps(value: object) -> object:
    """A list, or hops with commas between, as ssh's ``-J`` has them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


class SshSettings(DeliverySettings):
    """``host`` and ``path`` are templates; ``timeout`` is for one file of one host, from connecting to the rename."""

    kind = "ssh"
    path_at = ("path",)

    host: HostTemplate = "{host}"
    port: Port = 22
    user: UserName
    path: RemoteTemplate
    identity_file: AbsolutePath
    known_hosts: AbsolutePath
    certificate_file: AbsolutePath | None = None
    proxy_jump: Annotated[
        tuple[Annotated[str, AfterValidator(_jump)], ...], BeforeValidator(_jumps), Field(max_length=8)
    ] = ()
    timeout: Interval = 5.0

    @property
    def key_files(self) -> KeyFiles:
        return KeyFiles(self.identity_file, self.known_hosts, self.certificate_file)

    @property
    def route(self) -> Route:
        return Route(self.port, self.user, tuple(parse_jump(jump, self.user) for jump in self.proxy_jump))

    def file(self, names: Names, scraper: Scraper) -> str:
        return path_of(self.path, *names, scraper)

    def place(self, names: Names, scraper: Scraper) -> Place:
        return Place(self.host.replace("{host}", scraper.host).lower(), self.port, self.file(names, scraper))

    def delivery(self, context: DeliveryContext) -> SshDelivery:
        """Hosts are shared by all services that reach them in the same way."""
        way = self.model_copy(update={"path": ""})
        hosts = context.shared.one(SshHosts, way, lambda: SshHosts(way, context.fleet_log))
        settings = self.model_copy(update={"path": of_fleet(self.path, context.names.fleet)})
        return SshDelivery(settings, context.log, hosts=hosts)

    def trial(self, names: Names, scrapers: Iterable[Scraper]) -> Iterator[Problem]:
        try:
            require_asyncssh()
        except ConfigError as error:
            yield (), str(error)
            return
        try:
            trust = read_trust(self.key_files)
        except UnsentError as error:
            yield (key_of_file(self, str(error), ("identity_file", "known_hosts", "certificate_file")),), str(error)
            return
        if trust.skipped and not trust.lines:
            yield ("known_hosts",), f"{self.known_hosts}: {trust.said}"
        if why := why_not_valid(trust.certificate):
            yield ("certificate_file",), f"{self.key_files.certificate}: {why}"

    def doubts(self) -> Iterator[Problem]:
        """Lines of known_hosts that are skipped, and one without any: hosts may be added later. Where it cannot be read, or
        all of its lines are skipped, that is a problem already.
        """
        if why := read_as_pattern(self.path):
            yield ("path",), why
        try:
            require_asyncssh()
            trust = read_trust(self.key_files)
        except (ConfigError, UnsentError):
            return
        if trust.skipped and trust.lines:
            yield ("known_hosts",), f"{self.known_hosts}: {trust.said}"
        if not (trust.skipped or trust.lines):
            yield ("known_hosts",), f"{self.known_hosts}: it has no line, so no host is trusted"


class SshDelivery:
    """``hosts``: those that it shares with others; None: its own. Raises ConfigError when asyncssh is not installed."""

    means = "ssh"
    pulled = False

    def __init__(
        self,
        settings: SshSettings,
        log: Logger,
        *,
        hosts: SshHosts | None = None,
        pace: SshPace | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        require_asyncssh()
        self._settings, self.log, self.own = settings, log, own_folders(settings.path)
        self._hosts = hosts or SshHosts(settings, log, pace=pace, resolver=resolver)
        self._hosts.join(self)
        self._leads: Leads = always
        self._wake: Callable[[], None] = lambda: None
        self._again: asyncio.TimerHandle | None = None

    def when_done(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def wake(self) -> None:
        self._wake()

    def leads(self) -> bool:
        """By the newest ``leads``: a try may be older."""
        return self._leads()

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self._leads = leads
        done, places = self._places(slices)
        self._silence()
        self._hosts.forget(self, [file for _, file in places.values()])
        try:
            self._hosts.begin({host.name: host for host, _ in places.values()}.values())
            await self._wait_for([file for _, file in places.values() if file.is_awaited])
        except asyncio.CancelledError:
            await self._hosts.stop(self)
            raise
        for slice_ in slices:
            if place := places.get(slice_.scraper.id):
                done[slice_.scraper.id] = self._outcome(*place, slice_)
        self._wake_later(places)
        return [done[s.scraper.id] for s in slices]

    async def close(self) -> None:
        """End all that goes on. The last one at these hosts ends the connections; without it they end after ``idle_s``."""
        self._wake = lambda: None
        self._silence()
        await self._hosts.leave(self)

    # --- timers ------------------------------------------------------------------------------------------------------

    def _silence(self) -> None:
        if self._again is not None:
            self._again.cancel()

    def _wake_later(self, places: Places) -> None:
        """Ring when the first of those that failed is due again."""
        now, due = time.monotonic(), list[float]()
        for host, file in places.values():
            failed = host.failures or file.failures
            if failed and not file.is_awaited and not file.is_pushed and host.paused_until <= now:
                due.append(max(host.retry_at, file.retry_at))
        if due:
            self._again = asyncio.get_running_loop().call_later(max(0.0, min(due) - now), self._wake)

    async def _wait_for(self, files: Sequence[File]) -> None:
        """Not long, and hardly at all for those that let us wait the last time."""
        pace = self._hosts.pace
        for slow, wait_s in ((False, pace.wait_s), (True, pace.slow_wait_s)):
            if ends := [f.ends for f in files if f.slow is slow and f.ends is not None and not f.ends.done()]:
                await asyncio.wait(ends, timeout=wait_s)

    # --- which host, which file --------------------------------------------------------------------------------------

    def path(self, slice_: Slice) -> str:
        return str(render(self._settings.path, slice_.service, slice_.scraper))

    def _places(self, slices: Sequence[Slice]) -> tuple[dict[str, Outcome], Places]:
        """Where each slice belongs, and what cannot be delivered."""
        failed, places, taken = dict[str, Outcome](), Places(), dict[tuple[str, str], Slice]()
        for slice_ in slices:
            id_, path = slice_.scraper.id, self.path(slice_)
            try:
                name = render_host(self._settings.host, slice_.scraper)
            except ValueError as error:
                failed[id_] = Outcome(id_, "failed", f"{error}:{path}: not a host name")
                continue
            first = taken.setdefault((name, path), slice_)
            if first is not slice_:
                why = f"it is the file of {first.scraper.id} already; put {{scraper}} into the path"
                failed[id_] = Outcome(id_, "failed", f"{name}:{path}: {why}")
                continue
            host, file = places[id_] = self._hosts.file(self, name, path)
            file.want(slice_)
            file.slow |= host.slow and not host.answered
        return failed, places

    def _outcome(self, host: Host, file: File, slice_: Slice) -> Outcome:
        """What is to be told of a slice now: how its push ended, once; then whether it is there."""
        result, file.result = file.result, None
        if result is not None and (are_same(result.of, slice_) or result.outcome.was_not_brought):
            return result.outcome._replace(scraper=slice_.scraper.id)
        if self._hosts.is_held(file, slice_):
            return Outcome(slice_.scraper.id, "same")
        where = f"{host.name}:{file.path}: "
        if host.paused_until > time.monotonic():
            return Outcome(slice_.scraper.id, "failed", where + host.trouble)
        if file.is_awaited or file.is_pushed:
            file.slow = file.told_waiting = host.slow = host.told_waiting = True
        known = f"{where}{host.error}" if host.error else f"{where}{host.link.step.text} takes long"
        return Outcome(slice_.scraper.id, "waiting", file.error or known)


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
