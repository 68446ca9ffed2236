"""The answer of ``/sd/{scraper}``: all slices of one scraper, of all services, for its agent.

A line of JSON lists every slice. Then come the bodies of those that are sent, one after the other, each whole and as it is,
or as gzip: the lengths are in the list. Who asks names what it has by marks of ``MARK`` characters, and what it does not
take now by others. A mark is of the file and of what is in it: 1000 of them fit into one line of a header.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import zlib
from collections.abc import Iterable

import msgspec

from promring.delivery.receiver import Envelope, RefusedError, parse_follows, parse_generation
from promring.model import Generation, PromringError

CONTENT_TYPE = "application/x-promring-slices"
HAVE, DECLINED = "X-Promring-Have", "X-Promring-Declined"
OUTRANKED = "X-Promring-Outranked"
"""``generation;file``, some of them: what the asker has in that file, and refuses what is offered because of that."""
OUTRANKED_MOST = 20
UNTAKEN = "X-Promring-Untaken"
"""Why the asker has not taken what was offered last (``delivery.askers``)."""
SERVICES_MOST = 1000
MARK = 8
LISTING_BYTES_MAX = 1024 * 1024


class BundleError(PromringError):
    """It is no such answer; the text says why."""


class Listed(msgspec.Struct, omit_defaults=True):
    """A slice. ``sent``: how many bytes of the answer are its body, with ``gzip`` packed; None: it is not sent."""

    service: str
    generation: str
    sha256: str
    follows: int = 0
    """As in ``Envelope``."""
    sent: int | None = None
    gzip: bool = False

    def sealed(self, body: bytes) -> Envelope:
        """Raises ``RefusedError`` for nonsense."""
        try:
            generation = parse_generation(self.generation)
            return Envelope(body, self.sha256, generation, parse_follows(str(self.follows or ""), generation))
        except ValueError as error:
            raise RefusedError(f"{self.service}: {error}") from error


class Listing(msgspec.Struct, omit_defaults=True):
    """``without``: services that are configured, with nothing for this scraper (no plan yet, or it is not in it): what is in
    neither list is not configured. ``named``: how many marks came with the request. ``blind``: the controller has not seen
    the lock for long, so another one may lead.
    """

    slices: list[Listed]
    without: list[str] = []
    named: int = 0
    blind: bool = False


_decode = msgspec.json.Decoder(Listing).decode


def outranked_in(header: str) -> dict[str, Generation]:
    """What an asker has, by file; what is nonsense is left out."""
    found = {}
    for one in header.split(",")[:OUTRANKED_MOST]:
        generation, _, file = one.strip().partition(";")
        with contextlib.suppress(ValueError):
            found[file] = parse_generation(generation)
    return found


def mark(file: str, sha256: str) -> str:
    """Of a slice with that digest in a file of that name (``runtime.paths.file_name`` of its service)."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{file}\n{sha256}".encode()).digest()[:6]).decode()


def marks_in(header: str) -> frozenset[str]:
    """Any text is understood, or taken as if it were not there."""
    return frozenset(header[i : i + MARK] for i in range(0, min(len(header), SERVICES_MOST * MARK), MARK))


def line_of(listing: Listing) -> bytes:
    return msgspec.json.encode(listing) + b"\n"


def opened(answer: bytes) -> tuple[Listing, dict[str, bytes]]:
    """The list, and by service what was sent, packed or not. Raises ``BundleError``."""
    end = answer.find(b"\n", 0, LISTING_BYTES_MAX)
    try:
        listing = _decode(answer[: max(end, 0)])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"no list of slices in the answer: not promring's: {str(error)[:100]}") from error
    lengths = [one.sent for one in listing.slices if one.sent is not None]
    if any(length < 0 for length in lengths) or end + 1 + sum(lengths) != len(answer):
        raise BundleError(f"{len(answer)} bytes of another length than the list says")
    if _twice(one.service for one in listing.slices) or len(listing.slices) > SERVICES_MOST:
        raise BundleError(f"a service is listed twice, or more than {SERVICES_MOST}")
    found, at = {}, end + 1
    for one in listing.slices:
        if one.sent is not None:
            found[one.service] = answer[at : at + one.sent]
            at += one.sent
    return listing, found


def unpacked(body: bytes, bytes_max: int) -> bytes:
    """Of gzip. Raises ``BundleError`` for what is none, is cut, or is longer."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        whole = unpack.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise BundleError(f"a slice that is no gzip: {error}") from error
    if len(whole) > bytes_max:
        raise BundleError(f"a slice of more than {bytes_max} bytes")
    if not unpack.eof:
        raise BundleError("a slice that is cut")
    return whole


def _twice(names: Iterable[str]) -> bool:
    every = list(names)
    return len(set(every)) < len(every)
