"""Parses content blocks into parts of messages.

Text documents, search results and the calls and results of Anthropic's own tools become text, which every model reads.
Files become a `Document`, whose text the run extracts later. Blocks that load or remove tools change the list of tools.
Other unknown blocks are refused.
"""

import binascii
from typing import Any

import msgspec
from msgspec import Raw

from partsong.errors import RequestError
from partsong.model import CacheControl, Document, Image, Part, Reasoning, Text, ToolCall, ToolResult
from partsong.wire.coded import decoded
from partsong.wire.files import file_of
from partsong.wire.json import decode_field as decode
from partsong.wire.json import given
from partsong.wire.messages.answer import REDACTED
from partsong.wire.messages.fields import Block, CacheControlGiven, Caller, Source
from partsong.wire.parsed import refuse
from partsong.wire.told import told

# Types of blocks that are supported. The error for such a block says that a field is missing or the role is wrong.
KNOWN = frozenset(
    {
        "text",
        "image",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "document",
        "search_result",
        "server_tool_use",
        "web_search_tool_result",
        "tool_reference",
        "tool_addition",
        "tool_removal",
    }
)
# Types of blocks about tools that ran at Anthropic, with the words that begin the text for each.
DEEDS = {
    "mcp_tool_use": "a tool of an MCP server was called",
    "mcp_tool_result": "the MCP server returned",
    "mcp_tool_listing": "an MCP server listed its tools",
    "web_fetch_tool_result": "the page that was fetched",
    "code_execution_tool_result": "the code returned",
    "bash_code_execution_tool_result": "the command returned",
    "text_editor_code_execution_tool_result": "the editor returned",
    "tool_search_tool_result": "the tools that were found",
    "advisor_tool_result": "the advisor said",
    "compaction": "a summary of the earlier turns",
}
_block = msgspec.json.Decoder(Block)
_object = msgspec.json.Decoder(dict[str, Any])
# By name of a tool: whether the conversation has loaded (True) or removed (False) the tool.
Loaded = dict[str, bool]


def parse_blocks(content: str | list[Raw], role: str, where: str, loaded: Loaded) -> tuple[Part, ...]:
    """Return the parts of a content.

    role: the role of the turn; "tool" and "document" for a content within a tool result or a document
    where: path of the content in the request, for errors
    loaded: receives the tools that the content loads (True) or removes (False)

    Raises `RequestError` for a malformed or unsupported block.
    """
    if isinstance(content, str):
        return (Text(content),)
    places = ((raw, f"{where}[{index}]") for index, raw in enumerate(content))
    blocks = ((decode(raw, _block, place), raw, place) for raw, place in places)
    return tuple(part for block, raw, place in blocks for part in _parts(block, raw, role, place, loaded))


def parse_cache_control(wish: CacheControlGiven | None) -> CacheControl:
    """Return how long the provider caches the prompt up to a block with this mark: "5m", "1h", or "" without a mark."""
    return "" if wish is None else wish.ttl


def check_callers(allowed: list[str] | None, caller: Caller | None, where: str) -> None:
    """Raise `RequestError` unless only the model itself ("direct") may call a tool, or has called it.

    allowed: the callers that a tool's declaration allows
    caller: the caller in a tool call or a tool result
    where: path of the field in the request, for the error
    """
    if allowed not in (None, [], ["direct"]) or (caller is not None and caller.type != "direct"):
        raise RequestError(f'{where}: no code is run here that calls tools; only "direct" is possible', where)


def _parts(block: Block, raw: Raw, role: str, where: str, loaded: Loaded) -> tuple[Part, ...]:
    cache_control = parse_cache_control(block.cache_control)
    refuse(block, {"toolset_name": "there are no toolsets here"}, where)
    if block.type in DEEDS:
        return (Text(told(DEEDS[block.type], decode(raw, _object, where)), cache_control),)
    check_callers(None, block.caller, f"{where}.caller.type")
    match block:
        case Block(type="text", text=str(text)):
            return (Text(text, cache_control),)
        case Block(type="image", source=Source() as source):
            if block.transformations and block.transformations.oversized_image not in (None, "downsize"):
                place = f"{where}.transformations.oversized_image"
                raise RequestError(f"{place}: what becomes of large pictures is their provider's choice", place)
            return (_image(source, cache_control, f"{where}.source"),)
        case Block(type="tool_use", id=str(call_id), name=str(name)) if role == "assistant":
            return (ToolCall(call_id, name, _input(block), cache_control),)
        case Block(type="tool_result", tool_use_id=str(call_id)) if role == "user":
            return (ToolResult(call_id, _result(block.content, where, loaded), bool(block.is_error), cache_control),)
        case Block(type="thinking", thinking=str(text)) if role == "assistant":
            return (Reasoning(text, block.signature or ""),)
        case Block(type="redacted_thinking", data=str(data)) if role == "assistant":
            return (Reasoning("", REDACTED + data),)
        case Block(type="document", source=Source() as source) if role in ("user", "tool"):
            return _document(block, source, cache_control, where)
        case Block(type="search_result", source=str(source), content=list(content)) if role in ("user", "tool"):
            _refuse_citations(block, where)
            named = f"search result: {block.title or source} ({source})"
            return _within(named, parse_blocks(content, "document", f"{where}.content", {}), cache_control)
        case Block(type="server_tool_use", name=str(name)) if role == "assistant":
            return (Text(f"\n[called the tool {name} with {_input(block)}]\n", cache_control),)
        case Block(type="web_search_tool_result", content=list() | dict() as content) if role == "assistant":
            return (Text(f"[the search returned:\n{_found(content, f'{where}.content')}\n]\n", cache_control),)
        case Block(type="tool_reference", tool_name=str(name)) if role == "tool":
            loaded[name] = True
            return (Text(f"[the tool {name} can be called now]", cache_control),)
        case Block(type="tool_addition" | "tool_removal" as kind, tool=tool) if role == "system" and tool is not None:
            if tool.type != "tool_reference" or not tool.name:
                place = f"{where}.tool.type"
                raise RequestError(f"{place}: only a tool_reference, to a tool in tools, is understood", place)
            loaded[tool.name] = kind == "tool_addition"
            return ()
        case Block(type="fallback"):  # marks where another model took over; the API does not show it to models
            return ()
        case _:
            if block.type in KNOWN:
                why = f"a block of type {block.type} lacks a field, or may not stand here"
                raise RequestError(f"{where}: {why}", where)
            raise RequestError(f'{where}.type: "{block.type}" is not understood here', f"{where}.type")


def _input(block: Block) -> str:
    return bytes(block.input).decode() if given(block.input) else "{}"


def _result(content: Any, where: str, loaded: Loaded) -> tuple[Text | Image | Document, ...]:
    if not content:
        return ()
    if isinstance(content, dict):
        raise RequestError(f"{where}.content: must be a string or a list of blocks", f"{where}.content")
    return _shown(parse_blocks(content, "tool", f"{where}.content", loaded), f"{where}.content")


def _shown(parts: tuple[Part, ...], where: str) -> tuple[Text | Image | Document, ...]:
    kept = tuple(part for part in parts if isinstance(part, Text | Image | Document))
    if len(kept) < len(parts):
        raise RequestError(f"{where}: must hold text, images and documents", where)
    return kept


def _document(block: Block, source: Source, cache_control: CacheControl, where: str) -> tuple[Part, ...]:
    _refuse_citations(block, where)
    named = ": ".join(("document", *(name for name in (block.title, block.context) if name)))
    if source.type == "text":
        return _within(named, (Text(source.data),), cache_control)
    if source.type == "content" and source.content is not None:
        place = f"{where}.source.content"
        return _within(named, _shown(parse_blocks(source.content, "document", place, {}), place), cache_control)
    if source.type == "base64":
        about = (Text(f"[about the next document: {block.context}]\n"),) if block.context else ()
        file = file_of(source.data, source.media_type, block.title or "", f"{where}.source.data", cache_control)
        return (*about, file)
    place = f"{where}.source.type"
    why = "no file is fetched from elsewhere" if source.type == "url" else "there are no uploaded files"
    told = f"{why}; send its base64" if source.type in ("url", "file") else "base64, text and content are understood"
    raise RequestError(f'{place}: "{source.type}" cannot be taken in a document: {told}', place)


def _within(named: str, parts: tuple[Part, ...], cache_control: CacheControl) -> tuple[Part, ...]:
    """Return the content of a document or search result between brackets.

    named: the words after the opening bracket, such as the document's title
    parts: the quoted content; the result is a single `Text` if the content has no images
    cache_control: cache mark of the last part
    """
    if all(type(part) is Text for part in parts):
        text = "".join(part.text for part in parts if type(part) is Text)
        return (Text(f"[{named}\n{text}\n]\n", cache_control),)
    return (Text(f"[{named}\n"), *parts, Text("\n]\n", cache_control))


def _found(content: list[Raw] | dict[str, Any], where: str) -> str:
    if isinstance(content, dict):
        return f"nothing: {content.get('error_code')}"
    pages = [decode(raw, _page, f"{where}[{index}]") for index, raw in enumerate(content)]
    return "\n".join(f"- {page.title or ''} ({page.url or ''})" for page in pages)


class Page(msgspec.Struct):
    """A page in the result of a web search. Its text is encrypted for Anthropic's servers, and is not read here."""

    title: str | None = None
    url: str | None = None


_page = msgspec.json.Decoder(Page)


def _refuse_citations(block: Block, where: str) -> None:
    if isinstance(block.citations, dict) and block.citations.get("enabled"):
        place = f"{where}.citations.enabled"
        raise RequestError(f"{place}: an answer of a mixture cites nothing", place)


def _image(source: Source, cache_control: CacheControl, where: str) -> Image:
    if source.type == "url" and source.url.startswith(("https://", "http://")):
        return Image(url=source.url, cache_control=cache_control)
    if source.type != "base64" or not source.media_type.startswith("image/"):
        raise RequestError(f"{where}: must be base64 with a media_type of an image, or a url", where)
    try:
        return Image(decoded(source.data), source.media_type, cache_control=cache_control)
    except (binascii.Error, ValueError) as problem:
        raise RequestError(f"{where}.data: is no base64: {problem}", f"{where}.data") from None
