"""Where go-yaml and libyaml differ; ``tests/differential`` asks real Prometheus about these and more."""

from __future__ import annotations

import pytest

from promring.discovery.groups import from_yaml
from promring.discovery.yaml_list import YamlError, read_yaml
from promring.model import DiscoveryError

COLONS = {
    "[10.0.0.1:]": ["10.0.0.1:"],
    "[a:,b:, 'c:,', d:::] # x:]": ["a:", "b:", "c:,", "d:::"],
    "[&a b:, *a]": ["b:", "b:"],
    '["\\uE000", "\\ue001:]", \uf000, a:]': ["\ue000", "\ue001:]", "\uf000", "a:"],
    "['http://a/x?y=1', b:1]": ["http://a/x?y=1", "b:1"],
    "[!x, a:1]": ["a:1"],
    "[!<b> c:1, &d !!str, d:1, *d, '!x,e']": ["c:1", "d:1", "d:1", "!x,e"],
    "\n  - !x, a:1\n  - !y[b]": ["a:1", ""],
    "['a\\/b', a\\/b, \"a\\\\/b\"]": ["a\\/b", "a\\/b", "a\\/b"],
}


@pytest.mark.parametrize("written", COLONS)
def test_brackets_mean_what_go_yaml_makes_of_them(written: str) -> None:
    (group,) = from_yaml(f"- targets: {written}\n".encode(), "x.yml")
    assert group.targets == COLONS[written]


@pytest.mark.parametrize("written", ["[http://a/x?y=1]", "[a?]", "[a:?b]", "[:]", "[a:[b]]", "[!<x>, b]", '["a\\/b"]'])
def test_what_go_yaml_refuses_in_brackets_is_refused_and_the_line_named(written: str) -> None:
    with pytest.raises(DiscoveryError, match=r"x\.yml:1: "):
        list(from_yaml(f"- targets: {written}\n".encode(), "x.yml"))


def test_many_colons_at_the_end_of_a_text_are_repaired_in_a_few_steps() -> None:
    text = "".join(f"- targets: [t{n}:]\n" for n in range(20_000)).encode()
    assert sum(len(group.targets or ()) for group in from_yaml(text, "x.yml")) == 20_000


def test_a_byte_order_mark_in_the_middle_is_text() -> None:
    mark = b"\xef\xbb\xbf"
    (group,) = from_yaml(mark + b"- targets: ['a" + mark + b":1']\n", "x.yml")
    assert group.targets == ["a\ufeff:1"]
    with pytest.raises(DiscoveryError):
        list(from_yaml(b"- targets:\n" + mark + b"  - a:1\n", "x.yml"))


def test_only_some_nulls_are_a_group_without_anything_and_none_is_the_name_of_a_label() -> None:
    groups = list(from_yaml(b"- Null\n- &n NULL\n- *n\n- targets: [a:1]\n", "x.yml"))
    assert [group.targets for group in groups] == [None, None, None, ["a:1"]]
    for refused in (b"- null\n", b"- ~\n", b"-\n", b"- !!null Null\n", b"- labels: {Null: x}\n", b"- labels: {NULL: }\n"):
        with pytest.raises(DiscoveryError, match=r"x\.yml:1: "):
            list(from_yaml(refused, "x.yml"))


def test_an_alias_of_a_list_of_mappings_merges_nothing() -> None:
    (group,) = from_yaml(b"- labels: {<<: [{a: b}, {c: d}]}\n", "x.yml")
    assert group.labels == {"a": "b", "c": "d"}
    for alias in (b"[{a: b}]", b"[]"):
        with pytest.raises(DiscoveryError, match=r"x\.yml:\d: a merge needs"):
            list(from_yaml(b"- labels: {<<: &l " + alias + b"}\n- labels: {<<: *l}\n", "x.yml"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'["a\'b"]', "a'b"),
        ("[a :]", "a :"),
        ("[&a q :]", "q :"),
        ("[x:s :]", "x:s :"),
        ("[~ :]", "~ :"),
        ("[!<x> q :]", "q :"),
        ('[a:" :]', 'a:" :'),
        ("[!<tag:yaml.org,2002:int> 1]", "1"),
        ("[!<tag:yaml.org,2002:binary> YQ==]", "a"),
        ("[!!float 9223372036854775807]", "9223372036854775807"),
    ],
)
def test_a_text_that_go_yaml_takes_is_taken_with_what_it_says(written: str, read: str) -> None:
    assert [group.targets for group in read_yaml(f"- targets: {written}".encode())] == [[read]]


@pytest.mark.parametrize(
    "written",
    [
        "[a, :]",
        "[!<tag:yaml.org,2002:int> b]",
        "[!!binary sbG8=]",
        "[!!binary aGVsbG8]",
        "[!!float 9223372036854775808]",
        "[!!float 18446744073709551615]",
    ],
)
def test_a_text_that_does_not_fit_its_tag_or_begins_with_a_colon_is_refused(written: str) -> None:
    with pytest.raises(YamlError):
        read_yaml(f"- targets: {written}".encode())
