"""A Consul that answers anything at all, against the watch, the registration and the lock."""

from __future__ import annotations

import json

import pytest

from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.lock import ConsulLockStore
from promring.consul.registration import Registration
from promring.consul.watch import HealthWatch
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.membership.consul import ConsulMembership
from promring.model import Answer, Known, Members, Scraper
from promring.runtime.unforeseen import kept_alive
from promring.telemetry import log
from tests.fakes.hostile import HostilePeer, Shape
from tests.hostile.drive import play_all, running
from tests.rows import Seen
from tests.waiting import until

ENTRY = {
    "Node": {"Node": "n", "Address": "127.0.0.1"},
    "Service": {"ID": "x-1", "Service": "x", "Address": "127.0.0.1", "Port": 1},
    "Checks": [{"CheckID": "service:x-1", "Status": "passing"}],
}
SERVICES = Shape(b"[", json.dumps(ENTRY).encode(), b"]", {"X-Consul-Index": "7"}, keys=("Node", "Service", "Checks"))
KEY = {"Key": "promring", "Value": "e30=", "Session": "s", "LockIndex": 1, "ModifyIndex": 5}
KEYS = Shape(b"[", json.dumps(KEY).encode(), b"]", {"X-Consul-Index": "7"}, keys=tuple(KEY))
ONE = Scraper("127.0.0.1:1", "127.0.0.1", 1)


@pytest.mark.row(52, did="Consul answers every hostile thing to the watch and the registration")
async def test_watch_and_registration_outlive_whatever_consul_answers(long: bool, seen: Seen) -> None:
    async with HostilePeer(SERVICES) as consul, Client(Access(consul.address)) as client:
        answers: list[Answer[Members]] = []
        registration = Registration("x", {("127.0.0.1", 1): {}}, "/", 1.0, 0.5)
        watch = HealthWatch(client, "x", Catalogue(lambda node, _: Scraper(f"{node[0]}:{node[1]}", *node)), log.get())
        membership = ConsulMembership(client, watch, registration, log.get(), settle_s=0.1)

        async def healed() -> None:
            answers.clear()
            await until(lambda: Known((ONE,)) in answers, "the watch is back", 60)

        async with running(membership.run(answers.append)) as task:
            await healed()
            cut_off = frozenset({"no answer", "a trickle", "1xx for ever"})  # ten seconds each, with the same client
            seen(await play_all(consul, task, skip=cut_off, between=healed, every=1 if long else 3))


@pytest.mark.row(52, did="Consul answers every hostile thing to the lock: nobody leads by it")
async def test_the_lock_outlives_whatever_consul_answers_and_nobody_leads_by_it(long: bool, seen: Seen) -> None:
    async with HostilePeer(KEYS) as consul, Client(Access(consul.address)) as client:
        leadership = Leadership(alone=False, changed=lambda: None)
        lock = Election(
            ConsulLockStore(client, "promring", "me", 3.0),
            Lease("me", 3.0),
            leadership,
            informed=lambda: True,
            highest=lambda: 0,
            drained=dict,
            log=log.get(),
        )
        async with running(kept_alive("lock", lock.run, log.get(), most_s=1.0)) as task:
            await until(lambda: consul.good_served > 2, "it asked")
            seen(await play_all(consul, task, kept=lambda: not leadership.leads(), slow_s=0.2, every=1 if long else 3))
