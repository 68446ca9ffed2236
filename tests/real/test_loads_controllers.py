"""Two controllers that share learnt loads through a real lock: they place alike, and who leads next moves nothing."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from testbed.etcd import EtcdProcess

from promring.demo.controller import Controller
from tests.fakes.figures import FigureServer, figure_server, series, vector
from tests.real.conftest import server
from tests.real.stage import SERVICE, Stage, stage
from tests.real.test_controllers import LOCK_TROUBLE, taken_over
from tests.real.test_loads import on_one_scraper, spread
from tests.real.test_loads_central import SOON
from tests.rows import Seen
from tests.waiting import until

HEAVY, LIGHT = 3000, 20


async def digests(s: Stage, controller: Controller) -> dict[str, str]:
    """Of each scraper's slice, as this controller would serve it."""
    described = await controller.ask(s.session, f"services/{SERVICE}")
    return {one["id"]: one["sha256"] for one in described["scrapers"]}


async def load_of(s: Stage, controller: Controller, target: str) -> int:
    """By which this controller places the target."""
    return int((await controller.ask(s.session, "where", target=target))["targets"][0]["load"])


def moved_by_loads(controllers: list[Controller]) -> list[int]:
    """How often each saw loads alone move something; a follower says so, too."""
    return [sum("reason=loads" in line for line in one.log_lines("reshard")) for one in controllers]


@pytest.mark.row(
    64,
    did="two controllers and a lock: one learns, it is killed; one without a state is next; none can ask for figures then",
)
@pytest.mark.parametrize("store", ["consul", pytest.param("etcd", marks=pytest.mark.long)])
async def test_loads_that_one_controller_learnt_are_those_of_the_next_and_a_change_of_leader_moves_nothing(
    tmp_path: Path, consul_program: Path, seen: Seen, store: str
) -> None:
    async with AsyncExitStack() as stack:
        etcd = EtcdProcess(server("etcd"), tmp_path / "etcd") if store == "etcd" else None
        if etcd is not None:
            stack.push_async_callback(etcd.stop)
            await etcd.start()
        asked = await stack.enter_async_context(AsyncExitStack())
        figures = await asked.enter_async_context(figure_server(FigureServer()))
        loads = {"promql": {"url": figures.url, "interval": "100ms"}}
        s = await stack.enter_async_context(
            stage(
                tmp_path,
                consul_program,
                None,
                count=45,
                http_sd=0,
                lock={},
                etcd=etcd,
                placement={"loads": loads},
                start=False,
                **SOON,
            )
        )
        s.allowed |= {*LOCK_TROUBLE, "loads_incomplete"}
        heavy = on_one_scraper(s)
        weights = {a: HEAVY if a in heavy else LIGHT for a in s.farm.addresses}
        first = s.controller
        await first.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed at the start")
        before = spread(s, weights)
        second = await s.join_in("second")
        figures.result = vector(*(series({"job": SERVICE, "instance": a}, n + 1) for a, n in weights.items()))
        await until(lambda: spread(s, weights) <= 1.1, "series evened out")
        await s.quiet()
        some = min(heavy)
        learnt = await load_of(s, first, some)
        assert learnt > 0.99 * HEAVY
        await until(lambda: _same(s, first, second), "both place alike")
        assert await load_of(s, second, some) == learnt
        await asked.aclose()  # from now on nobody can learn

        stamps, since = s.stamps(), time.monotonic()
        await first.kill()
        leader, killed_s = await taken_over(s, first, since)
        assert leader is second
        third = await s.join_in("third")  # without a state
        await until(lambda: _same(s, second, third), "one that joins places alike")
        assert await load_of(s, third, some) == learnt
        await second.stop()
        leader, _ = await taken_over(s, second, time.monotonic())
        assert leader is third
        await third.stop()
        await first.start()
        await first.until(lambda: first.is_ready(s.session), "back, with the state of long ago")
        await until(lambda: _leads(s, first), "it leads")
        await s.quiet(first)
        assert await load_of(s, first, some) == learnt
        assert s.stamps() == stamps, "four leaders, one plan"
        assert moved_by_loads([first, second, third]) == [1, 1, 0], "once, before the first change of leader"
        seen(
            f"lock in {store}: fullest over the mean {before:.2f}, then {spread(s, weights):.2f}; "
            f"next leads {killed_s:.1f} s after a kill; three changes of leader: 0 slices changed"
        )


async def _leads(s: Stage, controller: Controller) -> bool:
    return await s.leaders() == [controller]


async def _same(s: Stage, one: Controller, other: Controller) -> bool:
    return await digests(s, one) == await digests(s, other)
