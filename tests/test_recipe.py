"""Recipes: what may be written, and that everything else is refused with file, field and what would be right."""

import datetime
import re
import tomllib
from pathlib import Path

import pytest

from partsong import Agent, Aggregator, Layer, Recipe, RecipeError, find_recipe, single
from partsong.recipe import replace
from partsong.recipes.reading import overridden, read, tables_in

WHOLE = """
name = "whole"
about = "All that can be said"
date = 2026-11-23
layout = "paper"
instruction = "Weigh:"
deadline = 60.0
seed = 3
[[layers]]
quorum = 2
grace = 5
deadline = 30
agents = [
    "scripted:a",
    { model = "scripted:b", samples = 2, temperature = 0.7, top_p = 0.9, max_tokens = 64, seed = 1, stop = ["END"], \
      system = "You are a poet." },
]
[aggregator]
model = "scripted:z"
temperature = 0
method = "synthesize"
"""
SMALL = 'name = "s"\naggregator = "scripted:z"\n[[layers]]\nagents = ["scripted:a"]\n'


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, WHOLE))
    poet = Agent("scripted:b", 2, 0.7, 0.9, 64, 1, ("END",), "You are a poet.")
    assert recipe == Recipe(
        "whole",
        (Layer((Agent("scripted:a"), poet), quorum=2, grace=5.0, deadline=30.0),),
        Aggregator("scripted:z", temperature=0.0),
        about="All that can be said",
        date=datetime.date(2026, 11, 23),
        layout="paper",
        instruction="Weigh:",
        deadline=60.0,
        seed=3,
    )
    assert recipe.layers[0].seats == (Agent("scripted:a"), poet, poet)
    assert recipe.calls == 4
    assert recipe.models == ("scripted:a", "scripted:b", "scripted:z")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"\nlayers = 3', "layers: expected `array`, got `int`"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", temprature = 1 }'), "layers[0].agents[0].temprature"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", temprature = 1 }'), 'did you mean "temperature"?'),
        (SMALL + "qorum = 1", "layers[0].qorum: there is no such field; known here: agents, quorum, grace, deadline"),
        ("colour = 1\n" + SMALL, "colour: there is no such field; known here: name, layers, aggregator"),
        (SMALL.replace('["scripted:a"]', "[]"), "agents is empty"),
        ('name = "s"\nlayers = []', "aggregator: is missing"),
        ('name = "s"\nlayers = []\naggregator = { model = "scripted:z", method = "select" }', "nothing to select from"),
        ('name = "s"\nlayers = []\naggregator = { model = "scripted:z", method = "vote" }', "nothing to vote on"),
        ('name = "s"\naggregator = "scripted:z"', "layers: is missing"),
        (SMALL.replace('aggregator = "scripted:z"\n', ""), "aggregator: is missing"),
        (SMALL.replace('name = "s"', 'name = ""'), "name is empty"),
        (SMALL.replace('"scripted:a"', '"gpt-4o"'), 'layers[0].agents[0]: model is "gpt-4o"'),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", samples = -1 }'), "samples is -1"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", samples = 0 }'), "samples is 0"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", samples = 100000 }'), "samples is 100000"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", temperature = 3 }'), "temperature is 3"),
        (SMALL.replace('"scripted:a"', '{ model = "scripted:a", max_tokens = 0 }'), "max_tokens is 0"),
        (SMALL.replace('"scripted:z"', '{ model = "scripted:z", samples = 2 }'), "the aggregator answers once"),
        (
            SMALL.replace('"scripted:z"', '{ model = "scripted:z", method = "duel" }'),
            'aggregator.method: is "duel", but must be one of: select, synthesize',
        ),
        (SMALL + "quorum = 2", "quorum is 2, but must be from 1 to the layer's 1 seats"),
        (SMALL + "grace = 2", "grace is given without a quorum"),
        (SMALL + "deadline = 0", "deadline is 0"),
        ("deadline = nan\n" + SMALL, "deadline is nan"),
        ('layout = "tial"\n' + SMALL, 'layout: is "tial", but must be one of: paper, tail; did you mean "tail"?'),
        ('instruction = ""\n' + SMALL, "instruction is empty"),
        ('instruction = "x"\ninstruction_file = "y"\n' + SMALL, "not both"),
        ('instruction_file = "nowhere.md"\n' + SMALL, "nowhere.md cannot be read"),
        ("instruction_file = 3\n" + SMALL, "must be the name of a text file"),
        (SMALL + 'instruction = "x"\ninstruction_file = "y"\n', "layers[0].instruction: give either"),
        (SMALL + 'instruction_file = "nowhere.md"\n', "layers[0].instruction_file: "),
        (
            SMALL.replace('"scripted:a"', '{ model = "scripted:a", instruction_file = 3 }'),
            "agents[0].instruction_file: must",
        ),
        (
            SMALL.replace('"scripted:z"', '{ model = "scripted:z", instruction_file = "\\u0000" }'),
            "aggregator.instruction_file",
        ),
        (SMALL + "sees = 2", "layers[0].sees is given, but the first layer has no proposals to see"),
        (
            SMALL + "[[layers]]\nagents = ['scripted:a']\nsees = 'some'",
            'sees: is "some", but must be one of: all, none, split',
        ),
        ("include = 3\n", "include: must be the name"),
        ('include = "moa-light"\n', 'did you mean "moa-lite"?'),
        ('include = "gone.toml"\n', "gone.toml: there is no such file"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        read(path)
    assert str(tmp_path) in str(caught.value)
    assert said in str(caught.value)


def test_a_recipe_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8"):
        read(tmp_path / "bytes.toml")
    with pytest.raises(RecipeError, match="no such file"):
        read(tmp_path / "gone.toml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read(tmp_path)


def test_a_recipe_may_include_another_and_change_it(tmp_path: Path) -> None:
    written(tmp_path, "Weigh:\n", "how.md")
    written(tmp_path, 'instruction_file = "how.md"\n' + SMALL, "base.toml")
    (tmp_path / "sub").mkdir()
    path = written(tmp_path / "sub", 'include = "../base.toml"\nname = "mine"\naggregator = "scripted:other"\n')
    recipe = read(path)
    assert (recipe.name, recipe.aggregator.model, recipe.layers) == (
        "mine",
        "scripted:other",
        (Layer((Agent("scripted:a"),)),),
    )
    assert recipe.instruction == "Weigh:"
    again = written(tmp_path / "sub", 'include = "../base.toml"\ninstruction = "Mine:"\n', "b.toml")
    assert read(again).instruction == "Mine:"
    assert read(written(tmp_path, 'include = "moa-lite"\nname = "n"\n', "c.toml")).calls == 7


def test_layers_agents_and_the_aggregator_have_instruction_files_beside_their_recipe(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("layer", "agent", "aggregator"):
        written(tmp_path, f"The {name}'s.\n", f"{name}.md")
    tables = """
name = "s"
[[layers]]
agents = ["scripted:a"]
[[layers]]
agents = [{ model = "scripted:b", instruction_file = "agent.md" }, "scripted:c"]
instruction_file = "layer.md"
[aggregator]
model = "scripted:z"
instruction_file = "aggregator.md"
"""
    written(tmp_path, tables, "base.toml")
    for path in (tmp_path / "base.toml", written(tmp_path / "sub", 'include = "../base.toml"\n', "mine.toml")):
        recipe = read(path)
        assert recipe.layers[1].instruction == "The layer's."
        assert [agent.instruction for agent in recipe.layers[1].agents] == ["The agent's.", None]
        assert recipe.aggregator.instruction == "The aggregator's."


@pytest.mark.parametrize("place", ["", "layers[1].", "layers[1].agents[0].", "aggregator."])
def test_a_client_may_not_name_instruction_files(place: str) -> None:
    named = {place: 'instruction_file = "/etc/passwd"'}
    text = f"""
name = "s"
{named.get("", "")}
[[layers]]
agents = ["scripted:a"]
[[layers]]
agents = [{{ model = "scripted:b" {named.get("layers[1].agents[0].", "").replace("inst", ", inst")} }}]
{named.get("layers[1].", "")}
[aggregator]
model = "scripted:z"
{named.get("aggregator.", "")}
"""
    with pytest.raises(RecipeError, match=re.escape(f"{place}instruction_file: no file is read")):
        tables_in(text)
    with pytest.raises(RecipeError, match=re.escape(f"{place}instruction_file: no file is read")):
        overridden(single("scripted:a"), {key: value for key, value in tomllib.loads(text).items() if key != "name"})


def test_a_circle_of_includes_is_refused(tmp_path: Path) -> None:
    written(tmp_path, 'include = "b.toml"\n', "a.toml")
    written(tmp_path, 'include = "a.toml"\n', "b.toml")
    with pytest.raises(RecipeError, match=r"circle: a\.toml → b\.toml → a\.toml"):
        read(tmp_path / "a.toml")


def test_recipes_are_found_by_name_or_file(tmp_path: Path) -> None:
    assert find_recipe("moa").calls == 13
    assert find_recipe(str(written(tmp_path, SMALL))).name == "s"
    with pytest.raises(RecipeError, match=r'no recipe "mao"; known: .*did you mean "moa"'):
        find_recipe("mao")


def test_a_recipe_in_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(ValueError, match="samples"):
        Agent("scripted:a", samples=0)
    with pytest.raises(RecipeError, match="provider:model"):
        single("gpt-4o")
    with pytest.raises(RecipeError, match="deadline is -1"):
        replace(single("scripted:a"), deadline=-1)
    assert single("scripted:a").calls == 1
