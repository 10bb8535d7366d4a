"""Stored responses of the Responses API: retrieved, polled while their run goes on, continued, cancelled and deleted.

A response is one run. It is serialized again from the run's events in the store. The run's labels hold the few fields
of the request that no event has. Only the key that made a response may retrieve it.
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
from partsong.server import ending
from partsong.server.problems import ProblemError, failed
from partsong.server.report import Report
from partsong.server.service import Service, caller_of
from partsong.store import AFTER, CONVERSATION, StoredRun
from partsong.wire import responses
from partsong.wire.parsed import Options, ParsedRequest
from partsong.wire.reply import Head, Problem

ENDING = 5.0  # most seconds to wait for the end of a cancelled run before its state is reported
DEAD = 300.0  # seconds without an event after which a run without a task counts as dead, as after a crash
KINDS = {"msg": "message", "rs": "reasoning", "fc": "function_call", "ctc": "custom_tool_call"}


class Kept(Struct, frozen=True):
    """The fields of a request that the run's label `response` holds as JSON. The other fields are in `RunStarted`.

    model: the name of the recipe or model, as the client wrote it
    echo: fields of the request that the response repeats
    freeform: names of the custom tools, whose input is free text and not JSON
    options: partsong's own options of the request
    """

    model: str = ""
    echo: dict[str, Any] = {}
    freeform: frozenset[str] = frozenset()
    options: Options = Options()


def labels_of(parsed: ParsedRequest) -> dict[str, str]:
    """The labels that make a run available as a response: `keep`, `instructions` and, if it is kept, `response`.

    Tools, instructions and schema are left out of them, since they may be long and `RunStarted` has them. The limits of
    a request bound the size of the rest.
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
    """A response in the store.

    run: summary of the response's run
    events: events of the run so far
    request: the client's request, restored from the events and the labels
    head: the id, the times and the model name of the response
    """

    run: StoredRun
    events: list[AnyEvent]
    request: ParsedRequest
    head: Head

    @property
    def end(self) -> RunFinished | RunFailed | None:
        """The last event of a run that has ended; `None` if the run goes on."""
        last = self.events[-1]
        return last if isinstance(last, RunFinished | RunFailed) else None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The input messages of the response, including those of earlier responses, without the instructions."""
        start = self.events[0]
        assert isinstance(start, RunStarted)
        return start.conversation.messages[1 if self.run.labels.get("instructions") == "yes" else 0 :]

    def report(self) -> Report:
        """The report on the run's usage and losses so far."""
        report = Report(self.run.id, self.run.recipe)
        for event in self.events:
            if not isinstance(event, AggregationDelta | ProposalDelta):
                report.hear(event)
        return report


async def find(service: Service, name: str, key: Key | None, field: str = "response_id") -> Stored:
    """The stored response with the id `name`.

    field: field of the request that has the id, for the error (default "response_id")

    Raises `ProblemError` if there is no such response, if the request did not let it be stored, or if another key made
    it.
    """
    service.check_id(name, field)
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
    """The client's request, restored from the first event and the labels of its run."""
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
    """The request with the input and the answer of the response in `previous_response_id` put before its own input.

    The instructions of the earlier request are left out, as OpenAI's API reference demands. Raises `ProblemError` if
    the caller has no such response, or if it has no answer.
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
    conversation = before.run.labels.get(CONVERSATION, before.run.id)
    labels = {**parsed.labels, CONVERSATION: conversation, AFTER: before.run.id}
    return replace(parsed, conversation=replace(parsed.conversation, messages=whole), labels=labels)


async def look_up(service: Service, names: Sequence[str], key: Key | None) -> dict[str, bytes]:
    """The output items of earlier responses to which an input refers, as JSON, by id.

    names: ids of the items, such as `msg_RUN_0`

    An item may have one index in a stream and another in the whole answer. So an id without an exact match stands for
    the next unused item of its kind in the same response. Raises `ProblemError` if the caller has no such response, or
    if the input refers to more items or responses than the bounds allow.
    """
    bounds = service.configuration.bounds
    if len(names) > bounds.referenced_items:
        message = f"input: more than {bounds.referenced_items:,} items of earlier responses are referred to"
        raise ProblemError(Problem(400, "invalid_request", message, "input"))
    runs: dict[str, list[dict[str, Any]]] = {}
    items: dict[str, bytes] = {}
    for name in dict.fromkeys(names):
        prefix, _, rest = name.partition("_")
        run = rest.partition("_")[0]
        missing = ProblemError(Problem(404, "not_found", f"there is no item {name!r}", "input", "item_not_found"))
        if prefix not in KINDS or not run:
            raise missing
        if run not in runs:
            if len(runs) == (most := bounds.referenced_responses):
                message = f"input: items of more than {most:,} responses are referred to; use previous_response_id"
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
    """The body of the response as JSON: finished, failed, or in progress."""
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
    """Whether the run has probably died with its process: no end, no task here, and no event for 300 seconds."""
    if run.status != "open" or run.id in service.staying.runs:
        return False
    return time.time() > run.started.timestamp() + run.seconds + DEAD


async def cancel(service: Service, name: str, key: Key | None) -> Stored:
    """Stop the run of a background response, if the run goes on, and return the response.

    Raises `ProblemError` if the caller has no such response, or if the response was not made in the background.
    """
    stored = await find(service, name, key)
    if not stored.request.background:
        message = f'the response "{name}" was not made in the background, so it cannot be cancelled'
        raise ProblemError(Problem(400, "invalid_request", message, "response_id"))
    if await ending.end(service, stored.run.id, caller_of(key), ENDING):
        return await find(service, name, key)
    return stored


async def delete(service: Service, name: str, key: Key | None) -> dict[str, Any]:
    """Stop the run of a response, delete the response from the store, and return the body that confirms this.

    Raises `ProblemError` if the caller has no such response.
    """
    stored = await find(service, name, key)
    await ending.end(service, stored.run.id, caller_of(key), ENDING)
    await service.store.delete_run(stored.run.id)
    return {"id": f"resp_{stored.run.id}", "object": "response", "deleted": True}


class Page(Struct, frozen=True):
    """The part of a list of input items that a client asks for.

    after: id of the item after which the page begins; "" (default) for the beginning of the list
    limit: most items, from 1 to 100 (default 20)
    order: "desc" (default) for the newest item first, or "asc"
    """

    after: str = ""
    limit: int = 20
    order: str = "desc"


def page_of(query: dict[str, str]) -> Page:
    """The page that the query parameters ask for. Raises `ProblemError` if `limit` or `order` is wrong."""
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= 100):
        raise ProblemError(Problem(400, "invalid_request", "limit must be between 1 and 100", "limit"))
    if order not in ("asc", "desc"):
        raise ProblemError(Problem(400, "invalid_request", 'order must be "asc" or "desc"', "order"))
    return Page(query.get("after", ""), int(limit), order)


def list_input(stored: Stored, page: Page) -> dict[str, Any]:
    """A page of the input items of a response, as plain values. Raises `ProblemError` if `page.after` is no item."""
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
