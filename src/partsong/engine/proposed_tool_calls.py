"""The calls that proposers propose, found in their texts and counted: whoever acts sees what they agree on.

Two calls are the same if their tool is, and their arguments as JSON are, in whatever order and spacing. What could not
be called as it stands (no such tool, no JSON, against the schema) is not counted, and stays as words in its text.
"""

import json
import re
from typing import Any, NoReturn

from partsong.engine.tool_calls import fault_of_call
from partsong.model import Conversation, ToolCall
from partsong.prompts import listed

_BEGIN = re.compile(r'<call tool="([^"<>\n]{1,128})">\s*')
_END = re.compile(r"\s*</call>")


def gathered(conversation: Conversation, texts: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The texts with a number in place of each call that counts, and the list of those calls; "" if there are none."""
    found = [_found(conversation, text) for text in texts]
    counts: dict[tuple[str, str], int] = {}
    for calls in found:
        for call in dict.fromkeys(call for _, _, call in calls):  # one adviser is one voice
            counts[call] = counts.get(call, 0) + 1
    ordered = sorted(counts, key=lambda call: -counts[call])  # of equals, the first that was proposed
    if not ordered:
        return texts, ""
    numbers = {call: number for number, call in enumerate(ordered, 1)}
    told = tuple(_numbered(text, calls, numbers) for text, calls in zip(texts, found, strict=True))
    return told, listed(tuple((name, arguments, counts[name, arguments]) for name, arguments in ordered), len(texts))


def _found(conversation: Conversation, text: str) -> list[tuple[int, int, tuple[str, str]]]:
    """Where in the text a call begins and ends, and which one it is."""
    found: list[tuple[int, int, tuple[str, str]]] = []
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        at = begin.end()
        if (read := _read(text, at)) is None:
            continue
        arguments, end = read
        if (ended := _END.match(text, end)) is None:
            continue
        if fault_of_call(conversation, ToolCall("", begin[1], arguments)) is None:
            at = ended.end()
            found.append((begin.start(), at, (begin[1], arguments)))
    return found


def _read(text: str, at: int) -> tuple[str, int] | None:
    """The JSON that begins here, written in the one form in which equal values are equal, and where it ends."""
    if text.startswith("</call>", at):
        return "{}", at
    try:
        value, end = json.JSONDecoder(parse_constant=_refuse).raw_decode(text, at)
        arguments = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        arguments.encode()  # half a character cannot be sent on
    except (ValueError, RecursionError):
        return None
    return arguments, end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _numbered(text: str, calls: list[tuple[int, int, Any]], numbers: dict[tuple[str, str], int]) -> str:
    pieces, at = list[str](), 0
    for start, end, call in calls:
        pieces += (text[at:start], f"[proposed call {numbers[call]}]")
        at = end
    return "".join((*pieces, text[at:]))
