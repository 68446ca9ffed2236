"""Canaries: words that stand where a configuration has secrets, and a search for them.

``Canaries`` makes a word for each place, and finds each of them, or a good part of one, in a text. ``configurations`` are
valid ones that have a canary at every key that can hold a secret; ``secret_keys`` knows these keys from the settings
themselves, so that a new one without a canary is found.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import quote

import trustme
from pydantic import BaseModel

from promring.config.kinds import OneOf
from promring.config.values import SecretLinePath, SecretPath
from promring.discovery.pasted_keys import Blocks
from promring.runtime.redact import Secret

JOB = "node"
SCRAPER = "127.0.0.1:9090"


class Canaries:
    """Distinct words, made on demand; ``found`` says which of them, or a good part of one, is in a text."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self._words.setdefault(
            place, f"Kanari{len(self._words):02d}+{place.replace(' ', '/')}=Vogel{len(self._words):02d}"
        )

    def take(self, place: str, word: str) -> str:
        """A secret that is made by others, such as a hash or a key."""
        self._words[place] = word
        return word

    def found(self, text: str | bytes) -> list[str]:
        lower = (text if isinstance(text, str) else text.decode("utf-8", "replace")).lower()
        return sorted({place for place, word in self._words.items() for part in _parts(word) if part in lower})

    def __len__(self) -> int:
        return len(self._words)


def _parts(word: str) -> Iterator[str]:
    """Half of a canary is one, too; so is what it becomes in a header of basic authentication, or in a URL."""
    yield word[:8].lower()
    yield word[-8:].lower()
    yield base64.b64encode(word.encode())[:16].decode().lower()
    yield base64.b64encode(f"me:{word}".encode())[4:24].decode().lower()


# --- which keys there are ----------------------------------------------------------------------------------------------


def secret_keys(type_: Any, path: str = "") -> Iterator[str]:
    """Every key below a type of the settings whose value is a secret, or names a file of one; kinds stand as keys."""
    if isinstance(type_, type) and issubclass(type_, Secret | SecretPath):
        yield path
    elif isinstance(type_, type) and issubclass(type_, Blocks) and hasattr(type_, "block"):
        yield from secret_keys(type_.block, path)
    elif isinstance(type_, type) and issubclass(type_, BaseModel):
        hints = get_type_hints(type_, include_extras=True)
        for name, field in type_.model_fields.items():
            yield from secret_keys(hints[name], f"{path}.{field.alias or name}".lstrip("."))
    elif get_origin(type_) is Annotated:
        if type_ == SecretLinePath:
            yield path
            return
        for mark in type_.__metadata__:
            for name, kind in mark.kinds.items() if isinstance(mark, OneOf) else ():
                yield from secret_keys(kind, f"{path}.{name}")
        yield from secret_keys(type_.__origin__, path)
    else:
        for inner in get_args(type_):
            yield from secret_keys(inner, path)


def keys_of(value: object, path: str = "") -> Iterator[str]:
    """Every key that a configuration says, in the spelling of ``secret_keys``: without the numbers of lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "http_headers":  # below it are names that people choose
                yield from keys_of(list(inner.values()), f"{path}.{key}")
            else:
                yield from keys_of(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, path)
    yield path


# --- valid configurations ----------------------------------------------------------------------------------------------

KUBECONFIG = """
current-context: here
contexts: [{{name: here, context: {{cluster: c, user: u, namespace: mon}}}}]
clusters: [{{name: c, cluster: {{server: "http://{server}"}}}}]
users: [{{name: u, user: {{token: "{token}"}}}}]
"""


class Written:
    """Files of secrets in ``folder``, each with a canary; ``server``: ``host:port`` of whoever is asked."""

    def __init__(self, folder: Path, canary: Canaries, server: str) -> None:
        self.folder, self.canary, self.server = folder, canary, server
        folder.mkdir(parents=True, exist_ok=True)
        issued = trustme.CA().issue_cert("127.0.0.1")
        self.certificate = issued.cert_chain_pems[0].bytes().decode()
        self.key = issued.private_key_pem.bytes().decode()
        canary.take("key of TLS", "".join(self.key.splitlines()[2:-2]))

    def file(self, place: str, text: str = "{}") -> str:
        """The path of a file that holds the canary of ``place``, where ``text`` has ``{}``."""
        path = self.folder / f"{place.replace(' ', '-')}.secret"
        path.write_text(text.replace("{}", self.canary(place)))
        path.chmod(0o600)
        return str(path)

    def pem(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def ways(self, of: str) -> list[dict[str, Any]]:
        """Every way to be let in by HTTP, each with its own canaries: the keys of ``http_config``."""
        canary, file = self.canary, self.file
        tls = {"ca": self.certificate, "cert": self.certificate, "key": self.key}
        files = {
            "ca_file": self.pem("ca.pem", self.certificate),
            "cert_file": self.pem("cert.pem", self.certificate),
            "key_file": self.pem("key.pem", self.key),
        }
        proxy = {
            "proxy_url": f"http://me:{quote(canary(f'{of} proxy'), safe='')}@{self.server}",
            "proxy_connect_header": {"X-Proxy": [canary(f"{of} connect header")]},
        }
        return [
            {"basic_auth": {"username": "me", "password": canary(f"{of} password")}, "tls_config": tls},
            {
                "basic_auth": {"username_file": file(f"{of} user file"), "password_file": file(f"{of} password file")},
                "http_headers": {
                    "X-A": {"secrets": [canary(f"{of} header")]},
                    "X-B": {"files": [file(f"{of} header file")]},
                },
            },
            {"authorization": {"type": "Custom", "credentials": canary(f"{of} credentials")}, **proxy},
            {
                "authorization": {"credentials_file": file(f"{of} credentials file")},
                "http_headers": {"X-C": {"values": [canary(f"{of} header value")]}},
            },
            {"bearer_token": canary(f"{of} token"), "tls_config": files},
            {"bearer_token_file": file(f"{of} token file")},
        ]


def _service(written: Written, number: int, ways: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """A service that is let in everywhere by the way of this number."""
    canary, server = written.canary, written.server
    scraper = {key: value for key, value in ways["scrapers"][number].items() if not key.startswith("proxy")}
    if "tls_config" in scraper:
        scraper["scheme"] = "https"
    url = {"url": f"http://{server}/targets?key={quote(canary(f'query {number}'))}", "refresh_interval": "1m"}
    consul: dict[str, Any] = {"server": server, "services": ["node"], **ways["consul"][number]}
    return {
        "name": f"{JOB}{number}",
        "scrapers": {"probe": {"nodes": [server], "interval": "1s", "healthy_after": 1}},
        "scraper_api": scraper,
        "join_delay": "0s",
        "audit": {"interval": "5s", "timeout": "5s"},
        "placement": {"loads": {"promql": {"url": f"http://{server}", "query": "up", **ways["loads"][number]}}},
        "targets": [
            {"file": {"files": [str(written.folder / "list.json")]}},
            {"http": {**url, **ways["http"][number]}},
            {"prometheus": {"url": f"http://{server}", "scrape_pool": "node", **ways["engine"][number]}},
            {"http_sd_configs": [{**url, **ways["pasted"][number]}]},
            {"consul_sd_configs": [consul]},
        ],
        "delivery": [{"http_sd": {}}, {"file": {"path": str(written.folder / f"out/{JOB}{number}/{{scraper}}.json")}}],
    }


def configuration(written: Written, *, second: bool = False) -> dict[str, Any]:
    """A valid configuration with a canary at each key for a secret. ``second``: at those that exclude the first ones."""
    canary, file, server = written.canary, written.file, written.server
    (written.folder / "list.json").write_text('[{"targets": ["t:1", "t:2"], "labels": {"env": "prod"}}]')
    carriers = ("scrapers", "http", "loads", "engine", "pasted", "consul")
    ways = {of: written.ways(of) for of in carriers}
    services = [_service(written, number, ways) for number in range(6)]
    if not second:
        services[0]["targets"] += [
            {"http": {"url": f"http://{server}/targets", "headers_file": file("headers file", '{"X-Key": "{}"}')}},
            {"consul": {"services": ["node"], "address": server, "token_file": file("token of a source")}},
            {"consul_sd_configs": [{"server": server, "token": canary("token of a pasted source")}]},
            {"consul_sd_configs": [{"server": server, "username": "me", "password": canary("old password of a source")}]},
        ]
    consul = {"token_file": file("token of consul")}
    if second:
        consul = {"username": "me", "password_file": file("password of consul")}
    made: dict[str, Any] = {
        "global": {"reconcile_interval": "1s"},
        "consul": {"address": server, **consul},
        "shard_services": services,
    }
    listed = [{"file": {"files": [str(written.folder / "list.json")]}}]
    by_consul = {
        "name": "by_consul",
        "scrapers": {"consul": {"service": "scrape"}},
        "targets": listed,
        "delivery": [{"http_sd": {}}],
    }
    services.append(by_consul)
    if second:
        made["etcd"] = {"endpoints": [f"http://{server}"], "username": "me", "password_file": file("password of etcd")}
        made["controllers"] = {"lock": {"etcd": {}}}
    else:
        kubeconfig = written.pem("kubeconfig", KUBECONFIG.format(server=server, token=canary("token of kubernetes")))
        made["kubernetes"] = {"kubeconfig": kubeconfig}
        pods = {"kubernetes": {"selector": "app=prometheus", "port": 9090}}
        services.append({"name": "by_pods", "scrapers": pods, "targets": listed, "delivery": [{"http_sd": {}}]})
    return made
