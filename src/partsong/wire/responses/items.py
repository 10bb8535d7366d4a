"""The input of a request as messages: each turn of the assistant's, which the API takes apart, is put together again.

Reasoning, words and calls that follow one another are one message, as every provider wants the calls beside what was
said before them. A second message of words begins another one, unless calls wait for their results.
"""

import base64
import binascii
from typing import Any, Literal

from msgspec import Raw, Struct, field
from msgspec.json import Decoder
from msgspec.structs import replace

from partsong.errors import RequestError
from partsong.model import CacheControl, Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from partsong.wire.parsed import refuse
from partsong.wire.responses.body import decode, read_kind

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


class Piece(Struct):
    """A part of a content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class Spoken(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Piece]


class Caller(Struct):
    type: str


class Called(Struct):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    caller: Caller | None = None
    asynchronous: bool | None = field(default=None, name="async")


class Returned(Struct):
    call_id: str
    output: str | list[Piece]
    namespace: str | None = None
    caller: Caller | None = None


class Thought(Struct):
    summary: list[Piece] | None = None
    content: list[Piece] | None = None
    encrypted_content: str | None = None


read_spoken = Decoder(Spoken)
read_called = Decoder(Called)
read_returned = Decoder(Returned)
read_thought = Decoder(Thought)


def parse_input(said: str | list[Raw] | None) -> list[Message]:
    """The messages of the field `input`. Raises `RequestError`."""
    if said is None:
        return []
    if isinstance(said, str):
        return [Message("user", (Text(said),))]
    messages: list[Message] = []
    turn: list[Part] = []  # of the assistant's, as far as it was read
    for number, item in enumerate(said):
        where = f"input[{number}]"
        match decode(item, read_kind, where).type:
            case "message" | None:
                spoken = decode(item, read_spoken, where)
                parts = _parts(spoken.content, f"{where}.content", spoken.role == "assistant")
                if spoken.role == "assistant":
                    if type(turn[-1] if turn else None) is Text and not any(type(part) is ToolCall for part in turn):
                        _end(turn, messages)
                    turn += parts
                else:
                    _end(turn, messages)
                    messages.append(Message(ROLES[spoken.role], parts))
            case "function_call":
                called = decode(item, read_called, where)
                _refuse(called, where)
                if called.asynchronous:
                    raise RequestError(f"{where}.async: an answer waits for every result", f"{where}.async")
                turn.append(ToolCall(called.call_id, called.name, called.arguments))
            case "reasoning":
                turn += _reasoning(decode(item, read_thought, where), where)
            case "function_call_output":
                returned = decode(item, read_returned, where)
                _refuse(returned, where)
                _end(turn, messages)
                shown = _parts(returned.output, f"{where}.output")
                messages.append(Message("tool", (ToolResult(returned.call_id, shown),)))
            case "item_reference":
                raise RequestError(
                    f"{where}.type: there are no items to refer to; send the item itself, or previous_response_id",
                    f"{where}.type",
                )
            case other:
                raise RequestError(
                    f"{where}.type: items of the type {other!r} cannot be taken; message, reasoning, function_call and "
                    "function_call_output can",
                    f"{where}.type",
                )
    _end(turn, messages)
    return messages


def _refuse(said: Called | Returned, where: str) -> None:
    refuse(said, {"namespace": "tools have no namespaces here"}, where)
    if said.caller is not None and said.caller.type != "direct":
        place = f"{where}.caller.type"
        raise RequestError(f'{place}: there are no programs that call; only "direct" is possible', place)


def _end(turn: list[Part], messages: list[Message]) -> None:
    """Make a message of the assistant's turn, if there was any.

    Reasoning that stands last was thought first: a stream tells it late where it only heard of it late.
    """
    late = len(turn)
    while late and type(turn[late - 1]) is Reasoning:
        late -= 1
    if parts := (*turn[late:], *turn[:late]):
        messages.append(Message("assistant", parts))
    turn.clear()


def _reasoning(thought: Thought, where: str) -> list[Reasoning]:
    name = "summary" if thought.summary else "content"
    texts = [
        _text(piece, f"{where}.{name}[{number}]")
        for number, piece in enumerate(thought.summary or thought.content or ())
    ]
    text, signature = "\n\n".join(texts), thought.encrypted_content or ""
    return [Reasoning(text, signature)] if text or signature else []


def _parts(content: str | list[Piece], where: str, assistant: bool = False) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(piece, f"{where}[{number}]", assistant) for number, piece in enumerate(content))


def _part(piece: Piece, where: str, assistant: bool) -> Text | Image:
    # The API keeps what was marked for half an hour at least: the shorter of our two wishes would not do.
    cache_control: CacheControl = "1h" if piece.prompt_cache_breakpoint else ""
    if piece.type == "refusal" and piece.refusal is not None:
        return Text(piece.refusal)
    if piece.type == "input_image" and not assistant:
        if piece.file_id:
            raise RequestError(
                f"{where}.file_id: there are no uploaded files; send the picture as a data: URL", f"{where}.file_id"
            )
        image = _image(piece.image_url or "", f"{where}.image_url", cache_control)
        return replace(image, detail="" if piece.detail in (None, "auto") else piece.detail)
    return Text(_text(piece, where), cache_control)


def _text(piece: Piece, where: str) -> str:
    if piece.type not in TEXTS:
        raise RequestError(
            f"{where}.type: content of the type {piece.type!r} cannot be taken here; text and input_image can",
            f"{where}.type",
        )
    if piece.text is None:
        raise RequestError(f"{where}.text is missing", f"{where}.text")
    return piece.text


def _image(url: str, where: str, cache_control: CacheControl) -> Image:
    """A picture: its bytes, or where the provider finds it."""
    if url.startswith(("https://", "http://")):
        return Image(url=url, cache_control=cache_control)
    head, comma, data = url.partition(",")
    media_type, encoded, _ = head.removeprefix("data:").partition(";base64")
    if comma and encoded and head.startswith("data:image/"):
        try:
            return Image(base64.b64decode(data, validate=True), media_type, cache_control=cache_control)
        except (binascii.Error, ValueError):
            raise RequestError(f"{where}: what follows the comma is not base64", where) from None
    raise RequestError(f"{where} must be an http(s) URL or a picture as data:image/…;base64,…", where)
