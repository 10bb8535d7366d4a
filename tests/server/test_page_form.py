"""The form of recipes in a real browser: every word of a recipe is kept, shown and edited."""

import datetime
import itertools
import random
import tomllib
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from partsong.recipe import Agent, Aggregator, Analyst, Layer, Recipe
from partsong.server.pages.faults import read_recipe
from partsong.server.pages.recipes import drawn
from tests.browsing import browsing, visiting
from tests.server.test_page_views import usable_by_everybody
from tests.serving import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = ' Say "so",\nand \\ then """quote""" it.\n\n\tTwo tabs\t'
RAW = 'CR\rLF\r\nDEL\x7f BEL\x07 "'  # a browser changes line ends in a text that the reader edits
AGENT: dict[str, tuple[Any, ...]] = {
    "samples": (3,),
    "temperature": (0.5, 1e-7),
    "top_p": (0.9,),
    "max_tokens": (77, 2**60),
    "seed": (7, 2**63 - 1),
    "stop": (("\n\n", '"""', "ä\r"),),
    "system": (LONG, RAW),
    "fallback": (("scripted:y?text=one,+two",), ("scripted:x", "scripted:w")),
    "effort": ("high",),
    "instruction": (LONG, RAW),
}
AGGREGATOR: dict[str, tuple[Any, ...]] = {
    "method": ("select", "vote"),
    "majority": (0.0, 0.25),
    "otherwise": ("select", "fail"),
    **{name: values for name, values in AGENT.items() if name != "samples"},
}
LAYER: dict[str, tuple[Any, ...]] = {
    "quorum": (1,),
    "grace": (2.5,),
    "deadline": (30.0,),
    "agree": (2,),
    "at_once": (2, 2**60),
    "sees": ("none", "split", 3),
    "comments": (True,),
    "instruction": (LONG, RAW),
}
RECIPE: dict[str, tuple[Any, ...]] = {
    "about": ('A "recipe"\nin two lines',),
    "date": (datetime.date(2026, 11, 3),),
    "layout": ("paper",),
    "instruction": (LONG, RAW),
    "deadline": (120.0, 1e21),
    "reserve": (0.0,),
    "max_dollars": (Decimal("0.25"), Decimal("1E-7")),
    "strict": (True,),
    "fit": ("window", "fail"),
    "last_resort": ("best_proposal",),
    "seed": (7, 2**63 - 1),
    "advice": ("calls", 3),
    "same": ("text",),
    "analyst": (
        Analyst("scripted:q"),
        Analyst("scripted:q", temperature=0.5, seed=2**60, stop=("\n",), fallback=("scripted:r",), instruction=LONG),
    ),
}
# What no request may say, so that no form may either: only files of the operator name servers and their fields.
NEVER_SENT = {"tools", "steps", "extra"}
PASS = """
async ([texts, edited]) => {
  const { RecipeForm } = await import("/page/recipe-form.js");
  const { tomlOf } = await import("/page/recipe-toml.js");
  return texts.map((text) => {
    const form = new RecipeForm(() => {});
    form.show(JSON.parse(text));
    if (edited) for (const { input } of form.inputs.values()) input.dispatchEvent(new Event("input"));
    return [tomlOf(form.value), [...form.inputs.keys()]];
  });
}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "plain.toml"
    path.write_text('name = "plain"\nlayers = []\naggregator = "scripted:z?text=So"\n')
    async with serving([str(path)]) as (url, _), visiting(browser, url, "/#/recipes/+") as opened:
        yield opened


def recipe_with(agent: Any, aggregator: Any, layer: Any, recipe: Any) -> Recipe | None:
    """A recipe of two layers in which these words are set; `None` if they do not go together."""
    model: dict[str, Any] = (
        {} if aggregator.get("otherwise") == "fail" and aggregator.get("method") == "vote" else {"model": "s:z"}
    )
    try:
        first = Layer((Agent("scripted:a", samples=2), Agent("scripted:b")))
        second = Layer((Agent("scripted:c", **agent), Agent("scripted:d"), Agent("scripted:e")), **layer)
        return Recipe("mine", (first, second), Aggregator(**model, **aggregator), **recipe)
    except ValueError:
        return None


def recipes_with_each_word() -> Iterator[Recipe]:
    """A recipe for each value of each word, and many in which several words are set."""
    tables = (AGENT, AGGREGATOR, LAYER, RECIPE)
    kinds = zip(
        tables, (Agent, Aggregator, Layer, Recipe), ({"model"}, {"model", "samples"}, {"agents"}, set()), strict=True
    )
    for table, kind, given in kinds:  # a new word is refused here until it has a value
        assert {*table} == {*kind.__struct_fields__} - given - {"name", "layers", "aggregator"} - NEVER_SENT
    yield Recipe("alone", (), Aggregator("scripted:z", temperature=0.5))
    seen: set[str] = set()
    draw = random.Random(1)
    for index, table in enumerate(tables):
        for name, values in table.items():
            for value in values:
                words: list[dict[str, Any]] = [{}, {}, {}, {}]
                words[index][name] = value
                words[2] |= {"quorum": 1} if name == "grace" else {}
                recipe = recipe_with(*words)
                assert recipe is not None, name
                yield recipe
    while len(seen) < 150:
        some = [{name: draw.choice(each[name]) for name in each if draw.random() < 0.3} for each in tables]
        if (found := recipe_with(*some)) is not None and repr(found) not in seen:
            seen.add(repr(found))
            yield found


def has_raw(recipe: Recipe) -> bool:
    layers = (text for layer in recipe.layers for text in (layer.instruction, *_texts(layer.agents)))
    return RAW in (recipe.instruction, *layers, *_texts((recipe.aggregator,)))


def _texts(agents: tuple[Agent, ...]) -> Iterator[str | None]:
    return itertools.chain.from_iterable((agent.system, agent.instruction) for agent in agents)


async def through(page: Page, values: list[dict[str, Any]], edited: bool) -> list[tuple[str, list[str]]]:
    """The TOML that the form makes of drawn recipes, and the paths of its fields.

    edited: whether each field tells its value as if the reader had typed it
    """
    texts = [msgspec.json.encode(value).decode() for value in values]
    found = await page.evaluate(PASS, [texts, edited])
    return [(text, paths) for text, paths in found]


@pytest.mark.parametrize("edited", [False, True])
async def test_no_word_of_a_recipe_is_lost_in_the_form(page: Page, edited: bool) -> None:
    recipes = [each for each in recipes_with_each_word() if not (edited and has_raw(each))]
    values = [{"name": each.name, "about": each.about, "drawn": drawn(each)} for each in recipes]
    shown = await through(page, values, edited)
    for recipe, (text, _) in zip(recipes, shown, strict=True):
        again, faults = read_recipe(text)
        assert faults == [], text
        assert again == recipe, text


async def test_words_without_a_field_are_kept_tables_too(page: Page) -> None:
    analyst = {"model": "scripted:q", "none": {}, "deep": {"list": [1, "two"], "text": LONG}}
    value = {"name": "x", "drawn": {"layers": [], "aggregator": {"model": "s:z", "new": [1.5]}, "layer_settings": []}}
    value["drawn"]["settings"] = {"analyst": analyst, "whole": True}  # type: ignore[index]
    ((text, _),) = await through(page, [value], True)
    assert tomllib.loads(text) == {
        "name": "x",
        "layers": [],
        "analyst": analyst,
        "whole": True,
        "aggregator": {"model": "s:z", "new": [1.5]},
    }


async def test_every_word_has_a_field(page: Page) -> None:
    recipe = Recipe("x", (Layer((Agent("s:a"),)),), Aggregator("s:z"))
    ((_, paths),) = await through(page, [{"name": "x", "drawn": drawn(recipe)}], False)
    words = {
        "": {*Recipe.__struct_fields__} - {"layers", "aggregator", "analyst"},
        "analyst.": {*Analyst.__struct_fields__} - {"samples"},
        "layers.0.": {*Layer.__struct_fields__} - {"agents"},
        "layers.0.agents.0.": {*Agent.__struct_fields__},
        "aggregator.": {*Aggregator.__struct_fields__} - {"samples"},
    }
    assert {*paths} == {start + name for start, names in words.items() for name in names - NEVER_SENT}


async def test_a_vote_is_written_in_the_form(page: Page) -> None:
    text = page.locator("textarea.toml")
    await page.get_by_label("Layer 1, agent 1: Model").fill("scripted:a?text=4")
    await page.get_by_label("Layer 1, agent 1: Samples").fill("5")
    await page.get_by_label("Layer 1: Agree").fill("3")
    await page.get_by_label("Layer 1: At once").fill("2")
    await page.get_by_label("Aggregator: Model").fill("scripted:z")
    await expect(page.get_by_label("Aggregator: Majority")).to_be_hidden()
    method = page.get_by_label("Method")
    await method.focus()
    await method.press("v")  # by the keyboard, which stays where it is
    await expect(method).to_be_focused()
    await page.get_by_label("Aggregator: Majority").fill("0.25")
    await page.get_by_label("Aggregator: Otherwise").select_option("select")
    await page.get_by_text("Recipe: More settings").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Recipe: Same").select_option("text")
    await page.get_by_label("Add a layer").or_(page.get_by_role("button", name="Add a layer")).click()
    await page.get_by_label("Layer 2: Sees").fill("2")
    await page.get_by_label("Layer 2: Comments").check()
    await page.get_by_text("Layer 2: More settings").click()
    await page.get_by_label("Layer 2: Instruction").fill("Find faults.\nBe brief.")
    await page.get_by_text("Layer 2, agent 1: More settings").click()
    await page.get_by_label("Layer 2, agent 1: Instruction").fill("Doubt.")
    await usable_by_everybody(page)
    found = tomllib.loads(await text.input_value())
    first, second = found["layers"]
    assert (first["agree"], first["at_once"], found["same"]) == (3, 2, "text")
    assert (second["sees"], second["comments"], second["instruction"]) == (2, True, "Find faults.\nBe brief.")
    assert second["agents"][0]["instruction"] == "Doubt."
    assert found["aggregator"] == {
        "model": "scripted:z",
        "method": "vote",
        "majority": 0.25,
        "otherwise": "select",
    }
    await page.get_by_label("Layer 1: Agree").fill("9")  # a fault is said at its field
    await expect(page.get_by_label("Layer 1: Agree")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Layer 1: Agree").fill("")
    await page.get_by_label("Analyst: Model").fill("scripted:q")
    assert tomllib.loads(await text.input_value())["analyst"] == {"model": "scripted:q"}
    await page.get_by_label("Analyst: Model").fill("")
    assert "analyst" not in await text.input_value()
    assert "agree" not in await text.input_value()
