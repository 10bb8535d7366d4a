"""A request to `POST /chat/completions`, as what is asked of a mixture.

What a mixture cannot do is refused by the name of its field; what nobody knows is ignored, as the original does.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from partsong.errors import RequestError
from partsong.model import (
    ANY_OBJECT,
    Conversation,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from partsong.wire.asked import Asked, Options, read_options
from partsong.wire.json import decode_field as decode
from partsong.wire.json import given

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+\Z")]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1)]


class Function(Struct):
    name: Name
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None


class ToolGiven(Struct):
    type: str
    function: Raw = Raw()


class Called(Struct):
    name: str
    arguments: str = ""


class CallGiven(Struct):
    id: str
    type: str = "function"
    function: Called | None = None


class MessageGiven(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Raw] | None = None
    tool_calls: list[CallGiven] | None = None
    tool_call_id: str | None = None
    function_call: Called | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: Any = None


class Link(Struct):
    url: str
    detail: str | None = None


class Piece(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Link | None = None


class Schema(Struct):
    schema: Raw = Raw()
    name: str | None = None


class Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class Chosen(Struct):
    type: str = "function"
    function: Called | None = None
    name: str | None = None


class Body(Struct):
    """A request. The fields that are `Any` are refused unless they are empty."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[MessageGiven], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: Format | None = None
    tools: list[ToolGiven] | None = None
    tool_choice: str | Chosen | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Raw] | None = None
    function_call: str | Called | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    partsong: Raw = Raw()
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    moderation: Any = None


REFUSED = {
    "logprobs": "the logarithms of probabilities are not known of a mixture",
    "top_logprobs": "the logarithms of probabilities are not known of a mixture",
    "logit_bias": "the members of a mixture have different tokens",
    "audio": "a mixture writes, it does not speak",
    "prediction": "predicted outputs are not made use of",
    "web_search_options": "there is no web search here; give a tool of your own",
    "moderation": "nothing is moderated here",
}
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_body = msgspec.json.Decoder(Body)
_function = msgspec.json.Decoder(Function)
_piece = msgspec.json.Decoder(Piece)
_anything = msgspec.json.Decoder(Any)
_object = msgspec.json.Decoder(dict[str, Any])


def read(body: bytes) -> Asked:
    """Read a request. Raises `RequestError`, naming the field."""
    said = decode(body, _body)
    for name, why in REFUSED.items():
        if getattr(said, name):
            raise RequestError(f"{name}: {why}", name)
    if said.modalities not in (None, [], ["text"]):
        raise RequestError('modalities: a mixture writes text alone: ["text"]', "modalities")
    if said.service_tier not in (None, "auto", "default"):
        raise RequestError(f'service_tier: "{said.service_tier}" is not to be had here; "auto" is', "service_tier")
    labels = dict(said.metadata or {})
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if value := getattr(said, name):
            labels[name] = value
    messages = tuple(_message(each, f"messages[{at}]") for at, each in enumerate(said.messages))
    tools = _tools(said)
    options = said.stream_options
    return Asked(
        said.model,
        Conversation(
            messages,
            tools,
            _choice(said, tools),
            _format(said.response_format),
            _sampling(said),
            said.parallel_tool_calls,
        ),
        stream=bool(said.stream),
        samples=said.n or 1,
        usage_in_stream=bool(options and options.include_usage),
        labels=labels,
        options=read_options(decode(said.partsong, _anything, "partsong")) if given(said.partsong) else Options(),
    )


def _sampling(said: Body) -> Sampling:
    stop = (said.stop,) if isinstance(said.stop, str) else tuple(said.stop or ())
    return Sampling(
        temperature=said.temperature,
        top_p=said.top_p,
        max_tokens=said.max_completion_tokens or said.max_tokens,
        seed=said.seed,
        stop=stop,
        top_k=said.top_k or None,
        frequency_penalty=said.frequency_penalty,
        presence_penalty=said.presence_penalty,
        effort=said.reasoning_effort,
        verbosity=said.verbosity,
    )


def _message(said: MessageGiven, where: str) -> Message:
    parts = _content(said.content, f"{where}.content")
    if said.audio:
        raise RequestError(f"{where}.audio: a mixture reads text and pictures", f"{where}.audio")
    role = ROLES[said.role]
    if role == "tool":
        call = said.tool_call_id or said.name
        if not call:
            raise RequestError(f"{where}.tool_call_id is missing", f"{where}.tool_call_id")
        shown = tuple(part for part in parts if isinstance(part, Text | Image))
        return Message("tool", (ToolResult(call, shown),))
    if role == "assistant":
        head: list[Part] = [Reasoning(said.reasoning_content)] if said.reasoning_content else []
        tail: list[Part] = [Text(said.refusal)] if said.refusal else []
        for at, call_given in enumerate(said.tool_calls or []):
            if call_given.function is None:
                place = f"{where}.tool_calls[{at}]"
                raise RequestError(f"{place}: only calls of functions are understood", place)
            tail.append(ToolCall(call_given.id, call_given.function.name, call_given.function.arguments))
        if said.function_call is not None:
            tail.append(ToolCall(said.function_call.name, said.function_call.name, said.function_call.arguments))
        return Message("assistant", (*head, *parts, *tail))
    return Message(role, parts)


def _content(content: str | list[Raw] | None, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(decode(raw, _piece, f"{where}[{at}]"), f"{where}[{at}]") for at, raw in enumerate(content))


def _part(piece: Piece, where: str) -> Part:
    match piece:
        case Piece(type="text", text=str(text)) | Piece(type="refusal", refusal=str(text)):
            return Text(text)
        case Piece(type="image_url", image_url=Link(url=url)):
            return read_image(url, f"{where}.image_url.url")
        case Piece(type="text" | "refusal" | "image_url"):
            raise RequestError(f"{where}.{piece.type} is missing", f"{where}.{piece.type}")
        case _:
            raise RequestError(
                f'{where}.type: "{piece.type}" is not understood; text and image_url are', f"{where}.type"
            )


def read_image(url: str, where: str) -> Image:
    """A picture by its URL: the bytes of a data URL, or the address, which nobody here fetches."""
    if url.startswith(("https://", "http://")):
        return Image(url=url)
    head, comma, data = url.partition(",")
    media_type, _, coding = head.removeprefix("data:").partition(";")
    if not (url.startswith("data:image/") and comma and coding == "base64"):
        raise RequestError(f"{where}: must begin with https:// or with data:image/…;base64,", where)
    try:
        return Image(base64.b64decode(data, validate=True), media_type)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}: is no base64: {problem}", where) from None


def _tools(said: Body) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for at, given_tool in enumerate(said.tools or []):
        where = f"tools[{at}]"
        if given_tool.type != "function":
            message = f'{where}.type: "{given_tool.type}" is a tool of its provider\'s; only function is understood'
            raise RequestError(message, f"{where}.type")
        if not given(given_tool.function):
            raise RequestError(f"{where}.function is missing", f"{where}.function")
        tools.append(_tool(given_tool.function, f"{where}.function"))
    tools += [_tool(raw, f"functions[{at}]") for at, raw in enumerate(said.functions or [])]
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RequestError(f'tools: "{twice}" is declared twice', "tools")
    return tuple(tools)


def _tool(raw: Raw, where: str) -> Tool:
    function = decode(raw, _function, where)
    schema = b"{}"
    if given(function.parameters):
        decode(function.parameters, _object, f"{where}.parameters")
        schema = bytes(function.parameters)
    return Tool(function.name, function.description or "", schema, function.strict)


def _choice(said: Body, tools: tuple[Tool, ...]) -> str | None:
    choice: Any = said.tool_choice if said.tool_choice is not None else said.function_call
    field = "tool_choice" if said.tool_choice is not None else "function_call"
    if isinstance(choice, Chosen):
        if choice.type != "function" or choice.function is None:
            raise RequestError(f'{field}.type: "{choice.type}" is not understood; function is', f"{field}.type")
        choice = choice.function
    if isinstance(choice, Called):
        if choice.name not in [tool.name for tool in tools]:
            raise RequestError(f'{field}: there is no tool "{choice.name}"', field)
        return choice.name
    if choice not in (None, "auto", "none", "required"):
        raise RequestError(f"{field}: must be auto, none, required or a function", field)
    if choice == "required" and not tools:
        raise RequestError(f"{field}: is required, but there are no tools", field)
    return choice if tools else None


def _format(given_format: Format | None) -> bytes | None:
    if given_format is None or given_format.type == "text":
        return None
    if given_format.type == "json_object":
        return ANY_OBJECT
    where = "response_format.json_schema"
    if given_format.json_schema is None or not given(given_format.json_schema.schema):
        raise RequestError(f"{where}.schema is missing", f"{where}.schema")
    decode(given_format.json_schema.schema, _object, f"{where}.schema")
    return bytes(given_format.json_schema.schema)
