"""What all controllers share: what the leader tells in the note beside the lock, as the others and the next leader know it.

One ``Told`` holds all of it and is replaced as a whole. Who leads changes it (``drain``, ``placed_over`` …), and the loop of
the election writes it into the note at once (``news``). Who does not lead replaces it by what it reads (``hear``).

A note has little room: what is told of all fleets together has bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from promring.election.note import Told
from promring.model import LONG_AGO, Failing, Fingerprint, Members, Release

DOWN_MOST = 100
LOADS_BYTES_MOST = 96 * 1024
"""Of the books of loads of all fleets. A Lease of Kubernetes holds a note of 200 kB, in which they are a third longer."""
LOADS_KEPT_S = 600.0
"""A fleet whose loads nobody told for so long is no more."""
RELEASED_S = 60.0
"""So long the other controllers let go what a person released at the leader, when they hold exactly that, too."""


class Shared:
    """``told``: all that is shared; ``fleets``: those of this controller, empty: not known yet; ``clock`` in seconds;
    ``changed`` is called when somebody should look again; ``news`` is set when there is something to tell the others.
    """

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self.told = Told()
        self.fleets: frozenset[str] = frozenset()
        self.news = asyncio.Event()
        self._clock, self._changed = clock, changed
        self._noted = Told()
        """As it stands in the note that we wrote last."""
        self._heard = False
        """Whether a note was read. What stands in the first one may be from long ago."""
        self._placed_at: dict[str, float] = {}
        """When the loads of a fleet were last told, by us or in a note, on ``clock``."""
        self._released_at: dict[str, float] = {}
        self._listed_at: dict[tuple[str, str], float] = {}
        """By service and source: when we saw that another leader's plan is made of another list, monotonic seconds."""

    def hear(self, told: Told) -> None:
        """Whoever leads says so."""
        first, self._heard = not self._heard, True
        if told == self.told:
            return
        self._note_released(told, of_old=first)
        self._note_lists(told.lists)
        self._placed_at |= dict.fromkeys(told.loads, self._clock())
        # the same object for the same release: who let it go once does not do so again (``lately_released``)
        before = self.told.released
        released = {s: before[s] if before.get(s) == let_go else let_go for s, let_go in told.released.items()}
        self.told = replace(told, released=released)
        self._changed()

    def _note_released(self, told: Told, *, of_old: bool) -> None:
        if not of_old:
            news = {s for s, let_go in told.released.items() if let_go != self.told.released.get(s)}
            self._released_at |= dict.fromkeys(news, self._clock())

    def _note_lists(self, lists: Mapping[str, Mapping[str, Fingerprint]]) -> None:
        if not self.told.lists:
            return  # what stands in the first note that we read may be from long ago
        now = time.monotonic()
        for service, marks in lists.items():
            known = self.told.lists.get(service, {})
            self._listed_at.update({(service, name): now for name, mark in marks.items() if known.get(name) != mark})

    def _tell(self, told: Told) -> None:
        if told != self.told:
            self.told = told
            self.news.set()

    # --- for the election --------------------------------------------------------------------------------------------

    def to_tell(self) -> Told:
        """What the leader writes. What was released a while ago is told to nobody any more."""
        released = {service: let_go for service, let_go in self.told.released.items() if self.lately_released(service)}
        self.told = replace(self.told, released=released)
        return self.told

    def written(self, told: Told) -> None:
        """It stands in the note."""
        self._noted = told

    @property
    def drains_are_noted(self) -> bool:
        """Whether the other controllers can know who is drained."""
        return self._noted.drained == self.told.drained

    def begin_term(self) -> None:
        """We lead: what the leader before us told of other fleets counts from now."""
        self._placed_at |= dict.fromkeys(self.told.loads, self._clock())

    # --- as the leader -----------------------------------------------------------------------------------------------

    def drain(self, fleet: str, scrapers: frozenset[str]) -> None:
        """These of ``fleet`` are drained from now on."""
        self.drain_all({**(self.told.drained or {}), fleet: scrapers})

    def drain_all(self, drained: Mapping[str, frozenset[str]]) -> None:
        """The same of all fleets."""
        if drained != self.told.drained:
            self._tell(replace(self.told, drained=drained))
            self._changed()

    def release(self, service: str, let_go: tuple[Release, ...]) -> None:
        """These of ``service``, or of ``fleet:NAME``, are let go."""
        self._released_at[service] = self._clock()
        self._tell(replace(self.told, released={**self.told.released, service: let_go}))
        self._changed()

    def publish_fingerprints(self, service: str, lists: Mapping[str, Fingerprint]) -> None:
        """The plan of ``service`` is made of these now."""
        if lists != self.told.lists.get(service):
            self._tell(replace(self.told, lists={**self.told.lists, service: dict(lists)}))

    def placed_over(self, fleet: str, down: Members, waiting: tuple[str, ...]) -> None:
        """The plan of ``fleet`` is over these, too, of which some are ``waiting``. More than ``DOWN_MOST`` of all fleets
        together are told to nobody: then each controller goes by what it knows itself.
        """
        here = self.fleets or self.told.down.keys()  # as in ``placed_without``
        told = {name: some for name, some in self.told.down.items() if name != fleet and name in here}
        wait = {name: some for name, some in self.told.waiting.items() if name in told}
        if len(down) + sum(map(len, told.values())) <= DOWN_MOST:
            told[fleet] = down
            wait |= {fleet: waiting} if waiting else {}
        self._tell(replace(self.told, down=told, waiting=wait))

    def placed_without(self, fleet: str, failing: Failing) -> None:
        """These of ``fleet`` get nothing, or nothing new of a service. Of all fleets together at most ``DOWN_MOST`` of each
        kind are told. What an older leader told of a fleet that has another name now is dropped.
        """
        here = self.fleets or self.told.failing.keys()
        others = {name: some for name, some in self.told.failing.items() if name != fleet and name in here}
        room = [max(0, DOWN_MOST - sum(len(one[i]) for one in others.values())) for i in range(len(failing))]
        scrapers, refusing = failing.scrapers[: room[0]], failing.refusing[: room[1]]
        ours = Failing(scrapers, refusing, failing.aliases[: room[2]], failing.idle[: room[3]])
        self._tell(replace(self.told, failing={**others, fleet: ours} if any(ours) else others))

    def placed_by(self, fleet: str, loads: bytes) -> None:
        """``fleet`` is placed by this book now; an empty one: by the number of targets. Books that are longer than
        ``LOADS_BYTES_MOST`` together are told to nobody.
        """
        now = self._clock()
        self._placed_at[fleet] = now
        there = [name for name in self.told.loads if now - self._placed_at.get(name, now) < LOADS_KEPT_S]
        told = {name: self.told.loads[name] for name in there if name != fleet}
        if len(loads) + sum(map(len, told.values())) <= LOADS_BYTES_MOST:
            told[fleet] = loads
        self._tell(replace(self.told, loads=told))

    def keep_only(self, fleets: Collection[str], services: Collection[str]) -> None:
        """There are no others any more, and nothing is told of them."""
        told = self.told
        self._listed_at = {pair: at for pair, at in self._listed_at.items() if pair[0] in services}
        self._tell(
            Told(
                drained={name: some for name, some in (told.drained or {}).items() if name in fleets},
                lists={name: some for name, some in told.lists.items() if name in services},
                released=told.released,
                down={name: some for name, some in told.down.items() if name in fleets},
                waiting={name: some for name, some in told.waiting.items() if name in fleets},
                loads={name: book for name, book in told.loads.items() if name in fleets},
                failing={name: some for name, some in told.failing.items() if name in fleets},
            )
        )

    # --- for all -----------------------------------------------------------------------------------------------------

    def lately_released(self, service: str) -> tuple[Release, ...]:
        """What was released within ``RELEASED_S``; the same object until there is another release."""
        recent = self._clock() - self._released_at.get(service, LONG_AGO) < RELEASED_S
        return self.told.released.get(service, ()) if recent else ()

    def listed_at(self, service: str, source: str) -> float:
        """When the list of ``source`` that the last leader had was news to us, monotonic; ``LONG_AGO``: it never was."""
        return self._listed_at.get((service, source), LONG_AGO)
