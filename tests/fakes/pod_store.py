"""The pods of one namespace as the API of Kubernetes keeps them: versions, lists in pages, and what changed since a version.

Pure: ``kubernetes_pods`` serves it over HTTP, and passes the contract suite that a real kube-apiserver passes; the
simulation serves the same one in its own time.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

Pod = dict[str, Any]
DATE = "2026-01-01T00:00:00Z"
EVENTS_KEPT = 1000
PAGE_MOST = 500


class TooOldError(Exception):
    """The version that is asked for is not known any more: status 410."""


class PodStore:
    """``there``: by name; ``version``: of the last change; ``page_most``: so many pods at most in a page."""

    def __init__(self) -> None:
        self.there: dict[str, Pod] = {}
        self.version = 1000
        self.page_most = PAGE_MOST
        self._oldest = 0
        self._events: deque[tuple[int, Pod, bytes]] = deque()

    # --- what happens to it ------------------------------------------------------------------------------------------

    def put(self, pod: Pod) -> None:
        """Make it, or change it: one with another uid is another pod."""
        name = pod["metadata"]["name"]
        before = self.there.get(name)
        if before is not None and before["metadata"].get("uid") != pod["metadata"].get("uid"):
            self.remove(name)
            before = None
        self.there[name] = self._stamped(pod)
        self._say("ADDED" if before is None else "MODIFIED", self.there[name])

    def end(self, name: str) -> None:
        """As ``kubectl delete`` does: the pod gets its time of deletion."""
        pod = copy.deepcopy(self.there[name])
        pod["metadata"]["deletionTimestamp"] = DATE
        self.put(pod)

    def remove(self, name: str) -> None:
        """It is gone, or its labels do not match any more."""
        self._say("DELETED", self._stamped(self.there.pop(name)))

    def compact(self) -> None:
        """Nothing before now can be watched."""
        self._events.clear()
        self._oldest = self.version

    def restore(self, pods: dict[str, Pod], version: int) -> None:
        """It is that of an earlier moment."""
        self.there, self.version = copy.deepcopy(pods), version
        self.compact()

    # --- what it says ------------------------------------------------------------------------------------------------

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The answer to a list. Raises ``TooOldError``."""
        version, start = self.version, 0
        if token := query.get("continue"):
            version, start = map(int, token.split("."))
            self.check_version(version)
        limit = min(int(query.get("limit", PAGE_MOST)), self.page_most)
        found = [self.there[name] for name in sorted(self.there) if _is_selected(self.there[name], query)]
        more = f"{version}.{start + limit}" if start + limit < len(found) else ""
        metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
        return {"metadata": metadata, "items": found[start : start + limit]}

    def check_version(self, version: int) -> None:
        """Whether a watch can begin there. Raises ``TooOldError``."""
        if version < self._oldest:
            raise TooOldError

    def since(self, version: int, query: Mapping[str, str]) -> Iterator[tuple[int, bytes]]:
        """The version and the line of each change after ``version``, as far as they are kept: a watch that began goes on."""
        return ((at, line) for at, pod, line in tuple(self._events) if at > version and _is_selected(pod, query))

    def bookmark(self, version: int) -> bytes:
        """What a watch that was told everything until ``version`` says at its end."""
        mark = {"kind": "Pod", "metadata": {"resourceVersion": str(max(version, self.version)), "creationTimestamp": None}}
        return event("BOOKMARK", {**mark, "spec": {"containers": None}, "status": {}})

    def _stamped(self, pod: Pod) -> Pod:
        self.version += 1
        stamped = copy.deepcopy(pod)
        stamped["metadata"]["resourceVersion"] = str(self.version)
        return stamped

    def _say(self, kind: str, pod: Pod) -> None:
        if len(self._events) == EVENTS_KEPT:
            self._oldest = self._events.popleft()[0]
        self._events.append((self.version, pod, event(kind, pod)))


def event(kind: str, thing: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


TOO_OLD_LINE = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
"""What a watch says from a version that is too old."""


def _is_selected(pod: Pod, query: Mapping[str, str]) -> bool:
    pairs = [term.split("=") for term in query["labelSelector"].split(",")]
    return all(pod["metadata"]["labels"].get(name) == value for name, value in pairs)
