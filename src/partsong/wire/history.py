"""Prepares a conversation that one model began for another model: tool-call ids and thoughts in the form of each API.

APIs differ in the ids that they accept, and some servers give tool calls no id, equal ids, or long ones. So an id that
does not fit is replaced, with the same new id in the tool call and in its result.
"""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from partsong.model import Document, Message, Part, Text, ToolCall, ToolResult

DETAILS = "reasoning_details:"  # prefix of a `Reasoning.signature` that holds OpenRouter's reasoning blocks as JSON
LONGEST_ID = 40  # characters in a tool-call id, the limit of OpenAI's API
LONGEST_MESSAGES_ID = 64  # characters in a tool-call id, the limit of Anthropic's API
NINE = re.compile(r"[A-Za-z0-9]{9}")
Form = Callable[[str], str]


class HistoryRules(Struct, frozen=True):
    """How an endpoint of Chat Completions wants earlier turns of the assistant to be written.

    ids: form of tool-call ids: "short" for up to 40 characters (default), "nine" for nine letters and digits
    reasoning: whether each turn of the assistant must have a `reasoning_content`; False by default
    details: whether OpenRouter's `reasoning_details` are sent back; False by default
    signatures: whether Gemini's thought signatures are sent back with their tool calls; False by default
    declares: whether tools called earlier must be declared in a request that offers no tools; False by default
    documents: whether PDFs are sent as files, and not as their text; True by default
    """

    ids: Literal["short", "nine"] = "short"
    reasoning: bool = False
    details: bool = False
    signatures: bool = False
    declares: bool = False
    documents: bool = True


USUAL = HistoryRules()


def short_id(identity: str) -> str:
    """Return the id, or a digest of it if it has more than 40 characters."""
    return identity if len(identity) <= LONGEST_ID else f"call_{_digest(identity)[:24]}"


def nine_letters(identity: str) -> str:
    """Return the id if it is nine letters and digits, else nine characters of its digest."""
    return identity if NINE.fullmatch(identity) else _digest(identity)[:9]


def plain_id(identity: str) -> str:
    """Return the id with characters that Anthropic's API refuses as `_`, or a digest if it exceeds 64 characters."""
    if len(identity) > LONGEST_MESSAGES_ID:
        return f"toolu_{_digest(identity)[:24]}"
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in identity)


FORMS: dict[str, Form] = {"short": short_id, "nine": nine_letters}


def with_ids(messages: tuple[Message, ...], form: Form) -> tuple[Message, ...]:
    """Return the messages with a unique tool-call id in the given form for each tool call.

    form: makes an id that the API accepts from any id

    A tool result gets the new id of the tool call that it answers. Among tool calls that shared an id, results are
    assigned in order.
    """
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
    """Return `identity`, or a new id if `identity` is empty or taken.

    The new id is a digest and not random, so that requests with equal histories stay equal.
    """
    count = len(taken)
    while not identity or identity in taken:
        identity = form(f"call_{_digest(f'{original} {count}')[:24]}")
        count += 1
    return identity


def with_text_of_documents(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages with each document replaced by its text, also within tool results."""
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
    """Return the names of the tools that the messages call, each once, in order of the first call."""
    return tuple(dict.fromkeys(part.name for message in messages for part in message.parts if type(part) is ToolCall))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
