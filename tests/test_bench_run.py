"""A study that is run, stopped, and started again; and whether an answer is the right one."""

from pathlib import Path

import pytest

from partsong.bench.equivalence import choice, equal
from tests.test_cli import code_of, write


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, "scripted:x?output=5", last="scripted:z?text=Answer: B&output=10")


def run(recipe: str, *more: str) -> int:
    return code_of("bench", "run", "demo", "--recipe", recipe, "--out", "study", *more)


def test_it_goes_on_after_a_torn_line_and_asks_nobody_twice(recipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(recipe) == 0
    table = capfd.readouterr().out
    assert "choice 0.625" in table
    outputs, grades = Path("study/outputs.jsonl"), Path("study/grades.jsonl")
    before = outputs.read_bytes()
    kept = grades.read_bytes()
    grades.write_bytes(kept[:-9])
    assert run(recipe) == 0
    assert (outputs.read_bytes(), grades.read_bytes()) == (before, kept)
    assert capfd.readouterr().out == table


def test_the_folder_of_another_study_is_refused(recipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(recipe, "--limit", "2") == 0
    assert run(recipe, "--limit", "3") == 2
    assert "another study, which differs in data, samples" in capfd.readouterr().err


def test_money_stops_it_and_more_money_goes_on(recipe: str) -> None:
    assert run(recipe, "--max-dollars", "0.000001") == 1
    assert not Path("study/outputs.jsonl").exists()
    assert run(recipe, "--max-dollars", "100") == 0
    assert len(Path("study/outputs.jsonl").read_bytes().splitlines()) == 40


@pytest.mark.parametrize(
    ("said", "right", "same"),
    [
        ("so \\boxed{\\frac{1}{2}}", "0.5", True),
        ("#### 1,234", "1234", True),
        ("The answer is $50\\%$.", "1/2", True),
        ("Answer: 26 metres", "26", True),
        ("Answer: 27", "26", False),
        ("Answer: **Lisbon**.", "lisbon", True),
    ],
)
def test_answers_are_compared_as_what_they_say(said: str, right: str, same: bool) -> None:
    assert equal(said, right) is same


def test_a_choice_is_one_letter() -> None:
    assert choice("A or B?\nAnswer: (B)") == "B"
    assert choice("Answer: A or B") is None
