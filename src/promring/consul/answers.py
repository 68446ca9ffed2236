"""What Consul answers, as far as it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec


class AgentConfig(msgspec.Struct, frozen=True, rename="pascal"):
    datacenter: str = ""
    node_name: str = ""


class Agent(msgspec.Struct, frozen=True, rename="pascal"):
    config: AgentConfig = AgentConfig()


class Located(msgspec.Struct, frozen=True, rename="pascal"):
    datacenter: str = ""


class KeyEntry(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None
    session: str = ""
    modify_index: int = 0


class Session(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="ID")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the store. ``session``: who has it locked, empty: nobody; ``modify_index``: of its last change, 0
    when there is no such key; ``index``: to wait for the next change with.
    """

    value: bytes = b""
    session: str = ""
    modify_index: int = 0
    index: int = 1


@dataclass(frozen=True, slots=True)
class Read:
    """An answer as it came. ``index``: to wait for the next one with; ``filtered``: whether the token may not see all of it,
    None when this Consul (before 1.11) does not say.
    """

    body: bytes = field(repr=False)
    index: int
    filtered: bool | None


class AgentIdentity(NamedTuple):
    """The agent that is asked: the name of its node, and its datacenter."""

    node: str
    datacenter: str
