"""`partsong cost`: what a question costs, before anybody is asked."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from partsong.call import Call
from partsong.cli.cost import usual_tokens
from partsong.cli.main import run
from partsong.engine import perform
from partsong.events import AnyEvent, RunFinished
from partsong.folders import store_path
from partsong.middleware.price import fixed
from partsong.model import Answer, Request, Text, Usage, asking
from partsong.model_info import ModelInfo
from partsong.money.planning import plan
from partsong.money.typical import TYPICAL, rows_of
from partsong.providers.scripted import Scripted
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.finding import find_recipe
from partsong.store import open_store
from tests.money.test_planning import known

TRIO = """
name = "trio"
[[layers]]
agents = [{ model = "scripted:a?input=1&output=4", samples = 2, max_tokens = 400 }, "scripted:b?input=2&output=8"]
[aggregator]
model = "scripted:c?input=2&output=8"
"""


@pytest.fixture
def trio(tmp_path: Path) -> str:
    (tmp_path / "trio.toml").write_text(TRIO)
    return str(tmp_path / "trio.toml")


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(("cost", *arguments)) == 0
    return capfd.readouterr().out


def test_the_layers_add_up(trio: str, capfd: pytest.CaptureFixture[str]) -> None:
    document = json.loads(told(capfd, trio, "--prompt-tokens", "500", "--json"))
    (layer,), last, everything = document["layers"], document["aggregator"], document["all"]
    assert (layer["calls"], last["calls"], everything["calls"]) == (3, 1, 4)
    for kind in ("typical", "most"):
        for field in ("input_tokens", "output_tokens", "dollars"):
            assert sum(Decimal(str(row[kind][field])) for row in (layer, last)) == Decimal(str(everything[kind][field]))
    assert layer["typical"]["output_tokens"] == 2 * 200 + TYPICAL
    assert layer["most"]["output_tokens"] == 2 * 400 + 4096
    assert Decimal(everything["typical"]["dollars"]) < Decimal(everything["most"]["dollars"]) / 2
    assert document["unknown_prices"] == []
    assert told(capfd, trio) == told(capfd, trio, "--prompt-tokens", "500")  # the default
    table = told(capfd, trio, "--prompt-tokens", "500").splitlines()
    assert [line.split()[0] for line in table[1:]] == ["layer", "aggregator", "all"]
    assert table[-1].split()[-1] in {f"{Decimal(everything['most']['dollars']):f}"}


def test_at_most_is_what_a_budget_reserves() -> None:
    recipe = Recipe("r", (Layer((Agent("x:a", 3, max_tokens=9),)),), Aggregator("x:b", fallback=("x:c",)))
    info = {name: ModelInfo(dollars=fixed(Decimal(1), Decimal(price))) for price, name in enumerate(recipe.models)}
    digits = "1" * 800
    rows = rows_of(recipe, len(digits), info, {})
    models = known(recipe, a=info["x:a"], b=info["x:b"], c=info["x:c"])
    assert sum(row.most.dollars or 0 for row in rows) == plan(recipe, asking(digits), models, {}).worst[""] > 0


async def test_a_run_costs_no_more_than_at_most(trio: str) -> None:
    recipe = find_recipe(trio)
    models = {name: Scripted(name.removeprefix("scripted:")) for name in recipe.models}
    events: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        events.append(event)

    await perform(recipe, asking("1" * 300), models, hear)
    end = events[-1]
    assert isinstance(end, RunFinished)
    prices = {name: ModelInfo(dollars=fixed(model.script.input, model.script.output)) for name, model in models.items()}
    rows = rows_of(recipe, 300, prices, {})
    assert (end.usage.dollars or 0) <= sum(row.most.dollars or 0 for row in rows)
    assert end.usage.input_tokens <= sum(row.most.input_tokens for row in rows)


def test_what_is_remembered_of_a_model_is_what_it_typically_writes() -> None:
    recipe = Recipe("r", (), Aggregator("x:a", max_tokens=1000))
    known = {"x:a": ModelInfo(dollars=fixed(Decimal(0), Decimal(1000)))}
    assert [rows_of(recipe, 5, known, usual)[0].typical.dollars for usual in ({}, {"x:a": 70}, {"x:a": 9000})] == [
        Decimal("0.5"),
        Decimal("0.07"),
        1,
    ]


async def test_the_store_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path))
    assert await usual_tokens(["x:a"]) == {}
    assert not store_path().exists()  # nothing is made by reading
    answer = Answer((Text("It is so."),), usage=Usage(10, 33))
    async with open_store(store_path()) as store:
        await store.keep_call(Call(b"key", "x:a", Request(asking("Why?").messages), answer, 1.0, 2.0, None))
    assert await usual_tokens(["x:a", "x:b"]) == {"x:a": 33}


def test_an_unknown_price_is_shown_with_the_lines_that_give_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, config = tmp_path / "lab.toml", tmp_path / "partsong.toml"
    recipe.write_text('name = "lab"\n[[layers]]\nagents = ["lab:x"]\n[aggregator]\nmodel = "scripted:c?output=5"\n')
    provider = '[providers.lab]\napi = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nkey_env = "NO_SUCH_KEY"\n'
    config.write_text(provider)
    asked = (str(recipe), "--prompt-tokens", "100", "--config", str(config))
    document = json.loads(told(capfd, *asked, "--json"))
    assert document["unknown_prices"] == ["lab:x"]
    assert document["layers"][0]["most"]["dollars"] is document["all"]["typical"]["dollars"] is None
    assert document["aggregator"]["most"]["dollars"] is not None
    lines = told(capfd, *asked)
    assert lines.count("unknown") == 5
    config.write_text(provider + lines.partition("tokens cost:")[2].replace("…", "2"))
    assert "unknown" not in told(capfd, *asked)


@pytest.mark.parametrize("tokens", ["0", "-5", "100000001"])
def test_a_question_of_no_size_is_refused(trio: str, tokens: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(("cost", trio, "--prompt-tokens", tokens)) == 2
    assert "prompt" in capfd.readouterr().err


def test_a_cap_that_pays_for_no_proposal_refuses_a_recipe_that_selects(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rank.toml").write_text(TRIO.replace("[aggregator]", '[aggregator]\nmethod = "select"'))
    assert run(("ask", "--recipe", str(tmp_path / "rank.toml"), "--max-dollars", "0.02", "Why?")) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "trio: its aggregator selects one of the proposals; with 2 of them the run may cost 0." in said
    assert "but 0.02 are allowed; the whole recipe may cost 0." in said


CASCADE = """
name = "cascade"
[[layers]]
agents = ["scripted:a?text=5&output=1000", "scripted:b?text=5&output=1000", "scripted:c?text=5&output=1000"]
agree = 2
at_once = 1
[[layers]]
agents = ["scripted:d?text=6&output=1000", "scripted:e?text=6&output=1000"]
[aggregator]
model = "scripted:z?text=7&output=1000"
"""


def test_the_typical_cost_follows_from_how_often_runs_agreed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text(CASCADE)
    asked = (str(path), "--prompt-tokens", "100", "--json")
    before = json.loads(told(capfd, *asked))
    for question in ("Why?", "How?"):
        assert run(("ask", "--recipe", str(path), question)) == 0
    capfd.readouterr()
    after = json.loads(told(capfd, *asked))
    assert [row["most"] for row in (*after["layers"], after["aggregator"])] == [
        row["most"] for row in (*before["layers"], before["aggregator"])
    ]
    typical = [row["typical"]["input_tokens"] for row in (*after["layers"], after["aggregator"])]
    assert typical == [pytest.approx(before["layers"][0]["typical"]["input_tokens"] * 2 / 3, abs=2), 0, 0]
    # Runs of another recipe with this name say nothing.
    path.write_text(CASCADE.replace("agree = 2", "agree = 3"))
    changed = json.loads(told(capfd, *asked))
    assert changed["aggregator"]["typical"]["input_tokens"] == before["aggregator"]["typical"]["input_tokens"]
