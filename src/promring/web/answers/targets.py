"""Targets: who has them, where one is, and what the scrapers are seen scraping."""

from __future__ import annotations

from typing import Annotated

from promring.web.answers.base import Answer, doc, word

LABELS = "Every label of its entry."
ID = "16 hexadecimal digits that tell it from the other targets of its service."
FIRST_OWNER = "The first owner; null: there is no room."
OWNERS = "All owners, the first first."


class Target(Answer, frozen=True):
    """A target of a list."""

    id: Annotated[str, doc(ID)]
    target: Annotated[str, doc("Its address.")]
    labels: Annotated[dict[str, str], doc(LABELS)]


class OwnedTarget(Answer, frozen=True):
    """A target and who has it."""

    id: Annotated[str, doc(ID)]
    target: Annotated[str, doc("Its address.")]
    labels: Annotated[dict[str, str], doc(LABELS)]
    scraper: Annotated[str | None, doc(FIRST_OWNER)]
    scrapers: Annotated[list[str], doc(OWNERS)]


class Targets(Answer, frozen=True):
    """The first targets that were asked for."""

    targets: list[OwnedTarget]
    total: Annotated[int, doc("How many there are.")]
    truncated: Annotated[bool, doc("Whether there are more than are listed.")]


class Beside(Answer, frozen=True):
    """Who has a target in its slice and is not its owner."""

    scraper: str
    why: Annotated[
        str,
        word(
            "`hand_over`: until its owners are seen scraping it; `second_opinion`: an owner does not reach it, or lacks it; "
            "`idle`: this one lacks what it was given, and has this one to show when it has its list again.",
            "hand_over",
            "second_opinion",
            "idle",
        ),
    ]


class Place(Answer, frozen=True):
    """Where a target is, and why there."""

    service: str
    match: Annotated[
        str,
        word(
            "What of the target was asked for; `label`: the value of one.",
            "address",
            "url",
            "label",
            "part",
        ),
    ]
    id: Annotated[str, doc(ID)]
    target: Annotated[str, doc("Its address.")]
    labels: Annotated[dict[str, str], doc(LABELS)]
    scraper: Annotated[str | None, doc(FIRST_OWNER)]
    scrapers: Annotated[list[str], doc(OWNERS)]
    down: Annotated[list[str], doc("Those of its owners that are down, and so do not scrape it.")]
    besides: Annotated[list[Beside], doc("Who has it in its slice besides, for now.")]
    load: Annotated[int, doc("Its load in the plan: 1, or samples a scrape where loads are learnt.")]
    key: Annotated[str, doc("Its place on the ring: 16 hexadecimal digits.")]
    preference: Annotated[list[str], doc("Every scraper, in the order in which the ring prefers them for this target.")]
    reason: Annotated[
        str,
        word(
            "Why these owners. `ring`: the first of the preference; `zone`: because of zones; `load_factor`: those before"
            " are full; `no_room`: too few have room.",
            "ring",
            "zone",
            "load_factor",
            "no_room",
        ),
    ]


class Unready(Answer, frozen=True):
    """A service that could not be searched."""

    service: str
    reason: str


class Where(Answer, frozen=True):
    """What was found of a target."""

    targets: Annotated[list[Place], doc("The first that were found. Parts count only where nothing is called so exactly.")]
    total: Annotated[int, doc("How many there are, of those that were looked at when `truncated`.")]
    truncated: Annotated[bool, doc("Whether the search ended after 2 s, before everything was looked at.")]
    near: Annotated[list[str], doc("Addresses that look alike, when nothing was found.")]
    unready: Annotated[list[Unready], doc("Services without a plan.")]


class Uncovered(Answer, frozen=True):
    """The first targets of each kind."""

    missing: Annotated[list[Target], doc("That no scraper is scraping.")]
    unproved: Annotated[list[Target], doc("Of scrapers that could not be asked.")]
    doubled: Annotated[list[Target], doc("That a scraper scrapes beyond its slice.")]
    dropped: Annotated[list[Target], doc("That the job's own relabelling drops.")]
    down: Annotated[list[Target], doc("Whose last scrape failed.")]


class SeenScraper(Answer, frozen=True):
    """What one scraper was seen scraping of the service."""

    id: str
    expected: Annotated[int, doc("Targets of its slice.")]
    scraped: Annotated[int, doc("Of these: seen scraped.")]
    missing: Annotated[int, doc("Of these: not seen.")]
    foreign: Annotated[int, doc("Targets that it scrapes beyond its slice.")]
    foreign_targets: Annotated[list[str], doc("The first of these.")]
    down: Annotated[int, doc("Of those that it scrapes: the last scrape failed.")]
    dropped: Annotated[int, doc("Targets of its slice that its own relabelling drops.")]
    denied: Annotated[int, doc("Of those missing: its relabelling drops them, and another scraper took them.")]
    never_asked: Annotated[str | None, doc("Why targets of its slice are not seen scraped; null: there are none.")]
    behind_s: Annotated[float, doc("Since how many seconds it scrapes something else than its slice; 0: it does not.")]
    error: Annotated[str, doc("Why it could not be asked; empty: it could.")]


class CoverageOfService(Answer, frozen=True):
    """The last look of the audit at all scrapers of a service."""

    service: str
    at: Annotated[float, doc("When it was.")]
    ratio: Annotated[float, doc("Targets proved to be scraped, of those that shall be: 0 to 1.")]
    targets: Annotated[int, doc("How many targets there were.")]
    uncovered: Annotated[int, doc("`missing` and `unproved` together.")]
    missing: Annotated[int, doc("Targets that no scraper is scraping.")]
    unproved: Annotated[int, doc("Targets of scrapers that could not be asked.")]
    doubled: Annotated[int, doc("Targets that a scraper scrapes beyond its slice.")]
    dropped: Annotated[int, doc("Targets that the job's own relabelling drops.")]
    down: Annotated[int, doc("Targets whose last scrape failed.")]
    lists: Uncovered
    scrapers: list[SeenScraper]
