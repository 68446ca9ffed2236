"""What clients of one server have in common: a session that lives as long as they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from promring.runtime.http_client import new_session

if TYPE_CHECKING:
    import aiohttp  # which takes long to load, and a configuration needs none of it


class WithSession:
    """A client of one server with a session of its own, while it is entered as an async context manager."""

    def __init__(self, *, connections_max: int, unix_socket: str | None = None) -> None:
        self._connections_max, self._unix_socket = connections_max, unix_socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = new_session(connections_max=self._connections_max, unix_socket=self._unix_socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None  # entered
        return self._session
