"""`partsong batch`: what stands in the file of answers, and what is asked again when it is started again."""

import json
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong.batch.answers import Answers, Outcome, keys_for
from partsong.batch.questions import JsonLines, ParsedRequest, Place, check_first
from partsong.errors import QuestionError
from partsong.events import Failure, Loss, is_hopeless
from partsong.model import Usage
from partsong.recipes.reading import read
from tests.cli.test_cli import code_of, write
from tests.screen import Screen


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a user's state of this test's own in it."""
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*questions: Any) -> None:
    Path("questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))


def answer(recipe: str, *arguments: str) -> int:
    return code_of("batch", "questions.jsonl", "--out", "answers.jsonl", "--recipe", recipe, *arguments)


def answers() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]


def rows(folder: Path, table: str) -> int:
    connection = sqlite3.connect(folder / "state" / "journal.db")
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(count)


def costly(*models: str) -> str:
    """A recipe whose aggregator costs 1,000 dollars a million tokens read."""
    return write(Path(), *models, last="scripted:carol?input=1000")


def test_answers_stand_in_the_order_of_the_questions(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("One?", {"question": "Two?", "id": "second"}, {"question": "Three?", "system": "Be brief.", "id": 7}, "One?")
    recipe = costly("scripted:alice?tokens=5&output=2000", "scripted:bob?fail=rate")
    assert answer(recipe) == 0
    assert capfd.readouterr() == ("", "")
    first, second, third, again = answers()
    assert [line["id"] for line in answers()] == [1, "second", 7, 4]
    assert [line["question"] for line in answers()] == ["One?", "Two?", "Three?", "One?"]
    assert list(first) == ["id", "question", "answer", "model", "usage", "losses"]
    # What a scripted model says depends on what it is asked, the system prompt included.
    assert len({first["answer"], second["answer"], third["answer"]}) == 3
    assert first["model"] == "scripted:carol?input=1000"
    assert [(loss["seat"], loss["cause"]) for loss in first["losses"]] == [(1, "rate")]
    assert Decimal(first["usage"]["dollars"]) > Decimal("0.01")
    # Equal questions are asked once: three runs of three calls, of which one fails.
    assert again == first | {"id": 4}
    assert (rows(folder, "runs"), rows(folder, "calls")) == (3, 6)
    assert sorted(path.name for path in folder.glob("answers*")) == ["answers.jsonl"]


def test_started_again_it_costs_nothing_and_is_the_same(folder: Path) -> None:
    ask("One?", "Two?")
    recipe = costly("scripted:alice?tokens=5&output=2000")
    assert answer(recipe) == 0
    once = Path("answers.jsonl").read_bytes()
    calls = rows(folder, "calls")
    assert answer(recipe) == 0
    assert rows(folder, "calls") == calls
    assert Path("answers.jsonl").read_bytes() == once  # what the calls cost when they were made, too


def test_what_is_kept_is_not_asked_again_even_without_a_store(folder: Path) -> None:
    Path("partsong.toml").write_text('store = "off"\n')
    ask("One?", "Two?")
    recipe = costly("scripted:alice")
    Path("answers.jsonl.partial").touch()
    assert answer(recipe) == 0
    whole = Path("answers.jsonl").read_text()
    assert not (folder / "state").exists()
    store(recipe, Outcome(Usage(1, 2), answer="Kept.", model="lab:kept"))
    assert answer(recipe) == 0
    first, second = Path("answers.jsonl").read_text().splitlines()
    assert (json.loads(first)["answer"], json.loads(first)["model"]) == ("Kept.", "lab:kept")
    assert second == whole.splitlines()[1]


def read_all() -> list[ParsedRequest]:
    return [request for request, _ in JsonLines(Path("questions.jsonl")).read(Place())]


def store(recipe: str, outcome: Outcome) -> None:
    """Keep an outcome of the first question for a batch that was stopped."""
    beside = Answers(Path("answers.jsonl"))
    beside.open(b"before")
    first = read_all()[0]
    beside.keep(first, Place(), keys_for(read(Path(recipe)))(first.conversation), outcome, Decimal(0))
    beside.close()


def test_a_ranker_that_names_no_proposal_is_counted_now_and_from_the_store(folder: Path) -> None:
    ask("One?")
    recipe = write(Path(), "scripted:alice?text=Yes&output=1000", last="scripted:carol?text=Neither&output=1000")
    text = Path(recipe).read_text()
    Path(recipe).write_text(f'last_resort = "best_proposal"\n{text}method = "select"\n')
    assert answer(recipe) == 0
    (made,) = answers()
    assert made["answer"] == "Yes"
    assert Decimal(made["usage"]["dollars"]) == Decimal("0.002")  # one word of each of the two models
    Path("answers.jsonl").unlink()
    assert answer(recipe) == 0
    assert answers() == [made]
    assert rows(folder, "calls") == 2


def test_another_recipe_is_another_answer(folder: Path) -> None:
    ask("One?")
    store(costly("scripted:alice"), Outcome(Usage(), answer="Kept.", model="lab:kept"))
    assert answer(costly("scripted:bob")) == 0
    assert answers()[0]["answer"] != "Kept."


def test_failed_questions_are_told_and_tried_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The script fails by what it is asked, so that some questions fail and some do not.
    ask(*(f"Question {number}?" for number in range(12)))
    recipe = write(Path(), "scripted:alice", last="scripted:carol?fail=server&chance=0.4")
    assert answer(recipe) == 1
    failed = [line for line in answers() if line["answer"] is None]
    assert 0 < len(failed) < 12
    error = capfd.readouterr().err
    assert f"{len(failed)} of 12 questions failed (the first on line {failed[0]['id']})" in error
    assert failed[0]["error"] == {"cause": "server", "message": "carol failed, as its script says"}
    assert failed[0]["model"] is None
    assert all("error" not in line for line in answers() if line["answer"] is not None)
    assert rows(folder, "runs") == 12
    calls = rows(folder, "calls")
    assert answer(recipe) == 1
    assert rows(folder, "runs") == 12 + len(failed)
    assert rows(folder, "calls") == calls


def test_a_wrong_key_is_not_tried_with_every_question(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(*(f"Question {number}?" for number in range(30)))
    recipe = write(Path(), "scripted:alice?fail=auth", "scripted:bob?fail=billing", last="scripted:carol")
    assert answer(recipe, "--at-once", "2") == 1
    assert rows(folder, "runs") <= 3
    assert not Path("answers.jsonl").exists()
    error = capfd.readouterr().err
    assert "no other question would fare better" in error
    assert "0 of 30 questions are answered; start it again to go on" in error


def test_only_what_every_question_would_meet_is_hopeless() -> None:
    def losses(*causes: Any) -> list[Loss]:
        return [Loss(0, seat, "lab:a", cause, "no") for seat, cause in enumerate(causes)]

    assert is_hopeless(Failure("auth", "no"), losses("rate"))
    assert is_hopeless(Failure("no_proposals", "no"), losses("auth", "billing"))
    assert not is_hopeless(Failure("no_proposals", "no"), losses("auth", "rate"))
    assert not is_hopeless(Failure("server", "no"), losses("auth"))


def test_the_cap_is_that_of_the_whole_batch(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("One?", "Two?", "One?", "Three?", "Four?")
    recipe = write(Path(), *["scripted:alice?tokens=5&output=1000"] * 3, last="scripted:carol?tokens=5&output=1000")
    text = Path(recipe).read_text().replace('"scripted:alice', '{ max_tokens = 5, model = "scripted:alice')
    Path(recipe).write_text(re.sub(r'output=1000"(?=[],])', 'output=1000" }', text) + "max_tokens = 5\n")
    # Four calls of 0.005 each: two questions cost all, and no seat of any is dropped.
    assert answer(recipe, "--max-dollars", "0.045") == 1
    error = capfd.readouterr().err
    assert "the next question could cost $0.020, and $0.005 of --max-dollars are left; allow more" in error
    assert "3 of 5 questions are answered; start it again to go on" in error
    assert not Path("answers.jsonl").exists()
    assert rows(folder, "runs") == 2
    # What was spent in the first start counts.
    assert answer(recipe, "--max-dollars", "0.06") == 1
    assert rows(folder, "runs") == 3
    assert answer(recipe, "--max-dollars", "0.08") == 0
    assert [line["losses"] for line in answers()] == [[]] * 5
    ask("Five?")
    assert answer(recipe, "--max-dollars", "0.000001") == 1
    for wrong in ("-1", "0", "nan", "inf"):
        assert answer(recipe, "--max-dollars", wrong) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no question"),
        ("\n \n", "has no question"),
        ('"One?"\nTwo?\n', "line 2: "),
        ('"One?"\n\n{"question": " "}', "line 3: the question is empty"),
        ('{"ask": "One?"}', "line 1: "),
        ('{"question": "One?", "extra": 1}', "line 1: "),
        ('{"question": 1}', "line 1: "),
        ("[1]", "line 1: "),
        ('{"question": "a", "id": "x"}\n{"question": "b", "id": "x"}', 'line 2: the id "x" is also that of line 1'),
        ('{"question": "a", "id": 2}\n"b"', "line 2: the id 2 is also that of line 1"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    text: str, words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("questions.jsonl").write_text(text)
    assert answer(costly("scripted:alice")) == 2
    assert words in capfd.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["duet.toml", "questions.jsonl"]


def test_a_question_that_nobody_can_read_is_told_before_anything_is_asked(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ask("One?", "Two? " * 5000)
    Path("partsong.toml").write_text('[models."scripted:carol"]\nwindow = 1000\n')
    assert answer(write(Path(), "scripted:alice", last="scripted:carol")) == 2
    assert "questions.jsonl, line 2: the conversation has about" in capfd.readouterr().err
    assert not Path("answers.jsonl.partial").exists()
    assert rows(folder, "calls") == 0


def test_bytes_that_are_no_text_and_a_mark_at_the_beginning(folder: Path) -> None:
    Path("questions.jsonl").write_bytes(b'\xef\xbb\xbf"One?"\r\n')
    assert [each.question for each in read_all()] == ["One?"]
    Path("questions.jsonl").write_bytes(b'"One?"\n"\xff\xfe"\n')
    assert "line 2" in read_all()[1].wrong
    with pytest.raises(QuestionError, match="line 2"):
        check_first(JsonLines(Path("questions.jsonl")))


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        (lambda: None, ["batch", "questions.jsonl", "--out", "questions.jsonl"], "one of their own"),
        (lambda: None, ["batch", "nothing.jsonl", "--out", "a.jsonl"], "nothing.jsonl: cannot be read"),
        (lambda: None, ["batch", "questions.jsonl", "--out", "no/such/folder/a.jsonl"], "cannot be written"),
        (lambda: os.mkdir("a.jsonl"), ["batch", "questions.jsonl", "--out", "a.jsonl"], "a.jsonl: is a folder"),
        (lambda: None, ["batch", "questions.jsonl", "--out", "a.jsonl", "--at-once", "0"], "at least 1"),
        (lambda: None, ["batch", "questions.jsonl"], "--out"),
    ],
)
def test_wrong_arguments(
    prepare: Callable[[], None],
    arguments: list[str],
    words: str,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ask("One?")
    prepare()
    assert code_of(*arguments, "--model", "scripted:alice") in (1, 2)
    assert words in capfd.readouterr().err


def test_progress_is_shown_on_a_terminal(folder: Path) -> None:
    ask("One?", "Two?", "Three?")
    recipe = write(Path(), "scripted:alice?first=0.3", last="scripted:carol?output=1000&tokens=10")
    screen = Screen("batch", "questions.jsonl", "--out", "answers.jsonl", "--recipe", recipe, "--at-once", "2")
    screen.wait_for("0 of 3 answered, 2 at work")
    assert screen.end() == 0
    assert screen.lines == ["3 of 3 answered · $0.0300"]


def test_ctrl_c_keeps_what_is_answered(folder: Path) -> None:
    ask(*(f"Question {number}?" for number in range(20)))
    arguments = ("batch", "questions.jsonl", "--out", "answers.jsonl", "--model", "scripted:alice?first=0.1")
    screen = Screen(*arguments, "--at-once", "1")
    screen.wait_for("1 of 20 answered")
    screen.type(b"\x03")
    assert screen.end() == 130
    assert not Path("answers.jsonl").exists()
    with closing(sqlite3.connect("answers.jsonl.partial")) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM outcomes").fetchone()
    assert 1 <= kept < 20
    before = rows(folder, "runs")
    assert code_of(*arguments, "--at-once", "20") == 0
    assert rows(folder, "runs") == before + 20 - kept
    assert [line["id"] for line in answers()] == list(range(1, 21))
