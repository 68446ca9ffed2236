"""The scrapers as pods of a Kubernetes API, in simulated time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable
from zlib import crc32

from promring.runtime.http_client import HttpError, Response
from tests.fakes.pod_store import DATE, TOO_OLD_LINE, Pod, PodStore, TooOldError
from tests.sim.lockstores import NAMESPACE
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT

LOOK_S = 0.25
Consume = Callable[[bytes], Awaitable[None]]


class Pods:
    """``fault``: ``down``, ``hang``, ``status 500`` or ``403``, ``gone`` (each watch is told that it is too
    old), ``deaf`` (watches say nothing).
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.fault = ""
        self._store = PodStore()
        self._shown: dict[str, Pod] = {}
        self._cuts = 0

    # --- what happens to it ------------------------------------------------------------------------------------------

    def show(self, scrapers: Iterable[Scraper], passes: Callable[[str], bool], leaving: Collection[str] = ()) -> None:
        """These are the pods. ``passes(url)``: whether the kubelet's probe of it does; ``leaving``: ids of those that are
        being deleted.
        """
        wanted = {s.host: _pod(s, ready=passes(f"http://{s.id}{s.traits.check}"), leaves=s.id in leaving) for s in scrapers}
        for name in sorted(self._shown.keys() - wanted.keys()):
            self._store.remove(name)
        for name, pod in wanted.items():
            if self._shown.get(name) != pod:
                self._store.put(pod)
        self._shown = wanted

    def set_fault(self, fault: str) -> None:
        self.fault = fault
        self.cut()

    def compact(self) -> None:
        """What was before now cannot be watched."""
        self._store.compact()
        self.cut()

    def cut(self) -> None:
        """Every watch ends."""
        self._cuts += 1

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
        return _json(self._store.page(query))

    async def _watch(self, query: dict[str, str], consume: Consume) -> None:
        at, cuts, ends_at = int(query["resourceVersion"]), self._cuts, self._now() + float(query["timeoutSeconds"])
        try:
            if self.fault == "gone":
                raise TooOldError
            self._store.check_version(at)
            while self._now() < ends_at or self.fault == "deaf":
                for version, line in () if self.fault == "deaf" else self._store.since(at, query):
                    at = version
                    await consume(line)
                if self._cuts != cuts:
                    raise HttpError("connection closed by the other side")
                await asyncio.sleep(LOOK_S)
        except TooOldError:
            await consume(TOO_OLD_LINE)
            return
        await consume(self._store.bookmark(at))


def _pod(scraper: Scraper, *, ready: bool, leaves: bool) -> Pod:
    """After most restarts of the scraper the uid is another one, as of a pod that is made anew."""
    anew = crc32(f"{scraper.host} {scraper.started_at}".encode()) % 2 and scraper.started_at
    return {
        "metadata": {
            "name": scraper.host,
            "uid": f"{scraper.host} {anew}",
            "labels": {"app": "prometheus", "topology.kubernetes.io/zone": scraper.zone},
            "annotations": {"promring/weight": f"{scraper.weight:g}"},
            **({"deletionTimestamp": DATE} if leaves else {}),
        },
        "spec": {"containers": [{"ports": [{"containerPort": PORT, "name": "web"}]}]},
        "status": {
            "phase": "Running",
            "podIP": scraper.host,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def _json(content: object, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(content).encode())
