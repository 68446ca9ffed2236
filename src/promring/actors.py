"""The life of the process as a list of actors, run side by side: the first to end ends all.

After oklog/run. An actor is a coroutine function that runs until it is cancelled; one that returns or raises ends the
others, which get ``grace_s`` for their ``finally`` blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

Actor = Callable[[], Awaitable[object]]


class StuckError(Exception):
    """Actors that did not end in time after they were told to."""


async def run_actors(actors: Mapping[str, Actor], grace_s: float) -> str:
    """Run all until the first ends; stop the rest. Returns the name of the first, or raises what it raised.

    Raises ``StuckError`` when some are still running ``grace_s`` after the stop.
    """
    tasks: dict[asyncio.Future[object], str] = {asyncio.ensure_future(run()): name for name, run in actors.items()}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel()
        stuck: set[asyncio.Future[object]] = set()
        if running:
            _, stuck = await asyncio.wait(running, timeout=grace_s)
    if stuck:
        raise StuckError(f"did not stop within {grace_s:g} s: {', '.join(tasks[task] for task in stuck)}")
    first = min(done, key=lambda task: list(tasks).index(task))
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return tasks[first]
