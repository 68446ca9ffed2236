"""Many seeds, on all cores: ``make sim SEEDS=20000``. Prints how far it is, each seed that fails, and how to run it again.

    python -m tests.sim.nights --seeds 20000 [--first 0] [--workers 2] [--minutes 480]

Exit 0 when all seeds passed, 1 when one did not. A run of a seed is the same in every process.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from tests.sim.run import BrokenError, simulate

SAY_EVERY_S = 30.0
AT_A_TIME = 4
"""Seeds that wait for each worker."""


@dataclass(frozen=True)
class Outcome:
    """``what``: what broke; empty when nothing did."""

    seed: int
    what: str
    fake_s: float
    cpu_s: float


def run(seed: int) -> Outcome:
    began = time.process_time()
    try:
        report = simulate(seed)
    except BrokenError as error:
        return Outcome(seed, error.what, 0.0, time.process_time() - began)
    return Outcome(seed, "", report.fake_s, report.cpu_s)


class Progress:
    def __init__(self, seeds: int) -> None:
        self._seeds, self._began, self._said = seeds, time.monotonic(), time.monotonic()
        self.done = 0
        self.failed: list[Outcome] = []
        self._fake_s = self._cpu_s = 0.0

    def take(self, outcome: Outcome) -> None:
        self.done += 1
        self._fake_s += outcome.fake_s
        self._cpu_s += outcome.cpu_s
        if outcome.what:
            self.failed.append(outcome)
            print(f"seed {outcome.seed}: {outcome.what}\n  {again(outcome.seed)}", flush=True)
        if time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            print(self.line(), flush=True)

    def line(self) -> str:
        took_s = time.monotonic() - self._began
        left_s = took_s / max(1, self.done) * (self._seeds - self.done)
        return (
            f"{self.done} of {self._seeds} seeds, {len(self.failed)} failed, {took_s / 60:.1f} minutes, "
            f"{left_s / 60:.0f} minutes left; {self._fake_s / 3600:.1f} simulated hours, "
            f"{self._cpu_s / max(1, self.done):.1f} s of CPU a seed"
        )


def again(seed: int) -> str:
    return f"again: SIM_SEEDS={seed} .venv/bin/python -m pytest -n 0 tests/sim/test_seeds.py"


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed after that")
    wanted = parser.parse_args(None if arguments is None else list(arguments))
    progress, ends_at = Progress(wanted.seeds), time.monotonic() + wanted.minutes * 60
    seeds = iter(range(wanted.first, wanted.first + wanted.seeds))
    with ProcessPoolExecutor(wanted.workers) as pool:
        running: set[Future[Outcome]] = {pool.submit(run, seed) for seed in islice(seeds, wanted.workers * AT_A_TIME)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                progress.take(future.result())
            if time.monotonic() < ends_at:
                running |= {pool.submit(run, seed) for seed in islice(seeds, len(done))}
    print(progress.line())
    for outcome in sorted(progress.failed, key=lambda one: one.seed):
        print(f"FAILED seed {outcome.seed}: {outcome.what}\n  {again(outcome.seed)}")
    return 1 if progress.failed else 0


if __name__ == "__main__":
    sys.exit(main())
