"""What this machine lacks, and names without an address, are nobody's death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import structlog

from promring.membership import direct
from promring.membership.direct import DirectProbes
from promring.membership.probing import ProbeMembership
from promring.model import Answer, Known, Members, Reply, Scraper
from promring.runtime import resolver
from promring.runtime.http_client import HttpError, NotAskedError, UnresolvedError, request
from promring.runtime.resolver import Names, Resolver
from promring.runtime.threads import in_thread
from promring.telemetry import log
from tests.fakes.hostile import HostilePeer
from tests.hostile.drive import running
from tests.hostile.test_scrapers import TARGETS, scraper_at
from tests.rows import Seen
from tests.sources import probing_every
from tests.waiting import until


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare:
            os.close(descriptor)


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """No thread can be started: its stack does not fit into the address space."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


@pytest.mark.row(53, did="no descriptor left while scrapers are probed, directly, too; then there are some again")
async def test_a_process_without_descriptors_calls_nobody_dead_and_says_so_once(seen: Seen) -> None:
    async with HostilePeer(TARGETS) as one, HostilePeer(TARGETS) as two:
        both = tuple(sorted((scraper_at(one), scraper_at(two))))
        answers: list[Answer[Members]] = []
        verdicts: dict[str, Reply] = {}
        changed = asyncio.Event()
        with structlog.testing.capture_logs() as lines:
            probes = ProbeMembership("s", both, probing_every(0.05, 5.0), structlog.get_logger())
            direct_probes = DirectProbes("/", 5.0, structlog.get_logger())
            asked = direct_probes.run(lambda: both, changed, lambda name, reply: verdicts.update({name: reply}))
            async with running(probes.run(answers.append)), running(asked):
                await until(lambda: bool(answers) and answers[-1] == Known(both) and len(verdicts) == 2, "both up")
                with no_descriptors():
                    before = len(answers)
                    await until(lambda: len(answers) > before + 20, "probed many times", 60)
                    await asyncio.sleep(direct.PAUSE_S * (direct.TRIES + 1))
                    assert set(answers[before:]) == {Known(both)}
                    assert verdicts == {s.id: Reply.ANSWERS for s in both}
                    assert any("Too many open files" in node.reason for node in probes.nodes())
                served = one.good_served
                await until(lambda: one.good_served > served + 2 and answers[-1] == Known(both), "healed")
        said = [line["event"] for line in lines if line["event"].endswith("_not_made")]
        assert sorted(said) == ["direct_probe_not_made", "probe_not_made"]
    seen(f"{len(answers) - before} probes without a descriptor: the verdicts stay, one line each; healed")


async def test_a_process_without_threads_says_so_and_takes_no_name_for_gone() -> None:
    with no_threads():
        waiting = asyncio.ensure_future(in_thread(lambda: 1))
        with pytest.raises(OSError, match="no thread"):
            await Resolver(Names()).resolve("localhost")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver(Names()))) as session:
            with pytest.raises(NotAskedError) as caught:
                await request(session, "GET", "http://localhost:1/", timeout_s=5)
            assert not isinstance(caught.value, UnresolvedError)
        assert not waiting.done()
    assert await waiting == 1


class Dns:
    """A name server that answers, fails or hangs as it is told."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.hangs: set[str] = set()
        self.asked: list[str] = []
        self.free = threading.Event()

    def look_up(self, host: str, _: object, **__: object) -> list[Any]:
        self.asked.append(host)
        if host in self.hangs:
            self.free.wait(120)
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.addresses[host], 0))]


async def test_names_that_hang_cost_their_own_requests_only_and_one_thread_each() -> None:
    dns = Dns()
    dns.hangs = {f"hangs-{n}" for n in range(40)}
    dns.addresses = {"good": "127.0.0.1"}
    async with HostilePeer(TARGETS) as peer:
        connector = aiohttp.TCPConnector(resolver=Resolver(Names(dns.look_up)), use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask(name: str) -> int:
                return (await request(session, "GET", f"http://{name}:{peer.port}/", timeout_s=2.0)).status

            for _ in range(2):
                results = await asyncio.gather(*map(ask, [*dns.hangs, "good"]), return_exceptions=True)
                assert results[-1] == 200
                assert {type(result) for result in results[:-1]} == {UnresolvedError}
            assert sorted(dns.asked) == sorted([*dns.hangs, "good"]), "a look-up that hangs is not begun a second time"
            dns.free.set()


async def test_a_name_that_is_gone_is_asked_at_its_last_address_and_one_that_never_was_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)  # a constant
    dns = Dns()
    dns.addresses = {"s": "127.0.0.1"}
    async with HostilePeer(TARGETS) as peer:
        connector = aiohttp.TCPConnector(resolver=Resolver(Names(dns.look_up)), use_dns_cache=False, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask(name: str) -> int:
                return (await request(session, "GET", f"http://{name}:{peer.port}/", timeout_s=20)).status

            assert await ask("s") == 200
            dns.addresses.clear()
            assert await ask("s") == 200, "gone from the name server, and still answering"
            dns.hangs = {"s"}
            began = time.monotonic()
            assert await ask("s") == 200, "the look-up hangs"
            assert time.monotonic() - began < 15
            with pytest.raises(UnresolvedError, match="the name never cannot be resolved"):
                await ask("never")
            peer.play("dead", b"")
            await peer.__aexit__()
            with pytest.raises(HttpError) as caught:
                await ask("s")
            assert not isinstance(caught.value, NotAskedError), "who is dead at the last address is dead"
            dns.free.set()


async def test_a_scraper_whose_name_never_had_an_address_does_not_keep_the_others_waiting() -> None:
    async with HostilePeer(TARGETS) as peer:
        good, nameless = scraper_at(peer), Scraper("no.such.name.invalid:1", "no.such.name.invalid", 1)
        answers: list[Answer[Members]] = []
        probes = ProbeMembership("s", (good, nameless), probing_every(0.05, 10.0), log.get())
        async with running(probes.run(answers.append)):
            await until(lambda: bool(answers) and answers[-1] == Known((good,)), "the other one", 120)
        assert ["resolved" in node.reason for node in probes.nodes()] == [False, True]
