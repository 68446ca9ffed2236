"""A scraper as a configuration lists it: ``host:port``, or ``{address: host:port, zone: a, weight: 2}``."""

from __future__ import annotations

import math
import re
from typing import Annotated, NamedTuple

from pydantic import Field, PlainValidator

from promring.config.values import NODES_MAX
from promring.model import WEIGHT_MOST
from promring.runtime.address import parse_host_port

_WEIGHT = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
"""As text; Python takes more: ``1_0`` for 10, digits of any script, white space."""


class Node(NamedTuple):
    """A scraper as it is listed."""

    host: str
    port: int
    zone: str = ""
    weight: float = 1.0


def parse_node(value: object) -> Node:
    """``host:port``, or ``{address: host:port, zone: a, weight: 2}``. Raises ValueError."""
    if isinstance(value, Node):
        return value
    if not isinstance(value, dict):
        return Node(*parse_host_port(value))
    if unknown := sorted(map(str, value.keys() - {"address", "zone", "weight"})):
        raise ValueError(f"unknown key {unknown[0]!r}; a scraper has address, zone, weight")
    if "address" not in value:
        raise ValueError("address is required: host:port")
    host, port = parse_host_port(value["address"])
    return Node(host, port, _zone(value.get("zone", "")), parse_weight(value.get("weight", 1)))


def parse_node_text(text: str) -> Node:
    """``host:port``, or ``host:port,zone=a,weight=2``. Raises ValueError."""
    address, *more = text.split(",")
    pairs = [part.partition("=") for part in more]
    if any(name not in ("zone", "weight") or not value for name, _, value in pairs):
        raise ValueError(f"{text!r} is not host:port, or host:port,zone=a,weight=2")
    return parse_node({"address": address} | {name: value for name, _, value in pairs})


def parse_weight(value: object) -> float:
    """A number, or a text of one. Raises ValueError."""
    try:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        number |= isinstance(value, str) and _WEIGHT.fullmatch(value) is not None
        weight = float(value) if number else math.nan  # type: ignore[arg-type]  # looked at
    except (ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight <= WEIGHT_MOST:
        raise ValueError(f"weight: {value!r} is not a number from 0 to {WEIGHT_MOST:g}")
    return weight


def _zone(value: object) -> str:
    if not isinstance(value, str) or len(value) > 128:
        raise ValueError(f"zone: {str(value)[:40]!r} is not a short text")
    return value


ListedNode = Annotated[Node, PlainValidator(parse_node)]
Nodes = Annotated[list[ListedNode], Field(min_length=1, max_length=NODES_MAX)]
