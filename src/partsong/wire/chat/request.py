"""A request as the body of `POST /chat/completions`. What was not set is not sent, as servers differ in what they know.

Text goes as a string, which every server takes, and as a list only beside pictures. Those stand in messages of users
alone, so what the system or a tool shows is moved to one.
"""

import base64
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
from partsong.wire.chat.details import read_details
from partsong.wire.history import FORMS, USUAL, HistoryRules, tools_of, with_ids, with_text_of_documents
from partsong.wire.json import read_schema

# What a sampling says, and how the format calls it.
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


# What stands for the reasoning of a turn that had none, or another model's. Kimi refuses an empty string.
NO_REASONING = " "
SHOWN = (Image, Document)  # parts that make a list of a content
UNNAMED = "document.pdf"  # OpenAI wants a name


def body(request: Request, model: str, *, stream: bool, rules: HistoryRules = USUAL) -> dict[str, Any]:
    """The body, for `msgspec.json.encode`.

    Reasoning of earlier turns is left out unless `rules` wants it: the format has no place for it. Raises `ModelError`
    for a schema that is none.
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
    return body


def _function(tool: Tool) -> dict[str, Any]:
    """A tool. An empty schema is refused, and one of an object is only understood with its properties, even if none."""
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
    shown: list[
        Part
    ] = []  # pictures and files that anyone but a user shows: the others' messages are text alone, so a user shows them
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
    """The assistant's message, or none if nothing of it can be sent."""
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
    """Text alone as a string, which every server takes; with pictures, a list."""
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


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
