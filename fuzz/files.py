"""Files that people or other programs write, beside the configuration."""

from __future__ import annotations

from pathlib import Path

from fuzz.harness import YAML_WORDS, Parser, folder, result
from promring.config.http_client import HEADER
from promring.delivery.ssh_trust import parse_known_hosts
from promring.discovery.http import headers_in
from promring.kubernetes.access import of_kubeconfig
from promring.model import ConfigError, DiscoveryError
from promring.runtime.secretfile import SecretError, line
from promring.web.access import load_web_config

KUBECONFIG = b"""apiVersion: v1
current-context: c
contexts: [{name: c, context: {cluster: k, user: u, namespace: mon}}]
clusters: [{name: k, cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: YQ==}}]
users: [{name: u, user: {token: abc, client-certificate: a.pem}}]
"""
KNOWN_HOSTS = b"""# hosts
10.0.0.1,a ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB
@cert-authority *.a [b]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB x
|1|YQ==|YQ== ssh-rsa AAAA
"""
HEADERS = b"X-Token: abc\nX-Number: 7\n"
WEB_CONFIG = b"""basic_auth_users: {a: $2b$04$abcdefghijklmnopqrstuu1Q6bZyXwVuTsRqPoNmLkJiHgFeDcBa0}
http_server_config: {http2: true, headers: {X-Frame-Options: deny}}
rate_limit: {interval: 1s, burst: 5}
tls_server_config: {cert_file: a.pem, key_file: b.pem, min_version: TLS13, client_auth_type: NoClientCert}
"""


def kubeconfig(data: bytes) -> None:
    path = folder() / "kubeconfig"
    path.write_bytes(data)
    result(lambda: of_kubeconfig(path), ValueError)


def known_hosts(data: bytes) -> None:
    """A line that is skipped is named on one line."""
    _, lines, skipped = parse_known_hosts(data)
    assert lines + len(skipped) <= data.count(b"\n") + 1
    assert all(why.isprintable() for why in skipped)


def secret_file(data: bytes) -> None:
    """A token or password, and the file of headers: what is taken can stand in a header."""
    text = result(lambda: line(data, Path("/token")), SecretError)
    assert text is None or text.isprintable()
    for name, value in (result(lambda: headers_in(data, Path("/headers")), DiscoveryError) or {}).items():
        assert HEADER.fullmatch(name)
        assert value.isprintable()


def web_config(data: bytes) -> None:
    path = folder() / "web.yml"
    path.write_bytes(data)
    result(lambda: load_web_config(path), ConfigError)


PARSERS: dict[str, Parser] = {
    "kubeconfig": Parser(kubeconfig, (KUBECONFIG,), (*YAML_WORDS, b"!!bool ", b"!!int ", b"!!timestamp ", b"exec: ")),
    "known_hosts": Parser(known_hosts, (KNOWN_HOSTS,), (b"@revoked ", b"|1|", b"ssh-ed25519 ", b"*", b"!", b"\n")),
    "secret_file": Parser(secret_file, (HEADERS,), (*YAML_WORDS, b"\xef\xbb\xbf", b"\r\n", b"\0")),
    "web_config": Parser(web_config, (WEB_CONFIG,), (*YAML_WORDS, b"$2b$04$", b"TLS12", b"CurveP256")),
}
