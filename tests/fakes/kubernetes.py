"""A Kubernetes API in memory: Leases, pods that can be listed and watched, nodes. It is honest because
``tests/real/test_lock_contract.py`` and the contract of memberships run on it and on a real kube-apiserver.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.kubernetes_pods import FakePods

PATH = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


class FakeKubernetes:
    """Use as an async context manager. ``token``: the one that it takes, None: no matter; ``late``: so many writes are
    carried out and not answered; ``said``: what it answers instead, status and body.
    """

    def __init__(self) -> None:
        self.token: str | None = None
        self.late = 0
        self.said: tuple[int, bytes] | None = None
        self.retry_after = ""
        self.leases: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods = FakePods()
        self._version = 100
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> FakeKubernetes:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path, **user: str) -> Path:
        """One that leads here. ``user``: how it is let in."""
        text = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": self.url}}],
            "users": [{"name": "x", "user": user}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(text))
        return path

    async def up(self) -> None:
        app = web.Application(middlewares=[self._gate])
        app.router.add_get(f"{PATH}/{{name}}", self._get)
        app.router.add_put(f"{PATH}/{{name}}", self._put)
        app.router.add_delete(f"{PATH}/{{name}}", self._delete)
        app.router.add_post(PATH, self._post)
        self.pods.add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def lose(self) -> None:
        """Every request fails from now on, and every watch ends."""
        self.said = 500, b"lost"
        self.pods.cut()

    def forget(self) -> None:
        """Its etcd is new."""
        self.leases.clear()
        self._version = 1

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.said is not None:
            headers = {"Retry-After": self.retry_after} if self.retry_after else None
            return web.Response(status=self.said[0], body=self.said[1], headers=headers)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        answer: web.StreamResponse = await handler(request)
        if self.late and request.method != "GET":
            self.late -= 1
            await asyncio.sleep(10)
        return answer

    async def _get(self, request: web.Request) -> web.Response:
        found = self.leases.get(_key(request))
        return _status(404, "not found") if found is None else web.json_response(found)

    async def _post(self, request: web.Request) -> web.Response:
        lease = await request.json()
        key = request.match_info["namespace"], lease["metadata"]["name"]
        if key in self.leases:
            return _status(409, "already exists")
        return self._stored(key, lease, 201)

    async def _put(self, request: web.Request) -> web.Response:
        lease, key = await request.json(), _key(request)
        there = self.leases.get(key)
        if there is None:
            return _status(404, "not found")
        if not (version := lease["metadata"].get("resourceVersion")):
            return _status(422, "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
        if version != there["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        return self._stored(key, lease, 200)

    async def _delete(self, request: web.Request) -> web.Response:
        self._version += 1
        return _status(404, "not found") if self.leases.pop(_key(request), None) is None else _status(200, "")

    def _stored(self, key: tuple[str, str], lease: dict[str, Any], status: int) -> web.Response:
        self._version += 1
        metadata = {"uid": "u", **lease["metadata"], "namespace": key[0], "resourceVersion": str(self._version)}
        self.leases[key] = {**lease, "metadata": metadata}
        return web.json_response(self.leases[key], status=status)


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


def _status(status: int, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return web.json_response(body, status=status)
