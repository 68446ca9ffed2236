"""Tokens, passwords, headers and certificates, read beside the event loop for each use, so that they can be rotated.

Promises: a read that hangs (a dead mount) costs ``READ_S`` once, is not begun a second time, and then costs nothing while it
lasts; a file that *cannot be read for a while* (no answer in time, an I/O error, no descriptor left) is replaced by what
it last held, which is logged once; a file that is gone, forbidden, too large or no regular file is an error at once. No
error and no log line holds content of a file.
"""

from __future__ import annotations

import concurrent.futures
import errno
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from promring.model import PromringError
from promring.runtime import certificates, regular
from promring.runtime.threads import ends_within, shared
from promring.runtime.tls import TlsFiles
from promring.telemetry import log

READ_S = 1.0
SECRET_BYTES_MAX = 64 * 1024
CERTIFICATES_BYTES_MAX = 4 * 1024 * 1024
"""A bundle of all public authorities is 0.3 MB."""
KEPT_MAX = 1000
BYTE_ORDER_MARK = "\ufeff"
FOR_A_WHILE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR}
)
"""Errors that say nothing about the file."""

T = TypeVar("T")


class SecretError(PromringError):
    """A file that is needed cannot be had; the text names it and says why, and holds nothing of it."""


class EmptySecretError(SecretError):
    """The file is there and holds nothing."""


class LastGood(Generic[T]):
    """One thing that is read again and again in threads, and what it last was. Used from any event loop."""

    def __init__(self, name: str, work: Callable[[T | None], T]) -> None:
        self._name, self._work = name, work
        self._lock = threading.Lock()
        self._running: concurrent.futures.Future[T] | None = None
        self._began = 0.0
        self._last: tuple[T] | None = None
        self._said = False

    @property
    def hangs(self) -> bool:
        """Whether a read is under way."""
        return self._running is not None and not self._running.done()

    async def get(self) -> T:
        """Raises ``SecretError``."""
        try:
            running = self._begin()
            left_s = max(0.0, READ_S - (time.monotonic() - self._began))
            if not await ends_within(left_s, running):
                return self._kept(f"not read within {READ_S:g} s, still trying")
            value = running.result()
        except ssl.SSLError as error:
            raise SecretError(f"{self._name}: {error.reason or 'no usable certificate or key'}") from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            if error.errno in FOR_A_WHILE:
                return self._kept(why)
            raise SecretError(f"{error.filename or self._name}: {why}") from None
        except MemoryError:
            return self._kept("no memory")
        if self._said:
            log.get().info("secret_file_read_again", file=self._name)
        self._last, self._said = (value,), False
        return value

    def _begin(self) -> concurrent.futures.Future[T]:
        with self._lock:
            if self._running is None or self._running.done():
                self._running = shared(lambda: self._work(self._last[0] if self._last else None))
                self._began = time.monotonic()
            return self._running

    def _kept(self, why: str) -> T:
        if self._last is None:
            raise SecretError(f"{self._name}: {why}")
        if not self._said:
            log.get().warning("secret_file_kept", file=self._name, error=why, note="what it last held is used")
        self._said = True
        return self._last[0]


_known: dict[Any, LastGood[Any]] = {}


def _of(key: object, make: Callable[[], LastGood[T]]) -> LastGood[T]:
    if key not in _known:
        while len(_known) >= KEPT_MAX:
            del _known[next(iter(_known))]
        _known[key] = make()
    return _known[key]


async def read(path: Path, bytes_max: int = SECRET_BYTES_MAX) -> bytes:
    """What ``path`` holds. Raises ``SecretError``."""
    return await _of(path, lambda: LastGood(str(path), lambda _: regular.read(path, bytes_max))).get()


async def read_line(path: Path) -> str:
    """A token or a password. Raises ``SecretError``."""
    return line(await read(path), path)


def check_line(path: Path) -> None:
    """Whether ``path`` holds a token or a password now. Blocks. Raises OSError, ``SecretError``."""
    line(regular.read(path, SECRET_BYTES_MAX), path)


def line(content: bytes, path: Path) -> str:
    """The token or password in a file that holds ``content``: one line of text, without the white space around it. Raises
    ``SecretError``.
    """
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise SecretError(f"{path}: is not text in UTF-8") from None
    if text.startswith(BYTE_ORDER_MARK):
        raise SecretError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
    if not text:
        raise EmptySecretError(f"{path}: is empty")
    if not text.isprintable():
        raise SecretError(f"{path}: has a line break or a control character in it")
    return text


_Read = tuple[dict[Path, bytes], ssl.SSLContext, dict[certificates.Place, certificates.Validity]]
"""What the files held, what was made of it, and how long certificate and authorities are valid."""


async def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of these files; the same object while they hold the same. Raises ``SecretError``."""

    def work(last: _Read | None) -> _Read:
        contents = {path: regular.read(path, CERTIFICATES_BYTES_MAX) for path in files.paths}
        if last is not None and last[0] == contents:
            return last
        return contents, files.context(), files.told(contents)

    named = (files.ca_file or files.ca_folder, files.cert_file, files.key_file)
    name = ", ".join(str(path) for path in named if path is not None) or "the system's certificate authorities"
    _, context, told = await _of(files, lambda: LastGood(name, work)).get()
    for place, valid in told.items():
        certificates.note(place, valid)
    return context
