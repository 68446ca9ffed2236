"""Connections of an ssh delivery: names, jump hosts, keys.

Promises: the host key of every hop is checked; only the one key (and its certificate) is offered; no agent, no password, no
``~/.ssh/config``. A name that hangs costs its own host only (``resolver``). What fails before the host itself is reached
(key files, descriptors, names, a jump host) is ``UnsentError``: it says nothing about the host.
Not promised: an end; the caller has a time-out, and is told each ``Step``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from promring.delivery.ssh_push import HostError, one_line, reason
from promring.delivery.ssh_trust import KeyFiles, Trust, UnsentError, newest_trust, why_not_valid
from promring.runtime.resolver import Resolver
from promring.runtime.threads import BusyError, Single
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    import asyncssh

KEYS_S = 1.0
"""So long the key files are waited for when they were read before."""
KEEPALIVE_S = 15.0
JUMP_KEEPALIVE_S = 2.0
"""A jump host that is gone is noticed before the hosts behind it have failed often."""
JUMP_PAUSE_S = 1.0
OURS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EADDRNOTAVAIL}
    | {errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM, errno.EACCES}
)
"""Errors of a socket that the other side has no part in."""
# After the kinds of the keys that are known: a host with a key of another kind is then told from one that hangs up.
HOST_KEY_KINDS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
_JUMP = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_.-]*)@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::([0-9]{1,5}))?")


class UntrustedError(HostError):
    """Its key, or ours, is wrong: that stays so until a person mends it."""


class Step(NamedTuple):
    """What is being done; ``ours``: the host has no part in it yet."""

    text: str
    ours: bool = False


KEYS, NAME, JUMPS = (
    Step("reading the keys", True),
    Step("looking up its name", True),
    Step("connecting to the jump host", True),
)
CONNECTING = Step("connecting")
At = Callable[[Step], None]


class Hop(NamedTuple):
    host: str
    port: int
    user: str

    def __str__(self) -> str:
        return self.host if self.port == 22 else f"{self.host}:{self.port}"


def parse_jump(text: str, user: str) -> Hop:
    """``[user@]host[:port]``. Raises ValueError."""
    match = _JUMP.fullmatch(text)
    if match is None or not 0 < int(match[3] or 22) < 65536:
        raise ValueError(f"{text!r} must be [user@]host[:port]")
    return Hop(match[2].strip("[]"), int(match[3] or 22), match[1] or user)


@dataclass(frozen=True, slots=True)
class Route:
    """How hosts are reached: ``jumps`` one after the other, then each host at ``port`` as ``user``."""

    port: int
    user: str
    jumps: tuple[Hop, ...] = ()


class Connector:
    """``patience_s``: for reading the key files the first time, and for connecting to the jump hosts."""

    def __init__(self, files: KeyFiles, route: Route, patience_s: float, log: Logger, resolver: Resolver) -> None:
        self._files, self._route, self._patience_s, self._log = files, route, patience_s, log
        self._resolver = resolver
        self._trust: Trust | None = None
        self._loading, self._jumping = asyncio.Lock(), asyncio.Lock()
        self._reading = Single()
        self._way: list[asyncssh.SSHClientConnection] = []
        """The kept connections to the jump hosts, each through the one before."""
        self._no_way: tuple[float, UnsentError] | None = None
        """Until when a jump host is left alone, and why."""

    async def connect(self, name: str, at: At = lambda _: None) -> asyncssh.SSHClientConnection:
        """``at`` is told each step. Raises HostError, UntrustedError, UnsentError."""
        at(KEYS)
        trust = await self._trusting()
        at(JUMPS)
        tunnel = await self._tunnel(trust)
        return await self._open(Hop(name, self._route.port, self._route.user), trust, tunnel, at)

    async def close(self) -> None:
        for connection in self._drop_way():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()

    def _drop_way(self) -> list[asyncssh.SSHClientConnection]:
        way, self._way = self._way, []
        for connection in reversed(way):
            connection.abort()
        return way

    # --- jump hosts --------------------------------------------------------------------------------------------------

    async def _tunnel(self, trust: Trust) -> asyncssh.SSHClientConnection | None:
        """The connection to the last jump host, shared by all hosts; None: there is none. Raises UnsentError."""
        if not self._route.jumps:
            return None
        async with self._jumping:
            if len(self._way) < len(self._route.jumps) or any(c.is_closed() for c in self._way):
                self._drop_way()
                if self._no_way is not None and time.monotonic() < self._no_way[0]:
                    raise self._no_way[1]
                try:
                    await self._go(trust)
                except UnsentError as error:
                    self._no_way = time.monotonic() + JUMP_PAUSE_S, error
                    raise
            return self._way[-1]

    async def _go(self, trust: Trust) -> None:
        for hop in self._route.jumps:
            before = self._way[-1] if self._way else None
            try:
                async with asyncio.timeout(self._patience_s):
                    self._way.append(await self._open(hop, trust, before, keepalive_s=JUMP_KEEPALIVE_S))
            except TimeoutError:
                self._drop_way()
                raise UnsentError(f"jump host {hop}: connecting took more than {self._patience_s:g} s") from None
            except HostError as error:
                self._drop_way()
                raise UnsentError(f"jump host {hop}: {error}") from error

    # --- one hop -----------------------------------------------------------------------------------------------------

    async def _open(
        self,
        hop: Hop,
        trust: Trust,
        tunnel: asyncssh.SSHClientConnection | None,
        at: At = lambda _: None,
        *,
        keepalive_s: float = KEEPALIVE_S,
    ) -> asyncssh.SSHClientConnection:
        """Every address of its name in turn, until one lets us connect. Raises HostError, UntrustedError, UnsentError."""
        at(NAME)
        addresses = [hop.host] if tunnel is not None else await self._addresses(hop)
        at(CONNECTING)
        for address in addresses[:-1]:
            with contextlib.suppress(TimeoutError, _UnreachedError):
                async with asyncio.timeout(self._patience_s / 2 / len(addresses)):
                    return await self._open_at(address, hop, trust, tunnel, keepalive_s)
        return await self._open_at(addresses[-1], hop, trust, tunnel, keepalive_s)

    async def _addresses(self, hop: Hop) -> list[str]:
        """Raises UnsentError: who has no address now may have the best of healths."""
        try:
            found = await self._resolver.resolve(hop.host, hop.port)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, socket.gaierror) else reason(error)
            raise UnsentError(f"its name cannot be resolved: {why}") from error
        return [f["host"] for f in found] or [hop.host]

    async def _open_at(
        self, address: str, hop: Hop, trust: Trust, tunnel: asyncssh.SSHClientConnection | None, keepalive_s: float
    ) -> asyncssh.SSHClientConnection:
        import asyncssh

        try:
            return await asyncssh.connect(
                address,
                hop.port,
                tunnel=tunnel or (),
                host_key_alias=hop.host,
                username=hop.user,
                client_keys=trust.keys,
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
                keepalive_interval=keepalive_s,
                keepalive_count_max=2,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._unverified(hop, trust, error) from None
        except asyncssh.KeyExchangeFailed as error:
            raise UntrustedError(one_line(f"no key exchange: {error.reason}")) from error
        except (asyncssh.PermissionDenied, asyncssh.IllegalUserName) as error:
            raise self._refused(hop, trust) from error
        except OSError as error:
            if error.errno in OURS:
                raise UnsentError(f"cannot connect: {reason(error)}") from error
            raise _UnreachedError(f"cannot connect: {reason(error)}") from error
        except asyncssh.ChannelOpenError as error:
            raise HostError(f"cannot connect through the jump host: {reason(error)}") from error
        except (asyncssh.Error, ValueError) as error:  # ValueError: a name that DNS cannot have
            raise HostError(f"cannot connect: {reason(error)}") from error

    def _unverified(self, hop: Hop, trust: Trust, error: asyncssh.HostKeyNotVerifiable) -> HostError:
        if "expired" in str(error) or "not yet valid" in str(error):
            return UntrustedError(one_line(f"its host certificate: {error.reason}"))
        listed = any(trust.known_hosts.match(hop.host, "", hop.port if hop.port != 22 else None)[:2])
        what = "its host key is not the one in" if listed else "it has no host key in"
        return UntrustedError(f"{what} {self._files.known_hosts}")

    def _refused(self, hop: Hop, trust: Trust) -> HostError:
        if why := why_not_valid(trust.certificate):
            return UnsentError(f"{self._files.certificate}: {why}")
        with_it = f" and {self._files.certificate}" if trust.certificate is not None else ""
        return UntrustedError(f"it refuses the user {hop.user} with {self._files.identity_file}{with_it}")

    # --- keys --------------------------------------------------------------------------------------------------------

    async def _trusting(self) -> Trust:
        """What the key files say, read again when they have changed. Where they cannot be read for a while (a disk that
        hangs) what was read last goes on. Raises UnsentError.
        """
        async with self._loading:
            known = self._trust
            try:
                trust = await self._reading.run(
                    lambda: newest_trust(self._files, known), KEYS_S if known else self._patience_s
                )
            except (TimeoutError, BusyError):
                if known is None:
                    raise UnsentError(f"{self._files}: not read within {self._patience_s:g} s") from None
                return known
            self._trust = trust
        if trust is not known and trust.skipped:
            self._log.warning("known_hosts_lines_skipped", file=str(self._files.known_hosts), detail=trust.said)
        return trust


class _UnreachedError(HostError):
    """Nobody at this address: another one of the same name may do."""
