"""Which scrapers of a fleet a page shows, in which order: filter, order and paging by the query. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from promring.web.answers.parts import Scraper
from promring.web.page.words import natural

ROWS_MOST = 100
PAGES_MOST = 1_000_000
SORTS: Mapping[str, Callable[[Scraper], Any]] = {
    "": lambda s: (not s.trouble, natural(s.id)),
    "id": lambda s: natural(s.id),
    "targets": lambda s: (-s.targets, natural(s.id)),
    "load": lambda s: (-s.load / (s.fair or 1), natural(s.id)),
    "since": lambda s: (-(s.since or 0), natural(s.id)),
}
"""What the query's ``sort`` may say; empty: those in trouble first, then by name."""
SEARCH_MOST = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """Which scrapers: those in ``trouble``, those with ``q`` in their id, zone, state or trouble; and which page."""

    trouble: bool = False
    q: str = ""
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Whatever it says: what makes no sense is left out."""
        sort = query.get("sort", "")
        return cls(
            trouble=query.get("trouble", "") == "1",
            q=query.get("q", "").strip()[:SEARCH_MOST],
            sort=sort if sort in SORTS else "",
            page=page_of(query),
        )

    def link(self, **changed: object) -> str:
        """The query for the same with this changed, on the first page unless that is what is changed; with its ``?``."""
        one = replace(self, **({"page": 1} | changed))  # type: ignore[arg-type]
        fields = {
            "trouble": "1" if one.trouble else "",
            "q": one.q,
            "sort": one.sort,
            "page": one.page if one.page > 1 else "",
        }
        said = {name: value for name, value in fields.items() if value}
        return f"?{urlencode(said)}" if said else "?"


@dataclass(frozen=True, slots=True)
class Rows:
    """``up``: None when nobody knows; ``all``: scrapers, ``found``: of those what is asked for; ``widest``: the load that is
    a whole bar; ``writable``: this controller drains; ``more``: so many scrapers are not shown where there are no pages.
    """

    asked: Asked
    up: int | None
    all: int
    troubled: int
    found: int
    pages: int
    widest: float
    rows: Sequence[Scraper]
    numbers: Mapping[str, int]
    """By id: its place in natural order, which chooses its colour."""
    writable: bool
    had: Mapping[str, int]
    """By id: targets of all services when it was drained, as far as that is known."""
    more: int = 0


def rows_of(
    scrapers: Sequence[Scraper], asked: Asked, *, writable: bool, had: Mapping[str, int], most: int | None = None
) -> Rows:
    """``most``: so many and no pages; None: pages of ``ROWS_MOST``."""
    known = any(s.state != "unknown" for s in scrapers)
    found = sorted((s for s in scrapers if _wanted(s, asked)), key=SORTS[asked.sort])
    size = most or ROWS_MOST
    pages = max(1, -(-len(found) // size))
    asked = replace(asked, page=min(asked.page, pages))
    begin = 0 if most else (asked.page - 1) * size
    return Rows(
        asked=asked,
        up=sum(s.state == "up" for s in scrapers) if known else None,
        all=len(scrapers),
        troubled=sum(bool(s.trouble) for s in scrapers),
        found=len(found),
        pages=1 if most else pages,
        widest=max([1.0, *(max(s.load, s.limit or 0, s.fair or 0) for s in scrapers)]),
        rows=found[begin : begin + size],
        numbers={name: i for i, name in enumerate(sorted((s.id for s in scrapers), key=natural))},
        writable=writable,
        had=had,
        more=max(0, len(found) - size) if most else 0,
    )


def page_of(query: Mapping[str, str]) -> int:
    text = query.get("page", "1")
    return min(PAGES_MOST, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _wanted(scraper: Scraper, asked: Asked) -> bool:
    if asked.trouble and not scraper.trouble:
        return False
    return not asked.q or any(asked.q in text for text in (scraper.id, scraper.zone, scraper.trouble, scraper.state))
