"""A controller: the real supervisor, without its web server and signals, as a process that can be frozen and killed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiohttp.web import Request
from aiohttp.web import Response as WebResponse
from multidict import CIMultiDict
from yarl import URL

from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.config import load as config
from promring.fleet.fleet import Fleet
from promring.runtime.actors import Actor, run_actors
from promring.runtime.http_client import HttpError, Response
from promring.supervisor import GRACE_S, Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.envelope import ApiError
from promring.web.sd import SdEndpoint
from promring.web.server import WebSettings
from promring.web.slices import SlicesEndpoint
from tests.sim.faketime import Process
from tests.sim.scraper import Scraper
from tests.sim.world import World


class Headless(Supervisor):
    async def run(self) -> None:
        """Until ``stop``, or until something fails, which is raised."""
        async with self._lock() as lock:
            actors: dict[str, Actor] = {"stop": self._signals.stop.wait, **self._inner()}
            await run_actors(actors | ({"lock": lock.run} if lock else {}), GRACE_S)


class NoWeb:
    """In the place of the web server: what gives slices, asked without HTTP."""

    def __init__(self, _: object, supervisor: Supervisor, *__: object) -> None:
        self.port = 0
        self.sd = SdEndpoint(supervisor)
        self.slices = SlicesEndpoint(supervisor, self.sd.polls)


class Controller:
    def __init__(self, name: str, world: World, path: Path) -> None:
        self.name = name
        self._world, self._path = world, path
        self._state = world.folder / name
        self.process = Process(name)
        self.supervisor: Headless | None = None
        self.task: asyncio.Task[None] | None = None
        self._serving: dict[asyncio.Task[Any], None] = {}
        """What is being answered, in the order in which it was asked."""

    @property
    def runs(self) -> bool:
        return self.task is not None

    @property
    def leads(self) -> bool:
        supervisor = self.supervisor
        return self.runs and supervisor is not None and self.process.run(supervisor.leadership.leads)

    def fleet(self) -> Fleet | None:
        """The one that is looked at, as it runs here."""
        fleets = self.supervisor.fleets if self.runs and self.supervisor is not None else {}
        return fleets.get(self._world.fleet)

    def drain(self, scraper: str, *, back: bool = False) -> bool:
        """As a person at this controller. Whether it can be asked: it leads, and runs."""
        fleet = self.fleet()
        if fleet is None or self.process.frozen or not self.leads:
            return False
        reconciler = fleet.reconciler
        if back is (scraper in reconciler.memory.drained):
            self.process.run(lambda: reconciler.drain(scraper, back=back))
        return True

    def reached(self, fleet: Fleet) -> set[str]:
        """Who has, as this controller says, what it shall have of every job."""
        found, reconciler = set(fleet.reconciler.memory.targets()), fleet.reconciler
        for couriers in reconciler.dispatcher.couriers.values():
            outcomes = [o for some in couriers.outcomes.values() for o in some]
            delivered = {o.scraper for o in outcomes if o.outcome in ("written", "same")}
            upto = reconciler.moves._in_force_at
            found &= delivered & {
                name for name, one in couriers.receipts.taken.items() if one.uptos and one.uptos[-1] >= upto
            }
        return found

    def start(self) -> None:
        """On a machine that started some time ago."""
        self.process = Process(self.name, boot_s=self._world.rng.uniform(0.0, 1e6))
        web = WebSettings(host=self.name, port=int(self.name[-1]) + 9600)
        options, loaded = Options(self._path, self._state, web), config.load_with_lines(self._path)
        self.supervisor = self.process.run(lambda: Headless(options, loaded, log.get(), Events()))
        self.task = self.process.start(self.supervisor.run())
        self.task.add_done_callback(self._ended)

    async def kill(self, *, state: bool = True) -> None:
        """As kill -9: nothing that it does from now on has an effect. ``state`` False: its disk is lost, too."""
        task, self.task = self.task, None
        if task is None:
            return
        for serving in self._serving:
            serving.cancel()
        self.process.dead = True
        self.process.thaw()
        task.cancel()
        await asyncio.wait([task], timeout=60.0)
        assert task.done(), f"{self.name} cannot be killed"
        if not state:
            self._world.forgot_at[self.name] = self._world.now
            self._world.forgetful.add(self.name)
            shutil.rmtree(self._state, ignore_errors=True)

    async def stop(self) -> None:
        """As SIGTERM."""
        task, self.task = self.task, None
        if task is not None and self.supervisor is not None:
            if self.process.frozen:
                self.process.thaw()
            self.supervisor.stop()
            await asyncio.wait([task], timeout=10.0)
            assert task.done(), f"{self.name} does not stop"
        for serving in self._serving:
            serving.cancel()

    async def reload(self) -> None:
        """As SIGHUP, which waits for nobody."""
        if self.runs and self.supervisor is not None:
            self.process.run(self.supervisor._requests.hangup)

    def reload_again(self) -> None:
        """If it refused the last one, for what was so then."""
        if self.runs and self.supervisor is not None and not self.supervisor.reload_state.successful:
            self.process.run(self.supervisor._requests.hangup)

    async def serve(self, url: URL, headers: dict[str, str]) -> Response:
        """``/sd/`` and ``/-/healthy``. Raises ``HttpError``."""
        if not self.runs or self.supervisor is None:
            raise HttpError(f"cannot connect to {self.name}: Connection refused")
        named = dict(zip(("scraper", "service"), reversed(url.path.split("/")[2:]), strict=False))
        plain = {name: value for name, value in headers.items() if name != "Accept-Encoding"}
        asked = cast(Request, SimpleNamespace(match_info=named, headers=CIMultiDict(plain), query=url.query))
        web = cast(NoWeb, self.supervisor.web)
        sd = web.sd if "service" in named else web.slices
        answering = self.process.start(_healthy() if url.path == "/-/healthy" else sd.get(asked))
        self._serving[answering] = None
        try:
            await asyncio.wait([answering])
        finally:
            self._serving.pop(answering, None)
            answering.cancel()
        if answering.cancelled():
            raise HttpError("connection closed by the other side")
        error = answering.exception()
        if isinstance(error, ApiError):
            return Response(error.status, {}, str(error).encode())
        if error is not None:
            raise error
        answer = answering.result()
        assert isinstance(answer, WebResponse)
        assert answer.body is None or isinstance(answer.body, bytes)
        return Response(answer.status, {n.lower(): v for n, v in answer.headers.items()}, answer.body or b"")

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            error = None if task.cancelled() else task.exception()
            self.task = None
            self._world.wrong(f"{self.name} ended by itself: {error!r}")


async def _healthy() -> WebResponse:
    return WebResponse(body=b"")


class Agent:
    """The real agent beside one scraper."""

    def __init__(self, scraper: Scraper, controllers: list[str]) -> None:
        urls = [f"http://{name}:9600" for name in controllers]
        self._settings = AgentSettings(urls, scraper.id, scraper.folder)
        self.process = Process(f"agent of {scraper.host}")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.process = Process(self.process.name)
        poller = Poller(self._settings, AgentMetrics(), log.get())
        self._task = self.process.start(poller.run())

    async def kill(self) -> None:
        if self._task is not None:
            self.process.dead = True
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
