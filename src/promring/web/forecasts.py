"""What would happen, as this controller would decide it, and the drains that people ask for.

A plan is made for whom the loop would make it: the scrapers that count as alive, less what is drained or cannot be given
anything, of the lists that the guard let through, with the policy in force. It touches nothing.

A drain is refused where it would leave nobody who can take anything; its answer says what the others will carry and what has
no room with them. Flow: the loop does the rest; ``views.fleets`` says how far it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from aiohttp import web

from promring.core.preview import Preview, preview
from promring.fleet.fleet import Fleet
from promring.model import Members, Placement, PromringError, Scraper
from promring.runtime.address import canonical_id
from promring.runtime.near import meant
from promring.web.actions import Actions
from promring.web.answers import plans as answers
from promring.web.answers.fleets import Room
from promring.web.answers.parts import Held
from promring.web.answers.plans import Drained, Forecast, Fullest, Undrained
from promring.web.api import Api
from promring.web.controller import Controller, fleet_of
from promring.web.envelope import ApiError, success
from promring.web.gate import Gate
from promring.web.views.held import said
from promring.web.views.plans import described, plan_of, why_not
from promring.web.views.room import room_of

T = TypeVar("T")
SAVED_S, SAVED_LOOK_S = 3.0, 0.02
"""So long a drain waits for the disk, and looks again."""
FORECAST_S = 3.0
"""So long a drain waits for what can be said of it beforehand."""


PREVIEWS_KEPT = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A preview, and what it was made of."""

    before: Placement
    members: Members
    preview: Preview


class Forecasts:
    """The plans, drains and undrains of the API. Who may write is settled by the server."""

    def __init__(self, controller: Controller, api: Api, actions: Actions) -> None:
        self._controller, self._api = controller, api
        self._actions = actions
        self._previews = Gate("previews", at_once=1, waiting=4)
        self._kept: OrderedDict[tuple[str, str, bool], _Known] = OrderedDict()
        """By fleet, scraper and whether it comes back."""

    async def plan(self, request: web.Request) -> web.Response:
        """``?without=`` ids and ``?with=`` addresses, each repeatable: what would happen then. With one that is drained: as
        if it were drained no more.
        """
        fleet = fleet_of(self._controller, request.match_info["fleet"])
        placement, reconciler = _placement(fleet), fleet.reconciler
        without = [canonical_id(name) for name in request.query.getall("without", [])]
        try:
            joining = [fleet.settings.joining(text) for text in request.query.getall("with", [])]
        except (PromringError, ValueError) as error:
            raise ApiError(400, "bad_data", str(error)) from error
        drained = reconciler.memory.drained
        back, joining = drained & {one.id for one in joining}, [one for one in joining if one.id not in drained]
        members = reconciler.would_have(drained - back)
        policy = reconciler.planner.policy

        def work() -> tuple[answers.Preview, Room | None]:
            found = _preview(fleet, placement, members, without, joining)
            return described(found), room_of(found.after, policy)

        found, room = await self._made(work)
        return success(plan_of(found, fleet.name, "controller", room, _held(fleet), drained - back))

    async def of_one(self, fleet: Fleet, name: str, *, back: bool) -> Preview:
        """What would move if one scraper died or were drained; ``back``: if a drained one had its share again. The same
        answer as long as nothing changes. Raises ``ApiError``.
        """
        placement, reconciler = _placement(fleet), fleet.reconciler
        drained = reconciler.memory.drained
        members = reconciler.would_have(drained - {name} if back else drained)
        key = fleet.name, name, back
        known = self._kept.get(key)
        if known is None or known.before is not placement or known.members != members:
            work = partial(_preview, fleet, placement, members, () if back else [name])
            known = _Known(placement, members, await self._made(work))
            self._kept[key] = known
            while len(self._kept) > PREVIEWS_KEPT:
                self._kept.popitem(last=False)
        return known.preview

    async def drain(self, request: web.Request) -> web.Response:
        """Take everything from a scraper. 409 when nobody who lives could take it, unless ``?force=true``."""
        fleet, name = self._asked(request)
        forced = request.query.get("force", "false").lower() in ("true", "1", "yes")
        reconciler = fleet.reconciler
        alive = {one.id for one in reconciler.history.members}
        others = [one for one in reconciler.would_have(reconciler.memory.drained | {name}) if one.able]
        down = {node.id for node in fleet.membership.nodes() if "down" in (node.state, node.last)}
        if name in alive and not forced and all(one.id in down for one in others):
            raise ApiError(409, "conflict", _last(fleet.name, name, [one.id for one in others], lives=name not in down))
        forecast = await self._forecast(fleet, name, back=False) if others else None
        had = _targets(fleet, name)
        kept = await self._drain(request, back=False)
        self._actions.add(request, "drain", f"it had {had} targets", fleet=fleet.name, scraper=name, targets=had)
        return success(
            Drained(
                fleet=fleet.name,
                scraper=name,
                drained=True,
                kept=kept,
                alive=name in alive,
                had=had,
                left=_targets(fleet, name),
                keeps_all=name in alive and not others,
                forecast=forecast,
            )
        )

    async def undrain(self, request: web.Request) -> web.Response:
        """Let it have its share again: what comes back is said."""
        fleet, name = self._asked(request)
        was_drained = name in fleet.reconciler.memory.drained
        forecast = await self._forecast(fleet, name, back=True)
        kept = await self._drain(request, back=True)
        alive = any(one.id == name for one in fleet.reconciler.history.members)
        come = "" if forecast is None else f"{forecast.come} targets come back"
        come = come if was_drained else "it was not drained"
        self._actions.add(request, "undrain", come, fleet=fleet.name, scraper=name)
        still = any(one.id == name and one.draining for one in fleet.reconciler.memory.members)
        answer = Undrained(
            fleet.name, name, drained=still, was_drained=was_drained, kept=kept, alive=alive, forecast=forecast
        )
        return success(answer)

    def _asked(self, request: web.Request) -> tuple[Fleet, str]:
        fleet = fleet_of(self._controller, request.match_info["fleet"])
        name = fleet.scraper_id(canonical_id(request.match_info["scraper"]))
        known = {node.id for node in fleet.membership.nodes()} | fleet.reconciler.memory.targets().keys()
        if name not in known | fleet.reconciler.memory.drained:
            there = f"there is {', '.join(sorted(known))}{meant(name, sorted(known))}"
            raise ApiError(404, "not_found", f"no scraper {name!r} in {fleet.name}; {there}")
        leadership = self._controller.leadership
        if not leadership.leads():
            raise ApiError(
                409,
                "conflict",
                f"this controller follows; ask the one that leads: {leadership.known_leader or 'nobody does now'}",
            )
        return fleet, name

    async def _drain(self, request: web.Request, *, back: bool) -> bool:
        """Whether it is on the disk, and in the note of the lock: neither a restart nor another leader forgets it."""
        fleet, name = self._asked(request)  # again: while the forecast was made, a reload may have put another in its place
        fleet.reconciler.drain(name, back=back)
        self._api.changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVED_S):
                while not (fleet.reconciler.saved and self._told()):
                    await asyncio.sleep(SAVED_LOOK_S)
                    fleet = self._controller.fleets.get(fleet.name, fleet)
        return fleet.reconciler.saved and self._told()

    def _told(self) -> bool:
        """Whether the other controllers can know who is drained."""
        leadership = self._controller.leadership
        return leadership.alone or leadership.shared.drains_are_noted

    async def _forecast(self, fleet: Fleet, name: str, *, back: bool) -> Forecast | None:
        """What a drain, or the end of it, would move; None when that cannot be said now."""
        placement, reconciler = fleet.placement, fleet.reconciler
        drained = reconciler.memory.drained
        members = reconciler.would_have(drained - {name} if back else drained | {name})
        if placement is None or all(one.id != name for one in members):
            return None
        try:
            async with asyncio.timeout(FORECAST_S):
                found = await self._made(partial(_preview, fleet, placement, members))
        except (ApiError, TimeoutError):  # there is no such plan, or no time for one: the drain stands by itself
            return None
        return _said(found, name)

    async def _made(self, work: Callable[[], T]) -> T:
        try:
            return await self._previews.run(work)
        except (PromringError, ValueError) as error:
            raise ApiError(400, "bad_data", why_not(error)) from error


def _targets(fleet: Fleet, name: str) -> int:
    return fleet.reconciler.memory.targets().get(name, 0)


def _placement(fleet: Fleet) -> Placement:
    """Of all services that have a plan. Raises ``ApiError`` 503 when none has one."""
    placement = fleet.placement
    if placement is None:
        why = next((said for service in fleet.services.values() if (said := service.unready())), "no plan yet")
        raise ApiError(503, "unavailable", why)
    return placement


def _held(fleet: Fleet) -> list[Held]:
    """Of its scrapers, and of the lists of each service: no part of a plan."""
    lists = [replace(one, detail=f"{s.name}: {one.detail}") for s in fleet.services.values() for one in s.withheld]
    return said([*fleet.reconciler.verdict.withheld, *lists])


def _preview(
    fleet: Fleet,
    placement: Placement,
    members: Members,
    without: Sequence[str] = (),
    joining: Sequence[Scraper] = (),
) -> Preview:
    reconciler = fleet.reconciler
    listed, policy = reconciler.listed(reconciler.history.members), reconciler.planner.policy
    return preview(
        placement.pool,
        members,
        policy,
        without=without,
        joining=joining,
        loads=placement.loads,
        before=placement,
        listed=listed,
    )


def _said(found: Preview, name: str) -> Forecast:
    """What it keeps for want of room elsewhere is its own before, and neither goes nor comes."""
    moves, after = found.plan.moves, found.after
    carried = after.carried()
    limits = [None] * len(carried) if after.limits is None else after.limits.tolist()
    others = [
        Fullest(s.id, carried[s.id], limit)
        for s, limit in zip(after.scrapers, limits, strict=True)
        if s.id != name and s.able
    ]
    return Forecast(
        leave=max(0, found.before.counts().get(name, 0) - found.no_room),
        come=sum(m.count for m in moves if m.destination == name),
        no_room=found.no_room,
        others=len(others),
        fullest=max(others, key=lambda one: (one.load / (one.limit or 1), one.id), default=None),
    )


def _last(fleet: str, name: str, down: list[str], *, lives: bool) -> str:
    why = f"the others are down ({', '.join(down)})" if down else "no other could take anything"
    text = f"{fleet}: {name} is the last scraper that {'lives' if lives else 'counts as alive, though it is down'}: {why}"
    return f"{text}; force=true (--force) drains it nevertheless"
