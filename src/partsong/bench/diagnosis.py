"""Diagnoses an aggregator: does its answer keep the best proposal, lose a correct proposal, or copy a proposal?

The diagnosis is computed from the files of a study, and no model is called. Figures that need grades of the proposals
are computed only for tasks that grade without a judge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean

from msgspec import Struct
from msgspec.structs import replace as with_fields

from partsong.bench.task import Grade, Output, Sample, Task, Verdict

COPIED = 0.95  # least ratio of difflib for a copy, which then differs in no more than a comma or a greeting


class Diagnosis(Struct, frozen=True, omit_defaults=True):
    """How one contestant's answers relate to the proposals that they were made from.

    `None` stands for a figure that cannot be computed. Shares are from 0 to 1, and grades are on the task's scale.

    n: number of answers that have proposals
    copied: share of the `n` answers that copy a proposal
    length: length of the answer divided by the mean length of its proposals, as the mean over the answers
    proposals: mean grade of the proposals: the expected grade of a random proposal
    oracle: mean grade of the best proposal of each answer
    closed: (mean grade of the answers - `proposals`) / (`oracle` - `proposals`); 1 if the answers reach the oracle
    lost: share of the graded answers that are wrong although most proposals are right
    found: share of the graded answers that are right although most proposals are wrong
    """

    n: int
    copied: float
    length: float | None = None
    proposals: float | None = None
    oracle: float | None = None
    closed: float | None = None
    lost: float | None = None
    found: float | None = None

    def words(self) -> str:
        """Return the diagnosis as one line of text."""
        said = [f"copies one proposal in {self.copied:.0%} of {self.n:,} answers"]
        if self.length is not None:
            said.append(f"answers are {self.length:.2f} times as long as proposals")
        if self.oracle is not None:
            closed = "" if self.closed is None else f" ({self.closed:.0%} of the gap is closed)"
            said.append(
                f"a random proposal has {self.proposals:.3f}, the best one of each prompt {self.oracle:.3f}{closed}"
            )
        if self.lost is not None:
            said.append(f"mostly right proposals became a wrong answer in {self.lost:.0%}")
            said.append(f"mostly wrong ones a right answer in {self.found:.0%}")
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class _Graded:
    answer: float
    proposals: Sequence[float]


async def diagnose(
    task: Task, samples: Sequence[Sample], outputs: Sequence[Output], grades: Sequence[Grade]
) -> Diagnosis | None:
    """Return the diagnosis of one contestant; `None` if none of its outputs has proposals.

    outputs, grades: those of the contestant
    samples: samples of the task, among them those of all outputs
    """
    mixed = [output for output in outputs if output.proposals]
    if not mixed:
        return None
    lengths = [
        len(output.answers[-1]) / mean
        for output in mixed
        if (mean := fmean(len(text) for _, text in output.proposals)) > 0
    ]
    diagnosis = Diagnosis(len(mixed), fmean(copied(output) for output in mixed), fmean(lengths) if lengths else None)
    if task.needs_judge or not task.grades:
        return diagnosis
    values = {(grade.sample, grade.attempt): grade.value for grade in grades}
    asked = {sample.id: sample for sample in samples}
    graded = []
    for output in mixed:
        own = [
            await task.grade(asked[output.sample], with_fields(output, answers=(*output.answers[:-1], text)), None)
            for _, text in output.proposals
        ]
        known = [grade.value for grade in own if not grade.failed]
        if known and (output.sample, output.attempt) in values:
            graded.append(_Graded(values[output.sample, output.attempt], known))
    return _with_grades(diagnosis, graded, binary=task.scale == (0.0, 1.0))


def _with_grades(diagnosis: Diagnosis, graded: Sequence[_Graded], binary: bool) -> Diagnosis:
    if not graded:
        return diagnosis
    mean, oracle = fmean(fmean(each.proposals) for each in graded), fmean(max(each.proposals) for each in graded)
    answers = fmean(each.answer for each in graded)
    diagnosis = with_fields(
        diagnosis, proposals=mean, oracle=oracle, closed=(answers - mean) / (oracle - mean) if oracle > mean else None
    )
    if not binary:
        return diagnosis
    lost = fmean(fmean(each.proposals) > 0.5 and each.answer < 0.5 for each in graded)
    found = fmean(fmean(each.proposals) < 0.5 and each.answer > 0.5 for each in graded)
    return with_fields(diagnosis, lost=lost, found=found)


def copied(output: Output) -> bool:
    """Return whether the last answer equals one of its proposals, except for spaces and a few characters."""
    answer = " ".join(output.answers[-1].split())
    matcher = SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(answer)
    for _, text in output.proposals:
        even = " ".join(text.split())
        if even == answer:
            return True
        matcher.set_seq1(even)
        quick = matcher.real_quick_ratio() >= COPIED and matcher.quick_ratio() >= COPIED
        if quick and matcher.ratio() >= COPIED:
            return True
    return False


class OrderBias(Struct, frozen=True):
    """How the order in which two answers are shown influences a judge.

    n: number of pairs of answers, each judged in both orders
    first: share of the verdicts, from 0 to 1, that prefer the answer shown first, a tie being half; 0.5 is unbiased
    turned: share of the pairs, from 0 to 1, in which the judge preferred the other answer in the other order
    """

    n: int
    first: float
    turned: float

    def words(self) -> str:
        """Return the bias as one line of text."""
        return (
            f"of {self.n:,} pairs, the judge preferred what it was shown first {self.first:.0%} of the time "
            f"(50% is fair), and turned with the order in {self.turned:.0%}"
        )


def order_bias(verdicts: Iterable[Verdict | Grade]) -> OrderBias | None:
    """Return how the order of the answers influenced the judge; `None` if no pair has a verdict in both orders.

    verdicts: verdicts about two contestants, or grades of answers that a judge has compared with a reference
    """
    parts = [each.parts for each in verdicts if {"first", "second"} <= each.parts.keys()]
    if not parts:
        return None
    first = fmean((each["first"] + 1 - each["second"]) / 2 for each in parts)
    return OrderBias(len(parts), first, fmean(abs(each["first"] - each["second"]) == 1 for each in parts))
