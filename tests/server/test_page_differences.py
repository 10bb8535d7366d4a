"""Where the voices differ, in a real browser: the analysis beside the answer, whose quotes open their cards."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browsing import browsing, visiting
from tests.serving import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOUND = {
    "agreements": [
        {
            "statement": "a <b>moon</b>",
            "quotes": [{"proposal": 1, "quote": "on the Moon"}, {"proposal": 2, "quote": "on the Moon"}],
        }
    ],
    "contradictions": [
        {
            "topic": "the year",
            "positions": [
                {"statement": "1969", "quotes": [{"proposal": 1, "quote": "in July 1969"}]},
                {"statement": "1970", "quotes": [{"proposal": 2, "quote": "in July 1970"}]},
            ],
        }
    ],
    "single": [{"statement": "made up", "quotes": [{"proposal": 1, "quote": "in July 1971"}]}],
    "gaps": ["who flew"],
}
TEXTS = ("🚀🚀 They landed **on the Moon** in July 1969.", "They landed on the Moon in July 1970.")


def scripted(name: str, text: str) -> str:
    return f"scripted:{name}?{urlencode({'text': text})}"


def recipe(name: str, aggregator: str, analyst: str = "") -> str:
    agents = ", ".join(json.dumps(scripted(f"p{place}", text)) for place, text in enumerate(TEXTS))
    more = f"analyst = {json.dumps(analyst)}\n" if analyst else ""
    return f'name = "{name}"\naggregator = {json.dumps(aggregator)}\n{more}[[layers]]\nagents = [{agents}]\n'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    analyst = scripted("an", json.dumps(FOUND))
    files = {
        "own": recipe("own", scripted("z", "It was 1969."), analyst),
        "later": recipe("later", analyst),
        "never": recipe("never", scripted("z", "It was 1969.")),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    async with serving([str(tmp_path / f"{name}.toml") for name in files]) as (served, _):
        yield served


async def opened(page: Page, url: str, model: str) -> None:
    """Ask, and open the run on the page, as it ended."""
    body = {"model": model, "messages": [{"role": "user", "content": "When did they land?"}]}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        run = response.headers["x-partsong-run"]
    await page.goto(f"{url}/#/history/{run}")
    if model != "own":  # whose own report is there already
        await page.get_by_role("button", name="Where the voices differ").click()


async def check_findings(page: Page) -> None:
    found = page.locator(".differences")
    await expect(found).to_contain_text("The quotes are checked, the statements are not.")
    await expect(found).to_contain_text("1 entry left out")
    await expect(found.get_by_role("heading")).to_have_text(
        ["Where the voices differ", "They contradict each other", "They agree", "All leave out (the analyst’s opinion)"]
    )
    await expect(found).to_contain_text("a <b>moon</b>")
    await expect(found).to_contain_text("who flew")
    await expect(found.locator("li li b")).to_have_text(["p0:", "p1:"])  # who says what
    for name, quote in (("1.1", "in July 1969"), ("1.2", "in July 1970"), ("1.1", "on the Moon")):
        await found.get_by_role("button", name=f"{name} “{quote}”").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.locator("mark")).to_have_text(quote)
        await expect(dialog.locator("h2")).to_contain_text(name)
        await dialog.get_by_role("button", name="Close").click()


async def test_the_analysis_of_a_run_opens_the_cards_of_its_quotes(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as page:
        await opened(page, url, "own")
        await check_findings(page)
        await expect(page.locator(".columns")).to_contain_text("Analyst and aggregator")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            await page.wait_for_timeout(150)
            found = await Axe().run(page)
            assert [
                fault["id"] for fault in found.response["violations"] if fault["impact"] in ("serious", "critical")
            ] == []
        await page.get_by_role("button", name="Where the voices differ").click()
        await expect(page.locator(".differences")).to_be_empty()


async def test_a_run_without_an_analysis_is_compared_when_somebody_asks(browser: Browser, url: str) -> None:
    async with visiting(browser, url) as page:
        await opened(page, url, "later")
        await check_findings(page)
        await opened(page, url, "never")
        await expect(page.locator(".differences [role=alert]")).to_contain_text("Not compared: ")
