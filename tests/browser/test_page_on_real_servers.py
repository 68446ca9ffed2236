"""The page of a real promring over real Prometheus servers: a target is found, its scraper dies, another one is drained."""

from __future__ import annotations

from pathlib import Path
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


async def look_often(fleet: Fleet) -> None:
    """The audit looks at the scrapers each two seconds."""
    config = yaml.safe_load(fleet.controller.config_file.read_text())
    config["shard_services"][0]["audit"] = {"interval": "2s", "timeout": "2s"}
    fleet.controller.configure(config)
    assert (await fleet.controller.reload(fleet.session)).status == 200


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
        assert await t.page.locator("tr[data-key^='scraper ']").count() == 1
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
