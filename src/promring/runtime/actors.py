"""The life of the process as a list of actors, run side by side: the first to end ends all.

After oklog/run. An actor is a coroutine function that runs until it is cancelled; one that returns or raises ends the
others, which get ``grace_s`` for their ``finally`` blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from promring.telemetry.log import Logger

Actor = Callable[[], Awaitable[object]]
AlsoFailed = Callable[[str, BaseException], None]


class StuckError(Exception):
    """Actors that did not end in time after they were told to."""


async def run_actors(actors: Mapping[str, Actor], grace_s: float, also_failed: AlsoFailed | None = None) -> str:
    """Run all until the first ends; stop the rest. Returns the name of the first, or raises what it raised.

    An actor that fails while it is stopped is not the cause: ``also_failed`` gets its name and error, and an error of the
    first actor carries it as a note. Raises ``StuckError`` when some still run ``grace_s`` after the stop, unless the first
    one failed.
    """
    ended: list[asyncio.Future[object]] = []  # in the order in which they ended
    tasks: dict[asyncio.Future[object], str] = {asyncio.ensure_future(run()): name for name, run in actors.items()}
    for task in tasks:
        task.add_done_callback(ended.append)
    stuck: set[asyncio.Future[object]] = set()
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            _, stuck = await asyncio.wait(running, timeout=grace_s)
    first, *others = ended
    notes = [f"did not stop within {grace_s:g} s: {', '.join(tasks[task] for task in stuck)}"] if stuck else []
    for task in others:
        if not task.cancelled() and (error := task.exception()) is not None:
            notes.append(f"{tasks[task]} failed, too: {type(error).__name__}: {error}")
            if also_failed is not None:
                also_failed(tasks[task], error)
    cause = None if first.cancelled() else first.exception()
    if cause is not None:
        for note in notes:
            cause.add_note(note)
        raise cause
    if stuck:
        raise StuckError(notes[0])
    return tasks[first]


def said_in(log: Logger) -> AlsoFailed:
    """An ``also_failed`` that says it in ``log``."""

    def say(actor: str, error: BaseException) -> None:
        log.error("failed_while_stopping", actor=actor, error=f"{type(error).__name__}: {error}")

    return say
