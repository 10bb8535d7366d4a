"""Work that grows with a request: it is done in one thread, so that the event loop goes on with the other requests.

A caller chooses the length of a conversation, and each seat hashes, measures and encodes it. For most requests this
takes microseconds, and is done at once. For a long conversation it takes up to tenths of a second, which must not be
spent on the event loop.

The process has one thread for such work. So long requests wait for each other, and never more than one thread beside
the event loop's own competes for the interpreter, however many long requests there are.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from partsong.model import Conversation, Document, Image, Message, Part, Reasoning, Request, Text, ToolCall, ToolResult

LIGHT_PARTS = 200  # messages and parts: their work takes half a millisecond
BESIDE = 50  # characters around a part, in most APIs
LIGHT_BYTES = 100_000  # characters, and bytes of files, pictures and schemas
THREAD = ThreadPoolExecutor(1, "partsong-heavy")  # begins with the first work

P = ParamSpec("P")
T = TypeVar("T")


async def done(heavy: bool, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """The result of `work`, which is done at once or, if it is `heavy`, in the thread. It must have no effects."""
    if not heavy:
        return work(*args, **named)
    return await asyncio.get_running_loop().run_in_executor(THREAD, partial(work, *args, **named))


def is_heavy(asked: Conversation | Request) -> bool:
    """Whether work on a conversation or a request would hold up the event loop. Looks at the first parts alone."""
    size = len(asked.response_format or b"")
    if asked.tools:
        size += sum(len(tool.parameters) + len(tool.description) for tool in asked.tools)
        if len(asked.tools) > LIGHT_PARTS:
            return True
    return size > LIGHT_BYTES or are_heavy(asked.messages, size)


def are_heavy(messages: tuple[Message, ...], size: int = 0) -> bool:
    """Whether messages are long. `size`: bytes that count beside them (default: none)."""
    if len(messages) > LIGHT_PARTS:
        return True
    count = len(messages)
    for message in messages:
        count += len(message.parts)
        if count > LIGHT_PARTS:
            return True
        for part in message.parts:
            if type(part) is ToolResult:
                count += len(part.parts)
                if count > LIGHT_PARTS:
                    return True
                size += sum(map(_size, part.parts))
            else:
                size += _size(part)
        if size > LIGHT_BYTES:
            return True
    return False


def text_in(request: Request) -> int:
    """The characters of a request, without files and pictures, but with everything that stands beside them."""
    size = len(request.response_format or b"") + sum(len(tool.parameters) for tool in request.tools)
    for message in request.messages:
        for part in message.parts:
            for piece in part.parts if type(part) is ToolResult else (part,):
                size += BESIDE + (0 if isinstance(piece, Image) else _size(piece))
                size -= len(piece.data) if isinstance(piece, Document) else 0
    return size


def _size(part: Part) -> int:
    """The characters or bytes of a part."""
    match part:
        case Text(text=text):
            return len(text)
        case Image(data=data, url=url):
            return len(data) + len(url)
        case Document(data=data, text=text):
            return len(data) + len(text)
        case Reasoning(text=text, signature=signature):
            return len(text) + len(signature)
        case ToolCall(arguments=arguments, signature=signature):
            return len(arguments) + len(signature)
        case ToolResult(parts=parts):
            return sum(map(_size, parts))
