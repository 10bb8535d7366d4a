"""A chat completion, whole or as a stream's chunks, heard by the same `Said`, so that the two cannot come to differ.

Chunks are decoded into structs that hold what is wanted and ignore the rest; all those that one network read brought
are decoded at once, and their text becomes one delta. What compatible servers do differently is accepted here without
a word.
"""

import secrets
from collections.abc import Sequence

import msgspec

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
from partsong.wire.chat.chunk import Call, Chunk, Function, Piece, decode_chunks, decode_whole
from partsong.wire.chat.usage import count
from partsong.wire.json import UNREADABLE
from partsong.wire.tokens import estimate, estimate_tokens

# How models end. What is not listed, and whatever a server invents, is a stop.
FINISH_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
BROKEN_OFF = ("error", "insufficient_system_resource")  # ends that are none
DONE = b"[DONE]"


class _CallSoFar:
    """A tool call that is being written."""

    __slots__ = ("id", "name", "pieces")

    def __init__(self, identity: str, name: str) -> None:
        self.id, self.name = identity, name
        self.pieces: list[str] = []


class Said:
    """What a model has said so far: chunks or a whole completion go in, deltas come out, and in the end an answer.

    `heard` turns true with the first chunk, `ended` when the end was announced, `done` when nothing more will come;
    `problem` is the JSON of an error that came in place of a chunk; `refusal` is what the model said in place of an
    answer; `usage` is `None` until something was counted.
    """

    __slots__ = (
        "_calls",
        "_finish",
        "_likely",
        "_refused",
        "_slots",
        "_thoughts",
        "_words",
        "done",
        "ended",
        "heard",
        "model",
        "problem",
        "usage",
    )

    def __init__(self) -> None:
        self.model = ""
        self.usage: Usage | None = None
        self.heard = False
        self.ended = False
        self.done = False
        self.problem: bytes | None = None
        self._finish: FinishReason = "stop"
        self._likely: list[dict[str, float]] = []
        self._words: list[str] = []
        self._refused: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[_CallSoFar] = []
        self._slots: dict[int, int] = {}  # the server's index of a tool call -> ours

    def hear(self, events: Sequence[tuple[str, bytes]]) -> list[Delta]:
        """Take in the events of one network read; neighbouring deltas of one kind come out as one.

        Raises `ModelError` for what is no chunk.
        """
        datas = [data for _, data in events if data]
        if DONE in datas:
            datas = datas[: datas.index(DONE)]
            self.ended = self.done = True
        try:
            chunks = decode_chunks(b"[%b]" % b",".join(datas))
        except UNREADABLE as fault:
            # An error by name need not have the form of a chunk.
            self.problem = next((data for name, data in events if name == "error"), None)
            if self.problem is None:
                raise ModelError(f"the stream has what is no chunk of a chat completion: {fault}", "server") from None
            return []
        if len(chunks) != len(datas):  # an event was cut where the cuts made sense together
            raise ModelError("the stream has events that hold more or less than a chunk each", "server")
        return self._take_in(chunks, datas)

    def hear_whole(self, document: bytes) -> list[Delta]:
        """Take in a whole completion; its deltas are what a stream would have said at once.

        Raises `ModelError` for what is none.
        """
        try:
            whole = decode_whole(document)
        except UNREADABLE as fault:
            raise ModelError(f"the answer is no chat completion: {fault}", "server") from None
        deltas = self._take_in([whole], [document])
        if not self.heard and self.problem is None:
            raise ModelError("the answer is no chat completion: it has no choices", "server")
        self.ended = self.done = True
        return deltas

    def _take_in(self, chunks: list[Chunk], datas: list[bytes]) -> list[Delta]:
        deltas: list[Delta] = []
        words: list[str] = []
        thoughts: list[str] = []
        # This loop runs for every token of every model.
        for chunk, data in zip(chunks, datas, strict=True):
            if chunk.choices:
                choice = chunk.choices[0]
                said = choice.delta or choice.message
                if said is not None:
                    if thought := said.reasoning_content or said.reasoning:
                        if words:
                            self._speak(words, deltas)
                        thoughts.append(thought)
                    if content := said.content:
                        if type(content) is list:
                            content, thought = self._take_apart(content)
                            if thought and words:
                                self._speak(words, deltas)
                            thoughts.append(thought)
                        if thoughts:
                            self._think(thoughts, deltas)
                        words.append(content)  # type: ignore[arg-type]
                    if said.refusal:
                        self._refused.append(said.refusal)
                    if said.tool_calls:
                        self._think(thoughts, deltas)
                        self._speak(words, deltas)
                        for call in said.tool_calls:
                            self._call(call, deltas)
                if choice.logprobs is not None:
                    for place in choice.logprobs.content or ():
                        found = {likely.token: likely.logprob for likely in place.top_logprobs or ()}
                        self._likely.append(found | {place.token: place.logprob})
                if choice.finish_reason:
                    self._speak(words, deltas)
                    self._end(choice.finish_reason, data, deltas)
            elif chunk.choices is None and chunk.usage is None and (b'"message"' in data or b'"detail"' in data):
                self.problem = data
            if chunk.usage is not None:
                self.usage = count(chunk.usage) or self.usage
            if chunk.error:
                self.problem = data
        if thoughts:
            self._think(thoughts, deltas)
        if words:
            self._speak(words, deltas)
        if not self.heard:
            self.heard = any(chunk.choices is not None for chunk in chunks)
        if not self.model:
            self.model = next((chunk.model for chunk in chunks if chunk.model), "")
        return deltas

    def _take_apart(self, pieces: list[Piece]) -> tuple[str, str]:
        """The words and the thoughts in a content that is a list; what it refuses is kept apart."""
        words, thoughts = [], []
        for piece in pieces:
            words.append(piece.text or "")
            if piece.refusal:
                self._refused.append(piece.refusal)
            if isinstance(piece.thinking, str):
                thoughts.append(piece.thinking)
            elif piece.thinking:
                thoughts.append(self._take_apart(piece.thinking)[0])
        return "".join(words), "".join(thoughts)

    def _speak(self, words: list[str], deltas: list[Delta]) -> None:
        if text := "".join(words):
            self._words.append(text)
            deltas.append(TextDelta(text))
        words.clear()

    def _think(self, thoughts: list[str], deltas: list[Delta]) -> None:
        if text := "".join(thoughts):
            self._thoughts.append(text)
            deltas.append(ReasoningDelta(text))
        thoughts.clear()

    def _call(self, piece: Call, deltas: list[Delta]) -> None:
        """A piece of a tool call: it begins another one, or goes on with the one that has its index.

        Some servers number every call 0, some do not number them, and some give each piece an id of its own: so a name
        that comes with another id begins a call, too, and what has no number goes on with the last one.
        """
        function = piece.function or Function()
        called = function.name or ""
        number = self._slots.get(piece.index) if piece.index is not None else len(self._calls) - 1
        if number is not None and number >= 0 and called:
            other = piece.id != self._calls[number].id if piece.id else piece.index is None
            number = None if other and self._calls[number].name else number
        identity = name = ""
        if number is None or number < 0:
            identity, name = piece.id or f"call_{secrets.token_hex(8)}", called
            number = len(self._calls)
            self._calls.append(_CallSoFar(identity, name))
            if piece.index is not None:
                self._slots[piece.index] = number
        elif called and not self._calls[number].name:
            name = self._calls[number].name = called
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        self._argue(number, identity, name, arguments, deltas)

    def _argue(self, number: int, identity: str, name: str, arguments: str, deltas: list[Delta]) -> None:
        if arguments:
            self._calls[number].pieces.append(arguments)
        last = deltas[-1] if deltas else None
        if type(last) is ToolCallDelta and last.index == number:
            deltas[-1] = ToolCallDelta(number, last.id or identity, last.name or name, last.arguments + arguments)
        elif identity or name or arguments:
            deltas.append(ToolCallDelta(number, identity, name, arguments))

    def _end(self, reason: str, data: bytes, deltas: list[Delta]) -> None:
        if reason in BROKEN_OFF:
            self.problem = data
            return
        self.ended = True
        if self._finish != "content_filter":
            self._finish = FINISH_REASONS.get(reason.lower(), "stop")
        for number, call in enumerate(self._calls):
            if not call.pieces:  # no arguments is an empty object: whoever runs the tool wants JSON
                self._argue(number, "", "", "{}", deltas)

    @property
    def refusal(self) -> str:
        """The words by which the model refused, if it did. They are no part of the answer."""
        return "".join(self._refused)

    def used(self, request: Request) -> Usage:
        """What was used so far, as the provider counts, or else estimated."""
        return self.usage or self.estimate(request)

    def estimate(self, request: Request) -> Usage:
        """What was used so far, where the provider has not counted: high rather than low."""
        written = [*self._words, *self._thoughts, *self._refused]
        for call in self._calls:
            written += (call.name, *call.pieces)
        return Usage(estimate_tokens(request), estimate("".join(written)), estimated=True)

    def answer(self) -> Answer:
        """The answer as far as it has come. Its usage is all zero where the provider has counted nothing."""
        parts: list[Part] = []
        if thoughts := "".join(self._thoughts):
            parts.append(Reasoning(thoughts))
        if words := "".join(self._words):
            parts.append(Text(words))
        parts += [ToolCall(call.id, call.name, "".join(call.pieces) or "{}") for call in self._calls]
        finish = self._finish
        if self._refused:
            finish = "content_filter"  # however it says that it ended
        elif self._calls and finish == "stop":
            finish = "tool_calls"  # there is something to do, whatever reason a server gives for stopping
        likely = tuple(self._likely) if self._likely else msgspec.UNSET
        return Answer(tuple(parts), finish, self.usage or Usage(), self.model, logprobs=likely)
