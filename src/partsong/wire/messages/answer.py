"""An answer in the Messages format, whole or as a stream's events, heard by the same `Said`.

Events are decoded into one flat struct that ignores unknown fields, because new kinds of events appear all the time;
all the text that one network read brought becomes one delta. A delta is of the kind that its own fields say, whatever
block it stands in: what a listener hears is what is kept.
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from partsong.errors import ModelError
from partsong.model import Answer, Caveat, Delta, Part, Request, Usage
from partsong.wire.counts import fields_of, parse_count
from partsong.wire.endings import WEIGHTS, Ending, parse_end, shown_end, unknown_end
from partsong.wire.json import UNREADABLE
from partsong.wire.messages.written import REDACTED, Blocks
from partsong.wire.sse import is_ping
from partsong.wire.text import decode_loosely
from partsong.wire.tokens import estimate, estimate_tokens

__all__ = ["REDACTED", "Said"]

DONE = b"[DONE]"  # with which some servers end a stream, as Chat Completions do
FAULTS = (*UNREADABLE, ValueError)


class Block(Struct):
    """Any content block, or any delta of one: the API's kinds share their field names."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: Any = None
    name: str | None = None
    input: Raw = Raw(b"")
    partial_json: str | None = None
    stop_reason: str | None = None  # this and the next in a message_delta
    stop_details: Any = None


class _Message(Struct):
    """A whole message, or what is known of it when a stream begins."""

    id: Any = None
    content: list[Block] | None = None
    model: Any = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None
    error: Any = None


class _Event(Struct):
    """Any event of a stream."""

    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: Block | None = None
    delta: Block | None = None
    usage: Any = None


_whole = msgspec.json.Decoder(_Message)
_event = msgspec.json.Decoder(_Event)


class Said:
    """What a model has said so far: events or a whole message go in, deltas come out, and in the end an answer.

    heard: turns true with the first event
    ended: whether the end was announced
    settled: whether that end is the last word
    broken: never true, as the format announces no end before its end
    done: whether nothing more will come
    problem: the JSON of an error that came in place of an event
    refusal: why the provider stopped the answer, where it says so
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
        "settled",
    )

    def __init__(self, tools: Collection[str] = (), *, thinks_first: bool = False) -> None:
        """`thinks_first` is whether content begins with thoughts. Tool calls have blocks, so `tools` tell nothing."""
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
        self._unknown = ""  # the stop reason that nobody knows
        self._blocks = Blocks(thinks_first=thinks_first)
        self._usage = Usage()
        self._counted = False  # to the end: what a stream counts at its start is not what it will have cost

    def hear(self, events: Iterable[tuple[str, bytes]]) -> list[Delta]:
        """Take in the events of one network read; neighbouring deltas of one kind come out as one.

        Raises `ModelError` for what is no event, and for a message that begins again.
        """
        deltas: list[Delta] = []
        for name, data in events:
            if not data:
                continue
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
                pass  # a ping, or an event that was invented later

    def hear_whole(self, document: bytes) -> list[Delta]:
        """Take in a whole message; its deltas are what a stream would have said at once.

        Raises `ModelError` for what is none.
        """
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
        """The stream has ended: pass on what was held back."""
        self._blocks.end(deltas, whole=self._end in ("", "stop", "tool_calls"))

    def used(self, request: Request) -> Usage:
        """What was used so far. What the provider has not counted yet is estimated, high rather than low."""
        counted, words = self._usage, self._blocks.written()
        if self._counted and (counted.output_tokens or not words):
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
        """Whether the content began with thoughts though no tag said so."""
        return self._blocks.lone

    def answer(self) -> Answer:
        """The answer as far as it has come. Its usage is what the provider has counted."""
        parts: tuple[Part, ...] = self._blocks.parts()
        end = self._end
        caveats: list[Caveat] = []
        if end == "unknown":
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
        """Take in a message's start. One that begins again repeats or replaces words that were heard: no answer."""
        if self._blocks and (message.id is None or message.id != self._identity):
            raise ModelError("the provider began its answer again, in the middle of it", "truncated")
        self.heard = True
        self._identity = message.id
        self.model = message.model if isinstance(message.model, str) else self.model
        self._count(message.usage)

    def _stopped(self, reason: str | None, details: Any) -> None:
        explanation = fields_of(details).get("explanation")
        if isinstance(explanation, str) and explanation:
            self.refusal = explanation
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
        """Take in a count. They are running totals, so that the highest of each is the last, whoever sends zeros."""
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
    """An event with what msgspec refuses in it. Raises `ModelError`."""
    try:
        return msgspec.convert(_bytes_of_inputs(decode_loosely(data)), _Event)
    except FAULTS:
        raise ModelError(f"the stream has what is no event of a message: {fault}", "server") from None


def _bytes_of_inputs(value: Any) -> Any:
    """The value with the arguments of tool calls as JSON again, which is what the structs keep."""
    if not isinstance(value, dict):
        return value
    content = value.get("content")
    for block in content if isinstance(content, list) else [value.get("content_block")]:
        if isinstance(block, dict) and "input" in block:
            block["input"] = Raw(msgspec.json.encode(block["input"]))
    return value
