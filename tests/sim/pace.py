"""How fast machines and networks are: in some fleets the work of threads takes long, answers come late and in another order,
and event loops stand still for a moment.

It is drawn from a source of its own, so a seed whose machines have time is the run that it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Protocol

from tests.sim.faketime import Process

BUSY_SHARE = 0.4
"""Of the seeds."""
THREAD_S = (0.0, 0.0, 0.005, 0.05, 0.3, 2.0)
ON_THE_WAY_S = (0.0, 0.0, 0.0, 0.0, 0.0, 0.02, 0.1, 0.1, 0.4, 1.0)
STILL_S = (0.05, 0.2, 0.5, 1.0)
LATE_S = 10.0
STILL_EVERY_S = 3.0
"""In the mean, one of all processes."""


class Machine(Protocol):
    process: Process


class Pace:
    def __init__(self, seed: int) -> None:
        self._rng = Random(f"pace {seed}")
        self.busy = self._rng.random() < BUSY_SHARE

    def thread_s(self) -> float:
        """How much longer the work of a thread takes."""
        return self._rng.choice(THREAD_S) if self.busy else 0.0

    def on_the_way_s(self) -> float:
        """How much longer a question is on its way."""
        return self._rng.choice(ON_THE_WAY_S) if self.busy else 0.0

    @property
    def late_s(self) -> float:
        """How much longer what is done at once may take."""
        return LATE_S if self.busy else 0.0

    async def stand_still(self, *machines: Mapping[str, Machine]) -> None:
        """Now and then one of the event loops does nothing for a moment, for ever."""
        while self.busy:
            await asyncio.sleep(self._rng.expovariate(1 / STILL_EVERY_S))
            everything = [one.process for some in machines for one in some.values()]
            if running := [process for process in everything if not process.dead]:
                self._rng.choice(running).stall(self._rng.choice(STILL_S))
