"""The voices behind an answer, in a real browser: what is not paid twice, how the score folds, and what was sent."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from partsong.events import CallFinished, RunStarted
from partsong.server.application import Application
from tests.browsing import browsing, unfold, visiting
from tests.server.page_checks import looked_over
from tests.serving import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE = """## Why

Air **scatters** blue light about ten times more than red light.

| colour | nm |
|---|---|
| blue | 450 |

```python
def sky(wave: float) -> float:
    return wave ** -4
```

$$I \\propto \\lambda^{-4}$$"""
TWO = "Air scatters blue light. At sunset the path through the air is longer, so that the blue is gone."
ANSWER = """Air scatters blue light about ten times more than red light. At sunset the path is longer through the air.

| colour | nm |
|---|---|
| blue | 450 |
| green | 530 |

```python
def sky(wave: float) -> float:
    return wave ** -3
}
```

$$I \\propto \\lambda^{-4}$$

Nobody else claims this here."""
FOUND = {
    "agreements": [
        {
            "statement": "air scatters",
            "quotes": [{"proposal": 1, "quote": "scatters"}, {"proposal": 2, "quote": "Air scatters blue light"}],
        }
    ],
    "gaps": ["why not violet"],
}


def scripted(name: str, text: str, more: str = "") -> str:
    return f"scripted:{name}?{urlencode({'text': text})}{more}"


LOST = "scripted:c?fail=rate"
PRICED = scripted("dear", "A dear answer.", "&output=1000")


def recipe(name: str, aggregator: str, more: str = "", lost: str = LOST) -> str:
    agents = [scripted("a", ONE), scripted("b", TWO, "&output=100"), lost]
    return f'name = "{name}"\naggregator = {json.dumps(aggregator)}\n{more}[[layers]]\nagents = {json.dumps(agents)}\n'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, Application]]:
    folder = tmp_path_factory.mktemp("voices")
    analyst = f"analyst = {json.dumps(scripted('an', json.dumps(FOUND)))}\n"
    texts = {
        "whole": recipe("whole", scripted("z", ANSWER)),
        "report": recipe("report", scripted("z", ANSWER), analyst),
        "fails": recipe("fails", "scripted:z?fail=server"),
        "endless": recipe("endless", "scripted:z?tokens=5000&each=0.05"),
        "dear": f'name = "dear"\naggregator = {json.dumps(PRICED)}\nlayers = []\n',
        "empty": f'name = "empty"\naggregator = "scripted:z"\n[[layers]]\nagents = ["{LOST}"]\n',
        "same": 'name = "same"\naggregator = "scripted:z?text=Well"\n[[layers]]\n'
        'agents = ["scripted:m?text=one", "other:m?text=two", "scripted:n?text=three"]\n',
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    names = [name for name in texts if name != "same"]
    async with serving([str(folder / f"{name}.toml") for name in names], models=[PRICED, LOST]) as served:
        yield served


async def ask(page: Page, recipe: str, question: str = "Why is the sky blue?") -> Locator:
    """Ask, and wait for the end; the turn that shows it."""
    await page.get_by_label("Recipe or model").select_option(recipe)
    await page.get_by_label("Your question").fill(question)
    await page.get_by_label("Your question").press("Enter")
    await ended(page)
    return page.locator(".turn").last


async def ended(page: Page) -> None:
    await expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=20_000)


async def calls(server: tuple[str, Application], page: Page) -> list[tuple[str, bool]]:
    """The model of each call of the run that the page shows last, and whether it was free."""
    run = page.url.partition("#/ask/")[2]
    events = [event for _, event in await server[1].service().store.events(run)]
    assert isinstance(events[0], RunStarted)
    assert events[0].again
    return [(event.model.partition("?")[0], event.stored) for event in events if isinstance(event, CallFinished)]


async def again(turn: Locator, page: Page) -> None:
    """Wait until a new run stands in the place of the earlier one."""
    await expect(turn.get_by_role("group", name="Branches")).to_contain_text("2/2", timeout=20_000)
    await ended(page)


async def test_an_aggregator_that_failed_is_asked_again_and_nothing_else_is_paid(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "fails")
        rescue = turn.get_by_role("region", name="What can be done")
        await expect(rescue).to_contain_text("not paid again. Asking the aggregator again is 1 call, about $0.")
        await looked_over(page)
        await rescue.get_by_role("button", name="Ask the aggregator again").click()
        await again(page.locator(".turn").last, page)
        assert await calls(server, page) == [("scripted:a", True), ("scripted:b", True), ("scripted:z", False)]
        # The failed run is a branch beside it.
        await page.get_by_role("button", name="Earlier branch").click()
        await expect(page.get_by_role("group", name="Branches")).to_contain_text("1/2")


async def test_another_model_aggregates_or_the_best_proposal_is_used(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "fails")
        await turn.get_by_role("button", name="Ask it").click()
        await expect(turn.get_by_role("alert").filter(has_text="Name the model")).to_be_visible()
        await turn.get_by_label("With another model").fill(PRICED)
        await turn.get_by_role("button", name="Ask it").click()
        await again(turn, page)
        await expect(turn.locator(".answer")).to_have_text("A dear answer.")
        assert (await calls(server, page))[-1] == ("scripted:dear", False)
        await expect(turn.get_by_role("region", name="What can be done")).to_have_count(0)
        await page.goto(f"{server[0]}/#/ask")
        turn = await ask(page, "fails")
        await turn.get_by_role("button", name="Use the best proposal").click()
        await again(turn, page)
        await expect(turn.locator(".answer")).to_contain_text("Air scatters blue light")
        assert await calls(server, page) == [("scripted:a", True), ("scripted:b", True)]
        await unfold(turn)
        await expect(turn.locator(".column.last .card")).to_have_attribute("data-state", "not asked")


async def test_a_finished_run_is_aggregated_with_other_seats_and_another_method(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "whole")
        await turn.get_by_role("button", name="Aggregate again").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("status")).to_have_text("It makes 1 call, about $0.")
        await looked_over(page)
        await dialog.get_by_label("1.2 scripted:b").uncheck()
        await dialog.get_by_label("1.3 scripted:c – lost (rate): ask it").check()
        await expect(dialog.get_by_role("status")).to_have_text("It makes 2 calls, about $0.")
        await dialog.get_by_label("Aggregator").fill(PRICED)
        await expect(dialog.get_by_role("status")).to_contain_text(re.compile(r"2 calls, about \$0\.\d"))
        await dialog.get_by_label("1.3 scripted:c – lost (rate): ask it").uncheck()
        await dialog.get_by_label("Aggregator").fill("nonsense")
        await expect(dialog.get_by_role("alert")).to_contain_text("provider:model")
        await dialog.get_by_label("Aggregator").fill("")
        await dialog.get_by_label("1.1 scripted:a").uncheck()
        await expect(dialog.get_by_role("alert")).to_contain_text("every seat of layer 1 was lost")
        await dialog.get_by_label("1.1 scripted:a").check()
        await dialog.get_by_label("Method").select_option("select")
        await expect(dialog.get_by_role("status")).to_have_text("It makes 1 call, about $0.")
        await dialog.get_by_role("button", name="Aggregate again").click()
        await again(turn, page)
        assert await calls(server, page) == [("scripted:a", True), ("scripted:z", False)]
        await unfold(turn)
        await expect(turn.locator(".card")).to_have_count(3)  # 1.1, the lost 1.3 and the aggregator


async def test_one_lost_seat_is_asked_again_from_its_card(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "whole")
        await turn.get_by_role("button", name="1.3 lost").click()  # the chip at the answer
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("lost: rate: c failed")
        await dialog.get_by_role("button", name="Ask this seat again").click()
        await again(turn, page)
        wanted = [("scripted:a", True), ("scripted:b", True), ("scripted:c", False), ("scripted:z", False)]
        assert sorted(await calls(server, page)) == wanted
        # A run of the history is gone on from in a conversation.
        await page.goto(f"{server[0]}/#/history/{page.url.partition('#/ask/')[2]}")
        await page.get_by_role("button", name="Aggregate again").click()
        await page.get_by_role("dialog").get_by_role("button", name="Aggregate again").click()
        await page.wait_for_url("**/#/ask/*")
        await ended(page)
        await expect(page.locator(".turn .answer")).to_contain_text("Nobody else claims this here.")


async def test_the_report_stands_beside_the_answer_and_folds_the_score(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "report")
        report = turn.locator(".differences")
        await expect(report).to_contain_text("Air scatters blue light")
        answer, beside = await turn.locator(".answer").bounding_box(), await report.bounding_box()
        assert answer
        assert beside
        assert beside["x"] > answer["x"] + answer["width"]
        line = turn.locator("details.score > summary")
        await expect(line).to_contain_text("2 of 3 voices, ")
        await expect(line).to_contain_text(", $0.0")
        await expect(turn.locator(".columns")).to_be_hidden()
        await turn.get_by_role("button", name="Where the answer comes from").click()
        await looked_over(page)
        await page.set_viewport_size({"width": 390, "height": 844})
        score, answer = await line.bounding_box(), await turn.locator(".answer").bounding_box()
        assert score
        assert answer
        assert score["y"] > answer["y"] + answer["height"]  # on a phone the answer stands first
        await line.click()
        await expect(turn.locator(".columns")).to_be_visible()
        await looked_over(page)
        await turn.get_by_role("button", name="Where the voices differ").click()
        await expect(report).to_be_empty()


async def test_code_rows_and_formulas_are_traced_and_what_is_not_compared_says_so(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "whole")
        await turn.get_by_role("button", name="Where the answer comes from").click()
        items = turn.locator(".origins li")
        told: dict[str, str] = dict(
            await items.evaluate_all(
                "all => all.map((item) => [item.lastElementChild.textContent.trim(), item.innerText.split('\\n')[0]])"
            )
        )
        likeness: dict[str, str] = dict(
            await items.evaluate_all(
                "all => all.map((item) => [item.lastElementChild.textContent.trim(), item.dataset.likeness])"
            )
        )
        assert likeness == {
            "Air scatters blue light about ten times more than red light.": "same",
            "At sunset the path is longer through the air.": "near",
            "colour | nm": "same",
            "blue | 450": "same",
            "green | 530": "own",
            "def sky(wave: float) -> float:": "same",
            "return wave ** -3": "near",
            "}": "unknown",
            "I \\propto \\lambda^{-4}": "same",
            "Nobody else claims this here.": "own",
        }
        assert told["}"].startswith("not compared")
        assert told["blue | 450"].startswith("1.1 a")
        await items.first.get_by_role("button", name="1.1 a").click()
        await expect(page.get_by_role("dialog").locator(".side")).to_have_count(2)


async def test_the_search_for_origins_has_bounds(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        likeness: list[str] = await page.evaluate(
            """async () => {
              const { originsOf } = await import("/page/origins.js");
              const lines = Array.from({ length: 3000 }, (_, n) => `This is the line ${n} of a long list.`);
              const whole = lines.join("\\n\\n");
              return originsOf(whole, Array(8).fill(whole)).map((each) => each.likeness);
            }"""
        )
        assert len(likeness) == 3000
        assert set(likeness[:400]) == {"same"}
        assert set(likeness[400:]) == {"unknown"}


async def test_what_a_seat_was_sent_is_one_click_from_its_card(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "whole")
        await unfold(turn)
        await turn.get_by_role("button", name="Open aggregator,").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="What it was sent").click()
        await expect(dialog.locator(".sent")).to_contain_text("read ")
        await expect(dialog.locator(".sent details")).to_have_count(2)
        await expect(dialog.locator(".sent details").last).to_contain_text("| blue | 450 |")
        await expect(dialog.locator(".sent summary").first).to_contain_text("user · about 9 tokens")
        await looked_over(page)
        await dialog.get_by_role("button", name="What it was sent").click()
        await expect(dialog.locator(".closeup-body")).to_contain_text("Nobody else claims this here.")


async def test_cards_show_first_lines_and_a_stopped_run_is_grey(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "whole")
        await unfold(turn)
        preview = turn.locator(".card").first.locator(".preview")
        await expect(preview).to_contain_text("Why\nAir scatters blue light", use_inner_text=True)
        for mark in ("##", "**scatters", "```"):
            await expect(preview).not_to_contain_text(mark)
        ticks = await turn.locator(".axis span").all_inner_texts()
        ends: list[float] = await turn.locator(".timeline").evaluate(
            """(timeline) => [...timeline.querySelectorAll("rect")].map((bar) =>
              Number.parseFloat(bar.getAttribute("x")) + Number.parseFloat(bar.getAttribute("width")))"""
        )
        assert len(ticks) > 1
        assert 90 < max(ends) <= 100  # the axis fits the run
        await page.get_by_label("Recipe or model").select_option("endless")
        await page.get_by_label("Your question").fill("And on?")
        await page.get_by_label("Your question").press("Enter")
        turn = page.locator(".turn").last
        await expect(turn.locator(".answer")).not_to_be_empty()
        await page.get_by_role("button", name="Stop").click()
        await ended(page)
        await unfold(turn)
        card = turn.locator(".column.last .card")
        await expect(card).to_have_attribute("data-state", "stopped")
        await expect(turn.locator("rect.write.stopped")).to_have_count(1)
        await expect(turn.locator("rect.write.lost")).to_have_count(
            1
        )  # of the seat that was lost, not of the aggregator
        await expect(turn.locator(".key-stopped")).to_be_visible()
        # Found again in the record, where the call was given up.
        await page.reload()
        turn = page.locator(".turn").last
        await ended(page)
        await expect(turn.locator(".failure")).to_be_visible()
        await unfold(turn)
        await expect(turn.locator(".column.last .card")).to_have_attribute("data-state", "stopped")
        await expect(turn.locator(".key-stopped")).to_be_visible()


async def test_layers_are_counted_alike_and_equal_names_have_their_provider(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "empty")
        await expect(turn.get_by_role("alert").first).to_contain_text("every seat of layer 1 was lost")
        await expect(turn.get_by_role("region", name="What can be done")).to_have_count(0)
        told: dict[str, Any] = await page.evaluate(
            """async () => {
              const { numbered } = await import("/page/again.js");
              const { Run } = await import("/page/run.js");
              const { seatsOf } = await import("/page/seats.js");
              const run = new Run();
              const layers = [{ agents: ["scripted:m", "other:m", "scripted:n"].map((model) => ({ model })) }];
              const recipe = { name: "r", layers, aggregator: { model: "scripted:z" } };
              run.hear({ event: "run_started", recipe, conversation: { messages: [] } }, 0);
              return {
                names: seatsOf(run).flat().map((seat) => seat.short),
                numbers: numbered("there is no seat (0, 9); known seats: (0, 0-2); layer 1 would have no seat left"),
              };
            }"""
        )
        assert told["names"] == ["scripted:m", "other:m", "n", "z"]
        assert told["numbers"] == "there is no seat 1.10; known seats: 1.1–3; layer 2 would have no seat left"


async def test_six_turns_are_readable(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        for number in range(6):
            turn = await ask(page, "dear", f"Question {number}?")
            await expect(turn.locator(".answer")).to_have_text("A dear answer.")
        height: float = await page.locator(".turns").evaluate("(turns) => turns.getBoundingClientRect().height")
        assert height / 6 < 260  # each is a question, a line for the score, and an answer
        await expect(page.locator("details.score[open]")).to_have_count(0)
