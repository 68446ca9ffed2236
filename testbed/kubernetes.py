"""A real kube-apiserver on loopback, on a real etcd, without anything else of Kubernetes."""

from __future__ import annotations

import asyncio
import base64
import copy
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, Response, TlsFiles, request
from testbed.etcd import EtcdProcess

ADMIN = "admin-token"
"""The token of one who may do everything."""
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "promring", "namespace": "mon"}}
"""That of the manifests."""
MANIFESTS = Path(__file__).parents[1] / "deploy/kubernetes"
LEEWAY_S = 60
"""So long after its end the server takes a token."""
PREFIXES = {"v1": "/api/v1"}
CLUSTERS = ("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "PriorityLevelConfiguration", "FlowSchema")
"""Kinds that are in no namespace."""


class ApiServer(Process):
    """The certificate is its own, made at the start in ``folder``; ``RBAC`` decides. ``extra``: more arguments."""

    def __init__(self, program: Path, folder: Path, etcd: EtcdProcess, extra: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.certificates = free_port(), folder / "certificates"
        self.url = f"https://127.0.0.1:{self.port}"
        self.tls = TlsFiles(insecure_skip_verify=True)
        self._key = folder / "account.key"
        tokens, key = folder / "tokens.csv", self._key
        tokens.write_text(f"{ADMIN},admin,1,system:masters\n")
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
            *extra,
        ]
        super().__init__(arguments, folder / "apiserver.log", {"GOMAXPROCS": "2"})

    async def ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: object = None, token: str = ADMIN
    ) -> Response:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.url}{path}"
        return await request(session, method, url, timeout_s=10, headers=headers, json=body, tls=self.tls)

    async def call(self, session: aiohttp.ClientSession, method: str, path: str, body: object = None) -> dict[str, Any]:
        """As admin. AssertionError for a status that is no success."""
        response = await self.ask(session, method, path, body)
        assert response.status in (200, 201), response.text()
        found: dict[str, Any] = msgspec.json.decode(response.body)
        return found

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Whether it is ready, and the namespace ``default`` is there."""
        try:
            ready = await self.ask(session, "GET", "/readyz")
            there = await self.ask(session, "GET", "/api/v1/namespaces/default")
        except HttpError:
            return False
        return ready.status == 200 and there.status == 200

    async def create(self, session: aiohttp.ClientSession, thing: dict[str, Any], *, dry_run: bool = False) -> None:
        """Unless it is there. AssertionError with the server's words when it is refused; unknown fields are, too."""
        prefix = PREFIXES.get(thing["apiVersion"], f"/apis/{thing['apiVersion']}")
        namespace = "" if thing["kind"] in CLUSTERS else f"/namespaces/{thing['metadata']['namespace']}"
        path = f"{prefix}{namespace}/{plural(thing['kind'])}?fieldValidation=Strict{'&dryRun=All' * dry_run}"
        answer = await self.ask(session, "POST", path, thing)
        assert answer.status in (201, 409), answer.text(2000)

    async def apply(self, session: aiohttp.ClientSession, manifest: str, *, dry_run: bool = False) -> None:
        """Create all that is in it."""
        for one in yaml.safe_load_all(manifest):
            await self.create(session, one, dry_run=dry_run)

    async def namespace(self, session: aiohttp.ClientSession, name: str) -> None:
        """With the service account that pods have, which a controller of Kubernetes would make."""
        await self.create(session, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        await self.create(session, account)

    async def account_token(self, session: aiohttp.ClientSession, namespace: str, account: str) -> str:
        """A new token of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        made = await self.call(session, "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
        return str(made["status"]["token"])

    async def short_token(self, session: aiohttp.ClientSession, namespace: str, account: str, seconds: float) -> str:
        """One that is refused so soon. The server itself gives none for less than ten minutes."""
        head, claims, _ = (await self.account_token(session, namespace, account)).split(".")
        said = msgspec.json.decode(_from_base64(claims))
        body = f"{head}.{_to_base64(msgspec.json.encode({**said, 'exp': int(time.time() + seconds - LEEWAY_S)}))}"
        key = load_pem_private_key(self._key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)  # made above
        return f"{body}.{_to_base64(key.sign(body.encode(), padding.PKCS1v15(), SHA256()))}"

    @asynccontextmanager
    async def refuses(self, session: aiohttp.ClientSession, account: str) -> AsyncIterator[None]:
        """Answers every other request of a service account of ``mon`` with 429 while this one request does not end: it is
        alone in a priority level without seats, in which one request at a time is carried out.
        """
        api = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1"}
        limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
        level = {"kind": "PriorityLevelConfiguration", "metadata": {"name": "none"}}
        await self.create(session, {**api, **level, "spec": {"type": "Limited", "limited": limited}})
        subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "mon", "name": account}}
        every = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}]
        rules = [{"subjects": [subject], "resourceRules": every}]
        spec = {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 2, "rules": rules}
        await self.create(session, {**api, "kind": "FlowSchema", "metadata": {"name": "none"}, "spec": spec})
        token = await self.account_token(session, "mon", account)
        made = await self.call(session, "GET", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/none")
        async with asyncio.timeout(240):
            while True:  # it heeds a new one only when it has heard of it
                if await self._flow_of(session, token) == made["metadata"]["uid"]:
                    break
                await asyncio.sleep(0.05)
        head = (
            "PUT /apis/coordination.k8s.io/v1/namespaces/mon/leases/promring HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {token}",
        )
        untrusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        untrusted.check_hostname, untrusted.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=untrusted)
        try:
            writer.write("\r\n".join([*head, "Content-Type: application/json", "Content-Length: 99", "", "{"]).encode())
            await writer.drain()
            yield
        finally:
            writer.transport.abort()

    async def _flow_of(self, session: aiohttp.ClientSession, token: str) -> str | None:
        """The id of the FlowSchema of a request with that ``token``."""
        answer = await self.ask(session, "GET", "/apis/coordination.k8s.io/v1/namespaces/mon/leases", token=token)
        return answer.headers.get("x-kubernetes-pf-flowschema-uid")

    def kubeconfig(self, path: Path, token: Path, namespace: str, address: str = "") -> Path:
        """One at ``path``, for whoever has the token in that file. ``address``: of a proxy before the server."""
        cluster = {"server": f"https://{address}" if address else self.url, "insecure-skip-tls-verify": True}
        text = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": namespace}}],
            "clusters": [{"name": "x", "cluster": cluster}],
            "users": [{"name": "x", "user": {"tokenFile": str(token)}}],
        }
        path.write_text(yaml.safe_dump(text))
        return path

    async def put_pod(self, session: aiohttp.ClientSession, namespace: str, pod: dict[str, Any]) -> None:
        """Make it, with its status, as a kubelet would set it; or set labels and status of the one that is there."""
        pods, wanted = f"/api/v1/namespaces/{namespace}/pods", copy.deepcopy(pod)
        name = wanted["metadata"]["name"]
        wanted["metadata"].pop("uid", None)
        if (there := await self.ask(session, "GET", f"{pods}/{name}")).status == 200:
            made = msgspec.json.decode(there.body)
            made["metadata"]["labels"] = wanted["metadata"]["labels"]
            made = await self.call(session, "PUT", f"{pods}/{name}", made)
        else:
            made = await self.call(session, "POST", pods, wanted)
        await self.call(session, "PUT", f"{pods}/{name}/status", {**made, "status": wanted["status"]})

    async def delete_pod(self, session: aiohttp.ClientSession, namespace: str, name: str, *, grace_s: int = 300) -> None:
        """0: at once, as a kubelet does when the pod has ended."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds={grace_s}"
        await self.call(session, "DELETE", path)


def manifest(name: str) -> str:
    """One of ``deploy/kubernetes``."""
    return (MANIFESTS / f"{name}.yaml").read_text()


def _to_base64(content: bytes) -> str:
    """As in a token: for URLs, without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def plural(kind: str) -> str:
    """As it stands in a path."""
    return kind.lower() + ("es" if kind.endswith("s") else "s")
