"""Questions with a known right answer, graded 1 for right and 0 for wrong, without a judge. Two sets are included.

If the label `kind` is `choice`, the letter of the answer is compared; otherwise a number, or text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import msgspec

from partsong.bench.equivalence import choice, right
from partsong.bench.task import Grade, Judge, Output, Sample
from partsong.model import NOTHING_USED

# Forty questions of several kinds, for a first look; 120 multiple choices of general knowledge, for small models.
SHIPPED = ("demo", "quiz")


@dataclass(frozen=True, slots=True)
class Exact:
    """The task: the last answer to each sample must equal one of the references."""

    name: str
    samples: Sequence[Sample]
    scale: tuple[float, float] = (0.0, 1.0)
    grades: bool = True
    needs_judge: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        said = output.answers[-1]
        if sample.labels.get("kind") == "choice":
            good = choice(said) in sample.reference
        else:
            good = right(said, sample.reference)
        return Grade(output.contestant, sample.id, float(good), output.attempt, usage=NOTHING_USED)

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        kinds = {sample.id: sample.labels.get("kind", "all") for sample in self.samples}
        by_kind: dict[str, list[float]] = {}
        for grade in grades:
            by_kind.setdefault(kinds[grade.sample], []).append(grade.value)
        return {kind: sum(values) / len(values) for kind, values in sorted(by_kind.items())}


def shipped(name: str) -> Exact:
    """One of the included sets of questions, by its name in `SHIPPED`."""
    lines = resources.files("partsong.bench.tasks").joinpath(f"{name}.jsonl").read_bytes().splitlines()
    return Exact(name, [msgspec.json.decode(line, type=Sample) for line in lines])
