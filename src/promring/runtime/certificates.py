"""How long the certificates are valid that this process shows to others, and the authorities that it trusts: one that ends
unnoticed ends connections.

A chain ends when the first of its certificates does. Of authorities the last one counts: which of them is still needed is
not known, and when the last is over nothing can be verified. Of a certificate only the validity is read (X.509, RFC 5280,
4.1); whether it is any good is OpenSSL's to say.

Promises: any bytes are taken. Does not know what the other side of a connection shows.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

INTEGER, VERSION, UTC_TIME, GENERALIZED_TIME = 0x02, 0xA0, 0x17, 0x18
CERTIFICATE, AUTHORITY = "certificate", "authority"
CERTIFICATES_MOST, KEPT_MAX = 1000, 1000
"""Of a file: a bundle of all public authorities has 150; of files."""
USED_S = 86400.0
"""A file that was read so long ago is not in use any more: each connection reads it."""
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True, order=True)
class Validity:
    """From when to when, epoch seconds."""

    ends: float
    begins: float


class Place(NamedTuple):
    """Where certificates stand: a file, or a key of one; and what they are there: ``CERTIFICATE`` or ``AUTHORITY``."""

    path: str
    kind: str


def told(path: str, kind: str, pem: bytes) -> dict[Place, Validity]:
    """What is to be told of what stands there: of a chain that which ends first, of authorities that which ends last; empty:
    there is none that can be read.
    """
    found = [one for text in islice(_PEM.finditer(pem), CERTIFICATES_MOST) if (one := _validity(text[1])) is not None]
    return {Place(path, kind): (min if kind == CERTIFICATE else max)(found)} if found else {}


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


_used: dict[Place, tuple[float, Validity]] = {}


def note(place: Place, valid: Validity) -> None:
    """It was read just now."""
    _used.pop(place, None)
    while len(_used) >= KEPT_MAX:
        del _used[next(iter(_used))]
    _used[place] = time.monotonic(), valid


def forget() -> None:
    """All of them: those that are used are noted again at their next connection."""
    _used.clear()


def in_use() -> dict[Place, Validity]:
    """Of those that were used lately."""
    since = time.monotonic() - USED_S
    return {place: valid for place, (at, valid) in list(_used.items()) if at >= since}
