"""The demonstration, and a person who does something to its processes, too."""

from __future__ import annotations

import asyncio
import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from promring.cli.demo import interactive
from promring.demo.fleet import Fleet, start_fleet
from promring.demo.rounds import Rounds
from tests.waiting import until


@pytest.mark.timeout(240)
async def test_what_a_person_killed_is_started_again_and_only_who_lives_and_has_targets_is_killed(tmp_path: Path) -> None:
    async with start_fleet(tmp_path, 30) as fleet:
        console = Console(file=io.StringIO())
        shown = asyncio.create_task(interactive(fleet, console, kill_after_s=3.0))
        try:
            one = fleet.scrapers[0]
            await all_have_targets(fleet)
            one.signal(signal.SIGKILL)
            await said(fleet, f"{one.id} has ended (SIGKILL), and not by the demonstration: the next round starts it again")
            await said(fleet, f"{one.id} is started again")
            await said(fleet, f"{one.id} is back: every target is scraped")
            await said(fleet, "kill -9 of")
            await said(fleet, "scraped again after")
        finally:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
        assert not any("has 0 targets" in line or "0 of 0" in line for line in fleet.history)
        assert not any("had ended meanwhile" in line for line in fleet.history)


@pytest.mark.timeout(240)
async def test_nobody_is_killed_whose_targets_nobody_would_take(tmp_path: Path) -> None:
    async with start_fleet(tmp_path, 30) as fleet:
        lines = list[str]()
        rounds = Rounds(fleet, lines.append)
        await all_have_targets(fleet)
        frozen, others = fleet.scrapers[0], fleet.scrapers[1:]
        frozen.signal(signal.SIGSTOP)
        assert await fleet.until_state(frozen, "down", 60.0) is not None
        assert not await rounds.kill(frozen)
        assert lines == [f"{frozen.id} has no targets, so its death would show nothing: it is left alone"]
        assert frozen.running
        fleet.controller.signal(signal.SIGKILL)
        await until(lambda: not fleet.controller.running, "promring is dead")
        rounds.look()
        assert lines[1:] == ["promring has ended (SIGKILL), and not by the demonstration: the next round starts it again"]
        assert await rounds.next()
        assert lines[2:] == ["promring is started again"]
        assert fleet.controller.running
        assert all(s.running for s in others)


async def all_have_targets(fleet: Fleet) -> None:
    for scraper in fleet.scrapers:
        assert await fleet.has_targets(scraper)


async def said(fleet: Fleet, text: str) -> None:
    await until(lambda: any(text in line for line in fleet.history), f"{text!r} in {fleet.history}", 90)
