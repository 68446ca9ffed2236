"""The page as a browser shows it: narrow, by touch, and while somebody is in the middle of it with the keyboard."""

from __future__ import annotations

from pathlib import Path

from promring.web.paths import Paths
from tests.browser.chromium import needs_chromium, tab
from tests.fakes.front import reverse_proxy
from tests.unit.test_web import running

pytestmark = needs_chromium


async def test_on_a_narrow_screen_names_are_whole_and_nothing_scrolls_sideways(tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab(tmp_path) as t:
        await t.open(r.url, width=390, height=844, touch=True)
        await t.picture(tmp_path / "narrow.png")
        assert await t.run("document.documentElement.scrollWidth") <= 390
        rows = await t.run(
            "[...document.querySelectorAll('tr[data-key]')].map(row => row.cells[0]).filter(cell => cell.textContent.trim())"
            ".map(cell => cell.getBoundingClientRect().width)"
        )
        assert len(rows) >= 4
        assert min(await t.run("[...document.querySelectorAll('.id')].map(x => x.getBoundingClientRect().width)")) > 200
        assert t.errors == []


async def test_drain_is_seen_and_can_be_touched_without_a_mouse(tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab(tmp_path) as t:
        await t.open(r.url, width=390, height=844, touch=True)
        buttons = await t.run(
            "[...document.querySelectorAll('button[data-post]')].map(b => ({"
            "opacity: Number(getComputedStyle(b).opacity), height: b.getBoundingClientRect().height,"
            "label: b.getAttribute('aria-label')}))"
        )
        assert [b["opacity"] for b in buttons] == [1] * 4
        assert min(b["height"] for b in buttons) >= 44
        assert {b["label"] for b in buttons} == {f"drain {node}" for node in r.nodes}


async def test_the_page_goes_on_while_something_in_it_has_the_focus(tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab(tmp_path) as t:
        await t.open(r.url)
        focused = f"document.activeElement.getAttribute('aria-label') === 'drain {r.nodes[1]}'"
        await t.run(f"document.querySelector('[aria-label=\"drain {r.nodes[1]}\"]').focus()")
        assert await t.run(focused)
        await t.run("window.before = document.activeElement")
        r.write([{"targets": [f"t{n}:9100" for n in range(41)]}])
        await t.until("document.querySelector('dd').textContent.trim() === '41'")
        assert await t.run(focused), "the focus is where it was"
        assert await t.run("window.before === document.activeElement"), "it never left"
        one = "/api/v1/fleets/node/scrapers/" + r.nodes[1] + "/drain"
        async with r.session.post(r.url + one, headers={"Authorization": "Bearer sesame"}) as answer:
            assert answer.status == 200
        await t.until(f"document.activeElement.getAttribute('aria-label') === 'undrain {r.nodes[1]}'")
        assert await t.run("document.activeElement.dataset.post.endsWith('/undrain')"), "what has the focus is renewed, too"
        assert t.errors == []


async def test_a_fleet_of_several_services_fits_a_narrow_screen_and_keeps_the_focus(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab(tmp_path) as t:
        await t.open(r.url, width=390, height=844, touch=True)
        assert await t.run("document.documentElement.scrollWidth") <= 390
        fleet = "document.querySelector('[data-key=\"fleet main\"]')"
        assert await t.run(f"{fleet}.querySelectorAll('button[data-post]').length") == 2, "one a scraper, not one a service"
        posts = await t.run(f"[...{fleet}.querySelectorAll('button[data-post]')].map(b => b.dataset.what)")
        assert all("of all services of fleet main" in text for text in posts)
        await t.run(f"{fleet}.querySelector('button[data-post]').focus()")
        await t.run("window.before = document.activeElement")
        node = f"{fleet}.querySelector('[data-key=\"service node\"] dd').textContent.trim()"
        assert await t.run(node) == "40"
        r.write([{"targets": [f"t{n}:9100" for n in range(41)]}])
        await t.until(f"{node} === '41'")
        assert await t.run("window.before === document.activeElement"), "it never left"
        await t.run(f"{fleet}.querySelector('[data-key=\"service node\"] h3 a').focus()")
        await t.run("window.before = document.activeElement")
        r.write([{"targets": [f"t{n}:9100" for n in range(42)]}])
        await t.until(f"{node} === '42'")
        assert await t.run("window.before === document.activeElement"), "nor does it from a section in the section"
        assert t.errors == []


async def test_behind_a_proxy_under_a_path_the_page_keeps_itself_new_and_its_buttons_work(tmp_path: Path) -> None:
    paths = Paths.of("https://example.org/mon/promring", "/")
    async with (
        reverse_proxy("/mon/promring", strip=True) as (url, behind),
        running(tmp_path, paths=paths) as r,
        tab(tmp_path) as t,
    ):
        behind.append(r.url)
        await t.open(f"{url}/")
        r.write([{"targets": [f"t{n}:9100" for n in range(41)]}])
        await t.until("document.querySelector('dd').textContent.trim() === '41'")
        await t.run(f"document.querySelector('[aria-label=\"drain {r.nodes[1]}\"]').click()")
        await t.run("document.getElementById('token').value = 'sesame'")
        await t.run("document.querySelector('#asks .go').click()")
        await t.until(f"document.querySelector('[aria-label=\"undrain {r.nodes[1]}\"]') !== null")
        assert t.errors == []
