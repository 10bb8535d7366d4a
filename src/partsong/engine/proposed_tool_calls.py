"""Finds and counts the tool calls that proposers propose, so that the aggregator sees on which of them they agree.

Two tool calls are the same if they have the same tool and equal arguments; the order of JSON fields and white space do
not matter. A tool call with an unknown tool, without JSON, or against the schema is not counted. It stays in its text
unchanged.
"""

import json
import re
from typing import Any, NoReturn

from partsong.engine.tool_calls import counts
from partsong.model import Conversation, ToolCall
from partsong.prompts import listed
from partsong.wire.tokens import estimate

_BEGIN = re.compile(r'<call tool="([^"<>\n]{1,128})">\s*')
_END = re.compile(r"\s*</call>")


def gathered(conversation: Conversation, texts: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Replace the valid tool calls in the proposals by numbers, and list them.

    texts: texts of the proposals, in seat order

    Returns the new texts, and the text that lists the tool calls with these numbers; "" if there are none.
    """
    found = [_found(conversation, text) for text in texts]
    votes: dict[tuple[str, str], int] = {}
    shortest: dict[tuple[str, str], str] = {}
    for tool_calls in found:
        for _, _, tool_call, written in tool_calls:
            # The list shows the shortest form of the arguments: the normal form turns 1e15 into 18 characters, and the
            # cost planning relies on a list that is not longer than the tool calls.
            shortest[tool_call] = min(shortest.get(tool_call, tool_call[1]), written, key=estimate)
        for tool_call in dict.fromkeys(tool_call for _, _, tool_call, _ in tool_calls):  # one proposer is one voice
            votes[tool_call] = votes.get(tool_call, 0) + 1
    ordered = sorted(votes, key=lambda tool_call: -votes[tool_call])  # equal counts stay in the order of proposals
    if not ordered:
        return texts, ""
    numbers = {tool_call: number for number, tool_call in enumerate(ordered, 1)}
    told = tuple(_numbered(text, tool_calls, numbers) for text, tool_calls in zip(texts, found, strict=True))
    return told, listed(tuple((each[0], shortest[each], votes[each]) for each in ordered), len(texts))


def _found(conversation: Conversation, text: str) -> list[tuple[int, int, tuple[str, str], str]]:
    """The valid tool calls in a text, in order.

    Each is a tuple of four: the index of its start in the text, the index of its end, a pair of the tool's name and the
    arguments in normal form, and the arguments as the proposer wrote them.
    """
    found: list[tuple[int, int, tuple[str, str], str]] = []
    index = 0
    while (begin := _BEGIN.search(text, index)) is not None:
        index = begin.end()
        if (read := _read(text, index)) is None:
            continue
        arguments, end = read
        if (ended := _END.match(text, end)) is None:
            continue
        if counts(conversation, ToolCall("", begin[1], arguments)):
            found.append((begin.start(), ended.end(), (begin[1], arguments), text[index:end] or arguments))
            index = ended.end()
    return found


def _read(text: str, index: int) -> tuple[str, int] | None:
    """The JSON value that begins at `index` in normal form, and the index of its end; `None` if it is no JSON.

    The normal form has sorted fields and no white space, so that equal values are equal texts.
    """
    if text.startswith("</call>", index):
        return "{}", index
    try:
        value, end = json.JSONDecoder(parse_constant=_refuse).raw_decode(text, index)
        arguments = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        arguments.encode()  # raises for a lone surrogate, which cannot be sent on
    except (ValueError, RecursionError):
        return None
    return arguments, end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _numbered(text: str, tool_calls: list[tuple[int, int, Any, str]], numbers: dict[tuple[str, str], int]) -> str:
    """The text with `[proposed call N]` in place of each tool call; `numbers` holds N for each tool call."""
    pieces, done = list[str](), 0
    for start, end, tool_call, _ in tool_calls:
        pieces += (text[done:start], f"[proposed call {numbers[tool_call]}]")
        done = end
    return "".join((*pieces, text[done:]))
