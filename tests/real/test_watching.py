"""A real Prometheus scrapes a real promring: the dashboard has data, and alerts fire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.runtime.http_client import new_session
from tests.promql import ROOT, RULES, alerts
from tests.waiting import until

NOT_HERE = {
    "Slices of agents",
    "Since an agent heard of a controller",
    "Files that nobody keeps true",
    "Fullest scraper over its fair share",
    "Targets with a load of their own",
    "Since figures were asked, and loads moved targets",
    "Discoveries of engines that fail",
    "Connections that agents cut off",
    "Certificates",
}
"""Panels about agents, engines, loads that are learnt, certificates, of which this installation has none."""
EMPTY_WHILE_WELL = {"Sources that fail", "Refused", "Health checks that said nothing or no", "Moves that go on"}


class Watched:
    """One promring, one of whose scrapers is the Prometheus that watches it."""

    def __init__(self, session: aiohttp.ClientSession, prometheus: ScraperProcess) -> None:
        self._session, self._url = session, prometheus.url

    async def get(self, path: str, **query: str) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{path}", params=query) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    async def series(self, query: str) -> list[dict[str, Any]]:
        return list((await self.get("query", query=query))["result"])

    async def fires(self, alert: str) -> bool:
        return alert in await self.firing()

    async def firing(self) -> dict[str, Any]:
        found = (await self.get("alerts"))["alerts"]
        return {one["labels"]["alertname"]: one for one in found if one["state"] == "firing"}


def rules_without_waiting() -> dict[str, Any]:
    """The shipped rules, each of which fires at once."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "500ms"
        for rule in group["rules"]:
            rule.pop("for", None)
    return dict(rules)


@asynccontextmanager
async def watched(folder: Path, program: Path) -> AsyncIterator[Watched]:
    port, own = free_port(), free_port()
    (folder / "targets.json").write_text(json.dumps([{"targets": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}]))
    # A second one, which the first could not replace: promring itself answers under that path, too.
    nodes = [f"127.0.0.1:{one}" for one in (port, own)]
    probe = {"nodes": nodes, "path": "/-/healthy", "interval": "200ms", "timeout": "200ms"}
    config = {
        "shard_services": [
            {
                "name": "node",
                "scrapers": {"probe": probe},
                "targets": [{"file": {"files": ["targets.json"]}}],
                "placement": {"capacity": 1},
                "audit": {"interval": "1s", "timeout": "1s"},
                "delivery": [{"http_sd": {}}, {"file": {"path": "out/{service}/{scraper}.json"}}],
            }
        ]
    }
    controller = Controller(folder / "promring", config, port=own)
    (folder / "targets.json").rename(controller.folder / "targets.json")
    prometheus = ScraperProcess(program, folder / "prometheus", SdConfig(), port=port)
    node = {"url": f"{controller.url}/sd/node/127.0.0.1:{port}", "refresh_interval": "1s"}
    prometheus.config_file.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "500ms"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {"job_name": "promring", "static_configs": [{"targets": [f"127.0.0.1:{own}"]}]},
                    {"job_name": "node", "http_sd_configs": [node]},
                ],
            }
        )
    )
    (prometheus.config_file.parent / "rules.yml").write_text(yaml.safe_dump(rules_without_waiting()))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session())
        for process in (prometheus, controller):
            stack.push_async_callback(process.stop)
            await process.start()
        await controller.until(lambda: controller.is_ready(session), "promring is ready")
        yield Watched(session, prometheus)


def filled_in(query: str) -> str:
    for name in ("$job", "$agents", "$fleet", "$service"):
        query = query.replace(name, ".*")
    return query.replace("$__rate_interval", "10s")


async def test_a_real_prometheus_draws_every_panel_and_raises_alerts(tmp_path: Path, prometheus_program: Path) -> None:
    panels = json.loads((ROOT / "deploy/grafana/promring.json").read_text())["panels"]
    async with watched(tmp_path, prometheus_program) as w:
        # Two of the three targets have room.
        await until(partial(w.fires, "PromringTargetsUnplaced"), "the alert about a target without a scraper")
        said = (await w.firing())["PromringTargetsUnplaced"]
        assert (said["labels"]["severity"], said["labels"]["service"]) == ("critical", "node")
        assert said["annotations"]["summary"] == "Targets of node that lack a scraper: 1."

        async def has_data(panel: dict[str, Any]) -> bool:
            found = await asyncio.gather(*(w.series(filled_in(target["expr"])) for target in panel["targets"]))
            return any(found)

        for panel in (p for p in panels if p["type"] != "row" and p["title"] not in NOT_HERE | EMPTY_WHILE_WELL):
            await until(partial(has_data, panel), f"data of the panel {panel['title']!r}")
        for rule in alerts():
            await w.series(rule["expr"])  # an expression that Prometheus refuses fails here
