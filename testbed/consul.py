"""A real Consul server on loopback, with or without memory across restarts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, request


class ConsulProcess(Process):
    """One server that is its own cluster. ``extra`` is merged into its configuration."""

    def __init__(self, program: Path, folder: Path, *, port: int | None = None, extra: dict[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._data = folder / "data"
        config = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": "test",
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "data_dir": str(self._data),
            "ports": {
                "http": self.port,
                "dns": -1,
                "grpc": -1,
                "serf_wan": -1,
                "serf_lan": free_port(),
                "server": free_port(),
                **({"grpc_tls": -1} if program.name == "consul14" else {}),  # 8503 by default, once a machine
            },
            "performance": {"raft_multiplier": 1},
            "log_level": "WARN",
            "disable_update_check": True,
            "leave_on_terminate": False,
            **(extra or {}),
        }
        (folder / "consul.json").write_bytes(msgspec.json.encode(config))
        arguments: list[str | Path] = [program, "agent", f"-config-file={folder / 'consul.json'}"]
        super().__init__(arguments, folder / "consul.log", {"GOMAXPROCS": "2"})

    def forget(self) -> None:
        """Remove everything it knows. Only while it is not running."""
        shutil.rmtree(self._data, ignore_errors=True)

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether it has a leader and knows its own node."""
        try:
            leader = await request(session, "GET", f"{self.url}/v1/status/leader", timeout_s=1)
            nodes = await request(session, "GET", f"{self.url}/v1/catalog/nodes", timeout_s=1)
        except HttpError:
            return False
        return leader.status == 200 and leader.body != b'""' and nodes.status == 200 and nodes.body != b"[]"

    async def put(self, session: aiohttp.ClientSession, path: str, body: object = None) -> None:
        response = await request(session, "PUT", f"{self.url}{path}", timeout_s=10, json=body)
        assert response.status == 200, response.text()

    async def get(self, session: aiohttp.ClientSession, path: str) -> Any:
        response = await request(session, "GET", f"{self.url}{path}", timeout_s=10)
        assert response.status == 200, response.text()
        return msgspec.json.decode(response.body)
