"""What Consul says of a scraper, and what promring makes of it: maintenance, warnings, dead agents, broken instances."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiohttp import web

from promring.config.load import loads
from promring.consul import instances, watch
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.instances import MARK, Check, HealthEntry, Node, Service, decode_instances
from promring.consul.registration import Registration
from promring.consul.watch import CAUTIOUS_WAIT_S, HealthWatch
from promring.core.pool import pool_of
from promring.core.standing import History
from promring.core.verdicts import Hold
from promring.membership.consul import SEEN_MAX, ConsulMembership
from promring.membership.direct import DirectProbes
from promring.membership.watching import Changes
from promring.model import (
    Answer,
    ConfigError,
    ConsulError,
    Empty,
    Fact,
    Known,
    Members,
    Scraper,
    TargetGroup,
    Unknown,
    Waiting,
)
from promring.telemetry import log
from tests.fakes.consul import FakeConsul
from tests.judging import Act, Facts, Guard, judge
from tests.unit.test_membership import node, published
from tests.waiting import until

LIVE, DEAD, DRAINED = (True, False), (False, False), (True, True)
SERF, NODE_CHECK, NODE_MAINTENANCE = "serfHealth", "disk", "_node_maintenance"
OWN, MAINTENANCE = "service:x-1", "_service_maintenance:x-1"


def scraper(place: tuple[str, int], _: Any = None) -> Scraper:
    return Scraper(f"{place[0]}:{place[1]}", *place)


def entry(checks: dict[str, str], *, ours: bool = False, where: str = "far") -> HealthEntry:
    made = [Check(c, status, "x-1" if "x-1" in c else "") for c, status in checks.items()]
    service = Service("x-1", "x", "10.0.0.1", 1, dict(MARK) if ours else None)
    return HealthEntry(Node(where, "10.0.0.9"), service, made)


@pytest.mark.parametrize(
    ("checks", "foreign", "beside_us"),
    [
        ({}, LIVE, LIVE),
        ({SERF: "passing", OWN: "passing"}, LIVE, LIVE),
        ({SERF: "passing", OWN: "critical"}, DEAD, DEAD),
        ({SERF: "passing", OWN: "something else"}, DEAD, DEAD),
        ({SERF: "passing", OWN: "passing", MAINTENANCE: "critical"}, DRAINED, DRAINED),
        ({SERF: "passing", MAINTENANCE: "critical"}, DRAINED, DRAINED),
        ({SERF: "passing", OWN: "critical", MAINTENANCE: "critical"}, (False, True), (False, True)),
        ({SERF: "passing", OWN: "passing", NODE_MAINTENANCE: "critical"}, DRAINED, LIVE),
        ({SERF: "passing", OWN: "critical", NODE_MAINTENANCE: "critical"}, (False, True), DEAD),
        ({SERF: "passing", OWN: "passing", NODE_CHECK: "critical"}, DEAD, LIVE),
        ({SERF: "critical", OWN: "passing"}, DEAD, (None, False)),
        ({SERF: "critical", OWN: "critical"}, DEAD, (None, False)),
        ({SERF: "critical", OWN: "passing", MAINTENANCE: "critical"}, (False, True), (None, True)),
        ({SERF: "passing", NODE_CHECK: "critical"}, DEAD, (None, False)),
        ({SERF: "passing", NODE_MAINTENANCE: "critical"}, DRAINED, (None, False)),
    ],
)
def test_who_lives_and_who_is_drained_by_its_checks(
    checks: dict[str, str], foreign: tuple[bool | None, bool], beside_us: tuple[bool | None, bool]
) -> None:
    assert entry(checks).condition(own_node="near")[:2] == foreign
    assert entry(checks, ours=True).condition()[:2] == beside_us, "promring registered it, with some agent beside it"
    assert entry(checks, where="near").condition(own_node="near")[:2] == beside_us


@pytest.mark.parametrize(
    ("kind", "output", "alive"),
    [
        ("http", "", None),
        ("tcp", None, None),
        ("http", "connection refused", False),
        ("ttl", "", False),
        ("", "", False),
        (["http"], "", False),
    ],
)
def test_a_check_that_its_agent_has_not_made_yet_says_nothing(kind: object, output: object, alive: bool | None) -> None:
    """It is critical since its agent was started, or it was registered. Others that did fail go before it."""
    made = [Check(SERF, "passing"), Check(OWN, "critical", "x-1", kind, output)]
    one = HealthEntry(Node("far", "10.0.0.9"), Service("x-1", "x", "10.0.0.1", 1), made)
    assert one.condition()[0] is alive
    assert HealthEntry(one.node, one.service, [*made, Check("more", "critical", "x-1")]).condition()[0] is False
    passing = HealthEntry(one.node, one.service, [made[0], Check(OWN, "passing", "x-1", kind, output)])
    assert passing.condition()[0] is True


@pytest.mark.parametrize("check", [OWN, NODE_CHECK])
def test_a_warning_takes_nobody_away_unless_told(check: str) -> None:
    warned = entry({SERF: "passing", check: "warning"})
    assert warned.condition() == (True, False, True, "warning in Consul")
    assert warned.condition(warning_is_dead=True)[0] is False
    assert warned.condition(warning_is_dead=True).why == f"warning in Consul: {check}"


def test_the_weight_is_promrings_or_consuls() -> None:
    service = Service("x-1", "x", "10.0.0.1", 1, None, instances.Weights(5, 2))
    warned, fine = Check(OWN, "warning", "x-1"), Check(OWN, "passing", "x-1")
    for check, weight in ((fine, 5), (warned, 2)):
        one = HealthEntry(Node("n"), service, [check])
        assert one.weight(one.condition()) == weight
    by_node = HealthEntry(Node("n", meta={"promring_weight": "3"}), service, [fine])
    assert by_node.weight(by_node.condition()) is None


# --- answers ---------------------------------------------------------------------------------------------------------


GOOD = {"Node": {"Node": "n", "Address": "10.0.0.1"}, "Service": {"ID": "good", "Service": "x", "Port": 1}, "Checks": []}


@pytest.mark.parametrize(
    "bad",
    [
        7, None, [], {}, "text", {"Node": None, "Service": {"ID": "bad"}}, {"Node": {}, "Service": None},
        {"Node": {}, "Service": {"ID": "bad", "Port": "9090"}}, {"Node": {}, "Service": {"ID": "bad", "Port": 1e300}},
        {"Node": {}, "Service": {"ID": "bad", "Meta": {"a": 1}}}, {"Node": {}, "Service": {"ID": "bad", "Port": None}},
        {"Node": {}, "Service": {"ID": "bad", "Weights": {"Passing": "x"}}},
        {"Node": {}, "Service": {"ID": "bad"}, "Checks": [7]}, {"Node": {}, "Service": {"ID": ["bad"]}},
    ],
)  # fmt: skip
def test_one_instance_that_makes_no_sense_is_left_out_and_named(bad: object) -> None:
    for listed in ([GOOD, bad], [bad, GOOD]):
        entries, broken = decode_instances(json.dumps(listed).encode())
        assert [e.service.id for e in entries] == ["good"]
        assert len(broken) == 1
        assert next(iter(broken)) in ("bad", "number 0", "number 1")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"7", b"nul", b"[", b"[7]",
        b'[{"Node": 7}]', b"[" + b"[" * 50_000 + b"]" * 50_000 + b"]", b"\xff", b"[1,]",
        b'[{"Node":{},"Service":{}}', b"[" + b"{}," * 1_100_000 + b"{}]", b"[" + b"1," * 4_000_000 + b"1]",
        b"[" + b'{"Node":{},"Service":{}},' * 300_000 + b'{"Node":{},"Service":{}}]',
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_an_answer_of_which_nothing_can_be_understood_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_instances(body)


def test_an_answer_may_be_null_or_empty_and_leave_out_what_go_leaves_out() -> None:
    assert decode_instances(b"null") == ([], {})
    assert decode_instances(b" [ ] ") == ([], {})
    (one,), broken = decode_instances(b'[{"Node": {}, "Service": {}}]')
    assert broken == {}
    assert (one.service.port, one.host, one.metadata, one.condition().alive) == (0, "", {}, True)


# --- the watch -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched(
    cautious_wait_s: float = CAUTIOUS_WAIT_S, **more: Any
) -> AsyncIterator[tuple[FakeConsul, Client, list[Answer[Members]], list[Any]]]:
    """A watch of the service x, what it says, and its log."""
    with structlog.testing.capture_logs() as lines:
        async with FakeConsul() as consul, Client(Access(consul.address)) as client:
            catalogue, logger = Catalogue(scraper, **more), structlog.get_logger()
            watch = HealthWatch(client, "x", catalogue, logger, cautious_wait_s=cautious_wait_s)
            async with published(watch) as answers:
                yield consul, client, answers, lines


async def register(client: Client, port: int, address: str = "10.0.0.1", name: str = "", **more: Any) -> None:
    check = {"TTL": "1h", "Status": "passing"}
    definition = {"ID": name or f"x-{port}", "Name": "x", "Address": address, "Port": port, "Check": check, **more}
    await client.register(definition)


async def put(client: Client, path: str) -> None:
    async with client.session.put(client.url.with_path(path.partition("?")[0]).with_query(path.partition("?")[2])) as answer:
        assert answer.status == 200


ONE, TWO = scraper(("10.0.0.1", 1)), scraper(("10.0.0.1", 2))
ONE_DRAINED = Scraper(ONE.id, ONE.host, ONE.port, draining=True)


async def test_maintenance_drains_and_undrains_and_a_death_in_it_is_a_death() -> None:
    async with watched() as (consul, client, answers, _):
        await register(client, 1)
        await register(client, 2)
        await until(lambda: answers[-1:] == [Known((ONE, TWO))], "both")
        seen = len(answers)
        await put(client, "/v1/agent/service/maintenance/x-1?enable=true")
        await until(lambda: answers[-1] == Known((ONE_DRAINED, TWO)), "drained")
        await put(client, "/v1/agent/check/fail/service:x-1")
        await until(lambda: answers[-1] == Known((TWO,)), "dead")
        await put(client, "/v1/agent/check/pass/service:x-1")
        await put(client, "/v1/agent/service/maintenance/x-1?enable=false")
        await until(lambda: answers[-1] == Known((ONE, TWO)), "back")
        assert Empty() not in answers[seen:]
        with structlog.testing.capture_logs() as said:
            changes = Changes("x", structlog.get_logger())
            for answer in answers:
                changes.say(answer)
        assert any(line.get("in_maintenance") == ONE.id for line in said)
        consul.node = "another"  # that of an agent that is not ours: the scrapers stand beside it
        consul.elsewhere = {"x-1": "far"}
        consul.set_node_check("far", "_node_maintenance", "critical")
        await until(lambda: answers[-1] == Known((ONE_DRAINED, TWO)), "drained with its node")


async def test_what_is_said_of_the_agent_beside_promring_says_nothing_about_scrapers() -> None:
    async with watched() as (consul, client, answers, _):
        await register(client, 1)
        await register(client, 2)
        await until(lambda: answers[-1:] == [Known((ONE, TWO))], "both")
        seen = len(answers)
        for check in ("_node_maintenance", "disk"):
            reads = consul.reads
            consul.set_node_check(consul.node, check, "critical")
            await until(lambda reads=reads: consul.reads > reads, "read again")  # type: ignore[misc]
            await put(client, "/v1/agent/check/fail/service:x-2")
            await until(lambda: answers[-1] == Known((ONE,)), "its own check still counts")
            await put(client, "/v1/agent/check/pass/service:x-2")
            await until(lambda: answers[-1] == Known((ONE, TWO)), "again")
        assert {a for a in answers[seen:] if isinstance(a, Known)} == {Known((ONE, TWO)), Known((ONE,))}


async def test_scrapers_whose_agent_beside_promring_died_are_asked_directly() -> None:
    async with node() as (page, place), FakeConsul() as consul, Client(Access(consul.address)) as client:
        gone = ("127.0.0.1", 1)
        health = HealthWatch(client, "x", Catalogue(scraper), log.get())
        probes = DirectProbes("/-/ready", 0.5)
        membership = ConsulMembership(client, health, None, log.get(), probes=probes)
        async with published(membership) as answers:
            both = Known(tuple(sorted([scraper(place), scraper(gone)])))
            for host, port in (place, gone):
                await register(client, port, host, Meta=dict(MARK))
            await until(lambda: answers[-1:] == [both], "both live")
            seen = len(answers)
            consul.elsewhere = dict.fromkeys([f"x-{place[1]}", "x-1"], "far")
            consul.dead_agents = {"far"}
            consul.wake()
            await until(lambda: answers[-1] == Known((scraper(place),)), "who answers stays, who does not leaves")
            assert all(a in (both, answers[-1]) for a in answers[seen:])
            states = {one.id: one for one in membership.nodes()}
            assert states[scraper(gone).id].state == "down"
            assert "asked directly: serfHealth of node far" in states[scraper(gone).id].reason
            page.status = 503
            await until(lambda: answers[-1] == Empty(), "it does not answer any more")
            page.status = 200
            await until(lambda: answers[-1] == Known((scraper(place),)), "it does again")
            consul.dead_agents = set()
            consul.wake()
            await until(lambda: answers[-1] == both, "Consul can tell again")
            assert health.catalogue.unsure == ()


async def test_a_scraper_that_was_dead_from_the_start_is_shown_and_no_living_one_is_left_out() -> None:
    """It was on no page and in no metric until it had lived once; of more than a thousand living ones not all were shown."""
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        membership = ConsulMembership(client, HealthWatch(client, "x", Catalogue(scraper), log.get()), None, log.get())
        async with published(membership) as answers:
            await register(client, 1)
            await put(client, "/v1/agent/check/fail/service:x-1")
            await until(lambda: answers[-1:] == [Empty()], "nobody lives")
            assert [(one.id, one.state, one.reason) for one in membership.nodes()] == [
                (ONE.id, "down", "critical in Consul: service:x-1")
            ]
            for port in range(2, SEEN_MAX + 4):
                await register(client, port)
            await until(lambda: len(membership.nodes()) == SEEN_MAX + 3, "all of them are shown")
            assert Counter(one.state for one in membership.nodes()) == {"down": 1, "up": SEEN_MAX + 2}


@pytest.mark.parametrize(
    "said", ['Selector "Nonsense" is not valid', 'Invalid query parameter: "partition" - …s are a feature']
)
async def test_what_consul_says_of_a_query_is_said_in_its_words(said: str) -> None:
    """What was asked for was taken for a secret: ``Selector "***" is not valid``."""
    asked: list[tuple[str, str]] = []

    async def refuse(request: web.Request) -> web.Response:
        asked.extend(request.query.items())
        return web.Response(status=500, text=f"{said} {request.headers['X-Consul-Token']}")

    app = web.Application()
    app.router.add_get("/v1/health/service/web", refuse)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with Client(Access(f"{host}:{port}", token="a-secret-token")) as client:
            query = [("partition", "default"), ("filter", "Nonsense == 1"), ("node-meta", "a:b"), ("node-meta", "c:d")]
            with pytest.raises(ConsulError) as caught:
                await client.read("/v1/health/service/web", query)
    finally:
        await runner.cleanup()
    assert said in str(caught.value)
    assert "a-secret-token" not in str(caught.value)
    assert asked == query


async def test_a_warning_weighs_what_consul_says_and_takes_away_only_when_told() -> None:
    heavy = Scraper(ONE.id, ONE.host, ONE.port, weight=100.0)
    lighter = Scraper(ONE.id, ONE.host, ONE.port, weight=3.0)
    async with watched() as (_, client, answers, __):
        await register(client, 1, Weights={"Passing": 5000, "Warning": 3})
        await until(lambda: answers[-1:] == [Known((heavy,))], "no more than a scraper may have")
        await put(client, "/v1/agent/check/warn/service:x-1")
        await until(lambda: answers[-1] == Known((lighter,)), "the weight of a warning")
    async with watched(warning_is_dead=True) as (_, client, answers, __):
        await register(client, 1)
        await put(client, "/v1/agent/check/warn/service:x-1")
        await until(lambda: answers[-1:] == [Empty()], "told that a warning is death")


@pytest.mark.parametrize(
    "address", [" ", "\0", "../../x", "host/path?x", "user:pw@h", "a" * 300, "10.0.0.01", "h:1", "http://h", "::1%lo"]
)
async def test_an_instance_without_a_sound_address_is_left_out_and_named_once(address: str) -> None:
    async with watched() as (consul, client, answers, lines):
        await register(client, 1)
        await register(client, 2, address, name="odd")
        await until(lambda: answers[-1:] == [Known((ONE,))], "the other")
        for _ in range(3):
            reads = consul.reads
            consul.wake()
            await until(lambda reads=reads: consul.reads > reads, "read again")  # type: ignore[misc]
        refused = [line for line in lines if line["event"] == "consul_instance_refused"]
        assert [line["id"] for line in refused] == ["odd"]


async def test_the_same_address_in_other_spellings_is_one_scraper_and_the_others_are_named() -> None:
    spellings = ["2001:db8::a", "2001:DB8:0:0:0:0:0:A", "[2001:db8::A]", "2001:db8:0::00a"]
    async with watched() as (_, client, answers, lines):
        for number, spelling in enumerate(spellings):
            await register(client, 1, spelling, name=f"s-{number}")
        await register(client, 2, "Prom.Example.", name="n-0")
        await register(client, 2, "prom.example", name="n-1")
        wanted = Known(tuple(sorted([scraper(("2001:db8::a", 1)), scraper(("prom.example", 2))])))

        def named() -> list[str]:
            return sorted({line["id"] for line in lines if line["event"] == "consul_instance_refused"})

        await until(lambda: answers[-1:] == [wanted] and named() == ["n-1", "s-1", "s-2", "s-3"], "one of each")


@pytest.mark.parametrize("kind", ["connect-proxy", "mesh-gateway"])
def test_a_proxy_of_the_service_mesh_under_the_name_of_the_scrapers_is_none(kind: str) -> None:
    body = json.dumps(
        [
            {"Node": {"Node": "n"}, "Service": {"ID": "x-1", "Service": "x", "Address": ONE.host, "Port": 1, "Kind": ""}},
            {"Node": {"Node": "n"}, "Service": {"ID": "x-proxy", "Service": "x", "Port": 21000, "Kind": kind}},
        ]
    )
    one, proxy = decode_instances(body.encode())[0]
    assert one.place() == (ONE.host, 1)
    with pytest.raises(ValueError, match=f"it is a {kind} of the service mesh, not a scraper"):
        proxy.place()


async def test_a_broken_or_portless_instance_hides_no_death() -> None:
    async with watched() as (consul, client, answers, lines):
        await register(client, 1)
        await register(client, 2)
        await register(client, 0, name="portless")
        await until(lambda: answers[-1:] == [Known((ONE, TWO))], "both")
        await consul.remove("x-2")
        await until(lambda: answers[-1] == Known((ONE,)), "a death")
        refused = {line["id"]: line["why"] for line in lines if line["event"] == "consul_instance_refused"}
        assert refused == {"portless": "it has no port"}
        one = {
            "Node": {"Node": "n"},
            "Service": {"ID": "x-2", "Service": "x", "Address": TWO.host, "Port": 2},
            "Checks": None,
        }
        consul.raw = json.dumps([one, {"Node": {}, "Service": {"ID": "broken", "Port": "x"}}]).encode()
        consul.wake()
        await until(lambda: answers[-1] == Known((TWO,)), "what can be understood")
        refused = {line["id"]: line["why"] for line in lines if line["event"] == "consul_instance_refused"}
        assert refused["broken"].startswith("malformed: ")


async def test_a_thousand_refused_instances_are_a_few_lines() -> None:
    async with watched() as (consul, _, answers, lines):
        bad = [{"Node": {}, "Service": {"ID": f"b-{n}", "Port": 0}} for n in range(1000)]
        good = {"Node": {}, "Service": {"ID": "x-1", "Address": ONE.host, "Port": 1}}
        consul.raw = json.dumps([*bad, good]).encode()
        consul.wake()
        await until(lambda: answers[-1:] == [Known((ONE,))], "the good one")
        await until(lambda: any("more" in line for line in lines), "said how many more")
        assert len([line for line in lines if line["event"] == "consul_instance_refused"]) == watch.SAID_MOST + 1


@pytest.mark.parametrize("modern", [True, False], ids=["1.11 and newer", "older"])
async def test_what_a_token_may_not_see_is_not_none(modern: bool) -> None:
    async with FakeConsul(modern=modern) as consul, Client(Access(consul.address)) as client:
        async with published(HealthWatch(client, "x", Catalogue(scraper), log.get())) as answers:
            await register(client, 1)
            await until(lambda: answers[-1:] == [Known((ONE,))], "seen")
            seen = len(answers)
            consul.hides = True
            consul.wake()
            await until(lambda: isinstance(answers[-1], Unknown), "filtered")
            assert Empty() not in answers[seen:]
            assert 'service "x" read, and node_prefix "" read' in answers[-1].reason  # type: ignore[union-attr]


async def test_an_error_is_followed_by_short_waits_and_full_reads() -> None:
    async with watched(cautious_wait_s=0.2) as (consul, client, answers, _):
        await register(client, 1)
        await until(lambda: answers[-1:] == [Known((ONE,))], "seen")
        consul.fault = "status 500"
        consul.wake()
        await until(lambda: isinstance(answers[-1], Unknown), "no answer")
        consul.fault = None
        await until(lambda: answers[-1] == Known((ONE,)), "healed")
        asked = len(consul.indexes)
        await until(lambda: consul.indexes[asked:].count(None) >= 2, "read in full again and again")


async def test_answers_that_do_not_wait_set_no_pace_and_hide_no_change() -> None:
    async with watched() as (consul, client, answers, lines):
        await register(client, 1)
        await until(lambda: answers[-1:] == [Known((ONE,))], "seen")
        consul.fault = "answers at once"
        consul.wake()
        await until(lambda: any(line["event"] == "consul_does_not_wait" for line in lines), "said")
        asked = consul.reads
        await register(client, 2)
        await until(lambda: answers[-1] == Known((ONE, TWO)), "the change is seen")
        assert consul.reads <= asked + 3, "one a second"


async def test_an_index_that_goes_back_again_and_again_is_said_once_a_minute() -> None:
    async with watched() as (consul, client, answers, lines):
        for _ in range(3):
            await register(client, 1)
            await register(client, 2)
            await until(lambda: answers[-1:] == [Known((ONE, TWO))], "seen")
            await consul.forget()
            await until(lambda: answers[-1] == Empty(), "forgotten")
        assert [line["event"] for line in lines].count("consul_index_went_back") == 1


async def test_a_watch_that_is_silent_for_longer_than_an_answer_takes_says_so() -> None:
    async with FakeConsul() as consul, Client(Access(consul.address)) as client:
        membership = ConsulMembership(
            client, HealthWatch(client, "x", Catalogue(scraper), log.get()), None, log.get(), silent_s=0.5
        )
        async with published(membership) as answers:
            await register(client, 1)
            await until(lambda: answers[-1:] == [Known((ONE,))], "seen")
            consul.raw = b'[{"Node": 7}]'
            consul.wake()
            await until(lambda: membership.silent() != "", "too long without an answer")
            assert "malformed answer" in membership.silent()
            consul.raw = None
            await until(lambda: membership.silent() == "", "an answer")


# --- datacenters, environment ----------------------------------------------------------------------------------------


async def test_nothing_is_registered_with_an_agent_of_another_datacenter() -> None:
    wanted = Registration("x", {("10.0.0.1", 1): {}}, "/", 5.0, 2.0)
    with structlog.testing.capture_logs() as lines:
        async with FakeConsul() as consul, Client(Access(consul.address, datacenter="DC2")) as client:
            logger = structlog.get_logger()
            membership = ConsulMembership(client, HealthWatch(client, "x", Catalogue(scraper), logger), wanted, logger)
            async with published(membership):
                await until(lambda: any(line["event"] == "register_failed" for line in lines), "refused")
                await asyncio.sleep(1.5)
                assert consul.registrations == 0
                assert set(consul.asked_for) == {"DC2"}
            (said,) = [line["error"] for line in lines if line["event"] == "register_failed"]
            assert "is an agent of datacenter dc1 and registers there only" in said
            consul.datacenter = "dc2"
            async with published(
                ConsulMembership(client, HealthWatch(client, "x", Catalogue(scraper), logger), wanted, logger)
            ):
                await until(lambda: consul.registrations == 1, "registered with an agent of the datacenter")


def test_a_variable_of_the_environment_that_cannot_be_used_is_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = """
consul: {address: "127.0.0.1:8500"}
shard_services:
  - name: x
    scrapers: {consul: {service: x}}
    targets: [{http: {url: http://127.0.0.1/}}]
    delivery: [{http_sd: {}}]
"""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "not an address")  # the configuration has one
    monkeypatch.setenv("CONSUL_HTTP_SSL", "ja")
    with pytest.raises(ConfigError, match="CONSUL_HTTP_SSL must be true or false") as caught:
        loads(text)
    assert len(caught.value.problems) == 1
    with pytest.raises(ConfigError, match="CONSUL_HTTP_ADDR is not host:port"):
        loads(text.replace('{address: "127.0.0.1:8500"}', "{}"))
    assert loads(text.replace("consul: {service: x}", "probe: {nodes: ['10.0.0.1:1']}"))


# --- the guard -------------------------------------------------------------------------------------------------------


def test_a_draining_scraper_counts_as_alive_and_all_of_them_draining_keep_the_plan() -> None:
    pool = pool_of((TargetGroup.of(["a:1"]),))

    def judged(members: Members) -> Act | Hold:
        fact: Fact[Members] = Fact(Known(members), 0.0, Known(members), 0.0)
        sources = {"s": Fact(Known(pool), 0.0, Known(pool), 0.0)}
        return judge(Facts(fact, sources), History.of((ONE, TWO)), Guard(), 100.0, planned={"s": pool}).verdict

    two_drained = replace(TWO, draining=True)
    acts = judged((ONE_DRAINED, TWO))
    assert isinstance(acts, Act)
    assert acts.members == (ONE_DRAINED, TWO), "no death, no panic"
    assert acts.withheld == ()
    held = judged((ONE_DRAINED, two_drained))
    assert isinstance(held, Hold)
    assert (held.reason, held.detail) == (
        "no_scrapers",
        "every live scraper is drained or has weight 0; the last plan stays",
    )


def test_one_failure_after_another_is_no_recovery() -> None:
    with structlog.testing.capture_logs() as lines:
        changes = Changes("x", structlog.get_logger())
        for answer in (Unknown("refused"), Unknown("no answer within 5 s"), Unknown("status 500"), Waiting("1"), Empty()):
            changes.say(answer)
    said = [line["event"] for line in lines]
    assert said == [*["membership_gives_no_answer"] * 3, "membership_answers_again", "service_has_no_healthy_node"]
