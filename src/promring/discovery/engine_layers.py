"""The targets of one scrape pool of an engine, in layers without two targets of one key: so one that is gone is found by its
row, whose entry's hash is known. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest as xxh3_64

from promring.core.pool import Listed, Wholes, merge, pool_of_listed, selected
from promring.model import TargetPool

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Layer:
    """Targets without two of one key. ``hashes``: of the entry of each row."""

    pool: TargetPool
    hashes: Hashes

    def alive(self, seen: Hashes) -> Layer:
        there = are_in(seen, self.hashes)
        if there.all():
            return self
        return Layer(selected(self.pool, np.flatnonzero(there)), self.hashes[there])


def layers_of(listed: Iterable[tuple[int, Listed]]) -> list[Layer]:
    """Of targets of one address each, with the hashes of their entries."""
    layers: list[dict[int, tuple[int, Listed]]] = []
    for number, one in listed:
        key = xxh3_64((one.addresses[0] + one.suffix).encode())
        layer = next((layer for layer in layers if key not in layer), None)
        if layer is None:
            layers.append(layer := {})
        layer[key] = number, one
    return [_layer(pool_of_listed(o for _, o in one.values()), {k: n for k, (n, _) in one.items()}) for one in layers]


class Piece(NamedTuple):
    """Targets without two of one key. ``hashes``: of their entries, by key."""

    hashes: Mapping[int, int]
    wholes: Wholes


def piece_of(hashes: Collection[int], wholes: Wholes) -> Piece | None:
    """None where two of them have one key."""
    numbers = dict(zip(map(xxh3_64, map(str.encode, wholes.identities)), hashes, strict=True))
    return Piece(numbers, wholes) if len(numbers) == len(hashes) else None


def layers_of_pieces(pieces: Iterable[Piece]) -> list[Layer]:
    layers: list[tuple[dict[int, int], list[Wholes]]] = []
    for piece in pieces:
        layer = next((layer for layer in layers if layer[0].keys().isdisjoint(piece.hashes)), None)
        if layer is None:
            layers.append(layer := ({}, []))
        layer[0].update(piece.hashes)
        layer[1].append(piece.wholes)
    return [_layer(pool_of_listed(many), hashes) for hashes, many in layers]


def _layer(pool: TargetPool, hashes: Mapping[int, int]) -> Layer:
    """``hashes``: of the entries, by key."""
    return Layer(pool, np.array([hashes[key] for key in pool.keys.tolist()], dtype=np.uint64))


def are_in(seen: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each of ``hashes`` whether it is in ``seen``, which is in order: numpy's own ways would sort that each time, and
    hold the interpreter meanwhile.
    """
    if not len(seen):
        return np.zeros(len(hashes), dtype=np.bool_)
    return np.equal(seen[np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)], hashes)


def combined(layers: Sequence[Layer]) -> list[Layer]:
    """The same targets in as few layers as may be."""
    groups: list[list[Layer]] = []
    for layer in sorted(layers, key=lambda layer: -len(layer.pool)):
        keys = layer.pool.keys
        for members in groups:
            if not any(are_in(member.pool.keys, keys).any() for member in members):
                members.append(layer)
                break
        else:
            groups.append([layer])
    return [members[0] if len(members) == 1 else _joined(members) for members in groups]


def _joined(layers: Sequence[Layer]) -> Layer:
    hashes, keys = (np.concatenate(all_of) for all_of in ([a.hashes for a in layers], [a.pool.keys for a in layers]))
    return Layer(merge([layer.pool for layer in layers], ranked=False), hashes[np.argsort(keys, kind="stable")])
