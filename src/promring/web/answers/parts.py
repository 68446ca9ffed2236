"""What fleets and services have in common: what is held, how well they are scraped, and their scrapers."""

from __future__ import annotations

from typing import Annotated

from promring.web.answers.base import Answer, doc, word, word_or_null


class Held(Answer, frozen=True):
    """What the guard keeps as it is, and why."""

    reason: Annotated[str, doc("A fixed word, as in the metric `promring_plan_held`.")]
    detail: Annotated[str, doc("The same as a sentence.")]
    sources: Annotated[list[str], doc("The sources whose list is doubted; empty for other reasons.")]
    since: Annotated[float | None, doc("Since when this process holds it; null: not known.")]
    releasable: Annotated[bool, doc("Whether a person may end it with a release.")]
    until: Annotated[
        float | None,
        doc("When it ends by itself if nothing changes; null: only a person or another answer ends it."),
    ]
    confirmed: Annotated[
        int | None, doc("Of a doubted list: how many fresh equal answers there were; null for other reasons.")
    ]
    confirmations: Annotated[int | None, doc("Of a doubted list: how many of them are needed; null for other reasons.")]


class Summary(Answer, frozen=True):
    """How well it is scraped, as far as that is known, in one line."""

    level: Annotated[
        str,
        word("The worst of it; `unknown`: nobody looked yet, or the audit is off.", "good", "unknown", "warn", "bad"),
    ]
    text: Annotated[str, doc("The worst first, parts separated by `; `.")]


class Membership(Answer, frozen=True):
    """What is known of who the scrapers are."""

    kind: Annotated[str, doc("How the fleet knows its scrapers, as the configuration names it.")]
    state: Annotated[str, word("Of the newest answer.", "known", "empty", "unknown")]
    reason: Annotated[str, doc("Why it is not known, or what failed although there was an answer; else empty.")]
    last_success_at: Annotated[float | None, doc("When somebody last said who they are; null: never.")]
    last_answer_at: Annotated[float | None, doc("When the newest answer, or failure, came; null: not yet.")]
    stale: Annotated[bool, doc("Whether an older answer is in use, as the newest one is none.")]
    list_trouble: Annotated[
        str, doc("Why the list of scrapers could not be had for a while, so that the last one stays; else empty.")
    ]


class Coverage(Answer, frozen=True):
    """What the last look of the audit at all scrapers proved. Null until there was one."""

    at: Annotated[float | None, doc("When the audit looked; null: not yet.")]
    age_s: Annotated[float | None, doc("How long ago that is, in seconds; null as `at`.")]
    interval_s: Annotated[float, doc("How often it looks, in seconds.")]
    ratio: Annotated[float | None, doc("Targets proved to be scraped, of those that shall be: 0 to 1; null as `at`.")]
    targets: Annotated[int | None, doc("How many targets there were at that look; null as `at`.")]
    covered: Annotated[int | None, doc("Targets proved to be scraped; null as `at`.")]
    missing: Annotated[int | None, doc("Targets that no scraper is scraping; null as `at`.")]
    unproved: Annotated[int | None, doc("Targets of scrapers that could not be asked; null as `at`.")]
    doubled: Annotated[int | None, doc("Targets that a scraper scrapes beyond its slice; null as `at`.")]
    dropped: Annotated[int | None, doc("Targets that the job's own relabelling drops; null as `at`.")]
    down: Annotated[int | None, doc("Targets whose last scrape failed; null as `at`.")]

    @classmethod
    def none_yet(cls, interval_s: float) -> Coverage:
        return cls(None, None, interval_s, *[None] * 8)


class Fits(Answer, frozen=True):
    """Whether every target has all its owners."""

    all: Annotated[bool, doc("Whether nothing lacks an owner.")]
    unplaced: Annotated[int, doc("Targets that lack an owner, for want of room; with replicas they may have another one.")]
    ownerless: Annotated[int, doc("Those of them that have no owner at all.")]
    unplaced_load: Annotated[int, doc("Their load: targets, or samples a scrape where loads are learnt.")]
    unplaced_targets: Annotated[list[str], doc("The addresses of the first 20 of them.")]
    too_heavy: Annotated[int, doc("Targets whose load is more than one scraper's limit.")]
    too_heavy_targets: Annotated[list[str], doc("The addresses of the first 20 of them.")]


class Visits(Answer, frozen=True):
    """When a scraper, or its agent, came for its list and took it."""

    ago_s: Annotated[float, doc("Seconds since the last time.")]
    every_s: Annotated[float | None, doc("Seconds between two times; null until it came twice.")]


class Asking(Answer, frozen=True):
    """When a scraper, or its agent, asked for its list, and whether it takes it."""

    ago_s: Annotated[float, doc("Seconds since it last asked.")]
    untaken_s: Annotated[float | None, doc("Seconds for which it asks without taking the list; null: it has the list.")]
    why: Annotated[str | None, doc("Why it does not take the list, in the words of its agent; null: nobody said.")]


class Scraper(Answer, frozen=True):
    """A scraper. Its targets are those of the fleet or service that it is listed with; its load is of all services."""

    id: Annotated[str, doc("`host:port`, or the host where the fleet's `identity` says so.")]
    state: Annotated[str, word("What the membership says of it now.", "up", "down", "unknown")]
    last_state: Annotated[str | None, word_or_null("While `state` is unknown: what it was before.", "up", "down")]
    reason: Annotated[str, doc("What the membership says beside the state; else empty.")]
    standing: Annotated[
        str | None,
        word_or_null(
            "Whether it counts as alive for the plan: `in` and `leaving` do. Null: the plan does not know it.",
            "in",
            "joining",
            "leaving",
            "out",
        ),
    ]
    since: Annotated[
        float | None,
        doc("When its standing began, or it left the plan; null: before this process, or longer ago than is kept."),
    ]
    joins_at: Annotated[
        float | None,
        doc(
            "Of one that is `joining`: when it gets targets at the latest, if it stays; later after each flap. Null where"
            " this controller follows and the leader lets it wait, and else."
        ),
    ]
    zone: Annotated[str, doc("Its zone; empty where it has none.")]
    url: Annotated[str | None, doc("Its own page, as promring asks it; null: its address is not known.")]
    drained: Annotated[bool, doc("Whether a person drained it, or its membership says that it is to end.")]
    departing: Annotated[bool, doc("Whether it was taken out of the configuration and still has targets.")]
    targets: Annotated[int, doc("Targets in its slices, with those that it only keeps until their new owner scrapes them.")]
    left: Annotated[int | None, doc("Of a drained or leaving one: targets of all services that it still has; else null.")]
    no_room: Annotated[int, doc("Targets that it keeps although it shall not, since no other scraper has room.")]
    load: Annotated[int, doc("Load of all services: targets, or samples a scrape where loads are learnt.")]
    fair: Annotated[float | None, doc("Its fair share of the load, by its weight; null: it gets none.")]
    limit: Annotated[int | None, doc("The most load that it may have; null without a bound.")]
    capacity: Annotated[int | None, doc("Its hard cap of load, by its weight; null without `capacity`.")]
    scraped: Annotated[int | None, doc("Targets of its slices that it was seen scraping; null: it was not seen.")]
    sliced_at: Annotated[
        float | None, doc("When its newest slice was made; null: it has none, or before this process began.")
    ]
    generation: Annotated[str | None, doc("The newest generation among its slices, `epoch.n`; null: it has none.")]
    sha256: Annotated[str | None, doc("Of its slice; null: it has none, or several.")]
    delivery_error: Annotated[str | None, doc("Why its slices do not reach it; null: they do, or nothing failed yet.")]
    cut_off: Annotated[bool, doc("Whether it counts as dead because its slices do not reach it.")]
    sick: Annotated[str | None, doc("What it fails to scrape that others reach, which is why it gets nothing; else null.")]
    idle: Annotated[
        str | None,
        doc(
            "Of which services it does not have what it was given, which others scrape, so that it gets no more; else null."
        ),
    ]
    unresponsive: Annotated[
        str | None, doc("How it answers nothing although it counts as alive, which is why it gets nothing; else null.")
    ]
    alias_of: Annotated[
        str | None,
        doc("The scraper that is the same server under another name, which is why this one gets nothing; else null."),
    ]
    audit_error: Annotated[str | None, doc("Why it could not be asked what it scrapes; null: it could, or was not asked.")]
    visited: Annotated[Visits | None, doc("Of one that comes for its list and takes it; null: it did not.")]
    asking: Annotated[Asking | None, doc("Of one that asks for its list; null: it does not.")]
    trouble: Annotated[str, doc("What is wrong with it, the worst only; empty: nothing that anybody knows of.")]
