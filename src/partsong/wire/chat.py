"""The OpenAI Chat Completions format: a request to JSON, and an answer back, whole or as the chunks of a stream.

A whole answer and a stream are heard by the same `Said`, so that they cannot come to differ. Chunks are decoded into
structs that hold what is wanted and ignore the rest; all those that one network read brought are decoded at once, and
their text becomes one delta. What compatible servers do differently in their answers is accepted here without a word.
"""

import base64
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from partsong.errors import ModelError
from partsong.model import (
    Answer,
    Delta,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Request,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    text_of,
)
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
}
BROKEN_OFF = ("error", "insufficient_system_resource")  # ends that are none
DONE = b"[DONE]"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# ---- a request, to JSON


def body(request: Request, model: str, *, stream: bool) -> dict[str, Any]:
    """The body of `POST /chat/completions`, for `msgspec.json.encode`. What was not set is not sent.

    Reasoning of earlier turns is left out: the format has no place for it.
    """
    body: dict[str, Any] = {"model": model, "messages": _messages(request.messages)}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    **({"description": tool.description} if tool.description else {}),
                    "parameters": Raw(tool.parameters),
                },
            }
            for tool in request.tools
        ]
        if (choice := request.tool_choice) in ("auto", "none", "required"):
            body["tool_choice"] = choice
        elif choice is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if request.response_format is not None:
        schema = {"name": "answer", "strict": True, "schema": Raw(request.response_format)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    sampling = request.sampling
    for name in ("temperature", "top_p", "max_tokens", "seed"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    shown: list[Part] = []  # pictures that tools returned: a tool's message has only text, so the user shows them after
    for message in messages:
        if shown and message.role != "tool":
            written.append({"role": "user", "content": _content(shown)})
            shown = []
        if message.role == "assistant":
            written += _assistant(message)
            continue
        said: list[Part] = []
        for part in message.parts:
            if type(part) is ToolResult:
                text = text_of(part.parts)
                content = f"Error: {text}" if part.is_error else text
                written.append({"role": "tool", "tool_call_id": part.call_id, "content": content})
                shown += [piece for piece in part.parts if type(piece) is Image]
            elif type(part) is Text or type(part) is Image:
                said.append(part)
        if said:
            written.append({"role": "user" if message.role == "tool" else message.role, "content": _content(said)})
    if shown:
        written.append({"role": "user", "content": _content(shown)})
    return written


def _assistant(message: Message) -> list[dict[str, Any]]:
    """The assistant's message, or none if nothing of it can be sent."""
    written: dict[str, Any] = {"role": "assistant"}
    if text := message.text:
        written["content"] = text
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in message.parts
        if type(part) is ToolCall
    ]
    if calls:
        written["tool_calls"] = calls
    return [written] if text or calls else []


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Text alone as a string, which every server takes; with pictures, a list."""
    if not any(type(part) is Image for part in parts):
        return text_of(tuple(parts))
    return [
        {"type": "image_url", "image_url": {"url": part.url or _data_url(part)}}
        if type(part) is Image
        else {"type": "text", "text": text_of((part,))}
        for part in parts
    ]


def _data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"


# ---- an answer, from JSON


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # some servers send the object itself


class _Call(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Piece(Struct, gc=False):
    """A part of a content that is a list."""

    text: str | None = None
    thinking: "str | list[_Piece] | None" = None
    refusal: str | None = None


class _Said(Struct, gc=False):
    """A chunk's delta, or a whole message: they share their fields."""

    content: str | list[_Piece] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct, gc=False):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | float | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | float | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | float | None = None


class _Chunk(Struct, gc=False):
    """A chunk of a stream, or a whole completion."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    model: str | None = None


_whole = msgspec.json.Decoder(_Chunk)
_chunks = msgspec.json.Decoder(list[_Chunk])


class _CallSoFar:
    """A tool call that is being written."""

    __slots__ = ("id", "name", "pieces")

    def __init__(self, identity: str, name: str) -> None:
        self.id, self.name = identity, name
        self.pieces: list[str] = []


class Said:
    """What a model has said so far: chunks or a whole completion go in, deltas come out, and in the end an answer.

    `heard` turns true with the first chunk, `ended` when the end was announced, `done` when nothing more will come;
    `problem` is the JSON of an error that came in place of a chunk; `usage` is `None` until something was counted.
    """

    __slots__ = (
        "_calls",
        "_finish",
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
        self._words: list[str] = []
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
            chunks = _chunks.decode(b"[%b]" % b",".join(datas))
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
            whole = _whole.decode(document)
        except UNREADABLE as fault:
            raise ModelError(f"the answer is no chat completion: {fault}", "server") from None
        deltas = self._take_in([whole], [document])
        if not self.heard and self.problem is None:
            raise ModelError("the answer is no chat completion: it has no choices", "server")
        self.ended = self.done = True
        return deltas

    def _take_in(self, chunks: list[_Chunk], datas: list[bytes]) -> list[Delta]:
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
                            content, thought = _joined(content)
                            if thought and words:
                                self._speak(words, deltas)
                            thoughts.append(thought)
                        if thoughts:
                            self._think(thoughts, deltas)
                        words.append(content)  # type: ignore[arg-type]
                    if said.refusal:
                        # What a model says in place of an answer are its words, too; how it ends tells them apart.
                        words.append(said.refusal)
                        self._finish = "content_filter"
                    if said.tool_calls:
                        self._think(thoughts, deltas)
                        self._speak(words, deltas)
                        for call in said.tool_calls:
                            self._call(call, deltas)
                if choice.finish_reason:
                    self._speak(words, deltas)
                    self._end(choice.finish_reason, data, deltas)
            elif chunk.choices is None and chunk.usage is None and (b'"message"' in data or b'"detail"' in data):
                self.problem = data
            if chunk.usage is not None:
                self._count(chunk.usage)
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

    def _call(self, piece: _Call, deltas: list[Delta]) -> None:
        """A piece of a tool call: it begins another one, or goes on with the one that has its index.

        Some servers number every call 0, some do not number them, and some give each piece an id of its own: so a name
        that comes with another id begins a call, too, and what has no number goes on with the last one.
        """
        function = piece.function or _Function()
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

    def _count(self, usage: _Usage) -> None:
        """Take in a count. Where the total is more than its parts, the difference is reasoning that was left out."""
        asked, said = int(usage.prompt_tokens or 0), int(usage.completion_tokens or 0)
        if not asked and not said:
            return
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        thought = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else None
        self.usage = Usage(
            asked,
            max(said, int(usage.total_tokens or 0) - asked),
            int(cached or usage.prompt_cache_hit_tokens or 0),
            int(thought or 0),
        )

    def estimate(self, request: Request) -> Usage:
        """What was used so far, where the provider has not counted: high rather than low."""
        written = [*self._words, *self._thoughts]
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
        # With calls there is something to do, whatever reason a server gives for stopping.
        finish = "tool_calls" if self._calls and self._finish == "stop" else self._finish
        return Answer(tuple(parts), finish, self.usage or Usage(), self.model)


def _joined(pieces: list[_Piece]) -> tuple[str, str]:
    """The words and the thoughts in a content that is a list."""
    words, thoughts = [], []
    for piece in pieces:
        words.append(piece.text or piece.refusal or "")
        if isinstance(piece.thinking, str):
            thoughts.append(piece.thinking)
        elif piece.thinking:
            thoughts.append(_joined(piece.thinking)[0])
    return "".join(words), "".join(thoughts)
