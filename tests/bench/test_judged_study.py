"""Studies with a judge: a silent judge ends them, no unreadable verdict is used again, and the report says who won."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.bench.comparison import Difference, preference
from partsong.bench.judging import prefer, rate
from partsong.bench.money import Money
from partsong.bench.runner import SILENT
from partsong.bench.statistics.intervals import proportion_interval, score_interval
from partsong.bench.task import Judge, Sample, Verdict
from partsong.bench.verdict_token import prefer_by_token
from partsong.bench.wins import duels_of_grades, duels_of_verdicts, headline, matrix, win_rates
from partsong.cli.compare import Comparison
from partsong.errors import BudgetError
from partsong.model import Answer, Message, Request, Text, Usage
from tests.cli.test_cli import code_of

DUMB = "scripted:sphinx?text=I would rather not say&input=1&output=1"


def recipe(name: str, text: str) -> str:
    path = Path(f"{name}.toml")
    path.write_text(
        f'name = "{name}"\n'
        f'layers = [{{ agents = ["scripted:{name}p?text={text}&output=5", "scripted:{name}q?text=x"] }}]\n'
        f'aggregator = "scripted:{name}z?text={text}&output=5"\n'
    )
    return str(path)


def prompts(count: int) -> str:
    Path("own.jsonl").write_text("".join(f'"Say something of {number}."\n' for number in range(count)))
    return "own.jsonl"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [("compare",), ("bench", "run")])
def test_a_judge_without_verdicts_stops_the_study(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    grade = ("--grade", "rubric") if words[0] == "bench" else ("--no-baselines",)
    arguments = (
        *words, prompts(60), "--recipe", recipe("a", "one"), "--recipe", recipe("b", "two"), *grade, "--judge", DUMB,
        "--at-once", "3", "--out", "out",
    )  # fmt: skip
    assert code_of(*arguments) == 1
    said = capfd.readouterr().err
    assert f"no verdict {SILENT} times in a row" in said
    assert "I would rather not say" in said
    kept = Path("out/grades.jsonl" if words[0] == "bench" else "out/verdicts.jsonl").read_text().splitlines()
    assert SILENT <= len(kept) < SILENT + 3  # those under way when the tenth came end as well


async def test_a_stored_verdict_that_cannot_be_read_is_asked_for_again() -> None:
    asked: list[bool | None] = []

    def answering(stored: str, fresh: str) -> Judge:
        async def ask(request: Request) -> Answer:
            asked.append(request.terms.cache)
            if request.terms.cache is False:
                return Answer((Text(fresh),), usage=Usage(5, 5))
            return Answer((Text(stored),), stored=Usage(3, 3))

        return Judge("scripted:judge", ask)

    sample = Sample("s", ("Why?",))
    heard = await rate(answering("Well.", "Grade: 7"), sample, ("Because.",))
    assert (heard.value, heard.usage, asked) == (7.0, Usage(5, 5), [None, False])
    asked.clear()
    heard = await rate(answering("Grade: 4", "Grade: 7"), sample, ("Because.",))
    assert (heard.value, heard.usage, asked) == (4.0, Usage(3, 3), [None])
    asked.clear()
    both = await prefer(answering("Well.", "Still well."), sample, ("A",), ("B",))
    assert (both.value, both.words, asked) == (None, "Still well.", [None, False])
    asked.clear()
    token = await prefer_by_token(answering("?", "m"), (Message("user", (Text("?"),)),), "m", "M")
    assert (token.value, len(asked)) == (1.0, 10)


def test_an_unreadable_verdict_in_the_store_is_paid_anew(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("bench", "run", prompts(2), "--recipe", recipe("a", "one"), "--grade", "rubric", "--judge", DUMB)
    spent = []
    for folder in ("first", "second"):
        assert code_of(*arguments, "--out", folder) == 1
        capfd.readouterr()
        lines = [json.loads(line) for line in Path(folder, "grades.jsonl").read_text().splitlines()]
        spent.append([line["usage"]["dollars"] for line in lines])
        money = [json.loads(line) for line in Path(folder, "money.jsonl").read_text().splitlines()]
        assert sum(float(line.get("held", 0)) > 0 for line in money) >= 2
    assert spent[0] == spent[1]


def test_without_the_cache_every_call_is_made_again(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "bench", "run", prompts(3), "--recipe", recipe("a", "one"), "--grade", "rubric", "--judge",
        "scripted:j?text=Grade: 5&output=7",
    )  # fmt: skip
    for folder, more in (("first", ()), ("stored", ()), ("anew", ("--no-cache",))):
        assert code_of(*arguments, "--out", folder, *more) == 0
    capfd.readouterr()

    def paid(folder: str) -> float:
        last: dict[int, float] = {}
        for line in map(json.loads, Path(folder, "money.jsonl").read_text().splitlines()):
            last[line["number"]] = float(line.get("spent", line.get("held", 0)))
        return sum(last.values())

    assert paid("stored") == 0 < paid("first") == pytest.approx(paid("anew"))
    timed = [json.loads(line).get("seconds") for line in Path("anew/outputs.jsonl").read_text().splitlines()]
    assert None not in timed


@pytest.mark.parametrize("words", [("compare",), ("bench", "run")])
def test_a_dry_run_names_a_price_and_leaves_no_trace(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    grade = ("--grade", "rubric") if words[0] == "bench" else ()
    arguments = (
        *words, prompts(4), "--recipe", recipe("a", "one"), *grade, "--judge", DUMB, "--out", "out", "--dry-run",
        "--max-dollars", "0.000001",
    )  # fmt: skip
    assert code_of(*arguments) == 0
    said = capfd.readouterr().out
    assert "4 prompts of own; nothing was asked" in said
    rows = [line.split() for line in said.splitlines()]
    (whole,) = [row for row in rows if row and row[0] == "all"]
    # Bench: 4 prompts with 3 calls and a grade. Compare: also 3 members alone, two baselines, and 5 pairs in 2 orders.
    assert whole[1] == ("16" if words[0] == "bench" else "88")
    assert "typically ends the study" in said
    assert not Path("out").exists()
    assert not Path("state", "journal.db").exists()


def test_a_dry_run_names_models_without_a_price(capfd: pytest.CaptureFixture[str]) -> None:
    Path("partsong.toml").write_text('[providers.own]\napi = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n')
    Path("r.toml").write_text('name = "r"\nlayers = [{ agents = ["own:x"] }]\naggregator = "own:y"\n')
    assert code_of("bench", "run", "demo", "--recipe", "r.toml", "--dry-run") == 0
    assert "The price of own:x, own:y is unknown" in capfd.readouterr().out


def test_the_report_of_a_judged_comparison(capfd: pytest.CaptureFixture[str]) -> None:
    judge = "scripted:a?text=Verdict: A&input=1"  # of the family of one contestant, and prefers the first place
    arguments = (
        "compare", prompts(12), "--recipe", recipe("a", "one"), "--recipe", recipe("b", "two"), "--no-baselines",
        "--judge", judge, "--seed", "7", "--out", "out",
    )  # fmt: skip
    assert code_of(*arguments) == 0
    said = capfd.readouterr().out
    assert "no contestant is shown to be better than all others; a wins most often, 50.0 %" in said
    assert "preferred what it was shown first 100% of the time" in said
    assert "turned with the order in 100%" in said
    report = Path("out/report.html").read_text()
    for words in ("own", judge.replace("&", "&amp;"), "scripted:ap?text=one", "<td>7</td>", "dollars</td>"):
        assert words in report
    assert "no contestant is shown to be better" in report.partition("<h2>")[0]
    found = json.loads(Path("out/comparison.json").read_text())
    assert found["headline"].startswith("no contestant is shown")
    assert {*found["facts"]} == {"task", "prompts", "judge", "models", "seed", "date", "spent"}
    assert found["win_rates"]["a"]["n"] == 12
    assert Path("out/win-matrix.csv").read_text() == ",a,b\na,–,50.0%\nb,50.0%,–\n"


@pytest.mark.parametrize("judged", [False, True])
def test_the_progress_knows_the_total_from_the_start(judged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    perform = Comparison.perform

    async def watched(comparison: Comparison) -> None:
        seen.append((comparison.study.done, comparison.study.planned))
        await perform(comparison)
        seen.append((comparison.study.done, comparison.study.planned))
        assert comparison.study.later == 0

    monkeypatch.setattr(Comparison, "perform", watched)
    recipes = ("--recipe", recipe("a", "one"), "--recipe", recipe("b", "two"))
    own = (prompts(3), "--judge", "scripted:j?text=Verdict: tie") if judged else ("demo", "--limit", "3")
    assert code_of("compare", *own, *recipes, "--out", "out") == 0
    # 2 recipes, 6 members, 4 baselines; a verdict about the recipes, and 5 for each of them.
    whole = 3 * 12 + (3 * 11 if judged else 0)
    assert seen == [(0, whole), (whole, whole)]
    assert code_of("compare", *own, *recipes, "--out", "out") == 0
    assert seen[3] == (whole, whole)


def test_what_is_under_way_is_not_shown_as_spent(tmp_path: Path) -> None:
    money = Money(tmp_path / "money.jsonl", Decimal(10))
    first, second = money.hold(Decimal(4), "a"), money.hold(Decimal(3), "b")
    assert [money.settled, money.spent] == [Decimal(0), Decimal(7)]
    money.settle(first, Decimal(1))
    assert [money.settled, money.spent] == [Decimal(1), Decimal(4)]
    money.settle(second, None)
    assert [money.settled, money.spent] == [Decimal(4), Decimal(4)]
    money.hold(Decimal(2), "c")
    money.close()
    later = Money(tmp_path / "money.jsonl", None)  # the process died while the third was under way
    assert [later.settled, later.spent] == [Decimal(6), Decimal(6)]
    later.close()


def test_a_judge_of_the_own_family_is_flagged_in_every_study(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("bench", "run", prompts(2), "--recipe", recipe("a", "one"), "--grade", "rubric")
    assert code_of(*arguments, "--judge", "scripted:az?text=Grade: 5") == 0
    said = capfd.readouterr().out
    assert "take care: the judge scripted:az?text=Grade: 5 is of the family of scripted:az" in said
    assert "a has a mean grade of 5.00" in said


def verdicts(one: str, other: str, values: Sequence[float]) -> list[Verdict]:
    return [Verdict(one, other, str(place), value) for place, value in enumerate(values)]


def test_rates_matrix_and_headline() -> None:
    said = verdicts("a", "b", [1] * 20) + verdicts("a", "c", [1] * 15 + [0.5] * 5) + verdicts("b", "c", [0, 1] * 10)
    duels = duels_of_verdicts(said)
    rates = win_rates(duels)
    assert (rates["a"].mean, rates["b"].mean, rates["c"].mean) == pytest.approx((0.9375, 0.25, 0.3125))
    assert matrix(["a", "b", "c"], duels) == [
        ["a", "–", "100.0%", "87.5%"],
        ["b", "0.0%", "–", "50.0%"],
        ["c", "12.5%", "50.0%", "–"],
    ]
    differences: list[Difference] = []
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        found = preference(one, other, [each for each in said if (each.one, each.other) == (one, other)], 0)
        assert found is not None
        differences.append(found)
    assert headline(differences, rates).startswith("a is better than each of the 2 others")
    assert headline(differences[2:], rates).startswith("no contestant is shown to be better than all others; a wins")
    assert headline([], {}) == "no two contestants could be compared"


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=30))
def test_grades_give_the_duels_of_their_order(grades: list[tuple[int, int]]) -> None:
    a = {(str(place), 0): float(one) for place, (one, _) in enumerate(grades)}
    b = {(str(place), 0): float(other) for place, (_, other) in enumerate(grades)}
    rates = win_rates(duels_of_grades({"a": a, "b": b}))
    won = sum(one > other for one, other in grades) + 0.5 * sum(one == other for one, other in grades)
    assert rates["a"].mean == pytest.approx(won / len(grades))
    assert rates["a"].mean + rates["b"].mean == pytest.approx(1)
    for each in rates.values():
        assert 0 <= each.low <= each.mean + 1e-12
        assert each.mean <= each.high + 1e-12
        assert each.high - each.low > 0  # not even equal values are certain


@given(st.integers(1, 400), st.data())
def test_the_score_interval_of_a_share_is_wilsons(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    assert score_interval(hits / count, count) == proportion_interval(hits, count)


async def test_a_payment_waits_for_open_ones_that_may_make_room(tmp_path: Path) -> None:
    money = Money(tmp_path / "money.jsonl", Decimal(10))
    open_one = money.hold(Decimal(7), "a")
    waiting = asyncio.create_task(money.room_for(Decimal(6)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.wait_for(money.room_for(Decimal(11)), 5)  # no payment can make room for so much
    await asyncio.wait_for(money.room_for(Decimal(3)), 5)
    money.settle(open_one, Decimal(5))  # five are left, and nothing is open
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(BudgetError, match="may cost 6 dollars, but 5 are left"):
        money.hold(Decimal(6), "b")
    money.close()
