"""The scrapers as pods of a Kubernetes API: lists, and watches that say what changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any
from zlib import crc32

import msgspec

from promring.runtime.http_client import HttpError, Response
from tests.sim.lockstores import NAMESPACE
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT

EVENTS_KEPT = 200
LOOK_S = 0.25
Pod = dict[str, Any]
Consume = Callable[[bytes], Awaitable[None]]


class Pods:
    """``fault``: ``down``, ``hang``, ``status 500`` or ``403``, ``gone`` (each watch is told that it is too
    old), ``deaf`` (watches say nothing).
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.fault = ""
        self._there: dict[str, Pod] = {}
        self._version = 1000
        self._oldest = 0
        self._events: deque[tuple[int, bytes]] = deque(maxlen=EVENTS_KEPT)
        self._cuts = 0

    # --- what happens to it ------------------------------------------------------------------------------------------

    def show(self, scrapers: Iterable[Scraper], passes: Callable[[str], bool], leaving: Collection[str] = ()) -> None:
        """These are the pods. ``passes(url)``: whether the kubelet's probe of it does; ``leaving``: ids of those that are
        being deleted.
        """
        wanted = {s.host: _pod(s, ready=passes(f"http://{s.id}{s.traits.check}"), leaves=s.id in leaving) for s in scrapers}
        for name in sorted(self._there.keys() - wanted.keys()):
            self._say("DELETED", self._there.pop(name))
        for name, pod in wanted.items():
            before = self._there.get(name)
            if before is None or before["metadata"]["uid"] != pod["metadata"]["uid"]:
                if before is not None:
                    self._say("DELETED", before)
                self._there[name] = self._say("ADDED", pod)
            elif {**before["metadata"], "resourceVersion": ""} != pod["metadata"] or before["status"] != pod["status"]:
                self._there[name] = self._say("MODIFIED", pod)

    def set_fault(self, fault: str) -> None:
        self.fault = fault
        self.cut()

    def compact(self) -> None:
        """What was before now cannot be watched."""
        self._events.clear()
        self._oldest = self._version
        self.cut()

    def cut(self) -> None:
        """Every watch ends."""
        self._cuts += 1

    def _say(self, kind: str, pod: Pod) -> Pod:
        self._version += 1
        stamped = {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(self._version)}}
        if len(self._events) == EVENTS_KEPT:
            self._oldest = self._events[0][0]
        self._events.append((self._version, _line(kind, stamped)))
        return stamped

    # --- what it answers ---------------------------------------------------------------------------------------------

    async def answer(self, path: str, query: dict[str, str], consume: Consume | None) -> Response:
        """Raises ``HttpError``."""
        assert path == f"/api/v1/namespaces/{NAMESPACE}/pods", path
        if self.fault == "down":
            raise HttpError("Connection refused")
        if self.fault == "hang":
            await asyncio.sleep(3600.0)
        if self.fault.startswith("status"):
            return _json({"kind": "Status", "message": "no"}, int(self.fault.removeprefix("status ")))
        if query.get("watch"):
            assert consume is not None
            await self._watch(query, consume)
            return Response(200, {}, b"")
        return _json({"metadata": {"resourceVersion": str(self._version)}, "items": [*self._there.values()]})

    async def _watch(self, query: dict[str, str], consume: Consume) -> None:
        at, cuts, ends_at = int(query["resourceVersion"]), self._cuts, self._now() + float(query["timeoutSeconds"])
        if at < self._oldest or self.fault == "gone":
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await consume(_line("ERROR", gone))
            return
        while self._now() < ends_at or self.fault == "deaf":
            for version, line in [e for e in self._events if e[0] > at and self.fault != "deaf"]:
                at = version
                await consume(line)
            if self._cuts != cuts:
                raise HttpError("connection closed by the other side")
            await asyncio.sleep(LOOK_S)
        await consume(_line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(self._version)}}))


def _pod(scraper: Scraper, *, ready: bool, leaves: bool) -> Pod:
    """After most restarts of the scraper the uid is another one, as of a pod that is made anew."""
    anew = crc32(f"{scraper.host} {scraper.started_at}".encode()) % 2 and scraper.started_at
    return {
        "metadata": {
            "name": scraper.host,
            "uid": f"{scraper.host} {anew}",
            "resourceVersion": "",
            "labels": {"app": "prometheus", "topology.kubernetes.io/zone": scraper.zone},
            "annotations": {"promring/weight": f"{scraper.weight:g}"},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaves else {}),
        },
        "spec": {"containers": [{"ports": [{"containerPort": PORT, "name": "web"}]}]},
        "status": {
            "phase": "Running",
            "podIP": scraper.host,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def _line(kind: str, thing: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "object": thing}) + b"\n"


def _json(content: object, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(content))
