"""Questions with one right answer: 1 for right, 0 for wrong; nobody has to judge. Two sets of our own come along.

The label `kind` says how an answer is compared: `choice` by its letter, anything else as a number or as text.
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
    """The last answer to each sample against its references, any of which will do."""

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
    """The questions that ship with partsong, as one of `SHIPPED`."""
    lines = resources.files("partsong.bench.tasks").joinpath(f"{name}.jsonl").read_bytes().splitlines()
    return Exact(name, [msgspec.json.decode(line, type=Sample) for line in lines])
