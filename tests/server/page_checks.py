"""What every state of a view of the page must pass: no serious fault of accessibility, and no wider than its window."""

from typing import Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WINDOWS = ((390, 844), (1280, 900))


async def looked_over(page: Page) -> None:
    """Look at the page in light and dark, on a phone and on a desk."""
    for width, height in WINDOWS:
        await page.set_viewport_size({"width": width, "height": height})
        for _ in range(20):  # a new size is laid out in a while
            if await page.evaluate("document.documentElement.scrollWidth") <= width:
                break
            await page.wait_for_timeout(50)
        else:
            raise AssertionError(f"the page is wider than its window of {width} pixels")
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await page.wait_for_timeout(150)  # colours change in a while
            found = await Axe().run(page)
            faults = [
                (fault["id"], [node["html"][:200] for node in fault["nodes"]])
                for fault in found.response["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
            assert faults == [], (width, scheme)
