"""Serializes a request as the body of `POST /v1/messages`, by the rules of the API:

- System messages stand outside the conversation.
- Tool results are in turns of the user, and the user's turn is first.
- `max_tokens` is required, and empty text is refused.
- Signatures of reasoning are sent back unchanged.

The caller's marks for the prompt cache are passed on.
"""

from typing import Any

import msgspec
from msgspec import Raw

from partsong.model import (
    ANY_OBJECT,
    PDF,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from partsong.wire.blobs import blob_or_text
from partsong.wire.extra import with_extra
from partsong.wire.history import DETAILS, USUAL, HistoryRules, plain_id, tools_of, with_ids, with_text_of_documents
from partsong.wire.json import UNREADABLE, read_schema
from partsong.wire.messages.answer import REDACTED
from partsong.wire.speakers import spelled

MAX_TOKENS = 4096  # if the request sets none: every model allows so many, and a proposal is seldom longer
JSON_ALONE = "Answer with one JSON object, and with nothing else."
MARKS = 4  # cache marks that the API allows in a request
OPENING = "(The user has not spoken yet.)"  # the first turn must be the user's


def body(request: Request, model: str, *, stream: bool, rules: HistoryRules = USUAL) -> dict[str, Any]:
    """Return the body, ready for `msgspec.json.encode` or, if it has large files, for `wire.blobs.Encoded`.

    Fields that were not set are left out, except `max_tokens`.

    model: the model's name at the provider
    stream: whether the answer is to be streamed
    rules: only `documents` is used, because the other rules concern Chat Completions alone

    A temperature above 1, the API's maximum, becomes 1. A seed is not sent, because the API has none. Tool-call ids
    get a form that the API accepts. Raises `ModelError` if a tool's parameters or the response format are no JSON
    object.
    """
    sampling = request.sampling
    messages = with_ids(spelled(request.messages), plain_id)
    if not rules.documents:
        messages = with_text_of_documents(messages)
    body: dict[str, Any] = {"model": model, "max_tokens": sampling.max_tokens or MAX_TOKENS}
    if system := _system(messages):
        body["system"] = system
    body["messages"] = _turns(messages)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.parallel_tool_calls is False and request.tool_choice != "none":
            body["tool_choice"] = body.get("tool_choice", {"type": "auto"}) | {"disable_parallel_tool_use": True}
    elif names := tools_of(messages):  # the API requires that tools called in earlier turns are declared
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
        body["tool_choice"] = {"type": "none"}
    if request.response_format == ANY_OBJECT:  # the API has no JSON mode without a schema
        body["system"] = _with(body.get("system", ""), JSON_ALONE)
    elif request.response_format is not None:
        schema = read_schema(request.response_format, "the contents of response_format")
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if sampling.temperature is not None:
        body["temperature"] = min(sampling.temperature, 1.0)
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.top_k is not None:
        body["top_k"] = sampling.top_k
    if sampling.thinking is not None or sampling.thinks:
        body["thinking"] = {"type": "adaptive"}
        if sampling.thinking is not None:
            body["thinking"] = {"type": "enabled", "budget_tokens": sampling.thinking}
        for name in ("temperature", "top_k"):  # the API refuses these together with thinking
            body.pop(name, None)
    if sampling.effort == "none" or sampling.thinks is False:
        body["thinking"] = {"type": "disabled"}
    if sampling.effort not in (None, "none"):
        body["output_config"] = body.get("output_config", {}) | {"effort": sampling.effort}
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if stream:
        body["stream"] = True
    _keep_last_marks(body)
    return with_extra(body, request.extra)


def _told(message: Message) -> str:
    return message.text if message.role == "system" and not message.text.isspace() else ""


def _system(messages: tuple[Message, ...]) -> "str | list[dict[str, Any]]":
    """Return the field `system`: one text, or blocks of text if some have a cache mark."""
    told = [message for message in messages if _told(message)]
    parts = [part for message in told for part in message.parts if type(part) is Text]
    if not any(part.cache_control for part in parts):
        return "\n\n".join(message.text for message in told)
    blocks: list[dict[str, Any]] = []
    for message in told:
        gap = "\n\n" if blocks else ""
        for part in message.parts:
            if type(part) is Text and (block := _block(part)) is not None:
                blocks.append(block | {"text": gap + part.text})
                gap = ""
    return blocks


def _with(system: "str | list[dict[str, Any]]", more: str) -> "str | list[dict[str, Any]]":
    if isinstance(system, list):
        return [*system, {"type": "text", "text": f"\n\n{more}"}]
    return f"{system}\n\n{more}" if system else more


def _with_cache_control(cache_control: str) -> dict[str, Any]:
    """Return the fields that mark a block as the end of a cached prompt (API reference, prompt caching)."""
    if not cache_control:
        return {}
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": cache_control} if cache_control == "1h" else {})}


def _keep_last_marks(body: dict[str, Any]) -> None:
    """Remove all cache marks but the last `MARKS`, because the last marks cache the longest prompts."""
    system = body.get("system", ())
    blocks = [*body.get("tools", ()), *(system if isinstance(system, list) else ())]
    for turn in body["messages"]:
        for block in turn["content"]:
            blocks += [*(block.get("content", ()) if block["type"] == "tool_result" else ()), block]
    for block in [block for block in blocks if "cache_control" in block][:-MARKS]:
        del block["cache_control"]


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return the conversation as turns of user and assistant by turns. The user's turn is first."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        # `system` is text alone, so images of a system message go into a turn of the user.
        parts = [part for part in message.parts if type(part) is not Text or message.role != "system"]
        blocks = [block for part in parts if (block := _block(part)) is not None]
        while blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
            blocks.pop()  # the API refuses a turn that ends in thoughts
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns or turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    if turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        last["text"] = last["text"].rstrip()  # the model continues this text; the API refuses white space at its end
    return turns


def _block(part: Part) -> dict[str, Any] | None:
    """Return a part as a content block; `None` for empty text and unsigned reasoning, which the API refuses."""
    match part:
        case Text(text=text, cache_control=cache_control):
            return (
                {"type": "text", "text": text, **_with_cache_control(cache_control)}
                if text and not text.isspace()
                else None
            )
        case Image(url=url, cache_control=cache_control) if url:
            return {"type": "image", "source": {"type": "url", "url": url}, **_with_cache_control(cache_control)}
        case Image(data=data, media_type=media_type, cache_control=cache_control):
            source = {"type": "base64", "media_type": media_type, "data": blob_or_text("", data)}
            return {"type": "image", "source": source, **_with_cache_control(cache_control)}
        case Document(data=data, name=name, cache_control=cache_control) if data and part.media_type == PDF:
            source = {"type": "base64", "media_type": PDF, "data": blob_or_text("", data)}
            titled = {"title": name} if name else {}
            return {"type": "document", "source": source, **titled, **_with_cache_control(cache_control)}
        case Document(cache_control=cache_control):
            return {"type": "text", "text": part.as_text, **_with_cache_control(cache_control)}
        case Reasoning(text=text, signature=signature):
            if signature.startswith(REDACTED):
                return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
            own = signature and not signature.startswith(DETAILS)
            return {"type": "thinking", "thinking": text, "signature": signature} if own else None
        case ToolCall(id=call, name=name, arguments=arguments, cache_control=cache_control):
            used = {"type": "tool_use", "id": call, "name": name, "input": _input(arguments)}
            return used | _with_cache_control(cache_control)
        case ToolResult(call_id=call, parts=parts, is_error=is_error, cache_control=cache_control):
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call}
            if content := [block for piece in parts if (block := _block(piece)) is not None]:
                result["content"] = content
            if is_error:
                result["is_error"] = True
            return result | _with_cache_control(cache_control)


def _input(arguments: str) -> Any:
    """Return a tool call's arguments as the JSON object that the API requires.

    Arguments that are no JSON object become the one field `INVALID_JSON`, so that the model sees its mistake.
    """
    if not arguments.strip():
        return {}
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (*UNREADABLE, UnicodeEncodeError):
        return {"INVALID_JSON": arguments}
    return Raw(arguments.encode())


def _tool(tool: Tool) -> dict[str, Any]:
    schema = read_schema(tool.parameters, f"the parameters of the tool {tool.name}")
    schema.setdefault("type", "object")
    described = {"description": tool.description} if tool.description else {}
    eager = {"eager_input_streaming": True} if tool.eager else {}
    return {"name": tool.name, **described, "input_schema": schema, **eager, **_with_cache_control(tool.cache_control)}


def _tool_choice(choice: str) -> dict[str, Any]:
    match choice:
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case _:
            return {"type": "tool", "name": choice}
