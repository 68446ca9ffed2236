"""Scrapers from a list that changes while promring runs (a file, a name in DNS), each probed as ``probe`` does.

The list says who is a scraper, the probes say who lives. So a list that cannot be had changes nothing: the last good one
stays, and who dies meanwhile is noticed. A list without a scraper is not believed either. After a start without any list
the scrapers are those that lived before.

A scraper that leaves the list and lives is kept as listed for ``keep_s``, and where lists of this kind are short by accident
(``may_be_short``) for as long as the list has fewer scrapers than are missing from it. Then it leaves by a plan
(``Rostered``): its targets move first. One that died meanwhile is simply gone, as is one whose address another has now.

A list may know of scrapers that they do not live, in it or not (``Off``): that goes before their probes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from promring.config.scraper_api import PLAIN, ScraperApi
from promring.membership import Membership, MembershipContext, Publish, Roster
from promring.membership.listed import Listed
from promring.membership.probing import ProbeKeys, ProbeMembership
from promring.model import Answer, Empty, Known, Members, NodeState, Scraper, Unknown, Waiting
from promring.runtime.unforeseen import Lasting, kept_alive
from promring.telemetry.log import Logger

LEFT_MAX = 1000
NOT_READ = "the list of the scrapers was not read yet"
DRAINS = "its pod is being deleted: it is drained by that, and by nobody here"
KEPT_AS_SHORT = "the list has it no more: it stays while more are missing than are there, as a list may be short by accident"


Off = Mapping[str, str]
"""Who does not live, whatever the probes say, by id; and why, in words."""
NOBODY_OFF: Off = {}


class Heard(Protocol):
    def __call__(self, members: Members, off: Off = NOBODY_OFF) -> None: ...


class Listing(Protocol):
    """Where the list comes from. ``name``: for people; ``keep_s``, ``may_be_short``: as above."""

    name: str
    keep_s: float
    may_be_short: bool

    async def run(self, heard: Heard, failed: Callable[[str], None]) -> None:
        """For ever: ``heard`` is told each list that is whole and has scrapers, an equal one too; ``failed`` why there is
        none now.
        """


class Lineup:
    """Who is in the list, who is missing from it and may come back, and who left. Pure."""

    def __init__(self, keep_s: float, *, may_be_short: bool) -> None:
        self._keep_s, self._may_be_short = keep_s, may_be_short
        self.listed: dict[str, Scraper] = {}
        self.left: dict[str, Scraper] = {}
        self._missing: dict[str, tuple[Scraper, float]] = {}

    @property
    def probed(self) -> Members:
        """In the list, or missing from it."""
        return tuple(sorted((*self.listed.values(), *(scraper for scraper, _ in self._missing.values()))))

    def heard(self, members: Members, now: float, off: Off = NOBODY_OFF) -> None:
        """The list has these."""
        there, taken = {s.id: s for s in members}, {s.address for s in members}
        missing = self._missing | {name: (s, now) for name, s in self.listed.items()}
        self._missing = {
            name: (s, since)
            for name, (s, since) in missing.items()
            if name not in there and name not in off and s.address not in taken
        }
        self.left = {name: s for name, s in self.left.items() if name not in there}
        self.listed = there

    def missed(self, before: Lineup) -> None:
        """Those that were missing at the time of ``before``, which was there until a moment ago, are missing since then."""
        for name, missing in before._missing.items():
            if self.listed.pop(name, None) is not None:
                self._missing[name] = missing

    @property
    def _is_short(self) -> bool:
        """Whether so many are missing that the list is not believed."""
        return self._may_be_short and len(self._missing) > len(self.listed)

    def why_kept(self, now: float) -> dict[str, str]:
        """By id of who is missing from the list: until when it stays."""
        if self._is_short:
            return dict.fromkeys(self._missing, KEPT_AS_SHORT)
        left = {name: max(0.0, self._keep_s - (now - since)) for name, (_, since) in self._missing.items()}
        return {name: f"the list has it no more: it leaves in {left_s:.0f} s" for name, left_s in left.items()}

    def decide(self, up: Callable[[str], bool | None], now: float) -> bool:
        """Let go who is missing for long enough, or dead. True when somebody was."""
        dead = [name for name in self._missing if up(name) is False]
        for name in dead:
            del self._missing[name]
        if self._is_short:
            return bool(dead)
        late = [name for name, (_, since) in self._missing.items() if now - since >= self._keep_s]
        for name in late:
            self.left[name] = self._missing.pop(name)[0]
        while len(self.left) > LEFT_MAX:
            del self.left[next(iter(self.left))]
        return bool(dead or late)


class ListedMembership:
    """The live ones of ``listing``; an attribute for each thing that is known of it. ``last``: who lived before;
    ``catalogue``: who was listed then.
    """

    @classmethod
    def of(cls, context: MembershipContext, listing: Listing, probing: ProbeKeys) -> ListedMembership:
        """That of a fleet."""
        known = {"last": context.last, "catalogue": context.catalogue}
        return cls(context.name, listing, probing, context.log, **known, api=context.api)

    def __init__(
        self,
        name: str,
        listing: Listing,
        probing: ProbeKeys,
        log: Logger,
        *,
        last: Members = (),
        catalogue: Members = (),
        api: ScraperApi = PLAIN,
    ) -> None:
        self._listing, self._log, self._last = listing, log, last
        self._probes = ProbeMembership(name, (), probing, log, api)
        self._lineup = Lineup(listing.keep_s, may_be_short=listing.may_be_short)
        self._listed = Listed((*last, *catalogue))
        self._roster = Roster((), ())
        self._off: Off = NOBODY_OFF
        self._shown: tuple[Answer[Members], Off, Answer[Members]] | None = None
        """What the probes said last, who was off then, and what was made of both: each probe of a thousand asks for it."""
        self._had, self._why, self._lasting, self._failing_since = False, "", Lasting(), 0.0
        self._publish: Publish = lambda _: None
        self.probed = self._probes.probed
        self._before: Lineup | None = None
        """That of the membership before a reload, until there is a list."""

    def go_on_from(self, before: Membership) -> None:
        if isinstance(before, ListedMembership) and before._listing.name == self._listing.name:
            self._before, self._failing_since = before._lineup, before._failing_since
            self._listed.go_on_from(before._listed)

    async def run(self, publish: Publish) -> None:
        self._publish = publish
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probes.run(self._hand_on))
            reading = kept_alive(
                "list of scrapers",
                lambda: self._listing.run(self._heard, self._failed),
                self._log,
                unknown=self._failed,
            )
            group.create_task(reading)

    def nodes(self) -> list[NodeState]:
        """With the trouble of the list, which is no scraper's fault."""
        about = f"the last list stays: {self._why}" if self._why else ""
        probed = {one.id: one for one in self._probes.nodes()}
        known = probed | {name: NodeState(name, "down", why) for name, why in self._off.items()}
        why = {name: DRAINS for name, one in self._lineup.listed.items() if one.draining}
        why |= self._lineup.why_kept(time.monotonic())
        said = ((one, (one.reason, why.get(one.id, ""), about)) for one in known.values())
        return [one._replace(reason="; ".join(filter(None, reasons))) for one, reasons in said]

    def listed(self) -> Members:
        return self._listed.members

    def roster(self) -> Roster:
        """Who is in the list, and who was taken out of it."""
        return self._roster

    def silent(self) -> str:
        """Never: each probe ends, and is an answer."""
        return ""

    def list_trouble(self) -> tuple[str, float]:
        """As ``Lists``."""
        return self._why, self._failing_since or time.time()

    def _heard(self, members: Members, off: Off = NOBODY_OFF) -> None:
        if self._why:
            self._log.info("scraper_list_read_again", source=self._listing.name)
            self._why, self._failing_since = "", 0.0
        now, first = time.monotonic(), not self._had
        if first:
            self._had = True
            self._lineup.heard(self._last, now)
            if self._before is not None:
                self._lineup.missed(self._before)
                self._before = None
        if first or {s.id: s for s in members} != self._lineup.listed or off != self._off:
            self._off = off
            self._lineup.heard(members, now, off)
            self._take_over()

    def _failed(self, why: str) -> None:
        if self._lasting.is_news("list", why, begins=not self._why):
            keeps = "the last list" if self._had else "those that lived before" if self._last else "nobody is known"
            self._log.error("scraper_list_failed", source=self._listing.name, error=why, keeps=keeps)
        self._why, self._failing_since = why, self._failing_since or time.time()
        if not self._had and not self._lineup.listed and self._last:
            self._lineup.heard(self._last, time.monotonic())
            self._take_over()
        elif not self._lineup.listed:
            self._publish(Unknown(why))

    def _take_over(self) -> None:
        self._lineup.decide(self._probes.up, time.monotonic())
        self._roster = Roster(tuple(self._lineup.listed.values()), tuple(self._lineup.left.values()))
        self._listed.heard(self._lineup.probed, self._lineup.left)
        self._probes.list_now(self._lineup.probed)

    def _hand_on(self, answer: Answer[Members]) -> None:
        if not self._lineup.listed:
            self._publish(Unknown(self._why) if self._why else Waiting(NOT_READ))
        elif self._lineup.decide(self._probes.up, time.monotonic()):
            self._take_over()
        else:
            self._publish(self._without_off(answer))

    def _without_off(self, answer: Answer[Members]) -> Answer[Members]:
        if not self._off or not isinstance(answer, Known):
            return answer
        if self._shown is None or self._shown[0] is not answer or self._shown[1] is not self._off:
            members = tuple(s for s in answer.value if s.id not in self._off)
            self._shown = answer, self._off, Known(members) if members else Empty()
        return self._shown[2]
