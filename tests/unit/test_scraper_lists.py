"""Lists of scrapers: what a file may hold, what a name may resolve to, and when one that is missing leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from promring.config.node import Node
from promring.core.verdicts import Facts
from promring.fleet.departures import Departures
from promring.membership.dns import DnsListing, DnsScrapers
from promring.membership.file import ListError, read_list
from promring.membership.listing import KEPT_AS_SHORT, Lineup
from promring.model import Fact, Known, Members, Reply, Scraper, Unknown, join_host_port
from promring.runtime.dns_client import NameClient
from promring.telemetry import log
from promring.web.views.scrapers import _departing
from tests.fakes.dns import NameServer

PATH = Path("scrapers.yml")


def scraper(node: Node) -> Scraper:
    return Scraper(join_host_port(node.host, node.port), *node)


def ids(members: Members) -> str:
    return " ".join(f"{s.id}{s.zone and f' in {s.zone}'}{'' if s.weight == 1 else f' x{s.weight:g}'}" for s in members)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a:1", "b:2"]', "a:1 b:2"),
        ("- b:2\n- a:1\n", "a:1 b:2"),
        ('[\n\t{"address": "a:1", "zone": "east", "weight": 2},\n\t"[::1]:9"\n]', "[::1]:9 a:1 in east x2"),
        ("- {address: a:1, weight: 0}\n", "a:1 x0"),
        ('["a:1", "b:', "scrapers.yml:1: "),
        ("", "scrapers.yml: the file is empty"),
        (" \n", "scrapers.yml: the file is empty"),
        ("[]", "scrapers.yml: the list has no scraper"),
        ("a:1", "scrapers.yml:1: is not a list"),
        ('{"a": 1}', "scrapers.yml:1: is not a list"),
        ("- a:1\n- a\n", "scrapers.yml:2: entry 2: 'a' is not host:port"),
        ("- a:1\n-\n", "scrapers.yml:2: entry 2: None is not host:port"),
        ("- a:1\n- A:1\n", "scrapers.yml:2: entry 2: a:1 is entry 1 already"),
        ("- a:1\n- {address: b:1, wieght: 2}\n", "scrapers.yml:2: entry 2: unknown key 'wieght'"),
        ("- a:1\n- {address: b:1, weight: -2}\n", "scrapers.yml:2: entry 2: weight: -2 is not"),
        ("- a:1\n- {address: b:1,\n   address: c:1}\n", "scrapers.yml:3: entry 1: duplicate key"),
        ("- &x a:1\n- *x\n", "scrapers.yml:2: an alias"),
        ("- a:1\n---\n- b:1\n", "scrapers.yml:2: there must be one document only"),
        ("[" * 10_000, "scrapers.yml:1: nested deeper"),
        ("\0", "scrapers.yml:1: "),
    ],
)
def test_a_list_is_taken_whole_or_refused_with_file_line_and_entry(text: str, expected: str) -> None:
    try:
        got = ids(read_list(text.encode(), PATH, scraper))
    except ListError as error:
        got = str(error)
    assert got.startswith(expected), got


A, B, C, D = (Scraper(name, name, 1) for name in "abcd")


def test_one_that_is_missing_is_kept_for_a_while_and_leaves_while_it_lives() -> None:
    lineup = Lineup(keep_s=60, may_be_short=True)
    lineup.heard((A, B, C), 0)
    lineup.heard((B, C), 10)
    assert not lineup.decide(lambda _: True, 69)
    assert ids(lineup.probed) == "a b c"
    assert lineup.decide(lambda _: True, 70)
    assert (ids(lineup.probed), list(lineup.left)) == ("b c", ["a"])
    lineup.heard((A, B, C), 80)
    assert (ids(lineup.probed), list(lineup.left)) == ("a b c", [])


def test_one_that_comes_back_in_time_was_never_missing() -> None:
    lineup = Lineup(keep_s=60, may_be_short=True)
    for now in range(0, 300, 50):
        lineup.heard((A, B) if now % 100 else (A, B, C), now)
        assert not lineup.decide(lambda _: True, now + 1)
    assert ids(lineup.probed) == "a b c"


@pytest.mark.row("D1", did="a name that gives fewer scrapers than are missing from it")
def test_when_more_are_missing_than_are_there_they_are_kept_until_they_die() -> None:
    lineup = Lineup(keep_s=60, may_be_short=True)
    lineup.heard((A, B, C, D), 0)
    lineup.heard((A,), 10)
    assert not lineup.decide(lambda _: True, 10_000)
    assert ids(lineup.probed) == "a b c d"
    assert lineup.decide(lambda name: name != "d", 10_000)
    assert (ids(lineup.probed), list(lineup.left)) == ("a b c", [])


def test_when_a_list_is_never_short_all_that_are_missing_leave_after_a_while() -> None:
    """Of pods: another selector, or other labels on most of them, are what somebody said."""
    lineup = Lineup(keep_s=60, may_be_short=False)
    lineup.heard((A, B, C, D), 0)
    lineup.heard((A,), 10)
    assert lineup.why_kept(30)["b"] == "the list has it no more: it leaves in 40 s"
    assert not lineup.decide(lambda _: True, 69)
    assert lineup.decide(lambda _: True, 70)
    assert (ids(lineup.probed), sorted(lineup.left)) == ("a", ["b", "c", "d"])
    assert lineup.why_kept(70) == {}


def test_why_one_that_is_missing_stays_is_said() -> None:
    lineup = Lineup(keep_s=60, may_be_short=True)
    lineup.heard((A, B, C), 0)
    lineup.heard((A,), 10)
    assert lineup.why_kept(1000) == dict.fromkeys("bc", KEPT_AS_SHORT)


def test_a_dead_one_that_is_missing_is_gone_and_leaves_nothing_to_drain() -> None:
    lineup = Lineup(keep_s=60, may_be_short=True)
    lineup.heard((A, B), 0)
    lineup.heard((B,), 1)
    assert lineup.decide(lambda name: name != "a", 2)
    assert (ids(lineup.probed), list(lineup.left)) == ("b", [])


def test_who_dies_while_it_leaves_is_said_to_be_down() -> None:
    departures = Departures((A,), log=log.get())
    assert "a" not in departures.down
    departures.put_probed("a", Reply.REFUSES)
    assert "a" in departures.down
    assert [_departing("a", silent=silent).state for silent in (False, True)] == ["up", "down"]
    departures.put_probed("a", Reply.ANSWERS)
    assert "a" not in departures.down


def test_who_left_the_list_departs_once_and_comes_back_when_it_is_listed_again() -> None:
    departures = Departures((), log=log.get())
    departures.heard((A, B), (C,), {"a", "b"})
    assert ids(departures.scrapers) == "", "it is in no plan"
    departures.heard((A,), (B,), {"a", "b"})
    assert ids(departures.scrapers) == "b"
    departures.heard((A, B), (), {"a", "b"})
    assert ids(departures.scrapers) == ""
    departures.heard((A,), (B,), {"a", "b"})
    assert departures.end({"a": 5, "b": 0}, {"b"}, {}) == (), "it is not being emptied yet"
    departures.applied(Facts(Fact(Known((A,))), {}))
    assert [s.id for s in departures.end({"a": 5, "b": 0}, {"b"}, {})] == ["b"]
    departures.heard((A,), (B,), {"a", "b"})
    assert ids(departures.scrapers) == "", "it ended"
    departures.heard((A, B), (), {"a"})
    departures.heard((A,), (B,), {"a", "b"})
    assert ids(departures.scrapers) == "b", "it was listed again meanwhile"


@pytest.mark.parametrize("how", ["it came in", "it stays away", "nobody else is listed", "a drained one"])
def test_who_leaves_the_list_stays_what_it_was_while_others_may_come_in(how: str) -> None:
    """Else the one that stays would get everything for the seconds until the others have joined."""
    now = 100.0
    old = replace(B, draining=how == "a drained one")
    departures = Departures((old,), waits_s=15.0, log=log.get(), clock=lambda: now)

    departures.applied(Facts(Fact(Unknown("not asked yet")), {}))  # who comes is not known, either

    def drains(coming: str) -> bool:
        found = departures.applied(Facts(Fact(Known((A,))), {}), coming).members.newest
        assert isinstance(found, Known)
        (one,) = (s for s in found.value if s.id == "b")
        assert ("b" in departures.leaving) == one.draining
        return one.draining

    if how in ("nobody else is listed", "a drained one"):
        assert drains("" if how[0] == "n" else "c")
        return
    assert not drains("bc")
    assert departures.wakes_at == 115.0
    now = 110.0
    assert not drains("c")
    assert departures.remembered == (old,), "also after a restart"
    now = 115.0 if how == "it stays away" else now
    assert drains("c" if how == "it stays away" else "b"), "itself does not count"
    assert departures.wakes_at == float("inf")
    assert drains("cd"), "once it is being emptied it goes on"


def test_each_that_leaves_waits_for_its_own_time_and_one_that_dies_for_none() -> None:
    now, rings = 100.0, list[float]()
    departures = Departures((A,), waits_s=15.0, wake=lambda: rings.append(now), log=log.get(), clock=lambda: now)

    def drained() -> str:
        departures.applied(Facts(Fact(Known((D,))), {}), "e")
        return ids(tuple(s for s in departures.scrapers if s.draining))

    now = 110.0
    departures.heard((D,), (A, B, C), {"a", "b", "c"})
    assert (drained(), departures.wakes_at) == ("", 115.0)
    now = 116.0
    assert departures.wakes_at == 125.0, "a time that is over wakes nobody: the scrapers may not be known"
    assert drained() == "a"
    rings.clear()
    departures.put_probed("c", Reply.SILENT)
    assert (rings, drained()) == ([116.0], "a c")
    departures.put_probed("c", Reply.SILENT)
    assert rings == [116.0]
    now = 126.0
    assert departures.wakes_at == float("inf")
    assert drained() == "a b c"


# --- names -----------------------------------------------------------------------------------------------------------

ZONE = {
    "a.test. A": ["10.0.0.2", "10.0.0.1", "10.0.0.1"],
    "six.test. AAAA": ["fd00::2", "::ffff:10.0.0.9"],
    "srv.test. SRV": ["0 0 9091 Prometheus-1.test.", "0 5 9090 prometheus-0.test."],
    "root.test. SRV": ["0 0 9091 ."],
    "none.test. TXT": ["nothing"],
    "alias.test. CNAME": ["a.test."],
    "far.test. SRV": ["0 0 0 a.test."],
}


@asynccontextmanager
async def listing(folder: Path, name: str, type_: str) -> AsyncIterator[tuple[NameServer, DnsListing]]:
    conf = folder / "resolv.conf"
    async with NameServer(ZONE) as server:
        conf.write_text(f"nameserver {server.host}\n")
        settings = DnsScrapers.model_validate(
            {"name": name, "type": type_, **({} if type_ == "SRV" else {"port": 9090})}, context={}
        )
        yield server, DnsListing(settings, scraper, NameClient(conf, server.port))


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("a.test.", "A", "10.0.0.1:9090 10.0.0.2:9090"),
        ("six.test.", "AAAA", "10.0.0.9:9090 [fd00::2]:9090"),
        ("srv.test.", "SRV", "prometheus-0.test:9090 prometheus-1.test:9091"),
        ("none.test.", "A", "none.test. A: no such record (NODATA)"),
        ("alias.test.", "A", "alias.test. A: no such record (NODATA)"),
        ("nobody.test.", "A", "nobody.test. A: the name does not exist (NXDOMAIN)"),
        ("sick.test.", "A", "sick.test. A: 127.0.0.1: SERVFAIL"),
        ("hostile.test.", "A", "hostile.test. A: 127.0.0.1: malformed answer"),
        ("root.test.", "SRV", "root.test. SRV: "),
        ("far.test.", "SRV", "far.test. SRV: 'a.test:0' is not host:port"),
    ],
)
@pytest.mark.row("D1", "D2", did="a name without records, unknown, sick")
async def test_a_name_gives_the_scrapers_of_its_records_or_says_why_not(
    name: str, type_: str, expected: str, tmp_path: Path
) -> None:
    async with listing(tmp_path, name, type_) as (server, made):
        server.trouble = {"sick.test.": "SERVFAIL", "hostile.test.": "garbage"}
        found, why = await made._ask()
        assert (why or ids(found)).startswith(expected)
        assert bool(why) != bool(found)


@pytest.mark.row("D3", did="a name without a dot at its end is checked")
def test_a_name_that_is_asked_for_in_each_domain_first_is_doubted() -> None:
    def doubts(name: str) -> list[str]:
        return [what for _, what in DnsScrapers.model_validate({"name": name}, context={}).doubts()]

    assert doubts("prometheus.mon.svc") == [
        "has no dot at its end, so each domain of the search path may be asked first: prometheus.mon.svc."
    ]
    assert doubts("prometheus.mon.svc.") == []


async def test_without_a_name_server_there_is_no_answer(tmp_path: Path) -> None:
    async with listing(tmp_path, "a.test.", "A") as (_, made):
        (tmp_path / "resolv.conf").write_text("search nowhere.test\n")
        assert "has no nameserver" in (await made._ask())[1]
