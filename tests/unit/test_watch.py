"""The audit's loop: what it remembers of a scraper from one look to the next."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from promring.audit import asking, watch
from promring.audit.answers import State, Told
from promring.audit.look import Look
from promring.audit.settings import AuditKeys
from promring.audit.watch import Audit
from promring.config.scraper_api import PLAIN
from promring.core.fragment import ID_LABEL
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.sight import Sight
from promring.model import Placement, Scraper
from promring.telemetry import log
from tests.laws.strategies import pool_of
from tests.waiting import until

ONE = (Scraper("a:1", "a", 1),)


class Server:
    """One scraper that drops all it is given; ``listed``: ids of these it has."""

    def __init__(self, placement: Placement) -> None:
        self.listed: list[int] = placement.pool.ids.tolist()

    async def targets_of(self, _: Any, __: Scraper, state: State, *___: Any, **____: Any) -> Told:
        dropped = [{"discoveredLabels": {ID_LABEL: f"{one:016x}", "job": "x"}} for one in self.listed]
        data = {"activeTargets": [], "droppedTargets": dropped if state == "dropped" else []}
        return Told(json.dumps({"status": "success", "data": data}).encode(), 1.0)


async def test_what_it_dropped_is_not_said_of_it_when_its_slice_is_without_that(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = (FleetPool.of({"x": Part(pool_of(names))}) for names in (["t:1", "u:1"], []))
    whole, empty = (place(pool, Ring(ONE, 8), Policy(8)) for pool in pools)
    server, in_force, sights = Server(whole), [whole], list[Sight]()
    monkeypatch.setattr(asking, "targets_of", server.targets_of)
    looks = {"x": Look("x", "x", 0, log.get())}
    audit = Audit(
        AuditKeys(interval=0.02),
        PLAIN,
        looks,
        lambda: in_force[0],
        lambda: (),
        sights.append,
        asyncio.Event(),
        None,
        log.get(),
    )
    task = asyncio.create_task(audit.run())
    try:
        await until(lambda: bool(sights) and len(sights[-1].seen["a:1"].dropped) == 2, "dropped")
        in_force[0], server.listed = empty, []
        await until(lambda: sights[-1].placement is empty, "another plan")
        assert len(sights[-1].seen["a:1"].dropped) == 0
    finally:
        task.cancel()


async def test_what_is_not_covered_is_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = place(FleetPool.of({"x": Part(pool_of(["t:1"]))}), Ring(ONE, 8), Policy(8))
    server, looks = Server(placement), {"x": Look("x", "x", 0, log.get())}
    server.listed = []
    monkeypatch.setattr(asking, "targets_of", server.targets_of)
    monkeypatch.setattr(watch, "SETTLING_S", 0.02)
    made = (looks, lambda: placement, lambda: (), lambda _: None, asyncio.Event(), None, log.get())
    task = asyncio.create_task(Audit(AuditKeys(interval=3600.0), PLAIN, *made, lasts_s=600.0).run())

    def missing() -> int | None:
        found = looks["x"].coverage
        return None if found is None else len(found.missing)

    try:
        await until(lambda: missing() == 1, "seen to lack it")
        server.listed = placement.pool.ids.tolist()
        await until(lambda: missing() == 0, "seen to have it, before the hour is over")
    finally:
        task.cancel()
