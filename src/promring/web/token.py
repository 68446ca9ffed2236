"""The bearer token of ``--web.token-file``: read for each use, so that it can be changed, and never on the event loop.

``secretfile`` says what counts while the file cannot be read.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from aiohttp import web

from promring.runtime import secretfile


class Token:
    """``path`` None: there is no token."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def configured(self) -> bool:
        return self._path is not None

    async def read(self) -> str:
        """The token; empty when there is none, or the file is not one line of text."""
        return (await self._found())[0]

    async def trouble(self) -> str:
        """Why the file holds no token; empty when it does, or there shall be none."""
        return (await self._found())[1]

    async def _found(self) -> tuple[str, str]:
        if self._path is None:
            return "", ""
        try:
            return await secretfile.read_line(self._path), ""
        except secretfile.SecretError as error:
            return "", str(error)

    async def given_by(self, request: web.Request) -> bool:
        """Whether the request has it."""
        given = bearer(request)
        token = await self.read() if given else ""
        return bool(token) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def bearer(request: web.Request) -> str:
    """The bearer token of a request, right or wrong; empty when it has none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
