"""The whole controller, and its events, as answers."""

from __future__ import annotations

import time
from collections.abc import Iterable

from promring import __version__
from promring.election.leadership import Leadership
from promring.telemetry import events
from promring.web.answers.status import Configuration, Controllers, Event, LeftBehind, Status
from promring.web.controller import Controller
from promring.web.views.fleets import describe, describe_fleet


def status(controller: Controller, started_at: float) -> Status:
    unready, reload = controller.unready(), controller.reload_state
    return Status(
        version=__version__,
        started_at=started_at,
        ready=not unready,
        unready=unready,
        leader=controller.leadership.leads(),
        controllers=_controllers(controller.leadership),
        config=Configuration(reload.successful, reload.at, list(reload.problems)),
        fleets=[describe_fleet(fleet) for fleet in controller.fleets.values()],
        services=[describe(s, scrapers=s.fleet.name == s.name) for s in controller.services.values()],
        left_behind=[
            LeftBehind(one.service, list(one.scrapers), one.targets, list(one.where)) for one in controller.left_behind
        ],
        renamed=dict(controller.renamed),
    )


def event(one: events.Event) -> Event:
    return Event(one.id, one.at, one.level, one.msg, one.service, one.fleet, dict(one.fields))


def events_of(some: Iterable[events.Event]) -> list[Event]:
    return [event(one) for one in some]


def _controllers(leadership: Leadership) -> Controllers:
    newer, ago_s = leadership.locked_out_by, leadership.clock() - leadership.rivals.taken_over_at
    return Controllers(
        lock=not leadership.alone,
        leader=leadership.known_leader or None,
        epoch=leadership.epoch or None,
        lacking=leadership.lacking or None,
        locked_out_by=str(newer) if newer else None,
        took_over_at=round(time.time() - ago_s, 3) if ago_s < float("inf") else None,
    )
