"""The Anthropic Messages format: a request to JSON, and an answer back, whole or as the events of a stream.

The API has its own ideas, and this file is where they stop: system messages are lifted out of the conversation, tool
results are the user's, `max_tokens` must be there, empty text must not, and an opaque signature goes back unchanged.
Events are decoded into one flat struct that ignores what it does not know, because new kinds appear all the time; and
all the text that one network read brought becomes one delta.
"""

import base64
from collections.abc import Iterable
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
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from partsong.wire.tokens import estimate, estimate_tokens

MAX_TOKENS = 4096  # where nothing was said: every model allows it, and a proposal is seldom longer
OPENING = "(The user has not spoken yet.)"  # the first turn must be the user's
REDACTED = "redacted_thinking:"  # marks a signature that is a redacted block's data: nobody but this file reads it

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# ---- a request, to JSON


def body(request: Request, model: str, *, stream: bool) -> dict[str, Any]:
    """The body of `POST /v1/messages`, for `msgspec.json.encode`. What was not set is not sent, except `max_tokens`.

    Temperature is cut at the API's highest, 1; the seed is not sent, as the API knows none. Raises `ModelError` for a
    schema that is none.
    """
    sampling = request.sampling
    body: dict[str, Any] = {"model": model, "max_tokens": sampling.max_tokens or MAX_TOKENS}
    if system := "\n\n".join(text for message in request.messages if (text := _told(message))):
        body["system"] = system
    body["messages"] = _turns(request.messages)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.response_format is not None:
        schema = _schema(request.response_format, "the contents of response_format")
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if sampling.temperature is not None:
        body["temperature"] = min(sampling.temperature, 1.0)
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if stream:
        body["stream"] = True
    return body


def _told(message: Message) -> str:
    return message.text if message.role == "system" and not message.text.isspace() else ""


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The conversation as turns of the user and the assistant, the user's first, neighbours of one role as one."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        # A system prompt is text alone: its pictures, if any, are shown by the user.
        parts = [part for part in message.parts if type(part) is not Text or message.role != "system"]
        blocks = [block for part in parts if (block := _block(part)) is not None]
        while blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
            blocks.pop()  # thoughts that led to nothing are refused
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns or turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    if turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        last["text"] = last["text"].rstrip()  # it is continued from here, and white space at its end is refused
    return turns


def _block(part: Part) -> dict[str, Any] | None:
    """A part as the API's content block; `None` for what it does not take: empty text, unsigned reasoning."""
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text and not text.isspace() else None
        case Image(url=url) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image(data=data, media_type=media_type):
            source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode("ascii")}
            return {"type": "image", "source": source}
        case Reasoning(text=text, signature=signature):
            if signature.startswith(REDACTED):
                return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
            return {"type": "thinking", "thinking": text, "signature": signature} if signature else None
        case ToolCall(id=call, name=name, arguments=arguments):
            return {"type": "tool_use", "id": _call_id(call), "name": name, "input": _input(arguments)}
        case ToolResult(call_id=call, parts=parts, is_error=is_error):
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _call_id(call)}
            if content := [block for piece in parts if (block := _block(piece)) is not None]:
                result["content"] = content
            if is_error:
                result["is_error"] = True
            return result


def _call_id(call: str) -> str:
    """The id in the letters that the API allows: other providers' ids may have dots and colons."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in call)


def _input(arguments: str) -> Any:
    """The arguments as the JSON object that the API insists on; what is none is shown to the model as it is."""
    if not arguments.strip():
        return {}
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (*UNREADABLE, UnicodeEncodeError):
        return {"INVALID_JSON": arguments}
    return Raw(arguments.encode())


def _tool(tool: Tool) -> dict[str, Any]:
    schema = _schema(tool.parameters, f"the parameters of the tool {tool.name}")
    schema.setdefault("type", "object")
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": schema}


def _schema(data: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as problem:
        raise ModelError(f"{what} are no JSON Schema: {problem}", "refused") from None


def _tool_choice(choice: str) -> dict[str, str]:
    match choice:
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case _:
            return {"type": "tool", "name": choice}


# ---- an answer, from JSON


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

    `heard` turns true with the first event and `ended` when the end was announced; `problem` is the JSON of an error
    that came in place of an event; `refusal` is why the provider stopped the answer, where it says so.
    """

    __slots__ = ("_blocks", "_calls", "_counted", "_stop", "_usage", "ended", "heard", "model", "problem", "refusal")

    def __init__(self) -> None:
        self.model = ""
        self.heard = False
        self.ended = False
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
                    self.ended = True
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
            self.heard = self.ended = True
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
        )

    def answer(self, request: Request) -> Answer:
        """The answer to `request` as far as it has come."""
        parts = tuple(part for _, written in sorted(self._blocks.items()) if (part := written.part()) is not None)
        unsaid: FinishReason = "tool_calls" if self._calls else "stop"
        return Answer(parts, STOP_REASONS.get(self._stop or "", unsaid), self.used(request), self.model)

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
        cached = usage.cache_read_input_tokens or 0
        asked = (usage.input_tokens or 0) + (usage.cache_creation_input_tokens or 0) + cached
        thought = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None
        before = self._usage
        self._usage = Usage(
            max(before.input_tokens, asked),
            max(before.output_tokens, usage.output_tokens),
            max(before.cached_input_tokens, cached),
            max(before.reasoning_tokens, thought or 0),
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
