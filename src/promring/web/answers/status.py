"""The whole controller, and its events."""

from __future__ import annotations

from typing import Annotated

from promring.web.answers.base import Answer, doc, word
from promring.web.answers.fleets import Fleet, Service


class Controllers(Answer, frozen=True):
    """Who leads."""

    lock: Annotated[bool, doc("Whether several controllers share a lock.")]
    leader: Annotated[str | None, doc("Who leads; null: nobody, as far as is known, or there is no lock.")]
    epoch: Annotated[int | None, doc("Of the slices that are made from now on; null: nobody gave one yet.")]
    lacking: Annotated[str | None, doc("A right that this controller has lost and will need for the lock; null: none.")]
    locked_out_by: Annotated[
        str | None, doc("Without a lock: the generation of another controller that receivers keep; else null.")
    ]
    took_over_at: Annotated[float | None, doc("Without a lock: when this one went above another one; null: never.")]


class Configuration(Answer, frozen=True):
    """What became of the last reload."""

    last_reload_successful: Annotated[bool, doc("Whether the file is in force.")]
    last_reload_success_at: Annotated[float, doc("When a configuration was last taken.")]
    problems: Annotated[list[str], doc("Why the last reload was refused; empty when it was not.")]


class Setting(Answer, frozen=True):
    """A value that is in force."""

    key: Annotated[str, doc("Its path, such as `fleets[0].join_delay`, or its flag.")]
    value: Annotated[str, doc("As text; `***` for a secret, and for free text that may have one.")]
    origin: Annotated[str, word("Who says so.", "file", "default", "command line", "environment")]
    line: Annotated[int | None, doc("Of the file, from 1; null: it is from elsewhere.")]


class EffectiveConfiguration(Answer, frozen=True):
    """What promring runs with, defaults included, secrets hidden."""

    file: Annotated[str, doc("The configuration file.")]
    taken_at: Annotated[float | None, doc("When it was taken; null: it is not in force anywhere.")]
    flags: Annotated[list[Setting], doc("The command line of `promring run`.")]
    settings: Annotated[list[Setting], doc("Every value of the file, and every default.")]


class LeftBehind(Answer, frozen=True):
    """A service that is not configured any more: its slices are where they were, and go on being scraped."""

    service: str
    scrapers: Annotated[list[str], doc("Who has them.")]
    targets: Annotated[int, doc("How many targets are in them.")]
    where: Annotated[list[str], doc("Files and addresses of the slices.")]


class Status(Answer, frozen=True):
    """Everything at once."""

    version: Annotated[str, doc("Of promring.")]
    started_at: Annotated[float, doc("When the process started.")]
    ready: Annotated[bool, doc("Whether `/-/ready` says yes.")]
    unready: Annotated[list[str], doc("Why it does not.")]
    leader: Annotated[bool, doc("Whether this controller delivers.")]
    controllers: Controllers
    config: Configuration
    fleets: list[Fleet]
    services: list[Service]
    left_behind: Annotated[list[LeftBehind], doc("Until the next restart.")]
    renamed: Annotated[dict[str, str], doc("Names before, that `/sd/` answers to as well, and the names now.")]


class Action(Answer, frozen=True):
    """What a person, or a program with the token, had promring do."""

    at: Annotated[float, doc("When.")]
    action: Annotated[str, word("What.", "drain", "undrain", "release", "reload")]
    fleet: Annotated[str, doc("Of which fleet; empty: of the process.")]
    service: Annotated[str, doc("Of which service; empty: of the fleet.")]
    scraper: Annotated[str, doc("Of which scraper; empty: of none.")]
    by: Annotated[str, doc("Who: the user of `basic_auth_users`, and the address that the request came from.")]
    why: Annotated[str, doc("The reason that was given (`reason` in the query); may be empty.")]
    targets: Annotated[int | None, doc("Of a drain: targets that the scraper had then; else null.")]
    result: Annotated[str, doc("What came of it, in words.")]


class Alert(Answer, frozen=True):
    """An alert of promring's own rules that is true, as the process itself judges it every 15 seconds."""

    alert: Annotated[str, doc("Its name in the rules file, and in the runbooks.")]
    severity: Annotated[str, word("`critical`: targets are not scraped, or soon will not be.", "critical", "warning")]
    state: Annotated[str, word("Whether it is true for as long as its rule waits.", "firing", "pending")]
    since: Annotated[float, doc("Since when it is true, as far as this process knows.")]
    fires_at: Annotated[float, doc("When it began to fire, or will.")]
    labels: Annotated[dict[str, str], doc("Which fleet, service, scraper or source.")]
    value: Annotated[float, doc("Of its expression.")]
    summary: Annotated[str, doc("What is wrong, in a sentence.")]
    description: Annotated[str, doc("What that means.")]
    runbook: Annotated[str, doc("What to do: a page of the controller, from the path of its links.")]


class Event(Answer, frozen=True):
    """A decision, as the log has it."""

    id: Annotated[int, doc("Climbs by one from 1, and begins anew with the process.")]
    ts: Annotated[str, doc("When, in UTC.")]
    level: Annotated[str, word("How grave it is.", "info", "warn", "error")]
    msg: Annotated[str, doc("The fixed word; the page of log messages explains each.")]
    service: Annotated[str, doc("Empty: of a whole fleet, or of the process.")]
    fleet: Annotated[str, doc("Empty: of the process, or of a service by itself.")]
    fields: Annotated[dict[str, str | int | float | bool | None], doc("What the log line has besides.")]
