"""Pods and nodes of a Kubernetes API in memory, as ``FakeKubernetes`` serves them."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from aiohttp import web

from tests.fakes.pod_store import TOO_OLD_LINE, Pod, PodStore, TooOldError


class FakePods(PodStore):
    """Of one namespace. ``forbidden``: verbs with a resource, such as ``list pods``; ``deaf``: watches say nothing more, and
    do not end; ``asked``: the verbs of all requests, with the resourceVersion of a watch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, dict[str, str]] = {}
        self.forbidden: set[str] = set()
        self.deaf = False
        self.asked: list[str] = []
        self._changed = asyncio.Condition()
        self._cut = 0
        self._injected: list[bytes] = []

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._get)
        app.router.add_get("/api/v1/nodes/{name}", self._get_node)

    # --- what a test does --------------------------------------------------------------------------------------------

    def change(self, name: str, **status: object) -> None:
        """Of its status."""
        pod = copy.deepcopy(self.there[name])
        pod["status"] |= status
        self.put(pod)

    def cut(self) -> None:
        """Every watch ends, in the middle."""
        self._cut += 1
        self._wake()

    def inject(self, line: bytes) -> None:
        """Every watch says this."""
        self._injected.append(line)
        self._wake()

    # --- what it answers ---------------------------------------------------------------------------------------------

    async def _get_node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(f"get node {name}")
        if "get nodes" in self.forbidden:
            return _refused("get", "nodes", "at the cluster scope")
        if name not in self.nodes:
            return _status(404, f'nodes "{name}" not found')
        return web.json_response({"metadata": {"name": name, "labels": self.nodes[name]}})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        query, namespace = request.query, request.match_info["namespace"]
        verb = "watch" if query.get("watch") else "list"
        self.asked.append(f"watch {query['resourceVersion']}" if verb == "watch" else "list")
        if f"{verb} pods" in self.forbidden:
            return _refused(verb, "pods", f'in the namespace "{namespace}"')
        return await (self._watch(request) if verb == "watch" else self._list(request))

    async def _list(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self.page(request.query))
        except TooOldError:
            return _status(410, "The provided continue parameter is too old")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        at, cut, injected = int(request.query["resourceVersion"]), self._cut, len(self._injected)
        try:
            self.check_version(at)
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while self._cut == cut:
                    for version, line in () if self.deaf else self.since(at, request.query):
                        at = version
                        await response.write(line)
                    for line in self._injected[injected:]:
                        await response.write(line)
                    injected = len(self._injected)
                    async with self._changed:
                        await self._changed.wait()
        except TooOldError:
            await response.write(TOO_OLD_LINE)
            return response
        except TimeoutError:
            async with self._changed:
                await self._changed.wait_for(lambda: not self.deaf or self._cut != cut)
            await response.write(self.bookmark(at))
            return response
        if request.transport is not None:
            request.transport.abort()
        return response

    def _say(self, kind: str, pod: Pod) -> None:
        super()._say(kind, pod)
        self._wake()

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._waking = asyncio.ensure_future(wake())


def a_pod(name: str, ip: str = "", *, port: int = 9090, labels: dict[str, str] | None = None, **more: Any) -> Pod:
    """One that is Ready, where it has an address. ``more``: of its status, and ``uid``, ``node``, ``annotations``."""
    metadata = {
        "name": name,
        "uid": more.pop("uid", f"uid of {name}"),
        "labels": {"app": "prometheus", **(labels or {})},
        "annotations": more.pop("annotations", {}),
    }
    container = {"name": "prometheus", "image": "x", "ports": [{"name": "web", "containerPort": port}]}
    spec = {"containers": [container], "nodeName": more.pop("node", "node-1"), "automountServiceAccountToken": False}
    status = {"phase": "Running" if ip else "Pending", "podIP": ip, "conditions": ready(bool(ip)), **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def ready(yes: bool, reason: str = "ContainersNotReady") -> list[dict[str, str]]:
    """The conditions of a pod."""
    return [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True"} if yes else {"type": "Ready", "status": "False", "reason": reason},
    ]


def _refused(verb: str, resource: str, where: str) -> web.Response:
    return _status(
        403, f'{resource} is forbidden: User "promring" cannot {verb} resource "{resource}" in API group "" {where}'
    )


def _status(status: int, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return web.json_response(body, status=status)
