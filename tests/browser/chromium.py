"""Debian's Chromium without a window, driven by playwright, and axe-core in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from promring.demo.process import find
from tests.waiting import until

PROGRAM = find("chromium")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not here; scripts/fetch-servers gets it")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
_AXE = find_spec("axe_playwright_python")
assert _AXE is not None
assert _AXE.origin is not None
AXE = Path(_AXE.origin).parent / "axe.min.js"
ANSWER_S = 60.0


class Tab:
    """A tab of a Chromium. ``errors``: what its console said against the page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.set_default_timeout(1000 * ANSWER_S)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    async def run(self, script: str) -> Any:
        """The value of ``script``; a promise is waited for."""
        return await self.page.evaluate(script)

    async def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        await self.look(width=width, height=height, dark=dark)
        await self.page.goto(url)

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and the theme, from now on."""
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.emulate_media(color_scheme="dark" if dark else "light")

    async def until(self, script: str) -> None:
        """Until ``script`` is true."""

        async def true() -> bool:
            return bool(await self.run(script))

        await until(true, script, ANSWER_S)

    async def says(self, text: str, within: str = "main") -> None:
        """Until what is shown has ``text``, in any case and with any white space."""
        words = f"{text!r}.toLowerCase()"
        await self.until(
            f"document.querySelector({within!r}).innerText.toLowerCase().replace(/\\s+/g, ' ').includes({words})"
        )

    async def findings(self) -> list[str]:
        """What axe-core finds wrong, all of its rules."""
        if not await self.run("'axe' in window"):
            await self.page.evaluate(AXE.read_text())  # by the driver: the page's policy lets no script in
        found = await self.run("axe.run({ resultTypes: ['violations'] }).then(r => r.violations)")
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"][:3]]


@asynccontextmanager
async def tab(*, touch: bool = False, script: bool = True) -> AsyncIterator[Tab]:
    """A tab of a Chromium of its own, which ends with it. ``script``: whether pages may run any."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            context = await browser.new_context(has_touch=touch, java_script_enabled=script, bypass_csp=False)
            yield Tab(await context.new_page())
        finally:
            await browser.close()
