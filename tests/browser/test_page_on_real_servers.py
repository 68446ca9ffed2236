"""The page of a real promring over real Prometheus servers: a target is found, its scraper dies, another one is drained, the
stuck are named, and those that are needed are counted.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from promring.demo.fleet import SERVICE, Fleet, start_fleet
from promring.demo.process import find
from tests.browser.chromium import Tab, needs_chromium, tab

pytestmark = [
    needs_chromium,
    pytest.mark.real,
    pytest.mark.skipif(not (find("prometheus") or find("prometheus3")), reason="no Prometheus (scripts/fetch-servers)"),
]
TARGETS = 60


async def look_often(fleet: Fleet, **changes: Any) -> None:
    """The audit looks at the scrapers each two seconds. ``changes``: of the service, by a reload."""
    config = yaml.safe_load(fleet.controller.config_file.read_text())
    config["shard_services"][0] |= {"audit": {"interval": "2s", "timeout": "2s"}, **changes}
    fleet.controller.configure(config)
    answer = await fleet.controller.reload(fleet.session)
    assert answer.status == 200, answer.text()


async def owner_of(t: Tab, url: str, target: str) -> str:
    """What the page says after somebody typed the target's instance."""
    await t.open(url)
    await t.page.fill("[name=target]", f"instance={target}")
    await t.page.keyboard.press("Enter")
    await t.page.click(".place a")
    await t.says("owner: ")
    await t.says("good")
    return str(await t.page.inner_text(".summary a"))


async def test_a_target_is_found_its_scraper_dies_as_the_preview_said_and_another_one_is_drained(tmp_path: Path) -> None:
    async with start_fleet(tmp_path, TARGETS) as fleet, tab() as t:
        url, target = fleet.controller.url, fleet.farm.addresses[0]
        await look_often(fleet)
        await t.open(url)
        await t.says(f"{TARGETS} of {TARGETS} targets seen scraped")
        owner = await owner_of(t, url, target)
        target_page = t.page.url
        dead = next(one for one in fleet.scrapers if one.id == owner)
        await t.open(f"{url}/fleets/{SERVICE}/plan?without={quote(owner)}")
        foreseen = await t.page.inner_text("#preview dd")
        await t.open(url)
        row = f"document.querySelector('[data-key=\"scraper {SERVICE} {SERVICE} {{}}\"]')".format
        await dead.kill()
        await t.until(f"{row(owner)}.innerText.includes('down')")  # the page is not opened again
        await t.says(f"left: {owner} {foreseen} of {TARGETS} targets moved")
        await t.says("look at it")
        await t.says(f"{TARGETS} of {TARGETS} targets seen scraped")
        await t.page.check("[name=trouble]")
        await t.page.click(".filter button")
        await t.until("document.querySelectorAll(\"tr[data-key^='scraper ']\").length === 1")
        await t.open(target_page)
        await t.says(f"from {owner} to ")
        drained = next(one.id for one in fleet.scrapers if one.id != owner)
        await t.open(url)
        await t.page.click(f"[aria-label='drain {drained}']")
        await t.says("it fits", "#numbers")
        await t.page.fill("#token", fleet.controller.token)
        await t.page.fill("#why", "new disk")
        await t.page.keyboard.press("Enter")
        await t.until(f"{row(drained)}.innerText.includes('drained')")
        await t.says(f"drain {drained}")
        await t.says("new disk")
        assert t.errors == []


async def test_a_hand_over_is_counted_and_what_a_frozen_scraper_keeps_from_ending_is_named(tmp_path: Path) -> None:
    async with start_fleet(tmp_path, TARGETS) as fleet, tab() as t:
        probe = {
            "nodes": [one.id for one in fleet.scrapers],
            "interval": "1s",
            "timeout": "500ms",
            "unhealthy_after": 100,
        }
        await look_often(fleet, scrapers={"probe": probe})  # who is frozen is not called dead
        drained, frozen, _ = fleet.scrapers
        await t.open(fleet.controller.url)
        await t.says(f"{TARGETS} of {TARGETS} targets seen scraped")
        had = set(await fleet.targets_of(drained))
        frozen.signal(signal.SIGSTOP)
        try:
            answer = await fleet.controller.post(fleet.session, f"/api/v1/fleets/{SERVICE}/scrapers/{drained.id}/drain")
            assert answer.status == 200
            hand_over = f"[data-key='hand-over {SERVICE}']"
            await t.says(f"of {len(had)} done")  # the page is not opened again
            await t.says("a drain, or its end", hand_over)
            await t.page.click(f"{hand_over} summary")
            await t.says("nothing moved for", hand_over)
            waiting = await fleet.targets_of(frozen)
            stuck = len(had & set(waiting))
            assert 0 < stuck < len(had), "what the third scraper takes is done"
            await t.says(f"{len(had) - stuck} of {len(had)} done", hand_over)
            items = await t.page.locator(f"{hand_over} li").all_inner_texts()
            named = [item for item in items if f"{drained.id} keeps it until {frozen.id} scrapes it" in item]
            assert {item.split()[0] for item in named} <= had & set(waiting)
            assert len(named) == min(stuck, 10)
            assert stuck - len(named) == sum(int(item.split()[1]) for item in items if item.startswith("and "))
            await t.page.click(f"{hand_over} li a")
            await t.says(f"handing over {drained.id} keeps it")
        finally:
            frozen.signal(signal.SIGCONT)
        await t.open(fleet.controller.url)
        await t.until(f'document.querySelector("{hand_over}") === null')
        row = f"[data-key='scraper {SERVICE} {SERVICE} {drained.id}']"
        await t.says("drained", row)
        assert t.errors == []


async def test_how_many_scrapers_are_needed_is_said_before_and_after_one_is_lost(tmp_path: Path) -> None:
    async with start_fleet(tmp_path, TARGETS) as fleet, tab() as t:
        await look_often(fleet, placement={"capacity": 25})
        await t.open(fleet.controller.url)
        await t.says("scrapers needed 3 of 3; 4 to lose one", "dl.facts")
        await t.says("10 have no room", "dl.facts")
        await fleet.scrapers[0].kill()
        await t.says("scrapers needed 3 of 2; 4 to lose one", "dl.facts")  # the page is not opened again
        await t.says("10 targets have no room")
        assert await t.page.locator("dd.bad-text", has_text="of 2;").count() == 1
        assert t.errors == []
