"""Serializes answers as chat completions, whole or as the chunks of a stream, and errors.

The fields that all chunks of a stream share are encoded once. For each delta, only its text is encoded.
"""

from typing import Any

import msgspec

from partsong.model import (
    Answer,
    Delta,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from partsong.wire.freeform import unwrap_input
from partsong.wire.parsed import FIELD, ParsedRequest
from partsong.wire.reply import Head, Kind, Problem

TYPES: dict[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "billing": "insufficient_quota",
    "permission": "permission_error",
    "not_found": "invalid_request_error",
    "too_large": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "cancelled": "server_error",
    "server": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
}
# OpenAI's codes that clients test for. Other causes keep partsong's own names.
CODES = {"window": "context_length_exceeded", "rate": "rate_limit_exceeded"}
_encode = msgspec.json.Encoder().encode


def serialize_answer(
    request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
) -> bytes:
    """Return a `chat.completion` with one choice for each answer."""
    old = _in_the_old_way(request)
    return _encode(
        {
            "id": f"chatcmpl-{head.run}",
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "index": index,
                    "message": _message(answer, old, request.freeform),
                    "logprobs": None,
                    "finish_reason": _finish(answer, old),
                }
                for index, answer in enumerate(answers)
            ],
            "usage": _usage(usage),
            FIELD: partsong,
        }
    )


def serialize_error(problem: Problem) -> bytes:
    """Return the body of an error response."""
    error = {
        "message": problem.message,
        "type": TYPES[problem.kind],
        "param": problem.field,
        "code": CODES.get(problem.code or "", problem.code),
    }
    return _encode({"error": error, FIELD: problem.partsong} if problem.partsong else {"error": error})


class Stream:
    """Serializes one streamed completion; see `partsong.wire.reply.Stream`."""

    def __init__(self, request: ParsedRequest, head: Head) -> None:
        self._request = request
        self._old = _in_the_old_way(request)
        shared = {
            "id": f"chatcmpl-{head.run}",
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }
        self._head = b"data: " + _encode(shared)[:-1] + b',"choices":['
        # If the client asks for the usage, every chunk has the field: null, but for the last chunk.
        self._tail = b'],"usage":null' if request.usage_in_stream else b"]"
        self._deltas = [
            self._head + b'{"index":%d,"logprobs":null,"finish_reason":null,"delta":{' % choice
            for choice in range(request.samples)
        ]
        self._words = [said + b'"content":' for said in self._deltas]
        self._end = b"}}" + self._tail + b"}\n\n"
        # Tool calls are known by the indexes of their choice and of the tool call in it.
        self._begun: set[tuple[int, int]] = set()  # tool calls whose id and name were sent
        self._held: dict[tuple[int, int], tuple[str, str, list[str]]] = {}  # calls of free-text tools, sent at the end

    def begin(self) -> bytes:
        """Return a chunk for each choice with the role `assistant`."""
        return b"".join(said + b'"role":"assistant","content":""' + self._end for said in self._deltas)

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """Return a chunk with the delta; empty for a call of a free-text tool, which is sent at the end."""
        if type(delta) is TextDelta:
            return self._words[choice] + _encode(delta.text) + self._end
        if type(delta) is ReasoningDelta:
            return self._deltas[choice] + b'"reasoning_content":' + _encode(delta.text) + self._end
        assert type(delta) is ToolCallDelta
        return self._say_tool_call(delta, choice)

    def _say_tool_call(self, delta: ToolCallDelta, choice: int) -> bytes:
        place = (choice, delta.index)
        if place in self._held or delta.name in self._request.freeform:
            # A piece of the JSON arguments cannot be turned into a piece of the text, so the text is sent as a whole.
            self._held.setdefault(place, (delta.id, delta.name, []))[2].append(delta.arguments)
            return b""
        function = {"arguments": delta.arguments}
        tool_call: dict[str, Any] = {"index": delta.index, "function": function}
        if place not in self._begun:
            self._begun.add(place)
            tool_call |= {"id": delta.id, "type": "function"}
            function["name"] = delta.name
        if self._old:
            return self._deltas[choice] + b'"function_call":' + _encode(function) + self._end
        return self._deltas[choice] + b'"tool_calls":[' + _encode(tool_call) + b"]" + self._end

    def _release(self) -> bytes:
        """Return the chunks with the calls of free-text tools."""
        told = b""
        for (choice, index), (call_id, name, pieces) in self._held.items():
            custom = {"name": name, "input": unwrap_input("".join(pieces))}
            tool_call = {"index": index, "id": call_id, "type": "custom", "custom": custom}
            told += self._deltas[choice] + b'"tool_calls":[' + _encode(tool_call) + b"]" + self._end
        return told

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """Return a chunk without choices, which clients ignore, with an event of the run."""
        return self._head + self._tail + b',"partsong":' + event + b"}\n\n"

    def wait(self) -> bytes:
        """Return a comment, because the API has no event that keeps a connection alive."""
        return b": the proposers are at work\n\n"

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        """Return a chunk with the finish reason of each choice, and a last chunk with the usage if requested.

        The report on the run is in the last chunk.
        """
        ends = [
            _encode({"index": choice, "delta": {}, "logprobs": None, "finish_reason": _finish(answer, self._old)})
            for choice, answer in enumerate(answers)
        ]
        report = b',"partsong":' + _encode(partsong) + b"}\n\ndata: [DONE]\n\n"
        if self._request.usage_in_stream:
            last = self._head + b'],"usage":' + _encode(_usage(usage)) + report
        else:  # a client that has not requested the usage does not expect a last chunk without choices
            last = self._head + ends.pop() + self._tail + report
        return self._release() + b"".join(self._head + end + self._tail + b"}\n\n" for end in ends) + last

    def fail(self, problem: Problem) -> bytes:
        return b"data: " + serialize_error(problem) + b"\n\n"


def _in_the_old_way(request: ParsedRequest) -> bool:
    """Return whether the request has `functions`, the old form of `tools`; the answer then has a `function_call`."""
    return bool(request.echo.get("functions"))


def _message(answer: Answer, old: bool, freeform: frozenset[str]) -> dict[str, Any]:
    tool_calls = [_tool_call(part, part.name in freeform) for part in answer.parts if type(part) is ToolCall]
    text = answer.text or (None if tool_calls else "")
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if thought := "".join(part.text for part in answer.parts if type(part) is Reasoning):
        message["reasoning_content"] = thought
    if tool_calls:
        message |= {"function_call": tool_calls[0]["function"]} if old else {"tool_calls": tool_calls}
    return message


def _tool_call(part: ToolCall, freeform: bool) -> dict[str, Any]:
    if freeform:
        return {"id": part.id, "type": "custom", "custom": {"name": part.name, "input": unwrap_input(part.arguments)}}
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}


def _finish(answer: Answer, old: bool) -> str:
    finish = answer.finish_reason
    if finish == "stop" and any(type(part) is ToolCall for part in answer.parts):
        finish = "tool_calls"
    return "function_call" if old and finish == "tool_calls" else finish


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
