"""Tools that take free text instead of JSON (OpenAI's `custom` tools), as functions with one parameter, `input`.

Every provider has functions, and few have free text. So a model is offered a function, and its client is handed the
text alone. A grammar is told to the model in the tool's description; it is not enforced.
"""

from typing import Any

import msgspec

from partsong.errors import RequestError
from partsong.model import Tool
from partsong.wire.json import UNREADABLE

LONGEST_GRAMMAR = 64 * 1024  # characters: a grammar is sent with each prompt
SCHEMA = (
    b'{"type":"object","properties":{"input":{"type":"string","description":"the text that the tool is given"}},'
    b'"required":["input"],"additionalProperties":false}'
)


def freeform_tool(name: str, description: str, syntax: str, definition: str, where: str) -> Tool:
    """The tool as a function. Raises `RequestError` if its grammar is too long."""
    if len(definition) > LONGEST_GRAMMAR:
        message = f"{where}.format: the grammar has more than {LONGEST_GRAMMAR:,} characters"
        raise RequestError(message, f"{where}.format")
    if definition:
        description = f"{description}\n\nThe input must follow this {syntax} grammar:\n{definition}".lstrip()
    return Tool(name, description, SCHEMA)


def wrap_input(text: str) -> str:
    """The arguments of the tool call that stands for this text."""
    return msgspec.json.encode({"input": text}).decode()


def unwrap_input(arguments: str) -> str:
    """The text in the arguments of such a tool call; the arguments themselves if a model wrote plain text."""
    try:
        value: Any = msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
