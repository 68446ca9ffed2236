"""A real Consul on loopback: a server with or without memory across restarts, and client agents of it."""

from __future__ import annotations

import shutil
import signal
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
        config: dict[str, Any] = {
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
        self.gossip = f"{config['bind_addr']}:{config['ports']['serf_lan']}"
        """Where others join it."""
        self._config, self._file = config, folder / "consul.json"
        self._file.write_bytes(msgspec.json.encode(config))
        arguments: list[str | Path] = [program, "agent", f"-config-file={self._file}"]
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


class ConsulClient(ConsulProcess):
    """A client agent of ``server``: it keeps checks, and asks the server for all else."""

    def __init__(self, program: Path, folder: Path, server: ConsulProcess, name: str) -> None:
        joining = {"retry_join": [server.gossip], "retry_interval": "500ms"}
        super().__init__(program, folder, extra={"server": False, "bootstrap_expect": 0, "node_name": name, **joining})

    def cut_from_servers(self, *, healed: bool = False) -> None:
        """It asks its servers nothing any more, and they go on hearing of it by gossip: as behind a firewall that lets only
        gossip through, or with a certificate that has expired.
        """
        limits = {"rpc_rate": 1e6 if healed else 1e-6, "rpc_max_burst": 1000 if healed else 1}
        self._file.write_bytes(msgspec.json.encode({**self._config, "limits": limits}))
        self.signal(signal.SIGHUP)
