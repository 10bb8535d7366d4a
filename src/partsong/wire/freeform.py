"""Free-text tools (OpenAI's `custom` tools), which take text instead of JSON, as functions with one parameter `input`.

Every provider supports functions, and few support free text. So the model is offered a function, and the server's
client receives the value of `input` alone. A grammar is added to the tool's description, and is not enforced.
"""

from typing import Any

import msgspec

from partsong.errors import RequestError
from partsong.model import Tool
from partsong.wire.json import UNREADABLE

LONGEST_GRAMMAR = 64 * 1024  # characters; limited because the grammar is sent with each prompt
SCHEMA = (
    b'{"type":"object","properties":{"input":{"type":"string","description":"the text that the tool is given"}},'
    b'"required":["input"],"additionalProperties":false}'
)


def freeform_tool(name: str, description: str, syntax: str, definition: str, where: str) -> Tool:
    """Return the function that stands for a free-text tool.

    syntax: the grammar's notation, such as "lark"; "" without a grammar
    definition: the grammar; "" for any text
    where: path of the tool in the request, such as `tools[0]`, for the error

    Raises `RequestError` if the grammar has more than `LONGEST_GRAMMAR` characters.
    """
    if len(definition) > LONGEST_GRAMMAR:
        message = f"{where}.format: the grammar has more than {LONGEST_GRAMMAR:,} characters"
        raise RequestError(message, f"{where}.format")
    if definition:
        description = f"{description}\n\nThe input must follow this {syntax} grammar:\n{definition}".lstrip()
    return Tool(name, description, SCHEMA)


def wrap_input(text: str) -> str:
    """Return the JSON arguments of the function call that passes `text` to a free-text tool."""
    return msgspec.json.encode({"input": text}).decode()


def unwrap_input(arguments: str) -> str:
    """Return the text in the JSON arguments that a model wrote for a free-text tool.

    Returns `arguments` unchanged if they are no JSON object with a string `input`: the model then wrote plain text.
    """
    try:
        value: Any = msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments
