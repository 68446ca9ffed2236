"""A8: hostile labels, addresses and names of services on the page, as a browser sees them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.browser.chromium import needs_chromium, tab
from tests.unit.test_web import running
from tests.waiting import until

pytestmark = needs_chromium
HOSTILE = (
    "</td><script>window.owned=1</script>",
    "\"><img src=x onerror='window.owned=1'>",
    "javascript:window.owned=1",
    "<svg onload=window.owned=1>",
    "{{ 7 * 7 }}${7*7}",
    "</script><script>window.owned=1</script>",
)


@pytest.mark.row("A8", did="labels and addresses with scripts in them, on each page in Chromium: nothing runs")
async def test_nothing_that_a_list_says_runs_in_a_browser(tmp_path: Path) -> None:
    async with running(tmp_path) as r, tab() as t:
        r.write([{"targets": [f"t{n}:9100", text], "labels": {"evil": text}} for n, text in enumerate(HOSTILE)])

        async def listed() -> bool:
            return len((await r.data("/api/v1/services/node/targets"))["targets"]) == 2 * len(HOSTILE)

        await until(listed, "the hostile list is in the plan")
        for path in ("/", "/services/node", *(f"/where?target={quote(text)}" for text in (*HOSTILE, "evil"))):
            await t.open(r.url + path)
            assert await t.run("window.owned === undefined"), path
            assert await t.run("document.querySelectorAll('svg[onload], img[onerror], a[href^=javascript]').length") == 0
            assert await t.run("[...document.scripts].every(s => s.src.endsWith('/static/page.js'))"), path
        assert not [error for error in t.errors if "Content Security Policy" in error], "nothing had to be stopped"
        inline = "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s);"
        assert await t.run(f"{inline} window.owned === undefined"), "the policy would have stopped it"
