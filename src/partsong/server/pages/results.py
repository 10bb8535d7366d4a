"""The routes for the results of the bench, read from the folders of its studies below the working directory.

The files are read as plain JSON, so that the server does not need the libraries of the bench. The results belong to
the user of the machine, so a request with a key may not read them.
"""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.model import Usage
from partsong.server.pages.request import said, who
from partsong.server.pages.votes import wilson
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem

T = TypeVar("T")
PLACES = ("bench", "paper", "results")  # folders of studies, below the working directory
WORST = 20  # prompts to show on which a mixture lost


class Sample(Struct, frozen=True):
    """A line of `samples.jsonl`."""

    id: str
    turns: tuple[str, ...]


class Graded(Struct, frozen=True):
    """A line of `grades.jsonl`."""

    contestant: str
    sample: str
    value: float
    attempt: int = 0
    failed: str = ""


class Answered(Struct, frozen=True):
    """A line of `outputs.jsonl`."""

    contestant: str
    sample: str
    answers: tuple[str, ...] = ()
    attempt: int = 0
    failed: str = ""
    usage: Usage = Usage()
    seconds: float | None = None


class Preferred(Struct, frozen=True):
    """A line of `verdicts.jsonl`: a judge's comparison of the contestants `one` and `other` on a sample.

    value: 1 if `one` is better, 0 if `other` is, 0.5 for a tie
    """

    one: str
    other: str
    sample: str
    value: float
    attempt: int = 0
    failed: str = ""


class Lost(Struct, frozen=True):
    """A sample on which the contestant `one` was worse than `other`, by the difference `by` (above 0, at most 1)."""

    one: str
    other: str
    sample: str
    attempt: int
    by: float


class Results:
    """The studies of the bench."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/results", self.all, methods=["GET"]),
            Route("/api/results/{name}", self.one, methods=["GET"]),
        ]

    async def all(self, request: Request) -> Response:
        """The studies, the newest first."""
        self._check(request)

        def listed() -> list[dict[str, Any]]:
            folders = sorted(studies().values(), key=lambda folder: -changed(folder))
            return [line(folder) for folder in folders]

        return said({"results": await asyncio.to_thread(listed)})

    async def one(self, request: Request) -> Response:
        """A study: its manifest, its contestants with scores and costs, and prompts on which mixtures lost."""
        self._check(request)
        name = request.path_params["name"]
        folder = (await asyncio.to_thread(studies)).get(
            name
        )  # looked up among the existing studies, so that no name leads elsewhere
        if folder is None:
            raise ProblemError(Problem(404, "not_found", f'there is no study "{name}" here', "name"))
        return said(await asyncio.to_thread(read_study, folder))

    def _check(self, request: Request) -> Service:
        service = self.service()
        if who(request, service) is not None:
            message = (
                "the results of the bench belong to the user of the server: a request with a key may not read them"
            )
            raise ProblemError(Problem(403, "permission", message))
        return service


def studies() -> dict[str, Path]:
    """The folders of the studies, by name."""
    found = [path.parent for place in PLACES for path in sorted(Path(place).glob("*/manifest.json"))]
    return {folder.name: folder for folder in reversed(found)}


def changed(folder: Path) -> float:
    """Unix time of the last change of a file in the folder."""
    return max((path.stat().st_mtime for path in folder.glob("*.json*")), default=0.0)


def line(folder: Path) -> dict[str, Any]:
    """The summary of the study in a folder, for the list of studies."""
    manifest = document(folder / "manifest.json") or {}
    return {
        "name": folder.name,
        "folder": str(folder),
        "task": manifest.get("task"),
        "contestants": list(manifest.get("contestants") or {}),
        "samples": len(manifest.get("samples") or ()),
        "compared": (folder / "comparison.json").is_file(),
        "changed": round(changed(folder)),
    }


def read_study(folder: Path) -> dict[str, Any]:
    """The study in a folder with all data that the page shows: manifest, contestants, comparison, and lost samples."""
    outputs = {(each.contestant, each.sample, each.attempt): each for each in rows(folder / "outputs.jsonl", Answered)}
    grades = {(each.contestant, each.sample, each.attempt): each for each in rows(folder / "grades.jsonl", Graded)}
    verdicts = {
        (each.one, each.other, each.sample, each.attempt): each for each in rows(folder / "verdicts.jsonl", Preferred)
    }
    manifest = document(folder / "manifest.json") or {}
    mixtures = [name for name, each in (manifest.get("contestants") or {}).items() if has_layers(each)]
    worst = sorted(
        [*lost_by_grades(grades, mixtures), *lost_by_verdicts(verdicts.values(), mixtures)], key=lambda each: -each.by
    )
    questions = {each.id: "\n\n".join(each.turns) for each in rows(folder / "samples.jsonl", Sample)}
    names = dict.fromkeys(contestant for contestant, _, _ in (*outputs, *grades))
    return {
        **line(folder),
        "manifest": manifest,
        "contestants": [scored(name, outputs, grades) for name in names],
        "comparison": document(folder / "comparison.json"),
        "paper": document(folder / "paper.json"),
        "lost": [shown(each, outputs, questions) for each in worst[:WORST]],
    }


def scored(
    name: str, outputs: dict[tuple[str, str, int], Answered], grades: dict[tuple[str, str, int], Graded]
) -> dict[str, Any]:
    """The mean grade, the costs and the failures of the contestant `name`, as plain values.

    outputs, grades: by contestant, sample and attempt

    `interval` is the 95 % interval of the share of right answers; `None` if grades are not all 0 or 1, or if samples
    have several attempts. `comparison.json` has the intervals of other grades.
    """
    own = [each for key, each in outputs.items() if key[0] == name]
    values = [each.value for key, each in grades.items() if key[0] == name and not each.failed]
    samples = {each.sample for key, each in grades.items() if key[0] == name and not each.failed}
    share = values and set(values) <= {0.0, 1.0} and len(samples) == len(values)
    prices = [each.usage.dollars for each in own]
    known = [price for price in prices if price is not None]
    seconds = [each.seconds for each in own if each.seconds is not None]
    return {
        "name": name,
        "answers": len(own),
        "failed": sum(bool(each.failed) for each in own),
        "n": len(values),
        "value": fmean(values) if values else None,
        "interval": wilson(sum(values), len(values)) if share else None,
        "dollars": sum(known, Decimal(0)) if len(known) == len(prices) else None,
        "tokens": sum(each.usage.input_tokens + each.usage.output_tokens for each in own),
        "seconds": fmean(seconds) if seconds else None,
    }


def lost_by_grades(grades: dict[tuple[str, str, int], Graded], mixtures: list[str]) -> Iterator[Lost]:
    """The samples on which a mixture has a lower grade than the best other contestant.

    grades: by contestant, sample and attempt
    mixtures: names of the contestants that are mixtures
    """
    best: dict[tuple[str, int], list[Graded]] = {}
    for each in grades.values():
        if not each.failed:
            best.setdefault((each.sample, each.attempt), []).append(each)
    for (sample, attempt), those in best.items():
        for own in those:
            others = [each for each in those if each.contestant != own.contestant]
            if own.contestant in mixtures and others:
                other = max(others, key=lambda each: each.value)
                if other.value > own.value:
                    yield Lost(own.contestant, other.contestant, sample, attempt, other.value - own.value)


def lost_by_verdicts(verdicts: Any, mixtures: list[str]) -> Iterator[Lost]:
    """The samples on which a judge preferred another contestant to a mixture.

    mixtures: names of the contestants that are mixtures
    """
    for each in verdicts:
        if each.failed:
            continue
        if each.one in mixtures and each.value < 0.5:
            yield Lost(each.one, each.other, each.sample, each.attempt, 1 - 2 * each.value)
        elif each.other in mixtures and each.value > 0.5:
            yield Lost(each.other, each.one, each.sample, each.attempt, 2 * each.value - 1)


def shown(lost: Lost, outputs: dict[tuple[str, str, int], Answered], questions: dict[str, str]) -> dict[str, Any]:
    """A sample on which a mixture lost, with its question and the last answer of both sides, as plain values.

    outputs: by contestant, sample and attempt
    questions: texts of the prompts, by id of the sample
    """
    sides = [outputs.get((name, lost.sample, lost.attempt)) for name in (lost.one, lost.other)]
    answers = ["" if each is None or not each.answers else each.answers[-1] for each in sides]
    return {**msgspec.to_builtins(lost), "question": questions.get(lost.sample), "answers": answers}


def has_layers(contestant: Any) -> bool:
    """Whether the contestant is a mixture, and not a single model."""
    recipe = contestant.get("recipe") if isinstance(contestant, dict) else None
    return bool(isinstance(recipe, dict) and recipe.get("layers"))


def document(file: Path) -> Any:
    """The content of a JSON file; `None` if it is missing or unreadable."""
    try:
        return msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def rows(file: Path, kind: type[T]) -> Iterator[T]:
    """The lines of a JSON Lines file, as values of `kind`. Lines that do not fit `kind` are left out.

    Such lines are incomplete, or were written by another version. A missing file has no lines.
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        text = file.read_bytes()
    except OSError:
        return
    for each in text.splitlines():
        try:
            yield decoder.decode(each)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
