"""The section ``kubernetes`` of a configuration: where the API is, and how to be let in.

Without a ``kubeconfig`` it is the pod's own service account. Tokens and certificates in files are read again for each
request: the token of a service account is replaced long before it ends. What a kubeconfig holds inline is written to files
of our own that only we may read (``files_of``), since TLS is made from files.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec
from pydantic import Field

from promring.config.document import YamlProblem, read_yaml
from promring.config.kinds import Problem, Section
from promring.config.values import AbsolutePath
from promring.model import ConfigError
from promring.runtime import regular
from promring.runtime.http_client import TlsFiles, parse_base

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
KUBECONFIG_BYTES_MAX = 1024 * 1024
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""Of an object."""


@dataclass(frozen=True, slots=True)
class Access:
    """``url``: without a slash at its end; ``namespace``: that of the pod, or of the kubeconfig's context. ``inline``: what
    a kubeconfig holds of ``ca``, ``cert`` and ``key``, which must be made into files. ``stands``: where each of them is.
    """

    url: str
    namespace: str
    tls: TlsFiles
    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    inline: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    stands: Mapping[str, str] = field(default_factory=dict)

    def files_of(self, folder: Path) -> Access:
        """The same, with what was inline in files in ``folder``. Blocks."""
        for name, content in self.inline.items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        ca, cert, key = (folder / name if name in self.inline else None for name in ("ca", "cert", "key"))
        tls = replace(self.tls, called=tuple((folder / name, where) for name, where in self.stands.items()))
        tls = replace(tls, ca_file=ca or tls.ca_file, cert_file=cert or tls.cert_file, key_file=key or tls.key_file)
        return replace(self, tls=tls, inline={})


class KubernetesSection(Section):
    """``kubeconfig``: as kubectl reads it, its current context; absent: the pod's own service account."""

    key = "kubernetes"
    missing = "needs the section `kubernetes:` with a kubeconfig, or a pod with a service account"

    kubeconfig: AbsolutePath | None = None

    @classmethod
    def is_described_elsewhere(cls) -> bool:
        return bool(os.environ.get(HOST))

    def relations(self, *, used: bool) -> Iterator[Problem]:
        if self.kubeconfig is not None:
            return
        if used and not os.environ.get(HOST):
            yield (), f"without a kubeconfig this must be a pod: {HOST} is not set"

    def access(self, environ: Mapping[str, str] = os.environ) -> Access:
        """Raises ``ConfigError``. Blocks."""
        try:
            return self._in_cluster(environ) if self.kubeconfig is None else of_kubeconfig(self.kubeconfig)
        except (OSError, ValueError) as error:
            raise ConfigError([f"kubernetes: {' '.join(str(error).split())}"]) from None  # its cause may show secrets

    def _in_cluster(self, environ: Mapping[str, str]) -> Access:
        host, port = environ.get(HOST, ""), environ.get(PORT, "443")
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        namespace = regular.read(ACCOUNT / "namespace", 1024).decode().strip()
        return Access(url, namespace, TlsFiles(ACCOUNT / "ca.crt"), ACCOUNT / "token")


# --- kubeconfig ------------------------------------------------------------------------------------------------------


class _Context(msgspec.Struct, frozen=True):
    cluster: str
    user: str = ""
    namespace: str = "default"


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str | None = None
    token_file: str = msgspec.field(name="tokenFile", default="")
    exec: object = None
    auth_provider: object = None
    username: object = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: _User = _User()


class _Kubeconfig(msgspec.Struct, frozen=True):
    current: str = msgspec.field(name="current-context")
    contexts: list[_NamedContext]
    clusters: list[_NamedCluster]
    users: list[_NamedUser] = []


def of_kubeconfig(path: Path) -> Access:
    """Raises OSError, and ValueError without what stands in it."""
    text = regular.read(path, KUBECONFIG_BYTES_MAX)
    try:
        said = msgspec.convert(read_yaml(text).value, _Kubeconfig)
    except YamlProblem as error:
        raise ValueError(f"{path}:{error.line} is not YAML, or goes beyond a bound") from None  # its words repeat the file
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}") from None
    context = next((one.context for one in said.contexts if one.name == said.current), None)
    if context is None:
        raise ValueError(f"{path} has no context {said.current!r}, which is its current-context")
    cluster = next((one.cluster for one in said.clusters if one.name == context.cluster), None)
    if cluster is None:
        raise ValueError(f"{path} has no cluster {context.cluster!r}")
    user = next((one.user for one in said.users if one.name == context.user), _User())
    if user.exec or user.auth_provider or user.username:
        raise ValueError(
            f"{path}: user {context.user!r} needs a program or a password; promring takes tokens and certificates"
        )
    return _access(path, context.namespace, cluster, user)


def _access(path: Path, namespace: str, cluster: _Cluster, user: _User) -> Access:
    """Relative paths are against the folder of the kubeconfig. What is inline goes before a file, as with kubectl."""
    texts = (
        ("ca", "certificate-authority-data", cluster.certificate_authority_data),
        ("cert", "client-certificate-data", user.client_certificate_data),
        ("key", "client-key-data", user.client_key_data),
    )
    inline = {name: _decoded(path, name, text) for name, _, text in texts if text}
    stands = {name: f"{path}: {key}" for name, key, text in texts if text}

    def file(name: str, text: str) -> Path | None:
        return path.parent / text if text and name not in inline else None

    tls = TlsFiles(
        file("ca", cluster.certificate_authority),
        file("cert", user.client_certificate),
        file("key", user.client_key),
        cluster.tls_server_name,
        cluster.insecure_skip_tls_verify,
    )
    url, unix_socket = parse_base(cluster.server, path=True)
    if unix_socket is not None:
        raise ValueError(f"{path}: {cluster.server!r} is not http(s)://host:port")
    token_file = path.parent / user.token_file if user.token_file else None
    return Access(str(url).rstrip("/"), namespace, tls, token_file, None if token_file else user.token, inline, stands)


def _decoded(path: Path, name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"{path}: the {name} in it is not base64") from None
