"""Keeps the process alive and ends it well: actors, signals, reload, graceful stop.

Promises: SIGINT and SIGTERM stop in at most ``STOP_S``, a second one at once; SIGHUP and ``POST /-/reload`` read the file
again, and one that is bad, cannot be built, or would lose targets, changes nothing; a reload carries all facts and slices
over, so an unchanged service moves nothing. Reloads go one after the other; who asks during one gets the answer of the next.
Flow: ``trial`` and ``build`` make the services from the settings; ``web`` reads what this object and its services show.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from promring.build import Context, build_parts, store_of
from promring.config.load import Loaded
from promring.config.settings import Settings
from promring.consul.access import ConsulSection
from promring.consul.client import connected
from promring.discovery.engine_process import EngineProcess
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.fleet.fleet import Fleet, Service
from promring.fleet.store import strays
from promring.fleet.successors import successors
from promring.model import ConfigError, join_host_port
from promring.reload.decisions import FORCE, Decision, LeftBehind, Question, Reloaded, decide, left_behind
from promring.reload.foresight import Now, foresee
from promring.reload.left import LeftServices
from promring.reload.requests import ReloadRequests
from promring.reloading import foreseen, read
from promring.running import Built, Running
from promring.runtime.actors import Actor, run_actors, said_in
from promring.runtime.notify import Notify
from promring.runtime.orphans import Orphans
from promring.runtime.own_folder import OwnFolder
from promring.runtime.signals import STOP_S, StopSignals
from promring.runtime.threads import BusyError, Single, in_thread
from promring.runtime.unforeseen import kept_alive
from promring.telemetry.events import Events
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics
from promring.web.answers.plans import ReloadPlan
from promring.web.answers.status import Setting
from promring.web.server import WebServer, WebSettings

GRACE_S = 3.0
RELEASE_S = 1.5
READ_S = 30.0
"""For reading a configuration and trying what it asks for; a disk may hang."""
LOCK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    config_file: Path
    state_dir: Path
    web: WebSettings
    flags: Sequence[Setting] = ()
    """All of it, for people."""
    folder: OwnFolder | None = None
    """That of the state, if it has to be kept from other processes."""


@dataclass
class Reload:
    """Whether the configuration in force is the one in the file."""

    successful: bool = True
    at: float = field(default_factory=time.time)
    problems: list[str] = field(default_factory=list)


class Supervisor:
    """The whole process: each of its attributes is a part that runs or is shown."""

    def __init__(self, options: Options, loaded: Loaded, log: Logger, events: Events) -> None:
        self.loaded, self.events, self.metrics = loaded, events, Metrics()
        settings = loaded.settings
        self.reload_state = Reload()
        self.leadership = Leadership(alone=settings.controllers.lock is None, changed=self._on_new_term)
        self.web = WebServer(options.web, self, log)
        self._options, self._log = options, log
        self._left = LeftServices(options.state_dir, log)
        self._running = Running(self._left, self.leadership, self.metrics, log, renamed=self._names_changed)
        self._signals = StopSignals(self._stopping)
        self._engine = EngineProcess(options.state_dir / "engine", log)
        self._engine.want(settings.engine)
        self._requests = ReloadRequests()
        self._reading = Single()
        self._notify, self._orphans = Notify(), Orphans()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until a signal, or until something fails, which is raised."""
        chosen = self.settings.controllers.lock
        controllers = "this one, without a lock" if chosen is None else f"with a lock in {chosen.kind}"
        services = ",".join(s.name for s in self.settings.shard_services)
        self._log.info("starting", services=services, controllers=controllers, pid=os.getpid())
        actors: dict[str, Actor] = {"signals": self._signals.stop.wait, "web": self.web.run, **self._inner()}
        actors["systemd"] = self._tell_systemd
        for name, run in (("orphans", self._orphans.run), ("engine", self._engine.run)):
            actors[name] = partial(kept_alive, name, run, self._log)
        if (folder := self._options.folder) is not None:
            keep_folder = partial(folder.keep, self._log, self._running.save_again)
            actors["state folder"] = partial(kept_alive, "state folder", keep_folder, self._log)
        with self._signals.handled(self._requests.hangup):
            async with self._lock() as lock:
                if lock is not None:
                    keep = lock.run
                    actors["lock"] = lambda: kept_alive("lock", keep, self._log, most_s=LOCK_AGAIN_S)
                ended = await run_actors(actors, GRACE_S, said_in(self._log))
        self._log.info("stopped", first=ended)

    def _inner(self) -> dict[str, Actor]:
        return {"services": self._serve, "reloads": self._reloads}

    async def _tell_systemd(self) -> None:
        """Ready is who serves: what it serves may wait for scrapers, and be what the run before left."""
        await self.web_bound()
        self._notify.ready()
        await self._notify.live()

    def stop(self) -> None:
        """End ``run``, as a signal does."""
        self._signals.stop.set()

    def _stopping(self, name: str) -> None:
        self._notify.stopping()
        self._log.warning("stopping", signal=name, at_most_s=STOP_S)

    def _names_changed(self) -> None:
        """Who waits for a slice asks again, and is known by the new names then."""
        self.web.sd.renew()

    async def web_bound(self) -> None:
        """Wait until the web server listens."""
        await self.web.bound.wait()

    @property
    def web_port(self) -> int:
        return self.web.port

    async def _serve(self) -> None:
        """The configuration that we started with, then each that a reload brings."""
        built = await self._build(self.settings)
        await self._left.find({fleet.name: [s.name for s in fleet.services] for fleet in self.settings.every_fleet})
        await self._running.run(built)

    async def _build(self, settings: Settings, now: Now | None = None) -> Built:
        """Everything that can fail, beside what runs: what it does ``now``. Raises ``ConfigError``."""
        options, stack, consul = self._options, AsyncExitStack(), None
        before = successors(now.settings, settings) if now else {}
        gone = [s for s in now.settings.shard_services if s.name not in before.values()] if now else []
        try:
            if any(s.scrapers.section is ConsulSection for s in settings.shard_services):
                with self._named():
                    consul = await stack.enter_async_context(connected(settings.sections))
                self._log.info("consul_client", addr=str(consul.url))
            paths = options.config_file, options.state_dir
            context = Context(settings, *paths, consul, self.leadership, self.metrics, self._log, self._engine)
            runs = {s.name: self.services.get(before.get(s.name, s.name)) for s in settings.shard_services}
            parts = [build_parts(fleet, context, runs) for fleet in settings.every_fleet]
            new = [fleet.name for fleet in settings.every_fleet if not any(runs[s.name] for s in fleet.services)]
            stores = {name: store_of(name, context) for name in new}
            saved = await in_thread(lambda: {name: store.load() for name, store in stores.items()}) if new else {}
            if now is None:
                fleets = {fleet.name: [s.name for s in fleet.services] for fleet in settings.every_fleet}
                saved |= await in_thread(lambda: strays(options.state_dir, fleets, self._log))
        except BaseException:
            await stack.aclose()
            raise
        known = now.known if now else {}
        left = [left_behind(s, known[s.name]) for s in gone if s.name in known]
        return Built(context, parts, saved, stores, stack, before, left)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A ``ConfigError`` of a part of the configuration names the file."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError([f"{self._options.config_file}: {problem}" for problem in error.problems]) from error

    @contextlib.asynccontextmanager
    async def _lock(self) -> AsyncIterator[Election | None]:
        """The lock of the configuration that we started with. Released when nobody of us writes any more."""
        wanted = self.settings.controllers.lock
        if wanted is None:
            yield None
            return
        # The number tells apart who has one host name and one port: containers, addresses of one machine.
        name = f"{join_host_port(socket.gethostname(), self._options.web.port)}/{secrets.token_hex(2)}"
        self._log.info("controller_name", name=name)
        async with AsyncExitStack() as stack:
            with self._named():
                store = await stack.enter_async_context(wanted.store(name, self.settings.sections))
            lock = Election(
                store,
                Lease(name, wanted.ttl_s, wanted.lease_most_s),
                self.leadership,
                informed=self._is_informed,
                highest=lambda: max((f.reconciler.memory.generation.epoch for f in self.fleets.values()), default=0),
                drained=lambda: {name: f.reconciler.memory.drained for name, f in self.fleets.items()},
                log=self._log,
                lapsed=self.metrics.lease_lapses.inc,
            )
            try:
                yield lock
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RELEASE_S):
                        await lock.release()

    def _is_informed(self) -> bool:
        """Whether every service knows as much as another controller's may."""
        return bool(self.fleets) and all(fleet.informed for fleet in self.fleets.values())

    def _on_new_term(self) -> None:
        for fleet in self.fleets.values():
            fleet.facts.wake()

    # --- what runs ---------------------------------------------------------------------------------------------------

    @property
    def fleets(self) -> Mapping[str, Fleet]:
        return self._running.fleets

    @property
    def services(self) -> Mapping[str, Service]:
        """Of all fleets."""
        return self._running.services

    @property
    def settings(self) -> Settings:
        """Of the configuration in force."""
        return self.loaded.settings

    @property
    def flags(self) -> Sequence[Setting]:
        """The command line, for people."""
        return self._options.flags

    @property
    def renamed(self) -> Mapping[str, str]:
        """Names that services had before a reload, and theirs now."""
        return self._running.renamed

    @property
    def left_behind(self) -> Sequence[LeftBehind]:
        """Services that are configured no more, and what of them is still there."""
        return self._left.every

    # --- what web asks -----------------------------------------------------------------------------------------------

    async def reload(self, *, force: bool = False) -> Reloaded:
        """Read the configuration again, and build all of it. With any problem everything stays as it is. ``force``: also
        when targets would be lost by it.
        """
        return await self._requests.ask(force=force)

    async def _reloads(self) -> None:
        """For ever: one reload for all who asked since the one before began."""
        while True:
            force, answers = await self._requests.next()
            self._notify.reloading()
            try:
                found = await self._reload(force=force)
            except Exception as error:  # whatever a file can bring about, a reload must not end the process
                found = self._refused([f"{self._options.config_file}: {type(error).__name__}: {error}"])
            for answer in answers:
                if not answer.done():  # who asked has gone
                    answer.set_result(found)
            if not found.problems:
                await self._running.runs.wait()
            self._notify.ready()

    async def _reload(self, *, force: bool) -> Reloaded:
        access, file = self._options.web.access, self._options.config_file
        try:
            loaded = await self._reading.run(lambda: read(file, self.settings, access.try_out), READ_S)
            settings = loaded.settings
            async with asyncio.timeout(READ_S):
                now = Now.of(self.settings, self.fleets)
                decisions = await in_thread(lambda: decide(now.settings, settings, now.known, foresee(now, settings)))
                if lost := [one for one in decisions if one.loss and not force]:
                    return self._refused([*(one.line for one in lost), f"nothing is changed; {FORCE}"])
                built = await self._build(settings, now)
            try:
                access.reload()  # the last: it cannot be undone
            except ConfigError:
                await built.stack.aclose()
                raise
        except ConfigError as error:
            return self._refused(error.problems)
        except TimeoutError:
            return self._refused([f"{self._options.config_file}: not read, and what it asks for not tried, in {READ_S:g} s"])
        except BusyError:
            return self._refused([f"{self._options.config_file}: the reload before still tries to read"])
        self._log.info("reload", services=",".join(s.name for s in settings.shard_services), decisions=len(decisions))
        self._say(decisions)
        self.loaded, self.reload_state = loaded, Reload()
        self._engine.want(settings.engine)
        self._running.put(built)
        return Reloaded((), decisions)

    def _say(self, decisions: Sequence[Decision]) -> None:
        for one in decisions:
            warns = one.loss or one.kind in ("service_removed", "reload_needs_a_restart")
            say = self._log.warning if warns else self._log.info
            say(one.kind, service=one.service, detail=one.text, **one.numbers)

    async def foresee(self, text: bytes, question: Question) -> ReloadPlan:
        """What a reload with this configuration would do; touches nothing. Raises ``ConfigError``, and ``PromringError`` for
        what is asked and cannot be.
        """
        now = Now.of(self.settings, self.fleets)
        return await in_thread(lambda: foreseen(self._options.config_file, now, text, question))

    def _refused(self, problems: list[str]) -> Reloaded:
        for problem in problems:
            self._log.error("reload_refused", error=problem)
        self.reload_state = Reload(False, self.reload_state.at, problems)
        return Reloaded(problems)

    def unready(self) -> list[str]:
        """Why not ready, a line a service."""
        return [why for why in (*self._running.unready(), self._locked_out()) if why]

    def _locked_out(self) -> str:
        """Why nothing is delivered without a lock, or an empty text."""
        newer = self.leadership.locked_out_by
        if newer is None:
            return ""
        note = "this one takes over when that one stays silent"
        return f"receivers keep generation {newer} of another controller without a lock; {note}"
