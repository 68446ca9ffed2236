"""A real ``promring run`` as a process on loopback, and its API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from yarl import URL

from promring.demo.process import Process
from promring.runtime.http_client import HttpError, Response, request


class Controller(Process):
    """``config`` is written to ``folder/promring.yml``; state is kept in ``folder/state``."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any] | str,
        *,
        port: int,
        level: str = "info",
        env: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self.url = folder, port, f"http://127.0.0.1:{port}"
        self.config_file = folder / "promring.yml"
        self.token = "demo-token"
        (folder / "token").write_text(self.token)
        self.configure(config)
        super().__init__(
            [
                sys.executable,
                "-m",
                "promring",
                "run",
                f"--config.file={self.config_file}",
                f"--state.dir={folder / 'state'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.token-file={folder / 'token'}",
                f"--log.level={level}",
            ],
            folder / "promring.log",
            env,
        )

    def configure(self, config: dict[str, Any] | str) -> None:
        self.config_file.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))

    async def ask(self, session: aiohttp.ClientSession, path: str, **query: str) -> Any:
        """The ``data`` of ``/api/v1/…``; None when there is no successful answer."""
        try:
            response = await self.get(session, f"/api/v1/{path}", **query)
            return json.loads(response.body).get("data")
        except (HttpError, ValueError):
            return None

    async def get(self, session: aiohttp.ClientSession, path: str, **query: str) -> Response:
        return await request(session, "GET", URL(self.url + path).with_query(query), timeout_s=5)

    async def post(self, session: aiohttp.ClientSession, path: str) -> Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await request(session, "POST", self.url + path, timeout_s=5, headers=headers)

    async def reload(self, session: aiohttp.ClientSession) -> Response:
        return await self.post(session, "/-/reload")

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            return (await self.get(session, "/-/ready")).status == 200
        except HttpError:
            return False

    def log_lines(self, msg: str) -> list[str]:
        """The log's lines with this ``msg``."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return [line for line in text.splitlines() if f" msg={msg} " in f"{line} "]
