"""How long the certificates are valid that this process shows to others: one that ends unnoticed ends connections.

A chain ends when the first of its certificates does. Of a certificate only the validity is read (X.509, RFC 5280, 4.1);
whether it is any good is OpenSSL's to say.

Promises: ``validity`` takes any bytes. Does not know certificates that the configuration holds as text, nor authorities.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

INTEGER, VERSION, UTC_TIME, GENERALIZED_TIME = 0x02, 0xA0, 0x17, 0x18
CERTIFICATES_MOST, KEPT_MAX = 100, 1000
USED_S = 86400.0
"""A file that was read so long ago is not in use any more: each connection reads it."""
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True, order=True)
class Validity:
    """From when to when, epoch seconds."""

    ends: float
    begins: float


def validity(pem: bytes) -> Validity | None:
    """Of that one of these certificates which ends first; None: there is none that can be read."""
    found = [_validity(text[1]) for text in islice(_PEM.finditer(pem), CERTIFICATES_MOST)]
    return min((one for one in found if one is not None), default=None)


def _validity(text: bytes) -> Validity | None:
    try:
        der = base64.b64decode(text)
        (_, certificate), *_ = _parts(der)
        (_, signed), *_ = _parts(certificate)
        fields = [content for tag, content in _parts(signed) if tag not in (VERSION, INTEGER)]
        _, _, times = fields[:3]  # after the algorithm and the issuer
        begins, ends = (_time(tag, written.decode("ascii")) for tag, written in _parts(times))
        return Validity(ends, begins)
    except (ValueError, IndexError, OverflowError):
        return None


def _parts(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element. Raises IndexError, ValueError."""
    at = 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size >= 0x80:
            digits = size - 0x80
            size, at = int.from_bytes(der[at : at + digits], "big"), at + digits
        if at + size > len(der):
            raise ValueError("is cut off")
        yield tag, der[at : at + size]
        at += size


def _time(tag: int, text: str) -> float:
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


_used: dict[Path, tuple[float, Validity]] = {}


def note(path: Path, valid: Validity) -> None:
    """It was read just now."""
    _used.pop(path, None)
    while len(_used) >= KEPT_MAX:
        del _used[next(iter(_used))]
    _used[path] = time.monotonic(), valid


def forget() -> None:
    """All of them: those that are used are noted again at their next connection."""
    _used.clear()


def in_use() -> dict[str, Validity]:
    """By path, of the certificates that were used lately."""
    since = time.monotonic() - USED_S
    return {str(path): valid for path, (at, valid) in list(_used.items()) if at >= since}
