"""What is read of answers by hand: HTTP of a probe, headers, metrics, queries, and lines of programs."""

from __future__ import annotations

from pathlib import PurePath
from typing import TypeVar

import click

from fuzz.harness import JSON_WORDS, Parser, now, result
from promring.audit.answers import AuditError
from promring.audit.times import age_s, clock_of, interval_s
from promring.cli.client import Controller
from promring.consul.client import Access, Client
from promring.delivery.ansible_run import last_error, read_report
from promring.delivery.receiver import RefusedError
from promring.delivery.receiver_sh import TroubleError, parse_answer, was_written
from promring.demo.process import StartError
from promring.discovery.engine_applied import applied_of
from promring.discovery.engine_failures import Failures
from promring.discovery.engine_status import jobs_in, life_in, time_of
from promring.discovery.http import retry_after_s
from promring.importing.programs import answer_in
from promring.importing.running import targets_in
from promring.loads import LoadError
from promring.loads.promql import by_job
from promring.loads.series import read_series, read_targets
from promring.loads.vector import check, warning
from promring.membership.kept_answer import Answer, MalformedError
from promring.model import ConsulError, DiscoveryError, Generation
from promring.runtime.http_client import Response
from promring.web.answers.status import Event

T = TypeVar("T")
METRICS = b"""# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
prometheus_target_scrape_pool_sync_total{scrape_job="a\\"b"} 7
prometheus_target_scrape_pool_targets{scrape_job="a"} 3
prometheus_sd_discovered_targets{config="a",name="scrape"} 3
prometheus_sd_refresh_failures_total{config="a",mechanism="dns"} 2
prometheus_sd_consul_rpc_failures_total 1
prometheus_sd_kubernetes_http_request_total{status_code="403"} 1
prometheus_sd_failed_configs{name="scrape"} 1
prometheus_config_last_reload_successful 0
"""
QUERY = b"""{"status":"success","data":{"resultType":"vector","result":[
 {"metric":{"__name__":"scrape_samples_scraped","job":"job","instance":"a:1"},"value":[1.7e9,"12"]},
 {"metric":{"job":"job","instance":"b:1"},"value":[1,"NaN"]}]},"warnings":["a part is missing"]}"""
SERIES = b"""{"status":"success","data":{"activeTargets":[{"discoveredLabels":{"__promring_id__":"0000000000000001"},
 "labels":{"job":"job","instance":"a:1"},"scrapePool":"job","health":"up"},
 {"discoveredLabels":{"__promring_id__":"0000000000000001"},"labels":{},"scrapePool":"job","health":"up",
 "lastSamplesScraped":7}]}}

"""
PROBE = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
PROBE_IN_CHUNKS = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n"
WHEN = b"Wed, 21 Oct 2026 07:28:00 GMT\n2026-10-21T07:28:00.123456789Z\n15s\n120"
ENGINE = b"""{"status":"success","data":{"startTime":"2026-10-21T07:28:00Z","lastConfigTime":"2026-10-21T07:28:00Z",
 "serverTime":"","yaml":"scrape_configs: [{job_name: a}]"}}"""
REPORT = b"""{"host": "a:1", "result": "ok", "why": "written", "file": 3}
{"host": "b", "result": "unreachable", "why": "no route"}
"""
FAR = b"promring 0 written\npromring 1 refused 7.3\npromring 2 error no space\npromring 3 same\nsudo: hello\n"
PROMTOOL = b"""Checking prometheus.yml
  FAILED: parsing YAML file prometheus.yml: yaml: unmarshal errors:
  line 3: field consul_sd_configs not found in type config.ScrapeConfig
  line 7: cannot unmarshal !!str `x` into int
"""
SERVER = b"""level=error msg="Error loading config" err="parsing YAML file: yaml: line 2: did not find \\"-\\"\\n more"
"""
TARGETS = b"""{"status":"success","data":{"activeTargets":[{"discoveredLabels":{"__address__":"a:1"},"labels":{"job":"j"},
 "scrapePool":"j","scrapeUrl":"http://a:1/metrics","health":"up"}],"droppedTargets":[{"discoveredLabels":{}}]}}"""
EVENTS = b"""{"status":"success","data":[{"id":1,"ts":"2026-10-21T07:28:00.000Z","level":"info","msg":"node_same",
 "fields":{"a":"b"}}]}"""


def probe_answer(data: bytes) -> None:
    """In pieces of any length it is the same answer, or malformed as it was as a whole. The first byte is the length."""
    size, body = 1 + (data[0] if data else 0), data[1:]
    whole = result(lambda: _read([body]), MalformedError)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    pieces = result(lambda: _read(parts), MalformedError)
    assert whole == pieces, f"{whole} as a whole, {pieces} in pieces of {size}"


def _read(pieces: list[bytes]) -> tuple[int, bool]:
    """Status and whether the connection is kept, as soon as the answer is whole: whoever asks reads no further."""
    answer = Answer()
    for number, piece in enumerate(pieces):
        answer.feed(piece)
        if answer.status is not None:
            return answer.status, answer.keep and number == len(pieces) - 1
    answer.end()
    assert answer.status is not None
    return answer.status, answer.keep


def engine_metrics(data: bytes) -> None:
    found = applied_of(data, "life")
    if found is not None:
        failures = Failures()
        for now_s in (0.0, 1.0):
            failures.note(found.failures, found.not_started, found.life, {}, age_s=1.0, now=now_s)
        list(failures.of("a", {}, 2.0))
        assert all(count >= 0 for count in found.failures.values())


def engine_status(data: bytes) -> None:
    result(lambda: jobs_in(data), DiscoveryError)
    for date in ("", "Wed, 21 Oct 2026 07:28:00 GMT"):
        found = result(lambda date=date: life_in(data, date), DiscoveryError)  # type: ignore[misc]
        assert found is None or found[2] >= 0


def query_answer(data: bytes) -> None:
    for status in (200, 422):
        answer = Response(status, {}, data)
        body = result(lambda answer=answer: check(answer), LoadError)  # type: ignore[misc]
        if body is not None:
            result(lambda body=body: by_job(body, {"job"}), LoadError)  # type: ignore[misc]
        warning(answer)


def series_answer(data: bytes) -> None:
    """A list of targets, and behind an empty line the answer of the query for those without figures."""
    targets, _, figures = data.partition(b"\n\n")
    said = result(lambda: read_targets(targets, {"job": "s"}, {"s": frozenset({1})}), LoadError)
    if said is not None:
        result(lambda: read_series(figures, said), LoadError)
        for one in said.gathered.figures().values():
            assert ((one.values >= 0) & (one.values < float("inf"))).all()


class _Consul(Client):
    """Answers with this in the header that has the index."""

    def __init__(self, header: str) -> None:
        super().__init__(Access("127.0.0.1:1"))
        self._header = header

    async def _call(self, *_: object, **__: object) -> Response:
        return Response(200, {"x-consul-index": self._header}, b"[]")


def headers(data: bytes) -> None:
    """Times, durations and numbers in headers and fields: each line is tried as each of them."""
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:8]:
        for date in (line, "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 -0000"):
            after_s = retry_after_s({"retry-after": line, "date": date})
            assert 0 <= after_s < 1e12
        time_of(line)
        interval_s(line)
        clock = result(lambda line=line: clock_of({"date": line}), AuditError)  # type: ignore[misc]
        result(lambda line=line, clock=clock: age_s(line, clock or 1.7e9), AuditError)  # type: ignore[misc]
        consul = _Consul(line)
        for call in (lambda consul=consul: consul.instances("s"), lambda consul=consul: consul.key("k")):
            result(lambda call=call: now(call()), ConsulError)  # type: ignore[misc]


def ansible_report(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    list(read_report(text))
    last_error(text)


def far_receiver(data: bytes) -> None:
    """A refusal that is believed names a generation that is not older than the one that was offered."""
    offered = Generation(2, 2)
    for line in data.decode("utf-8", "replace").splitlines():
        answer = parse_answer(line)
        if answer is None:
            continue
        refused: Generation | None = offered
        try:
            was_written(answer, offered, PurePath("/sd/a.json"))
        except RefusedError as error:
            refused = error.have
        except TroubleError:
            continue
        assert refused is not None
        assert refused >= offered


def judging_program(data: bytes) -> None:
    """What promtool, or a Prometheus that does not start, prints: a reason at least, and each of them can be printed."""
    found = answer_in(data.decode(errors="replace"))
    assert found.refused or found.lacks
    for number, what in found.refused:
        assert number >= 0
        what.encode()


def started_targets(data: bytes) -> None:
    """Of a server that an import has started, with the labels before and after relabelling: as many targets."""
    both = [result(lambda key=key: targets_in(data, "u", discovered=key), StartError) for key in (True, False)]  # type: ignore[misc]
    sums = [None if one is None else (sum(sum(some.values()) for some in one[0].values()), one[1]) for one in both]
    assert sums[0] == sums[1]


class _Answering(Controller):
    """Answers with ``body`` whatever is asked."""

    body = b""

    def _exchange(self, method: str, path: str, sent: bytes, timeout_s: float, *, changes: bool) -> tuple[int, bytes, str]:
        return 200, self.body, ""


def controller_answer(data: bytes) -> None:
    """To a command of the command line: an answer, or a message on one line that no terminal obeys."""
    controller = type("One", (_Answering,), {"body": data})("http://a:1", "", False)
    message = ""
    try:
        controller.get("/api/v1/events", list[Event]).plain()
    except click.ClickException as error:
        message = error.message
    assert message.isprintable(), message


PARSERS: dict[str, Parser] = {
    "probe_answer": Parser(
        probe_answer,
        (b"\x03" + PROBE, b"\x00" + PROBE_IN_CHUNKS),
        (b"\r\n", b"\r\n\r\n", b"HTTP/1.0 ", b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: close"),
    ),
    "engine_metrics": Parser(engine_metrics, (METRICS,), (b"\n", b'="', b'"} ', b"\\", b"_failures_total", b"NaN", b"+Inf")),
    "engine_status": Parser(engine_status, (ENGINE,), JSON_WORDS, json=0),
    "query_answer": Parser(query_answer, (QUERY,), (*JSON_WORDS, b"result", b"metric", b"value", b"warnings"), json=0),
    "series_answer": Parser(series_answer, (SERIES + QUERY,), (*JSON_WORDS, b"activeTargets", b"\n\n"), json=0),
    "headers": Parser(headers, (WHEN,), (b" GMT", b" +0100", b"Mon, ", b" Jan ", b"T", b"Z", b"9999", b"\n")),
    "ansible_report": Parser(ansible_report, (REPORT,), (*JSON_WORDS, b"ERROR! ", b"[ERROR]: "), json=0),
    "far_receiver": Parser(far_receiver, (FAR,), (b"promring ", b"refused ", b"error ", b"need")),
    "judging_program": Parser(
        judging_program, (PROMTOOL, SERVER), (b"line 1: ", b"FAILED: ", b'err="', b"field x not found in type", b"\\ud800")
    ),
    "started_targets": Parser(started_targets, (TARGETS,), (*JSON_WORDS, b"discoveredLabels", b"droppedTargets"), json=0),
    "controller_answer": Parser(controller_answer, (EVENTS,), (*JSON_WORDS, b"error", b"\\u001b[2J"), json=0),
}
