"""Rights that a controller loses at Consul, etcd or Kubernetes, and what these answer then."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import msgspec

from promring.runtime.http_client import Response
from tests.sim.lockstores import CONSUL, ETCD, KUBERNETES

ANYBODY = ""
Denied = Collection[tuple[str, str]]
"""Which controller, or ``ANYBODY``, lacks which right."""

TOKEN, SOME, SERVICE, SESSION, KEY, WRITE, LOCK = "token", "node", "service", "session", "key", "write", "lock"
"""``TOKEN``: Consul does not know it any more. ``SOME``: the nodes of every other instance may not be read. ``WRITE``: of
the lock, in any store. ``LOCK``: that of another store than Consul, to read it, too.
"""
OF_THE_LOCK = {CONSUL: (TOKEN, SERVICE, SESSION, KEY, WRITE), ETCD: (LOCK, WRITE), KUBERNETES: (LOCK, WRITE)}
OF_THE_CATALOGUE = (TOKEN, SOME)


def lost(rng: Random, lock: str) -> str:
    """One of those that a controller with this lock needs."""
    return rng.choice((*OF_THE_CATALOGUE, *OF_THE_LOCK.get(lock, ())))


def refused(denied: Denied, who: str, host: str, method: str, path: str, body: object) -> Response | None:
    """What the store says instead of an answer; None: the right is there."""
    if not denied:
        return None
    for right in sorted(right for whom, right in denied if whom in (ANYBODY, who)):
        writes = method == "PUT" if host != ETCD else b"request_put" in msgspec.json.encode(body)
        if right == WRITE and not writes:
            continue
        if host == CONSUL and _needs(right, method, path):
            if path == "/v1/txn":  # status 409, and nothing but words
                return _json(409, {"Errors": [{"OpIndex": 0, "What": "Permission denied"}]})
            return Response(403, {}, b"ACL not found" if right == TOKEN else b"Permission denied")
        if host == ETCD and right in (LOCK, WRITE) and "/kv/" in path:  # who may not touch the key may keep a lease alive
            return _json(403, {"error": "etcdserver: permission denied", "code": 7, "message": "permission denied"})
        if host == KUBERNETES and right in (LOCK, WRITE):
            return _json(403, {"kind": "Status", "reason": "Forbidden", "message": "leases is forbidden"})
    return None


def _needs(right: str, method: str, path: str) -> bool:
    kind = path.removeprefix("/v1/").split("/")[0]
    of = {SERVICE: kind == "agent" and method == "PUT", SESSION: kind == "session", KEY: kind in ("kv", "txn")}
    of[WRITE] = of[KEY]
    return of.get(right, right == TOKEN)


def shown(denied: Denied, who: str, path: str, answer: Response) -> Response:
    """Consul's list of instances without those that may not be seen. From 1.11 on it says that there are some."""
    if not path.startswith("/v1/health/service/") or answer.status != 200:
        return answer
    if not any(right == SOME and whom in (ANYBODY, who) for whom, right in denied):
        return answer
    body = msgspec.json.encode(msgspec.json.decode(answer.body)[::2])
    return Response(200, {**answer.headers, "x-consul-results-filtered-by-acls": "true"}, body)


def _json(status: int, content: object) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(content))
