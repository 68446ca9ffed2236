"""Targets from DNS: which names are asked for, what records become, what happens to a name that gives no answer."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.rrset
import pytest

from promring.core.fragment import decode, fragments
from promring.discovery.dns import DnsSource, DnsTargets
from promring.discovery.dns_rules import groups_of
from promring.discovery.groups import Refusals
from promring.model import DiscoveryError
from promring.runtime.dns_names import Resolving, names_to_try, parse_resolv_conf
from tests.fakes.dns import NameServer

CONF = """
# a comment
; another
domain first.test
nameserver 10.0.0.1
nameserver fe80::1%eth0 ignored
search one.test two.test.
options timeout:1 ndots:3 rotate
nonsense
nameserver
"""


def test_resolv_conf_is_read_as_prometheus_reads_it() -> None:
    assert parse_resolv_conf(CONF) == Resolving(["10.0.0.1", "fe80::1%eth0"], ["one.test", "two.test."], 3)
    assert parse_resolv_conf("search a\ndomain b") == Resolving([], ["b"], 1)
    assert parse_resolv_conf("options ndots:99 ndots:x") == Resolving([], [], 15)


@pytest.mark.parametrize(
    ("name", "ndots", "wanted"),
    [
        ("a.", 1, ["a."]),
        ("a", 1, ["a.one.", "a.two.", "a."]),
        ("a.b", 1, ["a.b.", "a.b.one.", "a.b.two."]),
        ("a.b", 2, ["a.b.one.", "a.b.two.", "a.b."]),
        ("a", 0, ["a.", "a.one.", "a.two."]),
    ],
)
def test_the_search_path_applies_to_names_without_a_last_dot(name: str, ndots: int, wanted: list[str]) -> None:
    assert names_to_try(name, Resolving([], ["one", "two.", "."], ndots)) == wanted


def test_records_become_targets_whatever_was_asked_for() -> None:
    answer = dns.message.make_response(dns.message.make_query("x.test.", "A"))
    for line in ("A 10.0.0.1", "AAAA ::ffff:10.0.0.2", "AAAA fd00::1", "SRV 0 0 80 H$.test.", "MX 1 m.test.", "NS n.test."):
        kind, _, value = line.partition(" ")
        answer.answer.append(dns.rrset.from_text("x.test.", 5, "IN", kind, value))
    answer.answer.append(dns.rrset.from_text("x.test.", 5, "IN", "CNAME", "y.test."))
    answer.answer.append(dns.rrset.from_text("y.test.", 5, "IN", "TXT", "hello"))
    found = {tuple(g.targets or ()): g.labels for g in groups_of(answer, "x", 9, Refusals())}
    name = {"__meta_dns_name": "x"}
    assert found == {
        ("10.0.0.1:9",): name,
        ("10.0.0.2:9",): name,
        ("[fd00::1]:9",): name,
        ("H$.test:80",): {**name, "__meta_dns_srv_record_target": "H$.test.", "__meta_dns_srv_record_port": "80"},
        ("m.test:9",): {**name, "__meta_dns_mx_record_target": "m.test."},
        ("n.test:9",): {**name, "__meta_dns_ns_record_target": "n.test."},
    }


def source(names: NameServer, folder: Path, *wanted: str, patience_s: float = 0.0, conf: str = "") -> DnsSource:
    path = folder / "resolv.conf"
    path.write_text(conf or f"nameserver {names.host}\nsearch one.test two.test\n")
    settings = DnsTargets(names=list(wanted), refresh_interval=1.0)
    return DnsSource(settings, resolv_conf=path, server_port=names.port, patience_s=patience_s)


async def addresses(source: DnsSource) -> list[str]:
    return sorted(one.address for one in map(decode, fragments(await source.fetch())))


async def test_a_record_that_leads_nowhere_is_left_out_and_named(tmp_path: Path) -> None:
    async with NameServer({"a.test. SRV": ["0 0 0 .", "0 0 80 b.test."]}) as names:
        pool = await source(names, tmp_path, "a.test.").fetch()
        assert [decode(one).address for one in fragments(pool)] == ["b.test:80"]
        assert (pool.refused, pool.remarks) == (1, ("a.test.: the SRV record leads nowhere (.)",))


@pytest.mark.row("D2", did="NODATA and NXDOMAIN on the search path")
async def test_an_empty_answer_ends_the_search_and_an_unknown_name_does_not(tmp_path: Path) -> None:
    zone = {"x.one.test. A": ["10.0.0.1"], "x.two.test. SRV": ["0 0 1 a."], "y.two.test. SRV": ["0 0 2 b."]}
    async with NameServer(zone) as names:
        assert await addresses(source(names, tmp_path, "x")) == []
        assert await addresses(source(names, tmp_path, "y")) == ["b:2"]
        assert await addresses(source(names, tmp_path, "z")) == []


async def test_trouble_on_the_search_path_is_no_answer_unless_a_later_name_gives_one(tmp_path: Path) -> None:
    async with NameServer({"x.two.test. SRV": ["0 0 1 a."]}) as names:
        names.trouble = {"x.one.test.": "SERVFAIL", "y.one.test.": "SERVFAIL"}
        assert await addresses(source(names, tmp_path, "x")) == ["a:1"]
        with pytest.raises(DiscoveryError, match=r"y: y.one.test. SRV: 127.0.0.1: SERVFAIL"):
            await source(names, tmp_path, "y").fetch()


@pytest.mark.row("D2", did="SERVFAIL for one name of several")
async def test_a_name_without_an_answer_keeps_its_list_and_the_others_go_on(tmp_path: Path) -> None:
    async with NameServer({"a.test. SRV": ["0 0 1 a."], "b.test. SRV": ["0 0 2 b."]}) as names:
        both = source(names, tmp_path, "a.test.", "b.test.")
        assert await addresses(both) == ["a:1", "b:2"]
        names.trouble = {"a.test.": "REFUSED"}
        names.zone["b.test. SRV"] = ["0 0 3 b."]
        with pytest.raises(DiscoveryError, match=r"a.test.: .*REFUSED") as trouble:
            await both.fetch()
        assert trouble.value.pool is not None
        assert [decode(one).address for one in fragments(trouble.value.pool)] in (["a:1", "b:3"], ["b:3", "a:1"])
        names.trouble = {}
        del names.zone["a.test. SRV"]
        assert await addresses(both) == ["b:3"]


async def test_a_truncated_answer_is_asked_for_again_over_tcp(tmp_path: Path) -> None:
    many = [f"0 0 {port} host-{port}.some.long.name.of.many.test." for port in range(1000, 1200)]
    async with NameServer({"many.test. SRV": many}) as names:
        assert len(await source(names, tmp_path, "many.test.").fetch()) == 200
        assert names.asked == ["many.test. SRV", "many.test. SRV/tcp"]


@pytest.mark.row("D3", did="a name server that does not answer")
async def test_the_next_server_is_asked_when_one_does_not_answer(tmp_path: Path) -> None:
    async with NameServer({"a.test. SRV": ["0 0 1 a."]}) as names:
        conf = f"nameserver 127.99.99.99\nnameserver {names.host}\n"
        assert await addresses(source(names, tmp_path, "a.test.", conf=conf)) == ["a:1"]


@pytest.mark.parametrize("conf", ["search x\n", None])
async def test_without_a_server_there_is_no_answer(tmp_path: Path, conf: str | None) -> None:
    async with NameServer({}) as names:
        unable = source(names, tmp_path, "a.test.", conf=conf or "x")
        if conf is None:
            (tmp_path / "resolv.conf").unlink()
        with pytest.raises(DiscoveryError, match=r"resolv\.conf: cannot be read, or has no nameserver"):
            await unable.fetch()
