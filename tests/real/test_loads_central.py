"""Loads from a real central store, for scrapers that answer no query: they even out, and no failure of the store moves
anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testbed.central import CentralStore
from testbed.proxy import Down, Fault, FaultProxy, Replace, http_answer

from promring.loads.promql import QUERY
from promring.runtime.http_client import new_session
from tests.fakes.figures import vector
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
from tests.real.test_loads import on_one_scraper, spread
from tests.rows import Seen
from tests.waiting import until

HEAVY, LIGHT = 400, 3
SOON: dict[str, Any] = {"handover": {"overlap": "3s"}, "audit": {"interval": "2s", "timeout": "2s"}}
ROUNDS = 12
"""More than smoothing and hysteresis need to take a figure for true."""
Series = list[dict[str, Any]]


def valued(value: str) -> Callable[[Series], Series]:
    return lambda result: [{**one, "value": [one["value"][0], value]} for one in result]


def twice(result: Series) -> Series:
    """Each series again, with a tenth of its value and NaN, as two replicas of which one is odd have them."""
    tenth = [{**one, "value": [one["value"][0], str(float(one["value"][1]) / 10)]} for one in result]
    return [*result, *tenth, *valued("NaN")(result)]


def other_jobs(result: Series) -> Series:
    return [*result, *({"metric": {"job": "other", "instance": f"{n}:1"}, "value": [1, "9"]} for n in range(50_000))]


def summed(result: Series) -> Series:
    return [{"metric": {}, "value": [1, str(len(result))]}]


class Lie(NamedTuple):
    """What the store answers instead of the truth, and what ``status`` says about that; empty: there is nothing to say."""

    answer: Callable[[Series], Any]
    trouble: str


ODD = {
    "NaN": Lie(lambda true: vector(*valued("NaN")(true)), "45 odd figures left out, such as nan of"),
    "infinite": Lie(lambda true: vector(*valued("+Inf")(true)), "45 odd figures left out, such as inf of"),
    "absurd": Lie(lambda true: vector(*valued("1e15")(true)), "45 odd figures left out, such as 1e+15 of"),
    "negative": Lie(lambda true: vector(*valued("-1")(true)), "45 odd figures left out, such as -1 of"),
    "empty": Lie(lambda true: vector(), "no figures of 45 of 45 targets"),
    "summed": Lie(lambda true: vector(*summed(true)), "no figures of 45 of 45 targets"),
    "matrix": Lie(lambda true: {**vector(), "data": {"resultType": "matrix", "result": true}}, "not the answer of a query"),
}
"""Without a single figure."""
PARTIAL = {
    "half": Lie(
        lambda true: {**vector(*true[::2]), "warnings": ["a store did not answer"]},
        "no figures of 22 of 45 targets; it says: a store did not answer",
    ),
    "doubled": Lie(lambda true: vector(*twice(true)), "45 odd figures left out, such as nan of"),
    "crowded": Lie(lambda true: vector(*other_jobs(true)), ""),
}
"""With figures among them."""


class Central:
    """A store behind a proxy, and what a controller says of it."""

    def __init__(self, s: Stage, store: CentralStore, proxy: FaultProxy) -> None:
        self.s, self.store, self.proxy = s, store, proxy
        self.truth: Series = []

    async def loads(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.s.controller.ask(self.s.session, f"fleets/{SERVICE}"))["loads"]
        return found

    async def rounds(self, count: int) -> None:
        """Wait for so many rounds of questions."""
        before = self.proxy.connections
        await until(lambda: self.proxy.connections >= before + count, f"{count} more rounds")

    async def names(self, trouble: str) -> None:
        async def said() -> bool:
            troubles = (await self.loads())["troubles"]
            return any(trouble in one for one in troubles) if trouble else not troubles

        await until(said, f"status says: {trouble or 'no trouble'}")

    async def lies(self, lie: Lie, rounds: int) -> None:
        self.proxy.fault = Replace(http_answer(json.dumps(lie.answer(self.truth)).encode(), content_type="application/json"))
        await self.names(lie.trouble)
        await self.rounds(rounds)

    async def breaks(self, fault: Fault, trouble: str) -> None:
        self.proxy.fault = fault
        await self.names(trouble)

    async def knows_all(self) -> bool:
        """Whether each target is in the store with as many samples as it has. One that moved may be there twice for five
        minutes: the store refuses the mark of its end as out of order when it comes after a sample of the new owner's.
        """
        said = {one["metric"]["instance"]: one for one in await self.store.vector(self.s.session, QUERY)}
        self.truth = list(said.values())
        found = {name: float(one["value"][1]) for name, one in said.items()}
        return found == {a: 1.0 + self.s.farm.series[a] for a in self.s.farm.addresses}


@pytest.mark.row(
    64, did="a Prometheus 3.5 as central store of two agents and vmagent: down, killed, half, doubled, NaN, absurd answers"
)
@pytest.mark.timeout(240)
async def test_loads_of_a_central_store_even_out_and_what_it_answers_wrongly_moves_nothing(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    three, vmagent = server("prometheus3"), server("vmagent")
    kinds = [(three, True), (three, True), (vmagent, False)]
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        store = CentralStore(three, tmp_path / "central")
        stack.push_async_callback(store.stop)
        await store.start()
        await store.until(lambda: store.is_ready(session), "the central store")
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", store.port))
        loads = {"promql": {"url": f"http://{proxy.address}", "interval": "100ms", "timeout": "2s"}}
        s = await stack.enter_async_context(
            stage(
                tmp_path,
                consul_program,
                three,
                kinds=kinds,
                count=45,
                http_sd=0,
                placement={"loads": loads},
                **SOON,
                remote_write=store.write_url,
                start=False,
            )
        )
        heavy = on_one_scraper(s)
        s.farm.series.update({a: HEAVY if a in heavy else LIGHT for a in s.farm.addresses})
        s.allowed |= {"loads_incomplete"}
        central = Central(s, store, proxy)
        proxy.fault = Down()
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed at the start")
        await s.quiet()
        await until(central.knows_all, "the store has what the scrapers sent")
        before, stamps = spread(s, s.farm.series), s.stamps()
        assert before > 2, "all heavy targets are on one scraper"

        await central.breaks(Down(), "cannot connect")
        for lie in ODD.values():
            await central.lies(lie, 3)
        assert s.stamps() == stamps, "not a single figure, and nothing moves"

        proxy.fault = None
        await until(lambda: spread(s, s.farm.series) <= 1.1, "series evened out")
        await s.quiet()
        after = spread(s, s.farm.series)
        await central.rounds(ROUNDS)
        stamps, said = s.stamps(), (await central.loads())["spread"]
        assert said <= 1.1
        for lie in (*PARTIAL.values(), ODD["NaN"]):
            await central.lies(lie, ROUNDS)
            assert (await central.loads())["spread"] == pytest.approx(said, abs=0.02), lie
        await central.breaks(Replace(http_answer(b"no", status="503 Service Unavailable")), "answered 503: no")
        proxy.fault = None
        await central.names("")
        await store.kill()
        await central.names("http://")
        await store.start()
        await central.names("")
        await central.rounds(ROUNDS)
        assert s.stamps() == stamps
        assert len([line for line in s.controller.log_lines("reshard") if "reason=loads" in line]) == 1

        await store.kill()
        await s.controller.stop()
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "ready again")
        await s.scraped_by_now()
        assert {name: file[2] for name, file in s.stamps().items()} == {name: file[2] for name, file in stamps.items()}
        lies = len(ODD) + len(PARTIAL) + 1
        seen(
            f"fullest scraper over the mean: {before:.2f} before, {after:.2f} after; {lies} wrong answers: 0 slices changed"
        )
