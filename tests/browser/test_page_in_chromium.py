"""The page in a browser: narrow, by touch, by keyboard, without script, and while somebody is in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Request, Route

from promring.web.paths import Paths
from tests.browser.chromium import Tab, needs_chromium, tab
from tests.fakes.front import reverse_proxy
from tests.unit.test_web import Running, running
from tests.waiting import until

pytestmark = needs_chromium
LONG = "the_exporters_of_the_shop_" * 4
"""A name of a service without a place to break it."""
TURNED = "a\u202eb\u0007c\u200bd"
"""It turns the rest of its line, rings a bell, and has what takes no room."""
HOSTILE = "</main><script>document.title=1</script><img src=x onerror=document.title=2>\"'{{ 7 * 7 }}"


async def pages(r: Running) -> list[str]:
    """Every kind of page there is."""
    target = (await r.data("/api/v1/services/node/targets?limit=1"))["targets"][0]
    node = quote(r.nodes[0], safe="")
    return [
        "/",
        "/fleets/main",
        "/services/node",
        f"/fleets/main/scrapers/{node}",
        f"/fleets/main/plan?without={node}",
        f"/services/node/targets/{target['id']}",
        "/services/node/lists/unproved",
        f"/where?target={quote(target['target'])}",
        "/where?target=t1",
        "/where",
        "/where?target=nobody",
        "/events",
        "/alerts",
        "/config",
        "/config?said=1&q=probe",
        "/runbooks",
        f"/services/{LONG}",
        f"/fleets/main/scrapers/{node}?service={LONG}",
    ]


async def test_no_page_has_a_finding_of_axe_nor_scrolls_sideways_and_labels_are_text(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True, second=LONG) as r, tab(touch=True) as t:
        r.write([{"targets": ["t1:9100", "t2:9100"], "labels": {"evil": HOSTILE, "turned": TURNED}}])
        await t.open(r.url)
        await t.until("document.querySelector('[data-key=\"service node\"] dd').textContent.trim() === '2'")
        found, titles = {}, []
        for number, path in enumerate(await pages(r)):
            await t.open(r.url + path, width=390, height=844)
            assert await t.run("document.documentElement.scrollWidth") <= 390, path
            small = "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.offsetHeight < 44).length"
            assert await t.run(small) == 0, path
            await t.look(width=390 if number % 3 == 0 else 1280, dark=number % 2 == 0)
            found[path] = await t.findings()
            titles.append(await t.page.title())
        assert {where: said for where, said in found.items() if said} == {}
        assert not {"1", "2"} & set(titles)
        assert await t.run("document.body.innerText.includes('{{ 7 * 7 }}')") is False
        await t.open(f"{r.url}/where?target=t1")
        assert r"a\u202eb\u0007c\u200bd" in await t.run("document.body.innerText")
        assert HOSTILE in await t.run("document.body.innerText")
        assert t.errors == []


async def kept(t: Tab, script: str) -> None:
    """Something in the page is the same element as before, and has the focus."""
    assert await t.run(f"window.before === document.activeElement && ({script})")


async def test_what_somebody_has_the_focus_on_has_opened_typed_or_scrolled_to_stays(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab() as t:
        await t.open(f"{r.url}/fleets/main", height=500)
        targets = "document.querySelector('[data-key=\"service node\"] dd').textContent.trim()"
        drain = f'[aria-label="drain {r.nodes[1]}"]'
        await t.run("document.querySelector('.timeline details')?.setAttribute('open', '')")
        await t.page.fill(".filter [name=q]", "half a wo")
        await t.page.focus(drain)
        await t.run("window.scrollTo(0, 240); window.before = document.activeElement")
        await t.until("window.scrollY === 240")
        r.write([{"targets": [f"t{n}:9100" for n in range(41)]}])
        await t.until(f"{targets} === '41'")
        await kept(t, "document.querySelector('.filter [name=q]').value === 'half a wo'")
        assert abs(await t.run("window.scrollY") - 240) < 60
        one = f"/api/v1/fleets/main/scrapers/{r.nodes[1]}/drain?reason=a%20test"
        async with r.session.post(r.url + one, headers={"Authorization": "Bearer sesame"}) as answer:
            assert answer.status == 200
        await t.until(f"document.activeElement.getAttribute('aria-label') === 'undrain {r.nodes[1]}'")
        await kept(t, "document.activeElement.dataset.post.endsWith('/undrain')")
        await t.says("a test")
        await t.page.click("#pause")
        r.write([{"targets": [f"t{n}:9100" for n in range(42)]}])
        await t.says("paused", "header")
        assert await t.run(targets) == "41"
        await t.page.click("#pause")
        await t.until(f"{targets} === '42'")
        assert t.errors == []


async def test_behind_a_proxy_a_drain_is_asked_with_its_numbers_by_keyboard_and_refused_with_a_wrong_token(
    tmp_path: Path,
) -> None:
    paths = Paths.of("https://example.org/mon/promring", "/")
    async with reverse_proxy("/mon/promring", strip=True) as (url, behind), running(tmp_path, paths=paths) as r, tab() as t:
        behind.append(r.url)
        await t.open(f"{url}/fleets/node")
        await t.page.focus(f'[aria-label="drain {r.nodes[1]}"]')
        await t.page.keyboard.press("Enter")
        await t.says("targets that move", "#numbers")
        await t.page.keyboard.press("Escape")
        await t.until("!document.getElementById('asks').open")
        assert await t.run("document.activeElement.dataset.post.endsWith('/drain')"), "the focus is back on the button"
        for token, said in (("wrong", "the token is wrong"), ("sesame", "done")):
            await t.page.keyboard.press("Enter")
            await t.page.fill("#token", token)
            if token == "wrong":
                await t.page.fill("#why", "new disk")
            assert await t.page.input_value("#why") == "new disk", "it is not typed again after a wrong token"
            await t.page.keyboard.press("Enter")
            await t.says(said, "#said")
        await t.until(f"document.querySelector('[aria-label=\"undrain {r.nodes[1]}\"]') !== null")
        await t.says("new disk")
        assert [error for error in t.errors if "403" not in error] == []


async def test_without_script_everything_can_be_read_filtered_and_followed(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab(script=False) as t:
        await t.open(f"{r.url}/fleets/main")
        await t.page.fill(".filter [name=q]", r.nodes[0])
        await t.page.click(".filter button")
        assert await t.page.locator("tr[data-key^='scraper ']").count() == 1
        await t.page.click("text=if it dies")
        assert "targets that move" in await t.page.inner_text("main")
        await t.page.fill("[name=target]", "env=prod")
        await t.page.keyboard.press("Enter")
        await t.page.click(".place a")
        assert "owner: " in await t.page.inner_text("main")
        assert "promring drain" in await t.page.inner_text("body")


async def test_a_refused_stream_of_events_is_asked_for_again_and_a_tab_that_nobody_sees_has_none(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab() as t:
        asked: list[Request] = []
        ended: list[Request] = []

        async def stream(route: Route) -> None:
            asked.append(route.request)
            await (route.fulfill(status=502, body="starting") if len(asked) == 1 else route.continue_())

        t.page.on("requestfailed", lambda request: ended.append(request))  # noqa: PLW0108 - it sets attributes of a function
        await t.page.route("**/api/v1/events", stream)
        await t.open(r.url)
        await until(lambda: len(asked) == 2, "a proxy that answers 502 is asked again")
        hidden = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }})".format
        changed = "document.dispatchEvent(new Event('visibilitychange'))"
        await t.run(f"{hidden('true')}; {changed}")
        await until(lambda: asked[1] in ended, "the stream is closed")
        r.write([{"targets": [f"t{n}:9100" for n in range(41)]}])
        await until(lambda: len(r.supervisor.services["node"].placement.pool) == 41, "placed")  # type: ignore[union-attr]
        await t.run(f"{hidden('false')}; {changed}")
        await t.until("document.querySelector('[data-key=\"service node\"] dd').textContent.trim() === '41'")
        await until(lambda: len(asked) == 3, "and opened again")


async def test_a_late_preview_of_one_scraper_does_not_stand_in_the_dialog_of_another_one(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab() as t:
        late, go_on = quote(r.nodes[0], safe=""), asyncio.Event()

        async def preview(route: Route) -> None:
            await go_on.wait()
            await route.continue_()

        await t.page.route(f"**/plan?without={late}*", preview)
        await t.open(f"{r.url}/fleets/main")
        await t.page.click(f'[aria-label="drain {r.nodes[0]}"]')
        await t.page.keyboard.press("Escape")
        await t.page.click(f'[aria-label="drain {r.nodes[1]}"]')
        await t.says("targets that move", "#numbers")
        shown = await t.page.inner_html("#numbers")
        async with t.page.expect_response(lambda answer: f"without={late}" in answer.url) as answered:
            go_on.set()
        await (await answered.value).finished()
        await t.run("new Promise(done => setTimeout(done, 300))")
        assert await t.page.inner_html("#numbers") == shown
        assert t.errors == []


async def test_what_an_action_led_to_is_said_before_anything_else_also_when_nobody_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab() as t:
        reached, go_on, gone = asyncio.Event(), asyncio.Event(), True

        async def post(route: Route) -> None:
            if gone:
                await route.abort()
                return
            reached.set()
            await go_on.wait()
            await route.continue_()

        async def press() -> None:
            await t.page.click(f'[aria-label="drain {r.nodes[0]}"]')
            await t.page.fill("#token", "sesame")
            await t.page.click("#asks .go")

        await t.page.route("**/drain*", post)
        await t.open(f"{r.url}/fleets/node")
        await press()
        await t.says(
            f"drain {r.nodes[0]}: the controller does not answer (it cannot be reached). It may have been done", "#said"
        )
        gone = False
        await press()
        await reached.wait()
        await t.says(f"drain {r.nodes[0]}: asked, no answer yet", "#said")
        await t.run("live.dataset.level = 'another', live.dataset.said = 'all was another', refresh()")
        await t.until("live.dataset.level !== 'another'")
        await t.says("asked, no answer yet", "#said")
        go_on.set()
        await t.says(f"drain {r.nodes[0]}: done", "#said")
        await t.run("live.dataset.level = 'another', live.dataset.said = 'all was another', refresh()")
        await t.until("live.dataset.level !== 'another'")
        await t.says(f"drain {r.nodes[0]}: done", "#said")
        await t.says("was all was another; now", "#said")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("{}", "done"),
        ("{was_drained: true, drained: false}", "done"),
        ("{was_drained: false, drained: false}", "nothing changes: it was not drained"),
        (
            "{was_drained: false, drained: true}",
            "it goes on to be drained: it is in maintenance in Consul, or its pod is being",
        ),
    ],
)
async def test_what_an_undrain_led_to_is_said_as_it_is(answer: str, said: str, tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab() as t:
        await t.open(r.url)
        assert (await t.run(f"outcome({answer})")).startswith(said)


async def test_a_page_whose_controller_does_not_answer_says_so_on_top_and_is_well_again_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r, tab() as t:
        gone = True

        async def answer(route: Route) -> None:
            await (route.abort() if gone else route.continue_())

        await t.open(r.url)
        await t.page.route(r.url + "/", answer)
        await t.until("/^no answer, updated \\d+ s ago$/.test(document.querySelector('header .stale')?.textContent)")
        await t.says("this is old: the controller does not answer", "#said")
        await t.until("document.getElementById('live').classList.contains('old')")
        gone = False
        await t.until("/^updated \\d+ s ago$/.test(document.getElementById('age').textContent)")
        await t.says("the controller answers again", "#said")
