"""What the demonstration does to its fleet, a round at a time, and what it sees when a person does something to it, too.

A round kills one scraper, waits until the others scrape its targets, and starts it again. A process that ended otherwise is
named, and the next round starts it again.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

from promring.demo.fleet import Fleet
from promring.demo.process import Process
from promring.demo.scraper import ScraperProcess

LOST_AFTER_S = 60.0
LOG_MOST = 200
"""Characters of the last line of a log."""


class Rounds:
    """``say`` is called with each line for people."""

    def __init__(self, fleet: Fleet, say: Callable[[str], None]) -> None:
        self._fleet, self._say = fleet, say
        self._killed: ScraperProcess | None = None
        """By the round that goes on."""
        self._gone: dict[str, Process] = {}
        """What ended otherwise, and was named."""
        self._turn = 0

    def look(self) -> None:
        """Name what ended, and was not ended by a round."""
        fleet = self._fleet
        for name, process in {**{s.id: s for s in fleet.scrapers}, "promring": fleet.controller}.items():
            if process.running:
                self._gone.pop(name, None)
            elif process is not self._killed and name not in self._gone:
                self._gone[name] = process
                self._say(
                    f"{name} has ended ({_how(process)}), and not by the demonstration: the next round starts it again"
                )

    def asked_for(self, number: int) -> Awaitable[bool]:
        """The round that a person wants of the scraper with this number, from 0: it is killed, or started again."""
        scraper = self._fleet.scrapers[number]
        self._turn = number + 1
        return self.kill(scraper) if scraper.running else self.start_again([scraper])

    async def next(self) -> bool:
        """The round that comes by itself: what ended is started again, else one is killed that lives and has targets."""
        self.look()
        if self._gone:
            return await self.start_again(list(self._gone.values()))
        described = await self._fleet.describe()
        able = {s.id for s in described.scrapers if s.state == "up" and s.targets} if described else set[str]()
        scrapers = self._fleet.scrapers
        chosen = [n for i in range(len(scrapers)) if scrapers[n := (self._turn + i) % len(scrapers)].id in able]
        if len(chosen) < 2:
            up = ", ".join(sorted(able)) or "no scraper"
            self._say(f"{up} is up with targets: nobody is killed, since nobody would take over")
            return False
        self._turn = chosen[0] + 1
        return await self.kill(scrapers[chosen[0]])

    async def kill(self, scraper: ScraperProcess) -> bool:
        """One round. True when every target was scraped again, after the death and after the return."""
        fleet = self._fleet
        orphans = await fleet.targets_of(scraper)
        if not orphans:
            self._say(f"{scraper.id} has no targets, so its death would show nothing: it is left alone")
            return False
        self._say(f"kill -9 of {scraper.id}, which has {len(orphans)} targets")
        self._killed = scraper
        await scraper.kill()
        taken = await self._taken(scraper, orphans)
        await scraper.start()
        self._killed = None
        return await self._back(scraper) and taken

    async def start_again(self, ended: Sequence[Process]) -> bool:
        """What a person ended. True when every target is scraped then."""
        scrapers = [process for process in ended if isinstance(process, ScraperProcess)]
        for process in ended:
            self._say(f"{process.id if isinstance(process, ScraperProcess) else 'promring'} is started again")
            await process.start()
        return all([await self._back(scraper) for scraper in scrapers])

    async def _taken(self, scraper: ScraperProcess, orphans: list[str]) -> bool:
        """Whether the others scrape what it had, and how soon."""
        fleet, killed_at = self._fleet, time.monotonic()
        if (seen := await fleet.until_state(scraper, "down")) is not None:
            self._say(f"seen dead after {seen:.1f} s, slices delivered; Prometheus applies them within 5 s")
        seconds = await fleet.farm.scraped_since(orphans, killed_at, LOST_AFTER_S)
        took = sorted(s for s in seconds.values() if s is not None)
        if len(took) < len(orphans):
            lost = len(orphans) - len(took)
            self._say(f"{lost} of {len(orphans)} orphans were not scraped again within {LOST_AFTER_S:g} s{self._because()}")
            return False
        self._say(f"who took them: {await self._takers(orphans)}")
        first, median, last = took[0], statistics.median(took), took[-1]
        self._say(f"scraped again after {first:.1f} s (first), {median:.1f} s (median), {last:.1f} s (last)")
        return True

    async def _back(self, scraper: ScraperProcess) -> bool:
        """Whether it comes into the plan, and every target is scraped then."""
        if not await self._fleet.has_targets(scraper):
            self._say(f"{scraper.id} was started again and did not come back into the plan{self._because()}")
            return False
        self._say(f"{scraper.id} is in the plan again; what moves back waits for its next scrape there")
        good = await self._fleet.all_scraped(time.monotonic())
        because = "" if good else self._because()
        self._say(f"{scraper.id} is back: {'every target is scraped' if good else 'some targets are not scraped'}{because}")
        return good

    async def _takers(self, orphans: list[str]) -> str:
        fleet = self._fleet
        counts = {s.id: len(set(orphans) & set(await fleet.targets_of(s))) for s in fleet.scrapers}
        return ", ".join(f"{name} {n}" for name, n in counts.items() if n)

    def _because(self) -> str:
        """What a person did meanwhile."""
        self.look()
        return f"; {', '.join(self._gone)} had ended meanwhile" if self._gone else ""


def _how(process: Process) -> str:
    status = process.status or 0
    if status < 0:
        return signal.Signals(-status).name
    return f"exit status {status}: {process.log_tail(1)[:LOG_MOST]}" if status else "exit status 0"
