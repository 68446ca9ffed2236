"""file_sd and http_sd lists: what is read, what is refused and how it is named."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from promring.core.pool import REDIRECTING, build_pool, decode, fragments, identities, merge, pool_of
from promring.discovery.groups import YAML_INLINE_MAX, Reader, from_json, from_value, from_yaml
from promring.model import DiscoveryError, TargetGroup
from tests.laws.strategies import Groups, groups


def test_json_and_yaml_give_the_same() -> None:
    json = b'[{"targets": ["a:1", "b:2"], "labels": {"x": "y", "env": "prod"}}, {"targets": ["[::1]:9100"]}]'
    yaml = b"- targets: [a:1, 'b:2']\n  labels: {x: y, env: prod}\n- targets: ['[::1]:9100']\n"
    expected = (TargetGroup.of(["a:1", "b:2"], {"env": "prod", "x": "y"}), TargetGroup.of(["[::1]:9100"]))
    assert tuple(from_json(json, "f")) == tuple(from_yaml(yaml, "f")) == expected


@pytest.mark.parametrize("text", [b"[]", b"null", b'[{"targets": []}]'])
def test_lists_without_targets_are_empty_not_an_error(text: bytes) -> None:
    assert [t for g in from_json(text, "f") for t in g.targets] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'[{"targets": ["a:1"]},\n{"targets": [', "f:2: "),
        (b'[{"targets": ["a:1"]},\n{"targets": x}]', "f:2: "),
        (b'{"targets": ["a:1"]}', "f: "),
        (b'[{"targets": ["a:1"]}, {"targets": "b:1"}]', "$[1].targets"),
        (b'[{"targets": ["a:1", 5]}]', "$[0].targets[1]"),
        (b'[{"targets": ["a:1"], "labels": {"x": 5}}]', "$[0].labels"),
        (b'[{"tragets": ["a:1"]}]', "tragets"),
        (b'[{"targets": ["a:1", "x:y:z"]}]', "[0].targets[1]: 'x:y:z'"),
        (b'[{"targets": ["a:1", ""]}]', "[0].targets[1]: ''"),
        (b'[{"targets": ["a b"]}]', "[0].targets[0]"),
        (b'[{"targets": ["a:1"], "labels": {"__param_a": "x\\u0000__param_b"}}]', "[0].labels.__param_a: has a NUL"),
        (b'[{"targets": ["a:1"], "labels": {"bad-name": "x"}}]', "[0].labels: 'bad-name'"),
        (b"\xff\xfe", "f"),
    ],
)
def test_a_malformed_list_is_refused_whole_and_the_entry_named(text: bytes, named: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        list(from_json(text, "f"))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"a: [1",
        b"- &x {targets: [a:1]}\n- *x\n",
        b"- targets: [a:1]\n  labels: {x: {y: z}}\n",
        b"[" * 100_000 + b"]" * 100_000,
        b"- " * 100_000 + b"a",
        b"- targets: [!!timestamp foo]\n",
        b"- targets: [!!python/object/apply:os.system [id]]\n",
    ],
    ids=range(7),
)
def test_malformed_yaml_is_refused(text: bytes) -> None:
    with pytest.raises(DiscoveryError, match=r"^f"):
        from_yaml(text, "f")


def test_yaml_scalars_are_texts_as_prometheus_reads_them() -> None:
    (group,) = from_yaml(b"- targets: ['a:1']\n  labels: {rack: 12, up: yes, day: 2020-13-45, none: }\n", "f")
    assert dict(group.labels) == {"rack": "12", "up": "yes", "day": "2020-13-45", "none": ""}
    (bare,) = from_yaml(b"- targets: ['a:1']\n  labels:\n", "f")
    assert bare.labels == ()


@pytest.mark.parametrize(
    "target",
    [
        "a",
        "a:1",
        "[::1]:9100",
        "[fe80::1%eth0]:1",
        "2001:db8::1",
        "https://example.com/x?y=z",
        "example.com/health",
        "tcp://a:1",
    ],
)
def test_addresses_and_urls_are_targets(target: str) -> None:
    assert identities(build_pool([from_value([{"targets": [target]}], "f")])) == [target]


def test_only_the_internal_labels_that_users_rely_on_pass() -> None:
    text = (
        b'[{"targets": ["a:1"], "labels": {"__address__": "evil:1", "__name__": "x", "__tmp": "x", "__scheme__": "https",'
        b'"__metrics_path__": "/m", "__param_module": "icmp", "__scrape_interval__": "5s", "__meta_dc": "1", "job": "j"}}]'
    )
    (group,) = from_json(text, "f")
    kept = {"__scheme__", "__metrics_path__", "__param_module", "__scrape_interval__", "__meta_dc", "job"}
    assert {name for name, _ in group.labels} == kept


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_named_error(text: bytes) -> None:
    for read in (from_json, from_yaml):
        said = ""
        try:
            list(read(text, "f"))
        except DiscoveryError as error:
            said = str(error)
        assert said == "" or said.startswith("f")


def test_the_first_source_wins_a_target_that_two_have() -> None:
    one, two = (TargetGroup.of(["a:1"], {"from": "one"}),), (TargetGroup.of(["a:1", "b:1"], {"from": "two"}),)
    pool = build_pool([one, two])
    assert sorted(fragments(pool)) == [
        b'{"targets":["a:1"],"labels":{"from":"one"}}',
        b'{"targets":["b:1"],"labels":{"from":"two"}}',
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


def test_hash_labels_are_part_of_the_identity() -> None:
    modules = tuple(TargetGroup.of(["a:1"], {"module": m}) for m in ("icmp", "http"))
    assert len(build_pool([modules])) == 1
    assert len(build_pool([modules], hash_labels=("__address__", "module"))) == 2


def test_the_same_bytes_give_the_same_object() -> None:
    reader = Reader()
    first = reader.read(b'[{"targets": ["a:1"]}]', "f")
    assert reader.read(b'[{"targets": ["a:1"]}]', "f") is first
    assert reader.read(b'[{"targets": ["a:2"]}]', "f") is not first


def test_a_long_yaml_list_is_the_same_as_its_json_and_its_errors_have_lines() -> None:
    listed: list[dict[str, Any]] = [{"targets": [f"h{n}:9100"], "labels": {"n": n, "none": ""}} for n in range(2000)]
    text = yaml.dump(listed, Dumper=yaml.CSafeDumper).encode()
    assert len(text) > YAML_INLINE_MAX
    as_json = json.dumps([{"targets": g["targets"], "labels": {"n": str(g["labels"]["n"]), "none": ""}} for g in listed])
    assert pool_of(from_yaml(text, "f")) == pool_of(from_json(as_json.encode(), "f"))
    lines = text.count(b"\n")
    for bad, said in (
        (b"- [\n", f"f:{lines + 2}: "),
        (b"- &x {}\n- *x\n", f"f:{lines + 2}: alias *x"),
        (b"- 5\n", "[2000]"),
    ):
        with pytest.raises(DiscoveryError, match=re.escape(said)):
            list(from_yaml(text + bad, "f"))
    without = text.replace(b"labels:\n    n: 7\n    none: ''", b"labels:")
    assert without != text
    assert len(pool_of(from_yaml(without, "f"))) == 2000


@given(st.lists(groups, max_size=3), st.sampled_from([None, ("env",), ("__address__", "job")]), st.booleans())
def test_a_merged_pool_is_what_a_plain_dict_would_make(
    sources: list[Groups], hash_labels: tuple[str, ...] | None, zoned: bool
) -> None:
    """The first source wins, in it the smaller bytes; the oracle goes target by target."""
    expected: dict[tuple[object, ...], tuple[int, bytes]] = {}
    for rank, source in enumerate(sources):
        for group in source:
            labels = dict(group.labels)
            changing = {n: v for n, v in labels.items() if n in REDIRECTING or n.startswith("__param_")}
            chosen = {n: v for n, v in labels.items() if n in (hash_labels or ())}
            for address in group.targets:
                tail = f',"labels":{json.dumps(labels, ensure_ascii=False, separators=(",", ":"))}' if labels else ""
                row = (rank, f'{{"targets":["{address}"]{tail}}}'.encode())
                name = (address, *sorted((changing | chosen).items()))
                expected[name] = min(row, expected.get(name, row))
    pool = build_pool(sources, hash_labels, "zone" if zoned else None)
    assert sorted(map(msgspec.json.decode, fragments(pool)), key=str) == sorted(
        (msgspec.json.decode(fragment) for _, fragment in expected.values()), key=str
    )
    assert pool.keys.tolist() == sorted(pool.keys.tolist())
    listed = sum(len(g.targets) for source in sources for g in source)
    assert pool.duplicates == listed - len(pool)
    if zoned and pool.zones is not None:
        asked = [pool.zone_names[z] for z in pool.zones.tolist()]
        assert asked == [decode(fragment).labels.get("zone", "") for fragment in fragments(pool)]


def test_parts_of_one_source_are_settled_by_bytes_not_by_order() -> None:
    one, two = (pool_of([TargetGroup.of(["a:1", "b:1"], {"from": name})]) for name in ("one", "two"))
    for parts in ([one, two], [two, one]):
        whole = merge([merge(parts, ranked=False)])
        assert sorted(fragments(whole)) == sorted(fragments(one))
        assert (whole.duplicates, whole.conflicts) == (2, 2)
