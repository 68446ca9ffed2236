"""What would happen: plans, drains, and what a reload decides."""

from __future__ import annotations

from typing import Annotated

from promring.web.answers.base import Answer, doc, word
from promring.web.answers.fleets import Room
from promring.web.answers.parts import Fits, Held

IF_THERE = "null: it is not there"


class PlannedScraper(Answer, frozen=True):
    """A scraper before and after."""

    id: str
    zone: Annotated[str, doc("Its zone; empty where it has none.")]
    before: Annotated[int | None, doc(f"Targets now; {IF_THERE} now.")]
    after: Annotated[int | None, doc(f"Targets then; {IF_THERE} then.")]
    load_before: Annotated[int | None, doc(f"Load now; {IF_THERE} now.")]
    load_after: Annotated[int | None, doc(f"Load then; {IF_THERE} then.")]
    limit: Annotated[int | None, doc("The most load that it may have then; null without a bound.")]
    gains: Annotated[int, doc("Targets that come to it.")]
    gives: Annotated[int, doc("Targets that it gives to others.")]
    sha256: Annotated[
        str | None,
        doc("Of its slice then, with several services of their slices in order of name; null: it is not there then."),
    ]


class PlannedZone(Answer, frozen=True):
    """A zone before and after."""

    zone: Annotated[str, doc("Empty: of scrapers without one.")]
    scrapers_before: int
    scrapers_after: int
    before: Annotated[int, doc("Targets of its scrapers now.")]
    after: Annotated[int, doc("Targets of its scrapers then.")]


class Move(Answer, frozen=True, rename={"source": "from", "destination": "to"}):
    """Targets that go from one scraper to another."""

    source: Annotated[str | None, doc("Who has them; null: nobody.")]
    destination: Annotated[str | None, doc("Who gets them; null: nobody, for want of room.")]
    targets: int
    load: Annotated[int, doc("Their load.")]


class Preview(Answer, frozen=True):
    """A placement beside the one in force."""

    targets: Annotated[int, doc("Targets of all services.")]
    load: Annotated[int, doc("Their load: targets, or samples a scrape where loads are learnt.")]
    moved: Annotated[int, doc("Targets that get another owner; with replicas once for each.")]
    load_moved: Annotated[int, doc("Their load.")]
    most: Annotated[int | None, doc("The highest limit of a scraper then; null without a bound.")]
    fits: Fits
    no_room: Annotated[int, doc("Targets that have an owner now, and for which nobody has room then.")]
    scrapers: list[PlannedScraper]
    zones: Annotated[list[PlannedZone], doc("Empty when no scraper has a zone.")]
    moves: list[Move]


class Plan(Preview, frozen=True):
    """What would happen to a fleet if these scrapers left or joined."""

    fleet: str
    decided_by: Annotated[
        str,
        word(
            "`controller`: with its drains and doubts; `configuration`: made by the command from the file alone.",
            "controller",
            "configuration",
        ),
    ]
    room: Annotated[Room | None, doc("How many scrapers the load needs; null without `capacity`.")]
    held: Annotated[list[Held], doc("What is held now, and not a part of the plan.")]
    drained: Annotated[list[str], doc("Scrapers that are drained now.")]


class Decision(Answer, frozen=True):
    """What a configuration means for something that runs."""

    kind: Annotated[str, doc("A fixed word.")]
    service: Annotated[str, doc("The service, or the fleet, that it is about.")]
    text: Annotated[str, doc("A sentence.")]
    numbers: Annotated[dict[str, int], doc("What is counted in it.")]
    loss: Annotated[bool, doc("Whether targets that are scraped now would be scraped by nobody.")]


class Reloaded(Answer, frozen=True):
    """What was decided by a reload."""

    decisions: list[Decision]


class ForeseenFleet(Answer, frozen=True):
    """What a reload would do to a fleet."""

    fleet: str
    moved: Annotated[int, doc("Targets that get another owner.")]
    owned: Annotated[int, doc("Targets that have one now; with replicas once for each owner.")]
    lost: Annotated[int, doc("Targets that are scraped now and would have no room.")]
    preview: Annotated[Preview | None, doc("Null when there is no plan yet to compare with.")]


class ReloadPlan(Answer, frozen=True):
    """What a reload with the configuration that was sent would do."""

    decisions: list[Decision]
    refused: Annotated[bool, doc("Whether the reload would be refused unless it is forced.")]
    fleets: list[ForeseenFleet]


class Fullest(Answer, frozen=True):
    """Of the others: the scraper that then has the most of what it may."""

    id: str
    load: int
    limit: Annotated[int | None, doc("Null without a bound.")]


class Forecast(Answer, frozen=True):
    """What a drain, or its end, would move."""

    leave: Annotated[int, doc("Targets that go from it to others.")]
    come: Annotated[int, doc("Targets that come to it.")]
    no_room: Annotated[int, doc("Targets that nobody else could take.")]
    others: Annotated[int, doc("How many other scrapers can take something.")]
    fullest: Annotated[Fullest | None, doc("Null when there are none.")]


class Drained(Answer, frozen=True):
    """A drain that has begun."""

    fleet: str
    scraper: Annotated[str, doc("Its id.")]
    drained: Annotated[bool, doc("true: from now on.")]
    kept: Annotated[
        bool,
        doc("Whether it is on the disk and in the lock's note: neither a restart nor another leader forgets it."),
    ]
    alive: Annotated[bool, doc("Whether it counts as alive.")]
    had: Annotated[int, doc("Targets that it had.")]
    left: Annotated[int, doc("Targets that it has now.")]
    keeps_all: Annotated[bool, doc("Whether no other scraper could take anything.")]
    forecast: Annotated[Forecast | None, doc("Null when that cannot be said, or not in time.")]


class Undrained(Answer, frozen=True):
    """A drain that has ended."""

    fleet: str
    scraper: Annotated[str, doc("Its id.")]
    drained: Annotated[
        bool, doc("true: not by promring: it is in maintenance in Consul, or its pod is being deleted. That goes on.")
    ]
    was_drained: Annotated[bool, doc("Whether it was drained until now; false: nothing changes.")]
    kept: Annotated[
        bool,
        doc("Whether it is on the disk and in the lock's note: neither a restart nor another leader forgets it."),
    ]
    alive: Annotated[bool, doc("Whether it counts as alive.")]
    forecast: Annotated[Forecast | None, doc("Null when that cannot be said, or not in time.")]


class Released(Answer, frozen=True):
    """What was let go."""

    fleet: str
    service: Annotated[str | None, doc("Null: what was held of the fleet.")]
    released: list[Held]
    leads: Annotated[
        bool, doc("Whether this controller leads; false: the leader, and so what is delivered, goes on holding it.")
    ]
    leader: Annotated[str | None, doc("Who leads; null: nobody, as far as is known, or there is no lock.")]
    waits_for: Annotated[str | None, doc("Why it is not done yet: the whole plan is held; null: it is not.")]
