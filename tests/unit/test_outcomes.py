"""What the outcomes of deliveries say about scrapers: who counts as dead, who waits, who is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from promring.delivery import How, Leads, Outcome, always
from promring.election.leadership import Leadership
from promring.fleet.deliveries import ServiceDeliveries
from promring.fleet.dispatcher import Dispatcher
from promring.model import Generation, Scraper, Slice
from promring.telemetry import log
from promring.telemetry.metrics import Metrics

A, B = (Slice("x", Scraper(f"{n}:1", n, 1), Generation(1, 1), b"[]", 0) for n in "ab")


class Told:
    """A delivery that tells what it is told to."""

    means, pulled = "told", False

    def __init__(self) -> None:
        self.kinds: dict[str, How] = {"a:1": "written", "b:1": "written"}
        self.wake: Callable[[], None] | None = None

    def when_done(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        return [Outcome(s.scraper.id, self.kinds[s.scraper.id], "why") for s in slices]


class Round:
    def __init__(self) -> None:
        self.delivery, self.woken = Told(), 0
        self.couriers = ServiceDeliveries("x", "x", [self.delivery], Leadership(), self._wake, Metrics(), log.get())
        self.dispatcher = Dispatcher({"x": self.couriers}, {}, Leadership(), self._wake, log.get())

    def _wake(self) -> None:
        self.woken += 1

    async def go(self, b: How) -> bool:
        self.delivery.kinds["b:1"] = b
        return (await self.dispatcher.deliver({"x": [A, B]}, {"x"}, pushes=True, whole=True))["x"]


@pytest.mark.parametrize("kind", ["waiting", "unsent"])
async def test_who_waits_or_is_not_to_blame_is_not_delivered_to_and_never_dead(kind: How) -> None:
    round_ = Round()
    for _ in range(10):
        assert not await round_.go(kind)
        assert round_.couriers.undelivered.keys() == {"b:1"}, "so nothing is taken from an old owner"
    assert round_.dispatcher.cut_off == set()
    assert await round_.go("written")
    assert round_.couriers.undelivered == {}


async def test_only_tries_count_and_the_count_lasts_over_a_wait() -> None:
    round_ = Round()
    for kind in ("failed", "waiting", "waiting", "failed", "unsent", "waiting"):
        await round_.go(kind)
        assert round_.dispatcher.cut_off == set()
    await round_.go("failed")
    assert round_.dispatcher.cut_off == {"b:1"}
    await round_.go("waiting")
    assert round_.dispatcher.cut_off == {"b:1"}, "until it is reached"
    await round_.go("same")
    assert round_.dispatcher.cut_off == set()


async def test_a_delivery_in_the_background_wakes_the_loop_and_waiting_is_not_retried_in_a_hurry() -> None:
    round_ = Round()
    assert round_.delivery.wake is not None
    round_.delivery.wake()
    assert round_.woken == 1
    await round_.go("waiting")
    assert round_.couriers.again_in(60.0) == 60.0
    await round_.go("unsent")
    assert round_.couriers.again_in(60.0) < 2.0
