"""Addresses: one grammar, one spelling."""

from __future__ import annotations

import pytest

from promring.config.load import loads
from promring.model import ConfigError
from promring.runtime.address import canonical_host, canonical_id, parse_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Prom-A.Example.", "prom-a.example"),
        ("prom_1", "prom_1"),
        ("_svc.x", "_svc.x"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1.", "10.0.0.1"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8:0:0::00a", "2001:db8::a"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("[::FFFF:0a00:0001]", "10.0.0.1"),
        ("a" * 63 + ".x", "a" * 63 + ".x"),
    ],
)
def test_an_address_has_one_spelling(text: str, expected: str) -> None:
    assert canonical_host(text) == expected
    assert canonical_host(expected) == expected


NO_ADDRESSES = [
    *[
        "",
        " ",
        "a b",
        " a",
        "a ",
        "\t",
        "a\n",
        "\0",
        "a\0b",
        ".",
        "..",
        "a..b",
        ".a",
        "-a",
        "a-",
        "a.-b",
        "-oProxyCommand=x",
    ],
    *["../../x", "a/b", "a?x", "a#x", "a@b", "user:pw@a", "http://a", "a%20b", "%00", "${jndi}", "*", "a,b", "{{ host }}"],
    *["a:b", "[a]", "[::1", "::1]", "[]", "::1%eth0", "fe80::1%1", ":::", "1::2::3", "12345::"],
    *["01.2.3.4", "1.2.3.04", "0x7f.0.0.1", "127.1", "2130706433", "0x7f000001", "1.2.3", "1.2.3.4.5", "256.1.1.1"],
    *["1.2.3.\u0664", "\u00fc.example", "\uff41", "a" * 64, "a." * 127 + "abc", "x" * 10_000],
]


@pytest.mark.parametrize("text", NO_ADDRESSES, ids=lambda text: repr(text)[:30])
@pytest.mark.row("A2", did="what is no host name or address, as a scraper's address: paths, users, spaces, controls")
def test_what_is_no_address_is_refused_shortly(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is longer|has a zone") as caught:
        canonical_host(text)
    assert len(str(caught.value)) < 200


NO_PAIRS = [
    "a",
    "a:",
    ":1",
    "a:0",
    "a:65536",
    "a:00080x",
    "a:+1",
    "a:1 ",
    "a:\u0663",
    "::1:80",
    "[::1]",
    "[::1]80",
    "1.2.3:80",
]


@pytest.mark.parametrize("text", [*NO_PAIRS, 5, None, "a:1e3"])
def test_host_and_port_go_together(text: object) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_host_port(text)
    assert parse_host_port("[0:0::1]:80") == ("::1", 80)
    assert parse_host_port("A.:080") == ("a", 80)


def test_one_address_in_two_spellings_is_an_error_in_the_configuration() -> None:
    text = """
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["[::1]:9090", "A:1", "[0:0:0:0:0:0:0:1]:9090", "a.:1", "::ffff:1.2.3.4", "1.2.3.04:1"]}}
    targets: [{http: {url: http://127.0.0.1/}}]
    delivery: [{http_sd: {}}]
"""
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert [line.partition(": ")[2][:60] for line in caught.value.problems] == [
        "shard_services[0].scrapers.probe.nodes[4]: '::ffff:1.2.3.4' ",
        "shard_services[0].scrapers.probe.nodes[5]: '1.2.3.04:1' is n",
    ]
    with pytest.raises(ConfigError) as caught:
        loads(text.replace(', "::ffff:1.2.3.4", "1.2.3.04:1"', ""))
    assert [line.partition(": ")[2][:88] for line in caught.value.problems] == [
        "shard_services[0].scrapers.probe.nodes[2]: the scraper's identity '[::1]:9090' is the sa",
        "shard_services[0].scrapers.probe.nodes[3]: the scraper's identity 'a:1' is the same as i",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Host-A:9090", "host-a:9090"),
        ("[::FFFF:10.0.0.1]:9090", "10.0.0.1:9090"),
        ("Host-A.", "host-a"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_an_identity_that_somebody_types_has_one_spelling_too(text: str, expected: str) -> None:
    assert canonical_id(text) == expected
