"""Asks for the facts of a shard service one time and touches nothing: for ``promring plan``.

The scrapers are watched until there is one answer, nothing is registered; every source is asked once. Raises
``FactsError`` when something gives no answer: a plan of half the facts would be a wrong one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from promring.build import Kit, build_membership, build_sources, consul_access
from promring.consul.client import Client
from promring.core.pool import merge
from promring.leadership import Leadership
from promring.log import Logger
from promring.metrics import Metrics
from promring.model import Answer, DiscoveryError, Empty, Known, Members, PromringError, TargetPool, Unknown
from promring.settings import Settings, ShardService

TIMEOUT_S = 20.0


class FactsError(PromringError):
    """A fact could not be had; the text says which and why."""


async def read_facts(
    settings: Settings, service: ShardService, config_file: Path, log: Logger
) -> tuple[Members, TargetPool]:
    """The live scrapers and the pool of ``service``, now."""
    async with Client(consul_access(settings)) as client:
        kit = Kit(settings, config_file, Path(), client, Leadership(), Metrics(), log)
        members = await _members(service, kit)
        lists = []
        for name, source in build_sources(service, kit).items():
            try:
                lists.append(await source.fetch())
            except DiscoveryError as error:
                raise FactsError(f"{service.name}: no targets from {name}: {error}") from error
    pool = await asyncio.to_thread(merge, lists, service.placement.hash_labels, service.zone_label)
    if not len(pool):
        raise FactsError(f"{service.name}: no source has a target")
    return members, pool


async def _members(service: ShardService, kit: Kit) -> Members:
    newest: Answer[Members] = Unknown("no answer yet")
    answered = asyncio.Event()

    def publish(answer: Answer[Members]) -> None:
        nonlocal newest
        newest = answer
        if not isinstance(answer, Unknown):
            answered.set()

    watching = asyncio.ensure_future(build_membership(service, kit, register=False).run(publish))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await answered.wait()
    except TimeoutError:
        why = newest.reason if isinstance(newest, Unknown) else ""
        raise FactsError(f"{service.name}: the scrapers are not known: {why}") from None
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    match newest:
        case Known(members):
            return tuple(replace(s, weight=0.0) if s.draining else s for s in members)
        case Empty():
            raise FactsError(f"{service.name}: no scraper is alive")
        case _:
            raise FactsError(f"{service.name}: the scrapers are not known")
