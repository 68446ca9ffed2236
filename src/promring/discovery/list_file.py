"""One file of targets and its last good list.

A file is not read again while its stamp vouches for what was read (``stamps``), for at most ``TRUST`` of the interval in
which its source is read anyway.

Half a file in JSON is malformed, but half a file in YAML is a shorter list: it is read when nobody has written to it for
``SETTLED_S``. A writer that pauses for longer is not noticed; a careful one writes beside and renames.
"""

from __future__ import annotations

import os
import stat
import time
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import NamedTuple

from promring.core.pool import pool_of
from promring.discovery import groups
from promring.discovery.list_rules import ListRules
from promring.discovery.stamps import Stamp, Stamps
from promring.model import DiscoveryError, TargetPool
from promring.runtime import regular

FILE_BYTES_MAX = 512 * 1024 * 1024
SETTLED_S = 1.0
SETTLING_MOST = 5
TRUST = 0.9
"""Less than the least pause between two reads of a source in which nothing changed: each such read is of the bytes."""


class _Vouched(NamedTuple):
    stamp: Stamp
    until_s: float


class ListFile:
    """``interval_s``: in which its source is read although nothing changed."""

    def __init__(self, path: str, rules: ListRules, stamps: Stamps, interval_s: float) -> None:
        self._path, self._stamps, self._interval_s = path, stamps, interval_s
        self._is_json = path.lower().endswith(".json")
        self._reader = groups.Reader(groups.many_from_json if self._is_json else groups.many_from_yaml, rules)
        self._vouched: _Vouched | None = None
        """Of the bytes that ``last`` is made of; never of bytes that are no list."""
        self._read: _Vouched | None = None
        """Of those that the last ``open`` gave."""
        self.last: TargetPool = pool_of(())
        self.good = False
        self.bytes_read = 0
        """By the last ``open``."""

    def open(self) -> TargetPool | groups.Compute:
        """As ``groups.Reader.opened``; ``last``, unread, of a file that did not change."""
        stamp, now = self._stamps.of(self._path), self._stamps.clock()
        self.bytes_read, self._read = 0, self._vouched
        if self._vouched is not None and self._vouched.stamp == stamp and now < self._vouched.until_s:
            return self.last
        self._read = None
        text, after = self._text()
        if stamp == after and self._stamps.vouches(self._path, stamp, now):
            self._read = _Vouched(stamp, now + TRUST * self._interval_s)
        if is_empty(text):
            raise DiscoveryError(f"{self._path}: the file is empty (no targets would be [])")
        self.bytes_read = len(text)
        return self._reader.opened(text, self._path)

    def take(self, found: TargetPool | groups.Compute) -> None:
        """Make what ``open`` gave the last good list. Raises ``DiscoveryError`` when it is none."""
        self.last, self.good = found if isinstance(found, TargetPool) else found(), True
        self._vouched = self._read

    def _text(self) -> tuple[bytes, Stamp]:
        """All bytes, and the stamp after they were read."""
        try:
            with open(self._path, "rb", opener=_without_waiting) as file:
                descriptor = file.fileno()
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise DiscoveryError(f"{self._path}: not a regular file")
                if not self._is_json:
                    self._settle(descriptor)
                text = regular.read_most(file, FILE_BYTES_MAX + 1)
                after = self._stamps.of(descriptor)
        except FileNotFoundError:
            why = "vanished; reload if its targets shall go" if self.good else "no such file"
            raise DiscoveryError(f"{self._path}: {why}") from None
        except OSError as error:
            raise DiscoveryError(f"{self._path}: {error.strerror}") from error
        if len(text) > FILE_BYTES_MAX:
            raise DiscoveryError(f"{self._path}: larger than {FILE_BYTES_MAX} bytes")
        return text, after

    def _settle(self, descriptor: int) -> None:
        """Wait until the file was not written to for a while. Raises ``DiscoveryError`` when that takes too long."""
        for _ in range(SETTLING_MOST):
            written_s = os.fstat(descriptor).st_mtime
            if abs(time.time() - written_s) > SETTLED_S:  # ahead, too: a file server's clock is not ours
                return
            time.sleep(SETTLED_S)
            if os.fstat(descriptor).st_mtime == written_s:
                return
        raise DiscoveryError(f"{self._path}: is still being written")


def is_empty(text: bytes) -> bool:
    """Whether there is nothing in it, or only a byte order mark: a file that is not written yet."""
    return not text.removeprefix(BOM_UTF8).strip() or text in (BOM_UTF16_BE, BOM_UTF16_LE)


def _without_waiting(path: str, flags: int) -> int:
    """For ``open``, which closes it again when the path is a folder."""
    return os.open(path, flags | os.O_NONBLOCK)
