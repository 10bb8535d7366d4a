"""The page in headless Chromium: its first paint, and its load while twelve seats stream 100 tokens a second each.

    python benchmarks/page.py [SECONDS that are watched, 8]

Needs Playwright and Debian's Chromium. The models are scripted, so no upstream is needed. The load is the time that the
tasks of the page's main thread take, as a share of one core. Frames are counted while the page is scrolled all the
time. The server, the models and the browser share the machine.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import aiohttp
from playwright.async_api import async_playwright
from server import free_port, ready, running

SEATS, EACH = 12, 0.01
RECIPE = 'name = "twelve"\n[[layers]]\nagents = [{agents}]\n[aggregator]\nmodel = "scripted:z?text=So."\n'
FRAMES = """async (seconds) => {
  const began = performance.now();
  let frames = 0;
  while (performance.now() - began < seconds * 1000) {
    scrollTo(0, 200 + 200 * Math.sin(performance.now() / 300));
    await new Promise(requestAnimationFrame);
    frames += 1;
  }
  return frames / ((performance.now() - began) / 1000);
}"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


async def main(seconds: float = 8.0) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = int((3 * seconds + 10) / EACH)
        agents = ", ".join(f'"scripted:s{seat}?tokens={tokens}&each={EACH}"' for seat in range(SEATS))
        (folder / "twelve.toml").write_text(RECIPE.format(agents=agents))
        port = free_port()
        words = ["partsong", "serve", "--port", str(port), "--recipe", str(folder / "twelve.toml")]

        async def knock() -> float:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as response:
                return float(response.status)

        with running(words, folder, PARTSONG_STATE=str(folder / "state")):
            await ready(knock, folder)
            await watch(port, chromium, seconds)


async def watch(port: int, chromium: str | None, seconds: float) -> None:
    """Drive the browser, and print what was measured."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        paints = []
        for _ in range(5):
            page = await (await browser.new_context()).new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            await page.get_by_label("Your question").wait_for()
            paints.append(await page.evaluate(PAINT))
            await page.close()
        print(f"first paint: {statistics.median(paints):.0f} ms, at most {max(paints):.0f} (five empty caches)")
        page = await (await browser.new_context(viewport={"width": 1280, "height": 700})).new_page()
        await page.goto(f"http://127.0.0.1:{port}/")
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")

        async def busy() -> float:
            metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
            return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

        await page.get_by_label("Your question").fill("Why?")
        await page.get_by_label("Your question").press("Enter")
        await page.locator(".card").nth(SEATS - 1).wait_for()
        await asyncio.sleep(2)
        before = await busy()
        await asyncio.sleep(seconds)
        share = (await busy() - before) / seconds
        seat = " ".join((await page.locator(".card").first.inner_text()).split())
        print(f"{SEATS} seats at 1/{EACH:g} tokens a second: main thread {100 * share:.0f} % of a core ({seat[:60]})")
        before = await busy()
        frames = await page.evaluate(FRAMES, seconds)
        share = (await busy() - before) / seconds
        print(f"while it is scrolled: {frames:.0f} frames a second, main thread {100 * share:.0f} %")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(*(float(word) for word in sys.argv[1:2])))
