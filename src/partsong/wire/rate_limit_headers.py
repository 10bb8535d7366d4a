"""Rate limits in the headers of responses: how many requests and tokens may be used, and until when.

Nearly every provider spells the headers differently. But all headers give a limit, a remainder or a reset time, for
requests or tokens, and some name a window such as a minute. So header names are split into words. A name with an
unknown word is ignored, because a misread quota would be worse than none. No function here raises.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Literal

from msgspec import Struct

Kind = Literal["requests", "tokens", "input_tokens", "output_tokens"]


class Quota(Struct, frozen=True):
    """One quota of requests or tokens; a field is `None` if the provider did not report it.

    limit: requests or tokens that may be used in one window
    remaining: requests or tokens that may still be used
    seconds: time until the whole limit may be used again
    window: length of the window in seconds
    steady: whether the quota refills continuously (a leaky bucket), and not all at once at the end of its window
    """

    limit: int | None = None
    remaining: int | None = None
    seconds: float | None = None
    window: float | None = None
    steady: bool = False


class RateLimits(Struct, frozen=True, omit_defaults=True):
    """The quotas in the headers of one response; `None` for a kind without a quota.

    If the headers have several quotas of one kind, such as for a minute and a day, the one with least left is kept.
    """

    requests: Quota | None = None
    tokens: Quota | None = None
    input_tokens: Quota | None = None
    output_tokens: Quota | None = None


FIELDS = frozenset({"limit", "remaining", "reset"})
WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}
KINDS: dict[frozenset[str], Kind] = {
    frozenset({"requests"}): "requests",
    frozenset({"request"}): "requests",
    frozenset({"req"}): "requests",
    frozenset({"tokens"}): "tokens",
    frozenset({"input", "tokens"}): "input_tokens",
    frozenset({"output", "tokens"}): "output_tokens",
    frozenset({"tokens", "prompt"}): "input_tokens",
    frozenset({"tokens", "generated"}): "output_tokens",
}
# What a quota counts if the header's name has no word for it after its first word.
FAMILIES: dict[str, Kind] = {"ratelimit": "requests", "tokenlimit": "tokens", "ratelimitbysize": "tokens"}
UNITS: dict[str, Kind] = {"": "requests", "requests": "requests", "tokens": "tokens"}

NUMBER = re.compile(r"\s*(\d{1,15})(?:\.\d*)?\s*(?:[,;]|$)")
SECONDS = re.compile(r"\d{1,15}(?:\.\d{1,12})?")
DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|d|h|m|s)")
SCALES = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
ITEM = re.compile(r'\s*(?:"([^"]*)"|([\w.-]+))((?:\s*;\s*[a-z]+\s*=\s*(?:"[^"]*"|[^;,\s]+))*)\s*(?:,|$)')
PARAMETER = re.compile(r'([a-z]+)\s*=\s*(?:"([^"]*)"|([^;,\s]+))')
# A reset above these numbers is no duration but a date, in seconds or in milliseconds since 1970.
EPOCH, EPOCH_IN_MILLISECONDS = 1e8, 1e11
LONGEST_VALUE = 1_000  # characters


def parse_rate_limit_headers(headers: Mapping[str, str], now: float) -> RateLimits | None:
    """Return the rate limits in the headers of a response; `None` if there are none.

    now: the time in seconds since 1970, from which a reset given as a date is measured if the response has no `Date`
    """
    told: dict[str, str] = {}
    for name in headers:
        if "limit" in (lower := name.lower()) and len(value := headers[name]) <= LONGEST_VALUE:
            told[lower] = value
    if not told:
        return None
    now = _date(headers.get("Date", headers.get("date", ""))) or now
    fields: dict[tuple[Kind, float | None, bool], dict[str, str]] = {}
    for name, value in told.items():
        if (place := _place(name)) is not None:
            kind, window, steady, field = place
            fields.setdefault((kind, window, steady), {})[field] = value
    quotas = [(kind, _quota(said, window, steady, now)) for (kind, window, steady), said in fields.items()]
    quotas += _structured(told.get("ratelimit", ""), told.get("ratelimit-policy", ""))
    least: dict[str, Quota] = {}
    for kind, quota in quotas:
        if quota.limit is None and quota.remaining is None:
            continue
        if kind not in least or _left(quota) < _left(least[kind]):
            least[kind] = quota
    return RateLimits(**least) if least else None


def _left(quota: Quota) -> tuple[float, float]:
    """Return a sort key by which the quota that will delay callers most comes first."""
    left = quota.limit if quota.remaining is None else quota.remaining
    return (left or 0, -(quota.seconds or quota.window or 0.0))


@lru_cache(256)
def _place(name: str) -> tuple[Kind, float | None, bool, str] | None:
    """Return the meaning of a header's name: (kind, window in seconds, whether the quota is steady, field).

    The field is one of `FIELDS`. Returns `None` for a name that is no rate limit or has an unknown word.
    """
    words = name.removeprefix("x-").removeprefix("anthropic-").replace("rate-limit", "ratelimit").split("-")
    family, field, window, rest = words[0], "", None, set[str]()
    if family not in FAMILIES:
        return None
    for word in words[1:]:
        if word in FIELDS and not field:
            field = word
        elif word in WINDOWS and window is None:
            window = WINDOWS[word]
        else:
            rest.add(word)
    kind = KINDS.get(frozenset(rest)) if rest else FAMILIES[family]
    if kind is None or not field:
        return None
    # A header that names requests or tokens but no window belongs to a leaky bucket, as OpenAI, Groq and Anthropic
    # document.
    return kind, window, bool(rest) and window is None, field


def _quota(said: Mapping[str, str], window: float | None, steady: bool, now: float) -> Quota:
    limit = said.get("limit", "")
    if window is None and ";" in limit and (parameter := re.search(r";\s*w(?:indow)?=(\d{1,9})", limit)):
        window = float(parameter[1]) or None
    return Quota(
        _count(limit) or None,  # servers that send a limit of 0 mean "no limit"
        _count(said.get("remaining", "")),
        _until(said.get("reset", ""), now),
        window,
        steady,
    )


def _structured(limits: str, policies: str) -> Iterator[tuple[Kind, Quota]]:
    """Yield the quotas in the headers `RateLimit` and `RateLimit-Policy` of all IETF drafts."""
    rules = dict(_items(policies))
    alone = next(iter(rules.values())) if len(rules) == 1 else {}
    if re.match(r"\s*(limit|remaining|reset)\s*=", limits):  # up to draft 7; the policy is named by its limit
        said = {name: word or plain for name, word, plain in PARAMETER.findall(limits)}
        window = _count(alone.get("w", ""))
        yield (
            "requests",
            Quota(
                _count(said.get("limit", "")) or None,
                _count(said.get("remaining", "")),
                _until(said.get("reset", ""), 0.0),
                float(window) if window else None,
            ),
        )
        return
    for name, said in _items(limits):
        rule = rules.get(name, {})
        kind = UNITS.get(rule.get("qu", ""))
        if kind is not None:
            window = _count(rule.get("w", ""))
            yield (
                kind,
                Quota(
                    _count(rule.get("q", "")) or None,
                    _count(said.get("r", "")),
                    _until(said.get("t", ""), 0.0),
                    float(window) if window else None,
                ),
            )


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    position = 0
    while position < len(text) and (item := ITEM.match(text, position)):
        yield item[1] or item[2] or "", {name: word or plain for name, word, plain in PARAMETER.findall(item[3])}
        position = item.end()


def _count(text: str) -> int | None:
    found = NUMBER.match(text)
    return int(found[1]) if found else None


def _until(text: str, now: float) -> float | None:
    """Return the seconds from `now` to a reset; `None` if the text cannot be read.

    The text may be a number of seconds, a duration such as `6m0s`, a number since 1970, or a date.
    """
    text = text.strip()
    if SECONDS.fullmatch(text):
        number = float(text)
        if number > EPOCH_IN_MILLISECONDS:
            number = number / 1000 - now
        elif number > EPOCH:
            number -= now
        return max(0.0, number)
    pieces = DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return sum(float(number) * SCALES[unit] for number, unit in pieces)
    date = _date(text)
    return None if date is None else max(0.0, date - now)


def _date(text: str) -> float | None:
    """Return a date in the form of RFC 3339 or of HTTP as seconds since 1970; `None` for any other text."""
    if not 10 <= len(text) <= 64:
        return None
    try:
        date = datetime.fromisoformat(text) if text[:4].isdecimal() else parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
