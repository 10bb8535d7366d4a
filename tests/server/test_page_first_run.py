"""A first run in a real browser: without a key and without weights the page greets, and leads to an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, expect

from partsong import provider_keys
from partsong.configuration import Configuration, Provider
from partsong.server.owner import Owner, new_code
from tests.browsing import browsing, visiting
from tests.server.page_checks import looked_over
from tests.serving import recipe_file, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-0123456789-secret"
LOCAL = 'name = "small"\nabout = "A small model"\nlayers = []\naggregator = "local:smollm2-135m"\n'
LAB = 'name = "lab"\nabout = "Two of the lab"\n[[layers]]\nagents = ["lab:a"]\n[aggregator]\nmodel = "lab:b"\n'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A provider that knows one key, and a hub that sends weights slowly; the address of both."""

    async def models(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return web.json_response({"error": {"message": "no"}}, status=401)
        return web.json_response({"data": [{"id": "a"}, {"id": "b"}]})

    async def weights(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "98362432"})
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))
            await asyncio.sleep(0.02)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_get("/{path:.*}", weights)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PARTSONG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.delenv("LAB_KEY", raising=False)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(folder: Path, elsewhere: str) -> AsyncIterator[tuple[str, str]]:
    """The address of the page, and that which `partsong ui` would open."""
    code, digest = new_code()
    lab = Provider(api="openai", base_url=f"{elsewhere}/v1", key_env="LAB_KEY", key_page="https://lab.example/keys")
    recipes = [recipe_file(folder, LOCAL, "small"), recipe_file(folder, LAB, "lab")]
    configuration = Configuration(providers={"lab": lab})
    async with serving(recipes, configuration=configuration, owner=Owner(digest)) as (url, _):
        yield url, f"/#/owner/{code}"


async def test_a_key_is_entered_on_the_page_that_was_opened(browser: Browser, elsewhere: str, tmp_path: Path) -> None:
    async with opened(tmp_path, elsewhere) as (url, address), visiting(browser, url, address) as page:
        await expect(page.get_by_role("heading", name="Use a key")).to_be_visible()
        assert page.url == f"{url}/#/ask"
        await page.get_by_label("Provider").select_option("lab")
        await expect(page.get_by_role("link", name="Get a key of lab")).to_have_attribute(
            "href", "https://lab.example/keys"
        )
        await expect(page.get_by_text("The key is sent to 127.0.0.1:")).to_be_visible()
        await expect(page.get_by_text("lab: unknown price a question")).to_be_visible()
        await looked_over(page)
        await page.reload()  # the tab is still the one that was opened
        await page.get_by_label("Provider").select_option("lab")
        await page.get_by_label("Key", exact=True).fill("sk-wrong")
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.get_by_text("lab refuses this key")).to_be_visible()
        await page.get_by_label("Key", exact=True).fill(KEY)
        await page.get_by_label("Keep it on this computer").check()
        await page.get_by_label("Key", exact=True).press("Enter")
        await expect(page.get_by_text("lab takes the key and lists 2 models.")).to_be_visible()
        await expect(page.get_by_role("heading", name="Use a key")).to_be_hidden()
        await expect(page.get_by_label("Recipe or model")).to_have_value("lab")
        assert provider_keys.kept() == {"LAB_KEY": KEY}
        assert KEY not in await page.content()
        await page.goto(f"{url}{address}-again")
        await expect(page.get_by_label("Your question")).to_be_visible()


async def test_another_page_is_told_how_a_key_is_set(browser: Browser, elsewhere: str, tmp_path: Path) -> None:
    async with opened(tmp_path, elsewhere) as (url, address):
        async with visiting(browser, url) as page:
            await page.get_by_label("Provider").select_option("lab")
            await expect(page.get_by_text("partsong keys set lab")).to_be_visible()
            await expect(page.get_by_label("Key", exact=True)).to_have_count(0)
            await looked_over(page)
        async with visiting(browser, url, address) as page:
            await expect(page.get_by_label("Key", exact=True)).to_be_visible()
        async with visiting(browser, url, address) as page:
            await expect(page.get_by_role("alert")).to_contain_text("this address was used before")
            await looked_over(page)
            await page.get_by_role("link", name="Go on without").click()
            await expect(page.get_by_label("Your question")).to_be_visible()


async def test_weights_are_fetched_with_a_bar_and_can_be_stopped(
    browser: Browser, elsewhere: str, tmp_path: Path
) -> None:
    async with opened(tmp_path, elsewhere) as (url, _), visiting(browser, url) as page:
        local = page.get_by_role("region", name="Fetch a model for this computer")
        await expect(local).to_contain_text("98 MB, licence Apache-2.0")
        await expect(page.locator(".composer .cost")).to_contain_text("first 98 MB are fetched")
        await local.get_by_role("button", name="Fetch 98 MB").click()
        await expect(local.get_by_role("progressbar")).to_be_visible()
        await expect(local.get_by_role("status")).to_contain_text("Fetching smollm2-135m,")
        await expect(local.get_by_role("status")).to_contain_text("left")
        await looked_over(page)
        await page.reload()  # the server goes on, and the page finds it again
        await expect(local.get_by_role("progressbar")).to_be_visible()
        await local.get_by_role("button", name="Cancel").click()
        await expect(local.get_by_role("status")).to_contain_text("Stopped. What has arrived is kept.")
        await expect(local.get_by_role("button", name="Fetch 98 MB")).to_be_visible()
        await expect(local.get_by_role("progressbar")).to_be_hidden()


async def test_a_recorded_run_is_played(browser: Browser, elsewhere: str, tmp_path: Path) -> None:
    async with opened(tmp_path, elsewhere) as (url, _), visiting(browser, url) as page:
        await page.get_by_role("link", name="Play a recorded run").click()
        await expect(page.get_by_role("heading", name="A recorded run")).to_be_visible()
        await expect(page.locator(".card")).to_have_count(4)
        await page.get_by_role("button", name="As it ended").click()
        await expect(page.locator(".answer")).to_contain_text("The sky is blue")
        await looked_over(page)
        await page.get_by_role("link", name="Back").click()
        await expect(page.get_by_label("Your question")).to_be_visible()


async def test_whoever_has_a_key_is_not_greeted(
    browser: Browser, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    async with opened(tmp_path, elsewhere) as (url, _), visiting(browser, url) as page:
        await expect(page.get_by_label("Recipe or model")).to_have_value(
            "lab"
        )  # not the one that must be fetched first
        await expect(page.get_by_role("heading", name="Use a key")).to_have_count(0)
