"""What the content of a tool's result becomes: text, and the addresses and files that the result names.

Images, sound and other data are left out, with a note in their place: a model that looks something up reads text.
"""

import re
from collections.abc import Iterable

import msgspec
from mcp_types import CallToolResult, ContentBlock, EmbeddedResource, ResourceLink, TextContent, TextResourceContents

from partsong.toolbox import Result

MOST_SOURCES = 100  # addresses and files of one result
LONGEST_SOURCE = 2000  # characters of an address; a longer one is left out
_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\|{}\[\]\x00-\x1f]{1,2000}")
_ENDS = ".,;:!?)*_"


def read(result: CallToolResult) -> Result:
    """The result as text, with the sources that it names."""
    pieces: list[str] = []
    sources: list[str] = []
    for block in result.content:
        pieces.append(_text(block))
        sources += _sources(block)
    if not result.content and result.structured_content is not None:
        pieces.append(msgspec.json.encode(result.structured_content).decode())
    text = "\n\n".join(piece for piece in pieces if piece)
    sources += addresses(text)
    kept = tuple(dict.fromkeys(source for source in sources if len(source) <= LONGEST_SOURCE))[:MOST_SOURCES]
    error = (text or "the tool says that it failed, and not why") if result.is_error else ""
    return Result(text, error, () if error else kept)


def addresses(text: str) -> list[str]:
    """The addresses of web pages in a text, in their order, without the punctuation that follows them."""
    return [_address(found[0]) for found in _ADDRESS.finditer(text)]


def _address(found: str) -> str:
    """The address without the end of the sentence around it. A bracket that it opens itself stays."""
    while found and found[-1] in _ENDS and not (found[-1] == ")" and found.count("(") >= found.count(")")):
        found = found[:-1]
    return found


def _text(block: ContentBlock) -> str:
    match block:
        case TextContent(text=text):
            return text
        case EmbeddedResource(resource=TextResourceContents(uri=uri, text=text)):
            return f"[{line(str(uri))}]\n{text}"
        case ResourceLink(uri=uri, name=name):
            return f"[{line(name)}: {line(str(uri))}]"
        case _:
            return f"[left out: {line(block.type)}, which is no text]"


def _sources(block: ContentBlock) -> Iterable[str]:
    match block:
        case EmbeddedResource(resource=resource):
            yield line(str(resource.uri))
        case ResourceLink(uri=uri):
            yield line(str(uri))


def line(text: str) -> str:
    """The text on one line, without what could steer a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
