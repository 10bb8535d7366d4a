"""The routes for stored runs: search, replay, export and totals."""

import datetime
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.engine.sent import plain as sent_plain
from partsong.engine.sent import sent_in
from partsong.events import ProposalFinished, RunFailed, RunFinished, RunStarted, to_json
from partsong.heavy import LIGHT_BYTES, done, is_heavy
from partsong.server import live
from partsong.server.pages.markdown import as_markdown
from partsong.server.pages.request import read_query, said, who, wrong
from partsong.server.service import Service, caller_of
from partsong.store import DayTotal, Search, StoredRun, Timed
from partsong.store.document import as_json, plain
from partsong.store.runs import AGAIN

MANY = 500  # events that are written on the event loop
MOST = 200  # runs in one response


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a search. `store.Search` explains the fields."""

    text: str = ""
    recipe: str = ""
    model: str = ""
    min_dollars: float | None = None
    lost: bool = False
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 50
    before: str = ""
    apart: bool = False


class Days(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of days, today included."""

    days: Annotated[int, Meta(ge=1, le=3660)] = 30


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """The format of an export.

    form: the format
    prompts: whether the export has the messages that each seat was sent (default: no)
    """

    form: Literal["json", "markdown"] = "json"
    prompts: bool = False


class History:
    """The runs of the caller."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs", self.runs, methods=["GET"]),
            Route("/api/runs/{run}", self.run, methods=["GET"]),
            Route("/api/runs/{run}/export", self.export, methods=["GET"]),
            Route("/api/totals", self.totals, methods=["GET"]),
        ]

    async def runs(self, request: Request) -> Response:
        service = self.service()
        caller = caller_of(who(request, service))
        wanted = read_query(request, Wanted)
        for field in ("recipe", "model", "before"):
            if name := getattr(wanted, field):
                service.check_id(name, field)
        runs, more = await service.store.search(
            Search(
                caller,
                wanted.text,
                wanted.recipe,
                wanted.model,
                wanted.min_dollars,
                wanted.lost,
                moment(wanted.after),
                wanted.before,
                wanted.limit,
                wanted.apart,
            )
        )
        return said({"runs": [line(run) for run in runs], "more": more})

    async def run(self, request: Request) -> Response:
        """A run with its events so far, each with its time in seconds since the run's start."""
        run, events = await self._found(request)

        def told() -> dict[str, Any]:
            pieces = [{"seconds": seconds, "event": msgspec.Raw(to_json(event))} for seconds, event in events]
            return line(run) | {"events": msgspec.Raw(msgspec.json.encode(pieces)), **ending(events)}

        return await done(_are_long(events), lambda: said(told()))

    async def export(self, request: Request) -> Response:
        """A run as a file to download."""
        wanted = read_query(request, Form)
        form = wanted.form
        run, events = await self._found(request)
        bounds = self.service().configuration.bounds
        sent = await sent_in((event for _, event in events), bounds=bounds) if wanted.prompts else ()
        name = f"partsong-{run.id}.{'json' if form == 'json' else 'md'}"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }

        def told() -> Response:
            document = as_json(plain(run), events)
            if wanted.prompts:
                document["sent"] = [sent_plain(each) for each in sent]
            if form == "markdown":
                return Response(as_markdown(document), 200, headers, "text/markdown; charset=utf-8")
            return Response(msgspec.json.format(msgspec.json.encode(document)), 200, headers, "application/json")

        return await done(wanted.prompts or _are_long(events), told)

    async def totals(self, request: Request) -> Response:
        """The totals of the last days, by day (UTC) and by model."""
        service = self.service()
        caller = caller_of(who(request, service))
        number = read_query(request, Days).days
        today = datetime.datetime.now(datetime.UTC).date()
        first = today - datetime.timedelta(days=number - 1)
        since = datetime.datetime.combine(first, datetime.time(), datetime.UTC).timestamp()
        days, models = await service.store.totals(caller, since)
        known = {each.day: each for each in days}
        every = [(first + datetime.timedelta(days=day)).isoformat() for day in range(number)]
        return said({"days": [known.get(day, DayTotal(day)) for day in every], "models": models})

    async def _found(self, request: Request) -> tuple[StoredRun, list[Timed]]:
        service = self.service()
        run = await live.own(service, request.path_params["run"], who(request, service))
        return run, await service.store.events(run.id) if run.mode == "full" else []


def _are_long(events: Sequence[Timed]) -> bool:
    """Whether a run has so many events, or so long ones, that they are written in a thread."""
    if len(events) > MANY:
        return True
    answers = [event.answer for _, event in events if isinstance(event, ProposalFinished | RunFinished)]
    asked = [event.conversation for _, event in events if isinstance(event, RunStarted)]
    return any(map(is_heavy, asked)) or sum(len(answer.text) for answer in answers) > LIGHT_BYTES


def moment(text: str) -> float | None:
    """The Unix time of a date or time in ISO 8601, read as UTC if it has no time zone; `None` for "".

    Raises `ProblemError` if the text is not a date or time.
    """
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise wrong(f'after: is "{text}", but must be a date or a time such as 2026-05-31T12:00:00Z', "after") from None


def line(run: StoredRun) -> dict[str, Any]:
    """The summary of a run as plain values for the page.

    `layers` counts the aggregator too; it is `None` for runs of versions that did not store the number.
    """
    return {
        "id": run.id,
        "at": plain(run)["started"],
        "recipe": run.recipe,
        "model": run.model,
        "question": run.question,
        "seconds": run.seconds,
        "dollars": run.dollars,
        "tokens": run.tokens,
        "calls": run.calls,
        "stored": run.stored,
        "state": run.status,
        "cause": run.cause or None,
        "lost": run.losses,
        "layers": run.layers or None,
        "kept": run.mode == "full",
        "again": run.labels.get(AGAIN),
        "source": run.source or None,
    }


def ending(events: Sequence[Timed]) -> dict[str, Any]:
    """The text of the answer and the error of a run, as plain values; both `None` if the run has not ended."""
    match events[-1][1] if events else None:
        case RunFinished(answer=answer):
            return {"answer": answer.text, "error": None}
        case RunFailed(error=error):
            return {"answer": None, "error": msgspec.to_builtins(error)}
        case _:
            return {"answer": None, "error": None}
