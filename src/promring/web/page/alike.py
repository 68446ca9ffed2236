"""One page for all who ask for the same while nothing changes. A hundred people who look at a big fleet ask for its page
again after every event: it is made once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from promring.runtime.threads import consume_error

PAGES_MOST = 40
"""Whoever may read may ask for many queries: a page of a big fleet has a few hundred kB. Each page and each packed one
counts.
"""


class Alike:
    """Used by the event loop only."""

    def __init__(self) -> None:
        self._of: tuple[object, int] = None, 0
        self._pages: dict[str, asyncio.Future[bytes]] = {}

    async def get(self, overview: object, happened: int, url: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """The page that was made before, as long as the ``overview`` is the same object and as many events ``happened``.
        Raises what ``make`` does, for all who wait for it; the next one who asks tries again.
        """
        if overview is not self._of[0] or happened != self._of[1] or len(self._pages) >= PAGES_MOST:
            self._of, self._pages = (overview, happened), {}
        made = self._pages.get(url)
        if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
            made = self._pages[url] = asyncio.ensure_future(make())
            made.add_done_callback(consume_error)
        return await asyncio.shield(made)  # who goes away does not take it from the others
