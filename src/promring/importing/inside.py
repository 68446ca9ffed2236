"""What a part of a configuration holds that matters when it gets another place: secrets, paths, place-holders, addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from promring.importing import keys
from promring.importing.edits import Edit, quoted
from promring.importing.source import Node, flat
from promring.runtime.redact import hide, secrets_in

PER_SERVER = ("$(NODE_NAME)", "%{NODE_NAME}", "${NODE_NAME}", "$(POD_NAME)", "%{POD_NAME}", "${POD_NAME}")
_OWN_NAME = r"\w*(?:NODE|POD|HOST)_?(?:NAME|IP)"
OWN_NAME = re.compile(rf"[%$]\{{{_OWN_NAME}\}}|\$\({_OWN_NAME}\)")
"""A place-holder for the name or address of the server itself, of its node or of its pod."""

_VALUE = re.compile(r"`([^`]*?)(?:\.\.\.)?`")
_LOOPBACK = frozenset(
    (
        "localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
        *(f"{name}.docker.internal" for name in ("host", "gateway", "kubernetes")),
        *(f"host.{name}.internal" for name in ("containers", "k3d", "lima", "minikube", "orb", "rancher-desktop")),
        *(f"docker.for.{name}.host.internal" for name in ("mac", "win")),
    )
)
"""Names of the machine itself, those too by which a container reaches the one that it runs on."""


class Leaf(NamedTuple):
    """A text in a configuration: ``path`` as it is shown, ``key`` of the nearest mapping."""

    path: str
    key: str
    node: Node


def leaves(node: Node, path: str = "", key: str = "") -> Iterator[Leaf]:
    """Every text under ``node``, aliases followed, merges flattened."""
    real = node.real
    if real.kind == "scalar":
        yield Leaf(path, key, node)
    elif real.kind == "list":
        for number, item in enumerate(real.items):
            yield from leaves(item, f"{path}[{number}]", key)
    else:
        for name, (_, value) in flat(real).items():
            yield from leaves(value, f"{path}.{name}" if path else name, name)


def without_secrets(said: str, roots: Iterable[Node]) -> str:
    """What a program ``said`` of a configuration, without its secrets. Of a long value it may repeat seven characters."""
    texts = [(leaf.path, leaf.key, leaf.node.real.text) for root in roots for leaf in leaves(root)]
    secrets = [text for path, key, text in texts if keys.is_secret(path, key, text)]
    secrets += [part for _, _, text in texts for part in secrets_in(text)]

    def value(found: re.Match[str]) -> str:
        is_part = found[1] and any(secret.startswith(found[1]) for secret in secrets)
        return "`***`" if is_part else found[0]

    return hide(_VALUE.sub(value, said), secrets)


def has_secret(node: Node) -> bool:
    return any(keys.may_hold_secret(leaf.path, leaf.key, leaf.node.real.text) for leaf in leaves(node))


def copied_secrets(node: Node) -> list[Leaf]:
    """What Prometheus showed instead of a secret."""
    return [leaf for leaf in leaves(node) if leaf.node.real.text == keys.COPIED_SECRET]


def placeholders(node: Node) -> list[Leaf]:
    """Texts that vmagent or an operator's reloader completes; ``$(…)`` in a replacement is a group of Prometheus' own."""
    return [leaf for leaf in leaves(node) if keys.ENVIRONMENT.search(leaf.node.real.text) and leaf.key != "replacement"]


def names_url(leaf: Leaf) -> bool:
    """Whether a list of ``files`` is read over the network, which only vmagent does."""
    return leaf.key == "files" and leaf.node.real.text.startswith(("http://", "https://"))


def is_relative(key: str, text: str) -> bool:
    elsewhere = text.startswith(("/", "%{", "$(", "${", "{{", "http://", "https://")) or keys.is_of_windows(text)
    return keys.is_path(key) and bool(text) and not elsewhere


def relative_paths(node: Node) -> list[Leaf]:
    return [leaf for leaf in leaves(node) if is_relative(leaf.key, leaf.node.real.text)]


def absolute_edits(node: Node, base: Path) -> list[Edit]:
    """``node`` without aliases: its relative paths from ``base``."""
    return [Edit(leaf.node.start, leaf.node.end, quoted(str(base / leaf.node.real.text))) for leaf in relative_paths(node)]


def host_of(address: str) -> str:
    """The host in ``host:port``, a URL, or a bare host, in lower case."""
    text = address.partition("://")[2] or address
    text = text.partition("/")[0].rpartition("@")[2]
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return (text if text.count(":") > 1 else text.partition(":")[0]).lower().rstrip(".")


def is_loopback(address: str) -> bool:
    """Whether another machine would mean itself by this address."""
    host = host_of(address)
    if host in _LOOPBACK or host.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_unspecified
