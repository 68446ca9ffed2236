"""What stands in the place of promring's outermost things: clocks, threads, HTTP, the web server, random words."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
import time
import types
from collections.abc import Awaitable, Callable
from typing import Any

from promring import supervisor
from promring.audit import watch
from promring.config.scraper_api import ScraperApi
from promring.consul import lock
from promring.core import second_opinion, trials
from promring.delivery.file import FileDelivery, FileSettings
from promring.delivery.http_sd import HttpSdDelivery
from promring.fleet.keeper import Keeper
from promring.fleet.state import Memory
from promring.kubernetes import lock as kubernetes_lock
from promring.membership import direct, probing
from promring.runtime import disk, threads
from promring.runtime import http_client as httpclient
from tests.sim.controller import NoWeb
from tests.sim.faketime import Threads
from tests.sim.far import FarDelivery
from tests.sim.world import World

SHORT_LIVED = (("SICK_S", 40.0), ("SICK_MOST_S", 80.0)), (("PAUSE_S", 60.0), ("PAUSE_MOST_S", 120.0))
"""What ``core.second_opinion`` and ``core.trials`` wait for in hours."""
LOOK_AGAIN_S = 2.0
"""Who is awaited is looked at so often: the audit is a third of what a simulated second costs."""


@functools.cache
def load_all() -> None:
    """Every module of promring that a simulated controller may load: the files of kinds are loaded when they are used."""
    for room in ("consul", "delivery", "discovery", "election", "etcd", "kubernetes", "loads", "membership"):
        for module in pkgutil.iter_modules(importlib.import_module(f"promring.{room}").__path__, f"promring.{room}."):
            importlib.import_module(module.name)


def replacements(world: World, means: str) -> list[tuple[Any, str, Any]]:
    """The outermost things: clocks, threads, HTTP, the web server, random words; and an eye on what is delivered."""
    found = list[tuple[Any, str, Any]]()
    load_all()  # a module that is loaded later would keep the stand-ins of the run in which it was
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("promring.") or name.startswith("promring.demo"):
            continue
        for attribute, real, fake in (
            ("time", time, world.clock),
            ("request", httpclient.request, world.network.request),
            ("new_session", httpclient.new_session, _Session),
        ):
            if module.__dict__.get(attribute) is real:
                found.append((module, attribute, fake))
    words = types.SimpleNamespace(token_hex=lambda n: f"{world.rng.getrandbits(8 * n):0{2 * n}x}")
    found += [
        (threads, "threading", Threads(lambda: world.rng.choice((0.0, 0.001, 0.02)) + world.pace.thread_s())),
        (lock, "secrets", words),
        (kubernetes_lock, "secrets", words),
        (disk, "secrets", words),
        (supervisor, "secrets", words),
        (probing, "KeptProbe", functools.partial(_Probe, world)),
        (supervisor, "WebServer", NoWeb),
        (httpclient.TlsFiles, "context", lambda _: None),
        (direct, "accepts", world.network.accepts),
        (disk, "install", world.install(disk.install)),
    ]
    for kind in (HttpSdDelivery, FileDelivery, FarDelivery):
        found.append((kind, "deliver", _recorded(kind.deliver, world)))
    found.append((Keeper, "save", _saved(Keeper.save, world)))
    if means == "far":
        found.append((FileSettings, "delivery", lambda wanted, _: FarDelivery(wanted.path, world)))
    for module, some in zip((second_opinion, trials), SHORT_LIVED, strict=True):
        found += [(module, name, value) for name, value in some]
    found.append((watch, "SOON_S", LOOK_AGAIN_S))
    return found


class _Probe:
    """In the place of ``membership.kept.KeptProbe``."""

    def __init__(self, world: World, address: str, path: str, *, idle_most: int, api: ScraperApi) -> None:
        self._world, self._url = world, str(api.url(address, path))

    async def status(self, timeout_s: float) -> int:
        return (await self._world.network.request(None, "GET", self._url, timeout_s=timeout_s)).status

    def close(self) -> None:
        """There is no connection."""


class _Session:
    """In the place of an HTTP session."""

    def __init__(self, **_: object) -> None:
        pass

    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def close(self) -> None:
        pass


def _recorded(deliver: Callable[..., Awaitable[Any]], world: World) -> Callable[..., Awaitable[Any]]:
    """Remember every slice that was made."""

    async def recorded(self: object, slices: Any, *rest: Any) -> Any:
        world.made(slices)
        return await deliver(self, slices, *rest)

    return recorded


def _saved(save: Callable[[Keeper, Memory], Awaitable[None]], world: World) -> Callable[[Keeper, Memory], Awaitable[None]]:
    """The same of what is saved: after a restart it is given, also if it was not delivered before."""

    async def saved(self: Keeper, memory: Memory) -> None:
        if not self.has(memory):
            for service in memory.services.values():
                world.made([*service.slices.values()])
        await save(self, memory)

    return saved
