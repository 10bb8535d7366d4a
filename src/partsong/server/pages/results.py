"""The routes for the results of the bench, read from the folders of its studies below the working directory.

The files are read as plain JSON, so that the server does not need the libraries of the bench. The results belong to
the user of the machine, so a request with a key may not read them.
"""

import asyncio
import time
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
QUIET = 120.0  # seconds without a new line after which a study is taken for stopped


class Sample(Struct, frozen=True):
    """A line of `samples.jsonl`."""

    id: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()


class Graded(Struct, frozen=True):
    """A line of `grades.jsonl`."""

    contestant: str
    sample: str
    value: float
    attempt: int = 0
    failed: str = ""
    parts: dict[str, float] = {}
    judged: tuple[str, ...] = ()


class Row(Struct, frozen=True):
    """A line of `outputs.jsonl` that is only counted, so that no answer is decoded for a list of studies."""

    contestant: str


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
    parts: dict[str, float] = {}
    judged: tuple[str, ...] = ()


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
        check(request, self.service())

        def listed() -> list[dict[str, Any]]:
            folders = sorted(studies().values(), key=lambda folder: -changed(folder))
            return [line(folder) for folder in folders]

        return said({"results": await asyncio.to_thread(listed)})

    async def one(self, request: Request) -> Response:
        """A study: its manifest, and its contestants with scores and costs."""
        folder = await folder_of(request, self.service())
        return said(await asyncio.to_thread(read_study, folder))


def check(request: Request, service: Service) -> None:
    """Raise `ProblemError` unless the request comes from the user of the machine."""
    if who(request, service) is not None:
        message = "the results of the bench belong to the user of the server: a request with a key may not read them"
        raise ProblemError(Problem(403, "permission", message))


async def folder_of(request: Request, service: Service) -> Path:
    """The folder of the study in the path of a request. Raises `ProblemError` if there is none, or for a caller's key.

    The name is looked up among the studies that exist, so that no name leads elsewhere.
    """
    check(request, service)
    name = request.path_params["name"]
    folder = (await asyncio.to_thread(studies)).get(name)
    if folder is None:
        raise ProblemError(Problem(404, "not_found", f'there is no study "{name}" here', "name"))
    return folder


def studies() -> dict[str, Path]:
    """The folders of the studies, by name."""
    found = [path.parent for place in PLACES for path in sorted(Path(place).glob("*/manifest.json"))]
    return {folder.name: folder for folder in reversed(found)}


def changed(folder: Path) -> float:
    """Unix time of the last change of a file in the folder."""
    return max((path.stat().st_mtime for path in folder.glob("*.json*")), default=0.0)


def state_of(folder: Path, manifest: Any) -> str:
    """Whether a study has "finished", is "running", or has "stopped" before its end.

    A study writes its comparison, or the answer to its last sample, at its end. One that writes nothing for a while is
    taken for stopped: it may wait for a slow model, but nobody can tell.
    """
    lines = [folder / f"{name}.jsonl" for name in ("outputs", "grades", "verdicts")]
    last = max((path.stat().st_mtime for path in lines if path.is_file()), default=0.0)
    comparison = folder / "comparison.json"
    if comparison.is_file():
        ended = comparison.stat().st_mtime >= last
    else:
        named = manifest.get("contestants") or ()
        asked = len(manifest.get("samples") or ()) * len(named) * (manifest.get("attempts") or 1)
        answered = sum(1 for each in rows(lines[0], Row) if each.contestant in named)
        ended = not manifest.get("baselines") and answered >= asked  # baselines are answered before a comparison alone
    if ended:
        return "finished"
    return "running" if time.time() - changed(folder) < QUIET else "stopped"


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
        "state": state_of(folder, manifest),
    }


def read_study(folder: Path) -> dict[str, Any]:
    """The study in a folder with all data that the page shows: manifest, contestants and comparison."""
    outputs = {(each.contestant, each.sample, each.attempt): each for each in rows(folder / "outputs.jsonl", Answered)}
    grades = {(each.contestant, each.sample, each.attempt): each for each in rows(folder / "grades.jsonl", Graded)}
    manifest = document(folder / "manifest.json") or {}
    names = dict.fromkeys(contestant for contestant, _, _ in (*outputs, *grades))
    return {
        **line(folder),
        "manifest": manifest,
        "contestants": [scored(name, outputs, grades) for name in names],
        "comparison": document(folder / "comparison.json"),
        "paper": document(folder / "paper.json"),
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
