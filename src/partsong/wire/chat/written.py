"""Answers as chat completions: whole, as a stream's chunks, or as the error that came in their place.

What a stream's chunks share is encoded once; for each delta only its words are.
"""

from typing import Any

import msgspec

from partsong.model import (
    Answer,
    Delta,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from partsong.wire.asked import FIELD, Asked
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
_encode = msgspec.json.Encoder().encode


def whole(asked: Asked, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]) -> bytes:
    """A `chat.completion`, with a choice for each answer."""
    return _encode(
        {
            "id": f"chatcmpl-{head.run}",
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {"index": index, "message": _message(answer), "logprobs": None, "finish_reason": _finish(answer)}
                for index, answer in enumerate(answers)
            ],
            "usage": _usage(usage),
            FIELD: partsong,
        }
    )


def failed(problem: Problem) -> bytes:
    """The body of an error."""
    error = {
        "message": problem.message,
        "type": TYPES[problem.kind],
        "param": problem.field,
        "code": problem.code,
    }
    return _encode({"error": error, FIELD: problem.partsong} if problem.partsong else {"error": error})


class Stream:
    """One streamed completion, chunk by chunk."""

    def __init__(self, asked: Asked, head: Head) -> None:
        self._asked = asked
        shared = {
            "id": f"chatcmpl-{head.run}",
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }
        self._head = b"data: " + _encode(shared)[:-1] + b',"choices":['
        self._words = [
            self._head + b'{"index":%d,"logprobs":null,"finish_reason":null,"delta":{"content":' % choice
            for choice in range(asked.samples)
        ]
        self._calls: set[tuple[int, int]] = set()

    def begin(self) -> bytes:
        """A chunk for each choice that says who speaks."""
        return b"".join(
            self._chunk(choice, {"role": "assistant", "content": ""}, None) for choice in range(self._asked.samples)
        )

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        """A chunk with a delta."""
        if type(delta) is TextDelta:
            return self._words[choice] + _encode(delta.text) + b"}}]}\n\n"
        if type(delta) is ReasoningDelta:
            return self._chunk(choice, {"reasoning_content": delta.text}, None)
        index, function = delta.index, {"arguments": delta.arguments}  # type: ignore[union-attr]
        call: dict[str, Any] = {"index": index, "function": function}
        if (choice, index) not in self._calls:
            self._calls.add((choice, index))
            call |= {"id": delta.id, "type": "function"}  # type: ignore[union-attr]
            function["name"] = delta.name  # type: ignore[union-attr]
        return self._chunk(choice, {"tool_calls": [call]}, None)

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        """An event in a chunk without choices, which clients pass over."""
        return self._head + b'],"partsong":' + event + b"}\n\n"

    def wait(self) -> bytes:
        return b": the proposers are at work\n\n"

    def finish(self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]) -> bytes:
        """How each choice ended, then the usage if it was asked for, with the report on the run."""
        ends = [self._chunk(choice, {}, _finish(answer)) for choice, answer in enumerate(answers)]
        counted = b',"usage":' + _encode(_usage(usage)) if self._asked.usage_in_stream else b""
        last = self._head + b"]" + counted + b',"partsong":' + _encode(partsong) + b"}\n\n"
        return b"".join(ends) + last + b"data: [DONE]\n\n"

    def fail(self, problem: Problem) -> bytes:
        return b"data: " + failed(problem) + b"\n\n"

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None) -> bytes:
        written = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head + _encode(written) + b"]}\n\n"


def _message(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in answer.parts
        if type(part) is ToolCall
    ]
    text = answer.text
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if thought := "".join(part.text for part in answer.parts if type(part) is Reasoning):
        message["reasoning_content"] = thought
    return message | {"tool_calls": calls} if calls else message


def _finish(answer: Answer) -> FinishReason:
    if answer.finish_reason == "stop" and any(type(part) is ToolCall for part in answer.parts):
        return "tool_calls"
    return answer.finish_reason


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
