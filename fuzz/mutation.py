"""One change of a JSON document, or of a line that is one: a value becomes another, is left out, doubled, or moved."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Place = tuple["list[Json] | dict[str, Json]", int | str]
ODD: tuple[Json, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, "", "0", "-1", "9" * 5000, "x" * 300, "\0", "\ud800",
    "\u2028", "a:1", ":", "10.0.0.1", "::1", "[::1]:1", "http://h/", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z", "1e9s", "=",
    [], {}, [[]], [None], {"": None},
)  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """``data`` with one to three changes, in one line where it is no JSON as a whole; as it is when that is none either."""
    rng = random.Random(seed)
    whole = _mutated(data, rng)
    if whole is not data:
        return whole
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = _mutated(lines[at], rng)
    return b"\n".join(lines)


def pumped(data: bytes, seed: int, most: int) -> bytes:
    """``data`` with one to three bytes of it repeated until it is ``most`` long: what is read again and again shows by its
    time.
    """
    rng = random.Random(seed)
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.randrange(1, 4)] or b" "
    return data[:at] + piece * ((most - len(data)) // len(piece)) + data[at:]


def _mutated(data: bytes, rng: random.Random) -> bytes:
    try:
        document: list[Json] = [json.loads(data)]
        for _ in range(rng.randrange(1, 4)):
            _change(rng, list(_places(document)))
        return json.dumps(document[0]).encode()
    except (ValueError, RecursionError):
        return data


def _places(value: Json) -> Iterator[Place]:
    if isinstance(value, list):
        for i, inner in enumerate(value):
            yield value, i
            yield from _places(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield value, name
            yield from _places(inner)


def _change(rng: random.Random, places: list[Place]) -> None:
    holder, key = rng.choice(places)
    other, from_ = rng.choice(places)
    what = rng.randrange(5)
    if what == 0 and isinstance(holder, dict):
        holder.pop(str(key))
    elif what == 1 and isinstance(holder, list) and len(places) > 1:
        holder += holder[: rng.randrange(1, 4)]
    elif what == 2:
        holder[key] = json.loads(json.dumps(other[from_]))  # type: ignore[index]
    else:
        holder[key] = rng.choice(ODD)  # type: ignore[index]
