"""Asks for the facts of a fleet, and of all its services, one time and touches nothing: for ``promring plan``.

The scrapers are watched until there is one answer, nothing is registered; every source is asked once. Raises
``FactsError`` when something gives no answer: a plan of half the facts would be a wrong one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from promring.audit.births import believed
from promring.build import build_sources, membership_context, source_context
from promring.config.kinds import Sections, Shared
from promring.config.settings import FleetKeys, FleetOfServices, Settings, ShardService
from promring.consul.client import Client, connected
from promring.core.joined import FleetPool, Part, salt_of
from promring.core.pool import merge_sources
from promring.discovery import Source, SourceContext
from promring.election.note import decode
from promring.model import (
    Answer,
    ConfigError,
    ConsulError,
    DiscoveryError,
    Empty,
    Known,
    Members,
    NodeState,
    PromringError,
    StoreError,
    Unknown,
)
from promring.rules import ranks_of
from promring.runtime.http_client import new_session
from promring.telemetry.log import Logger

TIMEOUT_S = 20.0
ASK_S = 5.0
NAMED = 5
"""So many scrapers that are not alive are named with the reason."""


class FactsError(PromringError):
    """A fact could not be had; the text says which and why."""


async def read_facts(
    settings: Settings, fleet: FleetOfServices, config_file: Path, log: Logger
) -> tuple[Members, Members, FleetPool]:
    """The live scrapers, those that are listed, alive or not, and the targets of all services of ``fleet``, now."""
    async with connected(settings.sections) as client:
        members, listed, _ = await _members(fleet.keys, client, settings.sections, log)
        sources = replace(source_context(settings, config_file, Shared()), once=True)
        parts = {service.name: await _part(service, sources) for service in fleet.services}
    return members, listed, await asyncio.to_thread(FleetPool.of, parts)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked ``of`` a fleet or service, whether it ``answered`` with something in it, and what it ``said``."""

    of: str
    what: str
    answered: bool
    said: str
    servers: Mapping[str, str] = field(default_factory=dict)
    """Of scrapers that tell who they are, by id: equal for two names of one server."""


async def ask_each(settings: Settings, fleet: FleetOfServices, config_file: Path, log: Logger) -> list[Asked]:
    """Who scrapes, and every source of every service, each for itself: one without an answer hides no other."""
    async with connected(settings.sections) as client:
        sources = replace(source_context(settings, config_file, Shared()), once=True)
        found = [await _scrapers(fleet.keys, client, settings.sections, log)]
        for service in fleet.services:
            found += [await _source(service.name, name, source) for name, source in build_sources(service, sources).items()]
    return found


async def ask_lock(settings: Settings) -> Asked | None:
    """Who leads, as the store of the lock says; None: no lock is configured. Nothing is taken, nor registered."""
    wanted = settings.controllers.lock
    if wanted is None:
        return None
    try:
        async with asyncio.timeout(TIMEOUT_S), wanted.store("", settings.sections) as store:
            what, seen = f"lock in {wanted.kind}: {store.key}", await store.look()
    except TimeoutError:
        return Asked("controllers", f"lock in {wanted.kind}", False, f"no answer within {TIMEOUT_S:g} s")
    except (StoreError, ConfigError) as error:
        return Asked("controllers", f"lock in {wanted.kind}", False, str(error))
    note = decode(seen.note)
    leader = note.leader if note is not None else "somebody who wrote no note"
    return Asked("controllers", what, True, f"{leader} leads" if seen.held else "nobody leads")


async def _scrapers(keys: FleetKeys, client: Client, sections: Sections, log: Logger) -> Asked:
    try:
        living, listed, down = await _members(keys, client, sections, log)
    except FactsError as error:
        return Asked(keys.name, "scrapers", False, str(error).removeprefix(f"{keys.name}: "))
    births = await _births(living, keys)
    groups = same_servers(births)
    twice = "".join(f"; {' and '.join(names)} are one server: list it once" for names in groups[:NAMED])
    return Asked(keys.name, "scrapers", not groups, f"{len(living)} alive of {len(listed)}{down}{twice}", births)


async def _births(living: Members, keys: FleetKeys) -> dict[str, str]:
    async with new_session() as session:
        return await believed(session, living, keys.scraper_api, keys.audit.timeout if keys.audit else ASK_S)


def same_servers(births: Mapping[str, str]) -> list[list[str]]:
    """The names of each server that has several. ``births``: as ``audit.births.believed`` gives them."""
    groups: dict[str, list[str]] = {}
    for name in sorted(births):
        groups.setdefault(births[name], []).append(name)
    return [names for names in groups.values() if len(names) > 1]


async def _source(service: str, name: str, source: Source) -> Asked:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            pool = await source.fetch()
    except TimeoutError:
        return Asked(service, name, False, f"no answer within {TIMEOUT_S:g} s")
    except DiscoveryError as error:
        return Asked(service, name, False, str(error))
    refused = f", {pool.refused} entries left out: {'; '.join(pool.remarks)}" if pool.refused else ""
    return Asked(service, name, bool(len(pool)), f"{len(pool)} targets{refused}")


async def _part(service: ShardService, sources: SourceContext) -> Part:
    lists = {}
    for name, source in build_sources(service, sources).items():
        try:
            lists[name] = await source.fetch()
        except DiscoveryError as error:
            raise FactsError(f"{service.name}: no targets from {name}: {error}") from error
    chosen = service.placement
    pool = await asyncio.to_thread(merge_sources, lists, ranks_of(service), chosen.hash_labels, service.zone_label)
    if not len(pool):
        raise FactsError(f"{service.name}: no source has a target")
    return Part(pool, service.placement.replication_factor, salt_of(service.fleet, service.name))


def _down(nodes: Sequence[NodeState], remark: str) -> str:
    """Which scrapers are not alive, and why: the first of them. ``remark``: what a run would do at first."""
    dead = [f"{node.id}: {node.reason or node.state}" for node in nodes if node.state != "up"]
    more = [f"{len(dead) - NAMED} more"] if len(dead) > NAMED else []
    return "".join(f"; {one}" for one in [*([remark] if remark else []), *dead[:NAMED], *more])


async def _members(keys: FleetKeys, client: Client, sections: Sections, log: Logger) -> tuple[Members, Members, str]:
    """Who lives, who is listed, and what is said of those that are not alive."""
    try:
        membership, remark = await keys.scrapers.observing(
            membership_context(keys, client, lambda: False, log, sections=sections)
        )
    except ConsulError as error:
        raise FactsError(f"{keys.name}: the scrapers are not known: {error}") from error
    newest: Answer[Members] = Unknown("no answer yet")
    answered = asyncio.Event()

    def publish(answer: Answer[Members]) -> None:
        nonlocal newest
        newest = answer
        if not isinstance(answer, Unknown):
            answered.set()

    watching = asyncio.ensure_future(membership.run(publish))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await answered.wait()
    except TimeoutError:
        why = newest.reason if isinstance(newest, Unknown) else ""
        raise FactsError(f"{keys.name}: the scrapers are not known: {why}") from None
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    match newest:
        case Known(members):
            living = tuple(replace(s, weight=0.0) if s.draining else s for s in members)
            return living, membership.listed(), _down(membership.nodes(), remark)
        case Empty():
            raise FactsError(f"{keys.name}: no scraper is alive{_down(membership.nodes(), remark)}")
        case _:
            raise FactsError(f"{keys.name}: the scrapers are not known")
