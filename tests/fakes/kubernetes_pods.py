"""Pods and nodes of a Kubernetes API in memory, as ``FakeKubernetes`` serves them."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from aiohttp import web

Pod = dict[str, Any]
DATE = "2026-01-01T00:00:00Z"


class FakePods:
    """Of one namespace. ``forbidden``: verbs with a resource, such as ``list pods``; ``deaf``: watches say nothing more, and
    do not end; ``asked``: the verbs of all requests, with the resourceVersion of a watch.
    """

    def __init__(self) -> None:
        self.there: dict[str, Pod] = {}
        self.nodes: dict[str, dict[str, str]] = {}
        self.forbidden: set[str] = set()
        self.deaf = False
        self.page_most: int | None = None
        self.asked: list[str] = []
        self.version = 1000
        self._events: list[tuple[int, str, Pod]] = []
        self._oldest = 0
        self._changed = asyncio.Condition()
        self._cut = 0
        self._injected: list[bytes] = []

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._get)
        app.router.add_get("/api/v1/nodes/{name}", self._get_node)

    # --- what a test does --------------------------------------------------------------------------------------------

    def put(self, pod: Pod) -> None:
        """Make it, or change it."""
        name = pod["metadata"]["name"]
        kind = "MODIFIED" if name in self.there else "ADDED"
        self.there[name] = self._stamped(pod)
        self._say(kind, self.there[name])

    def change(self, name: str, **status: object) -> None:
        """Of its status."""
        pod = copy.deepcopy(self.there[name])
        pod["status"] |= status
        self.put(pod)

    def end(self, name: str) -> None:
        """As ``kubectl delete`` does: the pod gets its time of deletion."""
        pod = copy.deepcopy(self.there[name])
        pod["metadata"]["deletionTimestamp"] = DATE
        self.put(pod)

    def remove(self, name: str) -> None:
        """It is gone, or its labels do not match any more."""
        self._say("DELETED", self._stamped(self.there.pop(name)))

    def cut(self) -> None:
        """Every watch ends, in the middle."""
        self._cut += 1
        self._wake()

    def inject(self, line: bytes) -> None:
        """Every watch says this."""
        self._injected.append(line)
        self._wake()

    def compact(self) -> None:
        """Nothing before now can be watched."""
        self._events.clear()
        self._oldest = self.version

    def restore(self, pods: dict[str, Pod], version: int) -> None:
        """Its store is that of an earlier moment."""
        self.there, self.version = copy.deepcopy(pods), version
        self._events.clear()
        self._oldest = version

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
        version, start = self.version, 0
        if token := request.query.get("continue"):
            version, start = map(int, token.split("."))
            if version < self._oldest:
                return _status(410, "The provided continue parameter is too old")
        limit = min(int(request.query.get("limit", "500")), self.page_most or 500)
        found = [self.there[name] for name in sorted(self.there) if _is_selected(self.there[name], request)]
        more = f"{version}.{start + limit}" if start + limit < len(found) else ""
        metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
        return web.json_response({"metadata": metadata, "items": found[start : start + limit]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        at, cut, injected = int(request.query["resourceVersion"]), self._cut, len(self._injected)
        if at < self._oldest:
            error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(_line("ERROR", error))
            return response
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while self._cut == cut:
                    for version, kind, pod in [e for e in self._events if e[0] > at and not self.deaf]:
                        at = version
                        if _is_selected(pod, request):
                            await response.write(_line(kind, pod))
                    for line in self._injected[injected:]:
                        await response.write(line)
                    injected = len(self._injected)
                    async with self._changed:
                        await self._changed.wait()
        except TimeoutError:
            async with self._changed:
                await self._changed.wait_for(lambda: not self.deaf or self._cut != cut)
            mark = {"kind": "Pod", "metadata": {"resourceVersion": str(max(at, self.version)), "creationTimestamp": None}}
            await response.write(_line("BOOKMARK", {**mark, "spec": {"containers": None}, "status": {}}))
            return response
        if request.transport is not None:
            request.transport.abort()
        return response

    def _stamped(self, pod: Pod) -> Pod:
        self.version += 1
        stamped = copy.deepcopy(pod)
        stamped["metadata"]["resourceVersion"] = str(self.version)
        return stamped

    def _say(self, kind: str, pod: Pod) -> None:
        self._events.append((self.version, kind, pod))
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


def _is_selected(pod: Pod, request: web.Request) -> bool:
    pairs = [term.split("=") for term in request.query["labelSelector"].split(",")]
    return all(pod["metadata"]["labels"].get(name) == value for name, value in pairs)


def _line(kind: str, thing: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def _refused(verb: str, resource: str, where: str) -> web.Response:
    return _status(
        403, f'{resource} is forbidden: User "promring" cannot {verb} resource "{resource}" in API group "" {where}'
    )


def _status(status: int, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return web.json_response(body, status=status)
