"""Three real Consul servers on loopback that are one cluster, so that a leader can be lost and a quorum, too.

Owns three ``ConsulProcess``es, each killed, frozen, stopped and started on its own. Promises: the same three stay its peers
whatever is done to them (a dead server is not removed, so two dead ones are no quorum), and one that comes back keeps its
ports and what it knew. Does not promise how long an election takes: 1 to 3 s on a quiet machine.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from promring.demo.process import StartError, free_port
from promring.runtime.http_client import HttpError, request
from testbed.consul import ConsulProcess

SERVERS = 3


class ConsulCluster:
    """``extra`` is merged into the configuration of each server."""

    def __init__(self, program: Path, folder: Path, *, extra: dict[str, Any] | None = None) -> None:
        ports = [
            {"http": free_port(), "dns": -1, "grpc": -1, "serf_wan": -1, "serf_lan": free_port(), "server": free_port()}
            for _ in range(SERVERS)
        ]
        common: dict[str, Any] = {
            "bootstrap_expect": SERVERS,
            "retry_join": [f"127.0.0.1:{p['serf_lan']}" for p in ports],
            "retry_interval": "250ms",  # 30 s by default, and the first try finds the others not up yet
            "autopilot": {"cleanup_dead_servers": False},
            **(extra or {}),
        }
        self.servers = [
            ConsulProcess(program, folder / name, port=p["http"], extra={**common, "ports": p, "node_name": name})
            for p, name in zip(ports, (f"server-{i}" for i in range(SERVERS)), strict=True)
        ]
        self._by_raft = {f"127.0.0.1:{p['server']}": s for p, s in zip(ports, self.servers, strict=True)}

    @property
    def running(self) -> list[ConsulProcess]:
        return [s for s in self.servers if s.running]

    async def start(self) -> None:
        """Start those that do not run. ``until_ready`` waits for them."""
        for server in self.servers:
            if not server.running:
                await server.start()

    async def stop(self) -> None:
        await asyncio.gather(*(s.stop() for s in self.servers))

    async def leader(self, session: aiohttp.ClientSession) -> ConsulProcess | None:
        """The running server that most of the three say leads, itself included. None while there is none."""
        said = await asyncio.gather(*(self._leader_by(session, s) for s in self.servers))
        for server in self.running:
            if said.count(server) > SERVERS // 2 and said[self.servers.index(server)] is server:
                return server
        return None

    async def followers(self, session: aiohttp.ClientSession) -> list[ConsulProcess]:
        """The running servers that do not lead."""
        leader = await self.leader(session)
        return [s for s in self.running if s is not leader]

    async def until_ready(self, session: aiohttp.ClientSession, timeout_s: float = 30.0) -> ConsulProcess:
        """Wait until one leads, and each that runs knows it and all three nodes: the leader. Raises ``StartError``."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    leader = await self.leader(session)
                    if leader and all([await self._knows(session, s, leader) for s in self.running]):
                        return leader
                    await asyncio.sleep(0.05)
        except TimeoutError:
            tails = "\n".join(s.log_tail(2) for s in self.servers)
            raise StartError(f"the Consul cluster did not become ready: {tails}") from None

    async def _knows(self, session: aiohttp.ClientSession, server: ConsulProcess, leader: ConsulProcess) -> bool:
        nodes = await _ask(session, server, "catalog/nodes")
        return bool(nodes) and len(nodes) == SERVERS and await self._leader_by(session, server) is leader

    async def _leader_by(self, session: aiohttp.ClientSession, server: ConsulProcess) -> ConsulProcess | None:
        return self._by_raft.get(await _ask(session, server, "status/leader") or "") if server.running else None


async def _ask(session: aiohttp.ClientSession, server: ConsulProcess, path: str) -> Any:
    """None: no answer in a second, or no good one."""
    try:
        response = await request(session, "GET", f"{server.url}/v1/{path}", timeout_s=1)
    except HttpError:
        return None
    return msgspec.json.decode(response.body) if response.status == 200 else None
