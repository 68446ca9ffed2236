"""Fake stores of the lock in fake time: etcd's JSON gateway and Kubernetes' Leases, with the rules that the lock relies on.

Both misbehave as they are told: ``fault`` is empty, ``down``, ``hang``, ``status 500``, ``lost`` (what is asked is done, and
the answer does not arrive) or, at Kubernetes, ``busy`` (somebody else writes the object before each write: a conflict).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from promring.runtime.http_client import HttpError, Response

CONSUL, ETCD, KUBERNETES = "consul", "etcd", "kubernetes"
NAMESPACE = "mon"
KUBECONFIG = {
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "one", "user": "somebody", "namespace": NAMESPACE}}],
    "clusters": [{"name": "one", "cluster": {"server": "http://kubernetes:8080"}}],
    "users": [{"name": "somebody", "user": {"token": "t"}}],
}


@dataclass
class Store:
    """``now``: the clock. ``confirmed_at``: when a controller was last told that it has the lock."""

    now: Callable[[], float]
    fault: str = ""
    confirmed_at: dict[str, float] = field(default_factory=dict)
    conflicts: int = 0
    """How many writes were refused because something else was written before."""
    revision: int = 1

    async def answer(self, who: str, method: str, path: str, body: Any) -> Response:
        """Raises ``HttpError``."""
        if self.fault == "down":
            raise HttpError("Connection refused")
        if self.fault == "hang":
            await asyncio.sleep(3600.0)
        if self.fault == "status 500":
            return _json({"error": "etcdserver: no leader", "code": 14, "message": "no leader"}, 503)
        answer = self._done(who, method, path, body)
        if self.fault == "lost":
            raise HttpError("connection closed by the other side")
        return answer

    def _done(self, who: str, method: str, path: str, body: Any) -> Response:
        raise NotImplementedError

    def end_lease(self) -> None:
        """Whoever has the lock loses it now."""
        raise NotImplementedError


@dataclass
class _Key:
    value: str
    created: int
    modified: int
    lease: int = 0


@dataclass
class Etcd(Store):
    """Keys with revisions, transactions that compare first, leases that end with their keys."""

    _keys: dict[str, _Key] = field(default_factory=dict)
    _leases: dict[int, tuple[str, float, float]] = field(default_factory=dict)
    """Who asked for it, its TTL, and when it ends."""
    _granted: int = 0

    def end_lease(self) -> None:
        for key in list(self._keys.values()):
            if key.lease:
                self._end(key.lease)

    def _end(self, lease: int) -> None:
        self._leases.pop(lease, None)
        gone = [name for name, key in self._keys.items() if key.lease == lease]
        self.revision += bool(gone)
        for name in gone:
            del self._keys[name]

    def _done(self, who: str, method: str, path: str, body: Any) -> Response:
        for lease, (_, _, ends_at) in list(self._leases.items()):
            if ends_at <= self.now():
                self._end(lease)
        match path.strip("/").split("/", 1)[1]:
            case "lease/grant":
                self._granted += 1
                ttl_s = float(body["TTL"])
                self._leases[self._granted] = who, ttl_s, self.now() + ttl_s
                return _json({"ID": str(self._granted), "TTL": body["TTL"]})
            case "lease/keepalive":
                return self._keep(int(body["ID"]))
            case "lease/revoke":
                self._end(int(body["ID"]))
                return _json({})
            case "kv/txn":
                return self._txn(who, body)
        raise AssertionError(path)

    def _keep(self, lease: int) -> Response:
        if lease not in self._leases:
            return _json({"result": {"ID": str(lease)}})
        owner, ttl_s, _ = self._leases[lease]
        self._leases[lease] = owner, ttl_s, self.now() + ttl_s
        return _json({"result": {"ID": str(lease), "TTL": f"{ttl_s:g}"}})

    def _txn(self, who: str, body: dict[str, Any]) -> Response:
        operations = body["success"]
        lease = next((int(o["request_put"].get("lease", 0)) for o in operations if "request_put" in o), 0)
        if lease and lease not in self._leases:
            return _json({"error": "requested lease not found", "code": 5, "message": "requested lease not found"}, 404)
        if not all(map(self._holds, body["compare"])):
            self.conflicts += 1
            return _json({})
        writes = any("request_range" not in one for one in operations)
        self.revision += writes
        return _json({"succeeded": True, "responses": [self._do(who, one) for one in operations]})

    def _holds(self, compare: dict[str, str]) -> bool:
        key = self._keys.get(compare["key"])
        match compare["target"]:
            case "MOD":
                return (key.modified if key else 0) == int(compare["mod_revision"])
            case "CREATE":
                return (key.created if key else 0) == int(compare["create_revision"])
            case "LEASE":
                return (key.lease if key else 0) == int(compare["lease"])
        raise AssertionError(compare)

    def _do(self, who: str, operation: dict[str, Any]) -> dict[str, Any]:
        if asked := operation.get("request_range"):
            key = self._keys.get(asked["key"])
            return {"response_range": {"kvs": [self._shown(who, key)] if key else []}}
        if put := operation.get("request_put"):
            there = self._keys.get(put["key"])
            created = there.created if there else self.revision
            self._keys[put["key"]] = _Key(put["value"], created, self.revision, int(put.get("lease", 0)))
            return {"response_put": {}}
        self._keys.pop(operation["request_delete_range"]["key"], None)
        return {"response_delete_range": {}}

    def _shown(self, who: str, key: _Key) -> dict[str, Any]:
        if key.lease and self._leases[key.lease][0] == who:
            self.confirmed_at[who] = self.now()
        said = {"create_revision": str(key.created), "mod_revision": str(key.modified), "value": key.value}
        return said | ({"lease": str(key.lease)} if key.lease else {})


@dataclass
class Kubernetes(Store):
    """One Lease: a write with another resourceVersion than the newest is a conflict; nothing ends by itself."""

    _lease: dict[str, Any] | None = None
    _holder: str = ""
    """The controller that wrote itself in."""

    def end_lease(self) -> None:
        """A person takes the holder out."""
        if self._lease is not None:
            self._write({**self._lease, "spec": {**self._lease["spec"], "holderIdentity": ""}})

    def _write(self, lease: dict[str, Any]) -> None:
        self.revision += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self.revision), "namespace": NAMESPACE}
        self._lease = {**lease, "metadata": metadata}

    def _done(self, who: str, method: str, path: str, body: Any) -> Response:
        assert re.fullmatch(rf"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases(/promring)?", path), path
        there = self._lease
        if method != "GET" and self.fault == "busy" and there is not None:
            self._write({**there, "metadata": {**there["metadata"], "labels": {"seen": str(self.revision)}}})
            there = self._lease
        if method == "POST":
            if there is not None:
                return self._refused("already exists")
            self._write(body)
            self._holder = who
            return self._told(who, 201)
        if there is None:
            return _json({"message": "not found"}, 404)
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"]:
                return self._refused("the object has been modified")
            self._write(body)
            self._holder = who
        return self._told(who, 200)

    def _refused(self, why: str) -> Response:
        self.conflicts += 1
        return _json({"message": why}, 409)

    def _told(self, who: str, status: int) -> Response:
        assert self._lease is not None
        if self._lease["spec"].get("holderIdentity") and self._holder == who:
            self.confirmed_at[who] = self.now()
        return _json(self._lease, status)


def _json(content: object, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(content))
