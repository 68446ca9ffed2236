"""``make soak MINUTES=60 [SEED=7]``: random faults, one after the other, on real servers, until the minutes are over.

A failure is a listed target without a scrape for longer than the fault may cost, a fleet that does not settle, an
``unforeseen`` error in a log, or a gauge that grows. The seed is printed first: with it the same faults come in the same
order, if not at the same moments. ``--plot FILE`` writes what was seen as SVG. Exit status 1: there was a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from soak.faults import TRIALS, Trial
from soak.gauges import growth
from soak.plot import Band, drawn
from soak.world import World, world


async def soak(seed: int, minutes: float, plot: Path | None, only: str) -> int:
    print(f"soak: seed {seed}, {minutes:g} minutes", flush=True)
    failures: list[str] = []
    bands: list[Band] = []
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="promring-soak-"))
        stack.callback(lambda: None if failures else shutil.rmtree(folder))
        async with world(folder, random.Random(seed)) as w:
            began = time.monotonic()
            watching = asyncio.create_task(w.watch())
            try:
                for trial in _trials(w.rng, only):
                    if time.monotonic() - began > 60 * minutes:
                        break
                    bands.append(await _try(w, trial, failures))
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            failures += [f"{name}: {what}" for name, lives in w.lives.items() for life in lives for what in growth(life)]
            if plot is not None:
                plot.write_text(drawn(began, w.coverage, bands, {"witness": w.lives["witness"][-1]}))
            _report(w, bands)
    if failures:
        print(f"soak: logs and files are left in {folder}")
    for failure in failures:
        print(f"soak: FAILED (seed {seed}): {failure}", flush=True)
    return int(bool(failures))


def _trials(rng: random.Random, only: str) -> Iterator[Trial]:
    """Each once before any comes again."""
    chosen = [trial for trial in TRIALS if only in trial.name]
    while True:
        yield from rng.sample(chosen, len(chosen))


async def _try(w: World, trial: Trial, failures: list[str]) -> Band:
    began = time.monotonic()
    settled_s = 0.0
    w.absent.clear()
    try:
        await trial.run(w)
        settled_s = await w.settle()
    except (TimeoutError, AssertionError, OSError) as error:
        failures.append(f"{trial.name}: not settled: {error or type(error).__name__}")
    ended = time.monotonic()
    gap_s = w.longest_gap(began, ended)
    bad = gap_s > trial.bound_s
    if bad:
        failures.append(f"{trial.name}: a target was not scraped for {gap_s:.1f} s, which may be {trial.bound_s:g} s")
    mark = "MISSED" if bad else ""
    print(
        f"{began - w.began:7.0f} s  {trial.name:36} gap {gap_s:5.1f} s, settled after {settled_s:5.1f} s {mark}", flush=True
    )
    return Band(trial.name, began, ended, gap_s, bad)


def _report(w: World, bands: list[Band]) -> None:
    life = w.lives["witness"][-1]
    first, last = life[min(len(life) - 1, 12)], life[-1]
    kinds, gap_s = len({band.name for band in bands}), max(band.gap_s for band in bands)
    print(f"soak: {len(bands)} faults of {kinds} kinds, longest gap {gap_s:.1f} s")
    print(f"soak: witness after a minute {first._replace(at=0)}, at the end {last._replace(at=0)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--plot", type=Path, default=None)
    parser.add_argument("--only", default="", help="faults whose name has this")
    chosen = parser.parse_args()
    raise SystemExit(asyncio.run(soak(chosen.seed, chosen.minutes, chosen.plot, chosen.only)))
