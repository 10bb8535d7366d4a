"""Parses a request to `POST /chat/completions`.

Fields for what a mixture cannot do are refused with an error that names the field. Fields that the API does not
document are ignored, as OpenAI's server ignores them.
"""

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
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    ToolCall,
    ToolResult,
)
from partsong.wire.chat.fields import Body, FileGiven, Format, Link, MessageGiven, Piece, ToolCallGiven
from partsong.wire.chat.tools import parse_choice, parse_tools
from partsong.wire.coded import decoded
from partsong.wire.files import parse_file
from partsong.wire.freeform import wrap_input
from partsong.wire.json import decode_field as decode
from partsong.wire.json import described, given
from partsong.wire.parsed import Options, ParsedRequest, answerable, parse_options, refuse

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
_piece = msgspec.json.Decoder(Piece)
_anything = msgspec.json.Decoder(Any)
_object = msgspec.json.Decoder(dict[str, Any])


def parse_request(data: bytes) -> ParsedRequest:
    """Parse the body of a request.

    Raises `RequestError` with the field's path for a malformed or unsupported field.
    """
    body = decode(data, _body)
    refuse(body, REFUSED)
    if body.modalities not in (None, [], ["text"]):
        raise RequestError('modalities: a mixture writes text alone: ["text"]', "modalities")
    if body.service_tier not in (None, "auto", "default"):
        raise RequestError(f'service_tier: "{body.service_tier}" is not to be had here; "auto" is', "service_tier")
    labels = dict(body.metadata or {})
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if value := getattr(body, name):
            labels[name] = value
    tools, freeform = parse_tools(body)
    choice, allowed = parse_choice(body, tools)
    options = body.stream_options
    return ParsedRequest(
        body.model,
        Conversation(
            answerable(_messages(body.messages)),
            allowed,
            choice,
            _format(body.response_format),
            _sampling(body),
            False if body.functions else body.parallel_tool_calls,  # `functions` allow one call in an answer
        ),
        stream=bool(body.stream),
        samples=body.n or 1,
        usage_in_stream=bool(options and options.include_usage),
        labels=labels,
        options=parse_options(decode(body.partsong, _anything, "partsong")) if given(body.partsong) else Options(),
        echo={"functions": True} if body.functions else {},  # the answer to `functions` has a `function_call`
        freeform=freeform,
    )


def _sampling(body: Body) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        seed=body.seed,
        stop=tuple(word for word in stop if word),  # clients with an input form send "" if it is left empty
        top_k=body.top_k if body.top_k is not None and body.top_k > 0 else None,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        effort=body.reasoning_effort,
        verbosity=body.verbosity,
    )


def _messages(given_messages: list[MessageGiven]) -> tuple[Message, ...]:
    messages: list[Message] = []
    ids: dict[str, str] = {}  # by function: id made up for its last `function_call`, which has no id in this API
    for index, message in enumerate(given_messages):
        where = f"messages[{index}]"
        if message.content is None and message.role not in ("assistant", "function"):
            raise RequestError(f"{where}.content is missing", f"{where}.content")
        if message.audio:
            raise RequestError(f"{where}.audio: a mixture reads text and pictures", f"{where}.audio")
        parts = _content(message.content, f"{where}.content")
        if message.role == "assistant":
            if message.function_call is not None:
                ids[message.function_call.name] = f"call_{index}"
            parts = _of_assistant(message, parts, where, ids)
        elif message.role in ("tool", "function"):
            field, call_id = "tool_call_id", message.tool_call_id
            if message.role == "function":
                field, call_id = "name", ids.get(message.name or "", message.name)
            if not call_id:
                raise RequestError(f"{where}.{field} is missing", f"{where}.{field}")
            parts = (ToolResult(call_id, tuple(part for part in parts if isinstance(part, Text | Image | Document))),)
        role = ROLES[message.role]
        messages.append(Message(role, parts, "" if role == "tool" else message.name or ""))
    return tuple(messages)


def _of_assistant(message: MessageGiven, parts: tuple[Part, ...], where: str, ids: dict[str, str]) -> tuple[Part, ...]:
    for index, part in enumerate(parts):
        if isinstance(part, Image | Document):
            place = f"{where}.content[{index}]"
            raise RequestError(f"{place}: an assistant shows no pictures or files; only users and tools do", place)
    head: list[Part] = [Reasoning(message.reasoning_content)] if message.reasoning_content else []
    tail: list[Part] = [Text(message.refusal)] if message.refusal else []
    tail += [_tool_call(each, f"{where}.tool_calls[{index}]") for index, each in enumerate(message.tool_calls or [])]
    if (old := message.function_call) is not None:
        tail.append(ToolCall(ids[old.name], old.name, old.arguments))
    return (*head, *parts, *tail)


def _tool_call(tool_call: ToolCallGiven, where: str) -> ToolCall:
    match tool_call:
        case ToolCallGiven(type="function", function=function) if function is not None:
            return ToolCall(tool_call.id, function.name, function.arguments)
        case ToolCallGiven(type="custom", custom=custom) if custom is not None:
            return ToolCall(tool_call.id, custom.name, wrap_input(custom.input))
    raise RequestError(f"{where}: must be the call of a function or of a custom tool", where)


def _content(content: str | list[Raw] | None, where: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    places = ((raw, f"{where}[{index}]") for index, raw in enumerate(content))
    return tuple(_part(decode(raw, _piece, place), place) for raw, place in places)


def _part(piece: Piece, where: str) -> Part:
    # The API caches a marked prompt for half an hour at least. Of "5m" and "1h", only "1h" honours that.
    cache_control: CacheControl = "1h" if piece.prompt_cache_breakpoint else ""
    match piece:
        case Piece(type="text", text=str(text)) | Piece(type="refusal", refusal=str(text)):
            return Text(text, cache_control)
        case Piece(type="image_url", image_url=Link(url=url, detail=detail)):
            image = parse_image(url, f"{where}.image_url.url")
            return replace(image, cache_control=cache_control, detail="" if detail in (None, "auto") else detail)
        case Piece(type="file", file=FileGiven() as file):
            return replace(_file(file, f"{where}.file"), cache_control=cache_control)
        case Piece(type="text" | "refusal" | "image_url" | "file"):
            raise RequestError(f"{where}.{piece.type} is missing", f"{where}.{piece.type}")
        case _:
            raise RequestError(
                f'{where}.type: "{piece.type}" is not understood; text, image_url and file are', f"{where}.type"
            )


def _file(file: FileGiven, where: str) -> Document:
    if file.file_id:
        place = f"{where}.file_id"
        raise RequestError(f"{place}: there are no uploaded files; send the file as file_data", place)
    if not file.file_data:
        raise RequestError(f"{where}.file_data is missing", f"{where}.file_data")
    return parse_file(file.file_data, file.filename or "", f"{where}.file_data")


def parse_image(url: str, where: str) -> Image:
    """Return the image of a URL: the bytes of a `data:` URL, or an http(s) address, which the provider will fetch.

    where: path of the URL in the request, for the error

    Raises `RequestError` for any other URL, and for a `data:` URL that is empty or no base64.
    """
    if url.startswith(("https://", "http://")):
        return Image(url=url)
    head, comma, data = url.partition(",")
    media_type, _, coding = head.removeprefix("data:").partition(";")
    if not (url.startswith("data:image/") and comma and coding == "base64"):
        raise RequestError(f"{where}: must begin with https:// or with data:image/…;base64,", where)
    try:
        shown = decoded(data)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}: is no base64: {problem}", where) from None
    if not shown:
        raise RequestError(f"{where}: there is no picture in it", where)
    return Image(shown, media_type)


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
