"""Rights of a token in Consul, as rules of its ACL system, and as one asks Consul whether a token has them."""

from __future__ import annotations

import msgspec


class Right(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """``allow``: what Consul answers."""

    resource: str
    access: str
    segment: str = ""
    allow: bool = False

    def __str__(self) -> str:
        return f'{self.resource} "{self.segment}" {self.access}'


def key_write(name: str) -> str:
    """The ACL rule for the lock's key."""
    return str(Right("key", "write", name))


def service_write(name: str) -> str:
    return str(Right("service", "write", name)) if name else ""
