"""The bearer token of ``--web.token-file``: read for each use, so that it can be changed, and never on the event loop.

A file that cannot be read for ``READ_S`` (a hung mount) costs one thread; the token that was read last counts then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import stat
from pathlib import Path

from aiohttp import web

from promring.threads import beside, heed

READ_S = 2.0
BYTES_MOST = 64 * 1024


class Token:
    """``path`` None: there is no token."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last = ""
        self._reading: asyncio.Future[str] | None = None

    @property
    def configured(self) -> bool:
        return self._path is not None

    async def read(self) -> str:
        """The token; empty when there is none."""
        path = self._path
        if path is None:
            return ""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(beside(lambda: _read(path)))
            self._reading.add_done_callback(heed)
        with contextlib.suppress(TimeoutError):
            self._last = await asyncio.wait_for(asyncio.shield(self._reading), READ_S)
        return self._last

    async def given_by(self, request: web.Request) -> bool:
        """Whether the request has it."""
        given = bearer(request)
        token = await self.read() if given else ""
        return bool(token) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def bearer(request: web.Request) -> str:
    """The bearer token of a request, right or wrong; empty when it has none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _read(path: Path) -> str:
    """Empty when it is no regular file of text, or cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(file, "rb") as reader:
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return ""
            return reader.read(BYTES_MOST).decode().strip()
        except (OSError, UnicodeError):
            return ""
