"""A request to `POST /v1/messages`, as what is asked of a mixture; and to `/v1/messages/count_tokens`.

A turn that brings tools' results becomes one message of role `tool`, with whatever else stands in it: harnesses put
reminders beside results, and those are not the user speaking again.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from partsong.errors import RequestError
from partsong.model import (
    Conversation,
    Image,
    Mark,
    Message,
    Part,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from partsong.wire.asked import Asked, Options, read_options
from partsong.wire.json import decode_field as decode
from partsong.wire.json import given
from partsong.wire.messages.answer import REDACTED

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]


class CacheControl(Struct):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Source(Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class Block(Struct):
    """A block of content; which fields it has depends on its type."""

    type: str
    text: str | None = None
    source: Source | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    content: str | list[Raw] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: CacheControl | None = None


class Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw]


class ToolGiven(Struct):
    name: Name
    description: str | None = None
    input_schema: Raw = Raw()
    type: str | None = None
    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None


class Choice(Struct):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None


class Format(Struct):
    type: Literal["json_schema"]
    schema: Raw = Raw()


class OutputConfig(Struct):
    effort: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    format: Format | None = None


class Metadata(Struct):
    user_id: str | None = None


class Edit(Struct):
    type: str


class ContextManagement(Struct):
    edits: list[Edit] | None = None


class Body(Struct):
    """A request. The fields that are `Any` are refused unless they are empty."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[Block] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    tools: list[ToolGiven] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    partsong: Raw = Raw()
    container: Any = None
    mcp_servers: Any = None
    context_management: ContextManagement | None = None


REFUSED = {
    "container": "there are no containers; give tools of your own",
    "mcp_servers": "this server calls no other; give tools of your own",
}
# What was thought in earlier turns is not what a mixture answers from, so clearing it changes nothing.
CLEARS_THINKING = "clear_thinking_"
_body = msgspec.json.Decoder(Body)
_block = msgspec.json.Decoder(Block)
_anything = msgspec.json.Decoder(Any)
_object = msgspec.json.Decoder(dict[str, Any])


def read(body: bytes) -> Asked:
    """Read a request. Raises `RequestError`, naming the field."""
    said = decode(body, _body)
    if said.max_tokens is None:
        raise RequestError("max_tokens is missing", "max_tokens")
    return _asked(said)


def read_count(body: bytes) -> Asked:
    """Read a request whose tokens are to be counted. Raises `RequestError`."""
    return _asked(decode(body, _body))


def _asked(said: Body) -> Asked:
    for name, why in REFUSED.items():
        if getattr(said, name):
            raise RequestError(f"{name}: {why}", name)
    for at, edit in enumerate((said.context_management.edits or ()) if said.context_management else ()):
        if not edit.type.startswith(CLEARS_THINKING):
            where = f"context_management.edits[{at}].type"
            why = "contexts are not edited; prompts are cut to the models' windows as they must be"
            raise RequestError(f"{where}: {edit.type}: {why}", where)
    messages = [_told(said.system)] if said.system else []
    for at, turn in enumerate(said.messages):
        told = _messages(turn, f"messages[{at}]")
        if turn.role == "system" and messages and messages[-1].role in ("user", "tool"):
            # A harness's reminder beside the user's words: answers follow the user's turn, whatever is said with it.
            messages[-1] = Message(messages[-1].role, (*messages[-1].parts, Text("\n\n"), *told[0].parts))
        else:
            messages += told
    if messages[-1].role == "assistant":
        where = f"messages[{len(said.messages) - 1}]"
        raise RequestError(f"{where}: the last turn must be the user's: an answer cannot be begun for a mixture", where)
    tools = tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(said.tools or []))
    choice = said.tool_choice
    thinking, output = said.thinking, said.output_config
    effort = output.effort if output else None
    if thinking is not None and thinking.type == "disabled":
        effort = effort or "none"
    sampling = Sampling(
        temperature=said.temperature,
        top_p=said.top_p,
        max_tokens=said.max_tokens,
        stop=tuple(said.stop_sequences or ()),
        top_k=said.top_k or None,
        effort=effort,
        thinking=thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None,
    )
    return Asked(
        said.model,
        Conversation(
            tuple(messages),
            tools,
            _choice(choice, tools),
            _format((output.format if output else None) or said.output_format),
            sampling,
            False if choice is not None and choice.disable_parallel_tool_use else None,
        ),
        stream=bool(said.stream),
        labels={"user": said.metadata.user_id} if said.metadata and said.metadata.user_id else {},
        options=read_options(decode(said.partsong, _anything, "partsong")) if given(said.partsong) else Options(),
    )


def _told(system: str | list[Block]) -> Message:
    if isinstance(system, str):
        return Message("system", (Text(system),))
    parts = []
    for at, block in enumerate(system):
        if block.type != "text" or block.text is None:
            raise RequestError(f"system[{at}]: must be a block of text", f"system[{at}]")
        # One paragraph each, as they are joined where the caller's blocks are not known.
        parts.append(Text(block.text if at == 0 else f"\n\n{block.text}", _mark(block)))
    return Message("system", tuple(parts))


def _messages(turn: Turn, where: str) -> list[Message]:
    if isinstance(turn.content, str):
        return [Message(turn.role, (Text(turn.content),))]
    blocks = [
        (decode(raw, _block, f"{where}.content[{at}]"), f"{where}.content[{at}]") for at, raw in enumerate(turn.content)
    ]
    parts = tuple(_part(block, turn.role, place) for block, place in blocks)
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    if not results:
        return [Message(turn.role, parts)]
    return [Message("tool", (*results, *(part for part in parts if not isinstance(part, ToolResult))))]


def _part(block: Block, role: str, where: str) -> Part:
    mark = _mark(block)
    match block:
        case Block(type="text", text=str(text)):
            return Text(text, mark)
        case Block(type="image", source=Source() as source):
            return _image(source, mark, f"{where}.source")
        case Block(type="tool_use", id=str(call), name=str(name)) if role == "assistant":
            arguments = bytes(block.input) if given(block.input) else b"{}"
            return ToolCall(call, name, arguments.decode(), mark)
        case Block(type="tool_result", tool_use_id=str(call)) if role == "user":
            return ToolResult(call, _result(block.content, where), bool(block.is_error), mark)
        case Block(type="thinking", thinking=str(text)) if role == "assistant":
            return Reasoning(text, block.signature or "")
        case Block(type="redacted_thinking", data=str(data)) if role == "assistant":
            return Reasoning("", REDACTED + data)
        case Block(type="text" | "image" | "tool_use" | "tool_result" | "thinking" | "redacted_thinking" as kind):
            raise RequestError(f"{where}: a block of type {kind} lacks a field, or may not stand here", where)
        case _:
            raise RequestError(f'{where}.type: "{block.type}" is not understood here', f"{where}.type")


def _result(content: str | list[Raw] | None, where: str) -> tuple[Text | Image, ...]:
    if not content:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    parts: list[Text | Image] = []
    for at, raw in enumerate(content):
        place = f"{where}.content[{at}]"
        part = _part(decode(raw, _block, place), "tool", place)
        if not isinstance(part, Text | Image):
            raise RequestError(f"{place}: a tool's result holds text and images", place)
        parts.append(part)
    return tuple(parts)


def _image(source: Source, mark: Mark, where: str) -> Image:
    if source.type == "url" and source.url.startswith(("https://", "http://")):
        return Image(url=source.url, mark=mark)
    if source.type != "base64" or not source.media_type.startswith("image/"):
        raise RequestError(f"{where}: must be base64 with a media_type of an image, or a url", where)
    try:
        return Image(base64.b64decode(source.data, validate=True), source.media_type, mark=mark)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}.data: is no base64: {problem}", f"{where}.data") from None


def _mark(block: Block | ToolGiven) -> Mark:
    return "" if block.cache_control is None else block.cache_control.ttl


def _tool(tool: ToolGiven, where: str) -> Tool:
    if tool.type not in (None, "custom"):
        message = f'{where}.type: "{tool.type}" is a tool of its provider\'s; only tools of your own are understood'
        raise RequestError(message, f"{where}.type")
    if not given(tool.input_schema):
        raise RequestError(f"{where}.input_schema is missing", f"{where}.input_schema")
    decode(tool.input_schema, _object, f"{where}.input_schema")
    eager = bool(tool.eager_input_streaming)
    return Tool(tool.name, tool.description or "", bytes(tool.input_schema), tool.strict, _mark(tool), eager)


def _choice(choice: Choice | None, tools: tuple[Tool, ...]) -> str | None:
    if choice is None or not tools:
        if choice is not None and choice.type in ("any", "tool"):
            raise RequestError("tool_choice: a tool must be called, but there are none", "tool_choice")
        return None
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if choice.name not in [tool.name for tool in tools]:
        raise RequestError(f'tool_choice.name: there is no tool "{choice.name}"', "tool_choice.name")
    return choice.name


def _format(form: Format | None) -> bytes | None:
    if form is None:
        return None
    decode(form.schema, _object, "output_config.format.schema")
    return bytes(form.schema)
