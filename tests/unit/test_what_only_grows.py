"""Names come and go for years, as those of pods do: what is kept of those that are gone ends."""

from __future__ import annotations

import io
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promring.agent import slicefile
from promring.agent.slicefile import SliceFile
from promring.core.pool import pool_of
from promring.core.takers import GONE_LEAST, Takers
from promring.delivery.http_sd import HttpSdDelivery
from promring.delivery.receiver import Envelope
from promring.fleet import asks as asks_module
from promring.fleet.asks import Asks
from promring.model import Generation, Scraper, Slice, TargetGroup
from promring.runtime.resolver import GONE_KEPT_S, GONE_SAID_MOST, Names, Resolver
from promring.telemetry import log
from promring.telemetry.events import Events
from tests.seeing import seen_with


def test_names_that_ask_no_more_leave_room_for_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asks_module, "KEPT_MOST", 100)
    now = [0.0]
    asks = Asks(clock=lambda: now[0])
    for rollout in range(10):  # of 20 pods with new names each time, a day apart
        for n in [*range(20)] * 2:
            asks.note("x", f"pod-{rollout}-{n}:9090")
            now[0] += 1.0
        now[0] += 86400.0
    assert asks.uses("x", "pod-9-0:9090")
    assert not asks.uses("x", "pod-0-0:9090")
    for n in range(200):
        asks.note("x", f"stranger-{n}:9090")
    assert len(asks._asked) == 100


async def test_who_waited_for_a_slice_and_is_no_scraper_any_more_is_forgotten() -> None:
    served = HttpSdDelivery()
    for n in range(50):
        one = Slice("x", Scraper(f"pod-{n}:1", f"pod-{n}", 1), Generation(1, n), b"[]\n", 0)
        await served.deliver([one])
        await served.wait(one.scraper.id, lambda _: True, 0.001)
    assert list(served._waiting) == ["pod-49:1"]


def test_who_took_targets_and_is_no_scraper_any_more_is_somebody_who_is_gone() -> None:
    takers, pool = Takers(), pool_of((TargetGroup.of([f"t{n}:1" for n in range(4)]),))
    first, *others = pool.ids.tolist()
    for n in range(GONE_LEAST + 20):
        takers.judged(pool, {f"pod-{n}:1": seen_with([first], float(n))}, tries=True)
        assert len(takers._numbers) <= GONE_LEAST + 3
    takers.judged(pool, {"a:1": seen_with(others, 1.0)}, tries=True)
    dropping = replace(seen_with([], 2.0), dropped=np.sort(pool.ids))
    drops = takers.judged(pool, {"b:1": dropping}, tries=True)["b:1"]
    assert sorted(drops.denied.tolist()) == sorted(pool.ids.tolist()), "others scraped them last, whoever they were"


async def test_names_that_were_given_up_do_not_silence_a_name_server_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    events, there, ahead, real = Events(), set[str](), [0.0], time.monotonic
    log.configure(stream=io.StringIO(), keep=events.keep)
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    monkeypatch.setattr("promring.runtime.resolver.FRESH_S", 0.0)

    def look_up(name: str, *_: Any, **__: Any) -> list[Any]:
        if name not in there:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    resolver = Resolver(Names(look_up))

    async def live_and_go(name: str) -> None:
        there.add(name)
        await resolver.resolve(name)
        there.clear()
        await resolver.resolve(name)

    for n in range(GONE_SAID_MOST + 5):  # each is asked for a moment longer, and never again
        await live_and_go(f"pod-{n}")
    await live_and_go("too-many")
    ahead[0] += GONE_KEPT_S
    await live_and_go("scraper")
    said = [event.fields["name"] for event in events.since() if event.msg == "name_not_resolved"]
    assert said == [f"pod-{n}" for n in range(GONE_SAID_MOST)] + ["scraper"]


def test_a_file_is_read_once_though_the_clock_of_the_machine_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, scraper = SliceFile(tmp_path, "x"), Scraper("a:1", "a", 1)
    assert file.install(Envelope.of(Slice("x", scraper, Generation(1, 1), b'[\n{"targets":["t:1"]}\n]\n', 1)))
    real, reads = slicefile._stamp, list[int]()
    ahead_ns = 3600 * 10**9

    def stamp(path: Path) -> Any:
        found = real(path)
        return found and (*found[:2], found[2] + ahead_ns, found[3] + ahead_ns)

    read = file._read

    def counted() -> None:
        reads.append(1)
        read()

    monkeypatch.setattr(slicefile, "_stamp", stamp)
    monkeypatch.setattr(file, "_read", counted)
    for _ in range(5):
        file.look()
    assert file.has
    assert len(reads) == 1
