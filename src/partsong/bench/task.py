"""What the bench measures with: a task is samples, and a way to grade what a contestant said to them.

A contestant is a recipe, or one model alone as a recipe. Samples, outputs and grades are data that go to JSON lines and
come back, so that a study can be stopped, looked at and graded again without asking anybody twice.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from msgspec import Struct

from partsong.events import Loss
from partsong.model import NOTHING_USED, Answer, Message, Request, Text, Usage


class Sample(Struct, frozen=True, omit_defaults=True):
    """One thing to ask: `turns` are the user's words, one after another, each after the answer to the one before.

    `reference` is what is right, or what somebody else said; `labels` tell what kind it is (its category, its skills).
    """

    id: str
    turns: tuple[str, ...]
    system: str = ""
    reference: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Output(Struct, frozen=True, omit_defaults=True):
    """What `contestant` answered to a sample, one for each turn; `attempt` counts from 0 where it is asked again.

    `failed` says why there is no (whole) answer. `usage` and `seconds` count all calls of its runs; where some were
    found in the store, nobody knows how long they took. `proposals` are what the last layer before the aggregator
    proposed in the last turn, by model, in seat order.
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
    """How good an output was: `value` on the task's own scale, `parts` by turn, skill or order of showing.

    `judged` are the judge's own words, one for each time that it was asked, and `usage` what it used. A grade that
    could not be made says why in `failed`, and is counted as missing, never as 0.
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
    """Which of two outputs a judge prefers, asked once with each of them shown first: 1 for `one`, 0 for `other`.

    `parts` are the two verdicts by which was shown `first`; one that could not be had makes all of it missing.
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
    """A model that grades. `id` is what the manifest and the check for its family say of it."""

    id: str
    ask: Ask


class Task(Protocol):
    """Samples, and how outputs to them are graded.

    With `grades` false nothing is graded: outputs are only compared with one another, by a judge.
    `scale` is the least and the greatest value of a grade. `grade` raises nothing that is expected: what could not be
    judged is a grade with `failed`. `prompts` are what a judge is told, by name; their hashes go to the manifest.
    `summarise` makes the task's own figures of all grades of one contestant.
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
    """What is asked next of a sample: its turns so far with the answers that were given to them."""
    said = [Message("system", (Text(sample.system),))] if sample.system else []
    for turn, answer in zip(sample.turns, answers, strict=False):
        said += [Message("user", (Text(turn),)), Message("assistant", (Text(answer),))]
    return (*said, Message("user", (Text(sample.turns[len(answers)]),)))


def key_of(value: Output | Grade) -> tuple[str, str, int]:
    """What an output, and its grade, are found under: contestant, sample, attempt."""
    return value.contestant, value.sample, value.attempt


def pair_of(verdict: Verdict) -> tuple[str, str, str, int]:
    """What a verdict is found under."""
    return verdict.one, verdict.other, verdict.sample, verdict.attempt


def used(answer: Answer) -> Usage:
    """What the answer used, now or, if it comes from the store, when it was made."""
    return answer.usage + (answer.stored or NOTHING_USED)


def dollars_an_answer(outputs: Sequence[Output]) -> Decimal | None:
    """What an answer costs on average, in dollars; `None` without outputs, or where a price is unknown."""
    prices = [output.usage.dollars for output in outputs]
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) / len(prices) if prices and len(known) == len(prices) else None
