"""Serializes a request as the body of `POST /chat/completions`.

A field that was not set is not sent, because servers differ in the fields that they accept. A content without images
and files is a string, which every server accepts. The API allows images and files in messages of the user alone, so
those of the system, the assistant or a tool are moved to a message of the user.
"""

from collections.abc import Sequence
from typing import Any

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
    text_of,
)
from partsong.wire.blobs import Blob, blob_or_text
from partsong.wire.chat.details import read_details
from partsong.wire.extra import with_extra
from partsong.wire.history import FORMS, USUAL, HistoryRules, tools_of, with_ids, with_text_of_documents
from partsong.wire.json import read_schema

# From fields of `Sampling` to fields of the body.
FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "top_k": "top_k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "effort": "reasoning_effort",
    "verbosity": "verbosity",
}


# The `reasoning_content` of a turn without readable reasoning. Kimi refuses an empty string.
NO_REASONING = " "
SHOWN = (Image, Document)  # a content with one of these parts is sent as a list
UNNAMED = "document.pdf"  # the name of a PDF without one, because OpenAI requires a name


def body(request: Request, model: str, *, stream: bool, rules: HistoryRules = USUAL) -> dict[str, Any]:
    """Return the body, ready for `msgspec.json.encode` or, if it has large files, for `wire.blobs.Encoded`.

    model: the model's name at the provider
    stream: whether the answer is to be streamed
    rules: how the endpoint wants earlier turns to be written. Earlier reasoning is sent only if `rules` say so

    Raises `ModelError` if a tool's parameters or the response format are no JSON object.
    """
    messages = with_ids(request.messages, FORMS[rules.ids])
    if not rules.documents:
        messages = with_text_of_documents(messages)
    body: dict[str, Any] = {"model": model, "messages": _messages(messages, rules)}
    if rules.declares and not request.tools and (names := tools_of(messages)):
        body["tools"] = [{"type": "function", "function": {"name": name}} for name in names]
        body["tool_choice"] = "none"
    if request.tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
        if (choice := request.tool_choice) in ("auto", "none", "required"):
            body["tool_choice"] = choice
        elif choice is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format == ANY_OBJECT:
        body["response_format"] = {"type": "json_object"}
    elif request.response_format is not None:
        read_schema(request.response_format, "the contents of response_format")
        schema = {"name": "answer", "strict": True, "schema": Raw(request.response_format)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    sampling = request.sampling
    for name, field in FIELDS.items():
        if (value := getattr(sampling, name)) is not None:
            body[field] = value
    if sampling.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return with_extra(body, request.extra)


def _function(tool: Tool) -> dict[str, Any]:
    """Return a tool as a function of the API.

    Servers refuse an empty schema, which is left out, and a schema of an object without `properties`, which are added.
    """
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    schema = read_schema(tool.parameters, f"the parameters of the tool {tool.name}")
    if schema.get("type") == "object" and "properties" not in schema:
        function["parameters"] = schema | {"properties": {}}
    elif schema:
        function["parameters"] = Raw(tool.parameters)
    return function


def _messages(messages: tuple[Message, ...], rules: HistoryRules) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    shown: list[Part] = []  # images and files of other roles than the user, for the next message of the user
    for message in messages:
        if shown and message.role not in ("tool", "system"):
            written.append({"role": "user", "content": _content(shown)})
            shown = []
        named = {"name": message.name} if message.name else {}
        if message.role == "assistant":
            written += [said | named for said in _assistant(message, rules)]
            shown += [part for part in message.parts if type(part) in SHOWN]
            continue
        said: list[Part] = []
        for part in message.parts:
            if type(part) is ToolResult:
                text = text_of(part.parts)
                content = f"Error: {text}" if part.is_error else text
                written.append({"role": "tool", "tool_call_id": part.call_id, "content": content})
                shown += [piece for piece in part.parts if type(piece) in SHOWN]
            elif type(part) in SHOWN and message.role == "system":
                shown.append(part)
            elif type(part) is Text or type(part) in SHOWN:
                said.append(part)
        if said:
            role = "user" if message.role == "tool" else message.role
            written.append({"role": role, "content": _content(said), **named})
    if shown:
        written.append({"role": "user", "content": _content(shown)})
    return written


def _assistant(message: Message, rules: HistoryRules) -> list[dict[str, Any]]:
    """Return a list with the assistant's message, or an empty list if the message has no text and no tool call."""
    written: dict[str, Any] = {"role": "assistant"}
    if text := message.text:
        written["content"] = text
    if tool_calls := [_tool_call(part, rules) for part in message.parts if type(part) is ToolCall]:
        written["tool_calls"] = tool_calls
    if len(written) == 1:
        return []
    thoughts = [part for part in message.parts if type(part) is Reasoning]
    if rules.reasoning:
        written["reasoning_content"] = "".join(part.text for part in thoughts) or NO_REASONING
    if rules.details and (blocks := [block for part in thoughts for block in read_details(part.signature)]):
        written["reasoning_details"] = blocks
    return [written]


def _tool_call(part: ToolCall, rules: HistoryRules) -> dict[str, Any]:
    written = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
    if rules.signatures and part.signature:
        namespace, _, signature = part.signature.partition(":")
        written["extra_content"] = {namespace: {"thought_signature": signature}}
    return written


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Return a content: a string without images and files, since every server accepts a string, else a list."""
    if not any(type(part) in SHOWN for part in parts):
        return text_of(tuple(parts))
    return [_piece(part) for part in parts]


def _piece(part: Part) -> dict[str, Any]:
    match part:
        case Image(url=url, detail=detail):
            link = {"url": url or _data_url(part.media_type, part.data)} | ({"detail": detail} if detail else {})
            return {"type": "image_url", "image_url": link}
        case Document(data=data, name=name) if data and part.media_type == PDF:
            file = {"filename": name or UNNAMED, "file_data": _data_url(PDF, data)}
            return {"type": "file", "file": file}
        case Document():
            return {"type": "text", "text": part.as_text}
        case _:
            return {"type": "text", "text": text_of((part,))}


def _data_url(media_type: str, data: bytes) -> Blob | str:
    return blob_or_text(f"data:{media_type};base64,", data)
