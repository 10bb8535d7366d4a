"""The questions with a planted contradiction, and how `benchmarks/analyst.py` counts what a model finds in them."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from partsong import Answer, Model, Request, Send, Text, Usage
from partsong.engine.quotes import Source

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "analyst.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_analysts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_forty_questions_have_a_contradiction_and_twenty_have_none(script: ModuleType) -> None:
    questions = script.questions()
    planted = [each for each in questions if each["planted"]]
    assert (len(planted), len(questions)) == (40, 60)
    assert len({each["id"] for each in questions}) == 60
    for each in questions:
        assert 2 <= len(each["proposals"]) <= 3
        assert len(set(each["proposals"])) == len(each["proposals"])
    for each in planted:
        first, second = each["planted"]
        assert first["proposal"] != second["proposal"]
        for place in each["planted"]:  # whoever quotes these words is heard
            assert Source(each["proposals"][place["proposal"] - 1]).find(place["words"]) is not None
    half = questions[:30]
    assert sum(each["planted"] is None for each in half) == 10


def says(found: Any) -> Model:
    async def model(request: Request, send: Send | None) -> Answer:
        return Answer((Text(json.dumps(found)),), usage=Usage(1, 1))

    return model


async def test_what_is_found_missed_and_invented_is_counted(script: ModuleType, tmp_path: Path) -> None:
    rows = []
    for question in script.questions():
        planted = question["planted"] or ()
        whole = [{"proposal": number, "quote": text} for number, text in enumerate(question["proposals"], 1)]
        real = [{"statement": "s", "quotes": [{"proposal": p["proposal"], "quote": p["words"]}]} for p in planted]
        # The beginnings of two proposals contradict each other in no question that has its planted words elsewhere.
        false = [{"statement": "s", "quotes": [quote]} for quote in whole[:2]]
        model = says({"contradictions": [{"topic": "t", "positions": real or false}]})
        row = await script.ask(question, "m:a", {"m:a": model}, 100)
        assert (row["found"], row["invented"]) == (bool(planted), int(not planted))
        nothing = await script.ask(question, "m:a", {"m:a": says({"contradictions": []})}, 100)
        assert (nothing["found"], nothing["invented"]) == (False, 0)
        failed = await script.ask(question, "m:a", {"m:a": says("no")}, 100)
        assert failed["failed"] == "invalid"
        rows.append(row)
    path = script.file_of(tmp_path, "m:a?x=1")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": "planted-0')
    assert script.results(path) == json.loads(json.dumps(rows))
