"""Parses the errors that providers send instead of an answer, and finds the `Cause` of each.

Providers agree on little: a wrong key is 401 or 400, an empty account 402, 403 or 429, and the body of an error has a
dozen shapes. So the message is searched in any field, and the status alone decides only if it is unambiguous.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from partsong.errors import Cause, ModelError
from partsong.model import Usage

LONGEST_WRITTEN = 4_000  # characters of a model's unusable output that are kept
DEEPEST = 6  # levels of an error's body that are searched
AGAIN = {"true": True, "false": False}  # values of the header x-should-retry
LONGEST_MESSAGE = 300  # characters of the provider's message that are passed on

STATUSES: dict[int, Cause] = {
    401: "auth",
    402: "billing",
    403: "auth",
    408: "timeout",
    409: "server",  # a temporary conflict
    413: "window",
    424: "server",  # a service behind the server has failed
    425: "server",  # too early
    429: "rate",
    504: "timeout",
    524: "timeout",  # the proxy in front of the server has given up
    529: "server",  # overloaded
}
# The cause by an error's own type, for errors without a status, such as errors within a stream.
KINDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    ("auth", re.compile(r"auth|api_key|permission|forbidden")),
    ("rate", re.compile(r"rate_?limit|too_?many|resource_exhausted|throttl")),
    ("timeout", re.compile(r"timeout|timed_?out|deadline")),
    ("server", re.compile(r"server|internal|overload|unavailable|api_error")),
    ("refused", re.compile(r"invalid|not_?found|bad_?request|unsupported")),
)
# Patterns of messages, for statuses that may have several causes.
BILLING = re.compile(
    r"insufficient.(quota|balance|credits?|funds)|credit balance|billing|payment|(out of|more) credits|api usage limits"
)
NO_MONEY = re.compile(r"insufficient.(balance|credits?|funds)|credit balance")
WINDOW = re.compile(
    r"context.?(length|window|size|limit)|prompt is too long|too[ _]many[ _]((input|prompt)[ _])?tokens"
    r"|input token count|token limit (was |has been |is )?(reached|exceeded)"
    r"|\b(input|prompt|request|length of all messages)\b.{0,40}too (long|large)|reduce the length"
    r"|max_model_len|model token limit"
    r"|maximum (prompt|model|allowed) length|input length should be|\btokens?\b.{0,30}exceeds? the.{0,20} limit of"
    r"|tokens \+ `?max_new_tokens"
)
# The model's window in tokens, in the wordings of providers that name it.
LIMIT = re.compile(
    r"""(?:maximum\ (?:context|model|prompt|allowed)\ length(?:\ is|\ of|:)?  # OpenAI, vLLM, DeepSeek, xAI, Fireworks
        |model's\ context\ length|context\ length\ of\ only                # SGLang, LM Studio
        |tokens\ >                                                         # Anthropic
        |context\ limit:\ [\d\ +]+>                                       # Anthropic, with the answer's limit
        |tokens\ allowed                                                   # Gemini
        |configured\ limit\ of|exceeds\ the\ limit\ of                      # OpenAI, GitHub Copilot
        |n_ctx\\?":|context\ size                                          # llama.cpp
        |must\ be\ <=                                                      # text-generation-inference, Together
        |token\ limit:                                                     # Moonshot
        |while\ limit\ is                                                  # Cerebras
        |input\ length\ should\ be\ \[1,                                   # Alibaba
       )[\ (]*(\d[\d,]*\d)
     |model\ with\ (\d+)\ maximum\ context\ length                         # Mistral
     |max\ size:\ (\d+)\ tokens                                           # GitHub Models
    """,
    re.VERBOSE,
)
LEAST_WINDOW, MOST_WINDOW = 256, 100_000_000  # tokens; a number outside this range is no window
TOKEN_LIMIT = re.compile(r"token limit (was |has been |is )?(reached|exceeded)")
LINK = re.compile(
    r"(https?://|www\.)\S+|\b[\w.-]+\.(com|org|net|ai|dev|io)/\S*"
)  # the words in a link say nothing about the cause
# Errors because the provider could not parse the model's output. The request is not at fault.
MISTAKE = re.compile(
    r"tool_use_failed|json_validate_failed|output_parse_failed|tool call validation failed|did not call a tool"
    r"|failed to call a function|malformed_function_call"
)
# Messages about a fault of the request, from servers that report every fault as 500. A retry cannot help.
CLIENTS_FAULT = re.compile(
    r"invalid_request|param requires|jinja|(this|chat) template|grammar|not supported|unsupported|json.?schema"
    r"|at row \d|failed to (parse|decode|load) (the )?(input|image|tool|messages|prompt|request|grammar|schema)"
    r"|cannot make get request|must (be|have|contain|alternate)"
    r"|invalid (argument|parameter|type|value|role|message|request|schema)"
)
PAUSE = re.compile(
    r"(?:try|retry|wait)(?: your request)?(?: again)?(?: after| in| for)? (?:about )?((?:\d+(?:\.\d+)?\s*[a-zµ]+\s*)+)"
)
PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?)(?![a-z])")
SECONDS = {"ms": 0.001, "mi": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_PAUSE = 86_400.0  # seconds; a higher number is no time to wait
FILTER = re.compile(
    r"content.?(filter|policy|management|moderation)|responsible.?ai|data_inspection|moderation|flagged"
)
KEY = re.compile(r"(invalid|incorrect|missing|wrong).{0,20}api.?key|api key not valid")


WORDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (("content_filter", FILTER), ("billing", BILLING), ("auth", KEY))
CERTAIN = (401, 402, 408, 409, 413, 424, 425, 504, 524, 529)  # statuses that decide the cause without the message


class Rejection(Struct, frozen=True):
    """An error as the provider reported it.

    status: the HTTP status, or the status that the body of an error within a stream gives; `None` if unknown
    message: message for people
    kind: the error's own type, code and status in its body, in lower case
    words: the error's message, in lower case and without links
    text: the whole body, in lower case
    retry_after: seconds that the provider asks the client to wait; `None` if not given
    again: whether the provider says that the same request may be retried; `None` if not given
    wrote: the model's output that the provider could not parse; "" if not given
    midway: whether the error came with a success status, in a stream or in place of an answer; False by default
    """

    status: int | None
    message: str
    kind: str
    words: str
    text: str
    retry_after: float | None = None
    again: bool | None = None
    wrote: str = ""
    midway: bool = False

    @property
    def cause(self) -> Cause:
        """The error's cause, from its status and its words."""
        words = f"{self.kind} {self.words}"
        status = self.status
        if MISTAKE.search(words):
            return "invalid"
        if status == 429:
            return "billing" if BILLING.search(self.kind) or NO_MONEY.search(words) else "rate"
        if status in CERTAIN:
            return STATUSES[status]
        if TOKEN_LIMIT.search(words) and self.midway:
            return "truncated"  # the limit was reached while the model was answering
        if WINDOW.search(words):
            return "window"
        if status in (500, 501) and CLIENTS_FAULT.search(words):
            return "refused"
        if status is not None and status >= 500:
            return "server"
        return self._by_words(words)

    def _by_words(self, words: str) -> Cause:
        """Return the cause of an error whose status is missing or may have several causes.

        words: the error's type and message, in lower case
        """
        for cause, pattern in WORDS:
            if pattern.search(words):
                return cause
        if self.status is None:
            return next((cause for cause, kind in KINDS if kind.search(self.kind)), "server")
        return STATUSES.get(self.status, "refused")

    @property
    def window(self) -> int | None:
        """The model's window in tokens, if the request was too long and the error names the window; else `None`."""
        return told_window(self.words) or told_window(self.text) if self.cause == "window" else None

    def error(self, usage: Usage | None = None) -> ModelError:
        """Return the rejection as an error to raise. `usage`: what the call has used; `None` by default."""
        return ModelError(
            self.message,
            self.cause,
            status=self.status,
            retry_after=self.retry_after,
            usage=usage,
            window=self.window,
            again=self.again,
            wrote=self.wrote,
        )


def read_rejection(status: int, headers: Mapping[str, str], body: bytes, secret: str | None) -> Rejection:
    """Return the rejection in an HTTP response with an error status.

    secret: the API key, which is removed even if the provider repeats it; `None` for no key
    """
    text = hidden(body.decode("utf-8", "replace"), secret)
    value = _read(text)
    words = shortened(_message(value))
    message = f"HTTP {status} {_phrase(status)}".rstrip()
    if 300 <= status < 400:
        message += (
            f", a redirection to {hidden(headers.get('Location', ''), secret) or 'nowhere'}: set that as base_url"
        )
    elif words:
        message += f": {words}"
    found = Rejection(status, message, _kind(value), _plain(words), text.lower(), wrote=_wrote(value))
    pause = _retry_after(headers)
    return replace(
        found,
        retry_after=_pause_in(value, found) if pause is None else pause,
        again=AGAIN.get(headers.get("x-should-retry", "").strip().lower()),
    )


def read_problem(data: bytes, secret: str | None) -> Rejection:
    """Return the rejection in JSON that came with a success status, in a stream or in place of an answer.

    secret: the API key, which is removed even if the provider repeats it; `None` for no key
    """
    text = hidden(data.decode("utf-8", "replace"), secret)
    value = _read(text)
    words = shortened(_message(value))
    message = f"the provider reported: {words or 'an error without a word'}"
    found = Rejection(
        _status(value), message, _kind(value), _plain(words), text.lower(), wrote=_wrote(value), midway=True
    )
    return replace(found, retry_after=_pause_in(value, found))


def told_window(words: str) -> int | None:
    """Return the window in tokens that a refusal of a long request names; `None` if it names none.

    words: the refusal, in lower case
    """
    for found in LIMIT.finditer(words):
        window = int((found[1] or found[2] or found[3]).replace(",", "")[:12])
        if LEAST_WINDOW <= window <= MOST_WINDOW:
            return window
    return None


def hidden(text: str, secret: str | None) -> str:
    """Return the text with "[key]" in place of the secret; `None` for no secret."""
    return text.replace(secret, "[key]") if secret else text


def shortened(text: str) -> str:
    """Return the text as one line of at most `LONGEST_MESSAGE` characters, without control characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:10_000]).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _read(text: str) -> Any:
    """Return the value of a JSON text; for HTML the page's title, and for any other text the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _page(text) if text.lstrip()[:1] == "<" else text


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""


def _page(text: str) -> str:
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    return f'a web page, "{shortened(title[1])}"' if title and title[1].strip() else "a web page"


def _message(value: Any) -> str:
    """Return the message in a decoded error of any shape; "" if there is none.

    A router's error also holds the error of the provider behind it (`metadata.raw`), which is appended.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(words for item in value[:5] if (words := _message(item)))
    if isinstance(value, dict):
        words = next(
            (words for name in ("error", "message", "detail", "msg") if (words := _message(value.get(name)))), ""
        )
        behind = value.get("metadata")
        raw = behind.get("raw") if isinstance(behind, dict) else None
        return f"{words}: {raw}" if isinstance(raw, str) else words
    return ""


def _inner(value: Any) -> Any:
    """Return the innermost error object, without the lists and `error` fields around it."""
    while True:
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, dict) and isinstance(value.get("error"), dict | list):
            value = value["error"]
        else:
            return value


def _plain(words: str) -> str:
    """Return a message in lower case and without links, in which causes are searched."""
    return LINK.sub(" ", words.lower())


def _wrote(value: Any) -> str:
    """Return the model's output that its provider could not parse (Groq's `failed_generation`); "" if not given."""
    inner = _inner(value)
    wrote = inner.get("failed_generation") if isinstance(inner, dict) else None
    return wrote[:LONGEST_WRITTEN] if isinstance(wrote, str) else ""


def _pause_in(value: Any, rejection: Rejection) -> float | None:
    """Return the seconds to wait that an error's body gives, in a field or in its message; `None` if not given.

    value: the decoded body
    """
    for name, field in _fields(value, 0):
        if name in ("retrydelay", "retry_delay", "retry_after", "retryafter", "retry_after_seconds"):
            seconds = _duration(field)
        elif name in ("retry_after_ms", "retryafterms"):
            seconds = _duration(field)
            seconds = None if seconds is None else seconds / 1000
        else:
            continue
        if seconds is not None:
            return seconds
    if rejection.status not in (429, 503, 529) and not (rejection.midway and rejection.cause == "rate"):
        return None
    found = PAUSE.search(rejection.words)
    return None if found is None else _duration(found[1])


def _fields(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield each field of a decoded error as (name in lower case, value), down to `DEEPEST` levels.

    depth: the present level; 0 at the top
    """
    if depth > DEEPEST:
        return
    if isinstance(value, dict):
        for name, field in value.items():
            yield str(name).lower(), field
            yield from _fields(field, depth + 1)
    elif isinstance(value, list):
        for item in value[:20]:
            yield from _fields(item, depth + 1)


def _duration(value: Any) -> float | None:
    """Return the seconds in a number, or in a text such as `34.07s`, `6m0s` or `20 seconds`; `None` if unreadable."""
    if isinstance(value, dict):  # seconds and nanoseconds apart, as Google's libraries write them
        value = value.get("seconds")
    if isinstance(value, str):
        pieces = PIECE.findall(value.lower())
        if pieces:
            value = sum(float(number) * SECONDS.get(unit[:2], SECONDS.get(unit[:1], 1.0)) for number, unit in pieces)
        else:
            value = _float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= LONGEST_PAUSE else None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kind(value: Any) -> str:
    inner = _inner(value)
    if not isinstance(inner, dict):
        return ""
    return " ".join(str(inner[name]) for name in ("type", "code", "status") if inner.get(name)).lower()


def _status(value: Any) -> int | None:
    inner = _inner(value)
    code = inner.get("code") if isinstance(inner, dict) else None
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the headers give, as a number or a date; `None` if not given."""
    for name, scale in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        until = parsedate_to_datetime(headers.get("Retry-After", ""))
    except ValueError:
        return None
    try:  # the present by the provider's clock, to which the date in `Retry-After` refers
        now = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        now = datetime.now(UTC)
    return max(0.0, (_aware(until) - _aware(now)).total_seconds())


def _aware(date: datetime) -> datetime:
    return date if date.tzinfo else date.replace(tzinfo=UTC)
