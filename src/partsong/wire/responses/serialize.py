"""Serializes the response object, for answers that are not streamed, for streams, and for stored responses.

Reasoning is sent as a summary, because clients display summaries. Its signature is sent as `encrypted_content` to
clients that request it, as by OpenAI's server.
"""

from typing import Any, Literal

import msgspec

from partsong.model import Answer, Reasoning, Text, ToolCall, Usage
from partsong.wire.freeform import unwrap_input
from partsong.wire.parsed import ParsedRequest
from partsong.wire.reply import Head, Kind, Problem
from partsong.wire.responses.parse import ENCRYPTED

Status = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc", "custom_tool_call": "ctc"}
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
    "overloaded": "service_unavailable_error",
    "timeout": "timeout_error",
}
# Codes for the `error` of a failed response. The API has few codes, and clients test for these.
CODES: dict[Kind, str] = {
    "invalid_request": "invalid_prompt",
    "billing": "insufficient_quota",
    "rate_limit": "rate_limit_exceeded",
}


def serialize_answer(
    request: ParsedRequest, head: Head, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any]
) -> bytes:
    """Return a response that is not streamed. `answers` must hold one answer, because the API has no field for more."""
    answer = answers[0]
    output = output_items(answer, head, request)
    shown = response(request, head, outcome(answer)[0], output, answer=answer, usage=usage)
    return msgspec.json.encode(shown | {"partsong": partsong})


def serialize_open(request: ParsedRequest, head: Head) -> bytes:
    """Return the response object of a run that is still in progress."""
    return msgspec.json.encode(response(request, head, "in_progress", []))


def serialize_failure(request: ParsedRequest, head: Head, problem: Problem, cancelled: bool = False) -> bytes:
    """Return the response object of a run that has ended without an answer.

    problem: the reason
    cancelled: whether the client has cancelled the run; False by default
    """
    error = None if cancelled else error_of(problem)
    shown = response(request, head, "cancelled" if cancelled else "failed", [], error=error)
    return msgspec.json.encode(shown | {"partsong": problem.partsong})


def serialize_error(problem: Problem) -> bytes:
    """Return the body of an error response."""
    error = {
        "message": problem.message,
        "type": TYPES[problem.kind],
        "param": "input" if problem.field == "messages" else problem.field,
        "code": "context_length_exceeded" if problem.code == "window" else problem.code,
    }
    return msgspec.json.encode({"error": error} | ({"partsong": problem.partsong} if problem.partsong else {}))


def error_of(problem: Problem) -> dict[str, Any]:
    """Return the problem as the field `error` of a response object."""
    code = "context_length_exceeded" if problem.code == "window" else CODES.get(problem.kind, "server_error")
    return {"code": code, "message": problem.message}


def encrypts(request: ParsedRequest) -> bool:
    """Return whether the client has requested signatures of reasoning (`reasoning.encrypted_content`)."""
    return ENCRYPTED in request.echo.get("include", ())


def outcome(answer: Answer) -> tuple[Status, dict[str, Any] | None]:
    """Return the status of a response with this answer, and its `incomplete_details`; `None` if it is complete."""
    match answer.finish_reason:
        case "length":
            return "incomplete", {"reason": "max_output_tokens"}
        case "content_filter":
            return "incomplete", {"reason": "content_filter"}
    return "completed", None


def response(
    request: ParsedRequest,
    head: Head,
    status: Status,
    output: list[dict[str, Any]],
    *,
    answer: Answer | None = None,
    usage: Usage | None = None,
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the response object, ready for `msgspec.json.encode`. The Open Responses schema requires its fields.

    request: the request whose fields the response repeats
    head: id, times and model
    output: output items
    answer: the answer, for `incomplete_details`; `None` if there is none
    usage: the usage; `None` if there is none
    error: the field `error`; `None` unless the run failed
    """
    return {
        "id": f"resp_{head.run}",
        "object": "response",
        "created_at": head.created,
        "completed_at": (head.completed or head.created) if status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": outcome(answer)[1] if answer else None,
        "model": head.model,
        "output": output,
        "usage": _usage(usage) if usage else None,
        "service_tier": "default",
        "top_logprobs": 0,
        **{name: value for name, value in request.echo.items() if name != "include"},
    }


def output_items(answer: Answer, head: Head, request: ParsedRequest) -> list[dict[str, Any]]:
    """Return the answer as output items, in the order of its parts. Adjacent texts become one message."""
    encrypted = encrypts(request)
    output: list[dict[str, Any]] = []
    for part in answer.parts:
        index = len(output)
        match part:
            case Reasoning(text=text, signature=signature):
                if text or (encrypted and signature):
                    output.append(thought(identity("reasoning", head, index), text, signature if encrypted else ""))
            case Text(text=text):
                if output and output[-1]["type"] == "message":
                    output[-1]["content"][0]["text"] += text
                else:
                    output.append(message(identity("message", head, index), text))
            case ToolCall(id=call_id, name=name, arguments=arguments):
                kind = "custom_tool_call" if name in request.freeform else "function_call"
                output.append(tool_call(kind, identity(kind, head, index), call_id, name, arguments))
    if output and outcome(answer)[0] == "incomplete":
        output[-1]["status"] = "incomplete"
    return output


def identity(kind: str, head: Head, index: int) -> str:
    """Return the id of an output item. `kind`: its type; `index`: its index in the output."""
    return f"{PREFIXES[kind]}_{head.run}_{index}"


def thought(item_id: str, text: str, signature: str) -> dict[str, Any]:
    """Return a `reasoning` item; an empty `signature` is left out."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": item_id, "summary": summary} | (
        {"encrypted_content": signature} if signature else {}
    )


def message(item_id: str, text: str, status: Status = "completed") -> dict[str, Any]:
    """Return a `message` item of the assistant."""
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": [output_text(text)]}


def output_text(text: str) -> dict[str, Any]:
    """Return an `output_text`, the content of a message of the assistant."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def tool_call(
    kind: str, item_id: str, call_id: str, name: str, arguments: str, status: Status = "completed"
) -> dict[str, Any]:
    """Return an item for a tool call.

    kind: "function_call", or "custom_tool_call" for a tool that takes free text
    item_id: id of the item
    call_id: id of the tool call, to which its result refers
    arguments: JSON arguments, out of which the text of a custom tool is taken
    """
    said = {"input": unwrap_input(arguments)} if kind == "custom_tool_call" else {"arguments": arguments}
    return {"type": kind, "id": item_id, "status": status, "call_id": call_id, "name": name} | said


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
