"""Fifty planned moves, drains and joins in turn, between stock Prometheus (server and agent mode) and vmagent: how many
scrapes of a live target are missed, how long a hand-over takes.

Scrape interval 5 s. A target notes each scrape; a gap of more than ``LATE`` intervals is a missed one. The longest gap of a
target that does not move is what the servers themselves make, beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.real.stage import Stage, stage
from tests.waiting import until

from bench.report import console, table
from promring.demo.process import find
from promring.demo.scraper import ScraperProcess

MOVES, INTERVAL_S, LATE, OVERLAP_S = 50, 5.0, 1.3, 30.0


async def run(moves: int = MOVES) -> None:
    consul, prometheus, vmagent = find("consul"), find("prometheus"), find("vmagent")
    if consul is None or prometheus is None:
        console.print("handover: needs consul and prometheus; scripts/fetch-servers gets them")
        return
    kinds = [(prometheus, False), (prometheus, True), (vmagent or prometheus, False), (prometheus, False)]
    took: list[float] = []
    moved = 0
    with tempfile.TemporaryDirectory(prefix="promring-bench-") as folder:
        async with stage(
            Path(folder),
            consul,
            None,
            scrapers=4,
            interval_s=INTERVAL_S,
            http_sd=0,
            kinds=kinds,
            handover={"overlap": "30s"},
        ) as s:
            await s.scraped_by_now(30)
            since = time.monotonic()
            for turn in range(moves):
                scraper = s.scrapers[turn // 2 % len(s.scrapers)]
                back = bool(turn % 2)
                before = set(s.slice_of(scraper))
                await s.drain(scraper, back=back)
                took.append(await _handed_over(s, scraper, back=back))
                moved += len(before ^ set(s.slice_of(scraper)))
                if turn % 10 == 9:
                    console.print(f"handover: {turn + 1} of {moves} moves")
            await asyncio.sleep(INTERVAL_S)
            gaps = {address: _gaps([at for at in s.farm.scrapes(address) if at > since]) for address in s.farm.addresses}
    longest = [max(each) for each in gaps.values()]
    missed = sum(gap > LATE * INTERVAL_S for each in gaps.values() for gap in each)
    table(
        f"{moves} drains and joins of one of four (server, agent mode, vmagent, server), scrape interval {INTERVAL_S:g} s",
        [
            ("a hand-over: asked for -> only the new owners have it", took, f"<= overlap {OVERLAP_S:g}"),
            ("longest gap between two scrapes of a target", longest, f"< {LATE * INTERVAL_S:g}"),
        ],
        digits=2,
    )
    scrapes = sum(map(len, gaps.values()))
    console.print(f"{moved} targets changed hands; {missed} scrapes missed of {scrapes} (asked: 0)")


def _gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in pairwise(times)]


async def _handed_over(s: Stage, scraper: ScraperProcess, *, back: bool) -> float:
    others = [x for x in s.scrapers if x is not scraper]

    def done() -> bool:
        return s.placed_on(*(s.scrapers if back else others)) and bool(s.slice_of(scraper)) is back

    return await until(done, "handed over", OVERLAP_S + 10)
