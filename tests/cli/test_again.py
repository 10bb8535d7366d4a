"""`partsong again` and `analyse`: stored runs are gone on from, and what they lack is said."""

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from partsong.cli.again import seat_of
from partsong.errors import InputError
from tests.cli.test_cli import code_of, write

FOUND = {
    "agreements": [
        {
            "statement": "when",
            "quotes": [{"proposal": 1, "quote": "It was in 1969"}, {"proposal": 2, "quote": "it was in 1969"}],
        }
    ],
    "single": [{"statement": "made up", "quotes": [{"proposal": 1, "quote": "It was in 1970"}]}],
}
ANALYST = "scripted:an?" + urlencode({"text": json.dumps(FOUND), "output": "1000"})
SEATS = ("scripted:a?text=It was in 1969.&output=1000", "scripted:b?text=Yes, it was in 1969.", "scripted:c?fail=rate")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(last: str = "scripted:z?fail=server", *more: str) -> int:
    return code_of("ask", "--quiet", "-r", write(Path(), *SEATS, last=last), "When?", *more)


def test_a_run_that_failed_at_its_aggregator_is_continued(capfd: pytest.CaptureFixture[str]) -> None:
    assert ask() == 1
    capfd.readouterr()
    assert code_of("again", "last", "--aggregator", "scripted:y?text=In 1969.&output=1000") == 0
    said = capfd.readouterr()
    assert said.out == "In 1969.\n"
    assert "again from run" in said.err
    assert "lost (0, 2) scripted:c: rate" in said.err
    assert code_of("show", "last", "--json") == 0
    run = json.loads(capfd.readouterr().out)
    assert run["run"]["labels"]["again"]
    assert (run["run"]["calls"], run["run"]["stored"], run["run"]["dollars"]) == (1, 2, "0.002")
    assert code_of("show", "last", "--brief") == 0
    assert f"again from run {run['run']['labels']['again']}" in capfd.readouterr().out
    assert code_of("history") == 0
    assert " (again)" in capfd.readouterr().out
    assert code_of("replay", "last", "--at-once") == 0
    assert capfd.readouterr().out == "In 1969.\n"


def test_the_best_proposal_is_taken_without_an_aggregator(capfd: pytest.CaptureFixture[str]) -> None:
    assert ask() == 1
    capfd.readouterr()
    assert code_of("again", "last", "--best") == 0
    said = capfd.readouterr()
    assert "in 1969." in said.out
    assert "no aggregator answered: this is the proposal most like the others" in said.err
    assert code_of("show", "last") == 0
    assert "## no aggregator answered: this is the proposal most like the others" in capfd.readouterr().out
    assert code_of("replay", "last", "--at-once") == 0
    assert "in 1969." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--retry", "0.0"), "has a proposal"),
        (("--without", "0.9"), "there is no seat (0, 9)"),
        (("--without", "zero"), '"zero" is no seat'),
        (("--aggregator", "nonsense"), "provider:model"),
        (("--max-dollars", "0", "--aggregator", "scripted:y?output=1"), "what is asked again may cost"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], why: str, capfd: pytest.CaptureFixture[str]) -> None:
    ask()
    capfd.readouterr()
    assert code_of("again", "last", *words) == 2
    assert why in capfd.readouterr().err


@pytest.mark.parametrize("text", ["0.2", "0,2", "(0, 2)", " (0,2) "])
def test_a_seat_is_written_as_it_is_shown(text: str) -> None:
    assert seat_of(text) == (0, 2)
    for wrong in ("2", "0.2.1", "-1.0", "a.b", ""):
        with pytest.raises(InputError, match="is no seat"):
            seat_of(wrong)


def test_the_proposals_of_any_run_are_compared_and_once_more_for_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    ask()
    capfd.readouterr()
    assert code_of("analyse", "last", "--model", ANALYST) == 0
    said = capfd.readouterr()
    assert said.out.splitlines() == [
        "They agree:",
        '- when ((0, 0) "It was in 1969"; (0, 1) "it was in 1969")',
        "",
        "1 entry was left out, mostly for quotes that are not there.",
    ]
    assert "the quotes are checked, the statements are not" in said.err
    assert "stored" not in said.err
    assert code_of("analyse", "last", "--model", ANALYST, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["layer"], found["stored"], found["usage"]["dollars"]) == (0, True, "0")
    assert found["analysis"]["dropped"] == 1
    assert code_of("analyse", "last") == 1
    assert "failed, as its script says" in capfd.readouterr().err
    assert code_of("analyse", "last", "--model", ANALYST.replace("=1000", "=2000"), "--max-dollars", "0") == 2
    assert "the analysis may cost" in capfd.readouterr().err


def test_where_no_words_are_kept_it_is_said_what_is_lacking(capfd: pytest.CaptureFixture[str]) -> None:
    ask("scripted:z?text=So", "--store", "metadata")
    capfd.readouterr()
    for command in ("again", "analyse"):
        assert code_of(command, "last") == 2
        assert 'stored without its words (store = "metadata"): its proposals are not there' in capfd.readouterr().err
