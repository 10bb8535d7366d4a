"""Responses that the store kept: asked for again, polled while they are made, listed, cancelled and deleted.

A response is one run. The store has the run's events, from which the response is written again, and the run's labels
hold the few fields of the request that no event has. Only the key that asked for a response may see it.
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from partsong.errors import InputError
from partsong.events import AggregationDelta, AnyEvent, ProposalDelta, RunFailed, RunFinished, RunStarted
from partsong.keys import Key
from partsong.model import Message
from partsong.server.problems import ProblemError, failed
from partsong.server.report import Report
from partsong.server.service import Service, caller_of
from partsong.store import CONVERSATION, StoredRun
from partsong.wire import responses
from partsong.wire.parsed import Options, ParsedRequest
from partsong.wire.reply import Head, Problem

ENDING = 5.0  # seconds that a cancelled run may take to end before its state is told
DEAD = 300.0  # seconds without an event after which a run that no task performs has died with its process
MOST_RUNS = 500  # earlier responses whose items one input may refer to: each is read from the store
KINDS = {"msg": "message", "rs": "reasoning", "fc": "function_call", "ctc": "custom_tool_call"}


class Kept(Struct, frozen=True):
    """What the label `response` of a run holds of its request: the rest is in the run's first event."""

    model: str = ""
    echo: dict[str, Any] = {}
    freeform: frozenset[str] = frozenset()
    options: Options = Options()


def labels_of(parsed: ParsedRequest) -> dict[str, str]:
    """The labels by which a run is found again as a response. Their size is bounded by the request's own limits.

    Tools, instructions and schema, which may be long, stand in the run's first event already.
    """
    labels = {"keep": "yes" if parsed.keep else "no"}
    if parsed.echo.get("instructions"):
        labels["instructions"] = "yes"
    if parsed.keep:
        text = {**parsed.echo["text"], "format": {**parsed.echo["text"]["format"], "schema": None}}
        echo = parsed.echo | {"tools": [], "instructions": None, "text": text}
        kept = Kept(parsed.model, echo, parsed.freeform, Options(parsed.options.events, usage=parsed.options.usage))
        labels["response"] = msgspec.json.encode(kept).decode()
    return labels


class Stored(Struct, frozen=True):
    """A response of the store: its run and the run's events, and the request and head that it is written with."""

    run: StoredRun
    events: list[AnyEvent]
    request: ParsedRequest
    head: Head

    @property
    def end(self) -> RunFinished | RunFailed | None:
        last = self.events[-1]
        return last if isinstance(last, RunFinished | RunFailed) else None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that the response was made from, without the instructions of its request."""
        start = self.events[0]
        assert isinstance(start, RunStarted)
        return start.conversation.messages[1 if self.run.labels.get("instructions") == "yes" else 0 :]

    def report(self) -> Report:
        """The report on the run, as far as it has come."""
        report = Report(self.run.id, self.run.recipe)
        for event in self.events:
            if not isinstance(event, AggregationDelta | ProposalDelta):
                report.hear(event)
        return report


async def find(service: Service, name: str, key: Key | None, field: str = "response_id") -> Stored:
    """The response of that id, if this caller may see it. Raises `ProblemError`."""
    missing = ProblemError(Problem(404, "not_found", f'there is no response "{name}"', field, "response_not_found"))
    if field == "previous_response_id":
        message = f'there is no response "{name}" to go on from'
        missing = ProblemError(Problem(404, "not_found", message, field, "previous_response_not_found"))
    if service.store.mode != "full":
        raise missing
    name = name.removeprefix("resp_")
    run = await service.store.run(name)
    if run is None or run.caller != caller_of(key) or run.labels.get("keep") != "yes":
        raise missing
    try:
        events = [event for _, event in await service.store.events(run.id)]
    except InputError:
        raise missing from None
    if not events or not isinstance(events[0], RunStarted):
        raise missing
    request = _request_of(events[0], run)
    created = run.started.timestamp()
    return Stored(run, events, request, Head(run.id, int(created), request.model, int(created + run.seconds)))


def _request_of(start: RunStarted, run: StoredRun) -> ParsedRequest:
    """The request of a run, put together from its first event and its labels."""
    kept = msgspec.json.decode(run.labels.get("response", "{}"), type=Kept)
    conversation = start.conversation
    shown = [responses.show_tool(tool) for tool in conversation.tools]
    tools = [
        {"type": "custom", "name": tool["name"], "description": tool["description"], "format": {"type": "text"}}
        if tool["name"] in kept.freeform
        else tool
        for tool in shown
    ]
    instructions = conversation.messages[0].text if run.labels.get("instructions") == "yes" else None
    text = kept.echo.get("text", {"format": {"type": "text"}})
    if text["format"].get("type") == "json_schema" and conversation.response_format is not None:
        text = text | {"format": text["format"] | {"schema": Raw(conversation.response_format)}}
    else:
        text = text | {"format": {"type": text["format"]["type"]}}
    echo = kept.echo | {"tools": tools, "instructions": instructions, "text": text}
    model = kept.model or run.recipe
    background = bool(kept.echo.get("background"))
    return ParsedRequest(
        model, conversation, options=kept.options, echo=echo, freeform=kept.freeform, background=background
    )


async def going_on(service: Service, parsed: ParsedRequest, key: Key | None) -> ParsedRequest:
    """The request with the conversation that led to the response which it goes on from. Raises `ProblemError`.

    Instructions hold for their own request alone (OpenAI's API reference, `previous_response_id`).
    """
    before = await find(service, parsed.previous, key, "previous_response_id")
    if not isinstance(end := before.end, RunFinished):
        message = f'the response "{parsed.previous}" has no answer to go on from'
        code = "previous_response_not_found"
        raise ProblemError(Problem(404, "not_found", message, "previous_response_id", code))
    messages = parsed.conversation.messages
    told = 1 if parsed.echo.get("instructions") else 0
    answer = Message("assistant", end.answer.parts)
    whole = (*messages[:told], *before.messages, answer, *messages[told:])
    labels = {**parsed.labels, CONVERSATION: before.run.labels.get(CONVERSATION, before.run.id)}
    return replace(parsed, conversation=replace(parsed.conversation, messages=whole), labels=labels)


async def look_up(service: Service, names: Sequence[str], key: Key | None) -> dict[str, bytes]:
    """The output items of those ids, as JSON. Raises `ProblemError`.

    An item that was streamed may have another index in the answer. So an id that names no item of its kind stands for
    the next one of that kind, and each item stands once, in whatever way its response is referred to.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    items: dict[str, bytes] = {}
    for name in dict.fromkeys(names):
        prefix, _, rest = name.partition("_")
        run = rest.partition("_")[0]
        missing = ProblemError(Problem(404, "not_found", f"there is no item {name!r}", "input", "item_not_found"))
        if prefix not in KINDS or not run:
            raise missing
        if run not in runs:
            if len(runs) == MOST_RUNS:
                message = f"input: items of more than {MOST_RUNS} responses are referred to; use previous_response_id"
                raise ProblemError(Problem(400, "invalid_request", message, "input"))
            runs[run] = await _output_of(service, run, key, missing)
        left = [item for item in runs[run] if item["type"] == KINDS[prefix]]
        item = next((item for item in left if item["id"] == name), left[0] if left else None)
        if item is not None:
            runs[run].remove(item)
            items[name] = msgspec.json.encode(item)
    return items


async def _output_of(service: Service, run: str, key: Key | None, missing: ProblemError) -> list[dict[str, Any]]:
    try:
        stored = await find(service, run, key)
    except ProblemError:
        raise missing from None
    if not isinstance(end := stored.end, RunFinished):
        raise missing
    echo = stored.request.echo | {"include": ["reasoning.encrypted_content"]}
    return responses.output_items(end.answer, stored.head, replace(stored.request, echo=echo))


def serialize(service: Service, stored: Stored) -> bytes:
    """The response as it stands by now."""
    report = stored.report()
    match stored.end:
        case RunFinished(answer=answer, usage=usage):
            used = answer.usage if stored.request.options.usage == "answer" else usage
            return responses.serialize_answer(stored.request, stored.head, (answer,), used, report.plain())
        case RunFailed(error=error):
            problem = failed(error, report.plain())
            return responses.serialize_failure(stored.request, stored.head, problem, error.cause == "cancelled")
    if died(service, stored.run):
        problem = Problem(500, "server", "the run was cut off: its server has ended", partsong=report.plain())
        return responses.serialize_failure(stored.request, stored.head, problem)
    return responses.serialize_open(stored.request, stored.head)


def died(service: Service, run: StoredRun) -> bool:
    """Whether nobody performs the run any more, although the store has no end of it."""
    if run.status != "open" or run.id in service.staying.runs:
        return False
    return time.time() > run.started.timestamp() + run.seconds + DEAD


async def cancel(service: Service, name: str, key: Key | None) -> Stored:
    """Stop the run of a response that is made in the background, if it goes on. Raises `ProblemError`."""
    stored = await find(service, name, key)
    if not stored.request.background:
        message = f'the response "{name}" was not made in the background, so it cannot be cancelled'
        raise ProblemError(Problem(400, "invalid_request", message, "response_id"))
    if await service.staying.end(stored.run.id, caller_of(key), ENDING):
        return await find(service, name, key)
    return stored


async def delete(service: Service, name: str, key: Key | None) -> dict[str, Any]:
    """Delete a response from the store, its run stopped before. Raises `ProblemError`."""
    stored = await find(service, name, key)
    await service.staying.end(stored.run.id, caller_of(key), ENDING)
    await service.store.delete_run(stored.run.id)
    return {"id": f"resp_{stored.run.id}", "object": "response", "deleted": True}


class Page(Struct, frozen=True):
    """Which input items are wanted: `limit` of them behind the item `after`, newest first unless `order` is `asc`."""

    after: str = ""
    limit: int = 20
    order: str = "desc"


def page_of(query: dict[str, str]) -> Page:
    """The page that the query asks for. Raises `ProblemError`."""
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= 100):
        raise ProblemError(Problem(400, "invalid_request", "limit must be between 1 and 100", "limit"))
    if order not in ("asc", "desc"):
        raise ProblemError(Problem(400, "invalid_request", 'order must be "asc" or "desc"', "order"))
    return Page(query.get("after", ""), int(limit), order)


def list_input(stored: Stored, page: Page) -> dict[str, Any]:
    """A page of the items that a response was made from. Raises `ProblemError`."""
    items = responses.serialize_messages(stored.messages, stored.run.id, stored.request.freeform)
    if page.order == "desc":
        items.reverse()
    start = 0
    if page.after:
        start = next((index + 1 for index, item in enumerate(items) if item["id"] == page.after), -1)
        if start < 0:
            raise ProblemError(Problem(404, "not_found", f'there is no item "{page.after}"', "after"))
    shown = items[start : start + page.limit]
    ends = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    more = start + page.limit < len(items)
    return {"object": "list", "data": shown, "first_id": ends[0], "last_id": ends[1], "has_more": more}
