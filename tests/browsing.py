"""Debian's Chromium, driven by Playwright; and a visit to the page, which must not break any promise the page makes.

Whatever a test does on a visit: nothing that a model wrote may run, the content-security-policy may not be hit, no
script may fail, and nobody but the page's own server may be asked for anything.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect

expect.set_options(timeout=20_000)  # milliseconds: a busy machine is no fault of the page's
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WATCH = """
window.broken = [];
addEventListener("securitypolicyviolation", (event) => broken.push(event.violatedDirective + " " + event.blockedURI));
window.shifted = 0;
window.moved = [];
new PerformanceObserver((list) => {
  for (const { hadRecentInput, value, startTime, sources } of list.getEntries()) {
    if (hadRecentInput) continue;
    shifted += value;
    const what = sources.map(({ node, previousRect: from, currentRect: to }) =>
      [node?.nodeName, node?.className, from.y, from.height, to.y, to.height].join(" "));
    moved.push({ value, startTime, scrollY, what });
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser, until the block is left; where there is none, the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    async with async_playwright() as playwright:
        # In a container there is no sandbox to be had; what is shown is our own.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, url: str, path: str = "/", **context: Any) -> AsyncIterator[Page]:
    """A page that shows that path of the server, in a context of its own, until the block is left."""
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # What a server refuses is no fault of the page's; each test says what becomes of it.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    visit = await browser.new_context(**context)
    try:
        await visit.add_init_script(WATCH)
        page = await visit.new_page()
        page.set_default_timeout(20_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "data:", "blob:")) else wrong.append(request.url),
        )
        await page.goto(url + path)
        yield page
        wrong += await page.evaluate("broken")
        assert wrong == []
    finally:
        await visit.close()


async def unfold(place: Page | Locator) -> None:
    """Unfold every score that has folded to one line, because its answer is there."""
    for head in await place.locator("details.score:not([open]) > summary").all():
        await head.click()
