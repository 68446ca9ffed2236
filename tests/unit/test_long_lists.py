"""A list that is read in pieces, or in a process of its own, means what a short one means."""

from __future__ import annotations

import pytest

from promring.core.fragment import decode, fragments
from promring.discovery.groups import YAML_INLINE_MAX, from_json, many_from_yaml, read_pool
from promring.discovery.json_list import PIECE_BYTES
from promring.model import DiscoveryError, TargetPool
from tests.differential.corpus import JSON


def addresses(pool: TargetPool) -> list[str]:
    return [decode(one).address for one in fragments(pool)]


def pieces(text: bytes, piece_bytes: int) -> list[bytes] | None:
    """The targets; None: refused."""
    try:
        return [*fragments(read_pool(from_json(text, "f", piece_bytes), "f", size_bytes=len(text)))]
    except DiscoveryError:
        return None


@pytest.mark.parametrize("name", [name for name, text in JSON.items() if len(text) < PIECE_BYTES // 4])
def test_pieces_of_any_size_are_the_whole(name: str) -> None:
    whole = pieces(JSON[name], PIECE_BYTES)
    assert all(pieces(JSON[name], size) == whole for size in (2, 13, 20, 29, 60))


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00x", rb"\ud83d\ud83d"])
def test_half_a_surrogate_pair_before_the_targets_is_no_end_of_a_group(half: bytes) -> None:
    text = b'[{"labels":{"x":"' + half + b'"},"targets":["a:1","b:1"]},{"targets":["c:1"]}]'
    whole = pieces(text, PIECE_BYTES)
    assert whole is not None
    assert len(whole) == 3
    assert all(pieces(text, size) == whole for size in range(2, len(text)))


def test_a_group_of_half_surrogate_pairs_without_end_is_refused() -> None:
    """Looking for its end at each bracket took 150 s and 2 GB."""
    text = b'[{"labels":{"x":"' + rb"\ud83d}," * 2**20 + b'"},"targets":["a:1"]}]'
    assert pieces(text, PIECE_BYTES) is None


@pytest.mark.parametrize("length", [0, YAML_INLINE_MAX])
def test_a_null_as_a_label_name_costs_its_group_only_however_long_the_list(length: int) -> None:
    text = b"- targets: [a:1]\n  labels: {~: x}\n- targets: [b:1]\n#" + b"-" * length
    pool = read_pool(many_from_yaml(text, "f"), "f")
    assert addresses(pool) == ["b:1"]
    assert pool.refused == 1
