"""Tool calls that a model wrote into its text, since small models often miss the format that their server reads.

The text of such an answer is nothing but tool calls as JSON: bare, in a code block, or between `<tool_call>` tags.
Text that says anything else, or names a tool that was not offered, is an answer and stays one.
"""

import json
import re
from collections.abc import Container
from typing import Any

from msgspec.structs import replace

from partsong.model import Answer, Text, ToolCall

_BETWEEN = re.compile(r"(?:\s|```[A-Za-z_]*|</?tool_calls?>)*")
_DECODER = json.JSONDecoder()


def with_tool_calls(answer: Answer, offered: Container[str], rounds: int) -> Answer:
    """Return the answer with the tool calls that its text is, or the answer as it is.

    offered: names of the tools that the model may call
    rounds: number of rounds of tool calls before the answer, for ids that are different in each round
    """
    if any(isinstance(part, ToolCall) for part in answer.parts):
        return answer
    found = _tool_calls(answer.text, offered, rounds)
    if not found:
        return answer
    parts = tuple(part for part in answer.parts if not isinstance(part, Text))
    return replace(answer, parts=(*parts, *found), finish_reason="tool_calls")


def _tool_calls(text: str, offered: Container[str], rounds: int) -> list[ToolCall]:
    """The tool calls that a text consists of; none if it has anything else."""
    found: list[ToolCall] = []
    here = _end(text, 0)
    while here < len(text):
        try:
            value, here = _DECODER.raw_decode(text, here)
        except (ValueError, RecursionError):
            return []
        for each in value if isinstance(value, list) else [value]:
            tool_call = _tool_call(each, f"written-{rounds}-{len(found)}", offered)
            if tool_call is None:
                return []
            found.append(tool_call)
        here = _end(text, here)
    return found


def _end(text: str, here: int) -> int:
    """The end of the marks and the white space that stand between tool calls."""
    match = _BETWEEN.match(text, here)
    return here if match is None else match.end()


def _tool_call(value: Any, identity: str, offered: Container[str]) -> ToolCall | None:
    """A JSON value as a tool call, if it is one: `{"name": …, "arguments": {…}}`, or the form of Chat Completions."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or name not in offered:
        return None
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(identity, name, arguments) if isinstance(arguments, str) else None
