"""A promring with a service whose scraper and list are honest, beside which a test puts somebody who is not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import HttpError, new_session
from tests.fakes.hostile import HostilePeer
from tests.real.test_hostile import NONE, OnlyTheApi
from tests.waiting import until

GROWN_MOST_MIB = 400
ODD = (
    "\x1b]0;title\x07\x1b[31mred\r\nts=1 level=error msg=forged \u202egnp.exe\u2066\x9b1m\x7f\u2028"
    " $(touch {0}) `touch {0}` {{{{1}}}} <script>"
)


@dataclass
class Town:
    """A promring with a service ``good`` on an honest scraper, and what else the test gave it."""

    controller: Controller
    session: aiohttp.ClientSession
    scraper: HostilePeer
    file: Path
    number: int = 0

    async def slice(self) -> list[Any]:
        answer = await self.controller.get(self.session, f"/sd/good/{self.scraper.address}")
        return list(json.loads(answer.body)) if answer.status == 200 else []

    async def goes_on(self) -> None:
        """A change of the good list is in the good slice, and all else that was in it."""
        assert self.controller.running, self.controller.log_tail(20)
        self.number += 1
        new = f"new{self.number}:1"
        wanted = sorted([*(f"t{n}:1" for n in range(20)), new])
        self.file.write_text(json.dumps([{"targets": wanted}]))

        async def there() -> bool:
            with contextlib.suppress(HttpError):
                return sorted(address for group in await self.slice() for address in group["targets"]) == wanted
            return False

        await until(there, f"{new} has arrived", 60)

    def peak_mib(self) -> float:
        lines = Path(f"/proc/{self.controller.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@asynccontextmanager
async def town(
    folder: Path, more: Callable[[HostilePeer], list[dict[str, Any]]] = lambda _: [], **sections: Any
) -> AsyncIterator[Town]:
    file = folder / "targets.json"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        honest = await stack.enter_async_context(OnlyTheApi(NONE))
        good = service("good", [honest], [{"file": {"files": [str(file)]}}])
        config = {**sections, "shard_services": [good, *more(honest)]}
        controller = Controller(folder / "promring", config, port=free_port())
        made = Town(controller, session, honest, file)
        file.write_text("[]")
        stack.push_async_callback(controller.stop)
        await controller.start()
        await controller.until(lambda: answers(controller, session), "promring", 60)
        await made.goes_on()
        peak = made.peak_mib()
        yield made
        await made.goes_on()
        assert made.peak_mib() - peak < GROWN_MOST_MIB
        logged = controller.log_file.read_text()
        assert "unforeseen" not in logged
        assert [line for line in logged.split("\n") if not line.replace("\t", "").isprintable()] == []
        assert "\nts=1 " not in logged


async def answers(controller: Controller, session: aiohttp.ClientSession) -> bool:
    with contextlib.suppress(HttpError):
        return (await controller.get(session, "/-/healthy")).status == 200
    return False


def service(name: str, peers: list[HostilePeer], targets: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    nodes = [peer.address for peer in peers]
    return {
        "name": name,
        "scrapers": {"probe": {"nodes": nodes, "interval": "1s", "timeout": "1s", "healthy_after": 1}},
        "targets": targets,
        "join_delay": "0s",
        "delivery": [{"http_sd": {}}],
        "audit": {"interval": "1s", "timeout": "1s"},
        "guard": {"shrink_threshold": 0, "growth_threshold": None},
        "job": "x",
        **more,
    }
