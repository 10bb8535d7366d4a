"""`partsong compare` as its users run it: scripted models of known skill, at known prices."""

import json
from pathlib import Path

import pytest

from partsong.cli.main import run

MIXTURE = """
name = "{name}"
layers = [{{ agents = ["scripted:{name}p?text={said}&input=1&output=1", "scripted:{name}q?text=5&input=1&output=1"] }}]
aggregator = {{ model = "scripted:{name}z?text={said}&input=1&output=1" }}
"""


def mixture(folder: Path, name: str, said: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(MIXTURE.format(name=name, said=said), encoding="utf-8")
    return str(path)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    lines = [json.dumps({"prompt": f"What is {number + 4} less {number}?", "reference": "4"}) for number in range(30)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def compare(tmp_path: Path, *arguments: str) -> int:
    return run(["compare", *arguments, "--out", str(tmp_path / "out")])


def test_what_is_better_is_called_so_and_only_that(
    tmp_path: Path, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, equal = mixture(tmp_path, "good", "4"), mixture(tmp_path, "bad", "5"), mixture(tmp_path, "equal", "4")
    recipes = [word for recipe in (good, bad, equal) for word in ("--recipe", recipe)]
    assert compare(tmp_path, prompts, *recipes, "--grade", "exact", "--no-baselines") == 0
    said = capsys.readouterr().out
    (against_bad,) = [line for line in said.splitlines() if "good" in line and "bad" in line]
    assert "better" in against_bad.split(",")[0].split("n =")[0]
    assert "30 better" in against_bad or "+1.000" in against_bad
    report = (tmp_path / "out" / "report.html").read_text()
    assert against_bad.replace("'", "&#x27;") in report
    assert "bad was worse than good by 1" in report
    assert "good was worse" not in report
    assert (tmp_path / "out" / "values.svg").is_file()
    (against_equal,) = [line for line in said.splitlines() if "good and equal" in line]
    assert against_equal.startswith("no difference shown between good and equal")


def test_the_same_money_is_spent_on_the_best_member(
    tmp_path: Path, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [prompts, "--recipe", mixture(tmp_path, "good", "4"), "--grade", "exact"]
    assert compare(tmp_path, *arguments) == 0
    said = capsys.readouterr().out
    assert "majority" in said
    assert "Self-MoA of" in said
    assert "the best member was chosen on these same prompts" in said
    # The member that is always wrong is no baseline.
    assert not [line for line in said.splitlines() if "goodq" in line and ("majority" in line or "Self-MoA" in line)]
    # Started again, it has all answers, and says the same.
    assert compare(tmp_path, *arguments) == 0
    assert capsys.readouterr().out == said


def test_what_cannot_be_compared_is_said_before_any_call(
    tmp_path: Path, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = mixture(tmp_path, "good", "4")
    assert compare(tmp_path, prompts, "--recipe", good, "--grade", "exact", "--no-baselines") == 2
    assert "two recipes are needed" in capsys.readouterr().err
    assert compare(tmp_path, prompts, "--recipe", good, "--grade", "rubric") == 2
    assert "--judge" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
