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
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from promring import trial
from promring.build import Context, Parts, Previous, build_fleet, build_parts, store_of
from promring.config.load import Loaded, load_with_lines, loads_with_lines
from promring.config.settings import Settings
from promring.consul.access import ConsulSection
from promring.consul.client import connected
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.fleet.fleet import Fleet, Service
from promring.fleet.state import Memory, orphans, strays
from promring.fleet.succession import heirs, inherited, origins, successors
from promring.model import ConfigError, join_host_port
from promring.reload.decisions import FORCE, Decision, LeftBehind, Question, Reloaded, decide, left_behind
from promring.reload.foresight import Now, foresee
from promring.reload.left import remember, remembered
from promring.runtime.actors import Actor, run_actors
from promring.runtime.notify import Notify
from promring.runtime.orphans import Orphans
from promring.runtime.threads import BusyError, Single, beside
from promring.runtime.unforeseen import kept_alive
from promring.telemetry.events import Events
from promring.telemetry.log import Logger
from promring.telemetry.metrics import Metrics
from promring.web.answers.plans import ReloadPlan
from promring.web.server import WebServer, WebSettings
from promring.web.views.plans import reload_plan

STOP_S = 5.0
GRACE_S = 3.0
RELEASE_S = 1.5
RELOAD_S = 30.0
READ_S = 30.0
"""For reading a configuration and trying what it asks for; a disk may hang."""
LOCK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    config_file: Path
    state_dir: Path
    web: WebSettings


@dataclass
class Reload:
    """Whether the configuration in force is the one in the file."""

    successful: bool = True
    at: float = field(default_factory=time.time)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Built:
    """A configuration and all that it asks for, built: nothing of it runs yet. ``stack`` has what is to be closed."""

    context: Context
    parts: Sequence[Parts]
    saved: Mapping[str, Memory]
    """From disk, of the fleets that do not run."""
    stack: AsyncExitStack
    before: Mapping[str, str] = field(default_factory=dict)
    """For each service that goes on with one that runs, the name of that one."""
    left: Sequence[LeftBehind] = ()
    """Services that are not in this configuration."""


class Supervisor:
    """The whole process."""

    def __init__(self, options: Options, settings: Settings, log: Logger, events: Events) -> None:
        self.settings = settings
        self.events = events
        self.fleets: dict[str, Fleet] = {}
        self.services: dict[str, Service] = {}
        """Of all fleets."""
        self.settings_of_running: Settings | None = None
        """What the running fleets were built from."""
        self.renamed: dict[str, str] = {}
        self.left_behind: list[LeftBehind] = []
        self.metrics = Metrics()
        self.reload_state = Reload()
        self._options = options
        self._log = log
        self._stop = asyncio.Event()
        self._next: Built | None = None
        self._next_is_built = asyncio.Event()
        self._next_runs = asyncio.Event()
        self._reading = Single()
        self._reload_wanted = asyncio.Event()
        self._reload_forced = False
        self._reload_answers: list[asyncio.Future[Reloaded]] = []
        self._ready: set[str] = set()
        self.leadership = Leadership(alone=settings.controllers.lock is None, changed=self._on_new_term)
        self.web = WebServer(options.web, self, log)
        self._notify = Notify()
        self._orphans = Orphans()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until a signal, or until something fails, which is raised."""
        chosen = self.settings.controllers.lock
        controllers = "this one, without a lock" if chosen is None else f"with a lock in {chosen.kind}"
        services = ",".join(s.name for s in self.settings.shard_services)
        self._log.info("starting", services=services, controllers=controllers, pid=os.getpid())
        actors: dict[str, Actor] = {"signals": self._stop.wait, "web": self.web.run, **self._inner()}
        actors["systemd"], actors["orphans"] = (
            self._tell_systemd,
            lambda: kept_alive("orphans", self._orphans.run, self._log),
        )
        with self._signals():
            async with self._lock() as lock:
                if lock is not None:
                    keep = lock.run
                    actors["lock"] = lambda: kept_alive("lock", keep, self._log, most_s=LOCK_AGAIN_S)
                ended = await run_actors(actors, GRACE_S, self._also_failed)
        self._log.info("stopped", first=ended)

    def _inner(self) -> dict[str, Actor]:
        return {"services": self._serve, "reloads": self._reloads}

    async def _tell_systemd(self) -> None:
        """Ready is who serves: what it serves may wait for scrapers, and be what the run before left."""
        await self.web_bound()
        self._notify.ready()
        await self._notify.live()

    def _also_failed(self, actor: str, error: BaseException) -> None:
        self._log.error("failed_while_stopping", actor=actor, error=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """End ``run``, as a signal does."""
        self._stop.set()

    async def web_bound(self) -> None:
        """Wait until the web server listens."""
        await self.web.bound.wait()

    @property
    def web_port(self) -> int:
        return self.web.port

    async def _serve(self) -> None:
        """One round a configuration: run all services of it until one fails or another configuration is wanted."""
        built = await self._build(self.settings)
        await self._find_orphans()
        try:
            while True:
                await self._serve_one(built)
                assert self._next is not None  # or the round would not have ended
                built, self._next = self._next, None
        finally:
            if self._next is not None:
                await self._next.stack.aclose()

    async def _serve_one(self, built: Built) -> None:
        """Until another configuration is built. Raises what a service raises."""
        if self._next is None:  # else a reload was quicker than this round
            self._next_is_built.clear()
        async with built.stack:
            self._ready |= {name for name, service in self.services.items() if service.state.decided}
            left = self.services
            self.fleets = self._started(built)
            self.services = {name: service for fleet in self.fleets.values() for name, service in fleet.services.items()}
            self._forget(left)
            self._succeeded(built, left)
            shared = [one for one in built.left if one.service in left and left[one.service].fleet.name != one.service]
            await self._remember(shared)  # the state of a fleet of its own stays, and says it
            self._next_runs.set()
            actors = {f"fleet {name}": fleet.run for name, fleet in self.fleets.items()}
            # A slow disk may hold a reload up; one that hangs ends the process, and the next serves the saved state.
            ended = await run_actors({"reload": self._next_is_built.wait, **actors}, RELOAD_S, self._also_failed)
        if ended != "reload":
            raise RuntimeError(f"{ended} ended by itself")

    def _forget(self, left: Mapping[str, Service]) -> None:
        """The counters of what is gone."""
        for name in left.keys() - self.services.keys():
            self.metrics.forget(service=name)
        for name in {service.fleet.name for service in left.values()} - self.fleets.keys():
            self.metrics.forget(fleet=name)

    def _started(self, built: Built) -> dict[str, Fleet]:
        """The fleets of ``built``, with what those before them know now. Those have ended: two would write one file."""
        memories = {**built.saved, **{name: fleet.memory() for name, fleet in self.fleets.items()}}
        came_from = origins(self.settings_of_running, built.context.settings, built.before, memories)
        found = {
            parts.fleet.name: inherited(parts.fleet, memories, came_from, self.settings_of_running) for parts in built.parts
        }
        replaced = heirs({name: names for name, (_, names) in found.items()})
        started = {}
        for parts in built.parts:
            fleet = parts.fleet
            memory, names = found[fleet.name]
            as_saved = names == [fleet.name] and memory == memories.get(fleet.name)
            before = {s.name: self.services.get(built.before.get(s.name, s.name)) for s in fleet.services}
            started[fleet.name] = build_fleet(parts, built.context, Previous(memory, replaced[fleet.name], before, as_saved))
        self.settings_of_running = built.context.settings
        return started

    def _succeeded(self, built: Built, left: Mapping[str, Service]) -> None:
        """The services of ``built`` go on with what those before them knew, which may have had other names and ids."""
        before = {new: old for new, old in built.before.items() if old in left}
        renamed = {old: new for new, old in before.items() if old != new}
        known = self.renamed | renamed
        followed = {name: renamed.get(new, new) for name, new in known.items()}
        self.renamed = {n: new for n, new in followed.items() if new in self.services and n not in self.services}
        self._ready |= {new for new, old in before.items() if old in self._ready}
        self.left_behind = [one for one in (*self.left_behind, *built.left) if one.service not in self.services]
        pairs = [(left[old].settings, self.services[new].settings) for new, old in before.items()]
        if not renamed and not any(a.identity != b.identity or a.fleet != b.fleet for a, b in pairs):
            return
        self.web.sd.close()  # who waits asks again, and is known by the new names then
        if self.leadership.leads() and not self.leadership.alone:
            self.leadership.share_drained({name: f.reconciler.memory.drained for name, f in self.fleets.items()})

    async def _remember(self, left: Sequence[LeftBehind]) -> None:
        """Over restarts, too: what this configuration does not have any more. Those that it has again are forgotten."""
        folder, now = self._options.state_dir, {one.service: one for one in left}
        said = await beside(lambda: remember(folder, left, self._log))
        await beside(lambda: remembered(folder, self.services.keys(), self._log))
        noted = {one.service: one for one in said}
        self.left_behind = [noted.get(one.service, one) if one.service in now else one for one in self.left_behind]

    async def _find_orphans(self) -> None:
        """What was left behind by a start with another configuration, or by a reload before that."""
        fleets = {fleet.name: [s.name for s in fleet.services] for fleet in self.settings.every_fleet}
        folder, configured = self._options.state_dir, [name for names in fleets.values() for name in names]
        self.left_behind += await beside(lambda: remembered(folder, configured, self._log))
        known, new = {one.service for one in self.left_behind}, list[LeftBehind]()
        for behind in self.left_behind:
            self._log.warning("left_behind", service=behind.service, targets=behind.targets, where=",".join(behind.where))
        for one in await beside(lambda: orphans(folder, fleets, self._log)):
            if one.service in known:
                continue
            file = "" if one.live else f"; its state is {one.path}: remove that when nothing reads its slices"
            where = (f"where it delivered to{file}",)
            behind = LeftBehind(one.service, sorted(one.scrapers), sum(one.scrapers.values()), where)
            (new if one.live else self.left_behind).append(behind)
            self._log.warning(
                "state_without_service",
                service=one.service,
                scrapers=",".join(sorted(one.scrapers)),
                targets=sum(one.scrapers.values()),
                path=str(one.path),
                note="its slices go on being scraped; remove them" + ("" if one.live else ", then this file"),
            )
        self.left_behind += await beside(lambda: remember(folder, new, self._log))

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
            context = Context(
                settings, options.config_file, options.state_dir, consul, self.leadership, self.metrics, self._log
            )
            runs = {s.name: self.services.get(before.get(s.name, s.name)) for s in settings.shard_services}
            parts = [build_parts(fleet, context, runs) for fleet in settings.every_fleet]
            new = [fleet.name for fleet in settings.every_fleet if not any(runs[s.name] for s in fleet.services)]
            saved = await beside(lambda: {name: store_of(name, context).load() for name in new}) if new else {}
            if now is None:
                fleets = {fleet.name: [s.name for s in fleet.services] for fleet in settings.every_fleet}
                saved |= await beside(lambda: strays(options.state_dir, fleets, self._log))
        except BaseException:
            await stack.aclose()
            raise
        known = now.known if now else {}
        return Built(context, parts, saved, stack, before, [left_behind(s, known[s.name]) for s in gone if s.name in known])

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
                Lease(name, wanted.ttl_s),
                self.leadership,
                informed=self._is_informed,
                highest=lambda: max((f.reconciler.memory.generation.epoch for f in self.fleets.values()), default=0),
                drained=lambda: {name: f.reconciler.memory.drained for name, f in self.fleets.items()},
                log=self._log,
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
            fleet.facts.ring()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        yield
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _on_stop_signal(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()
        self._notify.stopping()
        self._log.warning("stopping", signal=signal.Signals(number).name, at_most_s=STOP_S)
        watchdog = threading.Timer(STOP_S, os._exit, [1])  # also ends threads that hang in a system call
        watchdog.daemon = True
        try:
            watchdog.start()
        except RuntimeError:  # there is no thread to be had: the kernel ends the process instead
            signal.setitimer(signal.ITIMER_REAL, STOP_S)

    # --- what web asks -----------------------------------------------------------------------------------------------

    async def reload(self, *, force: bool = False) -> Reloaded:
        """Read the configuration again, and build all of it. With any problem everything stays as it is. ``force``: also
        when targets would be lost by it.
        """
        answer: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._reload_answers.append(answer)
        self._reload_forced |= force
        self._reload_wanted.set()
        return await answer

    async def _reloads(self) -> None:
        """For ever: one reload for all who asked since the one before began."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            answers, self._reload_answers = self._reload_answers, []
            force, self._reload_forced = self._reload_forced, False
            self._notify.reloading()
            try:
                found = await self._reload(force=force)
            except Exception as error:  # whatever a file can bring about, a reload must not end the process
                found = self._refused([f"{self._options.config_file}: {type(error).__name__}: {error}"])
            for answer in answers:
                if not answer.done():  # who asked has gone
                    answer.set_result(found)
            if not found.problems:
                await self._next_runs.wait()
            self._notify.ready()

    async def _reload(self, *, force: bool) -> Reloaded:
        access = self._options.web.access
        try:
            settings = (await self._reading.run(self._read, READ_S)).settings
            async with asyncio.timeout(READ_S):
                now = Now.of(self.settings, self.fleets)
                decisions = await beside(lambda: decide(now.settings, settings, now.known, foresee(now, settings)))
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
        if settings.controllers != self.settings.controllers:
            self._log.warning("reload_needs_a_restart", key="controllers", note="the lock stays as it was at the start")
        self.settings, self.reload_state = settings, Reload()
        self._next_runs.clear()
        self._next = built
        self._next_is_built.set()
        return Reloaded((), decisions)

    def _say(self, decisions: Sequence[Decision]) -> None:
        for one in decisions:
            say = self._log.warning if one.loss or one.kind == "service_removed" else self._log.info
            say(one.kind, service=one.service, detail=one.text, **one.numbers)

    async def foresee(self, text: bytes, question: Question) -> ReloadPlan:
        """What a reload with this configuration would do; touches nothing. Raises ``ConfigError``, and ``PromringError`` for
        what is asked and cannot be.
        """
        now = Now.of(self.settings, self.fleets)
        return await beside(lambda: self._foreseen(now, text, question))

    def _foreseen(self, now: Now, text: bytes, question: Question) -> ReloadPlan:
        file = self._options.config_file
        loaded = loads_with_lines(text, name=question.name, base=file.absolute().parent)
        if found := loaded.lines(trial.problems(loaded.settings, file, now.settings)):
            raise ConfigError(found)
        foreseen = foresee(now, loaded.settings, question)
        decisions = decide(now.settings, loaded.settings, now.known, foreseen)
        return reload_plan(decisions, foreseen)

    def _read(self) -> Loaded:
        """In a thread. Raises ``ConfigError``."""
        loaded = load_with_lines(self._options.config_file, pipes=False)
        found = loaded.lines(trial.problems(loaded.settings, self._options.config_file, self.settings))
        try:
            self._options.web.access.try_out()
        except ConfigError as error:
            found += error.problems
        if found:
            raise ConfigError(found)
        return loaded

    def _refused(self, problems: list[str]) -> Reloaded:
        for problem in problems:
            self._log.error("reload_refused", error=problem)
        self.reload_state = Reload(False, self.reload_state.at, problems)
        return Reloaded(problems)

    def unready(self) -> list[str]:
        """Why not ready, a line a service. A fleet with a plan of one service is ready: the others hold only themselves. One
        that once was ready stays so, over a reload too, but not when nothing has been heard of its scrapers for longer than
        any answer takes.
        """
        if not self.fleets:
            return ["starting"]
        said: list[str] = []
        for fleet in self.fleets.values():
            waiting = [why for name, one in fleet.services.items() if name not in self._ready and (why := one.unready())]
            if len(waiting) == len(fleet.services):
                said += waiting
            if silent := fleet.silent():
                said.append(silent)
        return [why for why in (*said, self._locked_out()) if why]

    def _locked_out(self) -> str:
        """Why nothing is delivered without a lock, or an empty text."""
        newer = self.leadership.locked_out_by
        if newer is None:
            return ""
        note = "this one takes over when that one stays silent"
        return f"receivers keep generation {newer} of another controller without a lock; {note}"
