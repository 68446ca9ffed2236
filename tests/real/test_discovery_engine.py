"""Targets through real Prometheus servers that discover and scrape nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from promring.core.fragment import decode, fragments
from promring.demo.process import Process, free_port
from promring.discovery import SourceContext
from promring.discovery.prometheus import PrometheusSource, PrometheusTargets
from promring.model import DiscoveryError, TargetPool
from promring.runtime.http_client import HttpError, new_session, request
from tests.real.conftest import server
from tests.real.stage import SERVICE, stage
from tests.rows import Seen
from tests.waiting import until

GROUPS = [
    {"targets": ["a:1", "b:1"], "labels": {"team": "x", "__meta_own": "y", "__scheme__": "https"}},
    {"targets": ["spot:1"], "labels": {"pool": "spot"}},
    {
        "targets": ["c:1"],
        "labels": {"__param_module": "tcp", "__param_other": "1", "job": "another", "__scrape_interval__": "10y"},
    },
]


class EngineProcess(Process):
    """A Prometheus in agent mode with an interval that never passes."""

    def __init__(self, program: Path, folder: Path) -> None:
        folder.mkdir()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.lists, self.config = folder / "lists", folder / "prometheus.yml"
        self.lists.mkdir()
        command: list[str | Path] = [
            program,
            f"--config.file={self.config}",
            "--enable-feature=agent" if program.name == "prometheus" else "--agent",
            f"--storage.agent.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--web.enable-lifecycle",
        ]
        super().__init__(command, folder / "log", {"GOMAXPROCS": "2"})

    def configure(self, *jobs: str) -> None:
        relabel = [{"source_labels": ["pool"], "regex": "spot", "action": "drop"}]
        found: list[dict[str, Any]] = [
            {
                "job_name": job,
                "metrics_path": "/probe",
                "params": {"module": ["http_2xx"], "x": ["1", "2"]},
                "file_sd_configs": [{"files": [f"{self.lists}/{job}.json"]}],
                "relabel_configs": relabel,
            }
            for job in jobs
        ]
        broken = {"job_name": "broken", "http_sd_configs": [{"url": "http://127.0.0.1:1/", "refresh_interval": "1s"}]}
        found.append(broken)
        self.config.write_bytes(msgspec.json.encode({"global": {"scrape_interval": "100y"}, "scrape_configs": found}))

    def list_in(self, job: str, groups: object) -> None:
        new = self.lists / f"{job}.new"
        new.write_text(json.dumps(groups))
        new.rename(self.lists / f"{job}.json")

    async def reload(self) -> None:
        async with new_session() as session:
            assert (await request(session, "POST", f"{self.url}/-/reload", timeout_s=10)).status == 200

    async def is_ready(self) -> bool:
        try:
            async with new_session() as session:
                return (await request(session, "GET", f"{self.url}/-/ready", timeout_s=5)).status == 200
        except HttpError:
            return False


@asynccontextmanager
async def engine_of(name: str, folder: Path) -> AsyncIterator[EngineProcess]:
    engine = EngineProcess(server(name), folder / "engine")
    try:
        yield engine
    finally:
        await engine.stop()


def source_of(engine: EngineProcess, context: SourceContext, job: str) -> PrometheusSource:
    settings = PrometheusTargets(url=engine.url, scrape_pool=job, interval=1.0)  # type: ignore[arg-type]
    return settings.source(context)


async def listed(source: PrometheusSource) -> TargetPool | str:
    try:
        return await source.fetch()
    except DiscoveryError as error:
        return str(error)


def labels_of(pool: TargetPool) -> dict[str, dict[str, str]]:
    return {one.address: one.labels for one in map(decode, fragments(pool))}


@pytest.mark.row(63, did="a real Prometheus as engine: discovers, drops, is killed, restarted, reloaded without the job")
@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_an_engine_gives_what_was_discovered_and_no_restart_takes_a_target(
    name: str, tmp_path: Path, seen: Seen
) -> None:
    async with engine_of(name, tmp_path) as engine:
        engine.configure("node", "other")
        engine.list_in("node", GROUPS)
        engine.list_in("other", [{"targets": ["o:1"]}])
        await engine.start()
        await until(engine.is_ready, "the engine")
        context = SourceContext(tmp_path)
        node, other = (source_of(engine, context, job) for job in ("node", "other"))

        async def discovered() -> bool:
            found = await listed(node)
            return isinstance(found, TargetPool) and len(found) == 3 and isinstance(await listed(other), TargetPool)

        await until(discovered, "all targets")
        pool = await node.fetch()
        found = labels_of(pool)
        path = {"__meta_filepath": f"{engine.lists}/node.json"}
        assert found["a:1"] == {"team": "x", "__meta_own": "y", "__scheme__": "https", **path}
        module = {"__param_module": "tcp"} if name == "prometheus3" else {}  # 2.42 lets the job's parameter win
        assert found["c:1"] == {"__param_other": "1", "job": "another", "__scrape_interval__": "10y", **module, **path}
        assert (node.dropped.count, node.dropped.named) == (1, ("spot:1",))
        assert await node.fetch() is pool
        broken = source_of(engine, context, "broken")

        async def named() -> bool:
            await listed(broken)
            return ["a discovery by http failed" in one for one in broken.troubles] == [True]

        await until(named, "the failing discovery")
        assert list(node.troubles) == []
        assert list(labels_of(await other.fetch())) == ["o:1"]
        engine.list_in("node", GROUPS[:1])

        async def shrunk() -> bool:  # a young engine is not believed about what it does not list any more
            found = await listed(node)
            return isinstance(found, str) and "may not have discovered everything" in found

        await until(shrunk, "the doubt about what a young engine lists")
        await engine.kill()
        assert "cannot connect" in str(await listed(node))
        engine.list_in("node", [])
        await engine.start()
        await until(engine.is_ready, "the engine again")
        assert "may not have discovered everything" in str(await listed(node))
        engine.configure("other")
        await engine.reload()
        assert "no scrape pool 'node'" in str(await listed(node))
        seen("listed, dropped 1, killed, restarted empty, job gone: each time the last list stays, with its reason")


@pytest.mark.row(
    63, 12, did="a fleet whose targets come from an engine, Consul and a pasted block: a death, then the engine dies"
)
async def test_a_fleet_with_discovered_targets_is_a_fleet_as_any_other(
    consul_program: Path, prometheus_program: Path, tmp_path: Path, seen: Seen
) -> None:
    async with engine_of("prometheus", tmp_path) as engine:
        targets: list[dict[str, Any]] = [
            {"prometheus": {"url": engine.url, "scrape_pool": "node", "interval": "1s"}},
            {"consul": {"services": ["farm"]}},
        ]
        options: dict[str, Any] = {"count": 12, "start": False, "guard": {"panic_threshold": 1}}
        async with stage(tmp_path, consul_program, prometheus_program, **options) as s:
            addresses = s.farm.addresses
            targets.append({"static_configs": [{"targets": addresses[8:]}]})
            config = yaml.safe_load(s.controller.config_file.read_text())
            config["shard_services"][0]["targets"] = targets
            s.controller.config_file.write_text(yaml.safe_dump(config))
            engine.configure("node")
            engine.list_in("node", [{"targets": addresses[:4]}, GROUPS[1]])
            await engine.start()
            for i, address in enumerate(addresses[4:8]):
                host, _, port = address.rpartition(":")
                service = {"ID": f"farm-{i}", "Name": "farm", "Address": host, "Port": int(port)}
                url = f"{s.consul.url}/v1/agent/service/register"
                assert (await request(s.session, "PUT", url, timeout_s=5, json=service)).status == 200
            await until(engine.is_ready, "the engine")
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "all targets of all sources", 60)
            await s.quiet()
            sources = (await s.controller.ask(s.session, f"services/{SERVICE}"))["sources"]
            assert [one["troubles"] for one in sources] == [[], [], []]
            assert [one["dropped"] for one in sources] == [{"count": 1, "among": ["spot:1"]}, None, None]
            await s.scrapers[0].kill()
            s.allowed |= {"panic", "audit_failed", "scraper_behind", "discovery_failed"}
            took = await until(lambda: s.placed_on(*s.scrapers[1:]), "its targets are with the others", 60)
            before = s.stamps()
            await engine.kill()

            async def said() -> bool:
                sources = (await s.controller.ask(s.session, f"services/{SERVICE}"))["sources"]
                return any("cannot connect" in json.dumps(source) for source in sources)

            await until(said, "the engine is said to be down")
            assert s.stamps() == before
            seen(f"after a death placed elsewhere in {took:.1f} s; the engine dead: no slice changes")
