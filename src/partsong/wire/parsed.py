"""What a client asks the server for, in whichever of the three formats: read by `wire`, performed by `server`.

The formats' parsers make one of these, and refuse with `RequestError` what a mixture cannot honour, so that nothing
behind them has to know which API was spoken.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.errors import RequestError
from partsong.model import Conversation

FIELD = "partsong"  # of a request's body, for what the APIs have no words for


class Options(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller may say of the run, in the field `partsong` of a request or as JSON in the header `X-Partsong`.

    `events` adds the run's events to the stream. `max_dollars` and `deadline` (seconds) can only lower what the recipe
    allows; `strict` fails a run rather than answer with losses; `cache` says whether stored answers will do, anywhere
    (`None`: at a temperature of 0). `recipe` holds fields of a recipe that replace the named one's. `usage` says what
    the response's usage counts: every call of the run, or the answer's alone, which tells an agent how full its own
    context is. A stream's run that may `stay` goes on when its client leaves, until it is stopped by its id.
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
    """A request. `model` is a recipe's name or `provider:model`; `samples` answers are wanted (`n`).

    `usage_in_stream` is whether a stream ends with the usage (Chat Completions say so themselves). `labels` are the
    caller's own words for the run: its metadata, and `user`. `previous` is the id of the response that this one goes
    on from, and `keep` whether one may go on from this one (both: Responses). `echo` holds what the response must
    repeat of the request, ready for JSON.
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


def refuse(said: Struct, reasons: dict[str, str], where: str = "") -> None:
    """Raise `RequestError` for a field of `said`, which stands at `where`, that one of `reasons` is against.

    A field that is empty or false asks for nothing.
    """
    for name, why in reasons.items():
        if getattr(said, name):
            place = f"{where}.{name}" if where else name
            raise RequestError(f"{place}: {why}", place)


def parse_options(value: Any, where: str = FIELD) -> Options:
    """The options in a JSON value that was decoded. Raises `RequestError`, naming the field."""
    try:
        options = msgspec.convert(value, Options, strict=False)
    except msgspec.ValidationError as problem:
        raise RequestError(f"{where}: {problem}", where) from None
    if options.deadline is not None and not 0 < options.deadline < float("inf"):
        raise RequestError(f"{where}.deadline must be a number of seconds above 0", f"{where}.deadline")
    if options.max_dollars is not None and not (options.max_dollars.is_finite() and options.max_dollars >= 0):
        raise RequestError(f"{where}.max_dollars must be 0 dollars or more", f"{where}.max_dollars")
    return options
