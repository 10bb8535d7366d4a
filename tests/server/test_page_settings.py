"""Settings, the choice of models, deleting recipes and attachments, in a real browser."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from partsong.configuration import Configuration, Provider
from partsong.folders import recipes_folder
from partsong.server.application import Application
from partsong.store import Search
from tests.browsing import browsing, visiting
from tests.server.page_checks import looked_over
from tests.serving import recipe_file, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEAR = "scripted:z?text=So+it+is&input=1000&output=1000"
ECHO = 'name = "echo"\nlayers = []\naggregator = "scripted:e?echo=true&input=1&output=1"\n'
OWN = 'name = "own"\nabout = "Mine"\nlayers = []\naggregator = "scripted:e?echo=true"\n'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, Application]]:
    """A server with recipes, one of them the user's own, and with a provider that lists three models."""
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LAB_KEY", "any")
    recipes_folder().mkdir(parents=True)
    (recipes_folder() / "own.toml").write_text(OWN)

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "small"}, {"id": "large"}, {"id": "other"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    lab = Provider(api="openai", base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", key_env="LAB_KEY")
    recipes = [recipe_file(tmp_path, aggregator=DEAR), recipe_file(tmp_path, ECHO, "echo"), str(recipes_folder())]
    try:
        async with serving(recipes, configuration=Configuration(providers={"lab": lab})) as served:
            yield served
    finally:
        await runner.cleanup()


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Your question").fill(question)
    await page.get_by_label("Your question").press("Enter")


async def test_settings_hold_for_the_next_questions(browser: Browser, server: tuple[str, Application]) -> None:
    url, _ = server
    async with visiting(browser, url, "/#/settings") as page:
        await expect(page.get_by_text("lab set in the environment (LAB_KEY)")).to_be_visible()
        await looked_over(page)
        await page.get_by_label("Default recipe").select_option("echo")
        await page.get_by_label("System prompt of new conversations").fill("Be brief.")
        await page.get_by_label("Temperature of the aggregator").fill("0.3")
        await page.get_by_label("Effort of the aggregator").fill("low")
        await page.get_by_label("Effort of the aggregator").press("Tab")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.post_data or "") if request.method == "POST" else None)
        await page.get_by_role("link", name="Ask", exact=True).click()
        await expect(page.get_by_label("Recipe or model")).to_have_value("echo")
        await ask(page, "Well?")
        await expect(page.locator(".answer")).to_contain_text("Well?")
        body = json.loads(asked[-1])
        assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]
        assert (body["temperature"], body["reasoning_effort"]) == (0.3, "low")
        assert "max_dollars" not in body["partsong"]
        await page.reload()
        await page.get_by_role("link", name="Settings").click()
        await expect(page.get_by_label("System prompt of new conversations")).to_have_value("Be brief.")
        await expect(page.get_by_label("Temperature of the aggregator")).to_have_value("0.3")


@pytest.mark.parametrize("cap", ["Most dollars for a conversation", "Most dollars today"])
async def test_a_cap_is_kept_before_it_is_passed(browser: Browser, server: tuple[str, Application], cap: str) -> None:
    url, app = server
    async with visiting(browser, url, "/#/settings") as page:
        await page.get_by_label(cap).fill("50")
        await page.get_by_label(cap).press("Tab")
        await page.get_by_role("link", name="Ask", exact=True).click()
        await page.get_by_label("Recipe or model").select_option("three")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.post_data or "") if request.method == "POST" else None)
        await ask(page, "First?")
        await expect(page.locator(".answer").first).to_have_text("So it is")
        assert json.loads(asked[-1])["partsong"]["max_dollars"] == "50.000000000"
        (run,), _ = await app.service().store.search(search())
        assert run.dollars
        await page.get_by_label("Recipe or model").select_option("echo")
        await ask(page, "Second?")
        await expect(page.locator(".answer").last).to_contain_text("Second?")
        left = float(json.loads(asked[-1])["partsong"]["max_dollars"])
        assert left == pytest.approx(50 - float(run.dollars))
        # The page that was loaded again has not seen these runs happen.
        await page.reload()
        await expect(page.locator(".answer")).to_have_count(2)
        runs, _ = await app.service().store.search(search())
        await ask(page, "And now?")
        await expect(page.locator(".answer")).to_have_count(3)
        left = float(json.loads(asked[-1])["partsong"]["max_dollars"])
        assert left == pytest.approx(50 - sum(float(each.dollars or 0) for each in runs))
        await page.get_by_role("link", name="Settings").click()
        await page.get_by_label(cap).fill("0.000001")
        await page.get_by_label(cap).press("Tab")
        await page.get_by_role("link", name="Ask", exact=True).click()
        before = len(asked)
        await ask(page, "Third?")
        if cap == "Most dollars today":
            await expect(page.get_by_role("alert").filter(has_text="your cap is used up")).to_be_visible()
            assert len(asked) == before  # nothing was asked


def search() -> Search:
    return Search("")


async def test_models_are_found_while_their_id_is_written(browser: Browser, server: tuple[str, Application]) -> None:
    url, _ = server
    async with visiting(browser, url, "/#/recipes/+") as page:
        field = page.get_by_label("Layer 1, agent 1: Model")
        await field.fill("larg")
        options = page.locator(f"datalist#{await field.get_attribute('list')} option")
        await expect(options).to_have_count(1)
        await expect(options).to_have_attribute("value", "lab:large")
        await expect(options).to_have_text("price unknown")
        await field.fill("scripted z")
        await expect(options).to_have_text("$1000 in, $1000 out a million")
        await field.fill("LAB:")
        await expect(options).to_have_count(3)


async def test_a_recipe_of_ones_own_is_deleted_after_a_second_look(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, app = server
    async with visiting(browser, url, "/#/recipes/three") as page:
        await expect(page.get_by_role("button", name="Download")).to_be_visible()
        await expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        await page.get_by_role("link", name="own").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("own will be gone for good.")).to_be_visible()
        await looked_over(page)
        assert (recipes_folder() / "own.toml").exists()
        await page.get_by_role("button", name="Delete the file").click()
        await expect(page.get_by_role("link", name="own")).to_have_count(0)
        assert not (recipes_folder() / "own.toml").exists()
        assert "own" not in app.service().recipes


DROP = """
([name, files]) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) data.items.add(new File([text], name, { type }));
  const target = name === "paste" ? document.querySelector("textarea") : document.body;
  const made = name === "paste"
    ? new ClipboardEvent(name, { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
  target.dispatchEvent(made);
}
"""


async def test_files_are_dropped_anywhere_pasted_and_refused_in_words(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, _ = server
    text, program = ["notes.md", "", "# Notes"], ["run.exe", "application/octet-stream", "MZ\0\1"]
    async with visiting(browser, url) as page:
        await expect(page.get_by_label("Recipe or model")).to_have_value("three")
        await page.evaluate(DROP, ["dragover", [text]])
        await expect(page.locator(".composer.dropping")).to_be_visible()
        await expect(page.locator(".composer.dropping")).to_have_count(0)  # the files have left the page
        await page.evaluate(
            DROP, ["drop", [text, program, ["empty.txt", "text/plain", ""], ["a.tiff", "image/tiff", "II"]]]
        )
        await expect(page.locator(".pictures li")).to_have_text("notes.md✕")
        problem = page.locator(".composer .problem")
        await expect(problem).to_contain_text("run.exe: is neither a picture nor a PDF nor text")
        await expect(problem).to_contain_text("empty.txt: is empty")
        await expect(problem).to_contain_text("a.tiff: pictures must be PNG, JPEG, GIF or WebP")
        await looked_over(page)
        await page.evaluate(DROP, ["paste", [["pasted.csv", "text/csv", "a,b"]]])
        await expect(page.locator(".pictures li")).to_have_count(2)
        await expect(problem).to_be_hidden()
