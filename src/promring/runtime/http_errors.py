"""Why there is no answer over HTTP. The type says whose trouble that is; ``http_client`` raises them and hands them on."""

from __future__ import annotations


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
