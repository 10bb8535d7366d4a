"""A task of the user's own: a JSONL or CSV file of prompts, which is read and checked before any model is called.

A line of JSON is a string (the prompt) or an object. An object has a `prompt` (or a `question`, or a list of `turns`),
and optionally an `id` and a `system` prompt. Its `reference` is one right answer, or a list of right answers, and may
be left out. A CSV file has columns of these names. All other fields become labels. Files of GSM8K and MATH can be used
unchanged: the reference is then the final answer of their solution.
"""

import csv
import importlib
import importlib.util
import inspect
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from partsong.bench.equivalence import stated
from partsong.bench.task import Sample, Task
from partsong.bench.tasks.exact import Exact
from partsong.bench.tasks.function import Function, Graded
from partsong.bench.tasks.judged import Preference, Rubric
from partsong.errors import QuestionError

PROMPT = ("prompt", "question", "instruction", "problem")
REFERENCE = ("reference", "references", "answer", "solution")
GRADES = "exact, choice, pairwise, rubric, or module:function"


def own_task(path: Path, grade: str | None) -> Task:
    """Read the task from a JSONL or CSV file.

    grade: "exact", "choice", "pairwise", "rubric" or "module:function"; `None` means "exact" if all prompts have a
        reference, and else "pairwise"

    Raises `QuestionError` if the file cannot be read, if a reference is missing that `grade` needs, or if the function
    cannot be imported.
    """
    samples = read_samples(path)
    lacking = [sample.id for sample in samples if not sample.reference]
    if grade is None:
        grade = "pairwise" if lacking else "exact"
    if grade in ("exact", "choice") and lacking:
        raise QuestionError(f"{path}: {lacking[0]} has no reference, but --grade {grade} needs one for every prompt")
    match grade:
        case "exact":
            return Exact(path.stem, [_with_final_references(each) for each in samples])
        case "choice":
            kind = {"kind": "choice"}
            return Exact(path.stem, [msgspec.structs.replace(each, labels=each.labels | kind) for each in samples])
        case "rubric":
            return Rubric(path.stem, samples)
        case "pairwise":
            whole = all(len(sample.reference) == len(sample.turns) for sample in samples)
            return Preference(path.stem, samples, grades=whole)
    function, source = find_function(grade)
    return Graded(path.stem, samples, function, {grade: source})


def _with_final_references(sample: Sample) -> Sample:
    """Return the sample with the final answer in place of each reference that is a whole solution.

    A solution is recognised by #### or \\boxed{…}, which mark the final answer in GSM8K and MATH.
    """
    marked = ("####", "\\boxed{")
    final = tuple(stated(each) or each if any(mark in each for mark in marked) else each for each in sample.reference)
    return msgspec.structs.replace(sample, reference=final)


def find_function(name: str) -> tuple[Function, str]:
    """Import a grading function, and return the function and the source of its module (empty if there is no source).

    name: "module:function" or "file.py:function"

    Raises `QuestionError` if `name` has another form, or if module or function cannot be imported.
    """
    module_name, colon, called = name.rpartition(":")
    if not colon or not module_name or not called:
        raise QuestionError(f'--grade is "{name}", but must be {GRADES}')
    file = Path(module_name if module_name.endswith(".py") else f"{module_name.replace('.', '/')}.py")
    try:
        if file.is_file():
            spec = importlib.util.spec_from_file_location(file.stem, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as problem:
        raise QuestionError(f"--grade {name}: {module_name} cannot be imported: {problem}") from None
    function = getattr(module, called, None)
    if not callable(function):
        raise QuestionError(f"--grade {name}: {module_name} has no function {called}")
    try:
        return function, inspect.getsource(module)
    except (OSError, TypeError):
        return function, ""


def read_samples(path: Path) -> list[Sample]:
    """Read the prompts from a CSV file (by its suffix), or else from a JSONL file.

    Raises `QuestionError` if the file cannot be read or has no prompt. If a line is wrong or repeats an id, the message
    has the number of the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise QuestionError(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise QuestionError(f"{path}: is no UTF-8 text: {problem}") from None
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, fields in _csv(text, path) if path.suffix == ".csv" else _json(text, path):
        sample = _sample(fields, number, f"{path}, line {number}")
        if sample.id in seen:
            raise QuestionError(f"{path}, line {number}: the id {sample.id} is also that of line {seen[sample.id]}")
        seen[sample.id] = number
        samples.append(sample)
    if not samples:
        raise QuestionError(f'{path}: has no prompt; it needs one a line, such as {{"prompt": "Why is the sky blue?"}}')
    return samples


def _json(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the fields of each line that is not blank."""
    # `splitlines` would split at characters such as U+2028 and U+0085, which JSON strings may contain unescaped.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line, type=str | dict[str, Any])
        except msgspec.DecodeError as problem:
            raise QuestionError(f"{path}, line {number}: {problem}") from None
        yield number, {"prompt": found} if isinstance(found, str) else found


def _csv(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number of the last line and the non-empty fields of each row."""
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not {*PROMPT, "turns"} & {*(rows.fieldnames or ())}:
        raise QuestionError(f"{path}: has no column `prompt`; its first line must name the columns")
    try:
        for row in rows:
            if None in row or None in row.values():
                raise QuestionError(f"{path}, line {rows.line_num}: has not as many cells as the first line")
            yield rows.line_num, {name: cell for name, cell in row.items() if cell}
    except csv.Error as problem:
        raise QuestionError(f"{path}, line {rows.line_num}: {problem}") from None


def _sample(fields: Mapping[str, Any], number: int, where: str) -> Sample:
    """Make a sample of the fields of a line. `number` is the default of the id, and `where` begins error messages."""
    rest = dict(fields)
    prompt = next((rest.pop(name) for name in PROMPT if name in rest), None)
    turns = _texts(rest.pop("turns", [] if prompt is None else [prompt]), "turns", where)
    if not turns or not all(turn.strip() for turn in turns):
        raise QuestionError(f"{where}: has no prompt, or an empty one")
    reference: Any = next((rest.pop(name) for name in REFERENCE if name in rest), [])
    if isinstance(reference, bool | int | float):
        reference = str(reference)
    identity, system = rest.pop("id", number), rest.pop("system", "")
    if not isinstance(identity, str | int) or not isinstance(system, str):
        raise QuestionError(f"{where}: id must be a string or a number, and system a string")
    labels = rest.pop("labels", {})
    plain = {**rest, **(labels if isinstance(labels, dict) else {"labels": labels})}
    said = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in plain.items()
    }
    return Sample(str(identity), turns, system, _texts(reference, "reference", where), said)


def _texts(value: Any, what: str, where: str) -> tuple[str, ...]:
    """Return a string, or a list of strings, as a tuple. `what` names the field in the error message."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise QuestionError(f"{where}: {what} must be a string, or a list of strings")
    return tuple(texts)
