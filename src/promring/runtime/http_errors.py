"""Why there is no answer over HTTP. The type says whose trouble that is; ``http_client`` raises them and hands them on."""

from __future__ import annotations

import os
import ssl
from typing import TypeGuard

ERROR_MAX = 300


class HttpError(Exception):
    """No usable answer: refused, timed out, cut, too large. The text says which, in one line."""


class TooLargeError(HttpError):
    """The body is longer than the caller takes."""


class RefusedError(HttpError):
    """Nobody listens there: each address of the name refused the connection."""


class DistrustError(HttpError):
    """The other side is there and speaks, but one of the two does not trust the other, or they agree on no TLS: for a
    certificate, its name or its time, a version, credentials. Trouble of a configuration: the other side is not dead.
    """


class NotAskedError(HttpError):
    """The request did not leave this machine: something is used up here. It says nothing about the other side."""


class UnresolvedError(NotAskedError):
    """The name has no address, or the name server did not say one in time."""


def is_distrust(error: BaseException | None) -> TypeGuard[ssl.SSLError]:
    """Whether TLS failed for want of trust, or of a version that both speak; not because a connection ended."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def closed_error(error: BaseException | None) -> str:
    """Why a connection ended."""
    if is_distrust(error):
        return tls_error(error)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "connection closed by the other side"


def tls_error(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(f"the certificate is not trusted: {error}")
    if "ALERT" in (error.reason or ""):
        return one_line(f"it refuses our TLS (a certificate of ours, or the version): {error}")
    return one_line(f"no TLS: {error}")


def one_line(text: str) -> str:
    """On one short line: libraries repeat in their errors what they were sent."""
    return " ".join(text[: ERROR_MAX * 4].split())[:ERROR_MAX]
