"""Fleets and services, as ``status``, ``/api/v1/fleets`` and ``/api/v1/services`` have them."""

from __future__ import annotations

from typing import Annotated

from promring.web.answers.base import Answer, doc, word
from promring.web.answers.parts import Coverage, Fits, Held, Membership, Scraper, Summary


class Loss(Answer, frozen=True):
    """What the loss of the scraper, or the zone, that is worst to lose would do to the rest."""

    lost: Annotated[str, doc("The scraper or zone.")]
    each: Annotated[float, doc("The load that each of the rest would carry on average.")]
    room: Annotated[int | None, doc("The capacity of the rest together; null without `capacity`.")]
    lacking: Annotated[int, doc("The load that would have no room.")]


class Room(Answer, frozen=True):
    """How many scrapers of one weight the load needs within `capacity`: for whoever sizes the fleet, an autoscaler too."""

    load: Annotated[
        int, doc("The load of all targets, by the newest figures; a target counts for each owner it shall have.")
    ]
    each: Annotated[int, doc("The most load that a scraper of this weight may have.")]
    weight: Annotated[float, doc("The weight that it is about: the commonest of the scrapers that live.")]
    scrapers: Annotated[int, doc("Scrapers, of any weight, that live and can take targets.")]
    needed: Annotated[int, doc("So many scrapers of this weight the load needs.")]
    after_scraper: Annotated[int, doc("So many must there be for enough to be left when one scraper is lost.")]
    after_zone: Annotated[
        int | None, doc("So many, spread evenly over the zones, for enough to be left without one; null: not two zones.")
    ]


class Loads(Answer, frozen=True):
    """What is known of the load of each target."""

    kind: Annotated[
        str,
        word(
            "`series`: samples a scrape, asked of the scrapers. `promql`: what a query of a central store says.",
            "series",
            "promql",
        ),
    ]
    learnt: Annotated[int | None, doc("Targets of which this controller has figures; null: it does not lead.")]
    spread: Annotated[
        float | None, doc("The load of the fullest scraper over its fair share, by the newest figures; null without a plan.")
    ]
    moved_at: Annotated[float | None, doc("When loads alone last moved targets; null: never.")]
    asked_at: Annotated[float | None, doc("When the last round of questions ended; null: there was none here.")]
    troubles: Annotated[list[str], doc("Who gave no figures, or odd ones, and why: the first 20.")]


class Dropped(Answer, frozen=True):
    """What relabelling dropped in a Prometheus that discovers, before promring saw it."""

    count: Annotated[int, doc("How many targets.")]
    among: Annotated[list[str], doc("The addresses of the first of them; fewer where that Prometheus does not keep them.")]


class Source(Answer, frozen=True):
    """Where a service has targets from, and what is known of the last list."""

    name: Annotated[str, doc("Kind and place, such as `file:/targets.json`.")]
    state: Annotated[str, word("Of the newest answer.", "known", "empty", "unknown")]
    reason: Annotated[str, doc("Why it is not known, or what failed although there was an answer; else empty.")]
    last_success_at: Annotated[float | None, doc("When it last gave targets; null: never.")]
    last_answer_at: Annotated[float | None, doc("When the newest answer, or failure, came; null: not yet.")]
    stale: Annotated[bool, doc("Whether an older list is in use, as the newest answer is none.")]
    targets: Annotated[int | None, doc("Targets in the last good list; null: there is none.")]
    refused: Annotated[int | None, doc("Entries that were left out of it as no target; null: there is none.")]
    remarks: Annotated[list[str], doc("The first of these, with the reason.")]
    dropped: Annotated[Dropped | None, doc("By relabelling, at the source; null: it drops nothing, or does not say.")]
    troubles: Annotated[
        list[str], doc("What failed lately behind it while its list is taken: discoveries of a Prometheus that discovers.")
    ]


class Taken(Answer, frozen=True, rename={"source": "from", "destination": "to"}):
    """Targets that went from one scraper to another."""

    source: Annotated[str, doc("Who had them.")]
    destination: Annotated[str | None, doc("Who has them; null: nobody, for want of room.")]
    targets: int


class Waiting(Answer, frozen=True):
    """A target that its old owner keeps until the new one was seen to scrape it."""

    service: Annotated[str, doc("Whose it is.")]
    id: Annotated[str, doc("As in the answer of `where`.")]
    target: Annotated[str, doc("Its address.")]
    kept_by: Annotated[str, doc("The scraper that keeps it meanwhile.")]
    owners: Annotated[list[str], doc("The scrapers that shall have it.")]


class HandOver(Answer, frozen=True):
    """The hand-overs of a fleet that are under way."""

    waiting: Annotated[int, doc("Targets that an old owner still keeps.")]
    begun_with: Annotated[
        int | None, doc("How many there were when the newest reshard began; null: it began before this process.")
    ]
    reason: Annotated[str | None, doc("Of that reshard; null as `begun_with`.")]
    since: Annotated[float | None, doc("When it began; null as `begun_with`.")]
    changed_at: Annotated[float | None, doc("When the number of those that wait last changed; null: before this process.")]
    ends_at: Annotated[
        float, doc("When the last of them ends by time alone, if its new owner answers and has taken its slice by then.")
    ]
    named: Annotated[list[Waiting], doc("Those that have waited the longest, at most 10.")]


class Reshard(Answer, frozen=True):
    """A plan that changed who has what, or who may have targets."""

    at: Annotated[float, doc("When it came into force.")]
    reason: Annotated[str, doc("A fixed word, as in the metric `promring_reshards_total`.")]
    generation: Annotated[str, doc("Of the slices that it changed, `epoch.n`.")]
    joined: Annotated[list[str], doc("Who may have targets since, the first 100.")]
    left: Annotated[list[str], doc("Who may have none since, the first 100.")]
    more: Annotated[int, doc("How many joined or left besides.")]
    scrapers: Annotated[int, doc("How many may have targets since.")]
    targets: Annotated[int, doc("Targets of all services.")]
    moved: Annotated[int, doc("Targets that got another owner.")]
    held: Annotated[int, doc("Targets that their old owners kept at first, until the new ones scraped them.")]
    slices_changed: Annotated[int, doc("Slices that changed.")]
    ended_at: Annotated[
        float | None, doc("When the last of these was handed over, or the next reshard began; null: it goes on.")
    ]
    moves: Annotated[list[Taken], doc("Who took how much from whom, the most first, the first 100.")]


class Sample(Answer, frozen=True):
    """A fleet at one moment."""

    at: Annotated[float, doc("When.")]
    covered: Annotated[
        float | None, doc("The least since the sample before, of targets proved to be scraped: 0 to 1; null: not known.")
    ]
    load: Annotated[int, doc("The load of all scrapers.")]
    balance: Annotated[float | None, doc("The highest load of a scraper, of the mean by weight; null without a plan.")]
    moved: Annotated[int, doc("Targets that got another owner since the sample before.")]
    scrapers: Annotated[int, doc("Scrapers that may have targets.")]


class Retiring(Answer, frozen=True):
    """A delivery that a reload replaced and that goes on beside the new one."""

    kind: Annotated[str, doc("As the configuration names it.")]
    service: Annotated[str, doc("The name that the service had there.")]
    places: Annotated[list[str], doc("Where it delivers, the first 100.")]
    until: Annotated[str, doc("When it ends, in words.")]
    waiting_for: Annotated[list[str], doc("Scrapers that have not asked at the new place yet, the first 100.")]


class Service(Answer, frozen=True):
    """A shard service."""

    name: Annotated[str, doc("Its name.")]
    fleet: Annotated[str, doc("The fleet that scrapes it: of the same name where it has one of its own.")]
    job: Annotated[str, doc("Its `job_name` in the scrapers' configuration.")]
    description: Annotated[str, doc("From the configuration; may be empty.")]
    generation: Annotated[str | None, doc("The newest generation among its slices, `epoch.n`; null before the first plan.")]
    targets: Annotated[int | None, doc("Targets in its pool; null before the first plan.")]
    duplicates: Annotated[int | None, doc("Entries that were listed twice, equal; null before the first plan.")]
    conflicts: Annotated[
        int | None, doc("Entries of a later source that an earlier one has with other labels; null before the first plan.")
    ]
    conflicts_named: Annotated[list[str], doc("The addresses of the first of these.")]
    fits: Annotated[Fits | None, doc("Whether every target has an owner; null before the first plan.")]
    handing_over: Annotated[int, doc("Targets that an old owner still holds until the new one scrapes them.")]
    second_opinions: Annotated[int, doc("Targets that another scraper tries as well, to see whose fault a failure is.")]
    held: Annotated[Held | None, doc("Why its whole plan is kept; null: it is not.")]
    withheld: Annotated[list[Held], doc("Parts of the facts that are not acted on, of its lists and of its fleet.")]
    membership: Annotated[Membership, doc("Of its fleet.")]
    scrapers: Annotated[
        list[Scraper],
        doc(
            "With its own targets. In the status and in the list of services: only of a service with a fleet of its own,"
            " else empty."
        ),
    ]
    sources: Annotated[list[Source], doc("In order of precedence.")]
    delivery: Annotated[list[str], doc("The kinds of its deliveries.")]
    retiring: Annotated[list[Retiring], doc("Old deliveries that go on after a reload.")]
    coverage: Annotated[Coverage | None, doc("Null where the audit is off.")]
    unsaved: Annotated[str, doc("Why its state cannot be saved; empty: it is, or its fleet says so.")]
    summary: Summary


class Fleet(Answer, frozen=True):
    """A fleet, with the load of all its services."""

    name: Annotated[str, doc("Its name; that of its service where the service has a fleet of its own.")]
    description: Annotated[str, doc("From the configuration; may be empty.")]
    services: Annotated[list[str], doc("The names of its services.")]
    generation: Annotated[str, doc("The last generation that was given to a slice, `epoch.n`.")]
    targets: Annotated[int | None, doc("Targets of all services; null before the first plan.")]
    load: Annotated[int | None, doc("Their load: targets, or samples a scrape where loads are learnt; null without a plan.")]
    limit: Annotated[int | None, doc("The most load that all scrapers together may have; null without a bound.")]
    without_one: Annotated[Loss | None, doc("Without the scraper that is worst to lose; null when nobody would be left.")]
    without_zone: Annotated[Loss | None, doc("Without the zone that is worst to lose; null where there are not two.")]
    room: Annotated[Room | None, doc("How many scrapers it needs; null without `capacity` or a plan.")]
    loads: Annotated[Loads | None, doc("How loads are learnt; null: each target counts 1.")]
    handing_over: Annotated[int, doc("Targets that an old owner still holds until the new one scrapes them.")]
    unlooked: Annotated[
        bool,
        doc(
            "Whether it is still to be looked what some scrapers have, after a start without a state or at a new leader: "
            "until then one without targets here may scrape some."
        ),
    ]
    hand_over: Annotated[HandOver | None, doc("More about these; null: there are none.")]
    second_opinions: Annotated[int, doc("Targets that another scraper tries as well, to see whose fault a failure is.")]
    held: Annotated[Held | None, doc("Why the whole plan is kept; null: it is not.")]
    withheld: Annotated[list[Held], doc("Parts of the facts about scrapers that are not acted on.")]
    services_held: Annotated[list[str], doc("Services of which something else is held: changes of their lists.")]
    services_stale: Annotated[list[str], doc("Services with a source that gives no whole answer now.")]
    membership: Membership
    scrapers: Annotated[list[Scraper], doc("With the targets of all services.")]
    coverage: Annotated[Coverage | None, doc("Of all services together; null where the audit is off.")]
    fits: Annotated[Fits | None, doc("Of all services together; null before the first plan.")]
    unsaved: Annotated[str, doc("Why its state cannot be saved; empty: it is.")]
    summary: Summary

    @property
    def is_own(self) -> bool:
        """Whether it is the fleet of one service only, with its name: what is said of the service is said of it."""
        return self.services == [self.name]
