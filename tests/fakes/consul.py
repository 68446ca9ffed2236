"""A fake Consul for the unit tests: the calls that promring makes, with blocking queries.

It is honest because ``tests/unit/test_consul_contract.py`` runs on it and on the real one. Beyond that it can misbehave:
``fault`` is what the next reads answer with.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from aiohttp import web


class FakeConsul:
    """Use as an async context manager."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.reads = 0
        self.indexes: list[str | None] = []
        """The ``index`` of each read, in order."""
        self.refuse_registration_of: int | None = None
        """A port."""
        self.registrations = 0
        self._index = 10
        self._services: dict[str, dict[str, Any]] = {}
        self._checks: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._flapping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FakeConsul:
        app = web.Application()
        app.router.add_get("/v1/health/service/{name}", self._health)
        app.router.add_get("/v1/catalog/services", self._catalog)
        app.router.add_put("/v1/agent/service/register", self._register)
        app.router.add_put("/v1/agent/check/{verdict}/service:{id}", self._check)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            await asyncio.gather(self._flapping, return_exceptions=True)
        await self._runner.cleanup()

    async def forget(self) -> None:
        """As a restart without the data."""
        self._services.clear()
        self._checks.clear()
        self._bump(to=1)

    async def remove(self, service_id: str) -> None:
        """As a deregistration."""
        del self._services[service_id]
        self._bump()

    def flap(self, service_id: str, times: int) -> None:
        """The check of one service critical and passing again, a few times a second."""

        async def flapping() -> None:
            for turn in range(2 * times):
                self._checks[service_id] = "passing" if turn % 2 else "critical"
                self._bump()
                await asyncio.sleep(0.1)

        self._flapping = asyncio.create_task(flapping())

    def wake(self) -> None:
        """A wake-up without a change, as Consul has them."""
        self._bump()

    def _bump(self, to: int | None = None) -> None:
        self._index = to if to is not None else self._index + 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _health(self, request: web.Request) -> web.StreamResponse:
        self.reads += 1
        index = request.query.get("index")
        self.indexes.append(index)
        if index is not None and self.fault is None:
            await self._block(int(index), request.query.get("wait", "5m"))
        match self.fault:
            case "status 500":
                return web.Response(status=500, text="No cluster leader")
            case "status 403":
                return web.Response(status=403, text="ACL not found")
            case "malformed":
                return web.Response(text='[{"Node": 7}]', headers={"X-Consul-Index": "5"})
            case "deep":
                deep = '[{"x":' + "[" * 100_000 + "]" * 100_000 + "}]"
                return web.Response(text=deep, headers={"X-Consul-Index": "5"})
            case "html":
                return web.Response(text="<html>", headers={"X-Consul-Index": "5"})
            case "filtered":  # a token that may not read nodes: an empty list, no error
                await asyncio.sleep(0.05)
                return web.json_response([], headers={"X-Consul-Index": str(self._index)})
            case "no index":
                return web.json_response([])
        name, passing = request.match_info["name"], "passing" in request.query
        entries = [self._entry(s) for s in self._services.values() if s["Name"] == name]
        shown = [e for e in entries if not passing or all(c["Status"] == "passing" for c in e["Checks"])]
        return web.json_response(shown, headers={"X-Consul-Index": str(self._index)})

    async def _block(self, index: int, wait: str) -> None:
        number = re.fullmatch(r"([\d.]+)(ms|s|m)", wait)
        assert number is not None
        deadline = time.monotonic() + float(number[1]) * {"ms": 0.001, "s": 1, "m": 60}[number[2]]
        while self._index == index and time.monotonic() < deadline and self.fault is None:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _entry(self, service: dict[str, Any]) -> dict[str, Any]:
        return {
            "Node": {"Node": "test", "Address": "127.0.0.1"},
            "Service": {
                "ID": service["ID"],
                "Service": service["Name"],
                "Address": service.get("Address", ""),
                "Port": service.get("Port", 0),
                "Meta": service.get("Meta"),
            },
            "Checks": [{"CheckID": f"service:{service['ID']}", "Status": self._checks[service["ID"]], "Output": ""}],
        }

    async def _catalog(self, _: web.Request) -> web.Response:
        if self.fault == "filtered":
            return web.json_response({})
        return web.json_response({"consul": [], **{s["Name"]: [] for s in self._services.values()}})

    async def _register(self, request: web.Request) -> web.Response:
        service = await request.json()
        self.registrations += 1
        if service.get("Port") == self.refuse_registration_of:
            return web.Response(status=500, text="no")
        self._services[service["ID"]] = service
        self._checks[service["ID"]] = service.get("Check", {}).get("Status", "critical")
        self._bump()
        return web.Response()

    async def _check(self, request: web.Request) -> web.Response:
        verdict = {"pass": "passing", "warn": "warning", "fail": "critical"}[request.match_info["verdict"]]
        self._checks[request.match_info["id"]] = verdict
        self._bump()
        return web.Response()
