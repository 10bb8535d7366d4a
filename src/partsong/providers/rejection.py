"""What a provider said instead of answering, and which of our causes that is.

Providers agree on little: a wrong key is 401 here and 400 there, an empty account 402, 403 or 429, and the error's body
has a dozen shapes. So the words are looked for wherever they stand, and a status decides where it is unmistakable.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct

from partsong.errors import Cause, ModelError
from partsong.model import Usage

LONGEST_MESSAGE = 300  # characters of the provider's words that are passed on

STATUSES: dict[int, Cause] = {
    401: "auth",
    402: "billing",
    403: "auth",
    408: "timeout",
    413: "window",
    424: "server",  # what it depends on has failed
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
    r"context.?(length|window|size|limit)|prompt is too long|too many (input |prompt )?tokens|input token count"
    r"|\b(input|prompt|request)\b.{0,40}too (long|large)|reduce the length|max_model_len|model token limit"
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
FILTER = re.compile(
    r"content.?(filter|policy|management|moderation)|responsible.?ai|data_inspection|moderation|flagged"
)
KEY = re.compile(r"(invalid|incorrect|missing|wrong).{0,20}api.?key|api key not valid")


class Rejection(Struct, frozen=True):
    """An error as the provider reported it. `message` is for people.

    The rest is lower-case, to look things up in: what the error calls itself, what it says, and all of it.
    """

    status: int | None
    message: str
    kind: str
    words: str
    text: str
    retry_after: float | None = None

    @property
    def cause(self) -> Cause:
        """What it means to the caller."""
        words = f"{self.kind} {self.words}"
        status = self.status
        if status == 429:
            return "billing" if BILLING.search(self.kind) or NO_MONEY.search(words) else "rate"
        if status in (401, 402, 408, 413, 424, 504, 524, 529):
            return STATUSES[status]
        if WINDOW.search(words):
            return "window"
        if status is not None and status >= 500:
            return "server"
        if FILTER.search(words):
            return "content_filter"
        if BILLING.search(words):
            return "billing"
        if KEY.search(words):
            return "auth"
        if status is None:
            return next((cause for cause, kind in KINDS if kind.search(self.kind)), "server")
        return STATUSES.get(status, "refused")

    @property
    def window(self) -> int | None:
        """How many tokens the model reads, if that is what it says."""
        return told_window(self.words) or told_window(self.text) if self.cause == "window" else None

    def error(self, usage: Usage | None = None) -> ModelError:
        """The same as an error to raise."""
        return ModelError(
            self.message,
            self.cause,
            status=self.status,
            retry_after=self.retry_after,
            usage=usage,
            window=self.window,
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
    return Rejection(status, message, _kind(value), words.lower(), text.lower(), _retry_after(headers))


def read_problem(data: bytes, secret: str | None) -> Rejection:
    """The rejection in JSON that came with status 200: in the middle of a stream, or in place of an answer."""
    text = hidden(data.decode("utf-8", "replace"), secret)
    value = _read(text)
    words = shortened(_message(value))
    message = f"the provider reported: {words or 'an error without a word'}"
    return Rejection(_status(value), message, _kind(value), words.lower(), text.lower())


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
