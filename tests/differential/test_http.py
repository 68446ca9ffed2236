"""The same HTTP answers through promring's http source and real Prometheus 2.42 and 3.5."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from testbed.sdoracle import Targets

from promring.demo.process import free_port
from promring.model import DiscoveryError
from promring.runtime.http_client import new_session
from tests.differential.corpus import JSON
from tests.differential.oracle import SETTLED_S, Oracle, oracles
from tests.differential.readings import CONTROLS, shown, targets_of
from tests.differential.test_lists import OLD, names_are_old
from tests.real.conftest import server
from tests.rows import Seen
from tests.sources import http_source

pytestmark = pytest.mark.real

MARKER = "marker:1"
ONE = b'[{"targets":["a:1"],"labels":{"x":"y"}}]'
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    status: int = 200


REPLIES: dict[str, Reply] = {
    **{f"list-{name}": Reply(text) for name, text in JSON.items() if len(text) < 10_000},
    "charset": Reply(ONE, {"Content-Type": "application/json; charset=utf-8"}),
    "charset-quoted": Reply(ONE, {"Content-Type": 'application/json; charset="utf-8"'}),
    "charset-no-space": Reply(ONE, {"Content-Type": "application/json;charset=UTF-8"}),
    "charset-latin": Reply(ONE, {"Content-Type": "application/json; charset=iso-8859-1"}),
    "parameter": Reply(ONE, {"Content-Type": "application/json; version=1"}),
    "upper": Reply(ONE, {"Content-Type": "Application/JSON"}),
    "text-json": Reply(ONE, {"Content-Type": "text/json"}),
    "text": Reply(ONE, {"Content-Type": "text/plain"}),
    "problem": Reply(ONE, {"Content-Type": "application/problem+json"}),
    "octets": Reply(ONE, {"Content-Type": "application/octet-stream"}),
    "gzip": Reply(gzip.compress(ONE), {**_JSON, "Content-Encoding": "gzip"}),
    "gzip-broken": Reply(gzip.compress(ONE)[:-6], {**_JSON, "Content-Encoding": "gzip"}),
    "gzip-lie": Reply(ONE, {**_JSON, "Content-Encoding": "gzip"}),
    "identity": Reply(ONE, {**_JSON, "Content-Encoding": "identity"}),
    **{f"status-{status}": Reply(ONE, status=status) for status in (201, 202, 204, 400, 401, 404, 429, 500, 503)},
}


@asynccontextmanager
async def replies() -> AsyncIterator[str]:
    """The URL under which each reply is served by its name."""

    async def answer(request: web.Request) -> web.Response:
        if request.match_info["name"] == "marker":
            return web.json_response([{"targets": [MARKER]}])
        reply = REPLIES[request.match_info["name"]]
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def config(url: str) -> str:
    jobs = "".join(
        f"""
  - job_name: {name}
    http_sd_configs: [{{url: "{url}/{name}", refresh_interval: 2s}}]
    relabel_configs: [{{action: drop, regex: "", source_labels: [__no_list_has_this__]}}]
"""
        for name in [*REPLIES, "marker"]
    )
    return f"global: {{scrape_interval: 1h}}\nscrape_configs:{jobs}"


async def ours(url: str, name: str) -> Targets:
    """None and no targets are one here: Prometheus' API does not tell them apart."""
    try:
        return targets_of(await http_source(f"{url}/{name}", 60.0, 20.0).fetch())
    except DiscoveryError:
        return frozenset()


@pytest.mark.timeout(300)
@pytest.mark.row(57, did="the same lists over HTTP, with content types, encodings, statuses, beside real Prometheus")
async def test_an_answer_means_what_prometheus_says(tmp_path: Path, seen: Seen) -> None:
    server("prometheus")
    async with replies() as url, oracles(tmp_path, config(url), but=["vmagent"]) as made:
        found = {name: await ours(url, name) for name in REPLIES}
        theirs = [(one.name, await _targets(one)) for one in made]
    wrong = []
    for name, targets in found.items():
        for one, verdicts in theirs:
            passing = scrapable(verdicts.get(f"{url}/{name}", frozenset()), job=name)
            if passing == targets or (one == OLD and (name == "list-label_bad_name_empty" or not names_are_old(targets))):
                continue
            wrong.append(f"{name}: {one} {shown(passing)}, promring {shown(targets)}")
    assert not wrong, "\n".join(wrong)
    seen(f"{len(found)} answers, {sum(map(bool, found.values()))} with targets")


def scrapable(targets: Targets, job: str) -> Targets:
    """Those that promring takes, without the label that each job adds."""
    kept = [target - {("job", job)} for target in targets]
    return frozenset(t for t in kept if (address := dict(t).get("__address__")) and not CONTROLS.search(address))


async def _targets(oracle: Oracle) -> Mapping[str, Targets]:
    async with new_session() as session:
        await oracle.verdicts(session, MARKER)
        await asyncio.sleep(2 * SETTLED_S)  # every job was asked by then, and what it said is applied
        return (await oracle.verdicts(session, MARKER)).targets
