"""A client's request to the server, in one form for all three APIs: parsed by `wire`, performed by `server`.

The parser of each API makes a `ParsedRequest`. The parser raises `RequestError` for whatever a mixture cannot do, so
that no later code has to know which API the client used.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.errors import RequestError
from partsong.model import Conversation, Message, Text

FIELD = "partsong"  # field of requests and responses for everything that the APIs have no field for


class Options(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Options of the run, in the field `partsong` of a request or as JSON in the header `X-Partsong`.

    events: whether the run's events are added to the stream; False by default
    max_dollars: dollars that the run may cost at most; a value above the recipe's limit changes nothing
    deadline: seconds that the run may take; a value above the recipe's deadline changes nothing
    strict: whether a loss ends the run with an error; False by default
    cache: whether stored answers may be used; `None` (default) uses stored answers at a temperature of 0
    recipe: fields that replace fields of the named recipe; none by default
    usage: "total" (default) counts every call of the run; "answer" counts the call that wrote the answer alone, which
        shows how full its context is
    stay: whether a streamed run goes on after its client disconnects, until it is stopped by its id; False by default
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
    stream: whether the response is streamed; False by default
    samples: number of answers (`n` of Chat Completions); 1 by default
    usage_in_stream: whether a stream ends with the usage; False by default
    labels: names and values that the caller gave the run, such as `user` and the fields of `metadata`
    options: partsong's own options for the run
    freeform: names of the tools that take free text instead of JSON (see `wire.freeform`)
    echo: fields of the request that the response repeats, ready for JSON

    The other fields belong to the Responses API:

    previous: id of the earlier response that this request continues; "" for none
    references: ids of earlier items that the input refers to, which the server then looks up
    keep: whether the response is stored, so that it can be fetched and continued; True by default
    background: whether the run needs no connection, and the client fetches the response by its id; False by default
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
    """Return the messages so that the last one is a turn of the user or a tool, even if system messages stand last.

    Models answer the user's last turn. System messages after a turn of the user or a tool are appended to that turn.
    System messages after the assistant's turn become a turn of the user. If all messages are of the system, the last
    one becomes the user's turn.
    """
    start = len(messages)
    while start and messages[start - 1].role == "system":
        start -= 1
    if start == 0:
        start = max(0, len(messages) - 1)  # all are system messages: the last one is answered
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
    """Raise `RequestError` if a field that partsong does not support is set. An empty or false value is allowed.

    fields: a decoded part of the request
    reasons: for each unsupported field, the reason that the error gives
    where: path of `fields` in the request; "" for the whole body
    """
    for name, why in reasons.items():
        if getattr(fields, name):
            place = f"{where}.{name}" if where else name
            raise RequestError(f"{place}: {why}", place)


def parse_options(value: Any, where: str = FIELD) -> Options:
    """Return the options in a decoded JSON value.

    where: path of the value in the request, or the name of the header, for the error

    Raises `RequestError` for an unknown option, a wrong type or a value out of range.
    """
    try:
        options = msgspec.convert(value, Options, strict=False)
    except msgspec.ValidationError as problem:
        raise RequestError(f"{where}: {problem}", where) from None
    if options.deadline is not None and not 0 < options.deadline < float("inf"):
        raise RequestError(f"{where}.deadline must be a number of seconds above 0", f"{where}.deadline")
    if options.max_dollars is not None and not (options.max_dollars.is_finite() and options.max_dollars >= 0):
        raise RequestError(f"{where}.max_dollars must be 0 dollars or more", f"{where}.max_dollars")
    return options
