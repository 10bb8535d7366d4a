"""What a client asks the server for, in whichever of the three formats: parsed by `wire`, performed by `server`.

The formats' parsers make a `ParsedRequest`. They refuse with `RequestError` what a mixture cannot honour, so that no
code behind them has to know which API was spoken.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.errors import RequestError
from partsong.model import Conversation, Message, Text

FIELD = "partsong"  # of a request's body, for what the APIs have no words for


class Options(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Options of the run, in the field `partsong` of a request or as JSON in the header `X-Partsong`.

    events: whether the run's events are added to the stream
    max_dollars: the most that the run may cost; it can only lower the recipe's limit
    deadline: seconds that the run may take; it can only shorten the recipe's deadline
    strict: whether a loss ends the run with an error
    cache: whether stored answers will do; `None`: at a temperature of 0
    recipe: fields of a recipe that replace those of the named one
    usage: whether the usage counts every call of the run, or the answer's alone, which shows how full a context is
    stay: whether a stream's run goes on when its client leaves, until it is stopped by its id
    """

    events: bool = False
    max_dollars: Decimal | None = None
    deadline: float | None = None
    strict: bool = False
    cache: bool | None = None
    recipe: dict[str, Any] = {}
    usage: Literal["total", "answer"] = "total"
    stay: bool = False


class ParsedRequest(Struct, frozen=True):
    """A request to any of the three APIs.

    model: a recipe's name, or `provider:model`
    samples: how many answers are wanted (`n`)
    usage_in_stream: whether a stream ends with the usage; requests to Chat Completions say so themselves
    labels: the caller's own words for the run: its metadata, and `user`
    freeform: the names of the tools that take free text instead of JSON (see `wire.freeform`)
    echo: what the response must repeat of the request, ready for JSON

    Of Responses alone:

    previous: the id of the response that this one goes on from
    references: the ids of earlier items that the input refers to, until the server has looked them up
    keep: whether the response may be asked for again, and gone on from
    background: whether the run goes on without its client, who asks for the response by its id
    """

    model: str
    conversation: Conversation
    stream: bool = False
    samples: int = 1
    usage_in_stream: bool = False
    labels: dict[str, str] = {}
    options: Options = Options()
    previous: str = ""
    keep: bool = True
    echo: dict[str, Any] = {}
    freeform: frozenset[str] = frozenset()
    references: tuple[str, ...] = ()
    background: bool = False


def answerable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with its last words in the user's turn, where a system message stands last.

    Models answer the user. System messages behind the user's words, or behind a tool's result, become part of that
    turn. Behind the assistant's, or where nobody else speaks, they are the turn.
    """
    start = len(messages)
    while start and messages[start - 1].role == "system":
        start -= 1
    if start == 0:
        start = max(0, len(messages) - 1)  # of system messages alone the last one is to be answered
    last = messages[start:]
    if not last:
        return tuple(messages)
    words = tuple(part for index, message in enumerate(last) for part in (*_paragraph(index), *message.parts))
    before = messages[start - 1] if start else None
    if before is not None and before.role in ("user", "tool"):
        turn = Message(before.role, (*before.parts, *_paragraph(1), *words), before.name)
        return (*messages[: start - 1], turn)
    return (*messages[:start], Message("user", words))


def _paragraph(index: int) -> tuple[Text, ...]:
    return (Text("\n\n"),) if index else ()


def refuse(fields: Struct, reasons: dict[str, str], where: str = "") -> None:
    """Raise `RequestError` if a field of `fields`, which stands at `where`, is set and has an entry in `reasons`.

    A field that is empty or false asks for nothing.
    """
    for name, why in reasons.items():
        if getattr(fields, name):
            place = f"{where}.{name}" if where else name
            raise RequestError(f"{place}: {why}", place)


def parse_options(value: Any, where: str = FIELD) -> Options:
    """The options in a decoded JSON value, which stands at `where`. Raises `RequestError`, naming the field."""
    try:
        options = msgspec.convert(value, Options, strict=False)
    except msgspec.ValidationError as problem:
        raise RequestError(f"{where}: {problem}", where) from None
    if options.deadline is not None and not 0 < options.deadline < float("inf"):
        raise RequestError(f"{where}.deadline must be a number of seconds above 0", f"{where}.deadline")
    if options.max_dollars is not None and not (options.max_dollars.is_finite() and options.max_dollars >= 0):
        raise RequestError(f"{where}.max_dollars must be 0 dollars or more", f"{where}.max_dollars")
    return options
