"""Membership: the probe's verdicts, what is registered, and the watch on a misbehaving Consul."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiohttp import web

from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Check, Client, HealthEntry, Node, Service
from promring.consul.instances import MARK
from promring.consul.registration import CHECK, Registrar, Registration, missing, said_of_left
from promring.consul.watch import HealthWatch
from promring.membership import Publish
from promring.membership.consul import ConsulMembership
from promring.membership.probing import Health, ProbeKeys, ProbeMembership
from promring.membership.watching import watch
from promring.model import Answer, ConsulError, Empty, Known, Members, NodeState, Scraper, Unknown
from promring.telemetry import log
from tests import jumping
from tests.fakes.consul import FakeConsul
from tests.sources import probing_every
from tests.waiting import until


def scraper(node: tuple[str, int], _: Mapping[str, str] | None = None) -> Scraper:
    return Scraper(f"{node[0]}:{node[1]}", *node)


def by_host(node: tuple[str, int], _: Mapping[str, str] | None = None) -> Scraper:
    return Scraper(node[0], *node)


# --- the probe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "verdicts"),
    [
        ("++", [None, True]),
        ("+-+-", [None, None, None, None]),
        ("--", [None, False]),
        ("++-+--", [None, True, True, True, True, False]),
        ("+-+-+-+-", [None] * 7 + [False]),  # neither nor
        ("++---+-++", [None, True, True, False, False, False, False, False, True]),
    ],
)
def test_a_node_rises_and_falls_after_its_counts(seen: str, verdicts: list[bool | None]) -> None:
    health = Health(healthy_after=2, unhealthy_after=2)
    got = []
    for mark in seen:
        health.seen(mark == "+")
        got.append(health.up)
    assert got == verdicts


class Node_:
    """A scraper's health page that answers as it is told."""

    status = 200
    delay_s = 0.0

    async def answer(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status, headers={"Location": "/-/ready"} if self.status == 302 else {})


@asynccontextmanager
async def node() -> AsyncIterator[tuple[Node_, tuple[str, int]]]:
    app, made = web.Application(), Node_()
    app.router.add_get("/-/ready", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield made, (host, port)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def published(membership: Any) -> AsyncIterator[list[Answer[Members]]]:
    """What a membership says while the block runs."""
    answers: list[Answer[Members]] = []
    task = asyncio.create_task(membership.run(answers.append))
    try:
        yield answers
        assert not task.done(), "it ran all the time"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_probe_says_nothing_until_every_node_has_a_verdict_then_always_the_whole_set() -> None:
    async with node() as (first, one), node() as (second, two):
        both = (scraper(one), scraper(two))
        probing = probing_every(0.05, 0.2)
        async with published(ProbeMembership("s", both, probing, log.get())) as answers:
            await until(lambda: Known(tuple(sorted(both))) in answers, "both up")
            assert all(isinstance(a, Unknown) for a in answers[: answers.index(Known(tuple(sorted(both))))])
            for trouble in ("status", "redirect", "frozen"):
                first.status = {"status": 503, "redirect": 302}.get(trouble, 200)
                first.delay_s = 10.0 if trouble == "frozen" else 0.0
                await until(lambda: answers[-1] == Known((both[1],)), f"the first down: {trouble}")
                first.status, first.delay_s = 200, 0.0
                await until(lambda: answers[-1] == Known(tuple(sorted(both))), "the first up again")
            first.status = second.status = 500
            await until(lambda: answers[-1] == Empty(), "none up")


def consul_membership(client: Client, *more: Any, **named: Any) -> ConsulMembership:
    return ConsulMembership(client, HealthWatch(client, "x", Catalogue(scraper), log.get()), *more, **named)


def test_a_process_that_stood_still_calls_nobody_dead() -> None:
    """It is stopped for half a minute in the middle of its probes: their time is over when it goes on."""
    answers: list[Answer[Members]] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, jumping.JumpingLoop)
        asked = asyncio.Event()

        async def slowly(_: web.Request) -> web.Response:
            asked.set()
            await asyncio.sleep(0.5)
            return web.Response()

        app = web.Application()
        app.router.add_get("/-/ready", slowly)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings = ProbeKeys(interval=1.0, timeout=1.0, unhealthy_after=1)
        probes = ProbeMembership("s", (scraper(("127.0.0.1", runner.addresses[0][1])),), settings, log.get())
        task = asyncio.create_task(probes.run(answers.append))
        try:
            await asyncio.sleep(5.0)
            assert isinstance(answers[-1], Known)
            while probes.probed["not_made"] < 3:  # on a busy machine an answer may be faster
                asked.clear()
                await asked.wait()
                loop.stand_still(30.0)
                await asyncio.sleep(3.0)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await runner.cleanup()
        assert probes.probed["failure"] == 0

    jumping.run(work())
    known = [isinstance(one, Known) for one in answers]
    assert all(known[known.index(True) :])


# --- registration ----------------------------------------------------------------------------------------------------


NODES = [("10.0.0.1", 1), ("10.0.0.1", 2)]
REGISTRATION = Registration("x", {node: {} for node in NODES}, "/-/healthy", 5.0, 2.0, frozenset({"promring_weight"}))


def entry(
    port: int, *, ours: bool, check: str | None = None, more: Mapping[str, str] | None = None, agent: str = "passing"
) -> HealthEntry:
    meta = {**MARK, CHECK: check or REGISTRATION.check, **(more or {})} if ours else None
    checks = [Check("serfHealth", agent), Check(f"service:x-{port}", "critical", f"x-{port}")]
    return HealthEntry(Node("n", "10.0.0.1"), Service(f"x-{port}", "x", "10.0.0.1", port, meta), checks)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], NODES),
        ([entry(1, ours=True)], NODES[1:]),
        ([entry(1, ours=True), entry(2, ours=True)], []),
        ([entry(1, ours=False)], []),
        ([entry(7, ours=False)], []),
        ([entry(7, ours=False), entry(1, ours=True)], NODES[1:]),
        ([entry(1, ours=True, more={"owner": "ops"}), entry(2, ours=True)], []),
        ([entry(1, ours=True, more={"promring_weight": "2"}), entry(2, ours=True)], NODES[:1]),
        ([entry(1, ours=True), entry(1, ours=True, check="/x every 9s within 1s"), entry(2, ours=True)], []),
        ([entry(1, ours=True, check="/x every 9s within 1s"), entry(2, ours=True)], NODES[:1]),
        ([entry(1, ours=True), entry(2, ours=True), entry(7, ours=True)], []),
        ([entry(1, ours=True, agent="critical"), entry(2, ours=True)], NODES[:1]),
        ([entry(n, ours=True, agent="critical") for n in (1, 2)], NODES),
        ([entry(1, ours=False, agent="critical")], []),
    ],
)
def test_registered_are_all_nodes_of_an_empty_service_and_the_lost_ones_of_ours(
    entries: list[HealthEntry], expected: list[tuple[str, int]]
) -> None:
    assert missing(REGISTRATION, entries) == expected


def test_what_promring_had_registered_is_registered_again_also_beside_those_of_others() -> None:
    others = [entry(7, ours=False), entry(2, ours=False)]
    assert missing(REGISTRATION, others, was_ours=True) == NODES[:1]
    assert missing(REGISTRATION, others) == []


async def test_scrapers_that_consul_forgot_come_back_beside_those_of_others_also_after_a_reload() -> None:
    said = io.StringIO()
    log.configure(stream=said)
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        first = Registrar(client, REGISTRATION, frozenset, lambda _: None, lambda: True, log.get())
        await first._once()
        assert len(consul.ids) == len(NODES)
        await consul.forget()
        await client.register({"ID": "others", "Name": "x", "Address": "10.0.0.9", "Port": 9})
        unknowing, after_a_reload = (
            Registrar(client, REGISTRATION, frozenset, lambda _: None, lambda: True, log.get()) for _ in range(2)
        )
        for _ in range(3):
            await unknowing._once()
        assert consul.ids == {"others"}, "after a restart nobody knows whose they were"
        (line,) = [one for one in said.getvalue().splitlines() if "register_left_to_others" in one]
        assert "10.0.0.1:1, 10.0.0.1:2" in line
        after_a_reload.go_on_from(first)
        await after_a_reload._once()
        assert len(consul.ids) == 1 + len(NODES)


async def test_a_check_says_whom_a_run_would_not_register_beside_those_of_others() -> None:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        assert await said_of_left(client, "x", NODES) == "", "a run registers all in an empty service"
        await client.register({"ID": "others", "Name": "x", "Address": "10.0.0.1", "Port": 2})
        said = await said_of_left(client, "x", NODES[:2])
        assert said.startswith("10.0.0.1:1: not in Consul's x, and others registered this service, so ")
        assert await said_of_left(client, "x", []) == ""
        await client.register({"ID": "ours", "Name": "x", "Address": "10.0.0.9", "Port": 9, "Meta": dict(MARK)})
        assert await said_of_left(client, "x", NODES) == "", "a run registers what is missing of its own"


def test_of_one_scraper_that_is_registered_twice_the_one_as_configured_counts() -> None:
    """With two agents: one died, the next leader registered it with its own, and the first came back."""
    wanted = Registration("x", {NODES[0]: {"promring_weight": "3"}}, "/-/healthy", 5.0, 2.0, frozenset({"promring_weight"}))

    def one(agent: str, more: Mapping[str, str]) -> HealthEntry:
        made = entry(1, ours=True, check=wanted.check, more=more)
        checks = [Check("serfHealth", "passing"), Check("service:x-1", "passing", "x-1")]
        return HealthEntry(Node(agent, "10.0.0.1"), made.service, checks)

    entries = [one("a1", {}), one("a2", {"promring_weight": "3"})]
    assert missing(wanted, entries) == []
    catalogue = Catalogue(lambda node, meta: replace(scraper(node), weight=float(meta.get("promring_weight", "1"))))
    catalogue.own_node = "a2"
    assert [s.weight for s in catalogue.members(entries)[0]] == [1.0]
    catalogue.as_wanted = wanted.is_met_by
    assert [s.weight for s in catalogue.members(entries)[0]] == [3.0]


async def test_a_catalogue_that_was_forgotten_is_registered_again_and_nobody_dies_of_it() -> None:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        membership = consul_membership(client, REGISTRATION, log.get(), tuple(map(scraper, NODES)))
        async with published(membership) as answers:
            everyone = Known(tuple(map(scraper, NODES)))
            await until(lambda: bool(answers) and answers[-1] == everyone, "both registered as alive")
            seen = len(answers)
            await consul.forget()
            await until(lambda: Empty() in answers[seen:] and answers[-1] == everyone, "both registered again")
            assert {a for a in answers[seen:] if isinstance(a, Known)} == {everyone}, "never a part of them"


def test_who_does_not_come_back_after_an_amnesia_is_waited_for_so_long_and_no_longer() -> None:
    async def told() -> None:
        async with FakeConsul() as consul, Client(Access(consul.address)) as client:
            everyone = tuple(map(scraper, NODES))
            membership = consul_membership(client, REGISTRATION, log.get(), everyone, settle_s=1.0)
            async with published(membership) as answers:
                await until(lambda: bool(answers) and answers[-1] == Known(everyone), "both registered as alive")
                seen = len(answers)
                consul.refuse_registration_of = 2
                await consul.forget()
                await until(lambda: any(isinstance(a, Unknown) for a in answers[seen:]), "one is back, one is not")
                assert not [a for a in answers[seen:] if isinstance(a, Known)]
                consul.flap("x-10.0.0.1-1", 8)  # other changes do not begin the wait again
                await until(lambda: answers[-1] == Known(everyone[:1]), "the other counted as dead", 5)

    jumping.run(told())


async def test_who_is_not_in_the_catalogue_when_consul_answers_again_is_waited_for() -> None:
    """It was started again without its data, and another controller registers the scrapers one by one."""
    everyone = tuple(map(scraper, NODES))
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        watch = HealthWatch(client, "x", Catalogue(scraper), log.get())
        membership, answers = ConsulMembership(client, watch, None, log.get(), settle_s=0.2), list[Answer[Members]]()
        membership._publish = answers.append

        def say(answer: Answer[Members], listed: Members) -> Answer[Members]:
            watch.catalogue.listed = listed
            membership._hand_on(answer)
            return answers[-1]

        assert say(Known(everyone), everyone) == Known(everyone)
        assert say(Known(everyone[:1]), everyone[:1]) == Known(everyone[:1]), "it was taken out"
        assert say(Known(everyone), everyone) == Known(everyone)
        say(Unknown("cannot connect"), everyone)
        assert say(Known(everyone[:1]), everyone) == Known(everyone[:1]), "its check fails: that is a death"
        say(Known(everyone), everyone)
        say(Unknown("cannot connect"), everyone)
        assert isinstance(say(Known(everyone[:1]), everyone[:1]), Unknown)
        assert say(Known(everyone), everyone) == Known(everyone), "it is back"
        say(Unknown("cannot connect"), everyone)
        assert isinstance(say(Known(everyone[:1]), everyone[:1]), Unknown)
        await until(lambda: answers[-1] == Known(everyone[:1]), "it does not come back", 5)


def test_a_second_amnesia_is_waited_for_anew() -> None:
    async def told() -> None:
        async with FakeConsul() as consul, Client(Access(consul.address)) as client:
            everyone = tuple(map(scraper, NODES))
            membership = consul_membership(client, REGISTRATION, log.get(), everyone, settle_s=4.0)
            async with published(membership) as answers:
                await until(lambda: bool(answers) and answers[-1] == Known(everyone), "both registered as alive")
                await consul.forget()
                await until(lambda: Empty() in answers and answers[-1] == Known(everyone), "back from the first")
                await asyncio.sleep(2.5)
                seen = len(answers)
                consul.refuse_registration_of = 2
                await consul.forget()
                await asyncio.sleep(1.8)  # the first wait would be over by now
                assert not [a for a in answers[seen:] if isinstance(a, Known)]
                consul.refuse_registration_of = None
                await until(lambda: answers[-1] == Known(everyone), "back from the second")

    jumping.run(told())


def test_a_registration_that_cannot_be_seen_is_said_and_not_done_again_and_again() -> None:
    async def told() -> None:
        async with FakeConsul() as consul, Client(Access(consul.address)) as client:
            consul.fault = "filtered"
            with structlog.testing.capture_logs() as lines:
                membership = consul_membership(client, REGISTRATION, structlog.get_logger())
                async with published(membership):
                    await until(lambda: any("not to be seen" in str(x.get("error")) for x in lines), "said", 25)
                    before = consul.registrations
                    consul.wake()
                    await asyncio.sleep(1)
                    assert consul.registrations == before <= 5 * len(NODES)

    jumping.run(told())


def test_the_registered_check_is_that_of_the_configuration() -> None:
    assert REGISTRATION.definition(("10.0.0.1", 1), {}, alive=False) == {
        "ID": "x-10.0.0.1-1",
        "Name": "x",
        "Address": "10.0.0.1",
        "Port": 1,
        "Meta": {**MARK, CHECK: "/-/healthy every 5s within 2s"},
        "Check": {
            "HTTP": "http://10.0.0.1:1/-/healthy",
            "Interval": "5000ms",
            "Timeout": "2000ms",
            "Status": "critical",
        },
    }


# --- the watch -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched(make: Any = scraper) -> AsyncIterator[tuple[FakeConsul, Client, list[Answer[Members]]]]:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        async with published(HealthWatch(client, "x", Catalogue(make), log.get())) as answers:
            yield consul, client, answers


async def register(client: Client, port: int, service_id: str | None = None, address: str = "10.0.0.1") -> None:
    check = {"TTL": "1h", "Status": "passing"}
    definition = {"ID": service_id or f"x-{port}", "Name": "x", "Address": address, "Port": port, "Check": check}
    await client.register(definition)


ONE, TWO = scraper(("10.0.0.1", 1)), scraper(("10.0.0.1", 2))


async def test_members_come_and_go_and_none_is_an_answer_of_its_own() -> None:
    async with watched() as (consul, client, answers):
        await until(lambda: bool(answers) and answers[-1] == Empty(), "an empty service")
        await register(client, 2)
        await register(client, 1)
        await until(lambda: answers[-1] == Known((ONE, TWO)), "both, sorted")
        await consul.remove("x-1")
        await until(lambda: answers[-1] == Known((TWO,)), "one gone")
        await consul.remove("x-2")
        await until(lambda: answers[-1] == Empty(), "none left")
        assert consul.indexes[0] is None


@pytest.mark.parametrize("fault", ["status 500", "status 403", "malformed", "deep", "html", "no index"])
async def test_no_usable_answer_is_unknown_and_the_next_read_starts_without_an_index(fault: str) -> None:
    async with watched() as (consul, client, answers):
        await register(client, 1)
        await until(lambda: bool(answers) and answers[-1] == Known((ONE,)), "one member")
        consul.fault = fault
        consul.wake()
        await until(lambda: isinstance(answers[-1], Unknown), "no answer noticed")
        assert consul.address in answers[-1].reason  # type: ignore[union-attr]
        asked, consul.fault = len(consul.indexes), None
        await until(lambda: answers[-1] == Known((ONE,)), "healed")
        assert consul.indexes[asked] is None


async def test_an_index_that_goes_back_is_dropped_and_everything_is_read_again() -> None:
    async with watched() as (consul, client, answers):
        await register(client, 1)
        await until(lambda: bool(answers) and answers[-1] == Known((ONE,)), "one member")
        for _ in range(5):
            consul.wake()
        await asyncio.sleep(0.5)
        asked = len(consul.indexes)
        await consul.forget()
        await register(client, 2)
        await until(lambda: answers[-1] == Known((TWO,)), "the new catalogue")
        assert None in consul.indexes[asked:]
        assert "0" not in consul.indexes


async def test_wake_ups_without_a_change_do_not_make_a_storm() -> None:
    async with watched() as (consul, client, answers):
        await register(client, 1)
        await until(lambda: bool(answers) and answers[-1] == Known((ONE,)), "one member")
        reads, since = consul.reads, time.monotonic()
        for _ in range(200):
            consul.wake()
            await asyncio.sleep(0.005)
        took = time.monotonic() - since
        assert answers[-1] == Known((ONE,))
        assert consul.reads - reads <= 2 + 10 * took + 2, "a burst of two, then ten a second"


async def test_the_second_instance_with_one_identity_is_refused() -> None:
    async with watched() as (_, client, answers):
        await register(client, 1, "x-a")
        await register(client, 1, "x-b")
        await register(client, 2)
        await until(lambda: bool(answers) and answers[-1] == Known((ONE, TWO)), "each identity once")
    async with watched(by_host) as (_, client, answers):
        await register(client, 1, "x-a")
        await register(client, 2, "x-b")
        await until(lambda: bool(answers) and answers[-1] == Known((Scraper("10.0.0.1", "10.0.0.1", 1),)), "the first id")


async def test_a_token_is_sent_never_shown(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("canary-3141\n")
    access = Access("127.0.0.1:1", token_file=token)
    assert "canary" not in repr(access)
    async with Client(access) as client:
        with pytest.raises(ConsulError) as caught:
            await client.instances("x")
        assert "canary" not in repr(client) + str(caught.value)
    token.unlink()
    async with Client(access) as client:
        with pytest.raises(ConsulError, match="cannot read"):
            await client.instances("x")


class Failing:
    """A membership that breaks each time it is run, and then answers."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, publish: Publish) -> None:
        self.runs += 1
        if self.runs < 3:
            raise ZeroDivisionError("a bug")
        publish(Known((scraper(("127.0.0.1", 1)),)))
        await asyncio.Event().wait()

    def listed(self) -> Members:
        return ()

    def nodes(self) -> list[NodeState]:
        return []

    def silent(self) -> str:
        return ""


async def test_a_membership_that_breaks_is_unknown_and_run_again_and_each_change_is_one_line() -> None:
    answers: list[Answer[Members]] = []
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(watch("s", Failing(), answers.append, structlog.get_logger()))
        await until(lambda: bool(answers) and isinstance(answers[-1], Known), "it answers")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unknown, Unknown, Known]
    said = [line["event"] for line in lines if line.get("srv_name") == "s"]
    assert said == [
        "membership_gives_no_answer",
        "membership_answers_again",
        "service_node_change_by_healthy_check",
    ]
