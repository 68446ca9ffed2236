"""Real etcd servers on loopback: one, or a cluster of three whose members are killed and frozen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, TlsFiles, request

TEMPO = ("--heartbeat-interval=100", "--election-timeout=1000")
"""etcd's own defaults."""


class EtcdProcess(Process):
    """One member. ``peers``: name and peer URL of every member, if there are others. ``tls``: the authority of all
    certificates, and a certificate and key that the server, the other members and those who ask it have.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        name: str = "test",
        *,
        port: int | None = None,
        peers: dict[str, str] | None = None,
        tls: TlsFiles | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.port = name, port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        self.data, self._tls = folder / "data", tls
        peers = peers or {name: peer_url(tls)}
        arguments: list[str | Path] = [
            program,
            f"--name={name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers[name]}",
            f"--initial-advertise-peer-urls={peers[name]}",
            f"--initial-cluster={','.join(f'{one}={url}' for one, url in peers.items())}",
            "--initial-cluster-token=promring",
            "--log-level=warn",
            "--unsafe-no-fsync",
            *TEMPO,
            *extra,
        ]
        if tls:
            arguments += [f"--cert-file={tls.cert_file}", f"--key-file={tls.key_file}", f"--trusted-ca-file={tls.ca_file}"]
            arguments += [f"--peer-cert-file={tls.cert_file}", f"--peer-key-file={tls.key_file}"]
            arguments += [f"--peer-trusted-ca-file={tls.ca_file}", "--client-cert-auth", "--peer-client-cert-auth"]
        super().__init__(arguments, folder / f"{name}.log", {"GOMAXPROCS": "2"})

    def forget(self) -> None:
        """Remove everything it knows. Only while it is not running."""
        shutil.rmtree(self.data, ignore_errors=True)

    async def start_alone(self) -> None:
        """As the only member of a new cluster, with the data that it has: how a backup is restored without etcdutl."""
        usual, self.arguments = self.arguments, [*self.arguments, "--force-new-cluster"]
        try:
            await self.start()
        finally:
            self.arguments = usual

    async def call(
        self, session: aiohttp.ClientSession, path: str, body: object = None, token: str = ""
    ) -> dict[str, object]:
        """Raises ``HttpError``, and AssertionError for another status than 200."""
        headers = {"Authorization": token} if token else None
        url = f"{self.url}/v3/{path}"
        response = await request(session, "POST", url, timeout_s=5, json=body or {}, headers=headers, tls=self._tls)
        assert response.status == 200, response.text()
        found: dict[str, object] = msgspec.json.decode(response.body)
        return found

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether it has a leader, and answers what needs one."""
        try:
            await self.call(session, "kv/range", {"key": "YQ=="})
        except (HttpError, AssertionError):
            return False
        return True

    async def leads(self, session: aiohttp.ClientSession) -> bool:
        status = await self.call(session, "maintenance/status")
        header = status["header"]
        assert isinstance(header, dict)
        return bool(status.get("leader") == header["member_id"])


def peer_url(tls: TlsFiles | None) -> str:
    return f"{'https' if tls else 'http'}://127.0.0.1:{free_port()}"


class EtcdCluster:
    """Three members."""

    def __init__(self, program: Path, folder: Path, tls: TlsFiles | None = None) -> None:
        names = ("a", "b", "c")
        peers = {name: peer_url(tls) for name in names}
        self.members = [EtcdProcess(program, folder / name, name, peers=peers, tls=tls) for name in names]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    async def start(self, session: aiohttp.ClientSession) -> None:
        for member in self.members:
            await member.start()
        for member in self.members:
            await member.until(lambda one=member: one.is_ready(session), f"etcd {member.name}")  # type: ignore[misc]

    async def leader(self, session: aiohttp.ClientSession) -> EtcdProcess:
        """The member that leads."""
        for member in self.members:
            if member.running and await member.leads(session):
                return member
        raise AssertionError("no leader")

    async def stop(self) -> None:
        for member in self.members:
            await member.stop()
