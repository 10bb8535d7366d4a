"""Conversations on the page, in a real browser: the list, branches, shortcuts, export, and comparisons of several."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Locator, Page, Route, expect

from partsong.server.application import Application
from tests.browsing import browsing, visiting
from tests.server.page_checks import looked_over
from tests.serving import recipe_file, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, Application]]:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    recipes = []
    for name, aggregator in (
        ("plain", f"scripted:z?text={quote('A **plain** answer.')}"),
        ("other", "scripted:z?text=Another+answer"),
        ("slow", f"scripted:z?text={quote('word ' * 40 + 'end')}&each=0.05"),
        ("endless", "scripted:z?tokens=5000&each=0.05"),
    ):
        recipes.append(recipe_file(tmp_path, name=name, aggregator=aggregator))
        path = Path(recipes[-1])
        path.write_text(path.read_text().replace('name = "three"', f'name = "{name}"'))
    alone = 'name = "echo"\nlayers = []\naggregator = "{aggregator}"\n'
    recipes.append(recipe_file(tmp_path, alone, "echo", "scripted:z?echo=true"))
    async with serving(recipes) as served:
        yield served


async def ask(page: Page, question: str, recipe: str | None = None) -> Locator:
    """Ask, and wait for the end; the last turn."""
    if recipe is not None:
        await page.get_by_label("Recipe or model").select_option(recipe)
    await page.get_by_label("Your question").fill(question)
    await page.get_by_label("Your question").press("Enter")
    await expect(page.locator(".turn .question", has_text=question)).to_be_visible()
    await ended(page)
    return page.locator(".turn").last


async def ended(page: Page) -> None:
    await expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=20_000)


def entries(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Conversations").get_by_role("listitem")


def titles(page: Page) -> Locator:
    return entries(page).get_by_role("link")


async def asked(url: str, question: str, conversation: str, recipe: str = "plain") -> str:
    """Ask as any client does; the run's id."""
    body = {
        "model": recipe,
        "messages": [{"role": "user", "content": question}],
        "metadata": {"conversation": conversation},
    }
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        return response.headers["x-partsong-run"]


async def test_conversations_are_listed_found_renamed_pinned_archived_saved_and_deleted(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, app = server
    async with visiting(browser, url) as page:
        await expect(page.get_by_text("None yet.")).to_be_visible()
        await ask(page, "What is a fugue?", "plain")
        await expect(page).to_have_title("What is a fugue? · partsong")
        await expect(titles(page)).to_have_text(["What is a fugue?"])
        await expect(entries(page).get_by_role("link")).to_have_attribute("aria-current", "true")
        await ask(page, "And a canon?")
        await page.get_by_role("link", name="New conversation").first.click()
        await expect(page.locator(".turn")).to_have_count(0)
        await ask(page, "Is it so?", "other")
        await expect(titles(page)).to_have_text(["Is it so?", "What is a fugue?"])
        await expect(page.get_by_role("heading", name="Today")).to_be_visible()
        # Another device finds the same.
        async with visiting(browser, url) as other:
            await other.get_by_role("link", name="What is a fugue?").click()
            await expect(other.locator(".turn")).to_have_count(2)
            await expect(other.locator(".answer").first).to_have_text("A plain answer.")
            await expect(other.get_by_label("Recipe or model")).to_have_value("plain")
            await expect(other).to_have_title("What is a fugue? · partsong")
            await ask(other, "And a round?")
        find = page.get_by_role("searchbox")
        await find.fill("CANON plain")  # words of a question and of an answer
        await expect(titles(page)).to_have_text(["What is a fugue?"])
        await page.get_by_role("link", name="What is a fugue?").click()
        await expect(page.locator(".turn")).to_have_count(3)
        await expect(find).to_have_value("CANON plain")  # the list keeps its state
        more = page.locator("summary", has_text="⋯")
        await more.click()
        await page.get_by_role("button", name="Rename").click()
        await page.get_by_label("Name").fill("On fugues")
        await page.get_by_label("Name").press("Escape")
        await expect(titles(page)).to_have_text(["What is a fugue?"])
        await more.click()
        await page.get_by_role("button", name="Rename").click()
        await page.get_by_label("Name").fill("On fugues")
        await page.get_by_label("Name").press("Enter")
        await expect(page).to_have_title("On fugues · partsong")
        await find.fill("")
        await expect(titles(page)).to_have_text(["On fugues", "Is it so?"])
        await entries(page).last.locator("summary").click()
        await page.get_by_role("button", name="Pin", exact=True).click()
        await expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
        await expect(titles(page)).to_have_text(["Is it so?", "On fugues"])
        await entries(page).last.locator("summary").click()
        await looked_over(page)
        async with page.expect_download() as taken:
            await page.get_by_role("button", name="Save", exact=True).click()
        text = (await (await taken.value).path()).read_text()
        assert text.startswith("# On fugues\n\n## You\n\nWhat is a fugue?\n\n## Answer\n\nA **plain** answer.\n")
        assert text.endswith("## You\n\nAnd a round?\n\n## Answer\n\nA **plain** answer.\n")
        await entries(page).first.locator("summary").click()
        await page.get_by_role("button", name="Archive", exact=True).click()
        await expect(titles(page)).to_have_text(["On fugues"])
        await page.get_by_label("Archived").check()
        await expect(titles(page)).to_have_text(["Is it so?"])
        await page.get_by_label("Archived").uncheck()
        await expect(titles(page)).to_have_text(["On fugues"])
        await entries(page).first.locator("summary").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Delete for good").click()
        await expect(page.get_by_text("None yet.")).to_be_visible()
        await expect(page.locator(".turn")).to_have_count(0)  # the one that was shown is gone
        assert [run.question for run in await app.service().store.runs()] == ["Is it so?"]


async def test_to_retry_and_to_edit_make_branches(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        turns, questions = page.locator(".turn"), page.locator(".question .plain")
        await ask(page, "first", "echo")
        await ask(page, "second")
        await ask(page, "third")
        await page.get_by_role("button", name="Edit").nth(1).click()
        field = page.get_by_label("Your question")
        await expect(field).to_have_value("second")
        await field.press("Escape")  # cancels the change alone
        await expect(field).to_have_value("")
        await field.fill("a draft")
        await page.get_by_role("button", name="Edit").nth(1).click()
        await page.get_by_role("button", name="Cancel the change").click()
        await expect(field).to_have_value("a draft")
        await expect(turns).to_have_count(3)
        await page.get_by_role("button", name="Edit").nth(1).click()
        await ask(page, "second, in other words")
        await expect(questions).to_have_text(["first", "second, in other words"])
        await expect(field).to_have_value("a draft")
        await expect(turns.nth(1).get_by_role("group", name="Branches")).to_contain_text("2/2")
        await expect(turns.nth(0).get_by_role("group", name="Branches")).to_be_hidden()
        await page.get_by_role("button", name="Earlier branch").click()
        await expect(questions).to_have_text(["first", "second", "third"])
        await expect(turns.nth(1).get_by_role("group", name="Branches")).to_contain_text("1/2")
        await expect(page.locator(".answer")).to_have_text(["first", "second", "third"])
        await turns.nth(1).get_by_role("button", name="Retry").click()
        await expect(turns).to_have_count(2)
        await ended(page)
        await expect(turns.nth(1).get_by_role("group", name="Branches")).to_contain_text("3/3")
        await looked_over(page)
        await page.reload()  # the branches are those of the server
        await expect(turns.nth(1).get_by_role("group", name="Branches")).to_contain_text("3/3")
        await page.get_by_role("button", name="Earlier branch").click()
        await expect(questions).to_have_text(["first", "second, in other words"])
        await ask(page, "on from there")
        await page.get_by_role("button", name="Earlier branch").click()
        await expect(questions).to_have_text(["first", "second", "third"])
        await page.get_by_role("button", name="Later branch").click()
        await expect(questions).to_have_text(["first", "second, in other words", "on from there"])
        await page.get_by_role("button", name="Edit").first.click()
        await ask(page, "first, in other words")
        await expect(turns.nth(0).get_by_role("group", name="Branches")).to_contain_text("2/2")
        await expect(entries(page)).to_have_count(1)
        await page.get_by_role("button", name="Earlier branch").click()
        await expect(questions).to_have_count(3)
        await turns.nth(1).get_by_role("button", name="Show the score").click()  # of an earlier turn
        await expect(turns.nth(1).locator(".card").first).to_be_visible()


async def test_nothing_is_removed_before_something_new_is_there(
    browser: Browser, server: tuple[str, Application]
) -> None:
    hold = asyncio.Event()

    async def late(route: Route) -> None:
        await hold.wait()
        with suppress(Error):  # the page has hung up
            await route.continue_()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=429, json={"error": {"message": "too many at once"}})

    async with visiting(browser, server[0]) as page:
        await ask(page, "first", "echo")
        await ask(page, "second")
        await page.route("**/v1/chat/completions", late)
        await page.get_by_role("button", name="Retry").first.click()
        await expect(page.get_by_text("Asking again …")).to_be_visible()
        await expect(page.locator(".answer")).to_have_text(["first", "second"])
        await page.keyboard.press("Escape")  # it is not asked after all
        await ended(page)
        await expect(page.get_by_text("Asking again …")).to_be_hidden()
        await expect(page.locator(".answer")).to_have_text(["first", "second"])
        hold.set()
        await page.unroute_all(behavior="ignoreErrors")
        await page.route("**/v1/chat/completions", refuse)
        await page.get_by_role("button", name="Edit").first.click()
        await page.get_by_label("Your question").fill("first, in other words")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.get_by_text("It was not asked again: too many at once")).to_be_visible()
        await expect(page.locator(".answer")).to_have_text(["first", "second"])
        await expect(page.get_by_label("Your question")).to_have_value("first, in other words")
        await page.unroute("**/v1/chat/completions")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.locator(".answer")).to_have_text(["first, in other words"])
        assert await page.evaluate("broken") == []


@asynccontextmanager
async def held(page: Page, pattern: str) -> AsyncIterator[None]:
    """Requests to such addresses wait until the block is left."""
    free = asyncio.Event()

    async def hold(route: Route) -> None:
        await free.wait()
        with suppress(Error):
            await route.continue_()

    await page.route(pattern, hold)
    yield
    free.set()


async def test_a_long_list_moves_nothing_when_it_comes(browser: Browser, server: tuple[str, Application]) -> None:
    url, _ = server
    for number in range(40):
        await asked(url, f"Question {number}?", f"conversation-{number}")
    for width in (1000, 1280, 1920):
        async with visiting(browser, url, viewport={"width": width, "height": 720}) as page:
            empty = page.locator(".empty")
            async with held(page, "**/api/conversations?*"):
                await page.reload()
                await expect(page.get_by_label("Recipe or model")).to_have_value("plain")
                before = await empty.bounding_box()
            await expect(entries(page)).to_have_count(40)
            assert await empty.bounding_box() == before
            assert await page.evaluate("document.documentElement.scrollHeight - innerHeight") == 0


async def test_a_question_sent_while_the_one_before_is_still_read_or_answered_waits(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        await ask(page, "First?", "echo")
        question = page.get_by_label("Your question")
        async with held(page, "**/events?*"):
            await page.reload()
            await expect(page.get_by_role("button", name="Stop")).to_be_visible()
            await question.fill("Second?")
            await question.press("Enter")
            await expect(page.get_by_role("status").filter(has_text="Your question is sent when")).to_be_visible()
            await question.press_sequentially(" Changed", delay=1)
            await expect(page.get_by_text("Your question is sent when")).to_have_count(0)  # not without the reader
            await question.press("Enter")
            await expect(question).to_have_value("Second? Changed")
        await expect(page.locator(".answer")).to_contain_text(["First?", "Second? Changed"])
        await expect(question).to_have_value("")
        await ended(page)
        await page.get_by_label("Recipe or model").select_option("endless")
        await question.fill("Third?")
        await question.press("Enter")
        await expect(page.get_by_role("button", name="Stop")).to_be_visible()
        await question.fill("Fourth?")
        await question.press("Enter")
        await page.get_by_role("button", name="Stop").click()  # who stops wants no other answer at once
        await ended(page)
        await expect(page.locator(".turn")).to_have_count(3)
        await expect(question).to_have_value("Fourth?")


@pytest.mark.parametrize("back", ["before the run begins", "afterwards"])
async def test_a_question_is_found_again_whose_reader_left_before_the_server_spoke(
    browser: Browser, server: tuple[str, Application], back: str
) -> None:
    async with visiting(browser, server[0]) as page:
        await ask(page, "First?", "echo")
        await page.get_by_label("Recipe or model").select_option("slow")
        async with held(page, "**/v1/chat/completions"):
            await page.get_by_label("Your question").fill("Second?")
            await page.get_by_label("Your question").press("Enter")
            await expect(page.locator(".turn")).to_have_count(2)
            await page.get_by_role("link", name="Settings").click()
            await expect(page.get_by_label("Default recipe")).to_be_visible()
            if back == "before the run begins":
                await page.get_by_role("link", name="Ask", exact=True).click()
                await expect(page.locator(".answer")).to_contain_text(["First?"])
        if back == "afterwards":
            await page.get_by_role("link", name="History").click()
            await expect(page.get_by_role("link", name="Second?")).to_be_visible()
            await page.get_by_role("link", name="Ask", exact=True).click()
        await expect(page.locator(".turn")).to_have_count(2)
        await expect(page.locator(".answer").last).to_contain_text("word end")
        await page.reload()
        await expect(page.locator(".turn")).to_have_count(2)


async def test_shortcuts_work_wherever_the_focus_is(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    async with visiting(browser, url) as page:
        await page.locator("h1").click()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Shortcuts")).to_contain_text("Ctrl+K")
        await looked_over(page)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_role("button", name="Shortcuts").click()
        await page.get_by_role("button", name="Close").click()
        await page.locator("h1").click()
        await page.keyboard.press("/")
        await expect(page.get_by_label("Your question")).to_be_focused()
        await page.keyboard.type("? /")  # while somebody writes, they are letters
        await expect(page.get_by_label("Your question")).to_have_value("? /")
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.get_by_role("link", name="Recipes").click()
        await expect(page.get_by_role("heading", name="Recipes", exact=True)).to_be_visible()
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.get_by_label("Recipe or model").select_option("endless")
        await page.get_by_label("Your question").fill("On and on")
        await page.get_by_label("Your question").press("Enter")
        await page.wait_for_url("**/#/ask/*")
        await page.get_by_role("button", name="Theme").focus()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("alert").filter(has_text="Stopped.")).to_be_visible()
        while app.service().working:
            await asyncio.sleep(0.01)
        await page.set_viewport_size({"width": 390, "height": 844})
        await expect(page.get_by_role("searchbox")).to_be_hidden()
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await looked_over(page)


async def test_an_answer_is_copied_and_saved_as_markdown(browser: Browser, server: tuple[str, Application]) -> None:
    url, _ = server
    async with visiting(browser, url, permissions=["clipboard-read", "clipboard-write"]) as page:
        turn = await ask(page, "Why?", "plain")
        await turn.get_by_role("button", name="Copy as Markdown").click()
        await expect(turn.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == "A **plain** answer."
        async with page.expect_download() as taken:
            await turn.get_by_role("button", name="Save as Markdown").click()
        text = (await (await taken.value).path()).read_text()
        assert text.startswith("# `plain`")
        assert "\nA **plain** answer.\n" in text


async def test_fifty_turns_are_opened_and_rendered_frame_by_frame(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, _ = server
    messages: list[dict[str, Any]] = []
    for number in range(49):
        messages += [{"role": "user", "content": f"Question {number}"}, {"role": "assistant", "content": f"*{number}*"}]
    messages.append({"role": "user", "content": "The last"})
    body = {"model": "plain", "messages": messages, "metadata": {"conversation": "long"}}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        run = response.headers["x-partsong-run"]
    async with visiting(browser, url, f"/#/ask/{run}") as page:
        await expect(page.locator(".turn")).to_have_count(50)
        await expect(page.locator(".turn .answer em")).to_have_count(49)
        await expect(page.locator(".answer").last).to_have_text("A plain answer.")
        await expect(page.locator(".answer").last).to_be_in_viewport()


async def test_batches_are_apart_in_the_history(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    run = await asked(url, "Of a person", "one")
    recorder = app.service().store.record(source="batch")
    for _, event in await app.service().store.events(run):
        await recorder.hear(event)
    await recorder.close()
    async with visiting(browser, url, "/#/history") as page:
        rows = page.locator(".list tbody tr")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Batches and benches too").check()
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text("(batch)")
        await looked_over(page)


async def test_three_are_compared_for_several_turns_and_found_again(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, app = server
    async with visiting(browser, url, "/#/compare") as page:
        bodies: list[dict[str, Any]] = []
        page.on(
            "request",
            lambda request: (
                bodies.append(json.loads(request.post_data or "{}")) if request.url.endswith("/completions") else None
            ),
        )
        await expect(page.get_by_label("Right", exact=True).locator("option")).not_to_have_count(0)
        await page.get_by_role("button", name="Add another").click()
        for side, name in (("A", "plain"), ("B", "slow"), ("C", "other")):
            await page.get_by_label(side, exact=True).select_option(name)
        await page.get_by_label("Your question").fill("Which?")
        await page.get_by_role("button", name="Ask all").click()
        sides = page.locator(".side")
        await expect(sides).to_have_count(3)
        await expect(sides.nth(0).locator(".answer")).to_have_text("A plain answer.")
        await expect(sides.nth(1).locator(".answer")).to_contain_text("word")  # while it goes on
        await expect(sides.nth(1).get_by_role("button", name="Stop")).to_be_visible()
        await page.wait_for_url("**/#/compare/*,*,*")
        await page.reload()
        await expect(sides).to_have_count(3)
        await expect(sides.nth(1).locator(".answer")).to_contain_text("word end")
        await expect(sides.locator("h2")).to_have_text(["plain", "slow", "other"])
        await expect(page).to_have_title("Which? · partsong")
        await looked_over(page)
        await page.get_by_label("Your question").fill("And now?")
        await page.get_by_role("button", name="Ask all").click()
        await expect(sides).to_have_count(6)
        await expect(page.get_by_role("button", name="slow is best")).to_be_visible(timeout=20_000)
        said = [each["content"] for each in next(each for each in bodies[::-1] if each["model"] == "plain")["messages"]]
        assert said == ["Which?", "A **plain** answer.", "And now?"]
        await page.locator("h1").click()
        await page.keyboard.press("2")
        await expect(page.get_by_text("Kept, as votes on each pair.")).to_be_visible()
        store = app.service().store
        assert (await store.tally_of("", "slow", "plain")).a_wins == 1
        assert (await store.tally_of("", "slow", "other")).a_wins == 1
        assert sum(each.ties + each.a_wins + each.b_wins for each in await store.tally("")) == 2
        await page.reload()
        await expect(page.locator(".question .plain")).to_have_text(["Which?", "And now?"])
        await expect(sides.nth(0).locator(".answer")).to_have_text("A plain answer.")
        await expect(sides.nth(3).locator(".answer")).to_have_text("A plain answer.")
        await page.get_by_role("link", name="New comparison").click()
        await expect(sides).to_have_count(0)
        await page.goto(f"{url}/#/compare/nothing,nobody")
        await expect(page.get_by_text("cannot be shown").first).to_be_visible()


async def test_a_blind_comparison_stays_blind_when_it_is_loaded_again(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0], "/#/compare") as page:
        await page.get_by_label("Left", exact=True).select_option("plain")
        await page.get_by_label("Right", exact=True).select_option("other")
        await page.get_by_label("Blind").check()
        await page.get_by_label("Your question").fill("Which?")
        await page.get_by_label("Your question").press("Enter")
        await page.wait_for_url("**/#/compare/blind,*,*")
        await expect(page.get_by_role("button", name="Left is better")).to_be_visible()
        await page.reload()
        await expect(page.locator(".side h2")).to_have_text(["A", "B"])
        await page.get_by_label("Your question").fill("And now?")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.locator(".side h2")).to_have_text(["A", "B", "A", "B"])
        await page.get_by_role("button", name="Left is better").click()
        await page.wait_for_url(lambda url: "blind" not in url)
        assert sorted(await page.locator(".side h2").all_inner_texts())[2:] == ["other", "plain"]


async def test_escape_stops_a_comparison(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    async with visiting(browser, url, "/#/compare") as page:
        for side in ("Left", "Right"):
            await page.get_by_label(side, exact=True).select_option("endless")
        await page.get_by_label("Your question").fill("Which?")
        await page.get_by_label("Your question").press("Enter")
        await page.wait_for_url("**/#/compare/*,*")
        await page.locator("h1").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("Stopped.")).to_have_count(2)
        while app.service().working:
            await asyncio.sleep(0.01)
