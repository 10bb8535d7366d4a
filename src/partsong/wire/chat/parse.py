"""A request to `POST /chat/completions`, as what is asked of a mixture.

What a mixture cannot do is refused by the name of its field; what nobody knows is ignored, as the original does.
"""

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from partsong.errors import RequestError
from partsong.model import (
    ANY_OBJECT,
    CacheControl,
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
from partsong.wire.chat.fields import Body, Called, Chosen, Format, Function, Link, MessageGiven, Piece
from partsong.wire.json import decode_field as decode
from partsong.wire.json import described, given
from partsong.wire.parsed import Options, ParsedRequest, parse_options, refuse

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


def parse_request(body: bytes) -> ParsedRequest:
    """Read a request. Raises `RequestError`, naming the field."""
    said = decode(body, _body)
    refuse(said, REFUSED)
    if said.modalities not in (None, [], ["text"]):
        raise RequestError('modalities: a mixture writes text alone: ["text"]', "modalities")
    if said.service_tier not in (None, "auto", "default"):
        raise RequestError(f'service_tier: "{said.service_tier}" is not to be had here; "auto" is', "service_tier")
    labels = dict(said.metadata or {})
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if value := getattr(said, name):
            labels[name] = value
    choice, tools = _choice(said, _tools(said))
    options = said.stream_options
    return ParsedRequest(
        said.model,
        Conversation(
            _messages(said.messages),
            tools,
            choice,
            _format(said.response_format),
            _sampling(said),
            False if said.functions else said.parallel_tool_calls,  # the old way has room for one call
        ),
        stream=bool(said.stream),
        samples=said.n or 1,
        usage_in_stream=bool(options and options.include_usage),
        labels=labels,
        options=parse_options(decode(said.partsong, _anything, "partsong")) if given(said.partsong) else Options(),
        echo={"functions": True} if said.functions else {},  # whoever asks in the old way hears it in the old way
    )


def _sampling(said: Body) -> Sampling:
    stop = (said.stop,) if isinstance(said.stop, str) else tuple(said.stop or ())
    return Sampling(
        temperature=said.temperature,
        top_p=said.top_p,
        max_tokens=said.max_completion_tokens or said.max_tokens,
        seed=said.seed,
        stop=stop,
        top_k=said.top_k if said.top_k is not None and said.top_k > 0 else None,
        frequency_penalty=said.frequency_penalty,
        presence_penalty=said.presence_penalty,
        effort=said.reasoning_effort,
        verbosity=said.verbosity,
    )


def _messages(given_messages: list[MessageGiven]) -> tuple[Message, ...]:
    messages: list[Message] = []
    calls: dict[str, str] = {}  # the ids of the last calls of functions, which had only names before there were tools
    for at, said in enumerate(given_messages):
        where = f"messages[{at}]"
        if said.content is None and said.role not in ("assistant", "function"):
            raise RequestError(f"{where}.content is missing", f"{where}.content")
        if said.audio:
            raise RequestError(f"{where}.audio: a mixture reads text and pictures", f"{where}.audio")
        parts = _content(said.content, f"{where}.content")
        if said.role == "assistant":
            if said.function_call is not None:
                calls[said.function_call.name] = f"call_{at}"
            parts = _of_assistant(said, parts, where, calls)
        elif said.role in ("tool", "function"):
            field, call = "tool_call_id", said.tool_call_id
            if said.role == "function":
                field, call = "name", calls.get(said.name or "", said.name)
            if not call:
                raise RequestError(f"{where}.{field} is missing", f"{where}.{field}")
            parts = (ToolResult(call, tuple(part for part in parts if isinstance(part, Text | Image))),)
        role = ROLES[said.role]
        messages.append(Message(role, parts, "" if role == "tool" else said.name or ""))
    return tuple(messages)


def _of_assistant(said: MessageGiven, parts: tuple[Part, ...], where: str, calls: dict[str, str]) -> tuple[Part, ...]:
    for at, part in enumerate(parts):
        if isinstance(part, Image):
            place = f"{where}.content[{at}]"
            raise RequestError(f"{place}: an assistant shows no pictures; only users and tools do", place)
    head: list[Part] = [Reasoning(said.reasoning_content)] if said.reasoning_content else []
    tail: list[Part] = [Text(said.refusal)] if said.refusal else []
    for at, call in enumerate(said.tool_calls or []):
        if call.type != "function" or call.function is None:
            place = f"{where}.tool_calls[{at}]"
            raise RequestError(f"{place}: only calls of functions are understood", place)
        tail.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if (old := said.function_call) is not None:
        tail.append(ToolCall(calls[old.name], old.name, old.arguments))
    return (*head, *parts, *tail)


def _content(content: str | list[Raw] | None, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(decode(raw, _piece, f"{where}[{at}]"), f"{where}[{at}]") for at, raw in enumerate(content))


def _part(piece: Piece, where: str) -> Part:
    # The API keeps what was marked for half an hour at least: the shorter of our two wishes would not do.
    cache_control: CacheControl = "1h" if piece.prompt_cache_breakpoint else ""
    match piece:
        case Piece(type="text", text=str(text)) | Piece(type="refusal", refusal=str(text)):
            return Text(text, cache_control)
        case Piece(type="image_url", image_url=Link(url=url, detail=detail)):
            image = parse_image(url, f"{where}.image_url.url")
            return replace(image, cache_control=cache_control, detail="" if detail in (None, "auto") else detail)
        case Piece(type="text" | "refusal" | "image_url"):
            raise RequestError(f"{where}.{piece.type} is missing", f"{where}.{piece.type}")
        case _:
            raise RequestError(
                f'{where}.type: "{piece.type}" is not understood; text and image_url are', f"{where}.type"
            )


def parse_image(url: str, where: str) -> Image:
    """A picture by its URL: the bytes of a data URL, or the address, which nobody here fetches."""
    if url.startswith(("https://", "http://")):
        return Image(url=url)
    head, comma, data = url.partition(",")
    media_type, _, coding = head.removeprefix("data:").partition(";")
    if not (url.startswith("data:image/") and comma and coding == "base64"):
        raise RequestError(f"{where}: must begin with https:// or with data:image/…;base64,", where)
    try:
        shown = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}: is no base64: {problem}", where) from None
    if not shown:
        raise RequestError(f"{where}: there is no picture in it", where)
    return Image(shown, media_type)


def _tools(said: Body) -> tuple[Tool, ...]:
    if said.tools and said.functions:
        raise RequestError("functions: they are the old name of tools; give either", "functions")
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


def _choice(said: Body, tools: tuple[Tool, ...]) -> tuple[str | None, tuple[Tool, ...]]:
    """Which tools must or may be called, and the tools that it leaves."""
    choice: str | Chosen | Called | None = said.tool_choice
    field, words = "tool_choice", ["auto", "none", "required"]
    if choice is None and said.function_call is not None:
        choice, field, words = said.function_call, "function_call", ["auto", "none"]
    names = [tool.name for tool in tools]
    if isinstance(choice, Chosen) and choice.type == "allowed_tools":
        if (allowed := choice.allowed_tools) is None:
            raise RequestError(f"{field}.allowed_tools is missing", f"{field}.allowed_tools")
        for at, each in enumerate(allowed.tools):
            if each.function is None or each.function.name not in names:
                where = f"{field}.allowed_tools.tools[{at}]"
                raise RequestError(f"{where}: there is no such function among the tools", where)
        left = {each.function.name for each in allowed.tools if each.function is not None}
        return allowed.mode, tuple(tool for tool in tools if tool.name in left)
    if isinstance(choice, Chosen):
        if choice.type != "function":
            raise RequestError(
                f'{field}.type: "{choice.type}" is not understood; function and allowed_tools are', f"{field}.type"
            )
        if choice.function is None:
            raise RequestError(f"{field}.function is missing", f"{field}.function")
        choice = choice.function
    if isinstance(choice, Called):
        if choice.name not in names:
            raise RequestError(f'{field}: there is no tool "{choice.name}"', field)
        return choice.name, tools
    if choice is not None and choice not in words:
        raise RequestError(f"{field}: must be {', '.join(words)} or a function", field)
    if choice == "required" and not tools:
        raise RequestError(f"{field}: is required, but there are no tools", field)
    return choice if tools else None, tools


def _format(given_format: Format | None) -> bytes | None:
    if given_format is None or given_format.type == "text":
        return None
    if given_format.type == "json_object":
        return ANY_OBJECT
    where = "response_format.json_schema"
    if given_format.json_schema is None or not given(given_format.json_schema.schema):
        raise RequestError(f"{where}.schema is missing", f"{where}.schema")
    decode(given_format.json_schema.schema, _object, f"{where}.schema")
    return described(given_format.json_schema.schema, given_format.json_schema.description)
