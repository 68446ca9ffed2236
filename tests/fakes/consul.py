"""A fake Consul for the unit tests: the calls that promring makes, with blocking queries.

It is honest because ``tests/real/test_consul_contract.py`` runs on it and on the real ones. Beyond that it can misbehave:
``fault`` is what the next reads answer with, ``raw`` is their body.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from aiohttp import web


class FakeConsul:
    """Use as an async context manager. ``modern``: as 1.11 and newer, it says when a token hides something, and leaves
    out a port of 0.
    """

    def __init__(self, *, modern: bool = True) -> None:
        self.fault: str | None = None
        self.raw: bytes | None = None
        self.hides = False
        """Whether the token may not see all."""
        self.node, self.datacenter = "test", "dc1"
        self.dead_agents: set[str] = set()
        """Nodes whose serfHealth is critical."""
        self.elsewhere: dict[str, str] = {}
        """Services that were registered with the agent of another node."""
        self.asked_for: list[str | None] = []
        """The ``dc`` of each read, in order."""
        self._modern = modern
        self._node_checks: dict[tuple[str, str], str] = {}
        self._maintained: set[str] = set()
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
        app.router.add_put("/v1/agent/check/{verdict}/{id}", self._check)
        app.router.add_put("/v1/agent/service/maintenance/{id}", self._maintain)
        app.router.add_put("/v1/agent/maintenance", self._maintain_node)
        app.router.add_get("/v1/agent/self", self._self)
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

    @property
    def ids(self) -> set[str]:
        """Of all instances."""
        return set(self._services)

    async def forget(self) -> None:
        """As a restart without the data."""
        self._services.clear()
        self._checks.clear()
        self._bump(to=1)

    async def remove(self, service_id: str) -> None:
        """As a deregistration."""
        del self._services[service_id]
        self._checks.pop(service_id, None)
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

    def set_node_check(self, node: str, check: str, status: str) -> None:
        """Of a node as a whole; ``passing`` of one that is not there is none."""
        self._node_checks[(node, check)] = status
        self._bump()

    def _bump(self, to: int | None = None) -> None:
        self._index = to if to is not None else self._index + 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _health(self, request: web.Request) -> web.StreamResponse:
        self.reads += 1
        index = request.query.get("index")
        self.indexes.append(index)
        self.asked_for.append(request.query.get("dc"))
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
        headers = {"X-Consul-Index": str(self._index)}
        if self.hides and self._modern:
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        if self.raw is not None:
            return web.Response(body=self.raw, headers=headers)
        name = request.match_info["name"]
        entries = [self._entry(s) for s in self._services.values() if s["Name"] == name]
        return web.json_response([] if self.hides else entries, headers=headers)

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
        name, node = service["ID"], self.elsewhere.get(service["ID"], self.node)
        shown = {
            "ID": name,
            "Service": service["Name"],
            "Address": service.get("Address", ""),
            "Port": service.get("Port", 0),
            "Meta": service.get("Meta"),
            "Weights": service.get("Weights", {"Passing": 1, "Warning": 1}),
        }
        if self._modern and not shown["Port"]:
            del shown["Port"]
        own = {f"service:{name}": self._checks[name]} if name in self._checks else {}
        if name in self._maintained:
            own[f"_service_maintenance:{name}"] = "critical"
        of_node = {"serfHealth": "critical" if node in self.dead_agents else "passing"}
        of_node |= {check: status for (where, check), status in self._node_checks.items() if where == node}
        checks = [{"CheckID": c, "Status": status, "Output": "", "ServiceID": ""} for c, status in of_node.items()]
        checks += [{"CheckID": c, "Status": status, "Output": "", "ServiceID": name} for c, status in own.items()]
        where = {"Node": node, "Address": "127.0.0.1", "Datacenter": self.datacenter}
        return {"Node": where, "Service": shown, "Checks": checks}

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
        if "Check" in service:
            self._checks[service["ID"]] = service["Check"].get("Status", "critical")
        self._bump()
        return web.Response()

    async def _check(self, request: web.Request) -> web.Response:
        verdict = {"pass": "passing", "warn": "warning", "fail": "critical"}[request.match_info["verdict"]]
        self._checks[request.match_info["id"].removeprefix("service:")] = verdict
        self._bump()
        return web.Response()

    async def _maintain(self, request: web.Request) -> web.Response:
        on = request.query["enable"] == "true"
        (self._maintained.add if on else self._maintained.discard)(request.match_info["id"])
        self._bump()
        return web.Response()

    async def _maintain_node(self, request: web.Request) -> web.Response:
        on = request.query["enable"] == "true"
        if not on:
            self._node_checks.pop((self.node, "_node_maintenance"), None)
            self._bump()
        else:
            self.set_node_check(self.node, "_node_maintenance", "critical")
        return web.Response()

    async def _self(self, _: web.Request) -> web.Response:
        return web.json_response({"Config": {"NodeName": self.node, "Datacenter": self.datacenter}})
