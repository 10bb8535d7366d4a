"""A task whose answers are graded by a function of the user's own.

The function is called as `function(prompt, answer, references)`, and may be a coroutine function. It returns the grade,
or `None` for a missing one. An exception in the function ends the study; the grades so far are kept.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from partsong.bench.task import Grade, Judge, Output, Sample
from partsong.model import NOTHING_USED

Function = Callable[[str, str, list[str]], Any]


@dataclass(frozen=True, slots=True)
class Graded:
    """The task: a function grades the last answer of each output.

    function: called with the prompt, the answer and the references
    prompts: source of the function's module, by the function's name, so that the manifest has a hash of the source
    scale: lowest and highest grade; no limits by default
    """

    name: str
    samples: Sequence[Sample]
    function: Function
    prompts: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[float, float] = (-math.inf, math.inf)
    grades: bool = True
    needs_judge: bool = False

    def judge_calls(self, sample: Sample) -> int:
        return 0

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        value = self.function(sample.turns[-1], output.answers[-1], list(sample.reference))
        if inspect.isawaitable(value):
            value = await value
        failed = ""
        if value is None:
            failed = "the function gave no grade"
        elif not isinstance(value, bool | int | float) or not math.isfinite(value):
            failed = f"the function's grade is {value!r}, which is no number"
        graded = 0.0 if failed else float(value)
        return Grade(output.contestant, sample.id, graded, output.attempt, failed=failed, usage=NOTHING_USED)

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        return {}
