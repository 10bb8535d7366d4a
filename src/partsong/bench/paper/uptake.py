"""Whether an aggregator's answers are more similar to the better proposals (section 3.3, Figures 4b and 6).

The proposals are graded like answers. For each question, Spearman's rho is computed over the proposals, between a
proposal's similarity to the answer and the proposal's grade. The paper shows the mean of rho over the questions.
"""

import numpy as np
from msgspec.structs import replace as with_fields

from partsong.bench.paper.exhibits import Row
from partsong.bench.paper.numbers import FIGURE_6, known_as
from partsong.bench.runner import Study
from partsong.bench.statistics.correlation import Rho, mean_rho
from partsong.bench.statistics.similarity import MEASURES as ALL
from partsong.bench.statistics.similarity import similarities
from partsong.bench.task import Output, key_of

MEASURES = ("BLEU-5", "TF-IDF", "Levenshtein")
INDEX = {"BLEU-5": 0, "TF-IDF": 1, "Levenshtein": 2}  # index of each measure in the rows of `FIGURE_6`


async def grade_proposals(study: Study, at_once: int) -> None:
    """Grade all proposals of the last layers that have no grade yet, and write the grades to the study's folder.

    at_once: number of proposals that are graded at the same time
    """
    samples = {sample.id: sample for sample in study.samples}
    wanted = {key_of(proposal): proposal for output in study.outputs.values() for proposal in proposals_of(output)}
    study.extra += len(wanted)
    study.extra_done += sum(key in study.grades for key in wanted)

    async def ask(key: tuple[str, str, int]) -> None:
        grade = await study.task.grade(samples[key[1]], wanted[key], study.judge)
        study.folder.grades.add(grade)
        if study.task.needs_judge:
            study.heard(grade.failed, grade.judged)
        if grade.failed:
            study.failed[key] = grade.failed
        else:
            study.grades[key] = grade
            study.extra_done += 1

    await study.each([key for key in wanted if key not in study.grades], ask, at_once)


def proposals_of(output: Output) -> list[Output]:
    """Return an output for each proposal of the last layer, in seat order, whose contestant is named after the seat."""
    return [
        with_fields(output, contestant=f"{output.contestant} / seat {seat}", answers=(*output.answers[:-1], text))
        for seat, (_, text) in enumerate(output.proposals)
    ]


def uptake(study: Study, contestant: str) -> dict[str, Rho]:
    """Return one contestant's mean rho by measure of similarity. Only outputs with all proposals graded are used.

    With ", length taken out" appended to the name of a measure, the value is the partial rho with the length of the
    proposals held constant. Measures without a rho are left out.
    """
    outputs = [
        output
        for key, output in study.outputs.items()
        if key[0] == contestant and all(key_of(each) in study.grades for each in proposals_of(output))
    ]
    grades = [np.array([study.grades[key_of(each)].value for each in proposals_of(output)]) for output in outputs]
    lengths = [np.array([float(len(text)) for _, text in output.proposals]) for output in outputs]
    likeness = similarities([(output.answers[-1], [text for _, text in output.proposals]) for output in outputs])
    found: dict[str, Rho] = {}
    for name in ALL:
        for label, beside in ((name, None), (f"{name}, length taken out", lengths)):
            if (rho := mean_rho(likeness[name], grades, beside, seed=study.seed)) is not None:
                found[label] = rho
    return found


def papers(row: Row) -> dict[str, float]:
    """Return the rho that the paper reports for a row, by measure; empty if the paper does not have the model."""
    found = FIGURE_6.get(known_as(row.series) or "")
    return {} if found is None else {name: found[index][row.layers - 2] for name, index in INDEX.items()}
