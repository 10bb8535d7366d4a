"""Templates: what `partsong recipes --template` prints is a recipe of the method, with the user's models."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong import Agent, Layer, Recipe, asking, assemble, find_recipe
from partsong import run as perform
from partsong.cli.main import run
from partsong.errors import RecipeError
from partsong.recipe import Method
from partsong.recipes.templates import TEMPLATES, from_template

DOCS = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
WORDS = {
    "vote": "vote" in get_args(Method),
    "agree": "agree" in Layer.__struct_fields__,
    "analyst": "analyst" in Recipe.__struct_fields__,
}  # words of recipes that other templates need
NEEDS = {"vote": "vote", "vote-else-synthesize": "vote", "cascade": "agree", "fusion": "analyst"}
READY = [name for name in TEMPLATES if WORDS.get(NEEDS.get(name, ""), True)]
COUNTS = {1: [1, 2, 3, 9], 2: [2, 3, 9]}


def counts(name: str) -> list[int]:
    template = TEMPLATES[name]
    return [1] if template.most == 1 else COUNTS[template.least]


def models(count: int) -> list[str]:
    return [f"scripted:m{number}?text={number + 1}" for number in range(count)]


CASES = [(name, count) for name in READY for count in counts(name)]


@pytest.mark.parametrize(("name", "count"), CASES)
async def test_a_template_is_a_recipe_that_runs(name: str, count: int, tmp_path: Path) -> None:
    text = from_template(name, models(count))
    assert text.startswith("# ")
    assert text.endswith("\n")
    (tmp_path / "made.toml").write_text(text, encoding="utf-8")
    made = find_recipe(str(tmp_path / "made.toml"))
    assert made.name == f"my-{name}"
    assert {*made.models} == {*models(count)}
    assert f"At most {made.calls} call" in text
    async with assemble(made.models) as known:
        transcript = await perform(made, asking("Which?"), known)
    assert transcript.text
    assert len(transcript.calls) <= made.calls


def shape(name: str, count: int) -> list[int]:
    made = tomllib.loads(from_template(name, models(count)))
    return [sum(agent.get("samples", 1) for agent in layer["agents"]) for layer in made["layers"]]


def test_each_method_is_what_it_says() -> None:
    assert shape("moa", 3) == [3, 3]
    assert shape("moa-lite", 3) == [3]
    assert shape("self-moa", 1) == [6]
    assert [shape("tree", count) for count in (1, 2, 3)] == [[8, 4, 2], [8, 4, 2], [9, 4, 2]]
    assert [shape("rsa", count) for count in (1, 3)] == [[8] * 3, [9] * 3]
    read = tomllib.loads(from_template("rsa", models(1)))
    assert [layer.get("sees") for layer in read["layers"]] == [None, 3, 3]
    read = tomllib.loads(from_template("tree", models(2)))
    assert [layer.get("sees") for layer in read["layers"]] == [None, "split", "split"]
    read = tomllib.loads(from_template("critique", models(2)))
    assert [layer.get("comments") for layer in read["layers"]] == [None, True]
    assert tomllib.loads(from_template("select", models(2)))["aggregator"]["method"] == "select"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_wrong_number_of_models_is_told(name: str) -> None:
    template = TEMPLATES[name]
    with pytest.raises(RecipeError, match=f"the template {name} takes {template.count}, but 0 are named"):
        from_template(name, [])
    if template.most is not None:
        with pytest.raises(RecipeError, match="takes exactly 1 model, but 2 are named"):
            from_template(name, models(2))


def test_an_unknown_template_and_a_wrong_id_are_told() -> None:
    with pytest.raises(RecipeError, match=r'no template "rsas"; known: moa, .*select; did you mean "rsa"'):
        from_template("rsas", models(1))
    with pytest.raises(RecipeError, match=r'agents\[1\]: model is "gpt"'):
        from_template("moa", ["a:b", "gpt"])
    with pytest.raises(RecipeError, match='model is ""'):
        from_template("moa", ["a:b", ""])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_a_model_is_written_as_toml(name: str) -> None:
    try:
        Agent(f"lab:{name}")
    except ValueError:
        with pytest.raises(RecipeError, match="model"):
            from_template("self-moa", [f"lab:{name}"])
        return
    assert tomllib.loads(from_template("self-moa", [f"lab:{name}"]))["aggregator"]["model"] == f"lab:{name}"


def test_the_command_prints_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("recipes", "--template", "moa-lite", "--models", "a:b, c:d")) == 0
    assert capsys.readouterr().out == from_template("moa-lite", ["a:b", "c:d"])
    for arguments, message in [
        (["--template", "moa"], "at least 2 models, but 0 are named"),
        (["--template", "moaa", "--models", "a:b"], 'no template "moaa"'),
        (["--models", "a:b"], "--models needs --template"),
        (["local", "--template", "moa", "--models", "a:b,c:d"], "cannot be printed too"),
    ]:
        assert run(("recipes", *arguments)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_has_its_place_in_the_docs(name: str) -> None:
    assert re.search(rf"^\| \[`{name}`\]\(#", DOCS, re.M)
    assert re.search(rf"^## .*`{name}`", DOCS, re.M)
    source = TEMPLATES[name].source
    assert source in DOCS or source == "no paper"
