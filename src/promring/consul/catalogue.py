"""Who of a service's instances lives, from the entries of one answer of Consul.

``consul/instances.py`` says what the checks of one instance mean; here they become scrapers: one of each identity, who
lives, who is listed, and who only a direct probe can tell about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from promring.consul.instances import Condition, HealthEntry
from promring.model import Members, Scraper

MakeScraper = Callable[[tuple[str, int], Mapping[str, str]], Scraper]
"""From address and metadata."""


class Catalogue:
    """``warning_is_dead``: a warning takes a scraper away; ``weight_most``: what a weight of Consul's own counts at most."""

    def __init__(self, make_scraper: MakeScraper, *, warning_is_dead: bool = False, weight_most: float = 100.0) -> None:
        self._make = make_scraper
        self._warning_is_dead, self._weight_most = warning_is_dead, weight_most
        self.as_wanted: Callable[[tuple[str, int], Mapping[str, str]], bool] = lambda place, metadata: True
        """Whether an instance at a place says what is configured; one may be registered with two agents, once as it was."""
        self.own_node: str | None = None
        """The node of the agent that is asked; empty: it is not known. None: it was not asked yet."""
        self.listed: Members = ()
        """Who is in the catalogue, alive or not."""
        self.why: Mapping[str, str] = {}
        """What is to be said of a scraper, by its id."""
        self.unsure: Members = ()
        """Scrapers that only a direct probe can tell about."""
        self.unsure_changed = asyncio.Event()
        self._alive: frozenset[str] = frozenset()
        self._probed: dict[str, bool] = {}

    def lived(self, scrapers: Members) -> None:
        """Before the first answer: these did, when this process or the one before it heard of them last."""
        self._alive = frozenset(s.id for s in scrapers)

    def put_probed(self, scraper: str, *, alive: bool) -> bool:
        """Somebody who is ``unsure`` answers a direct probe, or does not. Whether that is news."""
        if self._probed.get(scraper) is alive or scraper not in {s.id for s in self.unsure}:
            return False
        self._probed[scraper] = alive
        return True

    def scraper_at(self, node: tuple[str, int]) -> Scraper:
        return self._make(node, {})

    def members(self, entries: Iterable[HealthEntry]) -> tuple[Members, dict[str, str]]:
        """Who lives, and who is left out because its instance makes no sense."""
        chosen: dict[str, tuple[str, Scraper, Condition]] = {}
        refused: dict[str, str] = {}
        known = [(entry, self._condition(entry)) for entry in entries]
        for entry, condition in sorted(known, key=self._first_best):
            name = entry.service.id
            try:
                place = entry.place()
            except ValueError as error:
                refused[name] = str(error)
                continue
            scraper = replace(self._make(place, entry.metadata), draining=condition.drained)
            if (weight := entry.weight(condition)) is not None:
                scraper = replace(scraper, weight=min(float(weight), self._weight_most))
            first_name, first, _ = chosen.setdefault(scraper.id, (name, scraper, condition))
            if first_name != name or (first.host, first.port) != place:
                one, other = sorted([first_name, name])
                refused[other] = f"it has the identity {scraper.id} of {one}"
        self._set_unsure(tuple(sorted(s for _, s, condition in chosen.values() if condition.alive is None)))
        alive = [s for _, s, condition in chosen.values() if self._lives(s, condition)]
        self.listed = tuple(sorted(s for _, s, _ in chosen.values()))
        self.why = {s.id: condition.why for _, s, condition in chosen.values() if condition.why}
        self._alive = frozenset(s.id for s in alive)
        return tuple(sorted(alive)), refused

    def _first_best(self, known: tuple[HealthEntry, Condition]) -> tuple[object, ...]:
        """Of several instances with one identity the first counts: one whose agent lives, then one that is checked at all,
        then one that lives, then one that promring registered as it is configured now.
        """
        entry, condition = known
        unchecked = not any(check.service_id for check in entry.checks or ())
        lives = (condition.alive is None, unchecked, not condition.alive)
        return (*lives, self._is_as_before(entry), entry.service.id, entry.node.node)

    def _is_as_before(self, entry: HealthEntry) -> bool:
        try:
            return entry.is_ours and not self.as_wanted(entry.place(), entry.service.meta or {})
        except ValueError:  # it is no address
            return True

    def _condition(self, entry: HealthEntry) -> Condition:
        return entry.condition(own_node=self.own_node or "", warning_is_dead=self._warning_is_dead)

    def _lives(self, scraper: Scraper, condition: Condition) -> bool:
        """Who has to be asked, and was not yet, is what it was."""
        if condition.alive is not None:
            return condition.alive
        return self._probed.get(scraper.id, scraper.id in self._alive)

    def _set_unsure(self, scrapers: Members) -> None:
        if scrapers != self.unsure:
            self.unsure = scrapers
            self._probed = {s.id: self._probed[s.id] for s in scrapers if s.id in self._probed}
            self.unsure_changed.set()
