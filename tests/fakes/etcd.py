"""A gateway of etcd that says what it is told to: for what a real one cannot be made to say."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from aiohttp import web

Said = tuple[int, Any]
"""Status and body: bytes as they are, or what JSON is made of."""


class FakeGateway:
    """Use as an async context manager. ``answers``: for each path below ``/v3/`` what it says, in turn; the last stays."""

    def __init__(self, answers: dict[str, list[Said]]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """Path and body, in order."""
        self.tokens: dict[str, list[str]] = defaultdict(list)
        """The Authorization header of each call, by path."""

    async def __aenter__(self) -> FakeGateway:
        app = web.Application()
        app.router.add_post("/v3/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def asked(self, path: str) -> int:
        return len(self.tokens[path])

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.calls.append((path, await request.json()))
        self.tokens[path].append(request.headers.get("Authorization", ""))
        answers = self.answers.get(path, [(404, b"404 page not found")])
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, content_type="application/json")
