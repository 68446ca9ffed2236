"""``promring demo``: a scraper is killed before your eyes, and the others take over."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from promring.demo.fleet import INTERVAL_S, SCRAPERS, Fleet, start_fleet
from promring.demo.process import StartError
from promring.demo.rounds import Rounds
from promring.web.answers.fleets import Service

KILL_AFTER_S = 20.0


@click.command()
@click.option("--once", is_flag=True, help="Kill and restart one scraper, exit 0 only if every target was scraped again.")
@click.option("--targets", type=click.IntRange(1, 2000), default=300, show_default=True, help="How many targets.")
def demo(once: bool, targets: int) -> None:
    """Run scrapers, targets and promring on loopback; kill a scraper and watch the others take over. q or Ctrl-C ends
    it: exit 0."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        with tempfile.TemporaryDirectory(prefix="promring-demo-") as folder:
            good = asyncio.run(_demo(Path(folder), targets, once, console))
    except StartError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        if once:
            raise  # nobody knows whether every target would have been scraped again
        console.print("stopped")
        return
    sys.exit(0 if good else 1)


async def _demo(folder: Path, targets: int, once: bool, console: Console) -> bool:
    console.print(f"demo: starting {SCRAPERS} scrapers, {targets} targets and promring on 127.0.0.1 ...")
    async with start_fleet(folder, targets) as fleet:
        if not fleet.real:
            console.print("demo: no Prometheus here (scripts/fetch-servers gets one): small stand-ins take its place")
        console.print(f"demo: promring and its page at {fleet.controller.url}, scrape interval {INTERVAL_S:g} s")
        if not await fleet.all_scraped(time.monotonic()):
            console.print("demo: not every target was scraped within a minute", style="red")
            return False
        console.print(f"demo: all {targets} targets are scraped")
        if once:
            return await rounds_of(fleet, console).kill(fleet.scrapers[0])
        await interactive(fleet, console)
        return True


def rounds_of(fleet: Fleet, console: Console) -> Rounds:
    """What they say is in the fleet's history, and printed where there is no table that shows it."""

    def say(text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        fleet.history.append(line)
        if not console.is_terminal:
            console.print(f"demo: {line}")

    return Rounds(fleet, say)


async def interactive(fleet: Fleet, console: Console, kill_after_s: float = KILL_AFTER_S) -> None:
    """Until q or Ctrl-C. A scraper is killed when its number is pressed, or by itself now and then."""
    rounds = rounds_of(fleet, console)
    keys: asyncio.Queue[str] = asyncio.Queue(maxsize=8)
    console_in_live = Console(file=console.file, force_terminal=console.is_terminal, highlight=False)
    round_: asyncio.Future[bool] | None = None
    next_round = time.monotonic() + kill_after_s
    try:
        with _pressed_keys(keys), Live(console=console_in_live, auto_refresh=False) as live:
            while True:
                rounds.look()
                live.update(_screen(fleet, await fleet.describe(), next_round if round_ is None else None), refresh=True)
                key = await _key(keys, 0.25)
                if key in ("q", "\x03"):
                    return
                if round_ is not None:
                    if not round_.done():
                        continue
                    round_.result()
                    round_, next_round = None, time.monotonic() + kill_after_s
                if key.isascii() and key.isdigit() and 0 < int(key) <= len(fleet.scrapers):
                    round_ = asyncio.ensure_future(rounds.asked_for(int(key) - 1))
                elif time.monotonic() >= next_round:
                    round_ = asyncio.ensure_future(rounds.next())
    finally:  # a round starts what it has killed
        if round_ is not None:
            round_.cancel()
            await asyncio.gather(round_, return_exceptions=True)


async def _key(keys: asyncio.Queue[str], timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            return await keys.get()
    except TimeoutError:
        return ""


@contextlib.contextmanager
def _pressed_keys(keys: asyncio.Queue[str]) -> Iterator[None]:
    """Single keys from a terminal; nothing where there is none."""
    if not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        with contextlib.suppress(asyncio.QueueFull):
            keys.put_nowait(sys.stdin.read(1))

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _screen(fleet: Fleet, described: Service | None, next_round: float | None) -> RenderableType:
    table = Table(title=f"promring  {fleet.controller.url}", title_justify="left")
    for name in ("", "scraper", "state", "targets", "load"):
        table.add_column(name, justify="right" if name == "targets" else "left", no_wrap=True)
    states = {s.id: s for s in described.scrapers} if described else {}
    now = time.monotonic()
    fresh = {t for t in fleet.farm.addresses if (seen := fleet.farm.scrapes(t)) and now - seen[-1] < INTERVAL_S * 1.1}
    most = max([1, *(s.targets for s in states.values())])
    for i, scraper in enumerate(fleet.scrapers):
        known = states.get(scraper.id)
        said = known.state if known else "?"
        style = {"up": "green", "down": "red"}.get(said, "yellow")
        planned = known.targets if known and said == "up" else 0
        bar = "#" * round(20 * planned / most)
        state = Text(said if scraper.running else f"{said} (ended)", style=style)
        table.add_row(str(i + 1), scraper.id, state, str(planned), bar)
    total = len(fleet.farm.addresses)
    scraped = Text(
        f"scraped within the last interval: {len(fresh)} of {total}", style="green" if len(fresh) == total else "yellow"
    )
    hint = "a round is going on; q ends"
    if next_round is not None:
        left, ended = max(0.0, next_round - now), not all(p.running for p in (*fleet.scrapers, fleet.controller))
        by_itself = "what has ended is started again" if ended else "one is killed by itself"
        hint = f"1-{len(fleet.scrapers)} kills a scraper, or starts it again; q ends; {by_itself} in {left:.0f} s"
    return Group(table, scraped, Text(hint, style="dim"), *(Text(line) for line in fleet.history[-10:]))
