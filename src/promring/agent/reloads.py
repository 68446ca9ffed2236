"""Reloads of the scraper beside an agent: after each answer of which something was written, and until one works."""

from __future__ import annotations

import asyncio

from promring.agent.metrics import AgentMetrics
from promring.runtime.http_client import HttpError, new_session, request
from promring.runtime.redact import shown
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

TIMEOUT_S, AGAIN_S = 5.0, 2.0


class Reloads:
    """``due``: set it to have one. A scraper that is just starting has its lists anyway."""

    def __init__(self, url: str, metrics: AgentMetrics, log: Logger) -> None:
        self._url, self._metrics, self._log = url, metrics, log
        self.due = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        failing, lasting = False, Lasting()
        async with new_session(keep_alive=False) as session:
            while True:
                await self.due.wait()
                self.due.clear()
                try:
                    answer = await request(session, "POST", self._url, timeout_s=TIMEOUT_S)
                    why = "" if 200 <= answer.status < 300 else f"status {answer.status}: {answer.text()}"
                except HttpError as error:
                    why = str(error)
                self._metrics.reloads.labels("failed" if why else "ok").inc()
                if why:
                    if lasting.is_news("", why, begins=not failing):
                        self._log.error("scraper_reload_failed", url=shown(self._url), error=why)
                    self.due.set()
                    await asyncio.sleep(AGAIN_S)
                failing = bool(why)
