"""A real kube-apiserver on loopback, on a real etcd, without anything else of Kubernetes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import aiohttp
import msgspec

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, Response, TlsFiles, request
from testbed.etcd import EtcdProcess

ADMIN, CONTROLLER = "admin-token", "controller-token"
"""Tokens: of one who may do everything, and of user ``promring``, who may do what roles give."""


class ApiServer(Process):
    """The certificate is its own, made at the start in ``folder``; ``RBAC`` decides."""

    def __init__(self, program: Path, folder: Path, etcd: EtcdProcess) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.certificates = free_port(), folder / "certificates"
        self.url = f"https://127.0.0.1:{self.port}"
        self.tls = TlsFiles(insecure_skip_verify=True)
        tokens, key = folder / "tokens.csv", folder / "account.key"
        tokens.write_text(f"{ADMIN},admin,1,system:masters\n{CONTROLLER},promring,2\n")
        generate = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(key)]
        subprocess.run(generate, check=True, capture_output=True, timeout=60)
        arguments: list[str | Path] = [
            program,
            f"--etcd-servers={etcd.url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self.certificates}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://promring.test",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
        ]
        super().__init__(arguments, folder / "apiserver.log", {"GOMAXPROCS": "2"})

    async def ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: object = None, token: str = ADMIN
    ) -> Response:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.url}{path}"
        return await request(session, method, url, timeout_s=10, headers=headers, json=body, tls=self.tls)

    async def call(self, session: aiohttp.ClientSession, method: str, path: str, body: object = None) -> dict[str, object]:
        """As admin. AssertionError for a status that is no success."""
        response = await self.ask(session, method, path, body)
        assert response.status in (200, 201), response.text()
        found: dict[str, object] = msgspec.json.decode(response.body)
        return found

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether it is ready, and the namespace ``default`` is there."""
        try:
            ready = await self.ask(session, "GET", "/readyz")
            there = await self.ask(session, "GET", "/api/v1/namespaces/default")
        except HttpError:
            return False
        return ready.status == 200 and there.status == 200
