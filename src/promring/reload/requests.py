"""Who asks for a reload: a person by HTTP, or SIGHUP. Reloads go one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from promring.reload.decisions import Reloaded


class ReloadRequests:
    """Those who ask during a reload get the answer of the next."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._forced = False
        self._answers: list[asyncio.Future[Reloaded]] = []

    def hangup(self) -> None:
        """Somebody wants a reload, and waits for no answer."""
        self._wanted.set()

    async def ask(self, *, force: bool) -> Reloaded:
        """``force``: also when targets would be lost by it."""
        answer: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._forced |= force
        self._wanted.set()
        return await answer

    async def next(self) -> tuple[bool, Sequence[asyncio.Future[Reloaded]]]:
        """Wait until somebody asks: whether it is forced, and who wants to hear what came of it."""
        await self._wanted.wait()
        self._wanted.clear()
        answers, self._answers = self._answers, []
        forced, self._forced = self._forced, False
        return forced, answers
