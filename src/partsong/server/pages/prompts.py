"""The prompts of a study of the bench: filtered, sorted, and each with the answers of all contestants.

A contestant's value on a prompt is its mean grade, or without grades the mean preference of the judge for it. It wins,
loses or is level against the best other contestant, or against the one that the reader has chosen.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.server.pages.request import read_query, said
from partsong.server.pages.results import Answered, Graded, Preferred, Sample, document, folder_of, rows
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem

Outcome = Literal["all", "won", "lost", "level", "failed"]
A_PAGE = 50  # prompts in one response
LONGEST = 50_000  # characters of an answer
SHORT = 300  # characters of a prompt in a list
LEAST = 1e-9  # difference of two values that are not equal

Values = dict[str, dict[str, float]]  # by sample and contestant


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """Which prompts of a study to list.

    text: words that a prompt has, in any case
    one: contestant whose outcome is meant; by default the first
    other: contestant against which `one` stands; by default the best of the others
    show: outcome of `one`
    sort: "order" of the study, or by the difference between `one` and the other side
    start: number of prompts to leave out
    """

    text: Annotated[str, Meta(max_length=1000)] = ""
    one: str = ""
    other: str = ""
    show: Outcome = "all"
    sort: Literal["order", "best", "worst"] = "order"
    start: Annotated[int, Meta(ge=0)] = 0


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """The prompt whose answers to show."""

    sample: str


class Prompts:
    """The prompts of the studies."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/results/{name}/prompts", self.many, methods=["GET"]),
            Route("/api/results/{name}/prompt", self.one, methods=["GET"]),
        ]

    async def many(self, request: Request) -> Response:
        """A page of prompts, and the bias of the judge."""
        folder, wanted = await folder_of(request, self.service()), read_query(request, Wanted)
        return said(await asyncio.to_thread(lambda: listed(folder, wanted)))

    async def one(self, request: Request) -> Response:
        """A prompt with all answers to it."""
        folder, sample = await folder_of(request, self.service()), read_query(request, Named).sample
        if (found := await asyncio.to_thread(shown, folder, sample)) is None:
            raise ProblemError(Problem(404, "not_found", f'the study has no prompt "{sample[:100]}"', "sample"))
        return said(found)


# A line replaces an earlier one with the same keys, as when a failed answer was asked for again.


def answered(folder: Path) -> Iterable[Answered]:
    lines = rows(folder / "outputs.jsonl", Answered)
    return {(each.contestant, each.sample, each.attempt): each for each in lines}.values()


def graded(folder: Path) -> Iterable[Graded]:
    lines = rows(folder / "grades.jsonl", Graded)
    return {(each.contestant, each.sample, each.attempt): each for each in lines}.values()


def preferred(folder: Path) -> Iterable[Preferred]:
    lines = rows(folder / "verdicts.jsonl", Preferred)
    return {(each.one, each.other, each.sample, each.attempt): each for each in lines}.values()


def first_in(folder: Path, answers: Iterable[Answered]) -> str:
    """The name of the first contestant, by the manifest or else by the answers; "" if there is none."""
    manifest = document(folder / "manifest.json") or {}
    named = manifest.get("contestants")
    return next(iter([*(named if isinstance(named, dict) else ()), *(each.contestant for each in answers)]), "")


def values_of(grading: Iterable[Graded], verdicts: Iterable[Preferred]) -> Values:
    """The value of each contestant on each prompt, as far as there are grades or verdicts."""
    grades: dict[tuple[str, str], list[float]] = {}
    for each in grading:
        if not each.failed:
            grades.setdefault((each.sample, each.contestant), []).append(each.value)
    if not grades:
        for verdict in verdicts:
            if not verdict.failed:
                grades.setdefault((verdict.sample, verdict.one), []).append(verdict.value)
                grades.setdefault((verdict.sample, verdict.other), []).append(1 - verdict.value)
    found: Values = {}
    for (sample, contestant), values in grades.items():
        found.setdefault(sample, {})[contestant] = fmean(values)
    return found


def listed(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """The prompts that the reader wants, as plain values; `total` counts those of all pages."""
    answers, grading, verdicts = answered(folder), graded(folder), preferred(folder)
    one, values = wanted.one or first_in(folder, answers), values_of(grading, verdicts)
    failed = {(each.sample, each.contestant) for each in answers if each.failed}
    found: list[dict[str, Any]] = []
    for sample in rows(folder / "samples.jsonl", Sample):
        question = "\n\n".join(sample.turns)
        if wanted.text.casefold() not in f"{sample.id} {question}".casefold():
            continue
        own = values.get(sample.id, {})
        by = difference(own, one, wanted.other)
        outcome = "failed" if (sample.id, one) in failed else outcome_of(by)
        if wanted.show in ("all", outcome):
            found.append({"sample": sample.id, "question": question[:SHORT], "values": own, "by": by, "state": outcome})
    if wanted.sort != "order":
        sign = -1 if wanted.sort == "best" else 1
        found.sort(key=lambda each: math.inf if each["by"] is None else sign * each["by"])
    page = found[wanted.start : wanted.start + A_PAGE]
    return {"one": one, "total": len(found), "prompts": page, "bias": judge_bias(grading, verdicts)}


def difference(values: dict[str, float], one: str, other: str) -> float | None:
    """How much better `one` is than `other`, or than the best of the others; `None` if a value is missing."""
    others = [value for name, value in values.items() if name == other or (not other and name != one)]
    return values[one] - max(others) if one in values and others else None


def outcome_of(by: float | None) -> str:
    if by is None:
        return ""
    return "won" if by > LEAST else "lost" if by < -LEAST else "level"


def shown(folder: Path, sample: str) -> dict[str, Any] | None:
    """A prompt with all answers to it and what the judge wrote; `None` if the study has no such prompt."""
    asked = next((each for each in rows(folder / "samples.jsonl", Sample) if each.id == sample), None)
    if asked is None:
        return None
    grades = {(each.contestant, each.attempt): each for each in graded(folder) if each.sample == sample}
    answers = []
    for each in answered(folder):
        if each.sample == sample:
            grade = grades.get((each.contestant, each.attempt))
            answers.append(
                {
                    "contestant": each.contestant,
                    "attempt": each.attempt,
                    "text": (each.answers[-1] if each.answers else "")[:LONGEST],
                    "failed": each.failed or (grade.failed if grade else ""),
                    "value": None if grade is None or grade.failed else grade.value,
                    "judged": [text[:LONGEST] for text in grade.judged] if grade else [],
                    "seconds": each.seconds,
                    "dollars": each.usage.dollars,
                }
            )
    verdicts = [
        {
            "one": each.one,
            "other": each.other,
            "value": None if each.failed else each.value,
            "judged": [text[:LONGEST] for text in each.judged],
        }
        for each in preferred(folder)
        if each.sample == sample
    ]
    question, reference = "\n\n".join(asked.turns)[:LONGEST], "\nor\n".join(asked.reference)[:LONGEST]
    return {"question": question, "reference": reference, "answers": answers, "verdicts": verdicts}


def judge_bias(grading: Iterable[Graded], verdicts: Iterable[Preferred]) -> dict[str, Any] | None:
    """How the order of two answers swayed the judge; `None` if no pair was judged in both orders.

    `first` is the share of verdicts for the answer that was shown first (0.5 is fair), `turned` the share of pairs in
    which the judge preferred the other answer in the other order.
    """
    both = [each.parts for each in verdicts if not each.failed]
    both += [each.parts for each in grading if not each.failed]
    pairs = [(parts["first"], parts["second"]) for parts in both if {"first", "second"} <= parts.keys()]
    if not pairs:
        return None
    first = fmean((one + 1 - two) / 2 for one, two in pairs)
    return {"n": len(pairs), "first": first, "turned": fmean(abs(one - two) == 1 for one, two in pairs)}
