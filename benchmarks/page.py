"""The page in headless Chromium: its first paint, a conversation of 50 turns, and twelve seats that stream.

    python benchmarks/page.py [SECONDS that are watched, 8]

Needs Playwright and Debian's Chromium. The models are scripted, so no upstream is needed. The load is the time that the
tasks of the page's main thread take, as a share of one core. Frames are counted while the page is scrolled all the
time. A conversation should open without a frame over 100 ms. The server, the models and the browser share the machine.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import aiohttp
from playwright.async_api import Browser, async_playwright
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
TURNS = 50
ANSWER = """## Turn {0}

Light **scatters**: $x^2$, `code`, and [a link](https://example.org/). {1}

| colour | nm |
|---|---:|
| blue | 450 |

```python
def sky() -> str:
    return "blue"
```

* one
* two
"""
# The longest frame, and the longest task, from the beginning of the page on.
LONGEST = """
window.longest = { frame: 0, task: 0 };
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longest.task = Math.max(longest.task, duration);
}).observe({ type: "longtask", buffered: true });
let last = performance.now();
const tick = (now) => {
  longest.frame = Math.max(longest.frame, now - last);
  last = now;
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


async def main(seconds: float = 8.0) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = int((3 * seconds + 10) / EACH)
        agents = ", ".join(f'"scripted:s{seat}?tokens={tokens}&each={EACH}"' for seat in range(SEATS))
        (folder / "twelve.toml").write_text(RECIPE.format(agents=agents))
        short = 'name = "short"\nlayers = []\naggregator = "scripted:z?text=So."\n'
        (folder / "short.toml").write_text(short)
        port = free_port()
        words = [
            "partsong",
            "serve",
            "--port",
            str(port),
            *(f"--recipe={folder / name}.toml" for name in ("twelve", "short")),
        ]

        async def knock() -> float:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as response:
                return float(response.status)

        with running(words, folder, PARTSONG_STATE=str(folder / "state")):
            await ready(knock, folder)
            await watch(port, chromium, seconds)


async def open_long(browser: Browser, port: int) -> None:
    """Open a conversation of many turns, and print its longest frame."""
    messages = []
    for number in range(TURNS - 1):
        answer = ANSWER.format(number, " ".join(f"word{place}" for place in range(200)))
        messages += [{"role": "user", "content": f"Question {number}"}, {"role": "assistant", "content": answer}]
    body = {"model": "short", "messages": [*messages, {"role": "user", "content": "And?"}]}
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        run = response.headers["x-partsong-run"]
    frames, tasks = [], []
    for _ in range(5):
        page = await (await browser.new_context(viewport={"width": 1280, "height": 700})).new_page()
        await page.goto(f"{url}/#/recipes")
        await page.get_by_role("heading", name="Recipes", exact=True).wait_for()
        await page.evaluate(LONGEST)
        await page.evaluate("(run) => (location.hash = `#/ask/${run}`)", run)
        await page.locator(".turn .answer h4").nth(TURNS - 2).wait_for(state="attached")
        await asyncio.sleep(1)
        longest = await page.evaluate("longest")
        frames.append(longest["frame"])
        tasks.append(longest["task"])
        await page.close()
    shown = f"frame {statistics.median(frames):.0f} ms, at most {max(frames):.0f}; task at most {max(tasks):.0f} ms"
    print(f"{TURNS} turns: longest {shown}")


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
        await open_long(browser, port)
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
