"""Serializes answers as messages, whole or as the events of a stream, and errors.

The parts of an event that repeat are encoded once. For each delta, only its text is encoded. Every answer has all
fields that the API requires, with null if a mixture has no value. `citations` of a text are left out, as Anthropic's
server leaves them out, because a client (Vercel's AI SDK) does not accept null there.
"""

from typing import Any

import msgspec

from partsong.model import Answer, Delta, Reasoning, ReasoningDelta, Text, TextDelta, ToolCall, ToolCallDelta, Usage
from partsong.wire.messages.answer import REDACTED
from partsong.wire.parsed import FIELD, ParsedRequest
from partsong.wire.reply import Head, Kind, Problem

TYPES: dict[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "billing": "billing_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "cancelled": "api_error",
    "server": "api_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
}
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
# By refused field, the `error.details` that Anthropic's SDKs test for. Their tool runners send `thread` unasked, and
# retry without it only after this code.
DETAILS = {"thread": {"error_code": "thread_unsupported_request"}}
_encode = msgspec.json.Encoder().encode


def serialize_answer(
    request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
) -> bytes:
    """Return a `message`. `answers` must hold one answer, because the API has no field for more."""
    (answer,) = answers
    message = _message(head) | {"content": _content(answer), "stop_reason": _reason(answer), "usage": _usage(usage)}
    return _encode(message | {FIELD: partsong})


def serialize_error(problem: Problem) -> bytes:
    """Return the body of an error response."""
    error: dict[str, Any] = {"type": TYPES[problem.kind], "message": problem.message}
    if problem.field in DETAILS:
        error["details"] = DETAILS[problem.field]
    body: dict[str, Any] = {"type": "error", "error": error, "request_id": problem.request_id or None}
    return _encode(body | {FIELD: problem.partsong} if problem.partsong else body)


def serialize_count(tokens: int) -> bytes:
    """Return the body of a response to `count_tokens`. `tokens`: input tokens of the request."""
    return _encode({"input_tokens": tokens})


class Stream:
    """Serializes one streamed message; see `partsong.wire.reply.Stream`.

    A content block ends, and another begins, when the kind of the deltas changes.
    """

    def __init__(self, request: ParsedRequest, head: Head) -> None:
        self._head = head
        self._index = -1
        self._open: object = None  # the open block: a class of deltas, ("tool_use", index), or `None` for no block
        self._words = b""  # start of each delta event of the open block

    def begin(self) -> bytes:
        """Return a `message_start` with an empty message."""
        message = _message(self._head) | {"content": [], "stop_reason": None, "usage": _usage(Usage())}
        return _event("message_start", {"message": message})

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """Return the events for a delta: before the delta, the open block ends and a new one begins if necessary."""
        if type(delta) is TextDelta:
            text = {"type": "text", "text": ""}
            begun = b"" if self._open is TextDelta else self._block(TextDelta, text, "text_delta")
            return begun + self._words + _encode(delta.text) + b"}}\n\n"
        if type(delta) is ReasoningDelta:
            thinking = {"type": "thinking", "thinking": "", "signature": ""}
            begun = b"" if self._open is ReasoningDelta else self._block(ReasoningDelta, thinking, "thinking_delta")
            return begun + self._words + _encode(delta.text) + b"}}\n\n"
        assert type(delta) is ToolCallDelta
        begun = b""
        if self._open != ("tool_use", delta.index):
            use = {"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}}
            begun = self._block(("tool_use", delta.index), use, "input_json_delta")
        return begun + self._words + _encode(delta.arguments) + b"}}\n\n" if delta.arguments else begun

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """Return the run's event in an event named `partsong`; clients ignore events of unknown names."""
        return b'event: partsong\ndata: {"type":"partsong","event":' + event + b"}\n\n"

    def wait(self) -> bytes:
        """Return a `ping` event, which Anthropic's server sends for the same purpose."""
        return b'event: ping\ndata: {"type":"ping"}\n\n'

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        """Return the last events: `message_delta` has the stop reason, the usage and the report on the run."""
        (answer,) = answers
        signature = next((part.signature for part in answer.parts if type(part) is Reasoning and part.signature), "")
        last = {
            "delta": {
                "stop_reason": _reason(answer),
                "stop_sequence": None,
                "stop_details": None,
                "container": None,
            },
            "usage": _usage(usage),
            FIELD: partsong,
        }
        return self._end(signature) + _event("message_delta", last) + _event("message_stop", {})

    def fail(self, problem: Problem) -> bytes:
        return b"event: error\ndata: " + serialize_error(problem) + b"\n\n"

    def _block(self, kind: object, block: dict[str, Any], deltas: str) -> bytes:
        ended = self._end("")
        self._index, self._open = self._index + 1, kind
        field = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[deltas]
        self._words = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
            % (self._index, deltas.encode(), field.encode())
        )
        return ended + _event("content_block_start", {"index": self._index, "content_block": block})

    def _end(self, signature: str) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if signature and self._open is ReasoningDelta and not signature.startswith(REDACTED):
            delta = {"type": "signature_delta", "signature": signature}
            signed = _event("content_block_delta", {"index": self._index, "delta": delta})
        self._open = None
        return signed + _event("content_block_stop", {"index": self._index})


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **fields}))


def _message(head: Head) -> dict[str, Any]:
    return {
        "id": f"msg_{head.run}",
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }


def _content(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in answer.parts:
        match part:
            case Text(text=text) if text:
                blocks.append({"type": "text", "text": text})
            case Reasoning(signature=signature) if signature.startswith(REDACTED):
                blocks.append({"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)})
            case Reasoning(text=text, signature=signature):
                blocks.append({"type": "thinking", "thinking": text, "signature": signature})
            case ToolCall(id=call_id, name=name, arguments=arguments):
                blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": _input(arguments)})
    return blocks


def _input(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _reason(answer: Answer) -> str:
    if answer.finish_reason == "stop" and any(type(part) is ToolCall for part in answer.parts):
        return "tool_use"
    return REASONS[answer.finish_reason]


def _usage(usage: Usage) -> dict[str, Any]:
    """Return a usage of the API, which does not count cached tokens and cache writes among `input_tokens`."""
    read, wrote = usage.cached_input_tokens, usage.cache_write_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - read - wrote),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": wrote,
        "cache_creation": None,
        "output_tokens": usage.output_tokens,
        "server_tool_use": None,
        "service_tier": "standard",
    }
