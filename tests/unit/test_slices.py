"""``/sd/{scraper}``: all slices of one scraper, of a whole promring in this process."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.delivery.askers import DECLINES_S, STILL_S, WHY_MOST, Asker, Askers, header_of, said_of, together, why_in
from promring.delivery.bundle import CONTENT_TYPE, Listing, mark, opened, unpacked
from promring.delivery.receiver import parse_generation
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.fleet import Service
from promring.web import slices as slices_module
from promring.web.controller import Controller
from promring.web.sd import Polls
from promring.web.views import asking as asking_module
from tests.unit.test_web import Running, running
from tests.waiting import until

BOTH = ["node", "web"]


async def ask(
    r: Running, node: str, query: str = "", have: dict[str, str] | None = None, **headers: str
) -> tuple[Listing, dict[str, bytes]]:
    """``have``: digests by service."""
    named = {"X_Promring_Have": "".join(mark(name, sha256) for name, sha256 in (have or {}).items()), **headers}
    status, said, body = await r.get(f"/sd/{node}{query}", **{name: value for name, value in named.items() if value})
    assert status == 200, body
    assert said["content-type"] == CONTENT_TYPE
    return opened(body)


def digests(listing: Listing) -> dict[str, str]:
    return {one.service: one.sha256 for one in listing.slices}


def taken(r: Running, service: str) -> set[str]:
    """Who is known to have its slice of this service."""
    couriers: ServiceDeliveries = r.supervisor.services[service].fleet.reconciler.dispatcher.couriers[service]
    return set(couriers.visitors.visits)


async def reload(r: Running, change: Any) -> None:
    file = r.folder / "promring.yml"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    found = await r.supervisor.reload(force=True)
    assert not found.problems


async def test_every_slice_of_a_scraper_is_in_one_answer_with_the_bytes_that_each_has_alone(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        for node in r.nodes:
            listing, sent = await ask(r, node)
            assert [one.service for one in listing.slices] == BOTH, "files-only has no http_sd"
            assert listing.without == []
            for one in listing.slices:
                _, headers, alone = await r.get(f"/sd/{one.service}/{node}")
                assert sent[one.service] == alone
                assert one.sha256 == headers["x-promring-sha256"] == hashlib.sha256(alone).hexdigest()
                assert one.generation == headers["x-promring-generation"]
                assert not one.follows


async def test_a_long_slice_is_packed_when_asked_and_a_short_one_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        _, plain = await ask(r, r.nodes[0])
        listing, sent = await ask(r, r.nodes[0], Accept_Encoding="gzip")
        node = listing.slices[0]
        assert node.gzip
        assert gzip.decompress(sent["node"]) == unpacked(sent["node"], 10**6) == plain["node"]
        assert (await r.get(f"/sd/{r.nodes[0]}", Accept_Encoding="identity;q=0, gzip;q=0"))[0] == 406


async def test_only_what_differs_is_sent_and_waited_for_and_taken_is_what_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        node = r.nodes[0]
        listing, _ = await ask(r, node)
        assert node not in taken(r, "node"), "sent is not taken"
        have = digests(listing)
        _, sent = await ask(r, node, have={"node": have["node"], "web": "0" * 64})
        assert list(sent) == ["web"]
        assert (node in taken(r, "node"), node in taken(r, "web")) == (True, False)
        listing, sent = await ask(r, node, have={"web": have["node"]})
        assert list(sent) == BOTH, "another service's slice is none of this one"
        _, sent = await ask(r, node, have=have)
        assert sent == {}
        assert node in taken(r, "web")
        began = time.monotonic()
        listing, sent = await ask(r, node, "?wait=300ms", have=have)
        assert (sent, digests(listing), time.monotonic() - began > 0.25) == ({}, have, True)
        waiting = asyncio.create_task(ask(r, node, "?wait=30s", have=have))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        r.write([{"targets": ["only:1", "two:2", "three:3", "four:4"]}])
        listing, sent = await waiting
        assert "node" in sent, "one of web may move, too: the bound is over both"
        assert list(sent) == [name for name in BOTH if digests(listing)[name] != have[name]]
        have = digests(listing)
        declined = mark("node", have["node"])
        _, sent = await ask(r, node, "?wait=100ms", have={"web": have["web"]}, X_Promring_Declined=declined)
        assert sent == {}


async def test_what_comes_with_a_reload_ends_the_wait_and_what_goes_is_not_listed(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        node = r.nodes[0]
        have = digests((await ask(r, node))[0])
        waiting = asyncio.create_task(ask(r, node, "?wait=30s", have=have))
        await asyncio.sleep(0.1)

        def add(config: dict[str, Any]) -> None:
            config["shard_services"].append({**config["shard_services"][1], "name": "more", "job": "more"})

        await reload(r, add)
        _, sent = await asyncio.wait_for(waiting, 60)
        assert "more" in sent, "one of another service may move, too: the bound is over all"

        def remove(config: dict[str, Any]) -> None:
            (web_service,) = [s for s in config["shard_services"] if s["name"] == "web"]
            config["shard_services"].remove(web_service)
            config["shard_services"].append(
                {**web_service, "name": "late", "job": "late", "targets": [{"file": {"files": ["nothing.json"]}}]}
            )

        await reload(r, remove)
        await until(lambda: "late" in r.supervisor.services, "the reload is done")
        listing, _ = await ask(r, node)
        assert set(digests(listing)) == {"node", "more"}
        assert listing.without == ["late"], "it has no plan yet; what is not named is gone"


async def test_a_service_that_was_renamed_has_both_names(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        before = digests((await ask(r, r.nodes[0]))[0])

        def rename(config: dict[str, Any]) -> None:
            config["shard_services"][1]["name"] = "the-web"

        await reload(r, rename)
        if r.supervisor.renamed:
            after = digests((await ask(r, r.nodes[0]))[0])
            assert after["the-web"] == after["web"] == before["web"]


async def test_what_is_not_known_is_503_and_404_only_where_no_service_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, targets=False, shared=True) as r:
        await until(lambda: "node" in r.supervisor.services, "built")
        status, _, body = await r.get("/sd/10.9.9.9:9090")
        assert status == 503
        assert json.loads(body)["status"] == "error"
        assert (await r.get(f"/sd/{r.nodes[0]}?wait=soon"))[0] == 400

        assert (await r.get("/sd/10.9.9.9:9090?wait=10ms"))[0] == 503
        only_files = [s for s in r.supervisor.settings.shard_services if s.name == "files-only"]
        monkeypatch.setattr(Service, "http_sd", None)
        settings = r.supervisor.settings.model_copy(update={"shard_services": only_files})
        r.supervisor.loaded = replace(r.supervisor.loaded, settings=settings)
        assert (await r.get(f"/sd/{r.nodes[0]}"))[0] == 404


async def test_too_many_long_polls_are_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, shared=True) as r:
        polls = Polls(1)
        monkeypatch.setattr(r.supervisor.web._slices, "_polls", polls)
        have = digests((await ask(r, r.nodes[0]))[0])
        waiting = asyncio.create_task(ask(r, r.nodes[0], "?wait=30s", have=have))
        await until(lambda: len(polls) == 1, "one waits")
        marks = "".join(mark(name, sha256) for name, sha256 in have.items())
        assert (await r.get(f"/sd/{r.nodes[0]}?wait=1s", X_Promring_Have=marks))[0] == 503
        assert (await r.get(f"/sd/{r.nodes[0]}", X_Promring_Have=marks))[0] == 200
        waiting.cancel()
        endpoint = r.supervisor.web._slices
        await until(lambda: not endpoint._waiters and endpoint._watch is None, "nothing is left of it")


async def test_more_than_fits_into_one_answer_comes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices_module, "ANSWER_BYTES_MOST", 100)
    monkeypatch.setattr(slices_module, "WHOLE_BYTES", 50)
    async with running(tmp_path, shared=True) as r:
        first, sent = await ask(r, r.nodes[0])
        assert (list(sent), set(digests(first))) == (["node"], set(BOTH))
        _, more = await ask(r, r.nodes[0], "?wait=30s", have={"node": digests(first)["node"]})
        assert list(more) == ["web"]
        for service, body in (sent | more).items():
            assert hashlib.sha256(body).hexdigest() == digests(first)[service]


async def test_hundreds_who_wait_are_told_a_few_at_a_time_and_others_have_their_turn_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices_module, "TOGETHER_S", 0.0)
    endpoint = slices_module.SlicesEndpoint(cast(Controller, None), Polls(10))
    waiters = [slices_module._Waiter(slices_module.View((), (), ()), asyncio.Event()) for _ in range(100)]
    endpoint._waiters = {"a": dict.fromkeys(waiters[:60]), "b": dict.fromkeys(waiters[60:])}
    told, turns = 0, 0
    endpoint.rang(["a"], new=False)
    endpoint.rang(["a", "b", "c"], new=False)
    while told < 100:
        await asyncio.sleep(0)
        now = sum(one.bell.is_set() for one in waiters)
        assert now - told <= slices_module.WOKEN_MOST
        assert [one.bell.is_set() for one in waiters[:now]] == [True] * now, "in the order in which they came"
        told, turns = now, turns + 1
        assert turns < 1000
    assert turns >= 100 / slices_module.WOKEN_MOST
    await until(lambda: endpoint._waking is None, "all are told", 30)
    waiters[3].bell.clear()
    endpoint.rang(["a"], new=False)
    await until(waiters[3].bell.is_set, "told again", 30)


async def test_an_agent_that_was_offered_something_older_elsewhere_says_nothing_of_a_leader_whose_slices_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 106 of the simulation: a follower offered an older slice, and the leader raised its epoch for its own one."""
    heeded: list[str] = []
    monkeypatch.setattr(Leadership, "agent_has", lambda _, newest: heeded.append(str(newest)))
    async with running(tmp_path, shared=True) as r:
        node = r.nodes[0]
        listing, _ = await ask(r, node)
        have = digests(listing)
        ours = max((parse_generation(one.generation) for one in listing.slices), default=None)
        assert ours is not None
        later, above = ours._replace(n=ours.n + 1), ours._replace(epoch=ours.epoch + 1)
        for outranked in (ours, later, above):
            await ask(r, node, have=have, X_Promring_Outranked=f"{outranked};web")
        assert heeded == [str(above)], "it has all that is ours"
        heeded.clear()
        for outranked in (ours, later, above):
            await ask(r, node, have={"node": have["node"]}, X_Promring_Outranked=f"nonsense, {outranked};web")
        assert heeded == [str(later), str(above)], "what it lacks is older than what it has: our state was lost"
        heeded.clear()
        await ask(r, node, have={"node": have["node"]}, X_Promring_Outranked=f"{later};node")
        assert not heeded, "it lacks a slice of another service, which it could not write: seed 7630"


async def test_an_agent_that_asks_and_takes_nothing_is_said_to_do_that_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "SAID_AFTER_S", 0.0)
    async with running(tmp_path, shared=True) as r:
        node = r.nodes[0]
        have = digests((await ask(r, node))[0])
        await ask(r, node, have=have)
        assert await asking_of(r, node) == (None, None, "")
        why = "node: /sd/Großes/node.json: Permission denied\r\n\x1b"

        async def asks_in_vain() -> bool:
            await ask(r, node, have={"web": have["web"]}, X_Promring_Untaken=header_of(why))
            return (await asking_of(r, node))[0] is not None

        await until(asks_in_vain, "an agent that asks again and again is said to lack its slice", 30)
        untaken_s, said, trouble = await asking_of(r, node)
        assert untaken_s is not None
        assert said == "node: /sd/Großes/node.json: Permission denied???"
        assert trouble == f"asks for its list, and has not taken it for {untaken_s:.0f} s: {said}"
        samples = (await r.get("/metrics"))[2].decode()
        assert f'promring_scraper_untaken_timestamp_seconds{{fleet="main",scraper="{node}"}}' in samples

        async def is_sent_its_list() -> bool:
            """Not while it counts as dead, its probe having had no time on a busy machine."""
            status, _, _ = await r.get(f"/sd/node/{r.nodes[1]}")
            return status == 200 and r.nodes[1] in await askers(r)

        await until(is_sent_its_list, "a Prometheus is sent its list, and has asked for it", 30)
        assert await asking_of(r, r.nodes[1]) == (None, None, ""), "a Prometheus takes what it is sent"

        async def has_taken_its_list() -> bool:
            """The one of now: another scraper may have counted as dead meanwhile, as above."""
            await ask(r, node, have=digests((await ask(r, node))[0]))
            return await asking_of(r, node) == (None, None, "")

        await until(has_taken_its_list, "an agent has taken its list", 30)

        async def is_not_counted() -> bool:
            return "promring_scraper_untaken_timestamp_seconds{" not in (await r.get("/metrics"))[2].decode()

        await until(is_not_counted, "metrics that are no older than that", 30)


async def askers(r: Running) -> set[str]:
    """Who has asked for its list."""
    fleets = json.loads((await r.get("/api/v1/fleets"))[2])["data"]
    return {one["id"] for fleet in fleets for one in fleet["scrapers"] if one["asking"] is not None}


async def asking_of(r: Running, node: str) -> tuple[float | None, str | None, str]:
    (fleet,) = [one for one in json.loads((await r.get("/api/v1/fleets"))[2])["data"] if one["name"] == "main"]
    (found,) = [one for one in fleet["scrapers"] if one["id"] == node]
    _, begins, rest = found["trouble"].partition("asks for its list")  # these scrapers answer no audit
    trouble = f"{begins}{rest}"  # before it: that the delivery counts as failed, once the loop has heard of it
    return found["asking"]["untaken_s"], found["asking"]["why"], trouble


def test_who_declined_what_it_was_offered_declines_until_it_has_it_or_asks_no_more() -> None:
    now = 1000.0
    one = Askers(lambda: now)
    assert not one.asked("a:1", has=False, why="disk full")
    assert one.asked("a:1", has=False, why="disk full", declines=True)
    assert not one.asked("a:1", has=False, why="disk full"), "it is offered again"
    assert one.declining() == {"a:1": "disk full"}
    now += DECLINES_S
    assert one.declining() == {}
    assert one.asked("a:1", has=True)
    assert one.declining() == {}


def test_who_asks_no_more_lacks_nothing_and_of_strangers_nothing_is_kept() -> None:
    now = 1000.0
    one, other = Askers(lambda: now), Askers(lambda: now)
    for at in (1000.0, 1030.0, 1060.0):
        now = at
        one.asked("a:1", has=False, why="disk full")
        other.asked("a:1", has=at < 1060.0)
    assert together([other, one]) == {"a:1": Asker(1060.0, 1000.0, "disk full", again=True)}, "what it lacks for the longest"
    now += STILL_S
    assert together([other, one]) == {"a:1": Asker(1060.0, again=True)}
    one.keep(["b:1"])
    assert together([one]) == {}


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_words_of_an_agent_are_a_header_and_one_printable_line(why: str) -> None:
    header = header_of(why)
    assert header.isascii()
    assert why_in(header).isprintable()
    assert len(why_in(header)) <= WHY_MOST


def test_what_an_agent_says_of_a_service_is_told_from_what_it_says_of_others() -> None:
    said = "node: disk full; db: /sd/db.json: No space left on device"
    assert said_of("db", said) == "db: /sd/db.json: No space left on device"
    assert said_of("d", said) == said_of("sd", said) == said_of("x", "") == ""
