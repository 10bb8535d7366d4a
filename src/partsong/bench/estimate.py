"""Estimates what a study costs before any model is called: typically, and at most.

Each contestant is priced as `partsong cost` prices a recipe, once for each prompt and turn. The judge reads its own
prompt, the question and the answers. Prompts whose lengths are nearly equal are priced once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from partsong.bench.contestant import Contestant
from partsong.bench.task import Sample, Task, conversation_of
from partsong.model import Message, Request, Text, Usage
from partsong.model_info import ModelInfo
from partsong.money.budget import dearest
from partsong.money.typical import TYPICAL, Row, Sum, all_of, rows_of
from partsong.wire.tokens import estimate_tokens

STEP = 64  # tokens: lengths of prompts are rounded up to a multiple
RETOLD = 2  # most tokens of an answer in the prompt of the judge, for each token that its author wrote
JUDGED = 4096  # most tokens of a judge's answer


class Estimate(Struct, frozen=True):
    """A part of a study with its cost.

    what: name of the part
    calls: number of calls to models, without retries
    typical, most: typical tokens and dollars, and most tokens and dollars; dollars are `None` if a price is unknown
    """

    what: str
    calls: int
    typical: Sum
    most: Sum


class Lengths(Struct, frozen=True):
    """The tokens of an answer: typically, and at most."""

    typical: int
    most: int


def of_contestant(
    name: str,
    contestant: Contestant,
    samples: Sequence[Sample],
    attempts: int,
    info: Mapping[str, ModelInfo],
    usual: Mapping[str, int],
) -> tuple[Estimate, Lengths]:
    """Return the cost of all answers of a contestant, and the length of one answer.

    attempts: number of answers to each sample
    info: facts about each model of the contestant, by id
    usual: output tokens of a usual answer, by model id, for models whose answers are in the store
    """
    answer = rows_of(contestant.recipe, 1, info, usual)[-1]
    lengths = Lengths(answer.typical.output_tokens, answer.most.output_tokens)
    priced: dict[int, Row] = {}
    calls, typical, most = 0, Sum(), Sum()
    for (asked, turn), count in _prompts(samples).items():
        count *= attempts * contestant.samples
        likely, dearest_one = (
            _priced(asked + turn * length, contestant, info, usual, priced)
            for length in (lengths.typical, RETOLD * lengths.most)
        )
        calls += count * likely.calls
        typical += _times(count, likely.typical)
        most += _times(count, dearest_one.most)
    return Estimate(name, calls, typical, most), lengths


def of_judge(
    task: Task,
    samples: Sequence[Sample],
    times: int,
    answers: Sequence[Lengths],
    judge: str,
    info: ModelInfo,
    usual: Mapping[str, int],
) -> Estimate:
    """Return the cost of the judge's calls.

    times: number of verdicts or grades about each sample
    answers: lengths of the answers that the judge reads in one call
    judge: id of the judge
    """
    prompt = max((len(text) for text in task.prompts.values()), default=0) // 3
    said = usual.get(judge, TYPICAL)
    calls, typical, most = 0, Sum(), Sum()
    for sample in samples:
        count = times * max(1, task.judge_calls(sample))
        texts = (sample.system, *sample.turns, *sample.reference)
        asked = prompt + _tokens(tuple(Message("user", (Text(text),)) for text in texts if text))
        turns = len(sample.turns)
        read = asked + turns * sum(each.typical for each in answers)
        longest = asked + turns * RETOLD * sum(each.most for each in answers)
        calls += count
        price = None if info.dollars is None else info.dollars(Usage(read, said))
        typical += _times(count, Sum(read, said, price))
        most += _times(count, Sum(longest, JUDGED, dearest(info, longest, JUDGED)))
    return Estimate(f"judge {judge}", calls, typical, most)


def total_of(parts: Iterable[Estimate]) -> Estimate:
    """Return the sum of all parts."""
    whole = Estimate("all", 0, Sum(), Sum())
    for each in parts:
        whole = Estimate("all", whole.calls + each.calls, whole.typical + each.typical, whole.most + each.most)
    return whole


def _prompts(samples: Sequence[Sample]) -> Counter[tuple[int, int]]:
    """Return how often each prompt occurs: its tokens without answers, rounded up, and the number of earlier turns."""
    found: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        for turn in range(len(sample.turns)):
            tokens = _tokens(conversation_of(sample, ("",) * turn))
            found[-(-tokens // STEP) * STEP, turn] += 1
    return found


def _priced(
    tokens: int, contestant: Contestant, info: Mapping[str, ModelInfo], usual: Mapping[str, int], known: dict[int, Row]
) -> Row:
    if tokens not in known:
        known[tokens] = all_of(rows_of(contestant.recipe, tokens, info, usual))
    return known[tokens]


def _tokens(messages: tuple[Message, ...]) -> int:
    return estimate_tokens(Request(messages))


def _times(count: int, each: Sum) -> Sum:
    dollars = None if each.dollars is None else count * each.dollars
    return Sum(count * each.input_tokens, count * each.output_tokens, dollars)
