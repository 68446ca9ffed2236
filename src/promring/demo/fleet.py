"""Three scrapers, their targets and a promring, on loopback, for ``promring demo``.

The first two scrapers read their slice from a file, the third from promring's http_sd.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from promring.demo.controller import Controller
from promring.demo.process import find, free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.demo.targets import Farm
from promring.runtime.http_client import new_session
from promring.web.answers.fleets import Service

SERVICE = "demo"
SCRAPERS = 3
INTERVAL_S = 5.0


@dataclass
class Fleet:
    farm: Farm
    scrapers: list[ScraperProcess]
    controller: Controller
    session: aiohttp.ClientSession
    real: bool
    """Whether the scrapers are real Prometheus servers."""
    history: list[str] = field(default_factory=list)

    async def describe(self) -> Service | None:
        answer = await self.controller.ask(self.session, f"services/{SERVICE}")
        return None if answer is None else msgspec.convert(answer, Service)

    async def targets_of(self, scraper: ScraperProcess) -> list[str]:
        found = await self.controller.ask(self.session, f"services/{SERVICE}/targets", scraper=scraper.id, limit="10000")
        return [row["target"] for row in found["targets"]] if found else []

    async def all_scraped(self, since: float, timeout_s: float = 60.0) -> bool:
        return None not in (await self.farm.scraped_since(self.farm.addresses, since, timeout_s)).values()

    async def has_targets(self, scraper: ScraperProcess) -> bool:
        """Wait until the plan gives ``scraper`` targets."""
        return await self.until_state(scraper, "up", 60.0) is not None

    async def until_state(self, scraper: ScraperProcess, state: str, timeout_s: float = 30.0) -> float | None:
        """Wait until promring has ``scraper`` up with targets, or down with none; the seconds, None when it never was."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            described = await self.describe()
            for known in described.scrapers if described else []:
                if known.id == scraper.id and known.state == state and bool(known.targets) == (state == "up"):
                    return time.monotonic() - started
            await asyncio.sleep(0.05)
        return None


@asynccontextmanager
async def start_fleet(folder: Path, targets: int) -> AsyncIterator[Fleet]:
    """Everything started and ready; everything of it ended at exit."""
    program = find("prometheus") or find("prometheus3")
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        farm = await stack.enter_async_context(Farm(targets))
        (folder / "targets.json").write_text(
            json.dumps([{"targets": [a], "labels": {"env": "demo"}} for a in farm.addresses])
        )
        # A folder that is not there when Prometheus starts is not watched: it would look again after five minutes only.
        (folder / "out" / SERVICE).mkdir(parents=True)
        ports = [free_port() for _ in range(SCRAPERS)]
        controller = Controller(folder, _config(ports), port=free_port())
        scrapers = []
        for i, port in enumerate(ports):
            sd = SdConfig(file=folder / "out" / SERVICE / f"127.0.0.1_{port}.json")
            if i == SCRAPERS - 1:
                sd = SdConfig(url=f"{controller.url}/sd/{SERVICE}/127.0.0.1:{port}")
            scrapers.append(ScraperProcess(program, folder / f"scraper-{i + 1}", sd, port=port, interval_s=INTERVAL_S))
        for process in (*scrapers, controller):
            await process.start()
            stack.push_async_callback(process.stop, 2.0)
        for scraper in scrapers:
            await scraper.until(lambda s=scraper: s.is_ready(session), scraper.id)  # type: ignore[misc]
        await controller.until(lambda: controller.is_ready(session), "promring")
        yield Fleet(farm, scrapers, controller, session, program is not None)


def _config(ports: list[int]) -> dict[str, Any]:
    return {
        "global": {"reconcile_interval": "5s"},
        "shard_services": [
            {
                "name": SERVICE,
                "description": "the targets of the demonstration",
                "scrapers": {
                    "probe": {
                        "nodes": [f"127.0.0.1:{port}" for port in ports],
                        "interval": "1s",
                        "timeout": "500ms",
                    }
                },
                "targets": [{"file": {"files": ["targets.json"]}}],
                "delivery": [{"http_sd": {}}, {"file": {"path": "out/{service}/{scraper}.json"}}],
            }
        ],
    }
