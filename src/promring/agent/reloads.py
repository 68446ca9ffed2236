"""Reloads of the scraper beside an agent: after each answer of which something was written, and until one works."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from promring.agent.metrics import AgentMetrics
from promring.runtime.backoff import backoff_s
from promring.runtime.http_client import HttpError, new_session, request
from promring.runtime.redact import shown
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S = 120.0
"""A Prometheus finishes a reload also when nobody waits for it any more, and begins the next one then."""
AGAIN_S, AGAIN_MOST_S = 2.0, 60.0


class Reloads:
    """``due``: set it to have one. A scraper that is just starting has its lists anyway. ``trouble``: why the last one
    failed; empty: it did not.
    """

    def __init__(self, url: str, metrics: AgentMetrics, log: Logger) -> None:
        self._url, self._metrics, self._log = url, metrics, log
        self.due, self.trouble = asyncio.Event(), ""
        self._failures, self._lasting = 0, Lasting()

    async def run(self) -> None:
        """For ever."""
        async with new_session(keep_alive=False) as session:
            while True:
                await self.due.wait()
                self.due.clear()  # what is written meanwhile needs another one
                works = False
                try:
                    works = await self._once(session)
                finally:
                    if not works:
                        self.due.set()
                if not works:
                    await asyncio.sleep(backoff_s(self._failures, AGAIN_S, AGAIN_MOST_S))

    async def _once(self, session: aiohttp.ClientSession) -> bool:
        """Whether it worked."""
        try:
            answer = await request(session, "POST", self._url, timeout_s=TIMEOUT_S)
            why = "" if 200 <= answer.status < 300 else f"status {answer.status}: {answer.text()}"
        except HttpError as error:
            why = str(error)
        self._metrics.reloads.labels("failed" if why else "ok").inc()
        if why and self._lasting.is_news("", why, begins=not self._failures):
            self._log.error("scraper_reload_failed", url=shown(self._url), error=why)
        if self._failures and not why:
            self._log.info("scraper_reloads_again", url=shown(self._url), after=self._failures)
        self._failures, self.trouble = self._failures + 1 if why else 0, why
        return not why
