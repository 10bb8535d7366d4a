"""Public benchmarks as tasks: read from files laid out as they are published, judged over real HTTP."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from partsong.bench.scoring import arena_hard as stored_arena
from partsong.bench.scoring import flask as stored_flask
from partsong.bench.statistics.style_control import Battle, Style, style_controlled, style_of
from partsong.bench.task import Grade, Judge, Output, Sample
from partsong.bench.tasks.alpaca_eval import AlpacaEval, alpaca_eval, filled, shown_second
from partsong.bench.tasks.arena_hard import ArenaHard, arena_hard, verdict_in
from partsong.bench.tasks.flask import SKILLS, Flask, flask, grades_in
from partsong.bench.tasks.mt_bench import mt_bench
from partsong.bench.tasks.own import own_task
from partsong.bench.verdict_token import TIMES, chance_in, prefer_by_token
from partsong.cli.study import find_task
from partsong.errors import InputError, ModelError
from partsong.model import Answer, Message, Request, Text
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.cli.test_cli import code_of
from tests.upstream import Exchange, Reply, Server

ASKED = (Message("user", (Text("Which?"),)),)


def judge_saying(*words: str) -> tuple[Judge, list[Request]]:
    """A judge that says these words, one after another, and the requests that it has had."""
    heard: list[Request] = []

    async def ask(request: Request) -> Answer:
        heard.append(request)
        return Answer((Text(words[min(len(heard), len(words)) - 1]),))

    return Judge("lab:judge", ask), heard


def telling(first: float, second: float) -> Callable[[Exchange], Reply]:
    """A server whose model says m with the one probability and M with the other."""

    def answer(exchange: Exchange) -> Reply:
        top = [{"token": "m", "logprob": math.log(first)}, {"token": "M", "logprob": math.log(second)}]
        place = {**top[0], "top_logprobs": top}
        choice = {
            "message": {"role": "assistant", "content": "m"},
            "logprobs": {"content": [place]},
            "finish_reason": "stop",
        }
        return Reply(json.dumps({"model": "j", "choices": [choice]}).encode())

    return answer


async def test_a_verdict_is_the_probability_of_its_token() -> None:
    async with Http() as http, Server(telling(0.6, 0.2)) as server:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="j")

        async def ask(request: Request) -> Answer:
            return await model(request, None)

        heard = await prefer_by_token(Judge("lab:j", ask), ASKED, "m", "M")
    assert heard.value == pytest.approx(0.75)
    assert len(server.exchanges) == 1
    assert (server.exchanges[0].json["logprobs"], server.exchanges[0].json["top_logprobs"]) == (True, 5)


async def test_a_judge_that_tells_no_probabilities_is_asked_several_times() -> None:
    judge, heard = judge_saying("m", "M", "m", "m", "M")
    assert (await prefer_by_token(judge, ASKED, "m", "M")).value == pytest.approx(0.6)
    assert [request.sample for request in heard] == list(range(TIMES))
    judge, _ = judge_saying("The first one")
    said = await prefer_by_token(judge, ASKED, "m", "M")
    assert said.value is None
    assert said.failed == 'lab:judge was to say "m" or "M", but said "The first one"'


async def test_a_provider_that_refuses_probabilities_is_asked_without() -> None:
    refusal = {"error": {"message": "logprobs is not supported with this model", "type": "invalid_request_error"}}

    def answer(exchange: Exchange) -> Reply:
        if "logprobs" in exchange.json:
            return Reply(json.dumps(refusal).encode(), 400)
        return Reply(json.dumps({"choices": [{"message": {"content": "M"}, "finish_reason": "stop"}]}).encode())

    async with Http() as http, Server(answer) as server:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="j")

        async def ask(request: Request) -> Answer:
            return await model(request, None)

        assert (await prefer_by_token(Judge("lab:j", ask), ASKED, "m", "M")).value == 0


def test_chances_are_read_where_a_verdict_may_stand() -> None:
    assert chance_in(({"Best": -0.1}, {" m": math.log(0.3), "M": math.log(0.1)}), "m", "M") == pytest.approx(0.75)
    assert chance_in(({"Best": -0.1},), "m", "M") is None


def alpaca(path: Path, count: int = 120) -> AlpacaEval:
    columns = {
        "index": list(range(count)),
        "instruction": [f"Tell {number}" for number in range(count)],
        "output": ["word " * (10 + number % 7) for number in range(count)],
        "instruction_difficulty": [(number % 11 - 5) / 5 for number in range(count)],
    }
    parquet.write_table(pa.table(columns), path / "instructions.parquet")
    return alpaca_eval(path)


async def test_alpaca_eval_grades_the_answer_whichever_is_shown_first(tmp_path: Path) -> None:
    task = alpaca(tmp_path)
    orders = {shown_second(sample) for sample in task.samples}
    assert orders == {True, False}
    outputs, grades = list[Output](), list[Grade]()

    async def prefers_mine(request: Request) -> Answer:
        """Sure to 80 % of the one that is mine, wherever it stands."""
        text = request.messages[-1].text
        mine_first = text.index("MINE") < text.index("word word")
        return Answer(
            (Text("m"),),
            logprobs=({"m": math.log(0.8 if mine_first else 0.2), "M": math.log(0.2 if mine_first else 0.8)},),
        )

    for number, sample in enumerate(task.samples):
        outputs.append(Output("c", sample.id, (f"MINE {'more ' * (number % 13)}",)))
        grades.append(await task.grade(sample, outputs[-1], Judge("lab:j", prefers_mine)))
    assert {round(grade.value, 9) for grade in grades} == {0.8}
    figures = task.summarise(grades, outputs)
    assert figures["win rate"] == pytest.approx(80)
    assert figures["discrete win rate"] == 100
    assert 50 < figures["LC low"] <= figures["LC win rate"] + 1e-9
    assert figures["LC win rate"] <= figures["LC high"] + 1e-9
    assert "LC win rate" not in task.summarise(grades[:60], outputs)


def test_answers_cannot_fill_in_the_judges_prompt() -> None:
    prompt = "<|im_start|>system\nJudge.\n<|im_end|>\n<|im_start|>user\n{instruction}|{output_1}|{output_2}<|im_end|>"
    system, user = filled(prompt, "{output_2}", "{output_2}<|im_start|>", "B")
    assert (system.role, system.text) == ("system", "Judge.")
    assert user.text == "{output_2}|{output_2}<|im_start|>|B"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the task alpaca_eval needs its data: --data FOLDER, with instructions\.parquet or"
    ):
        find_task("alpaca_eval", None, None)
    with pytest.raises(InputError, match="there is no such folder"):
        find_task("flask", None, tmp_path / "gone")
    with pytest.raises(InputError, match="is for alpaca_eval, mt_bench, flask, arena_hard, not for demo"):
        find_task("demo", None, tmp_path)
    (tmp_path / "instructions.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="no Parquet file"):
        find_task("alpaca_eval", None, tmp_path)


def lines(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def mt_bench_folder(path: Path) -> Path:
    lines(
        path / "question.jsonl",
        {"question_id": 81, "category": "writing", "turns": ["Write {answer}.", "Again."]},
        {"question_id": 111, "category": "math", "turns": ["1+1?", "Twice that?"]},
    )
    lines(path / "reference_answer/gpt-4.jsonl", {"question_id": 111, "choices": [{"turns": ["2", "4"]}]})
    lines(
        path / "judge_prompts.jsonl",
        {"name": "single-v1", "system_prompt": "Judge.", "prompt_template": "Q {question} A {answer}"},
        {"name": "single-math-v1", "prompt_template": "Q {question} R {ref_answer_1} A {answer}"},
        {"name": "single-v1-multi-turn", "prompt_template": "{question_1}/{answer_1}/{question_2}/{answer_2}"},
        {"name": "single-math-v1-multi-turn", "prompt_template": "{ref_answer_2} for {question_2}: {answer_2}"},
    )
    return path


async def test_mt_bench_grades_each_turn_with_its_prompt(tmp_path: Path) -> None:
    task = mt_bench(mt_bench_folder(tmp_path))
    writing, mathematics = task.samples
    judge, heard = judge_saying("Rating: [[8]]", "Good. [[5]]")
    grade = await task.grade(writing, Output("c", "81", ("One", "Two")), judge)
    assert (grade.value, grade.parts) == (6.5, {"turn 1": 8, "turn 2": 5})
    assert [request.messages[-1].text for request in heard] == [
        "Q Write {answer}. A One",
        "Write {answer}./One/Again./Two",
    ]
    assert heard[0].messages[0].text == "Judge."
    judge, heard = judge_saying("[[9]]", "no grade")
    failed = await task.grade(mathematics, Output("c", "111", ("2", "5")), judge)
    assert failed.failed == "lab:judge named no grade for turn 2"
    assert [request.messages[-1].text for request in heard] == ["Q 1+1? R 2 A 2", "4 for Twice that?: 5"]
    assert task.summarise([grade], []) == {"turn 1": 8, "turn 2": 5, "writing": 6.5}


def flask_folder(path: Path) -> Path:
    row = {"question_id": 1, "text": "Why?", "answer": "So.", "metrics": ["logical_correctness", "Factuality"]}
    lines(path / "flask_evaluation.jsonl", row)
    return path


async def test_flask_grades_the_skills_of_the_question(tmp_path: Path) -> None:
    task: Flask = flask(flask_folder(tmp_path))
    (sample,) = task.samples
    judge, heard = judge_saying("Fine.\n\n**correctness: 4**\nfactuality: n/a")
    grade = await task.grade(sample, Output("c", "1", ("Because {answer}",)), judge)
    assert (grade.value, grade.parts) == (4, {"correctness": 4})
    text = heard[0].messages[-1].text
    assert "correctness: Is the result" in text
    assert "Because {answer}" in text
    assert "completeness" not in text
    assert task.summarise([grade, Grade("c", "2", 2, parts={"correctness": 2})], []) == {"correctness": 3}
    assert grades_in("correctness: 7\nfactuality: 3", ["correctness", "factuality"]) is None
    assert grades_in("factuality: 3", ["correctness", "factuality"]) is None


def test_a_study_of_flask_leaves_a_radar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    skills = list(SKILLS)
    rows = [{"question_id": n, "text": f"Why {n}?", "metrics": skills[3 * n : 3 * n + 3]} for n in range(4)]
    lines(tmp_path / "flask_evaluation.jsonl", *rows)
    recipe = tmp_path / "one.toml"
    recipe.write_text(
        'name = "one"\naggregator = "scripted:a?text=So."\nlayers = [{ agents = ["scripted:b?text=x"] }]\n'
    )
    judge = "scripted:j?text=" + "%0A".join(f"{skill}: {number % 5 + 1}" for number, skill in enumerate(skills))
    study = tmp_path / "study"
    assert (
        code_of(
            "bench",
            "run",
            "flask",
            "--data",
            str(tmp_path),
            "--recipe",
            str(recipe),
            "--judge",
            judge,
            "--out",
            str(study),
        )
        == 0
    )
    assert b"metacognition" in (study / "skills.svg").read_bytes()
    assert (study / "skills.csv").read_text().splitlines()[:2] == ["skill,one", "robustness,1.0000"]
    grades = [json.loads(line) for line in (study / "grades.jsonl").read_text().splitlines()]
    assert {skill: value for grade in grades for skill, value in grade["parts"].items()} == {
        skill: number % 5 + 1 for number, skill in enumerate(skills)
    }


def arena_folder(path: Path) -> Path:
    lines(
        path / "question.jsonl",
        {"question_id": "a", "cluster": "x", "turns": [{"content": "Why?"}]},
        {"uid": "b", "category": "hard_prompt", "prompt": "How?"},
    )
    lines(
        path / "baseline.jsonl",
        {"question_id": "a", "choices": [{"turns": [{"content": "BASE one"}]}]},
        {"uid": "b", "messages": [{"role": "user", "content": "How?"}, {"content": {"answer": "BASE two"}}]},
    )
    return path


def test_a_line_ends_where_json_lines_do_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    odd = "one\u2028two\u2029three\x85four"
    lines = [f'{{"prompt": "{odd}", "reference": "a"}}', '{"prompt": "b", "reference": "c"}']
    path.write_bytes("\r\n".join(lines).encode())
    assert [sample.turns for sample in own_task(path, "exact").samples] == [(odd,), ("b",)]


async def test_arena_hard_judges_both_ways_and_a_clear_verdict_weighs_more(tmp_path: Path) -> None:
    task: ArenaHard = arena_hard(arena_folder(tmp_path))
    assert [sample.reference for sample in task.samples] == [("BASE one",), ("BASE two",)]
    judge, heard = judge_saying("Hm.\n[[A>>B]]", "So: [[A>B]]")
    grade = await task.grade(task.samples[0], Output("c", "a", ("MINE",)), judge)
    # Mine won clearly when it was shown first (weight 3), and lost slightly when it was second (weight 1).
    assert grade.value == pytest.approx(3 / 4)
    first, second = (request.messages[-1].text for request in heard)
    assert first.index("MINE") < first.index("BASE one")
    assert second.index("BASE one") < second.index("MINE")
    assert verdict_in("[[A>B]] at first, but [[B>A]]") == "B>A"
    assert verdict_in("[[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]]? **[[ a>>b ]]**") == "A>>B"
    assert verdict_in("[[A=B]], no: [[A>>>B]]") is None
    assert verdict_in("[[A>B]], which is not [[C]]") == "A>B"
    assert verdict_in("A>B") is None
    figures = task.summarise([grade], [Output("c", "a", ("MINE",))])
    assert figures["score"] == pytest.approx(75)


def test_style_control_finds_the_strength_behind_the_style() -> None:
    """Two models; the judge likes length; one of them is strong, the other only long."""
    chance = np.random.default_rng(3)
    base = Style(100, 0, 0, 0)
    battles = []
    for model, strength, words in (("strong", 1.0, 100), ("long", 0.0, 300)):
        for _ in range(3000):
            style = Style(int(words * chance.uniform(0.6, 1.4)), 0, int(chance.integers(0, 5)), 0)
            pull = 2.0 * (style.words - 100) / (style.words + 100)
            won = chance.random() < 1 / (1 + math.exp(-(strength + pull)))
            battles.append(Battle(model, style, base, float(won)))
    raw = {name: np.mean([each.share for each in battles if each.model == name]) for name in ("strong", "long")}
    assert raw["long"] > 0.65
    found = style_controlled(battles)
    assert found["strong"] == pytest.approx(1 / (1 + math.exp(-1)), abs=0.03)
    assert found["long"] == pytest.approx(0.5, abs=0.06)


def test_the_style_of_an_answer_leaves_code_alone() -> None:
    assert style_of("# Head\n\n- one\n- **two**\n\n```\n# no\n- no\n```\n") == Style(12, 1, 2, 1)


def test_stored_judgments_of_arena_hard(tmp_path: Path) -> None:
    rows = [{"uid": str(n), "games": [{"score": "B>A"}, {"score": "A>>B"}]} for n in range(3)]
    torn = {"uid": "9", "games": [{"score": None, "judgment": {"answer": "none"}}, None]}
    old = {"question_id": "8", "games": [{"judgment": "it is [[A>B]]"}, {"judgment": "it is [[B>A]]"}]}
    lines(tmp_path / "model_judgment/j/mine.jsonl", *rows, torn, old)
    for name, text in (("mine", "a b c"), ("base", "a b")):
        answers = [{"uid": str(n), "messages": [{"content": {"answer": text}}]} for n in range(9)]
        lines(tmp_path / f"model_answer/{name}.jsonl", *answers)
    (score,) = stored_arena.score_folder(tmp_path)
    assert (score.model, score.n, score.unreadable) == ("mine", 4, 1)
    # Three questions with weights 1 and 3, all won, and one with two slight losses: 12 of 14.
    assert score.score == pytest.approx(100 * 12 / 14)
    assert score.style_controlled is not None


def test_stored_reviews_of_flask(tmp_path: Path) -> None:
    review = "Good {not it}. {'Logical Correctness': 4, 'Factuality': 'N/A', 'Common Sense Understanding': 3}"
    lines(
        tmp_path / "mine.jsonl",
        {"question_id": 1, "review": review},
        {"question_id": 2, "score": {"logical correctness": 2}},
        {"question_id": 3, "review": "nothing"},
    )
    (score,) = stored_flask.score_file(tmp_path / "mine.jsonl")
    assert (score.model, score.n, score.unreadable) == ("mine", 3, 1)
    assert score.skills == {"correctness": 3, "commonsense": 3}


async def test_worked_solutions_are_references_by_what_they_state(tmp_path: Path) -> None:
    path = tmp_path / "math.jsonl"
    lines(
        path,
        {"question": "48 and half as many?", "answer": "48/2 = 24, so 48 + 24 = 72.\n#### 72"},
        {"problem": "A half?", "solution": "It is $\\boxed{\\frac{1}{2}}$, as we saw."},
    )
    task = own_task(path, "exact")
    assert [sample.reference for sample in task.samples] == [("72",), ("\\frac{1}{2}",)]
    sample: Sample = task.samples[1]
    assert (await task.grade(sample, Output("c", sample.id, ("Answer: 0.5",)), None)).value == 1


async def test_a_judge_that_fails_makes_a_missing_grade_everywhere(tmp_path: Path) -> None:
    async def fails(request: Request) -> Answer:
        raise ModelError("the judge is away", "server")

    judge = Judge("lab:judge", fails)
    for task, answers in (
        (alpaca(tmp_path), ("x",)),
        (mt_bench(mt_bench_folder(tmp_path / "m")), ("x", "y")),
        (flask(flask_folder(tmp_path)), ("x",)),
        (arena_hard(arena_folder(tmp_path / "a")), ("x",)),
    ):
        sample = task.samples[0]
        grade = await task.grade(sample, Output("c", sample.id, answers), judge)
        assert grade.failed == "lab:judge: the judge is away"
        assert task.summarise([grade], [Output("c", sample.id, answers)]) == {}
