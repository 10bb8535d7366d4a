"""A batch layer by layer answers as a batch question by question, and asks each model in turn."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.test_cli import code_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(count: int = 7) -> None:
    Path("q.jsonl").write_text("".join(f'"Question {number % 5}?"\n' for number in range(count)), encoding="utf-8")


def answer(monkeypatch: pytest.MonkeyPatch, out: str, *arguments: str, recipe: str = "r.toml") -> int:
    monkeypatch.setenv("PARTSONG_STATE", str(Path.cwd() / f"state-{out}"))
    return code_of("batch", "q.jsonl", "--out", out, "--recipe", recipe, *arguments)


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def calls(out: str) -> list[tuple[str, str]]:
    """The calls of a store in the order in which they ended: the model, and the request."""
    with closing(sqlite3.connect(f"state-{out}/journal.db")) as connection:
        rows = connection.execute("SELECT model, hex(key) FROM calls ORDER BY number")
        return [(model, key) for model, key in rows]


models = st.sampled_from(
    [
        "scripted:a?tokens=3&output=10",
        "scripted:b?tokens=4&fail=server&chance=0.4",
        "scripted:c?text=Yes",
        "scripted:d?fail=rate",
        "scripted:e?echo=1",
        "scripted:f?text=42&fail=content_filter&chance=0.3",
    ]
)


@st.composite
def agents(draw: st.DrawFn) -> str:
    model, more = draw(models), ""
    if (fallback := draw(st.none() | models)) not in (None, model):
        more += f', fallback = "{fallback}"'
    if draw(st.booleans()):
        more += f", samples = {draw(st.integers(2, 3))}"
    if draw(st.booleans()):
        more += ", temperature = 0"
    return f'{{ model = "{model}"{more} }}'


@st.composite
def recipes(draw: st.DrawFn) -> str:
    """A recipe in which no quorum, grace, deadline or agreement decides."""
    text = 'name = "r"\n'
    if draw(st.booleans()):
        text += 'last_resort = "best_proposal"\n'
    for _ in range(draw(st.integers(0, 3))):
        text += f"[[layers]]\nagents = [{', '.join(draw(st.lists(agents(), min_size=2, max_size=3)))}]\n"
        if draw(st.booleans()):
            text += "at_once = 1\n"
    if "[[layers]]" not in text:
        text = 'name = "r"\nlayers = []\n'
    text += f'[aggregator]\nmodel = "{draw(models)}"\n'
    if "[[layers]]" in text and draw(st.booleans()):
        text += 'method = "select"\n'
    if "[[layers]]" in text and draw(st.booleans()):
        text += f'[analyst]\nmodel = "{draw(models)}"\n'
    return text


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(recipes())
def test_layer_by_layer_is_question_by_question(folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    Path("r.toml").write_text(recipe, encoding="utf-8")
    ask()
    told = answer(monkeypatch, "one.jsonl")
    assert answer(monkeypatch, "two.jsonl", "--by", "layer") == told
    assert Path("two.jsonl").read_bytes() == Path("one.jsonl").read_bytes()
    assert Counter(calls("two.jsonl")) == Counter(calls("one.jsonl"))


RECIPE = """
name = "r"
[[layers]]
agents = ["scripted:a?tokens=3&output=1000", "scripted:b?tokens=3&output=1000"]
quorum = 1
grace = 0
[[layers]]
agents = ["scripted:a?tokens=3&output=1000", "scripted:c?tokens=3&output=1000"]
deadline = 0.001
[aggregator]
model = "scripted:z?tokens=3&output=1000"
"""


def test_each_model_is_asked_in_turn_and_all_seats_are_awaited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.toml").write_text(RECIPE, encoding="utf-8")
    ask()
    assert answer(monkeypatch, "a.jsonl", "--by", "layer") == 0
    asked = [model.partition("?")[0] for model, _ in calls("a.jsonl")]
    # Five different questions: the first layer's two models, the second layer's, and the aggregator.
    assert asked == [f"scripted:{name}" for name in "abacz" for _ in range(5)]
    assert all(line["losses"] == [] for line in lines("a.jsonl"))
    assert [path.name for path in folder.glob("a.jsonl*")] == ["a.jsonl"]


def test_without_a_store_the_batch_itself_keeps_the_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.toml").write_text(RECIPE, encoding="utf-8")
    Path("partsong.toml").write_text('store = "off"\n', encoding="utf-8")
    ask()
    assert answer(monkeypatch, "a.jsonl", "--by", "layer") == 0
    Path("partsong.toml").unlink()
    assert answer(monkeypatch, "b.jsonl", "--by", "layer") == 0
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()


def test_the_cap_holds_and_the_next_start_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("r.toml").write_text(RECIPE.replace("quorum = 1\ngrace = 0\n", "").replace("deadline = 0.001\n", ""))
    text = Path("r.toml").read_text()
    Path("partsong.toml").write_text("")
    for model in ("a", "b", "c"):
        text = text.replace(
            f'"scripted:{model}?tokens=3&output=1000"',
            f'{{ model = "scripted:{model}?tokens=3&output=1000", max_tokens = 5 }}',
        )
    Path("r.toml").write_text(text + "max_tokens = 5\n")
    ask()
    spent = Decimal(0)
    for cap in ("0.01", "0.03", "0.05"):
        assert answer(monkeypatch, "a.jsonl", "--by", "layer", "--max-dollars", cap) == 1
        assert "the next call could cost $0.005" in capfd.readouterr().err
        with closing(sqlite3.connect("state-a.jsonl/journal.db")) as connection:
            rows = connection.execute("SELECT dollars FROM calls").fetchall()
        paid = sum((Decimal(dollars) for (dollars,) in rows), Decimal(0))
        assert spent < paid <= Decimal(cap)
        spent = paid
    assert answer(monkeypatch, "a.jsonl", "--by", "layer", "--max-dollars", "1") == 0
    assert len(calls("a.jsonl")) == 25
    assert len(lines("a.jsonl")) == 7


def test_a_wrong_key_stops_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("r.toml").write_text(RECIPE.replace("scripted:b?tokens=3&output=1000", "scripted:b?fail=auth"))
    ask()
    assert answer(monkeypatch, "a.jsonl", "--by", "layer") == 1
    assert "no other call of scripted:b?fail=auth would fare better" in capfd.readouterr().err
    Path("r.toml").write_text(RECIPE)
    assert answer(monkeypatch, "b.jsonl", "--by", "layer") == 0
