"""Works out every number of docs/results/exact.md from a folder of answers. No model is called.

A folder has, for a set such as `gsm8k_test`: the questions `gsm8k_test.jsonl`, the pool `pool-gsm8k_test.jsonl`, the
answers at temperature 0 `greedy-gsm8k_test.jsonl`, and the folders of studies `run-gsm8k_test-…`.

Answers are graded by the bench, and votes are counted by the engine. A vote is averaged over `ORDERS` random orders of
the pool's answers to each question. Where nobody states anything, a vote counts as wrong.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from partsong.bench.equivalence import right
from partsong.bench.figures import lines, save
from partsong.bench.statistics.detectable import smallest_difference
from partsong.bench.statistics.intervals import mean_interval, paired_interval
from partsong.bench.statistics.paired import paired_test
from partsong.bench.tasks.own import own_task
from partsong.engine.stated import Stated, stated
from partsong.engine.voting import elected, groups_of, outcome

Numbers = NDArray[np.float64]
ORDERS = 100
SIZES = (1, 2, 3, 5, 7, 9, 12)
SPEED = 9  # output tokens a second of the 1.5B model on one CPU thread
OUTPUT_WEIGHT = 4  # input tokens that cost as much as one output token


class Said(Struct, frozen=True):
    """One answer of the pool: what it states (`None`: it abstains), whether it is right, and its tokens."""

    statement: Stated | None
    right: bool
    end: str
    input_tokens: int
    output_tokens: int

    @property
    def cost(self) -> int:
        return self.input_tokens + OUTPUT_WEIGHT * self.output_tokens


class Questions(Struct, frozen=True):
    """The questions of a set: references and tasks by id."""

    references: dict[str, Sequence[str]]
    tasks: dict[str, str]


class Rule(Struct, frozen=True):
    """A way to answer from up to `most` answers of the pool, in order.

    agree: number of equal statements that end it, one answer at a time; 0: all are asked at once
    early: whether it ends, one answer at a time, once the winner is certain
    """

    name: str
    most: int
    agree: int = 0
    early: bool = False


class Result(Struct, frozen=True):
    """What a rule does on each question, as a mean over the orders: share right, answers asked, and tokens."""

    right: Numbers
    asked: Numbers
    output_tokens: Numbers
    cost: Numbers


RULES = (
    *(Rule(f"vote of {size}", size) for size in SIZES),
    *(Rule(f"vote of {size}, ends when decided", size, early=True) for size in (3, 5, 7, 9, 12)),
    *(Rule(f"up to {size}, ends when {agree} agree", size, agree) for size in (5, 12) for agree in (2, 3)),
    Rule("up to 12, ends when 4 agree", 12, 4),
)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_questions(path: Path) -> Questions:
    samples = own_task(path, "exact").samples
    return Questions({each.id: each.reference for each in samples}, {each.id: each.labels["task"] for each in samples})


def read_pool(path: Path, questions: Questions) -> dict[str, list[Said]]:
    """Return the answers to each question, in the order of the attempts."""
    found: dict[str, list[Said]] = {name: [] for name in questions.references}
    for row in sorted(read_lines(path), key=lambda row: row["attempt"]):
        text, end = row.get("text", ""), row.get("end", "failed")
        said = None if end != "stop" else stated(text)
        good = right(text, questions.references[row["sample"]])
        found[row["sample"]].append(Said(said, good, end, row.get("input_tokens", 0), row.get("output_tokens", 0)))
    return found


def elect(answers: Sequence[Said], majority: float = 0) -> Said | None:
    """Return the answer that a vote elects; `None` without a winner."""
    statements = {seat: each.statement for seat, each in enumerate(answers) if each.statement is not None}
    winner = elected(groups_of(statements), len(answers), majority)
    return None if winner is None else answers[winner.seats[0]]


def asked_by(rule: Rule, answers: Sequence[Said]) -> int:
    """Return how many of the answers the rule asks for."""
    if not (rule.agree or rule.early):
        return rule.most
    statements: dict[int, Stated] = {}
    for seat in range(rule.most):
        if (said := answers[seat].statement) is not None:
            statements[seat] = said
        if rule.agree:
            groups = groups_of(statements)
            if groups and len(groups[0].seats) >= rule.agree:
                return seat + 1
        elif outcome(statements, range(seat + 1, rule.most), rule.most, 0) == "won":
            return seat + 1
    return rule.most


def measured(rule: Rule, pool: dict[str, list[Said]], seed: int = 1) -> Result:
    """Return what a rule does, as a mean over random orders, which are the same for each rule."""
    chance = np.random.default_rng(seed)
    rows = []
    for answers in pool.values():
        found = []
        for _ in range(ORDERS):
            drawn = [answers[place] for place in chance.permutation(len(answers))]
            taken = drawn[: asked_by(rule, drawn)]
            # One answer alone needs no vote: it is the answer, whether it states anything or not.
            winner = taken[0] if rule.most == 1 else elect(taken)
            used = sum(each.output_tokens for each in taken)
            found.append((winner is not None and winner.right, len(taken), used, sum(each.cost for each in taken)))
        rows.append(np.mean(found, axis=0))
    return Result(*(np.array(column) for column in zip(*rows, strict=True)))


def percent(values: Numbers) -> str:
    found = mean_interval(values)
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def points(a: Numbers, b: Numbers) -> str:
    found = paired_interval(a, b)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]".replace("-", "−")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    for row in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print()


def pool_tables(name: str, pool: dict[str, list[Said]], first: Numbers | None) -> dict[str, Result]:
    """Print accuracy, calls and tokens of a single answer, votes and early stops, and return them.

    first: whether the answer at temperature 0 is right, for each question; `None` if it was not asked for
    """
    found = {rule.name: measured(rule, pool) for rule in RULES}
    everything = [each for answers in pool.values() for each in answers]
    cut = sum(each.end != "stop" for each in everything)
    silent = sum(each.end == "stop" and each.statement is None for each in everything)
    print(f"## {name}\n\n{len(pool)} questions, {len(everything)} answers: {cut} cut off, {silent} state nothing")
    every = np.array([np.mean([each.right for each in answers]) for answers in pool.values()])
    best = np.array([float(any(each.right for each in answers)) for answers in pool.values()])
    print(f"temperature 0.7, mean of 12: {percent(every)}; any of 12: {percent(best)}")
    if first is not None:
        print(f"temperature 0: {percent(first)}; against temperature 0.7: {points(first, every)}")
    print()
    rows = []
    for rule, result in found.items():
        tokens = result.output_tokens.mean()
        against = "" if first is None else points(result.right, first)
        row = (rule, percent(result.right), points(result.right, every), against, f"{result.asked.mean():.2f}")
        rows.append((*row, f"{tokens:,.0f}", f"{tokens / SPEED:,.0f}"))
    heads = ("method", "right", "against one answer", "against temperature 0", "answers", "output tokens")
    table((*heads, "CPU seconds (estimate)"), rows)
    for size in (5, 12):
        full = found[f"vote of {size}"]
        for other in (f"vote of {size}, ends when decided", *(f"up to {size}, ends when {k} agree" for k in (2, 3))):
            result = found[other]
            share = result.asked.mean() / full.asked.mean()
            print(f"* {other} − vote of {size}: {points(result.right, full.right)} at {share:.0%} of the answers")
    print()
    return found


def task_table(questions: Questions, pool: dict[str, list[Said]], found: dict[str, Result]) -> None:
    """Print a row for each task."""
    places = defaultdict(list)
    for place, name in enumerate(pool):
        places[questions.tasks[name]].append(place)
    rows = []
    for task, where in sorted(places.items()):
        everything = [each for place in where for each in list(pool.values())[place]]
        silent = sum(each.end == "stop" and each.statement is None for each in everything) / len(everything)
        cut = sum(each.end != "stop" for each in everything) / len(everything)
        shares = [f"{100 * found[rule].right[where].mean():.0f} %" for rule in ("vote of 1", "vote of 5", "vote of 12")]
        best = np.mean([any(each.right for each in list(pool.values())[place]) for place in where])
        rows.append((task, len(where), *shares, f"{best:.0%}", f"{silent:.0%}", f"{cut:.0%}"))
    table(("task", "questions", "one", "vote of 5", "vote of 12", "any of 12", "state nothing", "cut off"), rows)


class Ran(Struct, frozen=True):
    """How a recipe has answered its questions: for each id, whether the answer is right, and its tokens and losses."""

    right: dict[str, float]
    input_tokens: dict[str, int]
    output_tokens: dict[str, int]
    shortened: int

    @property
    def cost(self) -> float:
        both = zip(self.input_tokens.values(), self.output_tokens.values(), strict=True)
        return float(np.mean([each + OUTPUT_WEIGHT * written for each, written in both]))


def read_runs(folder: Path, name: str, questions: Questions) -> tuple[dict[str, Ran], list[dict[str, Any]]]:
    """Return the recipes that have run on a set, and their outputs."""
    rows = [row for path in sorted(folder.glob(f"run-{name}-*/outputs.jsonl")) for row in read_lines(path)]
    found = {}
    for recipe in dict.fromkeys(row["contestant"] for row in rows):
        of = [row for row in rows if row["contestant"] == recipe]
        found[recipe] = Ran(
            {row["sample"]: float(right(row["answers"][-1], questions.references[row["sample"]])) for row in of},
            {row["sample"]: row["usage"]["input_tokens"] for row in of},
            {row["sample"]: row["usage"]["output_tokens"] for row in of},
            sum(any(loss["kind"] == "shortened" for loss in row.get("losses", ())) for row in of),
        )
    return found, rows


def vote_first(rows: Sequence[dict[str, Any]], recipe: str, questions: Questions, majority: float) -> dict[str, Any]:
    """Return what a recipe would have answered if its proposals had been put to a vote before the aggregator.

    The proposals and the aggregator's answer are those of the run, so nothing is asked anew.
    """
    good: dict[str, float] = {}
    decided = 0
    changed: Counter[str] = Counter()
    for row in rows:
        if row["contestant"] != recipe:
            continue
        references = questions.references[row["sample"]]
        texts = [text for _, text in row["proposals"]]
        answers = [Said(stated(text), right(text, references), "stop", 0, 0) for text in texts]
        winner = elect(answers, majority)
        synthesized = right(row["answers"][-1], references)
        good[row["sample"]] = float(synthesized if winner is None else winner.right)
        if winner is not None:
            decided += 1
            changed[
                f"vote {'right' if winner.right else 'wrong'}, aggregator {'right' if synthesized else 'wrong'}"
            ] += 1
    return {"right": good, "decided": decided, "changed": dict(changed)}


def recipe_table(
    ran: dict[str, Ran], pool: dict[str, list[Said]], found: dict[str, Result], first: Numbers | None
) -> None:
    """Print each recipe beside a single answer and a vote for at most the same tokens, on the same questions."""
    order, rows = list(pool), []
    for recipe, each in ran.items():
        where = [order.index(name) for name in each.right]
        values = np.array(list(each.right.values()))
        single = found["vote of 1"].right[where]
        sizes = [size for size in SIZES if found[f"vote of {size}"].cost[where].mean() <= each.cost * 1.05] or [1]
        vote = found[f"vote of {sizes[-1]}"].right[where]
        # A vote of the pool's first answers is one run, like that of the recipe, so that both are right or wrong.
        once = np.array([_once(pool[name][: sizes[-1]]) for name in each.right])
        test = paired_test(values, once)
        least = smallest_difference(len(values), max(0.01, (test.above + test.below) / len(values)))
        against = "" if first is None else points(values, first[where])
        row: tuple[object, ...] = (recipe, percent(values), points(values, single), against)
        least_shown = "—" if least is None else f"{100 * least:.0f}"
        row = (*row, f"{sizes[-1]}: {100 * vote.mean():.1f} %", points(values, vote), least_shown)
        means = (f"{np.mean(list(of.values())):,.0f}" for of in (each.input_tokens, each.output_tokens))
        rows.append((*row, *means, each.shortened))
    heads = ("recipe", "right", "against one answer", "against temperature 0", "vote for its tokens", "against it")
    table((*heads, "could have shown", "input", "output", "shortened"), rows)


def _once(answers: Sequence[Said]) -> float:
    winner = answers[0] if len(answers) == 1 else elect(answers)
    return float(winner is not None and winner.right)


def vote_first_lines(rows: list[dict[str, Any]], ran: dict[str, Ran], questions: Questions) -> None:
    for recipe in ("self-moa-3-short", "self-moa-3", "self-moa-6-short"):
        if recipe in ran:
            voted = vote_first(rows, recipe, questions, 0.5)
            values, before = (np.array(list(of.values())) for of in (voted["right"], ran[recipe].right))
            print(
                f"* {recipe}, voted first: {percent(values)}, against itself {points(values, before)}; "
                f"{voted['decided']} of {len(values)} decided: {voted['changed']}"
            )
    print()


def draw(found: dict[str, dict[str, Result]], figures: Path) -> None:
    """Draw accuracy against the number of answers: the full vote, and the early stop."""
    kinds: dict[str, Callable[[str], bool]] = {
        "vote": lambda rule: rule in [f"vote of {size}" for size in SIZES],
        "ends when decided": lambda rule: "decided" in rule,
        "up to 12, ends when 2, 3, 4 agree": lambda rule: rule.startswith("up to 12"),
    }
    for name, results in found.items():
        series = {
            kind: [
                (round(float(each.asked.mean()), 1), 100 * float(each.right.mean()))
                for rule, each in results.items()
                if wanted(rule)
            ]
            for kind, wanted in kinds.items()
        }
        figure = lines(series, "mean answers for each question", "right answers in %")
        figure.axes[0].set_xticks(range(0, 13, 2))
        save(figure, figures / f"exact-{name}")


def report(folder: Path, figures: Path | None) -> None:
    """Print all tables, and draw the figures into `figures`."""
    drawn = {}
    for name in ("gsm8k_test", "bbh_test", "gsm8k_train", "bbh_dev"):
        if not (folder / f"pool-{name}.jsonl").exists():
            continue
        questions = read_questions(folder / f"{name}.jsonl")
        pool = read_pool(folder / f"pool-{name}.jsonl", questions)
        path = folder / f"greedy-{name}.jsonl"
        first = None
        if path.exists():
            first = np.array([float(each[0].right) for each in read_pool(path, questions).values()])
        found = pool_tables(name, pool, first)
        if len(set(questions.tasks.values())) > 1:
            task_table(questions, pool, found)
        ran, rows = read_runs(folder, name, questions)
        if ran:
            recipe_table(ran, pool, found, first)
            vote_first_lines(rows, ran, questions)
        if name.endswith("test"):
            drawn[name] = found
    if figures is not None:
        draw(drawn, figures)
