"""One run: a fleet starts, suffers a seeded schedule of faults, is healed, must converge and fall quiet, and is examined.

    start -> converge -> faults, several at a time -> heal -> converge -> quiet -> examinations, one fault each

``simulate(seed)`` raises ``BrokenError`` with the seed and the last of what happened. The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tests.sim import rare
from tests.sim.agreement import agreed
from tests.sim.exams import EXAMS, LAST_EXAMS, Exam
from tests.sim.faketime import START_S, FakeLoop, replaced
from tests.sim.faults import FAULT_KINDS
from tests.sim.fleet import BrokenError, Fleet
from tests.sim.list_exams import drawn_list_exams
from tests.sim.pace import Pace
from tests.sim.replacing import replacements
from tests.sim.wanted import RECONCILE_S
from tests.sim.world import World

__all__ = ["ALWAYS", "BrokenError", "Report", "examined", "simulate"]

ALWAYS, DRAWN_ALWAYS = 44, 20
"""So many seeds, from 0 and from ``membership.FIRST_DRAWN`` on, pass in each run of the tests. A seed
costs about 2 s of a core; with the planted bugs that is three minutes of two cores.
"""
FAULTS = 14
EXAMS_A_RUN = 4
QUIET_S = 4 * RECONCILE_S
Life = Callable[[Fleet], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Report:
    """``digest`` is of everything that happened."""

    seed: int
    fake_s: float
    cpu_s: float
    writes: int
    digest: str
    faults: tuple[str, ...]
    trace: tuple[str, ...]


def simulate(seed: int, *, strict: bool = False, life: Life | None = None) -> Report:
    """``life``: what happens, instead of what the seed says. ``strict``: what is known to be weak shall hold, too
    (``World.weak``, and an examination right after another). Raises ``BrokenError``.
    """
    began, loop = time.process_time(), FakeLoop()
    memory = Path("/dev/shm")  # an fsync costs nothing there
    folder = Path(tempfile.mkdtemp(prefix="promring-sim-", dir=memory if memory.is_dir() else None))
    world = World(loop, random.Random(seed + 1), folder, pace=Pace(seed), strict=strict)
    fleet = Fleet(seed, world)
    before, logging, collects = random.getstate(), structlog.get_config(), gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)  # as promring itself does: a tenth of the time
    random.seed(seed)
    structlog.configure(processors=[fleet.note], cache_logger_on_first_use=False)
    try:
        with replaced([*replacements(world, fleet.means), *fleet.membership.replacements()]):
            _run(loop, fleet, life or _life)
    finally:
        gc.set_threshold(*collects)
        structlog.configure(**logging)
        random.setstate(before)
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)
    trace = tuple(world.trace)
    digest = hashlib.sha256("\n".join(trace).encode()).hexdigest()
    took = time.process_time() - began
    return Report(seed, world.now - START_S, took, len(world.writes), digest, tuple(fleet.faults), trace)


def _run(loop: FakeLoop, fleet: Fleet, life: Life) -> None:
    try:
        loop.run_until_complete(life(fleet))
    except BrokenError:
        raise
    except Exception as error:  # of the simulation, or of a fault that could not be done: with its seed, too
        raise BrokenError(fleet.seed, repr(error), fleet.world.trace) from error
    finally:
        loop.run_until_complete(fleet.end())


async def _life(fleet: Fleet) -> None:
    fleet.start()
    await fleet.converged("at the start")
    await _suffer(fleet)
    fleet.heal()
    await fleet.converged("after the last fault")
    await fleet.quiet("after the last fault", QUIET_S)
    last = LAST_EXAMS if fleet.wanted.capacity else ()
    for exam in (*fleet.rng.sample(EXAMS, EXAMS_A_RUN), *rare.drawn_exams(fleet.seed), *drawn_list_exams(fleet), *last):
        if not fleet.world.strict:
            await fleet.let_pass(5.0)  # Consul and the sources, too, have seen that all is well
            await fleet.converged("before the exam")  # what they told may have moved something
            await agreed(fleet, "before the exam")
        fleet.say_fault(f"exam {exam.__name__}")
        await exam(fleet)
        fleet.heal()
        await fleet.converged(f"after exam {exam.__name__}")


def examined(*exams: Exam) -> Life:
    """A life without other faults."""

    async def life(fleet: Fleet) -> None:
        fleet.start()
        await fleet.converged("at the start")
        await fleet.let_pass(20.0)
        for exam in exams:
            await exam(fleet)
            fleet.heal()
            await fleet.converged(f"after exam {exam.__name__}")

    return life


async def _suffer(fleet: Fleet) -> None:
    suffering, one = [], rare.drawn_fault(fleet.seed, FAULTS)
    for number in range(FAULTS):
        if one is not None and one[0] == number:
            suffering.append(asyncio.create_task(one[1](fleet)))
        kind = fleet.rng.choice(FAULT_KINDS)
        suffering.append(asyncio.create_task(kind(fleet)))
        await fleet.let_pass(fleet.rng.choice((0.3, 2.0, 5.0, 12.0)))
    while not all(task.done() for task in suffering):
        await fleet.let_pass(1.0)
    for task in suffering:
        task.result()
