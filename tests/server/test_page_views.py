"""The page's other views in a real browser: looking back, comparing, recipes, and what the bench has found."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from partsong.folders import recipes_folder
from partsong.server.application import Application
from tests.browsing import browsing, visiting
from tests.server.page_checks import looked_over
from tests.serving import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
RECIPE = """
name = "{name}"
[[layers]]
agents = ["scripted:a?text=one+and+two&each=0.02", "scripted:b?fail=rate"]
[aggregator]
model = "{aggregator}"
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, Application]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    recipes = []
    for name, aggregator in (
        ("plain", "scripted:z?text=A+**plain**+answer.&each=0.02"),
        ("hostile", f"scripted:z?text={quote(HOSTILE)}"),
        ("fails", "scripted:z?fail=server"),
    ):
        path = tmp_path / f"{name}.toml"
        path.write_text(RECIPE.format(name=name, aggregator=aggregator))
        recipes.append(str(path))
    async with serving(recipes, models=["scripted:own?text=mine", "scripted:own?text=mine+too"]) as served:
        yield served


async def ask(url: str, question: str, recipe: str = "plain") -> str:
    """Ask as any client does; the run's id, unless it fails."""
    body = {"model": recipe, "messages": [{"role": "user", "content": question}]}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        return response.headers.get("x-partsong-run", "")


async def usable_by_everybody(page: Page) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        await page.wait_for_timeout(150)
        found = await Axe().run(page)
        serious = [fault["id"] for fault in found.response["violations"] if fault["impact"] in ("serious", "critical")]
        assert serious == []
    await page.set_viewport_size({"width": 360, "height": 740})
    for _ in range(20):  # a new size is laid out in a while
        if await page.evaluate("document.documentElement.scrollWidth") <= 360:
            break
        await page.wait_for_timeout(50)
    else:
        raise AssertionError("it is wider than a phone")
    await page.set_viewport_size({"width": 1280, "height": 900})


async def test_runs_are_found_opened_replayed_and_taken_away(browser: Browser, server: tuple[str, Application]) -> None:
    url, _ = server
    first = await ask(url, "Why is the sky blue?")
    await ask(url, HOSTILE, "hostile")
    await ask(url, "What fails?", "fails")
    async with visiting(browser, url, "/#/history") as page:
        rows = page.locator("tbody tr")
        await expect(page.locator(".list tbody tr")).to_have_count(3)
        await expect(page.get_by_text("failed", exact=True)).to_be_visible()
        await expect(page.get_by_role("figure").first).to_contain_text("Runs a day")
        await usable_by_everybody(page)
        await page.get_by_label("Question").fill("SKY")
        await expect(page.locator(".list tbody tr")).to_have_count(1)
        await page.get_by_label("Question").fill("")
        await page.get_by_label("Recipe").select_option("hostile")
        await expect(page.locator(".list tbody tr")).to_have_count(1)
        await expect(rows.first).to_contain_text(HOSTILE)
        await page.get_by_label("Recipe").select_option("")
        await page.get_by_label("Question").fill("sky")
        await page.get_by_role("link", name="Why is the sky blue?").click()
        await expect(page.locator(".answer")).to_have_text("A plain answer.")
        await expect(page.locator(".answer strong")).to_have_text("plain")
        await expect(page.locator('.card[data-state="lost"]')).to_have_count(1)
        await expect(page.locator(".timeline")).to_be_visible()
        await usable_by_everybody(page)
        await page.get_by_role("button", name="8 times as fast").click()
        await expect(page.locator('.card[data-state="lost"]')).to_have_count(1)
        await expect(page.locator(".answer")).to_have_text("A plain answer.")
        for form, words in (("As JSON", '"Why is the sky blue?"'), ("As Markdown", "Why is the sky blue?")):
            async with page.expect_download() as taken:
                await page.get_by_role("button", name=form, exact=True).click()
            path = await (await taken.value).path()
            assert words in path.read_text()
        await page.goto(f"{url}/#/history/nonsense")
        await expect(page.get_by_role("alert").first).to_contain_text("cannot be shown")
        await page.goto(f"{url}/#/history/{first}")
        await page.get_by_role("link", name="Go on from here").click()
        await expect(page.get_by_label("Your question")).to_be_visible()
        await expect(page.locator(".answer")).to_have_text("A plain answer.")


async def test_two_are_compared_blind_and_the_vote_is_kept(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    async with visiting(browser, url, "/#/compare") as page:
        await usable_by_everybody(page)
        await page.get_by_label("Left", exact=True).select_option("plain")
        await page.get_by_label("Right", exact=True).select_option("hostile")
        await page.get_by_label("Blind").check()
        await page.get_by_label("Your question").fill("Which?")
        await page.get_by_role("button", name="Ask both").click()
        await expect(page.get_by_role("button", name="Left is better")).to_be_visible()
        sides = page.locator(".side")
        assert sorted(await sides.locator("h2").all_inner_texts()) == ["A", "B"]
        assert await sides.locator("a").count() == 0  # no score, no price: they would tell
        await usable_by_everybody(page)
        await page.locator("h1").click()
        await page.keyboard.press("1")
        await expect(page.get_by_role("status").filter(has_text="Kept.")).to_contain_text("of the votes")
        names = await sides.locator("h2").all_inner_texts()
        assert sorted(names) == ["hostile", "plain"]
        await expect(sides.first.get_by_role("link", name="its score")).to_be_visible()
        await expect(page.get_by_role("region", name="Votes by pair")).to_contain_text("95 % interval")
        tally = await app.service().store.tally_of("", names[0], names[1])
        assert (tally.a_wins, tally.b_wins, tally.ties) == (1, 0, 0)
        await expect(page.get_by_role("button", name="Left is better")).to_be_hidden()


async def test_one_side_that_fails_says_why_and_there_is_no_vote(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, _ = server
    async with visiting(browser, url, "/#/compare") as page:
        await page.get_by_label("Left", exact=True).select_option("fails")
        await page.get_by_label("Right", exact=True).select_option("plain")
        await page.get_by_label("Your question").fill("Which?")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.get_by_text("One side has no answer, so there is no vote.")).to_be_visible()
        await expect(page.locator(".side").first.get_by_role("alert")).to_contain_text("failed, as its script says")
        await expect(page.locator(".side").last.locator(".answer")).to_have_text("A plain answer.")
        await expect(page.get_by_role("button", name="Left is better")).to_be_hidden()


async def test_a_recipe_is_edited_with_its_faults_saved_and_asked(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, _ = server
    async with visiting(browser, url, "/#/recipes/plain") as page:
        text = page.get_by_label("As TOML", exact=True).and_(page.locator("textarea"))
        await expect(text).to_have_value(
            RECIPE.format(name="plain", aggregator="scripted:z?text=A+**plain**+answer.&each=0.02")
        )
        await expect(page.locator(".drawn .agent")).to_have_count(3)
        await usable_by_everybody(page)
        await page.get_by_role("link", name="+ New recipe").click()
        await page.get_by_label("Name").fill("own")
        await page.get_by_label("Layer 1, agent 1: Model").fill("scripted")
        fault = page.locator(".field .problem", has_text="an id has the form")
        await expect(fault).to_be_visible()
        await expect(page.get_by_label("Layer 1, agent 1: Model")).to_have_attribute("aria-invalid", "true")
        await page.get_by_label("Layer 1, agent 1: Model").fill("scripted:own?text=mine")
        await page.get_by_label("Layer 1, agent 1: Samples").fill("2")
        await page.get_by_label("Aggregator: Model").fill("scripted:own?text=mine+too")
        await expect(page.locator(".drawn .agent").first).to_contain_text("2 × scripted:own?text=mine")
        await expect(fault).to_be_hidden()
        written = await text.input_value()
        assert 'name = "own"' in written
        # What is wrong in the text is told with its line.
        await text.fill(written + "metod = 3\n")
        await expect(page.locator("ul.problem")).to_contain_text("line ")
        await expect(page.locator("ul.problem")).to_contain_text("metod")
        await expect(text).to_have_attribute("aria-invalid", "true")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("It is not saved: it has a fault.")).to_be_visible()
        await text.fill(written.replace("samples = 2", "samples = 3"))
        await expect(page.get_by_label("Layer 1, agent 1: Samples")).to_have_value("3")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved as")).to_be_visible()
        assert "samples = 3" in (recipes_folder() / "own.toml").read_text()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Replace it").click()
        await expect(page.get_by_text("Saved as")).to_be_visible()
        await page.get_by_role("link", name="Try it").click()
        await page.get_by_label("Recipe or model").select_option("own")
        await page.get_by_label("Your question").fill("Well?")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.locator(".answer")).to_have_text("mine too")


async def test_studies_of_the_bench_are_shown_with_all_answers(
    browser: Browser, server: tuple[str, Application], tmp_path: Path
) -> None:
    url, _ = server
    rows = [{"prompt": f"What is {n}? {HOSTILE}", "reference": "4" if n else "5"} for n in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mix.toml").write_text(
        'name = "mix"\nlayers = [{ agents = ["scripted:p?text=4&output=1", "scripted:q?text=5&output=1"] }]\n'
        f'aggregator = "scripted:r?text={quote("4 " + HOSTILE)}&output=2"\n'
    )

    async def command(*arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "partsong", *arguments)
        assert await process.wait() == 0

    async with visiting(browser, url, "/#/results") as page:
        await expect(page.get_by_text("There are none in bench/")).to_be_visible()
        await command("compare", "sums.jsonl", "--recipe", "mix.toml", "--out", "bench/mixed")
        models = "scripted:p?text=4,scripted:q?text=5"
        await command("paper", "table-3", "--task", "sums.jsonl", "--models", models, "--out", "paper/t3")
        await page.reload()
        await usable_by_everybody(page)
        await page.get_by_role("link", name="mixed").click()
        await expect(page.get_by_role("region", name="Contestants")).to_contain_text("mix")
        await expect(page.get_by_text("no difference shown between").first).to_be_visible()
        await expect(page.get_by_role("figure", name="Value", exact=True)).to_be_visible()
        prompts = page.locator(".prompts details")
        await expect(prompts).to_have_count(4)
        await prompts.first.click()
        await expect(prompts.first).to_contain_text(HOSTILE)
        await expect(prompts.first.get_by_role("heading", name="mix", exact=True)).to_be_visible()
        await expect(prompts.first.locator(".lost-texts > div")).to_have_count(6)
        await looked_over(page)
        await page.get_by_label("Outcome").select_option("won")
        await expect(page.get_by_text("0 prompts")).to_be_visible()
        await page.get_by_label("Outcome").select_option("all")
        await page.get_by_label("Words").fill("what is 2?")
        await expect(prompts).to_have_count(1)
        await expect(page.locator(".prompts .voice").first).to_have_text("lost -1")  # against the best of the others
        await page.get_by_label("Against").select_option("scripted:q?text=5&output=1")
        await expect(page.locator(".prompts .voice").first).to_have_text("level")  # both are wrong
        await page.get_by_label("Sort").select_option("worst")
        await expect(prompts).to_have_count(1)
        comparison = tmp_path / "bench" / "mixed" / "comparison.json"
        ended = comparison.read_text()
        comparison.unlink()  # as before its end
        await page.reload()
        await expect(page.get_by_text("Still running: the figures change.")).to_be_visible()
        await looked_over(page)
        comparison.write_text(ended)
        await expect(page.get_by_text("Still running: the figures change.")).to_be_hidden()
        await page.goto(f"{url}/#/results/t3")
        await expect(page.get_by_role("region", name="table-3")).to_contain_text("58.8")
        await page.goto(f"{url}/#/results/none")
        await expect(page.get_by_role("alert")).to_contain_text('there is no study "none" here')
