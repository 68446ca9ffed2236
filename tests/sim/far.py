"""A delivery over a wire that stalls and breaks, to a receiver that is real: ``delivery.receiver`` on a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from promring.delivery import Leads, Outcome, always, receiver
from promring.delivery.receiver import Envelope
from promring.model import Slice
from promring.runtime.paths import render
from tests.sim.faketime import HERE
from tests.sim.scraper import Scraper
from tests.sim.world import World

PUSH_S = 5.0
"""How long a sender waits for a receiver."""


class FarDelivery:
    """Slices over a wire that stalls and breaks, to a receiver that is real."""

    means = "far"
    pulled = False

    def __init__(self, template: str, world: World) -> None:
        self._template, self._world = template, world

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._push(one, leads)) for one in slices]
        return [task.result() for task in tasks]

    async def _push(self, slice_: Slice, leads: Leads) -> Outcome:
        world, name = self._world, slice_.scraper.id
        path = render(self._template, slice_.service, slice_.scraper)
        await asyncio.sleep(world.rng.uniform(0.001, 0.01))
        there = path.exists() and path.read_bytes() == slice_.body
        if there and receiver.held(path) == (slice_.generation, slice_.sha256):
            return Outcome(name, "same")
        if not leads():
            return Outcome(name, "withheld")
        process = HERE.get()
        if process is None or process.dead:
            raise asyncio.CancelledError
        world.pushes()
        scraper = world.anybody(name)
        task = scraper.process.start(_receive(scraper, path, Envelope.of(slice_)))
        try:
            async with asyncio.timeout(PUSH_S):
                done = await asyncio.shield(task)
        except TimeoutError:
            return Outcome(name, "failed", f"{name}: no answer within {PUSH_S:g} s")
        if isinstance(done, receiver.RefusedError):
            return Outcome.not_taken(name, str(done), done.have)
        if isinstance(done, OSError):
            return Outcome.not_taken(name, str(done))
        return Outcome(name, "written" if done else "same")


async def _receive(scraper: Scraper, path: Path, sent: Envelope) -> bool | OSError | receiver.RefusedError:
    """At the far side: whether it was written, or why not."""
    trouble, stall_s = scraper.disk, scraper.stall_s
    await asyncio.sleep(stall_s if trouble == "stalls" else 0.002)
    body = sent.body[: len(sent.body) // 2] if trouble == "cut" else sent.body
    try:
        return receiver.install(path, Envelope(body, sent.sha256, sent.generation))
    except (OSError, receiver.RefusedError) as error:
        return error
