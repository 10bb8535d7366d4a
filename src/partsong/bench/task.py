"""The terms of the bench as types: sample, output, grade, verdict, judge and task.

A task is a set of samples, and a way to grade the answers to them. A contestant is a recipe, or one model as a recipe
of its own. A study lets contestants answer the samples of a task. Samples, outputs and grades are stored as JSON lines.
So a study can be stopped, read, and graded again, and no model is called twice for the same answer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from partsong.bench.counts import Counts
from partsong.events import Loss
from partsong.model import NOTHING_USED, Answer, Message, Request, Terms, Text, Usage


class Sample(Struct, frozen=True, omit_defaults=True):
    """One prompt, or one conversation of several turns.

    id: unique within the task
    turns: the user's messages; each is sent after the model has answered the message before
    system: system prompt; empty for none
    reference: correct answers, or the answer that the contestant's answer is compared with; empty for none
    labels: properties of the sample by name, such as `category` or `skills`; empty for none
    """

    id: str
    turns: tuple[str, ...]
    system: str = ""
    reference: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Output(Struct, frozen=True, omit_defaults=True):
    """A contestant's answers to a sample.

    contestant: name of the contestant
    sample: id of the sample
    answers: one answer for each turn; fewer if a run failed
    attempt: index of the attempt, if a sample is answered several times; 0 by default
    failed: why an answer is missing; empty if no answer is missing
    usage: tokens and dollars of all calls; an answer from the store counts with the usage of its original call
    seconds: duration of the runs; `None` if an answer came from the store, so that the duration is unknown
    losses: losses of the runs (failed, late, replaced, truncated or shortened seats)
    runs: unused
    proposals: model id and text of each proposal of the last layer in the last turn, in seat order
    counts: how the runs were decided; `None` for a recipe that neither votes nor agrees
    """

    contestant: str
    sample: str
    answers: tuple[str, ...]
    attempt: int = 0
    failed: str = ""
    usage: Usage = Usage()
    seconds: float | None = None
    losses: tuple[Loss, ...] = ()
    runs: tuple[str, ...] = ()
    proposals: tuple[tuple[str, str], ...] = ()
    counts: Counts | None = None


class Grade(Struct, frozen=True, omit_defaults=True):
    """The grade of one output.

    contestant: name of the contestant
    sample: id of the sample
    value: the grade on the task's scale; 0, and without meaning, if `failed` is not empty
    attempt: index of the attempt; 0 by default
    parts: grades that `value` is computed from, by turn, by skill, or by the order in which the answers were shown
    judged: texts that the judge wrote, one for each call
    failed: why the output could not be graded; empty if it was graded; a failed grade counts as missing, never as 0
    usage: tokens and dollars of the judge's calls
    """

    contestant: str
    sample: str
    value: float
    attempt: int = 0
    parts: dict[str, float] = {}
    judged: tuple[str, ...] = ()
    failed: str = ""
    usage: Usage = Usage()


class Verdict(Struct, frozen=True, omit_defaults=True):
    """Which of two contestants' outputs a judge prefers. The judge is called twice, with each output shown first once.

    one, other: names of the contestants
    sample: id of the sample
    value: mean over both calls of 1 (`one` is preferred), 0.5 (a tie) or 0 (`other` is preferred)
    attempt: index of the attempt; 0 by default
    parts: the value of each call: `first` if `one` was shown first, and `second` if `one` was shown second
    judged: texts that the judge wrote, one for each call
    failed: why a call gave no value; empty if both gave one; a failed verdict counts as missing
    usage: tokens and dollars of the judge's calls
    """

    one: str
    other: str
    sample: str
    value: float
    attempt: int = 0
    parts: dict[str, float] = {}
    judged: tuple[str, ...] = ()
    failed: str = ""
    usage: Usage = Usage()


Ask = Callable[[Request], Awaitable[Answer]]  # makes one call to the judge; raises `ModelError` if the call fails


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that grades: its id, and the function that calls the model."""

    id: str
    ask: Ask

    async def answer_to(self, request: Request, read: Callable[[Answer], object | None]) -> Answer:
        """Ask the judge, and return its answer. A stored answer is used only if a verdict can be read from it.

        read: returns the verdict in an answer; `None` if there is none

        At temperature 0 the request is the same at each start. So the store would give an unreadable answer for ever.
        Raises `ModelError` if a call fails.
        """
        answer = await self.ask(request)
        if answer.stored is not None and read(answer) is None:
            answer = await self.ask(replace(request, terms=Terms(cache=False)))
        return answer


class Task(Protocol):
    """Samples, and how the answers to them are graded.

    name: name of the task
    scale: lowest and highest grade
    grades: whether each answer gets a grade; if not, a judge compares the answers of two contestants
    needs_judge: whether a judge must be named
    samples: the prompts
    prompts: prompts of the judge, or source of the grading function, by name; hashes of them are in the manifest
    judge_calls: number of calls to the judge for one verdict about an answer to a sample; 0 without a judge
    grade: grades one output; returns a `Grade` with `failed` set if the output cannot be graded, and raises nothing
    summarise: computes figures that only this task has, by name, from all grades and outputs of one contestant
    """

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> tuple[float, float]: ...

    @property
    def grades(self) -> bool: ...

    @property
    def needs_judge(self) -> bool: ...

    @property
    def samples(self) -> Sequence[Sample]: ...

    @property
    def prompts(self) -> Mapping[str, str]: ...

    def judge_calls(self, sample: Sample) -> int: ...

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade: ...

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]: ...


def conversation_of(sample: Sample, answers: Sequence[str]) -> tuple[Message, ...]:
    """Return the messages to send for the next turn.

    answers: the model's answers to the first turns, fewer than the sample has turns

    The messages are the system prompt, each answered turn with its answer, and the first turn without an answer.
    """
    said = [Message("system", (Text(sample.system),))] if sample.system else []
    for turn, answer in zip(sample.turns, answers, strict=False):
        said += [Message("user", (Text(turn),)), Message("assistant", (Text(answer),))]
    return (*said, Message("user", (Text(sample.turns[len(answers)]),)))


def key_of(value: Output | Grade) -> tuple[str, str, int]:
    """Return the key that an output and its grade share: contestant, sample id, index of the attempt."""
    return value.contestant, value.sample, value.attempt


def pair_of(verdict: Verdict) -> tuple[str, str, str, int]:
    """Return the key of a verdict: both contestants, sample id, index of the attempt."""
    return verdict.one, verdict.other, verdict.sample, verdict.attempt


def used(answer: Answer) -> Usage:
    """Return the tokens and dollars of an answer. An answer from the store has those of its original call."""
    return answer.usage + (answer.stored or NOTHING_USED)


def dollars_an_answer(outputs: Sequence[Output]) -> Decimal | None:
    """Return the mean cost of an output in dollars; `None` without outputs, or if the price of one is unknown."""
    prices = [output.usage.dollars for output in outputs]
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) / len(prices) if prices and len(known) == len(prices) else None
