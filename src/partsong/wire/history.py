"""Conversations that one model began and another goes on with: tool-call ids and thoughts, as each API wants them.

Ids are opaque to whoever reads them, but APIs differ in what an id may look like, and some servers give none, equal
ones, or long ones. So ids are written anew where they do not fit, the same way for a tool call and its result.
"""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from partsong.model import Document, Message, Part, Text, ToolCall, ToolResult

DETAILS = "reasoning_details:"  # begins a signature that holds OpenRouter's blocks of reasoning as JSON
LONGEST_ID = 40  # characters, with OpenAI
LONGEST_MESSAGES_ID = 64  # characters, with Anthropic
NINE = re.compile(r"[A-Za-z0-9]{9}")
Form = Callable[[str], str]


class HistoryRules(Struct, frozen=True):
    """How an endpoint wants to read what models have said and done before.

    ids: "short" for ids of up to 40 characters, "nine" for ids of nine letters and digits
    reasoning: whether every turn of the assistant's must have its `reasoning_content`
    details: whether OpenRouter's `reasoning_details` go back
    signatures: whether Gemini's thought signatures go back, with the tool calls they came with
    declares: whether the tools of the history must be declared, though none may be called any more
    documents: whether PDFs go as files; otherwise their text does
    """

    ids: Literal["short", "nine"] = "short"
    reasoning: bool = False
    details: bool = False
    signatures: bool = False
    declares: bool = False
    documents: bool = True


USUAL = HistoryRules()


def short_id(identity: str) -> str:
    """An id of at most 40 characters."""
    return identity if len(identity) <= LONGEST_ID else f"call_{_digest(identity)[:24]}"


def nine_letters(identity: str) -> str:
    """An id of nine letters and digits."""
    return identity if NINE.fullmatch(identity) else _digest(identity)[:9]


def plain_id(identity: str) -> str:
    """An id of letters, digits, `_` and `-`, as Anthropic's API allows it."""
    if len(identity) > LONGEST_MESSAGES_ID:
        return f"toolu_{_digest(identity)[:24]}"
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in identity)


FORMS: dict[str, Form] = {"short": short_id, "nine": nine_letters}


def with_ids(messages: tuple[Message, ...], form: Form) -> tuple[Message, ...]:
    """The messages with ids of this form, one of its own for each tool call; results follow their tool calls."""
    if not any(type(part) is ToolCall or type(part) is ToolResult for message in messages for part in message.parts):
        return messages
    taken: set[str] = set()
    waiting: defaultdict[str, deque[str]] = defaultdict(deque)  # the new ids of tool calls without a result
    last: dict[str, str] = {}

    def rewritten(part: Part) -> Part:
        if type(part) is ToolCall:
            identity = _unlike(form(part.id) if part.id else "", part.id, taken, form)
            taken.add(identity)
            waiting[part.id].append(identity)
            return part if identity == part.id else replace(part, id=identity)
        if type(part) is ToolResult:
            if queue := waiting[part.call_id]:
                last[part.call_id] = queue.popleft()
            identity = last.get(part.call_id) or form(part.call_id or "call")
            return part if identity == part.call_id else replace(part, call_id=identity)
        return part

    return tuple(replace(message, parts=tuple(map(rewritten, message.parts))) for message in messages)


def _unlike(identity: str, original: str, taken: set[str], form: Form) -> str:
    """The id, or another one where it is empty or taken; the same in every request that has the same history."""
    count = len(taken)
    while not identity or identity in taken:
        identity = form(f"call_{_digest(f'{original} {count}')[:24]}")
        count += 1
    return identity


def with_text_of_documents(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with the text of each document in its place."""
    return tuple(replace(message, parts=tuple(map(_with_text, message.parts))) for message in messages)


def _with_text(part: Part) -> Part:
    match part:
        case Document(cache_control=cache_control):
            return Text(f"{part.as_text}\n\n", cache_control)
        case ToolResult(parts=parts):
            pieces = (Text(f"{each.as_text}\n\n") if isinstance(each, Document) else each for each in parts)
            return replace(part, parts=tuple(pieces))
        case _:
            return part


def tools_of(messages: tuple[Message, ...]) -> tuple[str, ...]:
    """The names of the tools that were called."""
    return tuple(dict.fromkeys(part.name for message in messages for part in message.parts if type(part) is ToolCall))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
