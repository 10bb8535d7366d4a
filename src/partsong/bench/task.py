"""The words of the bench: a task is a set of samples, and a way to grade the answers to them.

A contestant is a recipe, or one model as a recipe of its own. Samples, outputs and grades go to JSON lines and come
back, so that a study can be stopped, read, and graded again without asking any model twice.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from msgspec import Struct

from partsong.events import Loss
from partsong.model import NOTHING_USED, Answer, Message, Request, Text, Usage


class Sample(Struct, frozen=True, omit_defaults=True):
    """One prompt, or one conversation of several turns.

    turns: the user's messages; each is asked after the answer to the one before
    system: system prompt, empty for none
    reference: correct answers, or the answer to compare with
    labels: what is known about the sample, such as its category or its skills
    """

    id: str
    turns: tuple[str, ...]
    system: str = ""
    reference: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Output(Struct, frozen=True, omit_defaults=True):
    """What a contestant answered to a sample.

    answers: one for each turn
    attempt: index of the attempt, where a sample is asked several times
    failed: why an answer is missing; empty if none is
    usage: tokens and dollars of all calls; a stored answer counts with what it used when it was made
    seconds: duration of the runs; `None` if an answer came from the store, so that the duration is unknown
    losses: what the runs lost
    proposals: model and text of each proposal of the last layer in the last turn, in seat order
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


class Grade(Struct, frozen=True, omit_defaults=True):
    """How good an output is.

    value: the grade on the task's own scale
    attempt: index of the attempt
    parts: grades by turn, by skill, or by the order in which the answers were shown
    judged: what the judge wrote, once for each call
    failed: why there is no grade; such a grade counts as missing, never as 0
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
    """Which of two outputs a judge prefers. The judge is asked twice, with each of the two shown first.

    one, other: the contestants
    value: from 0 to 1: 1 if `one` is preferred, 0 if `other` is, and the mean of both verdicts
    attempt: index of the attempt
    parts: the value of each verdict: `first` with `one` shown first, `second` with `one` shown second
    judged: what the judge wrote, once for each call
    failed: why a verdict is missing; without both there is no value
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


Ask = Callable[[Request], Awaitable[Answer]]  # one call to the judge; raises `ModelError`


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that grades: its id, and the function that calls it."""

    id: str
    ask: Ask


class Task(Protocol):
    """Samples, and how the answers to them are graded.

    name: name of the task
    scale: the least and the greatest grade
    grades: whether answers are graded; if not, a judge only compares them with one another
    needs_judge: whether grading needs a model
    samples: the prompts
    prompts: prompts of the judge, by name; their hashes go to the manifest
    grade: grades one output; a grade that cannot be made has `failed`, and nothing is raised
    summarise: computes the task's own figures from all grades of one contestant
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

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade: ...

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]: ...


def conversation_of(sample: Sample, answers: Sequence[str]) -> tuple[Message, ...]:
    """The messages of the next turn: the turns so far, each with its answer, and then the next message of the user."""
    said = [Message("system", (Text(sample.system),))] if sample.system else []
    for turn, answer in zip(sample.turns, answers, strict=False):
        said += [Message("user", (Text(turn),)), Message("assistant", (Text(answer),))]
    return (*said, Message("user", (Text(sample.turns[len(answers)]),)))


def key_of(value: Output | Grade) -> tuple[str, str, int]:
    """The key of an output and of its grade: contestant, sample, attempt."""
    return value.contestant, value.sample, value.attempt


def pair_of(verdict: Verdict) -> tuple[str, str, str, int]:
    """The key of a verdict: both contestants, sample, attempt."""
    return verdict.one, verdict.other, verdict.sample, verdict.attempt


def used(answer: Answer) -> Usage:
    """What the answer used, now or, if it comes from the store, when it was made."""
    return answer.usage + (answer.stored or NOTHING_USED)


def dollars_an_answer(outputs: Sequence[Output]) -> Decimal | None:
    """What an answer costs on average, in dollars; `None` without outputs, or where a price is unknown."""
    prices = [output.usage.dollars for output in outputs]
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) / len(prices) if prices and len(known) == len(prices) else None
