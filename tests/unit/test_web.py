"""The HTTP side of a whole promring in this process: slices, API, metrics, who may write."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from promring.config.load import load_with_lines
from promring.core.claims import Claims
from promring.model import NEVER_ENDS
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.paths import Paths
from promring.web.server import WebSettings
from promring.web.views.targets import places
from tests.fakes.source import TargetSource
from tests.waiting import slower, until


@asynccontextmanager
async def scrapers(count: int) -> AsyncIterator[list[str]]:
    """Health pages of ``count`` scrapers."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready")

    app = web.Application()
    app.router.add_get("/-/ready", ready)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(count):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield [f"{host}:{port}" for host, port in runner.addresses]
    finally:
        await runner.cleanup()


class Running:
    def __init__(self, folder: Path, supervisor: Supervisor, session: aiohttp.ClientSession, nodes: list[str]) -> None:
        self.folder, self.supervisor, self.session, self.nodes = folder, supervisor, session, nodes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.supervisor.web_port}"

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.url + path, headers=named, auto_decompress=False) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()

    async def data(self, path: str) -> Any:
        status, _, body = await self.get(path)
        assert status == 200, body
        return json.loads(body)["data"]

    def write(self, targets: list[dict[str, Any]]) -> None:
        (self.folder / "targets.new").write_text(json.dumps(targets))
        (self.folder / "targets.new").rename(self.folder / "targets.json")


TARGETS = [{"targets": [f"t{n}:9100" for n in range(40)], "labels": {"env": "prod", "quote": 'a"b<script>'}}]


@asynccontextmanager
async def running(
    folder: Path,
    *,
    targets: bool = True,
    shrink_threshold: float = 0,
    shared: bool = False,
    paths: Paths | None = None,
    second: str = "web",
    more: int = 0,
    secret: str = "sesame\n",
    said: io.StringIO | None = None,
) -> AsyncIterator[Running]:
    """``shared``: ``node`` and ``second``, with 20 targets, have one fleet, ``main``, with ``more`` besides. ``secret`` is
    in the token's file, the log goes to ``said``.
    """
    async with scrapers(2) as nodes, aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as session:
        # A busy machine answers late many times, and nobody dies of it.
        probe = {"nodes": nodes, "interval": "100ms", "timeout": "100ms", "unhealthy_after": 100}
        config = {
            "global": {"debounce": "10ms"},
            "shard_services": [
                {
                    "name": "node",
                    "scrapers": {"probe": probe},
                    "targets": [{"file": {"files": ["targets.json"]}}],
                    "delivery": [{"http_sd": {}}],
                    "guard": {"shrink_threshold": shrink_threshold},
                },
                {
                    "name": "files-only",
                    "scrapers": {"probe": probe},
                    "targets": [{"file": {"files": ["targets.json"]}}],
                    "delivery": [{"file": {"path": "out/{scraper}.json"}}],
                },
            ],
        }
        if shared:
            config = shared_fleet(config, folder, second, more)
        file = folder / "promring.yml"
        file.write_text(json.dumps(config))
        token = folder / "token"
        token.write_text(secret)
        options = Options(file, folder / "state", WebSettings("127.0.0.1", 0, token, paths=paths or Paths()))
        events = Events()
        log.configure(stream=said or io.StringIO(), keep=events.keep)
        supervisor = Supervisor(options, load_with_lines(file), log.get(), events)
        made = Running(folder, supervisor, session, nodes)
        if targets:
            made.write(TARGETS)
        task = asyncio.create_task(supervisor.run())
        try:
            await supervisor.web_bound()
            if targets:
                await until(lambda: supervisor.services != {} and supervisor.unready() == [], "ready")
            yield made
        finally:
            supervisor.stop()
            await task


def shared_fleet(config: dict[str, Any], folder: Path, second: str = "web", more: int = 0) -> dict[str, Any]:
    """The first service, and another one, in one fleet, with ``more`` without a list; the second as it is."""
    first = config["shard_services"][0]
    service = {key: value for key, value in first.items() if key not in ("scrapers", "delivery")} | {"fleet": "main"}
    (folder / "web.json").write_text(json.dumps([{"targets": [f"w{n}:80" for n in range(20)]}]))
    web_service = service | {"name": second, "job": "the web", "targets": [{"file": {"files": ["web.json"]}}]}
    fleet = {"name": "main", "description": "of the shop", "scrapers": first["scrapers"], "delivery": first["delivery"]}
    own = config["shard_services"][1]
    none = [{"file": {"files": ["none.json"]}}]
    others = [service | {"name": f"more-{n}", "targets": none} for n in range(more)]
    return config | {"fleets": [fleet], "shard_services": [service, web_service, *others, own]}


async def test_a_slice_is_negotiated_as_rfc_9110_has_it(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        path = f"/sd/node/{r.nodes[0]}"
        _, headers, body = await r.get(path)
        etag = headers["etag"]
        for known in (f"W/{etag}", f'"x", W/{etag}', "*"):
            assert (await r.get(path, If_None_Match=known))[0] == 304, known
            assert (await r.get(f"{path}?wait=10ms", If_None_Match=known))[0] == 304, known
        assert (await r.get(path, If_None_Match='"x", "y"'))[0] == 200
        status, headers, plain = await r.get(path, Accept_Encoding="gzip;q=0, *")
        assert (status, headers.get("content-encoding"), plain) == (200, None, body)
        assert (await r.get(path, Accept_Encoding="*"))[1]["content-encoding"] == "gzip"
        assert (await r.get(path, Accept_Encoding="identity;q=0"))[0] == 406


async def test_a_slice_has_an_etag_a_generation_and_gzip(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        slices = [await r.get(f"/sd/node/{node}") for node in r.nodes]
        assert sorted(t for _, _, body in slices for g in json.loads(body) for t in g["targets"]) == sorted(
            TARGETS[0]["targets"]
        )
        status, headers, body = slices[0]
        assert (status, headers["content-type"], headers["x-promring-generation"].partition(".")[2]) == (
            200,
            "application/json",
            "1",
        )
        status, again, nothing = await r.get(f"/sd/node/{r.nodes[0]}", If_None_Match=headers["etag"])
        assert (status, again["etag"], nothing) == (304, headers["etag"], b"")
        _, zipped_headers, zipped = await r.get(f"/sd/node/{r.nodes[0]}", Accept_Encoding="gzip")
        assert zipped_headers["content-encoding"] == "gzip"
        assert gzip.decompress(zipped) == body


async def test_a_waiting_reader_gets_its_slice_when_it_changes_or_304_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        path = f"/sd/node/{r.nodes[0]}"
        _, headers, _ = await r.get(path)
        started = time.monotonic()
        status, _, _ = await r.get(path + "?wait=300ms", If_None_Match=headers["etag"])
        assert status == 304
        assert time.monotonic() - started > 0.25
        waiting = asyncio.create_task(r.get(path + "?wait=30s", If_None_Match=headers["etag"]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        r.write([{"targets": ["only:1", "two:2", "three:3", "four:4"]}])
        status, newer, _ = await waiting
        assert (status, newer["x-promring-generation"].partition(".")[2]) == (200, "2")


async def test_what_is_not_known_is_503_and_what_is_not_there_404(tmp_path: Path) -> None:
    async with running(tmp_path, targets=False) as r:
        await until(lambda: "node" in r.supervisor.services, "built")
        status, _, body = await r.get(f"/sd/node/{r.nodes[0]}")
        assert status == 503
        assert json.loads(body)["status"] == "error"
        ready, _, why = await r.get("/-/ready")
        assert ready == 503
        assert b"node: " in why
        r.write(TARGETS)
        await until(lambda: r.supervisor.unready() == [], "ready")
        assert (await r.get(f"/sd/node/{r.nodes[0]}"))[0] == 200
        assert (await r.get("/sd/node/10.9.9.9:9090"))[0] == 503
        host, _, port = r.nodes[0].rpartition(":")
        for mistaken in (f"{host}:{int(port) % 60000 + 1}", host):
            status, _, body = await r.get(f"/sd/node/{mistaken}")
            assert f"scraper '{mistaken}' is not in the plan; did you mean '{host}:" in json.loads(body)["error"]
        for path in ("/sd/nobody/x:1", f"/sd/files-only/{r.nodes[0]}", "/api/v1/services/x", "/api/v1/x", "/nothing"):
            status, _, body = await r.get(path)
            assert status == 404, path
            assert json.loads(body)["errorType"] == "not_found"
        for path, plain in (("//sd/node/x:1", "/sd/node/x:1"), ("/api/v1/status/", "/api/v1/status")):
            status, _, body = await r.get(path)
            there = f"there is nothing at {path!r}; without a slash too many it is {plain!r}"
            assert (status, json.loads(body)["error"]) == (404, there)
        for query in ("limit=-1", "since=x", f"since={10**18}"):
            status, _, body = await r.get(f"/api/v1/events?{query}")
            assert (status, "is not a whole number of at most 18 digits" in json.loads(body)["error"]) == (400, True)
        assert (await r.get("/-/healthy"))[0] == 200


async def test_who_has_a_target_besides_its_owner_is_said_and_why(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        service = r.supervisor.services["node"]
        reconciler, placement = service.fleet.reconciler, service.placement
        memory = reconciler.memory
        assert placement is not None
        had = memory.claims

        def said(*more: tuple[int, float]) -> list[tuple[str, str]]:
            """``more`` who has the first target: the number of the scraper, until when."""
            ids, scrapers = np.full(len(more), had.ids[0]), np.array([one for one, _ in more], dtype=np.int32)
            until = np.array([until for _, until in more])
            claims = Claims(
                had.names,
                np.concatenate([had.ids, ids]),
                np.concatenate([had.scrapers, scrapers]),
                np.concatenate([had.since, np.zeros(len(more))]),
                np.concatenate([had.until, until]),
            )
            reconciler.memory = replace(memory, claims=claims)
            try:
                (row,) = np.flatnonzero(placement.pool.ids == had.ids[0]).tolist()
                (place,) = places(service, placement, [row], "address")
            finally:
                reconciler.memory = memory
            return [(one.scraper, one.why) for one in place.besides]

        assert said() == []
        owner = int(had.scrapers[0])
        others = [number for number in range(len(had.names)) if number != owner]
        assert said((others[0], 30.0)) == [(had.names[others[0]], "hand_over")]
        assert said((others[0], NEVER_ENDS), (owner, NEVER_ENDS)) == [(had.names[others[0]], "second_opinion")]


async def test_the_api_says_who_has_what(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        status = await r.data("/api/v1/status")
        assert status["ready"] is True
        assert [s["name"] for s in status["services"]] == ["node", "files-only"]
        service = await r.data("/api/v1/services/node")
        assert sum(s["targets"] for s in service["scrapers"]) == service["targets"] == 40
        assert {s["state"] for s in service["scrapers"]} == {"up"}
        (place,) = await r.data("/api/v1/services/node/where?target=t7:9100")
        assert place["scraper"] in r.nodes
        assert sorted(place["preference"]) == sorted(r.nodes)
        assert place["labels"]["env"] == "prod"
        mine = await r.data(f"/api/v1/services/node/targets?scraper={place['scraper']}&limit=1000")
        assert "t7:9100" in [t["target"] for t in mine["targets"]]
        respelt = "[::ffff:" + place["scraper"].replace(":", "]:", 1)
        assert mine == await r.data(f"/api/v1/services/node/targets?scraper={respelt}&limit=1000"), "in any spelling"
        assert (await r.get(f"/fleets/node/scrapers/{respelt}"))[0] == 200
        found = await r.data("/api/v1/services/node/targets?q=t7:")
        assert [t["target"] for t in found["targets"]] == ["t7:9100"]
        quoted = await r.data("/api/v1/services/node/targets?q=a%22b&limit=3")
        assert (len(quoted["targets"]), quoted["total"], quoted["truncated"]) == (3, 40, True)
        assert (await r.get("/api/v1/services/node/where?target=nobody:1"))[0] == 404
        assert (await r.get("/api/v1/services/node/where"))[0] == 400
        assert (await r.get("/api/v1/services/node/targets?limit=x"))[0] == 400
        assert (await r.get(f"/api/v1/services/node/targets?limit={'9' * 5000}"))[0] == 400
        assert (await r.get("/api/v1/services/node/targets?scraper=x"))[0] == 404
        assert (await r.get(f"/sd/node/{r.nodes[0]}?wait=soon"))[0] == 400


async def test_a_plan_over_the_api(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        gone, stays = r.nodes
        plan = await r.data(f"/api/v1/fleets/node/plan?without={gone}&with=10.0.0.9:9090")
        assert {row["id"]: row["after"] is None for row in plan["scrapers"]} == {
            gone: True,
            stays: False,
            "10.0.0.9:9090": False,
        }
        assert plan["targets"] == sum(row["after"] or 0 for row in plan["scrapers"]) == 40
        for bad in ("without=x:1", f"with={gone}", "with=nonsense", f"without={gone}&without={stays}"):
            assert (await r.get(f"/api/v1/fleets/node/plan?{bad}"))[0] == 400, bad


METRICS = """scrapers{fleet="node",state="up"} 2.0
targets{service="node"} 40.0
assigned_targets{fleet="node",scraper=
assigned_load{fleet="node",scraper=
capacity_load{fleet="node",scraper=
reshards_total{fleet="node",reason="initial"} 1.0
targets_moved_total{fleet="node"} 0.0
reconcile_duration_seconds_count{fleet="node"}
deliveries_total{fleet="files-only",means="file",outcome="written"} 2.0
delivery_lag_seconds_count{fleet="node"}
discovery_failures_total{service="node",source="file:
discovery_last_success_timestamp_seconds{service="node",source="file:
leader 1.0
config_last_reload_successful 1.0
config_last_reload_success_timestamp_seconds
build_info{version="""


async def test_the_metrics_of_the_contract_are_there_and_nothing_per_target(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        _, headers, body = await r.get("/metrics")
        assert headers["content-type"].startswith("text/plain")
        text = body.decode()
        for line in METRICS.splitlines():
            assert f"promring_{line}" in text, line
        assert "t7:9100" not in text
        assert "_created" not in text


async def test_writes_need_the_token_and_get_cannot_write(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        for headers, wanted in (({}, 401), ({"Authorization": "Bearer no"}, 403), ({"Authorization": "sesame"}, 401)):
            async with r.session.post(r.url + "/-/reload", headers=headers) as response:
                assert response.status == wanted, headers
                assert "--web.token-file" in (await response.json())["error"]
        async with r.session.get(r.url + "/-/reload") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        async with r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer sesame"}) as response:
            assert response.status == 200
        (tmp_path / "promring.yml").write_text("shard_services: []")
        async with r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer sesame"}) as response:
            assert response.status == 400
            assert "promring.yml:1: shard_services" in (await response.json())["error"]
        assert (await r.data("/api/v1/status"))["config"]["last_reload_successful"] is False


async def test_without_a_configured_token_nothing_can_be_written(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        (tmp_path / "token").unlink()
        async with r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer "}) as response:
            assert response.status == 403


async def test_a_token_file_that_holds_none_is_said_at_the_start(tmp_path: Path) -> None:
    said = io.StringIO()
    async with running(tmp_path, secret=" \n", said=said) as r:
        await until(lambda: "msg=web_token_unusable" in said.getvalue(), "it is said")
        assert f"{tmp_path}/token: is empty" in said.getvalue().partition("msg=web_token_unusable")[2]
        (tmp_path / "token").write_text("sesame")
        async with r.session.post(r.url + "/-/reload", headers={"Authorization": "Bearer sesame"}) as response:
            assert response.status == 200, "it is read again for each use"


@pytest.mark.parametrize("times", [1, 3])
async def test_reloads_keep_what_is_served(tmp_path: Path, times: int) -> None:
    async with running(tmp_path) as r:
        before = [await r.get(f"/sd/node/{node}") for node in r.nodes]
        for _ in range(times):
            assert not (await r.supervisor.reload()).problems
            for _ in range(10):
                now = [await r.get(f"/sd/node/{node}") for node in r.nodes]
                assert [(s, b) for s, _, b in now] == [(s, b) for s, _, b in before]
                assert [h["x-promring-generation"].partition(".")[2] for _, h, _ in now] == ["1", "1"]
                await asyncio.sleep(0.02)
        assert (await r.get("/-/ready"))[0] == 200


async def test_between_a_reload_and_its_first_plan_people_are_told_the_plan_in_force(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        paths = ("/api/v1/services/node/where?target=t1:9100", f"/api/v1/fleets/node/plan?without={r.nodes[0]}")
        before = [await r.data(path) for path in paths]
        for _ in range(3):
            assert await planned_in_a_reload(r, "node") == {(False, True)}
            assert [await r.data(path) for path in paths] == before
            fleet = r.supervisor.fleets["node"]
            assert fleet.placement is fleet.reconciler.placement, "what was before is kept no longer"
            assert fleet.reconciler.moves.before is None


async def test_after_a_reload_with_other_names_no_plan_is_told_until_there_is_one(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        file = tmp_path / "promring.yml"
        file.write_text(file.read_text().replace('"name": "web"', '"name": "site"'))
        assert await planned_in_a_reload(r, "main") == {(False, False)}


async def planned_in_a_reload(r: Running, name: str) -> set[tuple[bool, bool]]:
    """Of the new fleet, at each turn of the event loop until its first plan: whether it has one, and whether one is told."""
    old, seen = r.supervisor.fleets[name], set[tuple[bool, bool]]()
    reload = asyncio.create_task(r.supervisor.reload())
    async with asyncio.timeout(60):
        while (fleet := r.supervisor.fleets[name]) is old or fleet.reconciler.placement is None:
            if fleet is not old:
                told = [service.placement is not None for service in fleet.services.values()]
                seen.add((fleet.reconciler.placement is not None, any(told)))
            await asyncio.sleep(0)
    assert not (await reload).problems
    return seen


async def test_who_waits_over_a_reload_gets_the_next_slice(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        path = f"/sd/node/{r.nodes[0]}"
        _, headers, _ = await r.get(path)
        waiting = asyncio.create_task(r.get(path + "?wait=30s", If_None_Match=headers["etag"]))
        await asyncio.sleep(0.1)
        assert not (await r.supervisor.reload()).problems
        await asyncio.sleep(0.3)
        assert not waiting.done()
        r.write([{"targets": [f"new{n}:1" for n in range(8)]}])
        status, newer, _ = await asyncio.wait_for(waiting, 10)
        assert (status, newer["x-promring-generation"].partition(".")[2]) == (200, "2")


async def test_a_reload_that_removes_a_source_beside_a_like_one_mixes_nothing_up(tmp_path: Path) -> None:
    """Two URLs that differ in their query only are two sources, each with its own last good list."""
    async with TargetSource([{"targets": [f"a{n}:1" for n in range(9)]}]) as a, TargetSource([]) as b:
        b.groups = [{"targets": [f"b{n}:1" for n in range(9)]}]
        async with running(tmp_path) as r:
            file = tmp_path / "promring.yml"
            config = json.loads(file.read_text())
            service = config["shard_services"][0]

            async def reload_with(*urls: str) -> None:
                service["targets"] = [{"http": {"url": url, "refresh_interval": "100ms"}} for url in urls]
                config["shard_services"] = [service]
                file.write_text(json.dumps(config))
                assert not (await r.supervisor.reload()).problems

            async def targets() -> set[str]:
                bodies = [(await r.get(f"/sd/node/{node}"))[2] for node in r.nodes]
                return {t[0] for body in bodies for g in json.loads(body) for t in g["targets"]}

            async def are(wanted: set[str]) -> bool:
                return await targets() == wanted

            await reload_with(a.url + "?team=a", b.url + "?team=b")
            await until(lambda: are({"a", "b"}), "both sources")
            a.mode = b.mode = "status 500"
            await asyncio.sleep(0.3)
            await reload_with(b.url + "?team=b", a.url + "?team=a")
            await asyncio.sleep(0.5)
            assert await targets() == {"a", "b"}
            await reload_with(b.url + "?team=b")
            await until(lambda: are({"b"}), "only the other's list left, known from before")
            await reload_with(b.url + "?team=typo")
            await asyncio.sleep(0.5)
            assert await targets() == {"b"}, "the replaced source's list stays while the new one is silent"
            b.mode = "empty"
            await asyncio.sleep(0.5)
            assert await targets() == {"b"}, "and while it is empty"
            b.mode = "good"
            b.groups = [{"targets": ["c1:1"]}]
            await until(lambda: are({"c"}), "until it has targets")


async def test_a_stop_does_not_wait_for_long_polls(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        path = f"/sd/node/{r.nodes[0]}"
        etag = (await r.get(path))[1]["etag"]
        waiting = asyncio.ensure_future(r.get(f"{path}?wait=30s", If_None_Match=etag))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        started = time.monotonic()
        r.supervisor.stop()
        status, _, body = await waiting
        assert (status, json.loads(body)["error"]) == (503, "this controller is being stopped: ask another one")
    assert time.monotonic() - started < 1.9 * slower(), "it waited for the polls, 2 s"


async def _half_a_body() -> AsyncIterator[bytes]:
    yield b"shard_services:"
    await asyncio.sleep(60)


async def test_a_configuration_is_foreseen_with_the_token_only_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as r:
        config = json.loads((tmp_path / "promring.yml").read_text())
        config["shard_services"][0]["placement"] = {"capacity": 15}
        url, token = r.url + "/api/v1/plan", {"Authorization": "Bearer sesame"}
        async with r.session.post(url, data=json.dumps(config)) as response:
            assert response.status == 401
        async with r.session.post(url, data=json.dumps(config), headers=token) as response:
            found = (await response.json())["data"]
        assert found["refused"]
        (decision,) = found["decisions"]
        assert (decision["kind"], decision["numbers"]["lost"]) == ("capacity_short", 10)
        assert [one["fleet"] for one in found["fleets"]] == ["node", "files-only"]
        assert found["fleets"][0]["preview"]["fits"]["unplaced"] == 10
        for query, said in (
            ("?without=x:1", "x:1 is not a live scraper"),
            (f"?without={r.nodes[0]}0", f"; did you mean '{r.nodes[0]}'"),
            ("?fleet=node&with=x", "not host:port"),
            ("?fleet=zzz", "no fleet 'zzz' in this configuration; there is node, files-only"),
            ("?fleet=nod", "; there is node, files-only; did you mean 'node'?"),
        ):
            async with r.session.post(url + query, data=json.dumps(config), headers=token) as response:
                assert (response.status, said in (await response.json())["error"]) == (400, True), query
        async with r.session.post(url + "?name=new.yml", data="shard_services: []", headers=token) as response:
            assert (response.status, "new.yml:1: shard_services" in (await response.json())["error"]) == (400, True)
        (tmp_path / "sent.py").write_text(f"open('{tmp_path}/it_ran', 'w')")
        password = tmp_path / "password"
        password.write_text(f"#!/bin/sh\ntouch {tmp_path}/it_ran\n")
        password.chmod(0o755)
        running_code = ({"targets": [{"python": {"callable": "sent:f"}}]},
                        {"delivery": [{"ansible": {"dest_dir": "/x", "vault_password_file": str(password)}}]})  # fmt: skip
        for changed in running_code:
            sent = {"shard_services": [config["shard_services"][0] | changed]}
            async with r.session.post(url, data=json.dumps(sent), headers=token) as response:
                assert response.status == 200, await response.text()
        assert not (tmp_path / "it_ran").exists()
        async with r.session.post(url, data=io.BytesIO(b"#" * (4 * 1024 * 1024 + 1)), headers=token) as response:
            assert response.status == 413
        async with r.session.post(url, data=gzip.compress(b"{}"), headers=token | {"Content-Encoding": "gzip"}) as response:
            assert (response.status, "'gzip' is not read" in (await response.json())["error"]) == (415, True)
        monkeypatch.setattr("promring.web.api.BODY_S", 0.2)
        async with r.session.post(url, data=_half_a_body(), headers=token) as response:
            assert (response.status, (await response.json())["error"]) == (408, "the body was not whole within 0.2 s")
        monkeypatch.undo()
        for expected, status in {"100-continue": 400, "cake": 417}.items():
            async with r.session.post(url, data=b"[]", headers=token | {"Expect": expected}) as response:
                assert (response.status, (await response.json())["status"]) == (status, "error")
        assert (await r.data("/api/v1/status"))["config"]["last_reload_successful"]


async def test_a_reload_that_would_lose_targets_is_refused_unless_it_is_forced(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        config = json.loads((tmp_path / "promring.yml").read_text())
        config["shard_services"][0]["placement"] = {"capacity": 15}
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        before = r.supervisor.settings
        found = await r.supervisor.reload()
        assert "10 targets that are scraped now would have no room" in found.problems[0]
        assert "--force" in found.problems[-1]
        assert r.supervisor.settings is before
        headers = {"Authorization": "Bearer sesame", "Accept": "application/json"}
        async with r.session.post(r.url + "/-/reload?force=true", headers=headers) as response:
            (decision,) = (await response.json())["data"]["decisions"]
        assert (decision["kind"], decision["loss"]) == ("capacity_short", True)
        async with r.session.post(r.url + "/-/reload?force=1", headers=headers) as response:
            assert response.status == 400


async def test_a_renamed_service_and_a_scraper_with_another_id_are_served_by_their_names_before(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        before = {node: (await r.get(f"/sd/node/{node}"))[2] for node in r.nodes}
        config = json.loads((tmp_path / "promring.yml").read_text())
        config["shard_services"][0]["name"] = "renamed"
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        assert [one.kind for one in (await r.supervisor.reload()).decisions] == ["service_renamed"]
        await until(lambda: "renamed" in r.supervisor.services, "it is in force")
        for name in ("node", "renamed"):
            assert {node: (await r.get(f"/sd/{name}/{node}"))[2] for node in r.nodes} == before
        assert (await r.data("/api/v1/status"))["renamed"] == {"node": "renamed"}
        _, headers, _ = await r.get(f"/sd/renamed/{r.nodes[0]}")
        waited = await r.get(f"/sd/renamed/{r.nodes[0]}?wait=100ms", If_None_Match=headers["etag"])
        assert waited[0] == 304, "who waits is answered when its time is over, not at once"
        await until(lambda: bool(r.supervisor.services["files-only"].slices), "there is something to leave behind")
        config["shard_services"] = config["shard_services"][:1]
        (tmp_path / "promring.yml").write_text(json.dumps(config))
        assert [one.kind for one in (await r.supervisor.reload()).decisions] == ["service_removed"]
        await until(lambda: list(r.supervisor.services) == ["renamed"] and bool(r.supervisor.left_behind), "it is in force")
        (behind,) = (await r.data("/api/v1/status"))["left_behind"]
        assert (behind["service"], behind["targets"]) == ("files-only", 40)
        assert (await r.get(f"/sd/files-only/{r.nodes[0]}"))[0] == 404


async def test_a_drain_that_is_asked_while_a_reload_is_taken_is_not_lost(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        await until(lambda: r.supervisor.fleets["node"].reconciler.placement is not None, "a plan")
        scraper, headers = r.nodes[0], {"Authorization": "Bearer sesame"}

        async def ask(verb: str) -> int:
            url = f"{r.url}/api/v1/fleets/node/scrapers/{quote(scraper)}/{verb}?force=true"
            async with r.session.post(url, headers=headers) as response:
                return response.status

        for verb in ["drain", "undrain"] * 5:
            asked = asyncio.create_task(ask(verb))
            while not asked.done():
                assert not (await r.supervisor.reload()).problems
            assert await asked == 200
            assert r.supervisor.fleets["node"].reconciler.memory.drained == ({scraper} if verb == "drain" else set())


async def test_what_a_scraper_has_taken_is_known_when_its_fleet_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the scrapers soon after a reload says of what one took a moment ago that it does not have it."""
    monkeypatch.setattr("promring.fleet.visitors.ONE_LOOK_S", 0.0)
    async with running(tmp_path, shared=True) as r:
        for _ in range(2):  # who comes again is believed
            assert (await r.get(f"/sd/web/{r.nodes[0]}"))[0] == 200
        assert ("web", r.nodes[0]) in r.supervisor.fleets["main"].reconciler.moves.all_taken
        text = (tmp_path / "promring.yml").read_text()
        (tmp_path / "promring.yml").write_text(text.replace('"main"', '"other"'))
        assert [one.kind for one in (await r.supervisor.reload()).decisions] == ["fleet_renamed"]
        await until(lambda: "other" in r.supervisor.fleets, "it is in force")
        assert ("web", r.nodes[0]) in r.supervisor.fleets["other"].reconciler.moves.takeover.taken
