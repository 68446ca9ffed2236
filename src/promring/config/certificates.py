"""Certificates and authorities that stand in a configuration as text, and how long they are valid.

Each is called by where it stands: ``promring.yml: shard_services[node].targets[0].tls_config.cert``. Nothing of what a text
holds is told but its times. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from promring.config.http_client import TlsConfig
from promring.runtime.certificates import AUTHORITY, CERTIFICATE, KEPT_MAX, Place, Validity, told
from promring.runtime.redact import Secret


def texts_told(name: str, settings: BaseModel) -> dict[Place, Validity]:
    """``name``: of the file. A text that services share, as those of a fleet do, is told once, where it stands first."""
    known: set[tuple[str, str]] = set()
    found: dict[Place, Validity] = {}
    for where, kind, text in _texts(settings, ""):
        if (kind, text.reveal()) not in known and len(found) < KEPT_MAX:
            known.add((kind, text.reveal()))
            found |= told(f"{name}: {where}", kind, text.reveal().encode())
    return found


def _texts(value: object, where: str) -> Iterator[tuple[str, str, Secret]]:
    if isinstance(value, TlsConfig):
        if value.cert is not None:
            yield f"{where}.cert", CERTIFICATE, value.cert
        if value.ca is not None and not value.insecure_skip_verify:
            yield f"{where}.ca", AUTHORITY, value.ca
    elif isinstance(value, BaseModel):
        for key, inner in value:
            yield from _texts(inner, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            name = getattr(inner, "name", number)
            yield from _texts(inner, f"{where}[{name if isinstance(name, str) else number}]")
