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
from partsong.wire.tokens import estimate

_BEGIN = re.compile(r'<call tool="([^"<>\n]{1,128})">\s*')
_END = re.compile(r"\s*</call>")


def gathered(conversation: Conversation, texts: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The texts with a number in place of each call that counts, and the list of those calls; "" if there are none."""
    found = [_found(conversation, text) for text in texts]
    counts: dict[tuple[str, str], int] = {}
    shortest: dict[tuple[str, str], str] = {}
    for calls in found:
        for call in dict.fromkeys(call for _, _, call, _ in calls):  # one adviser is one voice
            counts[call] = counts.get(call, 0) + 1
        for _, _, call, written in calls:
            # In the one form, 1e15 has 18 characters. The planning of costs relies on a list that is not longer.
            shortest[call] = min(shortest.get(call, call[1]), written, key=estimate)
    ordered = sorted(counts, key=lambda call: -counts[call])  # of equals, the first that was proposed
    if not ordered:
        return texts, ""
    numbers = {call: number for number, call in enumerate(ordered, 1)}
    told = tuple(_numbered(text, calls, numbers) for text, calls in zip(texts, found, strict=True))
    return told, listed(tuple((call[0], shortest[call], counts[call]) for call in ordered), len(texts))


def _found(conversation: Conversation, text: str) -> list[tuple[int, int, tuple[str, str], str]]:
    """Where in the text a call begins and ends, which one it is, and its arguments as they are written there."""
    found: list[tuple[int, int, tuple[str, str], str]] = []
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        at = begin.end()
        if (read := _read(text, at)) is None:
            continue
        arguments, end = read
        if (ended := _END.match(text, end)) is None:
            continue
        if fault_of_call(conversation, ToolCall("", begin[1], arguments)) is None:
            found.append((begin.start(), ended.end(), (begin[1], arguments), text[at:end] or arguments))
            at = ended.end()
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


def _numbered(text: str, calls: list[tuple[int, int, Any, str]], numbers: dict[tuple[str, str], int]) -> str:
    pieces, at = list[str](), 0
    for start, end, call, _ in calls:
        pieces += (text[at:start], f"[proposed call {numbers[call]}]")
        at = end
    return "".join((*pieces, text[at:]))
