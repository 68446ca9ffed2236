"""Whom an ssh delivery trusts, and who it is itself: its key, its certificate, the host keys that are known.

Promises: a line of known_hosts that is none is left out and named, as OpenSSH does it; it costs no other line. A file that
cannot be read is trouble on our own side: ``UnsentError``.
Flow: ``ssh_connect`` reads this beside the event loop, ``trial`` before a configuration is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from promring.delivery.ssh_push import HostError, one_line
from promring.runtime import regular

if TYPE_CHECKING:
    import asyncssh

BYTES_MAX = 16 * 1024 * 1024
NAMED_MOST = 5
_Signature = tuple[int, int, int]


class UnsentError(HostError):
    """Trouble on our own side, or on the way: it says nothing about the host."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """``certificate_file`` None: ``IDENTITY-cert.pub`` where there is one, as ssh looks for it."""

    identity_file: Path
    known_hosts: Path
    certificate_file: Path | None = None

    @property
    def certificate(self) -> Path:
        return self.certificate_file or self.identity_file.with_name(f"{self.identity_file.name}-cert.pub")

    def __str__(self) -> str:
        return f"{self.identity_file} and {self.known_hosts}"


class Trust(NamedTuple):
    """What the files say. ``of`` tells a file that was changed; so many ``lines`` of known_hosts are some, ``skipped`` has
    why others are none.
    """

    of: tuple[_Signature | None, ...]
    keys: list[asyncssh.SSHKeyPair]
    known_hosts: asyncssh.SSHKnownHosts
    certificate: asyncssh.SSHCertificate | None
    lines: int
    skipped: tuple[str, ...]

    @property
    def said(self) -> str:
        """How many lines of known_hosts are left out, and why the first of them."""
        named = "; ".join(self.skipped[:NAMED_MOST])
        return f"{len(self.skipped)} of {len(self.skipped) + self.lines} lines are left out: {named}"


def newest_trust(files: KeyFiles, known: Trust | None) -> Trust:
    """``known`` while the files are those of it. Blocks. Raises UnsentError."""
    of = tuple(_signature(path) for path in (files.identity_file, files.known_hosts, files.certificate))
    return known if known is not None and known.of == of else read_trust(files, of)


def read_trust(files: KeyFiles, of: tuple[_Signature | None, ...] = ()) -> Trust:
    """Blocks. Raises UnsentError."""
    import asyncssh

    path = files.identity_file
    try:
        key = asyncssh.import_private_key(_read(path))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, UnicodeDecodeError) as error:
        raise UnsentError(one_line(f"{path}: {error}")) from error
    certificate = _certificate(files, key)
    pairs = asyncssh.load_keypairs([key], certlist=[certificate] if certificate else ())
    known_hosts, lines, skipped = parse_known_hosts(_read(files.known_hosts))
    return Trust(of, list(pairs), known_hosts, certificate, lines, skipped)


def _certificate(files: KeyFiles, key: asyncssh.SSHKey) -> asyncssh.SSHCertificate | None:
    import asyncssh

    path = files.certificate
    if files.certificate_file is None and not path.exists():
        return None
    try:
        certificate = asyncssh.import_certificate(_read(path))
    except (asyncssh.KeyImportError, UnicodeDecodeError) as error:
        raise UnsentError(one_line(f"{path}: {error}")) from error
    if certificate.key.public_data != key.public_data:
        raise UnsentError(f"{path}: it is the certificate of another key than {files.identity_file}")
    return certificate


def why_not_valid(certificate: asyncssh.SSHCertificate | None) -> str:
    """Why no host would take it now; empty when it may be taken. (To whom it was given is the hosts' business.)"""
    if certificate is not None:
        try:
            certificate.validate(1, None)  # type: ignore[attr-defined]  # 1: a user's; what OpenSSH certificates have
        except ValueError as error:
            return str(error)
    return ""


def parse_known_hosts(text: bytes) -> tuple[asyncssh.SSHKnownHosts, int, tuple[str, ...]]:
    """The lines that are some, how many, and ``line N: why`` of those that are none."""
    import asyncssh

    known, lines, skipped = asyncssh.SSHKnownHosts(), 0, []
    for number, line in enumerate(text.split(b"\n"), 1):
        try:
            decoded = line.decode().strip()
            if decoded and not decoded.startswith("#"):
                _check_key(decoded)
                known.load(decoded)
                lines += 1
        except (ValueError, asyncssh.Error) as error:
            why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).partition(": ")[0]
            skipped.append(one_line(f"line {number}: {why}"))
    return known, lines, tuple(skipped)


def _check_key(line: str) -> None:
    """asyncssh passes over a line whose key is none without a word. Raises ValueError."""
    import asyncssh

    parts = line.split(None, 2 if line.startswith("@") else 1)
    if len(parts) > 1:
        asyncssh.import_public_key(parts[-1])


def _read(path: Path) -> bytes:
    try:
        return regular.read(path, BYTES_MAX)
    except OSError as error:
        raise UnsentError(f"{path}: {error.strerror or error}") from error


def _signature(path: Path) -> _Signature | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
