"""A real ``promring agent`` as a process on loopback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from promring.demo.process import Process
from promring.runtime.http_client import HttpError, request


class AgentProcess(Process):
    """Writes into ``into`` for ``scraper``; its own page is at ``url``."""

    def __init__(
        self,
        folder: Path,
        controllers: Sequence[str],
        scraper: str,
        into: Path,
        *,
        port: int,
        more: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.into, self.url = into, f"http://127.0.0.1:{port}"
        super().__init__(
            [
                sys.executable,
                "-m",
                "promring",
                "agent",
                f"--controller={','.join(controllers)}",
                f"--scraper={scraper}",
                f"--dir={into}",
                f"--web.listen-address=127.0.0.1:{port}",
                *more,
            ],
            folder / "agent.log",
        )

    async def page(self, session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
        """Status and text; 0 when it does not answer."""
        try:
            answer = await request(session, "GET", self.url + path, timeout_s=5)
        except HttpError:
            return 0, ""
        return answer.status, answer.body.decode()

    def log_lines(self, msg: str) -> list[str]:
        """The log's lines with this ``msg``."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return [line for line in text.splitlines() if f" msg={msg} " in f"{line} "]
