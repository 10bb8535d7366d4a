"""Questions with a known right answer, graded 1 for right and 0 for wrong, without a judge. Two sets are included.

If the sample's label `kind` is `choice`, the letter of the answer is compared with the reference. Otherwise numbers or
texts are compared, as `partsong.bench.equivalence` describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import msgspec

from partsong.bench.equivalence import choice, right
from partsong.bench.task import Grade, Judge, Output, Sample
from partsong.model import NOTHING_USED

# demo: 40 questions of several kinds, for a first look. quiz: 120 multiple-choice questions of general knowledge, for
# small models.
SHIPPED = ("demo", "quiz")


@dataclass(frozen=True, slots=True)
class Exact:
    """The task. A grade is 1 if the last answer of an output equals one of the sample's references, and else 0."""

    name: str
    samples: Sequence[Sample]
    scale: tuple[float, float] = (0.0, 1.0)
    grades: bool = True
    needs_judge: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)

    def judge_calls(self, sample: Sample) -> int:
        return 0

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        said = output.answers[-1]
        if sample.labels.get("kind") == "choice":
            good = choice(said) in sample.reference
        else:
            good = right(said, sample.reference)
        return Grade(output.contestant, sample.id, float(good), output.attempt, usage=NOTHING_USED)

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        """Return the share of right answers, from 0 to 1, by the label `kind` of the samples."""
        kinds = {sample.id: sample.labels.get("kind", "all") for sample in self.samples}
        by_kind: dict[str, list[float]] = {}
        for grade in grades:
            by_kind.setdefault(kinds[grade.sample], []).append(grade.value)
        return {kind: sum(values) / len(values) for kind, values in sorted(by_kind.items())}


def shipped(name: str) -> Exact:
    """Return an included set of questions. `name` is one of `SHIPPED`."""
    lines = resources.files("partsong.bench.tasks").joinpath(f"{name}.jsonl").read_bytes().splitlines()
    return Exact(name, [msgspec.json.decode(line, type=Sample) for line in lines])
