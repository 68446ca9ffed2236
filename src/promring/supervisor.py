"""Keeps the process alive and ends it well: actors, signals, reload, graceful stop.

Promises: SIGINT and SIGTERM stop in at most ``STOP_S``, a second one at once; SIGHUP and ``POST /-/reload`` read the file
again, and a bad one changes nothing; a reload carries all facts and slices over, so an unchanged service moves nothing.
Flow: ``build`` makes the services from the settings; ``web`` reads what this object and its services show.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from promring.actors import Actor, run_actors
from promring.build import Kit, build_service, consul_access
from promring.config import load
from promring.consul.client import Client
from promring.consul.lock import ConsulLock, LockSettings
from promring.events import Events
from promring.leadership import Leadership
from promring.log import Logger
from promring.metrics import Metrics
from promring.model import ConfigError, join_host_port
from promring.service import Service
from promring.settings import Settings
from promring.web.server import WebServer, WebSettings

STOP_S = 5.0
GRACE_S = 3.0
RELEASE_S = 1.5
RELOAD_S = 30.0


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


class Supervisor:
    """The whole process."""

    def __init__(self, options: Options, settings: Settings, log: Logger, events: Events) -> None:
        self.settings = settings
        self.events = events
        self.services: dict[str, Service] = {}
        self.metrics = Metrics()
        self.reload_state = Reload()
        self._options = options
        self._log = log
        self._stop = asyncio.Event()
        self._next_settings: asyncio.Event = asyncio.Event()
        self._ready: set[str] = set()
        self.leadership = Leadership(alone=settings.controllers.lock is None, changed=self._on_new_term)
        self._web = WebServer(options.web, self, log)

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until a signal, or until something fails, which is raised."""
        controllers = "this one, without a lock" if self.leadership.alone else "with a lock in Consul"
        services = ",".join(s.name for s in self.settings.shard_services)
        self._log.info("starting", services=services, controllers=controllers, pid=os.getpid())
        actors: dict[str, Actor] = {"signals": self._stop.wait, "web": self._web.run, "services": self._serve}
        with self._signals():
            async with self._lock() as lock:
                ended = await run_actors(actors | ({"lock": lock.run} if lock else {}), GRACE_S)
        self._log.info("stopped", first=ended)

    def stop(self) -> None:
        """End ``run``, as a signal does."""
        self._stop.set()

    async def web_bound(self) -> None:
        """Wait until the web server listens."""
        await self._web.bound.wait()

    @property
    def web_port(self) -> int:
        return self._web.port

    async def _serve(self) -> None:
        """One round a configuration: run all services of it until one fails or another configuration is wanted."""
        while True:
            self._next_settings.clear()
            async with self._consul() as consul:
                self._ready |= {name for name, service in self.services.items() if service.reconciler.decided}
                left = self.services
                options = self._options
                kit = Kit(
                    self.settings,
                    options.config_file,
                    options.state_dir,
                    consul,
                    self.leadership,
                    self.metrics,
                    self._log,
                )
                self.services = {s.name: build_service(s, kit, left.get(s.name)) for s in self.settings.shard_services}
                for gone in left.keys() - self.services.keys():
                    self.metrics.forget(gone)
                actors = {f"service {name}": service.run for name, service in self.services.items()}
                # A slow disk may hold a reload up; one that hangs ends the process, and the next serves the saved state.
                ended = await run_actors({"reload": self._next_settings.wait, **actors}, RELOAD_S)
            if ended != "reload":
                raise RuntimeError(f"{ended} ended by itself")

    @contextlib.asynccontextmanager
    async def _lock(self) -> AsyncIterator[ConsulLock | None]:
        """The lock of the configuration that we started with. Released when nobody of us writes any more."""
        wanted = self.settings.controllers.lock
        if wanted is None:
            yield None
            return
        host, port = socket.gethostname(), self._options.web.port
        settings = LockSettings(wanted.chosen.key, wanted.chosen.check_ttl, join_host_port(host, port))
        async with Client(consul_access(self.settings)) as client:
            lock = ConsulLock(
                client,
                settings,
                self.leadership,
                informed=self._is_informed,
                highest=lambda: max((s.reconciler.memory.generation.epoch for s in self.services.values()), default=0),
                drained=lambda: {name: s.reconciler.memory.drained for name, s in self.services.items()},
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
        return bool(self.services) and all(s.informed for s in self.services.values())

    def _on_new_term(self) -> None:
        for service in self.services.values():
            service.facts.ring()

    @contextlib.asynccontextmanager
    async def _consul(self) -> AsyncIterator[Client | None]:
        if not any(s.scrapers.consul for s in self.settings.shard_services):
            yield None
            return
        async with Client(consul_access(self.settings)) as client:
            self._log.info("consul_client", addr=str(client.url))
            yield client

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        yield
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _on_stop_signal(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._log.warning("stopping", signal=signal.Signals(number).name, at_most_s=STOP_S)
        watchdog = threading.Timer(STOP_S, os._exit, [1])  # also ends threads that hang in a system call
        watchdog.daemon = True
        watchdog.start()
        self._stop.set()

    # --- what web asks -----------------------------------------------------------------------------------------------

    def reload(self) -> list[str]:
        """Read the configuration again. The problems found; with any, everything stays as it is."""
        try:
            settings = load(self._options.config_file)
            self._options.web.access.reload()
        except ConfigError as error:
            return self._refused(error.problems)
        except Exception as error:  # whatever a file can bring about, a reload must not end the process
            return self._refused([f"{self._options.config_file}: {type(error).__name__}: {error}"])
        self._log.info("reload", services=",".join(s.name for s in settings.shard_services))
        if settings.controllers != self.settings.controllers:
            self._log.warning("reload_needs_a_restart", key="controllers", note="the lock stays as it was at the start")
        self.settings, self.reload_state = settings, Reload()
        self._next_settings.set()
        return []

    def _refused(self, problems: list[str]) -> list[str]:
        for problem in problems:
            self._log.error("reload_refused", error=problem)
        self.reload_state = Reload(False, self.reload_state.at, problems)
        return problems

    def unready(self) -> list[str]:
        """Why not ready, a line a service. A service that once was ready stays so, over a reload too, but not when nothing
        has been heard of its scrapers for longer than any answer takes.
        """
        if not self.services:
            return ["starting"]
        said = ((name not in self._ready and s.unready()) or s.silent() for name, s in self.services.items())
        return [why for why in said if why]
