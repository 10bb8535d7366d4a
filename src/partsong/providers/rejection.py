"""Errors that providers send instead of an answer, and the `Cause` of each.

Providers agree on little: a wrong key is 401 or 400, an empty account 402, 403 or 429, and the body of an error has a
dozen shapes. So the words are looked for wherever they stand, and the status decides only where it is unmistakable.
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

LONGEST_WRITTEN = 4_000  # characters of what the model had written
DEEPEST = 6  # steps into an error's body
AGAIN = {"true": True, "false": False}  # values of the header x-should-retry
LONGEST_MESSAGE = 300  # characters of the provider's words that are passed on

STATUSES: dict[int, Cause] = {
    401: "auth",
    402: "billing",
    403: "auth",
    408: "timeout",
    409: "server",  # a conflict that passes
    413: "window",
    424: "server",  # what it depends on has failed
    425: "server",  # too early
    429: "rate",
    504: "timeout",
    524: "timeout",  # the proxy in front of it has waited long enough
    529: "server",  # overloaded
}
# What an error calls itself, for those that come without a status: in the middle of a stream.
KINDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    ("auth", re.compile(r"auth|api_key|permission|forbidden")),
    ("rate", re.compile(r"rate_?limit|too_?many|resource_exhausted|throttl")),
    ("timeout", re.compile(r"timeout|timed_?out|deadline")),
    ("server", re.compile(r"server|internal|overload|unavailable|api_error")),
    ("refused", re.compile(r"invalid|not_?found|bad_?request|unsupported")),
)
# What the provider's words say, where a status is too broad to tell.
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
# How many tokens the model reads, in the words of those that say it.
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
LEAST_WINDOW, MOST_WINDOW = 256, 100_000_000  # tokens: what lies outside is no window but some other number
TOKEN_LIMIT = re.compile(r"token limit (was |has been |is )?(reached|exceeded)")
LINK = re.compile(r"(https?://|www\.)\S+|\b[\w.-]+\.(com|org|net|ai|dev|io)/\S*")  # what it is called tells no cause
# What a model has written and its provider could not use: no fault of the request's.
MISTAKE = re.compile(
    r"tool_use_failed|json_validate_failed|output_parse_failed|tool call validation failed|did not call a tool"
    r"|failed to call a function|malformed_function_call"
)
# What a server that reports every fault as 500 says of a fault of the request's. Asking again cannot help.
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
LONGEST_PAUSE = 86_400.0  # seconds: what is longer is no pause
FILTER = re.compile(
    r"content.?(filter|policy|management|moderation)|responsible.?ai|data_inspection|moderation|flagged"
)
KEY = re.compile(r"(invalid|incorrect|missing|wrong).{0,20}api.?key|api key not valid")


WORDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (("content_filter", FILTER), ("billing", BILLING), ("auth", KEY))
CERTAIN = (401, 402, 408, 409, 413, 424, 425, 504, 524, 529)  # statuses that tell the cause whatever the words


class Rejection(Struct, frozen=True):
    """An error as the provider reported it.

    status: the HTTP status, or the one that the error gives itself in the middle of a stream
    message: for people
    kind: what the error calls itself, in lower case
    words: what the error says, in lower case and without links
    text: all of it, in lower case
    retry_after: seconds to wait, if the provider says so
    again: whether the same request may be sent again, if the provider says so
    wrote: what the model had written that could not be used
    midway: whether the error came in place of an answer, or in the middle of one
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
        """What the error means to the caller."""
        words = f"{self.kind} {self.words}"
        status = self.status
        if MISTAKE.search(words):
            return "invalid"
        if status == 429:
            return "billing" if BILLING.search(self.kind) or NO_MONEY.search(words) else "rate"
        if status in CERTAIN:
            return STATUSES[status]
        if TOKEN_LIMIT.search(words) and self.midway:
            return "truncated"  # it had begun to answer
        if WINDOW.search(words):
            return "window"
        if status in (500, 501) and CLIENTS_FAULT.search(words):
            return "refused"
        if status is not None and status >= 500:
            return "server"
        return self._by_words(words)

    def _by_words(self, words: str) -> Cause:
        """The cause where the status is too broad to tell, or missing."""
        for cause, pattern in WORDS:
            if pattern.search(words):
                return cause
        if self.status is None:
            return next((cause for cause, kind in KINDS if kind.search(self.kind)), "server")
        return STATUSES.get(self.status, "refused")

    @property
    def window(self) -> int | None:
        """The model's window in tokens, if the error tells it."""
        return told_window(self.words) or told_window(self.text) if self.cause == "window" else None

    def error(self, usage: Usage | None = None) -> ModelError:
        """The rejection as an error to raise."""
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
    """The rejection in an HTTP response; `secret` does not appear in it, even if the provider repeats it."""
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
    """The rejection in JSON that came with status 200: in the middle of a stream, or in place of an answer."""
    text = hidden(data.decode("utf-8", "replace"), secret)
    value = _read(text)
    words = shortened(_message(value))
    message = f"the provider reported: {words or 'an error without a word'}"
    found = Rejection(
        _status(value), message, _kind(value), _plain(words), text.lower(), wrote=_wrote(value), midway=True
    )
    return replace(found, retry_after=_pause_in(value, found))


def told_window(words: str) -> int | None:
    """The window in a provider's words, in lower case, on a request that is too long; `None` where it gives none."""
    for found in LIMIT.finditer(words):
        window = int((found[1] or found[2] or found[3]).replace(",", "")[:12])
        if LEAST_WINDOW <= window <= MOST_WINDOW:
            return window
    return None


def hidden(text: str, secret: str | None) -> str:
    """The text without the secret."""
    return text.replace(secret, "[key]") if secret else text


def shortened(text: str) -> str:
    """One line, not too long, without what a terminal would obey."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:10_000]).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _read(text: str) -> Any:
    """JSON as its value, and anything else as words."""
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
    """The words in an error, whatever its shape. A router's own error holds that of the provider behind it."""
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
    """The error itself, out of the list or the object around it."""
    while True:
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, dict) and isinstance(value.get("error"), dict | list):
            value = value["error"]
        else:
            return value


def _plain(words: str) -> str:
    """Words to look causes up in: in lower case, without links."""
    return LINK.sub(" ", words.lower())


def _wrote(value: Any) -> str:
    """What the model had written that its provider could not use, as Groq shows it."""
    inner = _inner(value)
    wrote = inner.get("failed_generation") if isinstance(inner, dict) else None
    return wrote[:LONGEST_WRITTEN] if isinstance(wrote, str) else ""


def _pause_in(value: Any, rejection: Rejection) -> float | None:
    """The seconds to wait that the body of an error tells: in Google's `RetryInfo`, in a field, or in words."""
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
    """The fields of an error, at any place in it that is not too deep."""
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
    """Seconds, out of a number, or of words such as `34.07s`, `6m0s` and `20 seconds`."""
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
    """The seconds that the provider asks us to wait, whichever way it says so."""
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
    try:  # by the provider's clock, as its date is
        now = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        now = datetime.now(UTC)
    return max(0.0, (_aware(until) - _aware(now)).total_seconds())


def _aware(date: datetime) -> datetime:
    return date if date.tzinfo else date.replace(tzinfo=UTC)
