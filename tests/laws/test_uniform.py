"""Groups that are alike are read at once, to the same pool as one by one, whatever else the list has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promring.discovery.groups import many_from_json, read_pool
from promring.discovery.json_list import PIECE_BYTES, Group, groups_at_once, read_pieces
from promring.discovery.list_rules import ANY, ListRules
from promring.discovery.uniform import Uniform, UniformPieces
from promring.model import DiscoveryError, TargetPool
from tests.differential.corpus import JSON

texts = st.sampled_from(
    ["", "x", "y z", '"}}\\\n', "\x7f", "\x85\u2028", "größe", "\U0001f600", "{}", '],"labels":{}}', "\0"]
)
addresses = st.sampled_from(
    ["a:1", "b:1", "c:1", "[::1]:9100", "http://x/y?z=1", "größe:1", "\u200b:1", "", "c\n", "\x85:1"]
)
names = st.sampled_from(["env", "job", "__param_a", "__scheme__", "größe", "\U0001f600", "a.b", "~"])
odd_names = st.sampled_from(["__address__", "__promring_id__", "", 'a"', "a\\b", "a\x7f", "n" * 600])
alike = st.fixed_dictionaries(
    {"targets": st.lists(addresses, min_size=1, max_size=1), "labels": st.dictionaries(names, texts)}
)
odd = st.fixed_dictionaries(
    {},
    optional={
        "targets": st.lists(addresses | st.none(), max_size=3) | st.none(),
        "labels": st.dictionaries(names | odd_names, texts | st.none() | st.integers(), max_size=3) | st.none(),
        "Labels": st.dictionaries(names, texts, max_size=2),
    },
)
lists = st.lists(alike, max_size=12) | st.lists(alike | alike | alike | odd, max_size=12)
rules = st.sampled_from([ANY, ListRules(trusted=False), ListRules(legacy_names=True)])


def seen(pool: TargetPool) -> tuple[object, ...]:
    columns = pool.keys.tolist(), pool.ids.tolist(), pool.digests.tolist(), pool.bounds.tolist()
    return *columns, pool.blob, pool.duplicates, pool.refused, pool.remarks


def both(text: bytes, piece_bytes: int, wanted: ListRules) -> tuple[object, object]:
    """What a list is at once and one by one: a pool, or why it is refused."""

    def read(take: Callable[[bytes], Sequence[Group | Uniform] | None]) -> object:
        try:
            return seen(read_pool(read_pieces(text, "f", take, piece_bytes), "f", size_bytes=len(text), rules=wanted))
        except DiscoveryError as error:
            return str(error)

    return read(UniformPieces(0).take), read(groups_at_once)


@given(lists, rules, st.sampled_from([40, 200, PIECE_BYTES]), st.booleans())
@example([{"targets": ["a:1"], "labels": {"job": ""}}, {"targets": ["a:1"]}], ANY, PIECE_BYTES, True)
@example([{"targets": ["a:1"], "labels": {"env": "y" * 300_000}}] * 2, ANY, PIECE_BYTES, True)
@example([{"targets": ["a" * 9000]}, {"targets": ["b"]}], ANY, PIECE_BYTES, True)
def test_a_list_read_at_once_is_the_list_read_group_by_group(
    listed: list[object], wanted: ListRules, piece_bytes: int, plain: bool
) -> None:
    at_once, one_by_one = both(json.dumps(listed, ensure_ascii=plain).encode("utf-8", "surrogatepass"), piece_bytes, wanted)
    assert at_once == one_by_one


@pytest.mark.parametrize("name", JSON)
def test_what_people_write_reads_the_same(name: str) -> None:
    for piece_bytes in (20, PIECE_BYTES):
        at_once, one_by_one = both(JSON[name], piece_bytes, ANY)
        assert at_once == one_by_one


def test_a_long_list_of_groups_that_are_alike_is_read_at_once() -> None:
    listed = [{"targets": [f"a{n}:1"], "labels": {"host": f"h{n}", "__param_a": "x", "one": "1"}} for n in range(40_000)]
    for n in range(0, 40_000, 2):
        del listed[n]["labels"]["one"]  # type: ignore[attr-defined]
    kinds = [type(one) for one in many_from_json(json.dumps(listed).encode(), "f")]
    assert set(kinds) <= {Uniform, Group}
    assert kinds.count(Uniform) >= len(kinds) - 1
