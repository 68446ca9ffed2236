"""Sources that answer anything at all: over http, in files, from a Python function, and the files of their secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from promring.consul.access import Access
from promring.discovery import Source, SourceContext
from promring.discovery.consul import ConsulTargets
from promring.discovery.consul_source import ConsulSource
from promring.discovery.dns import DnsSource, DnsTargets
from promring.discovery.file import FileSource
from promring.discovery.polling import poll
from promring.discovery.prometheus import PrometheusTargets
from promring.fleet.facts import FactBoard
from promring.model import Known
from promring.runtime.redact import SecretUrl
from promring.telemetry import log
from tests.fakes.dns import NameServer
from tests.fakes.hostile import HostilePeer, Shape, bodies
from tests.hostile.drive import play_all, running
from tests.rows import Seen
from tests.sources import http_source, python_source
from tests.waiting import until

LIST = Shape(b"[", b'{"targets":["a:1","b:1"],"labels":{"x":"y"}}', b"]", keys=("targets", "labels"))
GOOD = LIST.body(LIST.good)


class Polled:
    """A source that is polled for a fact board, as a service does it."""

    def __init__(self, source: Source) -> None:
        self.cell = FactBoard().add("x", ["s"]).cells["s"]
        self.failures = self.asked = 0
        self.work = poll("s", source, self.cell.put, self._count, log.get())

    def _count(self, good: bool) -> None:
        self.asked += 1
        self.failures += not good

    def has_good(self) -> bool:
        return self.cell.fact.good is not None

    def answers(self) -> bool:
        return isinstance(self.cell.fact.newest, Known)


@pytest.mark.row(52, did="a source answers every hostile thing over http, another source is honest")
async def test_an_http_source_may_answer_anything_and_the_last_good_list_stays(seen: Seen) -> None:
    async with HostilePeer(LIST) as bad, HostilePeer(LIST) as good:
        first, second = (Polled(http_source(f"http://{peer.address}/sd", 0.05, 1.0)) for peer in (bad, good))
        async with running(second.work), running(first.work) as task:
            await until(lambda: first.has_good() and second.has_good(), "both lists")
            seen(await play_all(bad, task, kept=first.has_good, others=second.answers, slow_s=0.3))
            await until(first.answers, "believed again when it is honest")


@pytest.mark.row(52, did="hostile files of a file source: FIFO, device, folder, deep, huge, lying; each in turn")
async def test_a_file_source_may_find_anything_and_the_last_good_list_stays(tmp_path: Path, seen: Seen) -> None:
    path = tmp_path / "targets.json"
    path.write_bytes(GOOD)
    polled = Polled(FileSource([str(path)], 0.05))
    async with running(polled.work) as task:
        await until(polled.has_good, "the list")
        count = 0

        async def put(place: object) -> None:
            """In the place of the file; then it is read at least once more."""
            nonlocal count
            path.unlink(missing_ok=True)
            place()  # type: ignore[operator]
            asked, count = polled.asked, count + 1
            await until(lambda: polled.asked > asked + 1 or task.done(), "read again", 60)
            assert not task.done(), f"the loop ended: {task.exception()!r}"
            assert polled.has_good()

        for body in bodies(LIST).values():
            await put(lambda body=body: path.write_bytes(body))
        await put(lambda: os.mkfifo(path))
        await put(lambda: path.symlink_to("/dev/zero"))
        await put(lambda: path.symlink_to(path))
        await put(path.mkdir)
        path.rmdir()
        path.write_bytes(GOOD)
        await until(polled.answers, "believed again")
        seen(f"{count} hostile files, the last good list kept")


RUBBISH = {
    "None": "None",
    "a number": "5",
    "NaN": "float('nan')",
    "itself": "(lambda l: l.append(l) or l)([])",
    "deep": "__import__('functools').reduce(lambda a, _: [a], range(5000), [])",
    "bytes": "[{'targets': [b'\\xff']}]",
    "surrogates": "[{'targets': ['\\udcff:1']}]",
    "an object": "object()",
    "a generator": "(x for x in [1])",
    "raises": "1 / 0",
    "exits": "__import__('os')._exit(3)",
    "endless recursion": "(lambda f: f(f))(lambda f: f(f))",
}


@pytest.mark.row(52, did="a Python function returns rubbish of every kind")
async def test_a_python_source_may_return_anything_and_the_last_good_list_stays(tmp_path: Path, seen: Seen) -> None:
    chosen = tmp_path / "chosen"
    (tmp_path / "hostile_cmdb.py").write_text(
        "import pathlib\n"
        f"def targets():\n    return eval(pathlib.Path({str(chosen)!r}).read_text())\n"  # what the test chose
    )
    chosen.write_text(json.dumps([{"targets": ["a:1"]}]))
    polled = Polled(python_source("hostile_cmdb:targets", 0.05, 30.0, str(tmp_path)))
    async with running(polled.work) as task:
        await until(polled.has_good, "the list", 60)
        for name, value in RUBBISH.items():
            chosen.write_text(value)
            asked = polled.asked
            await until(lambda asked=asked: polled.asked > asked + 1 or task.done(), name, 60)  # type: ignore[misc]
            assert not task.done(), f"{name} ended the loop: {task.exception()!r}"
            assert polled.has_good(), name
    seen(f"{len(RUBBISH)} values, the last good list kept")


CONSUL_ENTRY = {
    "Node": {"Node": "n", "Address": "10.0.0.1", "Meta": {"a": "b"}, "TaggedAddresses": {"lan": "10.0.0.1"}},
    "Service": {"ID": "x-1", "Tags": ["t"], "Address": "", "Port": 1, "Meta": {}},
    "Checks": [{"CheckID": "service:x-1", "Status": "passing"}],
}
CATALOGUE = Shape(b"[", json.dumps(CONSUL_ENTRY).encode(), b"]", {"X-Consul-Index": "7"}, keys=("Node", "Service", "Checks"))


@pytest.mark.row(52, did="Consul answers every hostile thing to a source of targets, and to its watches")
async def test_consul_may_answer_anything_and_the_last_good_list_stays(long: bool, seen: Seen) -> None:
    async with HostilePeer(CATALOGUE) as consul, HostilePeer(CATALOGUE) as good:
        settings = ConsulTargets(services=["x"], datacenter="dc1", refresh_interval=0.05)
        first, second = (Polled(ConsulSource(Access(peer.address), settings)) for peer in (consul, good))
        async with running(second.work), running(first.work) as task:
            await until(lambda: first.has_good() and second.has_good(), "both lists")
            cut_off = frozenset({"no answer", "a trickle", "1xx for ever"})  # ten seconds each
            every = 1 if long else 3
            said = await play_all(consul, task, kept=first.has_good, others=second.answers, skip=cut_off, every=every)
            seen(said)
            await until(first.answers, "believed again when it is honest", 60)


ENGINE_ENTRY = {"discoveredLabels": {"__address__": "a:1", "__meta_x": "y"}, "scrapePool": "x", "health": "unknown"}
ENGINE = Shape(
    b'{"status":"success","data":{"yaml":"scrape_configs: [{job_name: x}]","startTime":"2020-01-01T00:00:00Z",'
    b'"lastConfigTime":"2020-01-01T00:00:00Z","activeTargets":[',
    json.dumps(ENGINE_ENTRY).encode(),
    b'],"droppedTargets":[],"droppedTargetCounts":{}}}',
    keys=tuple(ENGINE_ENTRY),
)


@pytest.mark.row(52, did="a Prometheus that discovers answers every hostile thing, another one is honest")
async def test_an_engine_may_answer_anything_and_the_last_good_list_stays(long: bool, seen: Seen) -> None:
    async with HostilePeer(ENGINE) as engine, HostilePeer(ENGINE) as good:
        first, second = (
            Polled(
                PrometheusTargets(
                    url=SecretUrl(f"http://{peer.address}"), scrape_pool="x", interval=0.05, timeout=1.0
                ).source(SourceContext(Path()))
            )
            for peer in (engine, good)
        )
        async with running(second.work), running(first.work) as task:
            await until(lambda: first.has_good() and second.has_good(), "both lists")
            every = 1 if long else 3
            said = await play_all(engine, task, kept=first.has_good, others=second.answers, slow_s=0.3, every=every)
            seen(said)
            await until(first.answers, "believed again when it is honest", 60)


DNS_TROUBLE = ("SERVFAIL", "REFUSED", "silent", "garbage", "other question", "cut")


@pytest.mark.row(52, did="a name server refuses, is silent, lies, cuts; about one name of two")
async def test_a_name_server_may_answer_anything_about_one_name_and_the_other_goes_on(tmp_path: Path, seen: Seen) -> None:
    many = [f"0 0 {port} host-{port}.some.long.name.of.many.test." for port in range(1000, 1200)]
    async with NameServer({"a.test. SRV": ["0 0 1 a.test."], "many.test. SRV": many}) as names:
        conf = tmp_path / "resolv.conf"
        conf.write_text(f"nameserver {names.host}\n")
        settings = DnsTargets(names=["a.test.", "many.test."], refresh_interval=0.05)
        polled = Polled(DnsSource(settings, resolv_conf=conf, server_port=names.port))
        async with running(polled.work) as task:
            await until(polled.answers, "the list")
            good = polled.cell.fact.good
            for trouble in DNS_TROUBLE:
                names.trouble["many.test."] = trouble
                asked = polled.asked
                await until(lambda asked=asked: polled.asked > asked + 1 or task.done(), trouble, 60)  # type: ignore[misc]
                assert not task.done(), f"{trouble} ended the loop: {task.exception()!r}"
                assert "many.test." in polled.cell.fact.trouble, trouble
                assert polled.cell.fact.good is good, trouble
                names.trouble["many.test."] = "lies"  # an answer with another number first: not heard
                await until(lambda: not polled.cell.fact.trouble, f"well again after {trouble}", 60)
            seen(f"{', '.join(DNS_TROUBLE)}: the last list of that name stays, the other is fresh")
