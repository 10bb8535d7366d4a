"""Every word that a recipe or the configuration may hold does something: a word without its behaviour fails here.

mypy refuses a word without its case. These tests refuse a word whose file, row, documentation or effect is missing.
"""

import ast
import itertools
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest

import partsong
from partsong import Agent, Aggregator, Conversation, Layer, Recipe, asking, assemble
from partsong.briefing import Brief, Role, brief, prompt, system_of
from partsong.configuration import ApiName, HostedApi, Provider, StoreMode, is_hosted
from partsong.errors import InputError, RecipeError
from partsong.model import Sampling, Tool
from partsong.prompts import Mark, fence_word, fences
from partsong.providers.apis import api
from partsong.recipe import (
    Advice,
    Analyst,
    Fit,
    LastResort,
    Layout,
    Method,
    Otherwise,
    Same,
    Sees,
    needs_proposals,
    replace,
)
from partsong.store import open_store

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
QUESTION = asking("Why is the sky blue?")
TOOLS = Conversation(QUESTION.messages, tools=(Tool("look", "It looks.", b'{"type":"object"}'),))
ADVICE: tuple[Advice, ...] = (*get_args(get_args(Advice)[0]), 2)
ROLES: list[Role] = [word for part in get_args(Role) for word in get_args(part)]
TEXTS = ("One answer.", "Another\nover two lines.")


# Fields that `Agent.sampling` and `Agent.models` pass on to each request.
SEES: tuple[Sees, ...] = (*get_args(get_args(Sees)[0]), 1)
SAMPLING = {*Sampling.__struct_fields__, "fallback", "steps"}


def recipe(**fields: Any) -> Recipe:
    agents = Layer((Agent("scripted:a?text=One"), Agent("scripted:b?text=Two")))
    return Recipe(
        "r", (agents, agents), Aggregator("scripted:z?text=1", method=fields.pop("method", "synthesize")), **fields
    )


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("method", get_args(Method))
async def test_a_run_ends_with_an_answer_whatever_the_recipes_words(layout: Layout, method: Method) -> None:
    for fit, resort, advice in itertools.product(get_args(Fit), get_args(LastResort), ADVICE):
        made = recipe(layout=layout, method=method, fit=fit, last_resort=resort, advice=advice)
        async with assemble(made.models) as models:
            assert (await partsong.run(made, QUESTION, models)).text
            if method != "select":  # an aggregator that selects calls no tools
                assert (await partsong.run(made, TOOLS, models)).text


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("comments", [False, True])
async def test_a_run_ends_with_an_answer_whatever_its_layers_see(
    layout: Layout, method: Method, comments: bool
) -> None:
    for sees, fit in itertools.product(SEES, get_args(Fit)):
        proposing = recipe(layout=layout, method=method, fit=fit)
        if comments and (sees == "none" or layout == "paper"):
            with pytest.raises(InputError, match=r"comments|sees"):
                replace(proposing, layers=_second(proposing, sees, comments))
            continue
        made = replace(proposing, layers=_second(proposing, sees, comments))
        async with assemble(made.models) as models:
            assert (await partsong.run(made, QUESTION, models)).text in ("One", "1")


def _second(made: Recipe, sees: Sees, comments: bool) -> tuple[Layer, ...]:
    """The layers, and between them one that sees so much of the first, and may comment."""
    first, last = made.layers
    try:
        return (first, Layer(first.agents, sees=sees, comments=comments), last)
    except ValueError as problem:
        raise RecipeError(str(problem)) from None


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_told_all_proposals_in_order_in_every_layout(layout: Layout, role: Role) -> None:
    told = brief(recipe(layout=layout), QUESTION, role)
    messages = prompt(told, "You are a poet.", TEXTS)
    whole = "\n".join(message.text for message in messages)
    assert "You are a poet." in whole
    assert [whole.count(text) for text in TEXTS] == [1, 1]
    assert whole.index(TEXTS[0]) < whole.index(TEXTS[1])
    assert told.fences == fences(told.layout) == (fence_word(TEXTS) in whole)
    assert "{fence}" not in whole
    assert "{proposals}" not in whole
    assert prompt(told, "", ()) == QUESTION.messages


def test_every_file_of_instructions_is_told_to_somebody() -> None:
    listed = "LISTED"
    briefs: list[Brief] = [
        brief(recipe(layout=layout, advice=advice), conversation, role)
        for layout in get_args(Layout)
        for advice in ADVICE
        for conversation in (QUESTION, TOOLS)
        for role in ROLES
    ]
    marks = Mark(1), Mark(1, comment=True)
    told = "\n".join(
        message.text
        for each in briefs
        for message in prompt(each, "", TEXTS, calls=listed, marks=marks, analysis="NOTES", sources="1. a")
    )
    told += system_of(Agent("scripted:a", tools=("web",)))
    for file in (resources.files("partsong") / "instructions").iterdir():
        beginning = file.read_text(encoding="utf-8").partition("{")[0].partition("\n")[0]
        assert len(beginning) > 10
        # The engine tells the end of looking up: see test_look_up.py.
        assert beginning in told or file.name in ("calls.md", "look_up_end.md"), file.name


@pytest.mark.parametrize("method", get_args(Method))
def test_an_aggregator_that_needs_proposals_has_a_layer(method: Method) -> None:
    aggregator = Aggregator("scripted:z", method=method)
    if needs_proposals(aggregator):
        with pytest.raises(ValueError, match="without layers"):
            Recipe("r", (), aggregator)
    else:
        assert Recipe("r", (), aggregator).calls == 1


@pytest.mark.parametrize("name", get_args(ApiName))
def test_every_api_has_a_row_that_fits_its_kind(name: ApiName) -> None:
    row = api(name)
    assert (row.reachable is not None) == is_hosted(name) == (name in get_args(HostedApi))
    # What runs on this machine says itself what it costs. What a provider charges is looked up.
    assert (row.dollars("smollm2-135m") is None) == is_hosted(name)
    base_url = "http://127.0.0.1:1/v1" if is_hosted(name) else ""
    assert Provider(name, base_url).api == name
    if is_hosted(name):
        with pytest.raises(ValueError, match="must begin with http"):
            Provider(name)


@pytest.mark.parametrize("same", get_args(Same))
@pytest.mark.parametrize("otherwise", get_args(Otherwise))
async def test_a_vote_ends_with_an_answer_or_fails_as_it_says(otherwise: Otherwise, same: Same) -> None:
    for texts, wins in ((("One", "One"), True), (("One", "Two"), False)):
        layer = Layer(tuple(Agent(f"scripted:{name}?text={text}") for name, text in zip("ab", texts, strict=True)))
        made = Recipe("r", (layer,), Aggregator("scripted:z?text=2", method="vote", otherwise=otherwise), same=same)
        async with assemble(made.models) as models:
            if not wins and otherwise == "fail":
                with pytest.raises(partsong.RunError, match="no majority"):
                    await partsong.run(made, QUESTION, models)
                continue
            answer = (await partsong.run(made, QUESTION, models)).text
            assert answer == ("One" if wins else "Two" if otherwise == "select" else "2")


KEPT: dict[StoreMode, tuple[int, bool]] = {
    "off": (0, False),
    "metadata": (1, False),
    "full": (1, True),
}  # runs, and whether their words


@pytest.mark.parametrize("mode", get_args(StoreMode))
async def test_every_mode_of_the_store_keeps_what_it_says(mode: StoreMode, tmp_path: Path) -> None:
    made = partsong.single("scripted:a")
    async with open_store(tmp_path / "journal.db", mode) as store, assemble(made.models) as models:
        recorder = store.record()
        await partsong.perform(made, QUESTION, models, recorder.hear)
        await recorder.close()
        runs = await store.runs()
        words = False
        with suppress(InputError):  # a run without words has no events to give
            words = bool(runs and await store.events(runs[0].id))
    assert (len(runs), words) == KEPT[mode]


def test_every_field_of_a_recipe_has_an_effect() -> None:
    """A field that is only checked and never read changes no run: its rule is missing."""
    source = ROOT / "src" / "partsong"
    read = {
        node.attr
        for room in ("engine", "money", "briefing.py", "prompts.py", "cli", "recipe.py")
        for path in ([source / room] if room.endswith(".py") else (source / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        # What recipe.py checks when a value is made is no effect. Its properties pass fields on.
        and (room != "recipe.py" or node.attr in SAMPLING)
    }
    fields = [(kind, name) for kind in (Recipe, Layer, Agent, Analyst, Aggregator) for name in kind.__struct_fields__]
    assert [f"{kind.__name__}.{name}" for kind, name in fields if name not in read] == []


def test_every_word_is_in_the_docs() -> None:
    recipes, models = ((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("recipes", "models"))
    kinds = (Layout, Method, Otherwise, Same, Fit, LastResort)
    for words in (*(get_args(kind) for kind in kinds), SEES[:-1]):
        assert [word for word in words if f'"{word}"' not in recipes] == []
    everywhere = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert [word for word in ADVICE if isinstance(word, str) and f'"{word}"' not in everywhere] == []
    assert [name for name in get_args(ApiName) if f'"{name}"' not in models] == []
