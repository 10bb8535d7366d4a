"""Tasks that a judge grades: each answer from 1 to 10, or each answer in comparison with a reference.

Without a reference, an answer cannot be graded by comparison. Then a judge only compares answers of two contestants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from partsong.bench.judging import LEAST, MOST, PREFERENCE, RUBRIC, Heard, prefer_both_ways, rate
from partsong.bench.task import Grade, Judge, Output, Sample
from partsong.model import NOTHING_USED


@dataclass(frozen=True, slots=True)
class Rubric:
    """The task of grading each answer from 1 to 10. The grade of an output is the mean of its turns' grades."""

    name: str
    samples: Sequence[Sample]
    scale: tuple[float, float] = (float(LEAST), float(MOST))
    grades: bool = True
    needs_judge: bool = True

    @property
    def prompts(self) -> Mapping[str, str]:
        return {"rubric": RUBRIC}

    def judge_calls(self, sample: Sample) -> int:
        return len(sample.turns)

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        assert judge is not None
        heard: list[Heard] = []
        for turn in range(len(sample.turns)):
            so_far = Sample(sample.id, sample.turns[: turn + 1], sample.system, sample.reference, sample.labels)
            heard.append(await rate(judge, so_far, output.answers[: turn + 1]))
        values = [each.value for each in heard if each.value is not None]
        whole = len(values) == len(heard)
        return Grade(
            output.contestant,
            sample.id,
            sum(values) / len(values) if whole else 0.0,
            output.attempt,
            {f"turn {turn + 1}": value for turn, value in enumerate(values)} if whole and len(values) > 1 else {},
            tuple(each.words for each in heard if each.words),
            next((each.failed for each in heard if each.failed), ""),
            sum((each.usage for each in heard), NOTHING_USED),
        )

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        parts: dict[str, list[float]] = {}
        for grade in grades:
            for part, value in grade.parts.items():
                parts.setdefault(part, []).append(value)
        return {part: sum(values) / len(values) for part, values in sorted(parts.items())}


@dataclass(frozen=True, slots=True)
class Preference:
    """The task of comparing each answer with the sample's reference, shown to the judge in both orders.

    A grade is the mean of both verdicts: 1 if the judge prefers the answer, 0.5 for a tie, 0 for the reference. If
    `grades` is false, answers get no grade, and a judge only compares the answers of two contestants.
    """

    name: str
    samples: Sequence[Sample]
    grades: bool
    scale: tuple[float, float] = (0.0, 1.0)
    needs_judge: bool = True

    @property
    def prompts(self) -> Mapping[str, str]:
        return {"preference": PREFERENCE}

    def judge_calls(self, sample: Sample) -> int:
        return 2

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        assert judge is not None
        asked = Sample(sample.id, sample.turns, sample.system, (), sample.labels)
        verdict = await prefer_both_ways(judge, asked, output, Output("reference", sample.id, sample.reference))
        return Grade(
            output.contestant,
            sample.id,
            verdict.value,
            output.attempt,
            verdict.parts,
            verdict.judged,
            verdict.failed,
            verdict.usage,
        )

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        return {}
