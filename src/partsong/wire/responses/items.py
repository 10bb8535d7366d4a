"""Parses the input items of a request into messages. The API divides a turn of the assistant into items.

Adjacent items with reasoning, text and tool calls become one message, because providers expect tool calls in one
message with the text before them. A second text begins another message, unless the turn already has tool calls.

Items of tools that ran on OpenAI's servers, or that only OpenAI's models know, become text.
"""

import binascii
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Raw, Struct, field
from msgspec.json import Decoder
from msgspec.structs import replace

from partsong.errors import RequestError
from partsong.model import CacheControl, Document, Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from partsong.wire.coded import decoded
from partsong.wire.files import parse_file
from partsong.wire.freeform import wrap_input
from partsong.wire.parsed import refuse
from partsong.wire.responses.body import decode, read_kind, read_object
from partsong.wire.told import told

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
# Types of items for calls of tools that do not exist here, with the words that begin the text for each.
DEEDS = {
    "web_search_call": "the web was searched",
    "file_search_call": "files were searched",
    "code_interpreter_call": "code was run",
    "image_generation_call": "a picture was made",
    "mcp_list_tools": "an MCP server listed its tools",
    "mcp_call": "a tool of an MCP server was called",
    "mcp_approval_request": "leave to call a tool of an MCP server was asked for",
    "tool_search_call": "tools were searched",
    "program": "a program was written",
    "computer_call": "the computer was used",
    "local_shell_call": "a command was run in the shell",
    "shell_call": "commands were run in the shell",
    "apply_patch_call": "a patch was applied",
    "compaction": "earlier turns stood here; the service that holds them has enciphered them",
}
# Types of items for results of such tools, with the words that begin the text for each.
RESULTS = {
    "tool_search_output": "the tools that were found",
    "program_output": "the program's output",
    "computer_call_output": "what the computer shows",
    "local_shell_call_output": "the command's output",
    "shell_call_output": "the commands' output",
    "apply_patch_call_output": "the result of the patch",
    "mcp_approval_response": "the answer to the request for leave",
}


class Piece(Struct):
    """A part of a content: text, a refusal, an image or a file."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class SpokenItem(Struct):
    """An input item of the type `message`."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Piece]


class Caller(Struct):
    type: str


class ToolCallItem(Struct):
    """An input item of the type `function_call`: an earlier tool call of the assistant."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    caller: Caller | None = None
    asynchronous: bool | None = field(default=None, name="async")


class FreeformItem(Struct):
    """An input item of the type `custom_tool_call`: an earlier call of a tool that takes free text."""

    call_id: str
    name: str
    input: str
    namespace: str | None = None
    caller: Caller | None = None
    asynchronous: bool | None = field(default=None, name="async")


class ResultItem(Struct):
    """An input item of the type `function_call_output` or `custom_tool_call_output`: the result of a tool call."""

    call_id: str
    output: str | list[Piece]
    namespace: str | None = None
    caller: Caller | None = None


class ReasoningItem(Struct):
    """An input item of the type `reasoning`. `encrypted_content` becomes the signature of the reasoning."""

    summary: list[Piece] | None = None
    content: list[Piece] | None = None
    encrypted_content: str | None = None


class Reference(Struct):
    """An input item of the type `item_reference`: the id of an item of an earlier response."""

    id: str


read_spoken = Decoder(SpokenItem)
read_tool_call = Decoder(ToolCallItem)
read_freeform = Decoder(FreeformItem)
read_result = Decoder(ResultItem)
read_reasoning = Decoder(ReasoningItem)
read_reference = Decoder(Reference)


class Input(Struct):
    """The input as far as it has been parsed.

    known: JSON of earlier items, by id, to which the input may refer
    messages: complete messages
    turn: parts of the assistant's turn that has not ended
    references: ids of earlier items to which the input refers
    """

    known: Mapping[str, bytes]
    messages: list[Message] = []
    turn: list[Part] = []
    references: list[str] = []

    def end_turn(self) -> None:
        """Add the assistant's turn to the messages, unless the turn is empty.

        Reasoning at the end moves to the start: a stream may send reasoning last, though the model thought first.
        """
        late = len(self.turn)
        while late and type(self.turn[late - 1]) is Reasoning:
            late -= 1
        if parts := (*self.turn[late:], *self.turn[:late]):
            self.messages.append(Message("assistant", parts))
        self.turn.clear()

    def say(self, role: Role, parts: tuple[Part, ...]) -> None:
        """End the assistant's turn, and add a message of another role."""
        self.end_turn()
        self.messages.append(Message(role, parts))


def parse_input(value: str | list[Raw] | None, known: Mapping[str, bytes]) -> tuple[list[Message], tuple[str, ...]]:
    """Return the messages of the field `input`, and the ids of earlier items to which it refers.

    known: JSON of earlier items, by id; the messages leave out references to other items

    Raises `RequestError` for a malformed or unsupported item.
    """
    if value is None:
        return [], ()
    if isinstance(value, str):
        return [Message("user", (Text(value),))], ()
    parsed = Input(known, [], [], [])
    for index, item in enumerate(value):
        _add(parsed, item, f"input[{index}]")
    parsed.end_turn()
    return parsed.messages, tuple(parsed.references)


def _add(parsed: Input, item: Raw | bytes, where: str) -> None:
    match decode(item, read_kind, where).type:
        case "message" | None:
            _add_spoken(parsed, decode(item, read_spoken, where), where)
        case "function_call":
            tool_call = decode(item, read_tool_call, where)
            _refuse(tool_call, where)
            parsed.turn.append(ToolCall(tool_call.call_id, tool_call.name, tool_call.arguments))
        case "custom_tool_call":
            freeform = decode(item, read_freeform, where)
            _refuse(freeform, where)
            parsed.turn.append(ToolCall(freeform.call_id, freeform.name, wrap_input(freeform.input)))
        case "reasoning":
            parsed.turn += _reasoning(decode(item, read_reasoning, where), where)
        case "function_call_output" | "custom_tool_call_output":
            result = decode(item, read_result, where)
            _refuse(result, where)
            parts = _parts(result.output, f"{where}.output")
            parsed.say("tool", (ToolResult(result.call_id, parts),))
        case "item_reference":
            _add_reference(parsed, decode(item, read_reference, where).id, where)
        case str(kind) if kind in DEEDS:
            parsed.turn.append(Text(told(DEEDS[kind], decode(item, read_object, where))))
        case str(kind) if kind in RESULTS:
            parsed.say("user", _result_in_words(kind, decode(item, read_object, where), where))
        case other:
            raise RequestError(
                f"{where}.type: items of the type {other!r} cannot be taken; messages, reasoning, tool calls and "
                "their outputs can",
                f"{where}.type",
            )


def _add_spoken(parsed: Input, spoken: SpokenItem, where: str) -> None:
    parts = _parts(spoken.content, f"{where}.content", spoken.role == "assistant")
    if spoken.role != "assistant":
        parsed.say(ROLES[spoken.role], parts)
        return
    last = parsed.turn[-1] if parsed.turn else None
    if type(last) is Text and not any(type(part) is ToolCall for part in parsed.turn):
        parsed.end_turn()
    parsed.turn += parts


def _add_reference(parsed: Input, name: str, where: str) -> None:
    parsed.references.append(name)
    if item := parsed.known.get(name):
        _add(parsed, item, where)


def _result_in_words(kind: str, item: dict[str, Any], where: str) -> tuple[Part, ...]:
    """Return a tool's result as text; the result of computer use also has its screenshot as an image."""
    output = item.get("output")
    shown = output.pop("image_url", None) if kind == "computer_call_output" and isinstance(output, dict) else None
    text = Text(told(RESULTS[kind], item))
    return (text, _image(shown, f"{where}.output.image_url", "")) if isinstance(shown, str) else (text,)


def _refuse(item: ToolCallItem | FreeformItem | ResultItem, where: str) -> None:
    refuse(item, {"namespace": "tools have no namespaces here"}, where)
    if item.caller is not None and item.caller.type != "direct":
        place = f"{where}.caller.type"
        raise RequestError(f'{place}: there are no programs that call tools; only "direct" is possible', place)
    if not isinstance(item, ResultItem) and item.asynchronous:
        raise RequestError(f"{where}.async: an answer waits for every result", f"{where}.async")


def _reasoning(item: ReasoningItem, where: str) -> list[Reasoning]:
    name = "summary" if item.summary else "content"
    texts = [_text(piece, f"{where}.{name}[{index}]") for index, piece in enumerate(item.summary or item.content or ())]
    text, signature = "\n\n".join(texts), item.encrypted_content or ""
    return [Reasoning(text, signature)] if text or signature else []


def _parts(content: str | list[Piece], where: str, assistant: bool = False) -> tuple[Text | Image | Document, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(piece, f"{where}[{index}]", assistant) for index, piece in enumerate(content))


def _part(piece: Piece, where: str, assistant: bool) -> Text | Image | Document:
    # The API caches a marked prompt for half an hour at least. Of "5m" and "1h", only "1h" honours that.
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
    if piece.type == "input_file" and not assistant:
        return _file(piece, where, cache_control)
    return Text(_text(piece, where), cache_control)


def _file(piece: Piece, where: str, cache_control: CacheControl) -> Document:
    for name, why in (("file_id", "there are no uploaded files"), ("file_url", "no file is fetched from elsewhere")):
        if getattr(piece, name):
            raise RequestError(f"{where}.{name}: {why}; send the file as file_data", f"{where}.{name}")
    if not piece.file_data:
        raise RequestError(f"{where}.file_data is missing", f"{where}.file_data")
    return parse_file(piece.file_data, piece.filename or "", f"{where}.file_data", cache_control)


def _text(piece: Piece, where: str) -> str:
    if piece.type not in TEXTS:
        raise RequestError(
            f"{where}.type: content of the type {piece.type!r} cannot be taken here; text, input_image and input_file "
            "can",
            f"{where}.type",
        )
    if piece.text is None:
        raise RequestError(f"{where}.text is missing", f"{where}.text")
    return piece.text


def _image(url: str, where: str, cache_control: CacheControl) -> Image:
    """Return the image of a URL: the bytes of a `data:` URL, or an http(s) address, which the provider will fetch.

    Raises `RequestError` for any other URL, and for a `data:` URL that is no base64.
    """
    if url.startswith(("https://", "http://")):
        return Image(url=url, cache_control=cache_control)
    head, comma, data = url.partition(",")
    media_type, encoded, _ = head.removeprefix("data:").partition(";base64")
    if comma and encoded and head.startswith("data:image/"):
        try:
            return Image(decoded(data), media_type, cache_control=cache_control)
        except (binascii.Error, ValueError):
            raise RequestError(f"{where}: what follows the comma is not base64", where) from None
    raise RequestError(f"{where} must be an http(s) URL or a picture as data:image/…;base64,…", where)
