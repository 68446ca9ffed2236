"""The zones of a cluster's nodes, from a label of theirs. Needs a right on nodes, which only a ClusterRole gives."""

from __future__ import annotations

import time

import msgspec

from promring.kubernetes.client import Client
from promring.model import KubernetesError
from promring.runtime.unforeseen import Quiet
from promring.telemetry.log import Logger

NODE_S, NODE_AGAIN_S = 2.0, 60.0
NODES_KEPT_MAX = 10_000


class _NodeMetadata(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = None


class _Node(msgspec.Struct, frozen=True):
    metadata: _NodeMetadata


class NodeZones:
    """The label ``label`` of nodes; None: no node is asked. A node keeps the zone that was read first."""

    def __init__(self, client: Client, label: str | None, log: Logger) -> None:
        self._client, self._label, self._log = client, label, log
        self._known: dict[str, str] = {}
        self._again_at: dict[str, float] = {}
        """Nodes that are not shown to us, and when they are asked for again (monotonic seconds)."""
        self._quiet = Quiet()

    async def zone(self, node: str) -> str:
        """Empty: it has none, or may not be asked. Raises ``KubernetesError`` when it is not known."""
        if self._label is None or not node:
            return ""
        if node not in self._known and time.monotonic() >= self._again_at.get(node, 0.0):
            await self._ask(node, self._label)
        return self._known.get(node, "")

    async def _ask(self, node: str, label: str) -> None:
        try:
            _, found = await self._client.call("GET", f"/api/v1/nodes/{node}", _Node, deadline_s=NODE_S)
        except KubernetesError as error:
            if error.status not in (403, 404):
                raise
            self._again_at[node] = time.monotonic() + NODE_AGAIN_S
            if self._quiet.is_news(error.status):
                note = "a ClusterRole must allow get of nodes" if error.status == 403 else "the node is gone"
                self._log.error("kubernetes_zone_unknown", node=node, error=str(error), note=note)
            return
        assert found is not None  # status 200
        self._known[node] = (found.metadata.labels or {}).get(label, "")
        while len(self._known) > NODES_KEPT_MAX:
            del self._known[next(iter(self._known))]
