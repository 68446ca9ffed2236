"""file_sd and http_sd lists: what is read, what is refused and how it is named."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from promring.core.fragment import ID_LABEL, REDIRECTING, decode, fragments, id_of, identities, target
from promring.core.plan import body_of
from promring.core.pool import build_pool, merge, merge_sources, pool_of, selected
from promring.discovery.groups import (
    YAML_INLINE_MAX,
    Reader,
    Refusals,
    checked,
    from_json,
    from_yaml,
    listed,
    read_pool,
)
from promring.discovery.limits import LABEL_VALUE_MAX
from promring.discovery.list_rules import ListRules
from promring.model import DiscoveryError, TargetGroup
from tests.laws.strategies import Groups, groups


def test_json_and_yaml_give_the_same() -> None:
    json = b'[{"targets": ["a:1", "b:2"], "labels": {"x": "y", "env": "prod"}}, {"targets": ["[::1]:9100"]}]'
    yaml = b"- targets: [a:1, 'b:2']\n  labels: {x: y, env: prod}\n- targets: ['[::1]:9100']\n"
    expected = (TargetGroup.of(["a:1", "b:2"], {"env": "prod", "x": "y"}), TargetGroup.of(["[::1]:9100"]))
    assert listed(json, "f") == listed(yaml, "f", from_yaml) == expected


def test_groups_without_targets_make_nothing_and_are_counted_and_what_is_wrong_with_them_is_said() -> None:
    refusals = Refusals()
    given = [
        {},
        {"labels": {"x": "y"}},
        {"labels": {"a-": "\x00" * (LABEL_VALUE_MAX + 1)}},
        {"targets": ["a:1"]},
        {"targets": [""]},
    ]
    made = list(checked(from_json(json.dumps(given).encode(), "f"), "f", refusals))
    assert [list(one.addresses) for one in made] == [["a:1"], []]
    assert (refusals.count, [text[:10] for text in refusals.named]) == (1, ["[2].labels", "[4].target"])


@pytest.mark.parametrize("text", [b"[]", b"null", b'[{"targets": []}]'])
def test_lists_without_targets_are_empty_not_an_error(text: bytes) -> None:
    assert [t for g in listed(text, "f") for t in g.targets] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'[{"targets": ["a:1"]},\n{"targets": [', "f:2: "),
        (b'[{"targets": ["a:1"]},\n{"targets": x}]', "f:2: "),
        (b'{"targets": ["a:1"]}', "f: "),
        (b'[{"targets": ["a:1"]}, {"targets": "b:1"}]', "f: [1].targets: the text 'b:1', must be a list"),
        (b'[{"targets": ["a:1", 5]}]', "[0].targets[1]: the number 5, must be a text"),
        (b'[{"targets": ["a:1"], "labels": {"x": 5}}]', "[0].labels: 'x' is the number 5, must be a text"),
        (b'[{"targets": ["a:1"], "labels": {"x": ["y"]}}]', "[0].labels: 'x' is a list, must be a text"),
        (b'[{"targets": ["a:1"], "labels": [1]}]', "[0].labels: a list, must be an object"),
        (b'[{"tragets": ["a:1"]}]', "[0]: unknown key 'tragets'"),
        (b'[null, {"targets": ["a:1"]}]', "[0]: null, must be an object"),
        (b'[{"targets": ["a:1"], "labels": {"": "x"}}]', "[0].labels: '' is not a label name"),
        (b"\xff\xfe", "f"),
    ],
)
def test_a_malformed_list_is_refused_whole_and_the_entry_named(text: bytes, named: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        list(from_json(text, "f"))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [1", "f:2: did not find expected"),
        (b"- targets: [a:1]\n  labels: {x: {y: z}}\n", "f:2: labels: 'x' is a mapping, must be a text"),
        (b"- targets: [a:1]\n  labels:\n    x: 1\n    x: 2\n", "f:4: labels: duplicate key 'x'"),
        (b"- targets: [a:1]\n- a:1\n", "f:2: the text 'a:1', must be a mapping"),
        (b"- targets: [a:1]\n- targets: b:1\n", "f:2: targets: the text 'b:1', must be a list"),
        (b"- targets: [*x]\n", "f:1: unknown anchor 'x'"),
        (b"- &g\n  targets: [a:1]\n  labels: *g\n", "f:3: anchor 'g' value contains itself"),
        (b"[" * 100_000 + b"]" * 100_000, "f:1: nested deeper than 32"),
        (b"- " * 100_000 + b"a", "f:1: nested deeper than 32"),
        (b"- targets: [!!timestamp foo]\n", "f:1: cannot decode 'foo' as a !!timestamp"),
        (b"- targets: [!!python/object/apply:os.system [id]]\n", "f:1: targets[0]: a list, must be a text"),
    ],
    ids=range(11),
)
def test_malformed_yaml_is_refused_and_the_line_named(text: bytes, said: str) -> None:
    with pytest.raises(DiscoveryError, match="^" + re.escape(said)):
        listed(text, "f", from_yaml)


@pytest.mark.row("A6", did="a target list in YAML whose merges repeat each other 50 times, eight levels deep")
def test_yaml_that_repeats_itself_without_end_is_bounded() -> None:
    levels = (b"- &%c\n  <<: [%s]\n" % (98 + n, b", ".join([b"*%c" % (97 + n)] * 50)) for n in range(8))
    bomb = b"- &a\n  targets: [x:1]\n" + b"".join(levels)
    with pytest.raises(DiscoveryError, match="merges bring more than"):
        listed(bomb, "f", from_yaml)


def test_yaml_scalars_are_texts_as_prometheus_reads_them() -> None:
    text = b"- targets: ['a:1']\n  labels: {rack: 12, up: yes, day: 2020-13-45, none: , tilde: ~, word: 'null'}\n"
    (group,) = listed(text, "f", from_yaml)
    assert dict(group.labels) == {"rack": "12", "up": "yes", "day": "2020-13-45", "word": "null"}
    (bare,) = listed(b"- targets: ['a:1']\n  labels:\n", "f", from_yaml)
    assert bare.labels == ()


@pytest.mark.parametrize(
    "target",
    [
        "a",
        "a:1",
        "a:1 ",
        "x:y:z",
        "[::1]:9100",
        "[fe80::1%eth0]:1",
        "2001:db8::1",
        "https://example.com/x?y=z",
        "HTTPS://user:pw@example.com/",
        "mongodb://u:p@a:1,b:2/x?y=z",
        "unix:///run/x.sock",
        "8.8.8.8:53;dns",
        "{{ host }}:9100",
        "null",
    ],
)
def test_any_text_is_an_address_as_relabelling_may_make_of_it_what_it_likes(target: str) -> None:
    text = json.dumps([{"targets": [target]}]).encode()
    assert identities(build_pool([listed(text, "f")])) == [target]


def test_one_bad_entry_is_left_out_counted_and_named_and_the_others_go_on() -> None:
    groups: list[dict[str, Any]] = [
        {"targets": ["a:1", "", "b\n:1", "x" * 9000, None, "c:1"]},
        {"targets": ["d:1", "e:1"], "labels": {"n" * 600: "x"}},
        {"targets": ["f:1"], "labels": {"v": "x" * 300_000}},
        {"targets": ["g:1"], "labels": {f"l{n}": "x" for n in range(1100)}},
        {"targets": ["h:1"]},
    ]
    pool = read_pool(from_json(json.dumps(groups).encode(), "f"), "f")
    assert sorted(identities(pool)) == ["a:1", "c:1", "h:1"]
    assert pool.refused == 8
    assert [remark.partition(":")[0] for remark in pool.remarks] == [
        *("[0].targets[1]", "[0].targets[2]", "[0].targets[3]", "[0].targets[4]"),
        *("[1].labels", "[2].labels", "[3].labels"),
    ]


def test_a_small_list_cannot_take_much_memory_by_a_long_label() -> None:
    text = json.dumps([{"targets": [f"h{n}:1" for n in range(1500)], "labels": {"x": "y" * 200_000}}]).encode()
    with pytest.raises(DiscoveryError, match=r"f: \[0\]: the labels, repeated for each target, are longer than 67108864"):
        read_pool(from_json(text, "f"), "f", size_bytes=len(text))


def test_every_label_passes_but_an_address_and_empty_ones() -> None:
    labels = {"__tmp_port": "1", "__module": "x", "__name__": "n", "__meta_dc": "1", "job": "j", "größe": "x", "a-b": "y"}
    text = json.dumps([{"targets": ["a:1"], "labels": {**labels, "__address__": "z:9", "e": "", "n": None}}]).encode()
    (group,) = listed(text, "f")
    assert dict(group.labels) == labels


def test_a_source_that_is_not_trusted_loses_the_labels_that_redirect_a_scrape() -> None:
    redirecting = ["__scheme__", "__metrics_path__", "__param_module", "__scrape_interval__", "job"]
    text = json.dumps([{"targets": ["a:1"], "labels": dict.fromkeys([*redirecting, "__tmp", "env"], "x")}]).encode()
    pool = Reader(rules=ListRules(trusted=False)).read(text, "f")
    assert decode(pool.fragment(0)).labels == {"__tmp": "x", "env": "x"}
    assert pool.remarks == (f"not trusted with the labels {', '.join(sorted(redirecting))}",)


ENDING = "0s 0 0ms -1s 0.1ms 00 0d0s -0s 1s-2s 0i 0S 0.0009s -1 0.9ms 0.s 1ms-1ms 5m-5m 0h0m0s"
HARMLESS = "x 1us 0M 1e-9s 0.001s 0x0s 1s0s +0s -x 0.5 .0s 0ns 1m 30 1h30m"


def test_an_interval_that_ends_vmagent_is_left_out() -> None:
    """Each of these was given to a vmagent, which ended or went on."""
    for many in (1, 50):  # as one group, and as many that are alike
        for interval in [*ENDING.split(), *HARMLESS.split()]:
            groups = [{"targets": [f"a:{n}"], "labels": {"__scrape_interval__": interval}} for n in range(many)]
            pool = Reader().read(json.dumps([*groups, {"targets": ["b:1"]}]).encode(), "f")
            assert len(pool) == (1 if interval in ENDING.split() else many + 1), interval
    assert Reader().read(b'[{"targets": ["a:1"], "labels": {"__scrape_interval__": "0s"}}]', "f").remarks == (
        "[0].labels: __scrape_interval__ '0s': nothing can scrape so often, and vmagent ends when it tries",
    )


def test_a_fleet_with_prometheus_2_leaves_out_what_would_refuse_its_slices() -> None:
    text = json.dumps([{"targets": ["a:1"], "labels": {"app-name": "x"}}, {"targets": ["b:1"]}]).encode()
    pool = Reader(rules=ListRules(legacy_names=True)).read(text, "f")
    assert identities(pool) == ["b:1"]
    assert pool.remarks == ("[0].labels: 'app-name' is not a label name of Prometheus 2 (label_names: legacy)",)


def test_what_yaml_readers_do_not_take_is_escaped_in_a_slice() -> None:
    odd = "\x7f\x80\u2028\ufeff\ufffe"
    pool = pool_of([TargetGroup.of([f"a{odd}:1"], {"x": odd})])
    sealed = {"x": odd, ID_LABEL: f"{int(pool.ids[0]):016x}"}
    assert json.loads(pool.fragment(0)) == {"targets": [f"a{odd}:1"], "labels": sealed}
    assert pool.fragment(0).isascii()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_named_error(text: bytes) -> None:
    for read in (from_json, from_yaml):
        said = ""
        try:
            listed(text, "f", read)
        except DiscoveryError as error:
            said = str(error)
        assert said == "" or said.startswith("f")


def test_the_first_source_wins_a_target_that_two_have() -> None:
    one, two = (TargetGroup.of(["a:1"], {"from": "one"}),), (TargetGroup.of(["a:1", "b:1"], {"from": "two"}),)
    pool = build_pool([one, two])
    assert sorted((one.address, one.labels) for one in map(decode, fragments(pool))) == [
        ("a:1", {"from": "one"}),
        ("b:1", {"from": "two"}),
    ]
    assert (pool.duplicates, pool.conflicts) == (1, 1)


def test_what_changes_the_scrape_makes_another_target() -> None:
    modules = tuple(TargetGroup.of(["a:1"], {"__param_module": m, "x": m}) for m in ("icmp", "http"))
    assert len(build_pool([modules])) == 2


def test_chosen_hash_labels_keep_a_hosts_exporters_together() -> None:
    hosts = tuple(TargetGroup.of([f"h{n}:9100", f"h{n}:9256"], {"host": f"h{n}"}) for n in range(50))
    pool = build_pool([hosts], hash_labels=("host",))
    assert len(pool) == 100
    assert len(set(pool.keys.tolist())) == 50
    reverse = build_pool([tuple(reversed(hosts))], hash_labels=("host",))
    assert pool == reverse


def test_entries_of_one_source_that_differ_in_any_label_are_different_targets() -> None:
    modules = tuple(TargetGroup.of(["a:1", "a:1"], {"module": m}) for m in ("icmp", "http"))
    pool = build_pool([modules])
    assert sorted(decode(f).labels["module"] for f in fragments(pool)) == ["http", "icmp"]
    assert (len(set(pool.keys.tolist())), len(set(pool.ids.tolist())), pool.duplicates) == (1, 2, 2)
    assert pool == build_pool([tuple(reversed(modules))])


def test_a_changed_label_changes_neither_key_nor_id() -> None:
    one, other = (build_pool([[TargetGroup.of(["a:1"], {"env": env})]]) for env in ("x", "y"))
    assert (one.keys.tolist(), one.ids.tolist()) == (other.keys.tolist(), other.ids.tolist())
    assert one.digests.tolist() != other.digests.tolist()


def test_hash_labels_place_and_do_not_name() -> None:
    group = [TargetGroup.of(["a:1"], {"env": "x", "__param_sig": "one"})]
    plain, by_env = build_pool([group]), build_pool([group], hash_labels=("env",))
    assert plain.ids.tolist() == by_env.ids.tolist()
    assert plain.keys.tolist() != by_env.keys.tolist()
    renewed = build_pool([[TargetGroup.of(["a:1"], {"env": "x", "__param_sig": "two"})]], hash_labels=("env",))
    assert renewed.keys.tolist() == by_env.keys.tolist()


def test_what_a_later_source_loses_is_counted_and_named() -> None:
    first = [TargetGroup.of(["a:1", "b:1"], {"x": "1"}), TargetGroup.of(["a:1"], {"x": "2"})]
    later = [TargetGroup.of(["a:1"], {"x": "2"}), TargetGroup.of(["b:1", "c:1"], {"x": "3"})]
    pool = build_pool([first, later])
    assert sorted((one.address, one.labels["x"]) for one in map(decode, fragments(pool))) == [
        *(("a:1", "1"), ("a:1", "2"), ("b:1", "1"), ("c:1", "3")),
    ]
    assert (pool.duplicates, pool.conflicts, pool.conflicts_named) == (2, 1, ("b:1",))


def test_the_same_bytes_give_the_same_object() -> None:
    reader = Reader()
    first = reader.read(b'[{"targets": ["a:1"]}]', "f")
    assert reader.read(b'[{"targets": ["a:1"]}]', "f") is first
    assert reader.read(b'[{"targets": ["a:2"]}]', "f") is not first


def test_a_long_yaml_list_is_the_same_as_its_json_and_its_errors_have_lines() -> None:
    wanted: list[dict[str, Any]] = [{"targets": [f"h{n}:9100"], "labels": {"n": n, "none": ""}} for n in range(2000)]
    text = yaml.dump(wanted, Dumper=yaml.CSafeDumper).encode()
    assert len(text) > YAML_INLINE_MAX
    as_json = json.dumps([{"targets": g["targets"], "labels": {"n": str(g["labels"]["n"])}} for g in wanted])
    assert pool_of(listed(text, "f", from_yaml)) == pool_of(listed(as_json.encode(), "f"))
    lines = text.count(b"\n")
    for bad, said in (
        (b"- [\n", f"f:{lines + 2}: "),
        (b"- targets: [*x]\n", f"f:{lines + 1}: unknown anchor 'x'"),
        (b"- 5\n", f"f:{lines + 1}: the text '5', must be a mapping"),
    ):
        with pytest.raises(DiscoveryError, match=re.escape(said)):
            listed(text + bad, "f", from_yaml)
    without = text.replace(b"labels:\n    n: 7\n    none: ''", b"labels:")
    assert without != text
    assert len(pool_of(listed(without, "f", from_yaml))) == 2000


@given(st.lists(groups, max_size=3), st.sampled_from([None, ("env",), ("__address__", "job")]), st.booleans())
def test_a_merged_pool_is_what_a_plain_dict_would_make(
    sources: list[Groups], hash_labels: tuple[str, ...] | None, zoned: bool
) -> None:
    """The first source that has an address with these redirecting labels wins, with all it has of it."""
    first: dict[tuple[object, ...], int] = {}
    expected: set[str] = set()
    for rank, source in enumerate(sources):
        for group in source:
            labels = dict(group.labels)
            changing = {n: v for n, v in labels.items() if n in REDIRECTING or n.startswith("__param_")}
            for address in group.targets:
                if first.setdefault((address, *sorted(changing.items())), rank) == rank:
                    expected.add(json.dumps([address, labels], sort_keys=True))
    pool = build_pool(sources, hash_labels, "zone" if zoned else None)
    found = [json.dumps([one.address, one.labels], sort_keys=True) for one in map(decode, fragments(pool))]
    assert sorted(found) == sorted(expected)
    assert len(set(pool.ids.tolist())) == len(pool)
    counted = sum(len(g.targets) for source in sources for g in source)
    assert pool.duplicates == counted - len(pool)
    assert pool.keys.tolist() == sorted(pool.keys.tolist())
    if zoned and pool.zones is not None:
        asked = [pool.zone_names[z] for z in pool.zones.tolist()]
        assert asked == [decode(fragment).labels.get("zone", "") for fragment in fragments(pool)]


def test_sources_of_one_rank_keep_all_that_differs_and_the_lower_rank_wins() -> None:
    lists = {name: pool_of([TargetGroup.of(["a:1", f"{name}:1"], {"from": name})]) for name in ("one", "two", "three")}
    both = merge_sources(lists, {"one": 0, "two": 0, "three": 1})
    found = sorted((one.address, one.labels["from"]) for one in map(decode, fragments(both)))
    assert found == [("a:1", "one"), ("a:1", "two"), ("one:1", "one"), ("three:1", "three"), ("two:1", "two")]
    assert (both.conflicts, both.conflicts_named) == (1, ("a:1",))
    assert merge_sources(lists, {}) == merge(list(lists.values()))
    swapped = {name: lists[name] for name in ("two", "one", "three")}
    assert merge_sources(swapped, {"two": 0, "one": 0, "three": 1}) == both


def test_parts_of_one_source_keep_all_that_differs_in_any_order() -> None:
    one, two = (pool_of([TargetGroup.of(["a:1", "b:1"], {"from": name})]) for name in ("one", "two"))
    whole = merge([one, two, one], ranked=False)
    assert whole == merge([two, one], ranked=False)
    assert (len(whole), whole.duplicates, whole.conflicts) == (4, 2, 0)


@pytest.mark.parametrize("bare", range(4))
def test_a_target_without_labels_may_stand_anywhere_in_a_pool_that_is_cut_or_merged(bare: int) -> None:
    base = pool_of([TargetGroup.of([f"t{n}:1" for n in range(4)])])
    order = [target(base, row).address for row in range(4)]
    pool = pool_of([TargetGroup.of([address], {} if row == bare else {"v": "1"}) for row, address in enumerate(order)])
    said = {address: {} if row == bare else {"v": "1"} for row, address in enumerate(order)}
    other = pool_of([TargetGroup.of(["u:1"], {"v": "2"})])
    for found, wanted in ((merge([pool, other]), said | {"u:1": {"v": "2"}}), (selected(pool, np.arange(4)), said)):
        listed = json.loads(body_of(found, np.arange(len(found))))
        assert {one["targets"][0]: {k: v for k, v in one["labels"].items() if k != ID_LABEL} for one in listed} == wanted


def test_every_row_of_a_long_list_has_its_own_id() -> None:
    pool = pool_of([TargetGroup.of([f"t{n}:1" for n in range(10_000)], {"v": "1"})])
    listed = json.loads(body_of(pool, np.arange(len(pool))))
    assert [id_of(one["labels"][ID_LABEL]) for one in listed] == pool.ids.tolist()
    assert sorted(one["targets"][0] for one in listed) == sorted(f"t{n}:1" for n in range(10_000))
    assert all(pool.fragment(row) for row in range(0, len(pool), 999))


def test_nothing_merged_is_an_empty_pool() -> None:
    for empty in (merge([]), pool_of([])):
        assert len(empty) == 0
        assert all(column.dtype == np.uint64 for column in (empty.keys, empty.ids, empty.digests))
