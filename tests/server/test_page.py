"""The web page, in a real browser against a real server: asking, the score, and what hostile models may not do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, FilePayload, Locator, Page, Route, expect

from partsong.events import CallFinished, RunFailed, RunFinished, to_builtins
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.server.application import Application
from tests import pdfs
from tests.browsing import browsing, unfold, visiting
from tests.serving import recipe_file, serving
from tests.test_transcript_golden import CASES

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parents[2] / "src" / "partsong" / "server" / "page"
LARGEST = 350_000  # bytes of all files of the page, without the library of formulas, which few answers need
LEAST = {"serious", "critical"}  # faults of accessibility that are none too small

MARKDOWN = """## Light

It **scatters**: $x^2$ and `code`. See [there](https://example.org/).

| colour | nm |
|---|---:|
| blue | 450 |

```python
def sky() -> str:
    return "blue"
```

Blue light scatters more than red light in the air."""

HOSTILE = """<script>alert(1)</script> <img src=x onerror="alert(2)"> <svg onload="alert(3)"></svg>

<svg><script>alert(4)</script></svg>

<iframe srcdoc="<script>parent.alert(5)</script>"></iframe><form action="/x"><input name=q></form>

<style>body { display: none }</style><base href="https://example.org/"><meta http-equiv=refresh content="0;url=/x">

[one](javascript:alert(6)) [two](data:text/html,<script>alert(7)</script>)
[three](JaVaScRiPt:alert(8)) <javascript:alert(9)>

![picture](https://example.org/pixel.png) ![x](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)

[a]: javascript:alert(10)
[named][a] $\\href{javascript:alert(11)}{x}$ $\\style{position:fixed}{x}$ $\\includegraphics{https://example.org/x.png}$

| <img src=x onerror=alert(12)> | b |
|---|---|
| <a href="javascript:alert(13)">c</a> | d |

```html" onmouseover="alert(14)
</code></pre><script>alert(15)</script>
```

The end."""

SCORE = """
name = "score"
about = "three layers"
[[layers]]
agents = [
    "scripted:a?tokens=12&each=0.02",
    "scripted:b?text=Blue+light+scatters+more+than+red+light+in+clear+air.",
    "scripted:c?tokens=9&each=0.03&output=20",
]
quorum = 2
grace = 20.0
deadline = 30.0
[[layers]]
agents = [
    "scripted:d?tokens=15&each=0.03",
    "scripted:e?text=Blue+light+scatters+more+than+red+light+in+the+air.&input=3&output=9",
]
[[layers]]
agents = ["scripted:f?tokens=10&each=0.03"]
[aggregator]
model = "{aggregator}"
"""
LOST = """
name = "lost"
[[layers]]
agents = [
    "scripted:a?text=one+and+two",
    "scripted:b?fail=rate",
    {{ model = "scripted:c?fail=server", fallback = ["scripted:d?text=four"] }},
]
[aggregator]
model = "{aggregator}"
"""
TWICE = """
name = "twice"
[[layers]]
agents = [
    {{ model = "scripted:a?fail=server&after=4&output=50", fallback = ["scripted:b?text=one+two&output=25"] }},
    "scripted:c?text=three",
]
[aggregator]
model = "{aggregator}"
"""
VIEWS = """
name = "views"
[[layers]]
agents = [{{ model = "scripted:a?text=Blue+light+scatters+more+than+red", samples = 6 }}]
[[layers]]
agents = ["scripted:b?text=Blue+light+scatters+more+in+air", "scripted:c?text=The+sea+is+its+mirror"]
sees = 2
[[layers]]
agents = ["scripted:d?text=Proposal+2+is+wrong", "scripted:e?text=Proposal+1+is+right"]
sees = "split"
comments = true
[aggregator]
model = "{aggregator}"
"""


def scripted(name: str, text: str, more: str = "") -> str:
    """A model's id, fit for a recipe's file."""
    return f"scripted:{name}?text={quote(text)}{more}"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, Application]]:
    folder = tmp_path_factory.mktemp("recipes")
    recipes = [
        recipe_file(folder, SCORE, "score", scripted("z", MARKDOWN, "&each=0.01")),
        recipe_file(folder, LOST, "lost"),
        recipe_file(folder, TWICE, "twice"),
        recipe_file(folder, VIEWS, "views", scripted("z", "Blue light scatters more in air.")),
        recipe_file(folder, name="fails", aggregator="scripted:z?fail=server"),
        recipe_file(folder, name="slow", aggregator=scripted("z", "word " * 150 + "end", "&each=0.02")),
        recipe_file(folder, name="endless", aggregator="scripted:z?tokens=5000&each=0.05"),
    ]
    for name in ("fails", "slow", "endless"):
        path = folder / f"{name}.toml"
        path.write_text(path.read_text().replace('name = "three"', f'name = "{name}"'))
    async with serving(recipes, models=["scripted:z?echo=true"]) as served:
        yield served


async def ask(page: Page, question: str, recipe: str | None = None) -> Locator:
    """Ask; the turn that shows it."""
    if recipe is not None:
        await page.get_by_label("Recipe or model").select_option(recipe)
    await page.get_by_label("Your question").fill(question)
    await page.get_by_label("Your question").press("Enter")
    return page.locator(".turn").last


async def ended(page: Page) -> None:
    await expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=20_000)


def card(place: Page | Locator, address: str) -> Locator:
    return place.locator(f'.card:has(button[aria-label^="Open {address},"])')


async def test_a_question_is_asked_and_its_answer_rendered(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "Why is the sky blue?", "score")
        await ended(page)
        answer = turn.locator(".answer")
        await expect(answer.get_by_role("heading", name="Light")).to_be_visible()
        await expect(answer.locator("strong")).to_have_text("scatters")
        await expect(answer.locator("td").last).to_have_text("450")
        await expect(answer.locator("math msup")).to_have_count(1)
        await expect(answer.locator(".code .is-kwd").first).to_have_text("def")
        await expect(answer.get_by_role("link", name="there")).to_have_attribute("rel", "noopener noreferrer nofollow")
        summary = turn.locator(".summary")
        await expect(summary).to_contain_text("score · 7 calls")
        await expect(summary).to_contain_text("$")
        await expect(card(page, "2.2")).to_contain_text("$0.")
        run = page.url.partition("#/ask/")[2]
        assert (await server[1].service().store.find_run(run)).id == run


async def test_layers_are_watched_while_they_stream_and_nothing_moves(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        await page.evaluate(
            """() => {
              window.seen = [];
              new MutationObserver((changes) => {
                for (const { target } of changes) {
                  const name = target.querySelector("button").ariaLabel;
                  seen.push([/Open ([^,]*),/.exec(name)?.[1], target.dataset.state]);
                }
              }).observe(document.body, { subtree: true, attributeFilter: ["data-state"] });
            }"""
        )
        turn = await ask(page, "Why is the sky blue?", "score")
        await expect(turn.locator(".card")).to_have_count(7)  # of all layers, from the beginning on
        await ended(page)
        await expect(turn.locator("[data-state=done]")).to_have_count(7)  # drawn one frame after the end, at the latest
        seen: list[list[str]] = await page.evaluate("seen")
        for layer in ("1", "2", "3", "aggregator"):
            states = [state for seat, state in seen if seat.startswith(layer)]
            assert states[-1] == "done"
        # A busy machine may draw nothing while a single seat writes, but not while all of them do.
        assert "writing" in [state for _, state in seen]
        begun = next(index for index, (seat, state) in enumerate(seen) if seat == "2.1" and state != "waiting")
        assert [seen.index([seat, "done"]) < begun for seat in ("1.1", "1.2", "1.3")] == [True] * 3
        timeline = turn.locator(".timeline")
        await expect(timeline.locator("rect.write")).to_have_count(7)
        await expect(timeline.locator("line.quorum")).to_have_count(1)
        moved = sorted(await page.evaluate("moved"), key=lambda move: -move["value"])
        assert await page.evaluate("shifted") < 0.02, "\n".join(map(str, moved[:5]))


async def test_a_run_that_is_stopped_stops_at_the_server(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    async with visiting(browser, url) as page:
        turn = await ask(page, "Go on and on", "endless")
        await expect(card(page, "aggregator")).to_have_attribute("data-state", "writing")
        await page.get_by_role("button", name="Stop").click()
        await expect(turn.get_by_role("alert")).to_contain_text("Stopped")
        await ended(page)
        run = page.url.partition("#/ask/")[2]
        while app.service().working:
            await asyncio.sleep(0.01)
        last = (await app.service().store.events(run))[-1][1]
        assert isinstance(last, RunFailed)
        assert last.error.cause == "cancelled"


@pytest.mark.parametrize("late", ["about", "events"])
async def test_a_conversation_that_is_opened_keeps_its_recipe(
    browser: Browser, server: tuple[str, Application], late: str
) -> None:
    """Whichever comes first: the list of recipes, or the conversation."""

    async def delay(route: Route) -> None:
        await asyncio.sleep(0.7)
        await route.continue_()

    async with visiting(browser, server[0]) as page:
        recipe = page.get_by_label("Recipe or model")
        for name in ("twice", "lost"):
            await page.goto(server[0])
            await ask(page, "Is it so?", name)
            await ended(page)
            await page.route(f"**/*{late}*", delay)
            await page.reload()
            await expect(page.locator(".turn .answer")).to_have_text("So it is")
            await expect(recipe).to_have_value(name)
            await ask(page, "And now?")
            await ended(page)
            await expect(page.locator(".turn .summary").last).to_contain_text(f"{name} ·")
            await page.unroute(f"**/*{late}*")


async def test_a_conversation_whose_recipe_is_not_offered_asks_no_other(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async def without(route: Route) -> None:
        answer = await route.fetch()
        about = await answer.json()
        about["recipes"] = [each for each in about["recipes"] if each["name"] != "twice"]
        await route.fulfill(response=answer, json=about)

    async with visiting(browser, server[0]) as page:
        recipe = page.get_by_label("Recipe or model")
        await ask(page, "Is it so?", "twice")
        await ended(page)
        await page.route("**/api/about*", without)
        await page.reload()
        await expect(recipe.locator("option:checked")).to_have_text("twice (not offered here)")
        await ask(page, "And now?")
        await expect(page.get_by_role("alert").first).to_contain_text("twice cannot be asked here")
        await expect(page.get_by_label("Your question")).to_have_value("And now?")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".turn .answer")).to_have_text("So it is")  # nothing is removed
        await expect(page.locator(".turn")).to_have_count(1)
        await ask(page, "And now?", "lost")  # the reader may choose another
        await ended(page)
        await expect(page.locator(".turn .summary").last).to_contain_text("lost ·")


async def test_lost_seats_say_why(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "Is it so?", "lost")
        await ended(page)
        await expect(card(page, "1.2")).to_have_attribute("data-state", "lost")
        await expect(card(page, "1.2")).to_contain_text("rate: b failed")
        await expect(turn.locator(".losses li")).to_have_count(2)
        await expect(turn.locator(".losses")).to_contain_text("replaced by scripted:d")
        await expect(turn.locator(".answer")).to_have_text("So it is")
        await unfold(page)
        await page.get_by_role("button", name="Open 1.3,").click()
        await expect(page.locator("dialog")).to_contain_text("instead of scripted:c, which failed: server")


async def test_what_a_seat_saw_stands_on_its_card_and_comments_are_no_origin(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "Is it so?", "views")
        await ended(page)
        await expect(card(page, "2.1")).to_contain_text("saw 2 of 6")
        await expect(card(page, "3.2")).to_contain_text("saw 1 of 2")
        await expect(card(page, "1.1")).not_to_contain_text("saw")
        await unfold(page)
        await expect(turn.get_by_role("heading", name="Layer 3: comments")).to_be_visible()
        await turn.get_by_role("button", name="Where the answer comes from").click()
        await expect(turn.locator(".origins li")).to_contain_text("2.1 b the same")


async def test_each_call_of_a_seat_is_shown_and_their_usage_is_added_up(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "Is it so?", "twice")
        await ended(page)
        await expect(turn.locator(".summary")).to_contain_text("twice · 4 calls")
        seat = card(page, "1.1")
        await expect(seat).to_contain_text("6 tok.")  # 4 of the call that failed, and 2 of its replacement
        await expect(seat).to_contain_text("$0.00025")
        rows = turn.locator(".timeline svg > g:nth-of-type(2) > g")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(0).locator("rect.write")).to_have_count(2)
        await expect(rows.nth(0).locator("rect.write.lost")).to_have_count(1)
        await expect(rows.nth(1).locator("rect.write")).to_have_count(1)
        await unfold(page)
        await page.get_by_role("button", name="Open 1.1,").click()
        calls = page.get_by_role("list", name="Calls").locator("li")
        await expect(calls).to_have_count(2)
        await expect(calls.first).to_contain_text("scripted:a · failed (server)")
        await expect(calls.first).to_contain_text("4 tok. · $0.0002")
        await expect(calls.last).to_contain_text("scripted:b · answered")


async def test_a_run_of_an_earlier_version_is_shown_without_events_of_calls(
    browser: Browser, server: tuple[str, Application]
) -> None:
    url, app = server
    async with visiting(browser, url) as page:
        await ask(page, "Is it so?", "twice")
        await ended(page)
        run = page.url.partition("#/ask/")[2]
        events = await app.service().store.events(run)
        kept = [[seconds, to_builtins(event)] for seconds, event in events if not isinstance(event, CallFinished)]
        assert len(kept) == len(events) - 4
        show = """async (events) => {
          const { Run } = await import("/page/run.js");
          const { Score } = await import("/page/score.js");
          const run = new Run();
          for (const [seconds, event] of events) run.hear(event, seconds);
          const score = new Score(run);
          score.element.id = "earlier";
          document.querySelector("main").append(score.element);
        }"""
        await page.evaluate(show, kept)
        score = page.locator("#earlier")
        await expect(score.locator(".summary")).to_contain_text("twice · 3 calls")  # as many as there are seats
        await expect(card(score, "1.1")).to_contain_text("2 tok.")
        await expect(score.locator("rect.write")).to_have_count(3)
        await expect(score.locator("rect.lost")).to_have_count(0)


async def test_a_failed_run_says_why_and_the_conversation_goes_on(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        turn = await ask(page, "Is it so?", "fails")
        await ended(page)
        await expect(turn.get_by_role("alert")).to_contain_text("There is no answer: ")
        await expect(card(turn, "aggregator")).to_have_attribute("data-state", "lost")
        again = await ask(page, "And now?", "lost")
        await ended(page)
        await expect(again.locator(".answer")).to_have_text("So it is")


async def test_a_page_that_is_loaded_again_finds_its_run(browser: Browser, server: tuple[str, Application]) -> None:
    url, app = server
    async with visiting(browser, url) as page:
        await ask(page, "Say it slowly", "slow")
        await expect(card(page, "aggregator")).to_have_attribute("data-state", "writing")
        await page.wait_for_url("**/#/ask/*")
        run = page.url.partition("#/ask/")[2]
        await page.reload()
        turn = page.locator(".turn")
        await expect(turn.locator(".question")).to_contain_text("Say it slowly")
        await expect(page.get_by_role("button", name="Stop")).to_be_visible()
        await ended(page)
        await expect(turn.locator(".answer")).to_contain_text("word end")
        await expect(turn.locator(".card")).to_have_count(4)
        assert isinstance((await app.service().store.events(run))[-1][1], RunFinished)


async def test_a_run_that_stays_is_stopped_by_its_id_and_by_its_own_caller(server: tuple[str, Application]) -> None:
    url, app = server
    body = {
        "model": "endless",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "partsong": {"events": True, "stay": True},
    }
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            run = response.headers["x-partsong-run"]
            await response.content.readline()
        assert not app.service().staying.stop(run, "somebody else")
        async with session.post(f"{url}/v1/runs/{run}/stop") as response:
            assert response.status == 200
        while app.service().working:
            await asyncio.sleep(0.01)
        async with session.post(f"{url}/v1/runs/{run}/stop") as response:
            assert response.status == 404


async def test_nothing_that_models_write_can_run(browser: Browser, tmp_path: Path) -> None:
    evil = "scripted:<img src=x onerror=alert(20)>"
    text = (
        '{about}name = "evil"\n[[layers]]\nagents = ["{proposer}", "{evil}?fail=server"]\n'
        '[aggregator]\nmodel = "{aggregator}"\n'
    )
    path = tmp_path / "evil.toml"
    about = 'about = "<script>alert(21)</script>"\n'
    path.write_text(
        text.format(
            about=about, proposer=scripted("a", HOSTILE), evil=evil, aggregator=scripted("z", HOSTILE, "&each=0.001")
        )
    )
    async with serving([str(path)]) as (url, _), visiting(browser, url) as page:
        turn = await ask(page, HOSTILE)
        await ended(page)
        await expect(turn.locator(".answer")).to_contain_text("The end.")
        await expect(turn.locator(".answer")).to_contain_text("<script>alert(1)</script>")
        await unfold(page)
        await page.get_by_role("button", name="Open 1.1,").click()
        await expect(page.locator("dialog")).to_contain_text("The end.")
        await page.get_by_label("Beside it").select_option("aggregator")
        await expect(page.locator("dialog .side table")).to_have_count(2)  # both are rendered
        await page.get_by_label("Mark the differences").check()
        await expect(page.locator("dialog")).to_contain_text("100 % of the words")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Where the answer comes from").click()
        await expect(turn.locator(".origins li").first).to_be_visible()
        made = "main script, main iframe, main svg script, main base, main meta, main style, main form form, main link"
        assert await page.locator(made).count() == 0
        links: list[str] = await page.locator("main .turn a").evaluate_all(
            "links => links.map((link) => link.protocol)"
        )
        assert set(links) == {"https:"}
        sources: list[str] = await page.locator("main img").evaluate_all("all => all.map((image) => image.src)")
        assert sources == []
        styled = (
            "all => all.filter((each) => each.onerror || each.onload || each.onmouseover || each.id === 'x').length"
        )
        assert await page.locator("main *").evaluate_all(styled) == 0


async def test_a_long_answer_is_rendered_block_by_block(browser: Browser, server: tuple[str, Application]) -> None:
    blocks = [" ".join(f"word{number}" for number in range(start, start + 40)) for start in range(0, 20_000, 40)]
    async with visiting(browser, server[0]) as page:
        question = "\n\n".join(blocks)
        await page.evaluate(
            """async (text) => {
              const { Growing } = await import("/page/markdown.js");
              const place = document.createElement("div");
              document.querySelector("main").append(place);
              const growing = new Growing(place);
              growing.render(text.slice(0, 2000), false);
              window.first = place.firstChild;
              growing.render(text.slice(0, 50000), false);
              window.same = place.firstChild === window.first;
              growing.render(text, true);
              window.same &&= place.firstChild === window.first;
              window.blocks = place.childElementCount;
              place.remove();
            }""",
            question,
        )
        assert await page.evaluate("same")
        assert await page.evaluate("blocks") == len(blocks)
        await expect(page.locator("option")).not_to_have_count(0)
        await page.evaluate(
            """(id) => {
              const select = document.querySelector(".composer select");
              const option = document.createElement("option");
              option.value = option.textContent = id;
              select.append(option);
            }""",
            "scripted:z?echo=true",
        )
        await page.evaluate("(text) => (document.querySelector('.composer textarea').value = text)", question)
        await page.get_by_label("Recipe or model").select_option("scripted:z?echo=true")
        await page.get_by_role("button", name="Send").click()
        turn = page.locator(".turn")
        await expect(turn).to_have_count(1)
        await ended(page)
        answer = turn.locator(".answer")
        assert await answer.locator("p").count() == len(blocks)
        assert (await answer.inner_text()).split() == question.split()


GROWN = """async (text) => {
  const { Growing } = await import("/page/markdown.js");
  let longest = 0, last = performance.now(), on = true;
  const tick = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (on) setTimeout(tick);
  };
  tick();
  const place = document.createElement("div");
  document.querySelector("main").append(place);
  const growing = new Growing(place);
  for (let part = 1; part <= 4; part++) {
    growing.show(text.slice(0, (text.length * part) / 4), false);
    await new Promise((done) => setTimeout(done, 20));
  }
  growing.show(text, true);
  await new Promise((done) => setTimeout(done, 1500));
  on = false;
  const shown = place.textContent;
  place.remove();
  return [longest, shown];
}"""
FREEZING = {
    "code": "```js\n" + "a" * 40_000 + "\n```",
    "slashes": "```js\n" + "/" * 40_000 + "\n```",
    "templates": "```js\n" + "`${" * 13_000 + "\n```",
    "python": "```python\n" + "f'{" * 13_000 + "\n```",
    "dollars": "$" * 60_000,
    "formulas": "$x$ " * 15_000,
    "formulas in a row": "$a" * 60_000,
    "formulas of lines": "$$\na\n" * 15_000,
    "formulas that do not end": "\\(a" * 20_000,
    "ticks": "`a" * 30_000,
    "links": "[a](" * 20_000,
    "underscores": "_a*" * 20_000,
    "tags": "<a " * 20_000,
    "entities": "&a;" * 20_000,
    "nested items": "".join(" " * (2 * level) + "- a\n" for level in range(300)),
    "brackets": "[" * 60_000,
    "stars": "**a " * 15_000,
    "quotes": "> " * 20_000,
    "columns": "|a" * 20_000 + "\n" + "|-" * 20_000,
    "items": "1. a\n" * 10_000,
}


@pytest.mark.parametrize("name", FREEZING)
async def test_no_text_of_a_model_freezes_the_page(
    browser: Browser, server: tuple[str, Application], name: str
) -> None:
    text = FREEZING[name]
    async with visiting(browser, server[0]) as page:
        page.set_default_timeout(120_000)
        longest, shown = await page.evaluate(GROWN, text)
        print(f"{name}: {longest:.0f} ms at most")
        # It was up to 24 s. Nothing is measured more finely than that, since the machine may be busy.
        assert longest < 8000
        assert shown.count("a") >= text.count("a")


async def test_code_is_coloured_beside_code_that_takes_too_long(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        coloured = await page.evaluate(
            """async (text) => {
              const { codeBlock } = await import("/page/code.js");
              const blocks = [text, "const a = 'b'; // c"].map((each) => codeBlock(each, "js", true).element);
              document.querySelector("main").append(...blocks);
              while (!blocks[1].querySelector(".is-str")) await new Promise((done) => setTimeout(done, 20));
              return [blocks[0].querySelector("code").textContent === text, blocks[1].textContent];
            }""",
            "a" * 40_000,
        )
        assert coloured[0]
        assert "const a = 'b'; // c" in coloured[1]


async def test_turns_are_edited_retried_and_sent_with_what_came_before(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        bodies: list[dict[str, Any]] = []
        page.on(
            "request",
            lambda request: (
                bodies.append(json.loads(request.post_data or "{}")) if request.url.endswith("/completions") else None
            ),
        )
        await ask(page, "first", "lost")
        await ended(page)
        await ask(page, "second")
        await ended(page)
        said = [(each["role"], each["content"]) for each in bodies[-1]["messages"]]
        assert said == [("user", "first"), ("assistant", "So it is"), ("user", "second")]
        await page.get_by_role("button", name="Retry").last.click()
        await ended(page)
        assert bodies[-1]["messages"] == bodies[-2]["messages"]
        assert bodies[-1]["partsong"]["cache"] is False
        await page.get_by_role("button", name="Edit").first.click()
        await expect(page.get_by_label("Your question")).to_have_value("first")
        await expect(page.locator(".turn")).to_have_count(2)  # nothing is removed before something new is there
        await ask(page, "first, again")
        await expect(page.locator(".turn")).to_have_count(1)
        await ended(page)
        assert [each["content"] for each in bodies[-1]["messages"]] == ["first, again"]
        await ask(page, "third")
        await ended(page)
        await page.reload()  # the conversation is in the run's record
        await expect(page.locator(".turn")).to_have_count(2)
        await expect(page.locator(".answer").first).to_have_text("So it is")
        await page.get_by_role("link", name="History").click()
        await expect(page.locator(".turn")).to_have_count(0)
        await page.get_by_role("link", name="Ask").click()
        await expect(page.locator(".turn")).to_have_count(2)
        await page.get_by_role("link", name="New conversation").last.click()
        await expect(page.locator(".turn")).to_have_count(0)


async def test_pictures_are_dropped_pasted_and_chosen(browser: Browser, server: tuple[str, Application]) -> None:
    picture: FilePayload = {
        "name": "dot.gif",
        "mimeType": "image/gif",
        "buffer": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    }
    give = """([kind, type]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array([1, 2, 3])], "dot", { type }));
      const both = { bubbles: true, cancelable: true };
      const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, ...both })
        : new DragEvent(kind, { dataTransfer: data, ...both });
      document.querySelector(".composer textarea").dispatchEvent(event);
    }"""
    async with visiting(browser, server[0]) as page:
        bodies: list[Any] = []
        page.on(
            "request",
            lambda request: bodies.append(request.post_data_json) if request.url.endswith("/completions") else None,
        )
        shown = page.locator(".pictures img")
        await page.locator("input[type=file]").set_input_files([picture])
        await expect(shown).to_have_count(1)
        await page.evaluate(give, ["paste", "image/png"])
        await expect(shown).to_have_count(2)
        await page.evaluate(give, ["drop", "image/webp"])
        await expect(shown).to_have_count(3)
        await page.evaluate(give, ["drop", "image/svg+xml"])
        await expect(page.locator(".composer .problem")).to_contain_text("must be PNG")
        await page.get_by_role("button", name="Remove picture 2").click()
        turn = await ask(page, "What is this?", "lost")
        await ended(page)
        *images, text = bodies[-1]["messages"][0]["content"]
        assert [each["image_url"]["url"].partition(";")[0] for each in images] == ["data:image/gif", "data:image/webp"]
        assert text == {"type": "text", "text": "What is this?"}
        await page.reload()
        await expect(turn.locator(".question img")).to_have_count(2)


async def test_documents_are_chosen_dropped_asked_about_and_kept_with_the_conversation(
    browser: Browser, server: tuple[str, Application]
) -> None:
    report: FilePayload = {
        "name": "report.pdf",
        "mimeType": "application/pdf",
        "buffer": pdfs.pdf("Revenue was 41 million."),
    }
    code: FilePayload = {"name": "sum.py", "mimeType": "", "buffer": b"print(1 + 1)"}
    secret: FilePayload = {"name": "secret.pdf", "mimeType": "application/pdf", "buffer": pdfs.encrypted()}
    drop = """() => {
      const data = new DataTransfer();
      data.items.add(new File(["a,b"], "table.csv", { type: "text/csv" }));
      const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.querySelector(".composer textarea").dispatchEvent(event);
    }"""
    async with visiting(browser, server[0]) as page:
        bodies: list[Any] = []
        page.on(
            "request",
            lambda request: bodies.append(request.post_data_json) if request.url.endswith("/completions") else None,
        )
        shown = page.locator(".pictures .file")
        await page.locator("input[type=file]").set_input_files([report, code])
        await expect(shown).to_have_count(2)
        await page.evaluate(drop)
        await expect(shown).to_have_text(["report.pdf✕", "sum.py✕", "table.csv✕"])
        await page.get_by_role("button", name="Remove table.csv").click()
        await expect(shown).to_have_count(2)
        turn = await ask(page, "What was the revenue?", "lost")
        await ended(page)
        first, second, text = bodies[-1]["messages"][0]["content"]
        assert [each["file"]["filename"] for each in (first, second)] == ["report.pdf", "sum.py"]
        assert first["file"]["file_data"].startswith("data:application/pdf;base64,")
        assert text == {"type": "text", "text": "What was the revenue?"}
        await page.reload()
        await expect(turn.locator(".question .file")).to_have_text(["report.pdf", "sum.py"])
        await ended(page)
        turn = await ask(page, "And the costs?", "lost")
        await ended(page)
        again = bodies[-1]["messages"][0]["content"]
        assert [each["file"]["filename"] for each in again[:2]] == ["report.pdf", "sum.py"]
        await page.locator("input[type=file]").set_input_files([secret])
        await ask(page, "What is in it?", "lost")
        await expect(page.locator(".turn").last).to_contain_text("secret.pdf: is encrypted")


async def test_the_answer_is_traced_to_its_proposals_and_cards_are_compared(
    browser: Browser, server: tuple[str, Application]
) -> None:
    async with visiting(browser, server[0]) as page:
        await page.evaluate(
            """async () => {
              const { originsOf } = await import("/page/origins.js");
              const { compareWords } = await import("/page/diff.js");
              const answer = "The sky is blue today. Nobody knows the reason for this.\\n\\n水は青い空を映す。";
              window.found = originsOf(answer, ["It says: the sky is blue today!", "空は青い。水は青い空を映す。"]);
              window.differ = compareWords("one two three five", "one three four five six");
            }"""
        )
        found = await page.evaluate("found")
        assert [(each["proposals"], round(each["share"], 1)) for each in found] == [([0], 1.0), ([], 0.0), ([1], 1.0)]
        pieces = await page.evaluate("differ")
        assert "".join(text for kind, text in pieces if kind != "right") == "one two three five"
        assert "".join(text for kind, text in pieces if kind != "left") == "one three four five six"
        assert [text.strip() for kind, text in pieces if kind == "left" and text.strip()] == ["two"]
        turn = await ask(page, "Is it so?", "lost")
        await ended(page)
        await unfold(page)
        await page.get_by_role("button", name="Open 1.1,").click()
        dialog = page.locator("dialog")
        await expect(dialog).to_contain_text("one and two")
        await page.get_by_label("Beside it").select_option("1.3")
        await page.get_by_label("Mark the differences").check()
        await expect(dialog.locator("del")).to_have_text("one and two")
        await expect(dialog.locator("ins")).to_have_text("four")
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="Where the answer comes from").click()
        await expect(turn.locator(".origins li")).to_have_text(["of its own So it is"])


async def test_a_server_with_keys_is_shown_one_that_is_kept_nowhere(browser: Browser, tmp_path: Path) -> None:
    keys = Keys(keys_path())
    secret = keys.add("reader")
    try:
        async with serving([recipe_file(tmp_path)]) as (url, _), visiting(browser, url) as page:
            field = page.get_by_role("textbox", name="Key")
            await field.fill("wrong")
            await field.press("Enter")
            await expect(page.locator("dialog .problem")).to_contain_text("unknown")
            await field.fill(secret)
            await field.press("Enter")
            turn = await ask(page, "Is it so?", "three")
            await ended(page)
            await expect(turn.locator(".answer")).to_have_text("So it is")
            kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
            assert secret not in await page.evaluate(kept)
    finally:
        keys.remove("reader")


async def test_it_folds_events_as_python_does(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        fold = """async (events) => {
          const { hear, newTranscript } = await import("/page/fold.js");
          const transcript = newTranscript();
          for (const event of events) hear(transcript, event);
          return transcript;
        }"""
        for case in CASES:
            assert await page.evaluate(fold, case["events"]) == case["folded"], case["name"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_can_be_used_by_everybody(
    browser: Browser, server: tuple[str, Application], scheme: str
) -> None:
    async with visiting(browser, server[0], color_scheme=scheme) as page:

        async def faults(place: str) -> list[str]:
            found = await Axe().run(page)
            return [
                f"{place}: {fault['id']}: {node['target']}"
                for fault in found.response["violations"]
                for node in fault["nodes"]
                if fault["impact"] in LEAST
            ]

        wrong = await faults("ask")
        await ask(page, "Is it so?", "score")
        await ended(page)
        await ask(page, "And now?", "fails")
        await ended(page)
        await page.get_by_role("button", name="Where the answer comes from").first.click()
        wrong += await faults("score")
        await unfold(page)
        await page.get_by_role("button", name="Open 1.1,").first.click()
        await page.get_by_label("Beside it").select_option("1.2")
        wrong += await faults("card")
        await page.keyboard.press("Escape")
        for view in ("Compare", "History", "Recipes", "Results"):
            await page.get_by_role("link", name=view).click()
            await expect(page.get_by_role("heading", name=view, exact=True)).to_be_visible()
            wrong += await faults(view)
        assert wrong == []


async def test_it_fits_a_phone(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0], viewport={"width": 360, "height": 740}) as page:
        await ask(page, "Why? " + "x" * 200, "score")
        await ended(page)
        await page.get_by_role("button", name="Where the answer comes from").click()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_the_switch_and_the_keyboard_reach_everything(browser: Browser, server: tuple[str, Application]) -> None:
    async with visiting(browser, server[0]) as page:
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = await page.evaluate(ground)
        switch = page.get_by_role("button", name="Theme")
        await switch.click()
        await switch.click()
        await expect(switch).to_have_text("Theme: dark")
        dark = await page.evaluate(ground)
        assert dark != light
        await page.reload()
        assert await page.evaluate(ground) == dark
        await expect(page.get_by_label("Your question")).to_be_focused()
        await page.keyboard.type("Is it so?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".turn")).to_have_count(1)
        await ended(page)
        for wanted in (
            "document.activeElement.tagName === 'SUMMARY'",
            "document.activeElement.className === 'card-open'",
        ):
            for _ in range(30):
                await page.keyboard.press("Shift+Tab" if "SUMMARY" in wanted else "Tab")
                if await page.evaluate(wanted):
                    break
            await page.keyboard.press("Enter")
        await expect(page.locator("dialog")).to_be_visible()


def page_files() -> list[Path]:
    return [path for path in PAGE.rglob("*") if path.is_file()]


async def test_all_files_together_are_small() -> None:
    assert sum(path.stat().st_size for path in page_files() if not path.name.startswith("temml")) < LARGEST


async def test_files_are_served_strictly_and_only_those(server: tuple[str, Application]) -> None:
    url = server[0]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for path in ("/", "/page/fold.js", "/page/vendor/speed-highlight.js"):
            async with session.get(url + path) as response:
                assert response.status == 200, path
                policy = response.headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
                assert "unsafe" not in policy
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["referrer-policy"] == "no-referrer"
                tag = response.headers["etag"]
            async with session.get(url + path, headers={"if-none-match": tag}) as response:
                assert response.status == 304
        async with session.get(f"{url}/page/vendor/temml.js", headers={"accept-encoding": "gzip"}) as response:
            assert response.headers["content-encoding"] == "gzip"
            packed = await response.read()
        async with session.get(f"{url}/page/vendor/temml.js", headers={"accept-encoding": "identity"}) as response:
            assert "content-encoding" not in response.headers
            assert len(await response.read()) > 2 * len(packed)
        for path in ("/page/nothing.js", "/page/..%2fassets.py", "/page/vendor", "/page/vendor/README.md", "/page/"):
            async with session.get(url + path) as response:
                assert response.status == 404, path


async def test_only_the_servers_own_page_may_ask(server: tuple[str, Application]) -> None:
    url = server[0]
    port = url.rpartition(":")[2]
    body = {"model": "lost", "messages": [{"role": "user", "content": "?"}]}
    cases = {
        (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"): 200,
        (f"localhost:{port}", f"http://localhost:{port}"): 200,
        (f"127.0.0.1:{port}", "http://127.0.0.1:1"): 403,
        (f"127.0.0.1:{port}", "https://example.org"): 403,
        (f"example.org:{port}", f"http://example.org:{port}"): 403,  # a stranger's name that means this machine
        (f"127.0.0.1:{port}", "null"): 403,
    }
    async with aiohttp.ClientSession() as session:
        for (host, origin), status in cases.items():
            headers = {"host": host, "origin": origin}
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
                assert response.status == status, (host, origin)
