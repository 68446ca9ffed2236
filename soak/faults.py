"""What is done to the fleet while it is soaked, one at a time: each fault begins, lasts, and is over when its function ends.

``bound_s`` is how long a target may be without a scrape meanwhile, in seconds beside a busy machine's own lateness. ``CALM``
stands for faults that must cost no scrape: what dies there is not what scrapes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

from testbed.proxy import Down, Fault, Frozen, Latency, Replace, Reset, Slicer, http_answer
from tests.fakes.source import BROKEN, EMPTY
from tests.real.stage import SERVICE

from promring.core.idle import GIVEN_S, LASTS_S
from promring.demo.scraper import ScraperProcess
from soak.world import AUDIT_S, INTERVAL_S, World

CALM = 3.5 * INTERVAL_S
DEATH = 30.0
"""A check that fails, the leave, the delivery, the look of the scraper into its file, and its first scrape."""
LACKING = GIVEN_S + LASTS_S + 4 * AUDIT_S + DEATH
"""How long a list may take to be applied, how long most must be lacking, the looks at that, and what a death costs."""


class Trial(NamedTuple):
    """``rows``: of the failure list."""

    name: str
    rows: Sequence[int | str]
    bound_s: float
    run: Callable[[World], Awaitable[None]]


# --- Consul ----------------------------------------------------------------------------------------------------------


async def consul_restarted(w: World) -> None:
    await w.stage.consul.kill()
    await asyncio.sleep(w.rng.uniform(1, 12))
    await w.stage.consul.start()
    await w.stage.consul.until(lambda: w.stage.consul.is_ready(w.stage.session), "Consul")


async def consul_forgets(w: World) -> None:
    await w.stage.consul.kill()
    w.stage.consul.forget()
    await w.stage.consul.start()
    await w.stage.consul.until(lambda: w.stage.consul.is_ready(w.stage.session), "Consul")


def through_proxy(*faults: Callable[[], Fault]) -> Callable[[World], Awaitable[None]]:
    async def run(w: World) -> None:
        w.stage.between.fault = w.rng.choice(faults)()
        await asyncio.sleep(w.rng.uniform(4, 12))
        w.stage.between.fault = None

    return run


async def consul_flaps(w: World) -> None:
    for _ in range(4):
        w.stage.between.fault = Down()
        await asyncio.sleep(1.5)
        w.stage.between.fault = None
        await asyncio.sleep(1.5)


# --- scrapers --------------------------------------------------------------------------------------------------------


def one_of(w: World) -> ScraperProcess:
    return w.rng.choice(w.stage.scrapers)


async def scraper_killed(w: World) -> None:
    await w.restart(one_of(w), w.rng.uniform(2, 20))


async def scraper_frozen(w: World) -> None:
    await w.freeze(one_of(w), w.rng.uniform(4, 15))


async def scraper_flaps(w: World) -> None:
    scraper = one_of(w)
    for _ in range(3):
        await w.freeze(scraper, 2.5)
        await asyncio.sleep(2.5)


async def scraper_called_dead(w: World) -> None:
    scraper = one_of(w)
    await w.stage.call_dead(scraper)
    await asyncio.sleep(w.rng.uniform(4, 12))
    await w.stage.call_dead(scraper, back=True)


async def scraper_drained(w: World) -> None:
    scraper, path = one_of(w), f"/api/v1/fleets/{SERVICE}/scrapers"
    leader = await w.leader()
    await leader.post(w.stage.session, f"{path}/{scraper.id}/drain")
    await asyncio.sleep(w.rng.uniform(5, 15))
    for controller in w.stage.controllers:  # whoever leads now
        await controller.post(w.stage.session, f"{path}/{scraper.id}/undrain")


async def scraper_without_its_job(w: World) -> None:
    """Its configuration has no job any more; it gets it back when others scrape what it had."""
    scraper = one_of(w)
    whole, began = scraper.config_file.read_text(), time.monotonic()
    scraper.configure([])
    scraper.signal(signal.SIGHUP)
    await asyncio.sleep(3 * INTERVAL_S)
    while len(w.scraped_lately()) < len(w.listed):
        if time.monotonic() - began > 2 * LACKING:
            raise TimeoutError(f"{len(w.listed) - len(w.scraped_lately())} of its targets are scraped by nobody")
        await asyncio.sleep(1)
    scraper.config_file.write_text(whole)
    scraper.signal(signal.SIGHUP)


async def slice_damaged(w: World) -> None:
    path = w.stage.path_of(w.rng.choice(w.stage.scrapers[:-1]))
    path.write_text(w.rng.choice(["[]", "[{", '[{"targets": ["x:1"]}]']))
    await asyncio.sleep(1)


# --- sources ---------------------------------------------------------------------------------------------------------


async def source_bad(w: World) -> None:
    w.source.mode = w.rng.choice([*BROKEN, *EMPTY, "bomb", "endless headers"])
    await asyncio.sleep(w.rng.uniform(3, 10))
    w.source.mode = "good"


async def source_down(w: World) -> None:
    await w.source.go_down()
    await asyncio.sleep(w.rng.uniform(2, 8))
    await w.source.come_back()


async def file_bad(w: World) -> None:
    path = w.stage.folder / "targets.json"
    whole = path.read_bytes()
    path.write_bytes(
        w.rng.choice([b"", b"[", b"[]", whole[: len(whole) // 2], b"<html>", json.dumps([{"targets": 1}]).encode()])
    )
    await asyncio.sleep(w.rng.uniform(2, 6))
    path.write_bytes(whole)


async def churn(w: World) -> None:
    every = w.stage.farm.addresses
    for _ in range(5):
        w.list_targets(sorted(w.rng.sample(every, len(every) - 3)))
        await asyncio.sleep(1.5)
    w.list_targets(every)


# --- controllers -----------------------------------------------------------------------------------------------------


async def controller_killed(w: World) -> None:
    await w.restart(w.rng.choice(w.mortal), w.rng.uniform(0, 8))


async def controller_stopped(w: World) -> None:
    await w.restart(w.rng.choice(w.mortal), w.rng.uniform(0, 4), kill=False)


async def controller_frozen(w: World) -> None:
    await w.freeze(w.rng.choice(w.mortal), w.rng.uniform(3, 15))


async def controllers_and_a_scraper_die(w: World) -> None:
    scraper = one_of(w)
    await scraper.kill()
    for controller in w.mortal:
        await w.restart(controller, 0.5)
    await scraper.start()
    await scraper.until(lambda: scraper.is_ready(w.stage.session), "scraper")


async def reload_bad(w: World) -> None:
    for controller in w.stage.controllers:
        good = controller.config_file.read_text()
        controller.configure(
            w.rng.choice(["shard_services: [", "{}", good + "\nnonsense: 1\n", good.replace("file:", "fil:")])
        )
        answer = await controller.reload(w.stage.session)
        controller.configure(good)
        assert answer.status == 400, f"a bad configuration was answered with {answer.status}"


async def reload_good(w: World) -> None:
    for controller in w.stage.controllers:
        answer = await controller.reload(w.stage.session)
        assert answer.status in (200, 503), answer.text()


async def strangers(w: World) -> None:
    """Idle connections, and requests that are none."""
    async with AsyncExitStack() as stack:
        for number in range(150):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", w.witness.port)
            except OSError:
                continue
            stack.callback(writer.close)
            if number % 3 == 0:
                writer.write(b"\x16\x03 nonsense\r\n\r\n")
        await asyncio.sleep(w.rng.uniform(3, 8))


PAGE = http_answer(b"<html>log in</html>")
LIST = http_answer(b"[]", content_type="application/json", X_Consul_Index=1)
HALF = http_answer(b'[{"Node": {"Node":', content_type="application/json", X_Consul_Index=9)
FAILED = http_answer(b"no leader", status="500 Internal Server Error")

TRIALS = (
    Trial("Consul killed and started", (1, 7), CALM, consul_restarted),
    Trial("Consul without its data", (4,), CALM, consul_forgets),
    Trial("Consul flaps", (5,), CALM, consul_flaps),
    Trial("Consul slow or frozen", (2,), CALM, through_proxy(lambda: Latency(0.4), Frozen, lambda: Slicer(64, 0.05))),
    Trial("Consul cut off", (6,), CALM, through_proxy(Down, Reset)),
    Trial(
        "Consul says nonsense",
        (8, 9),
        CALM,
        through_proxy(*(lambda body=b: Replace(body) for b in (PAGE, LIST, HALF, FAILED))),
    ),
    Trial("scraper killed", (12, 19), DEATH, scraper_killed),
    Trial("scraper frozen", (13,), DEATH, scraper_frozen),
    Trial("scraper flaps", (14,), DEATH, scraper_flaps),
    Trial("scraper called dead", (18,), CALM, scraper_called_dead),
    Trial("scraper drained and back", (22,), CALM, scraper_drained),
    Trial("scraper without its job", (), LACKING, scraper_without_its_job),
    Trial("slice damaged by hand", (20,), DEATH, slice_damaged),
    Trial("source misbehaves", (25, 26, 27, 29), CALM, source_bad),
    Trial("source refuses", (25,), CALM, source_down),
    Trial("list file malformed or cut", (27, 31), CALM, file_bad),
    Trial("targets come and go", (30,), CALM, churn),
    Trial("controller killed", (40,), CALM, controller_killed),
    Trial("controller stopped", (46,), CALM, controller_stopped),
    Trial("controller frozen", (42,), CALM, controller_frozen),
    Trial("two controllers and a scraper die", (12, 40), DEATH, controllers_and_a_scraper_die),
    Trial("bad reload", (44,), CALM, reload_bad),
    Trial("reload of the same", (44,), CALM, reload_good),
    Trial("idle and malformed clients", ("A11",), CALM, strangers),
)
