"""Parses an answer of the Messages API. One class, `Said`, reads whole and streamed answers.

Events are decoded into one struct that ignores unknown fields, because the API often adds kinds of events. All text of
one network read becomes one delta. The fields of a delta decide whether it is text, thoughts or arguments, whatever
the type of its block. So the final answer has what the listener was sent.
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from partsong.errors import ModelError
from partsong.model import Answer, Caveat, Delta, Part, Request, Usage
from partsong.wire.believing import Believable, believed
from partsong.wire.counts import fields_of, parse_count
from partsong.wire.endings import LONGEST_NAME, WEIGHTS, Ending, parse_end, shown_end, unknown_end
from partsong.wire.json import UNREADABLE, check_size
from partsong.wire.messages.written import REDACTED, Blocks
from partsong.wire.room import Room
from partsong.wire.sse import is_ping
from partsong.wire.text import decode_loosely
from partsong.wire.tokens import estimate, estimate_tokens

__all__ = ["REDACTED", "Said"]

DONE = b"[DONE]"  # last event of some servers, as in Chat Completions
FAULTS = (*UNREADABLE, ValueError)


class Block(Struct):
    """A content block of any type, a delta of one, or the delta of a `message_delta`. All share their field names."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: Any = None
    name: str | None = None
    input: Raw = Raw(b"")
    partial_json: str | None = None
    stop_reason: str | None = None  # this field and the next occur in a message_delta
    stop_details: Any = None


class _Message(Struct):
    """A whole message, or the `message` of a `message_start`."""

    id: Any = None
    content: list[Block] | None = None
    model: Any = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None
    error: Any = None


class _Event(Struct):
    """An event of any type in a stream."""

    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: Block | None = None
    delta: Block | None = None
    usage: Any = None


_whole = msgspec.json.Decoder(_Message)
_event = msgspec.json.Decoder(_Event)


class Said:
    """One message as far as it has been received: takes events or a whole message, and returns deltas.

    At the end, `answer` makes the answer. Private methods that take `deltas` append to that list.

    model: the model that the provider says has answered; "" until the provider names it
    heard: whether a message has begun
    ended: whether the message has ended
    settled: whether the end is final; always True in this API
    broken: whether text has followed an end; always False in this API
    done: whether nothing more will come
    problem: JSON of an error that the server sent in place of an event; `None` if none came
    refusal: the provider's explanation for stopping the answer; "" if there is none
    room: the room that is left for the answer
    """

    __slots__ = (
        "_blocks",
        "_counted",
        "_end",
        "_identity",
        "_unknown",
        "_usage",
        "broken",
        "done",
        "ended",
        "heard",
        "model",
        "problem",
        "refusal",
        "room",
        "settled",
    )

    def __init__(self, tools: Collection[str] = (), *, thinks_first: bool = False, room: Room | None = None) -> None:
        """Start a message.

        tools: not used, because tool calls have blocks of their own here; a parameter because Chat Completions needs it
        thinks_first: whether content begins with thoughts although it has no `<think>`; False by default
        room: the room for the answer; `None` (default) for the room of an answer without `max_tokens`
        """
        self.room = Room() if room is None else room
        self.model = ""
        self.heard = False
        self.ended = False
        self.settled = True
        self.broken = False
        self.done = False
        self.problem: bytes | None = None
        self.refusal = ""
        self._identity: Any = None
        self._end: Ending = ""
        self._unknown = ""  # a stop reason that is in no table of `endings`
        self._blocks = Blocks(self.room, thinks_first=thinks_first)
        self._usage = Usage()
        self._counted = False  # whether the usage includes the whole answer; at a stream's start it does not

    def hear(self, events: Iterable[tuple[str, bytes]]) -> list[Delta]:
        """Parse the events of one network read, as (name, data), and return their deltas.

        Neighbouring deltas of one kind are joined. Raises `ModelError` for data that is no event, and for a second
        `message_start` after content has come.
        """
        deltas: list[Delta] = []
        for name, data in events:
            if not data:
                continue
            check_size(data)
            try:
                event = _event.decode(data)
            except FAULTS as fault:
                if data.strip() == DONE:
                    self._finish(deltas)
                    break
                if name == "error":
                    self.problem = data
                    break
                if is_ping(name, data):
                    continue
                event = _decode_loosely(data, fault)
            self._take_in(event, event.type or name, data, deltas)
            if self.done or self.problem is not None:
                break
        return deltas

    def _take_in(self, event: _Event, kind: str, data: bytes, deltas: list[Delta]) -> None:
        match kind:
            case "content_block_delta" if event.delta is not None:
                self._blocks.grow(event.index, event.delta, deltas)
            case "content_block_start" if event.content_block is not None:
                self._blocks.open(event.index, event.content_block, deltas)
            case "content_block_stop":
                self._blocks.close(event.index, deltas)
            case "message_start" if event.message is not None:
                self._begin(event.message)
            case "message_delta":
                if event.delta is not None:
                    self._stopped(event.delta.stop_reason, event.delta.stop_details)
                self._count(event.usage, to_the_end=True)
            case "message_stop":
                self._finish(deltas)
            case "error":
                self.problem = data
            case _:
                pass  # a ping, or an event that the API has added later

    def hear_whole(self, document: bytes) -> list[Delta]:
        """Parse a message that is not streamed, and return its content as deltas.

        Raises `ModelError` if the document is no message.
        """
        check_size(document)
        try:
            whole = _whole.decode(document)
        except FAULTS as fault:
            try:
                whole = msgspec.convert(_bytes_of_inputs(decode_loosely(document, halves=False)), _Message)
            except FAULTS:
                raise ModelError(f"the answer is no message: {fault}", "server") from None
        deltas: list[Delta] = []
        if whole.error is not None:
            self.problem = document
        elif whole.content is None:
            raise ModelError("the answer is no message: it has no content", "server")
        else:
            self._begin(whole)
            self._stopped(whole.stop_reason, whole.stop_details)
            self._count(whole.usage, to_the_end=True)
            for index, block in enumerate(whole.content):
                self._blocks.open(index, block, deltas)
                self._blocks.close(index, deltas)
            if self.problem is None:
                self._finish(deltas)
        return deltas

    def finish(self, deltas: list[Delta]) -> None:
        """Add what was held back to `deltas`, since the stream has ended."""
        self._blocks.end(deltas, whole=self._end in ("", "stop", "tool_calls"))

    def used(self, request: Request) -> Usage:
        """Return the usage so far. Estimates that err high replace counts that the provider has not reported."""
        words = self._blocks.written()
        counted, doubted = believed(self._usage, Believable(request, lambda: words))
        if self._counted and not doubted and (counted.output_tokens or not words):
            return counted
        return Usage(
            counted.input_tokens or estimate_tokens(request),
            max(counted.output_tokens, estimate(words)),
            counted.cached_input_tokens,
            counted.reasoning_tokens,
            estimated=True,
            cache_write_tokens=counted.cache_write_tokens,
        )

    @property
    def lone_tag(self) -> bool:
        """Whether a `</think>` without a `<think>` has shown that the content began with thoughts."""
        return self._blocks.lone

    def answer(self) -> Answer:
        """Return the answer as far as it has been received, with the usage that the provider has reported."""
        parts: tuple[Part, ...] = self._blocks.parts()
        end = self._end
        caveats: list[Caveat] = []
        if self.room.full and end != "content_filter":
            end = "length"
            caveats.append(Caveat("truncated", self.room.full))
        elif end == "unknown":
            end = "length"
            caveats.append(Caveat("truncated", unknown_end(self._unknown)))
        elif not end:
            end = "tool_calls" if self._blocks.calls else "stop"
        if self._blocks.other:
            left_out = ", ".join(sorted(self._blocks.other))
            caveats.append(Caveat("shortened", f"it also answered with what is no text, which is left out: {left_out}"))
        return Answer(
            parts,
            end,  # type: ignore[arg-type]
            self._usage,
            self.model,
            caveats=tuple(caveats) if caveats else msgspec.UNSET,
        )

    def _begin(self, message: _Message) -> None:
        """Read the start of a message.

        Raises `ModelError` if another message begins after content has come: it would contradict what was sent.
        """
        if self._blocks and (message.id is None or message.id != self._identity):
            raise ModelError("the provider began its answer again, in the middle of it", "truncated")
        self.heard = True
        self._identity = message.id
        self.model = message.model[:LONGEST_NAME] if isinstance(message.model, str) else self.model
        self._count(message.usage)

    def _stopped(self, reason: str | None, details: Any) -> None:
        explanation = fields_of(details).get("explanation")
        if isinstance(explanation, str) and explanation:
            self.refusal = self.room.words(explanation)
        ending = parse_end(reason)
        if ending == "failed":
            said = {"type": shown_end(reason or ""), "message": f'it ended the answer with "{shown_end(reason or "")}"'}
            self.problem = msgspec.json.encode({"error": said})
        elif ending:
            if ending == "unknown":
                self._unknown = reason or ""
            if WEIGHTS[ending] >= WEIGHTS[self._end]:
                self._end = ending

    def _finish(self, deltas: list[Delta]) -> None:
        self.heard = self.ended = self.done = True
        self.finish(deltas)

    def _count(self, usage: Any, *, to_the_end: bool = False) -> None:
        """Read a usage. `to_the_end`: whether the usage includes the whole answer; False by default.

        Usages are running totals. The highest value of each count is kept, because some servers send zeros at the end.
        """
        told = fields_of(usage)
        output, asked = parse_count(told.get("output_tokens")), parse_count(told.get("input_tokens"))
        if output is None and asked is None:
            return
        cached = parse_count(told.get("cache_read_input_tokens")) or 0
        written = parse_count(told.get("cache_creation_input_tokens")) or 0
        thought = parse_count(fields_of(told.get("output_tokens_details")).get("thinking_tokens"))
        before = self._usage
        self._usage = Usage(
            max(before.input_tokens, (asked or 0) + written + cached),
            max(before.output_tokens, output or 0),
            max(before.cached_input_tokens, cached),
            max(before.reasoning_tokens, thought or 0),
            cache_write_tokens=max(before.cache_write_tokens, written),
        )
        self._counted = to_the_end and self._usage.input_tokens > 0 and output is not None


def _decode_loosely(data: bytes, fault: Exception) -> _Event:
    """Decode an event with Python's `json`, which allows what msgspec refuses, such as NaN.

    fault: the error of strict decoding, for the message

    Raises `ModelError` if that fails as well.
    """
    try:
        return msgspec.convert(_bytes_of_inputs(decode_loosely(data)), _Event)
    except FAULTS:
        raise ModelError(f"the stream has what is no event of a message: {fault}", "server") from None


def _bytes_of_inputs(value: Any) -> Any:
    """Return the decoded value with each `input` of a tool call as JSON text, because the structs keep it raw."""
    if not isinstance(value, dict):
        return value
    content = value.get("content")
    for block in content if isinstance(content, list) else [value.get("content_block")]:
        if isinstance(block, dict) and "input" in block:
            block["input"] = Raw(msgspec.json.encode(block["input"]))
    return value
