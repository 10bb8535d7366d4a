"""An answer in the Messages format, whole or as a stream's events, heard by the same `Said`.

Events are decoded into one flat struct that ignores what it does not know, because new kinds appear all the time; and
all the text that one network read brought becomes one delta.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from partsong.errors import ModelError
from partsong.model import (
    Answer,
    Delta,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    Request,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from partsong.wire.json import UNREADABLE
from partsong.wire.tokens import estimate, estimate_tokens

REDACTED = "redacted_thinking:"  # marks a signature that is a redacted block's data: only this folder reads it

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Details(Struct):
    thinking_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Stop(Struct):
    explanation: str | None = None


class _Block(Struct):
    """Any content block, or any delta of one: the API's kinds share their field names."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")
    partial_json: str | None = None
    stop_reason: str | None = None  # this and the next in a message_delta
    stop_details: _Stop | None = None


class _Message(Struct):
    """A whole message, or what is known of it when a stream begins."""

    content: list[_Block] | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _Stop | None = None
    usage: _Usage | None = None
    error: Any = None


class _Event(Struct):
    """Any event of a stream."""

    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    usage: _Usage | None = None


_whole = msgspec.json.Decoder(_Message)
_event = msgspec.json.Decoder(_Event)


class _Written:
    """A content block as far as it has been written: its words, thoughts or arguments in `pieces`."""

    __slots__ = ("call", "kind", "number", "pieces", "signature")

    def __init__(self, block: _Block, number: int) -> None:
        self.kind = block.type
        self.pieces = [block.text or block.thinking or ""]
        self.signature = block.signature or ""
        if block.type == "redacted_thinking":
            self.signature = REDACTED + (block.data or "")
        arguments = bytes(block.input).decode()
        self.call = ToolCall(block.id or "", block.name or "", arguments if arguments.startswith("{") else "{}")
        self.number = number  # of the tool call, among the answer's

    def part(self) -> Part | None:
        written = "".join(self.pieces)
        match self.kind:
            case "text":
                return Text(written) if written else None
            case "thinking" | "redacted_thinking":
                return Reasoning(written, self.signature) if written or self.signature else None
            case "tool_use":
                return ToolCall(self.call.id, self.call.name, written or self.call.arguments)
            case _:
                return None  # a kind that was invented later, or one of a tool that runs at the provider


class Said:
    """What a model has said so far: events or a whole message go in, deltas come out, and in the end an answer.

    `heard` turns true with the first event, `ended` when the end was announced, `done` when nothing more will come;
    `problem` is the JSON of an error that came in place of an event; `refusal` is why the provider stopped the answer,
    where it says so.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_counted",
        "_stop",
        "_usage",
        "done",
        "ended",
        "heard",
        "model",
        "problem",
        "refusal",
    )

    def __init__(self) -> None:
        self.model = ""
        self.heard = False
        self.ended = False
        self.done = False
        self.problem: bytes | None = None
        self.refusal = ""
        self._stop: str | None = None
        self._blocks: dict[int, _Written] = {}
        self._calls = 0
        self._usage = Usage()
        self._counted = False  # to the end: what a stream counts at its start is not what it will have cost

    def hear(self, events: Iterable[tuple[str, bytes]]) -> list[Delta]:
        """Take in the events of one network read; neighbouring deltas of one kind come out as one.

        Raises `ModelError` for what is no event.
        """
        deltas: list[Delta] = []
        for name, data in events:
            if not data:
                continue
            try:
                event = _event.decode(data)
            except UNREADABLE as fault:
                raise ModelError(f"the stream has what is no event of a message: {fault}", "server") from None
            match event.type or name:
                case "content_block_delta" if event.delta is not None:
                    self._grow(event.index, event.delta, deltas)
                case "content_block_start" if event.content_block is not None:
                    self._open(event.index, event.content_block, deltas)
                case "content_block_stop":
                    self._close(event.index, deltas)
                case "message_start" if event.message is not None:
                    self.heard = True
                    self._begin(event.message)
                case "message_delta":
                    if event.delta is not None:
                        self._stopped(event.delta.stop_reason, event.delta.stop_details)
                    self._count(event.usage, to_the_end=True)
                case "message_stop":
                    self.ended = self.done = True
                    break
                case "error":
                    self.problem = data
                    break
                case _:
                    pass  # a ping, or an event that was invented later
        return deltas

    def hear_whole(self, document: bytes) -> list[Delta]:
        """Take in a whole message; its deltas are what a stream would have said at once.

        Raises `ModelError` for what is none.
        """
        try:
            whole = _whole.decode(document)
        except UNREADABLE as fault:
            raise ModelError(f"the answer is no message: {fault}", "server") from None
        deltas: list[Delta] = []
        if whole.error is not None:
            self.problem = document
        elif whole.content is None:
            raise ModelError("the answer is no message: it has no content", "server")
        else:
            self.heard = self.ended = self.done = True
            self._begin(whole)
            self._stopped(whole.stop_reason, whole.stop_details)
            self._count(whole.usage, to_the_end=True)
            for index, block in enumerate(whole.content):
                self._open(index, block, deltas)
                self._close(index, deltas)
        return deltas

    def used(self, request: Request) -> Usage:
        """What was used so far. What the provider has not counted yet is estimated, high rather than low."""
        if self._counted:
            return self._usage
        counted = self._usage
        words = "".join(piece for written in self._blocks.values() for piece in written.pieces)
        return Usage(
            counted.input_tokens or estimate_tokens(request),
            max(counted.output_tokens, estimate(words)),
            counted.cached_input_tokens,
            counted.reasoning_tokens,
            estimated=True,
            cache_write_tokens=counted.cache_write_tokens,
        )

    def answer(self) -> Answer:
        """The answer as far as it has come. Its usage is what the provider has counted."""
        parts = tuple(part for _, written in sorted(self._blocks.items()) if (part := written.part()) is not None)
        unsaid: FinishReason = "tool_calls" if self._calls else "stop"
        return Answer(parts, STOP_REASONS.get(self._stop or "", unsaid), self._usage, self.model)

    def _begin(self, message: _Message) -> None:
        self.model = message.model or ""
        self._count(message.usage)

    def _stopped(self, reason: str | None, details: _Stop | None) -> None:
        self._stop = reason or self._stop
        self.refusal = (details.explanation if details else None) or self.refusal

    def _open(self, index: int, block: _Block, deltas: list[Delta]) -> None:
        written = self._blocks[index] = _Written(block, self._calls)
        if block.type == "tool_use":
            self._calls += 1
            deltas.append(ToolCallDelta(written.number, written.call.id, written.call.name))
        elif words := written.pieces[0]:
            _add(deltas, written, words)

    def _grow(self, index: int, piece: _Block, deltas: list[Delta]) -> None:
        written = self._blocks.get(index)
        if written is None:
            return
        if words := piece.text or piece.thinking or piece.partial_json:
            written.pieces.append(words)
            _add(deltas, written, words)
        elif piece.signature:
            written.signature = piece.signature

    def _close(self, index: int, deltas: list[Delta]) -> None:
        written = self._blocks.get(index)
        if written is not None and written.kind == "tool_use" and len(written.pieces) == 1:
            _add(deltas, written, written.call.arguments)  # none came in pieces: they stood at the block's start

    def _count(self, usage: _Usage | None, *, to_the_end: bool = False) -> None:
        """Take in a count. They are running totals, so that the highest of each is the last, whoever sends zeros."""
        if usage is None or usage.output_tokens is None:
            return
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        asked = (usage.input_tokens or 0) + written + cached
        thought = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None
        before = self._usage
        self._usage = Usage(
            max(before.input_tokens, asked),
            max(before.output_tokens, usage.output_tokens),
            max(before.cached_input_tokens, cached),
            max(before.reasoning_tokens, thought or 0),
            cache_write_tokens=max(before.cache_write_tokens, written),
        )
        self._counted = to_the_end and self._usage.input_tokens > 0


def _add(deltas: list[Delta], written: _Written, words: str) -> None:
    """Add words to the deltas, to the last one if it is of the same kind."""
    last = deltas[-1] if deltas else None
    match written.kind:
        case "text":
            if type(last) is TextDelta:
                deltas[-1] = TextDelta(last.text + words)
            else:
                deltas.append(TextDelta(words))
        case "thinking":
            if type(last) is ReasoningDelta:
                deltas[-1] = ReasoningDelta(last.text + words)
            else:
                deltas.append(ReasoningDelta(words))
        case "tool_use":
            if type(last) is ToolCallDelta and last.index == written.number:
                deltas[-1] = ToolCallDelta(last.index, last.id, last.name, last.arguments + words)
            else:
                deltas.append(ToolCallDelta(written.number, arguments=words))
        case _:
            pass
