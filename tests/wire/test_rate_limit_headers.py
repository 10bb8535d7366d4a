"""What providers say about how much may be used: header sets as they come, and anything else ignored."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as some

from partsong.wire.rate_limit_headers import Quota, RateLimits, parse_rate_limit_headers

NOW = 1_790_000_000.0  # 2026-09-21, 14:13:20 UTC
DAY, MINUTE = 86_400.0, 60.0

TOLD = {
    "openai": (
        {
            "x-ratelimit-limit-requests": "5000",
            "x-ratelimit-limit-tokens": "160000",
            "x-ratelimit-remaining-requests": "4999",
            "x-ratelimit-remaining-tokens": "159976",
            "x-ratelimit-reset-requests": "12ms",
            "x-ratelimit-reset-tokens": "6m0s",
            "x-ratelimit-limit-project-tokens": "1",
        },
        RateLimits(Quota(5000, 4999, 0.012, None, True), Quota(160_000, 159_976, 360.0, None, True)),
    ),
    "groq": (
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-limit-tokens": "18000",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        RateLimits(Quota(14_400, 14_370, 179.56, None, True), Quota(18_000, 17_997, 7.66, None, True)),
    ),
    "anthropic": (
        {
            "Date": "Mon, 21 Sep 2026 14:13:10 GMT",  # their clock, 10 s behind ours
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:11Z",
            "anthropic-ratelimit-tokens-limit": "48000",
            "anthropic-ratelimit-tokens-remaining": "47000",
            "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:12Z",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-input-tokens-remaining": "39000",
            "anthropic-ratelimit-input-tokens-reset": "2026-09-21T10:13:13-04:00",
            "anthropic-ratelimit-output-tokens-limit": "8000",
            "anthropic-ratelimit-output-tokens-remaining": "8000",
            "anthropic-ratelimit-output-tokens-reset": "2026-09-21T14:13:10Z",
        },
        RateLimits(
            Quota(50, 49, 1.0, None, True),
            Quota(48_000, 47_000, 2.0, None, True),
            Quota(40_000, 39_000, 3.0, None, True),
            Quota(8000, 8000, 0.0, None, True),
        ),
    ),
    "mistral": (
        {
            "x-ratelimit-limit-tokens-minute": "5000000",
            "x-ratelimit-remaining-tokens-minute": "4999911",
            "x-ratelimit-tokens-query-cost": "52",
            "x-ratelimit-limit-req-minute": "720",
            "x-ratelimit-remaining-req-minute": "717",
        },
        RateLimits(Quota(720, 717, None, MINUTE), Quota(5_000_000, 4_999_911, None, MINUTE)),
    ),
    "mistral, as it was": (
        {
            "ratelimitbysize-limit": "500000",
            "ratelimitbysize-remaining": "499900",
            "ratelimitbysize-reset": "41",
            "ratelimitbysize-query-cost": "100",
            "x-ratelimitbysize-limit-month": "1000000000",
            "x-ratelimitbysize-remaining-month": "990000000",
        },
        RateLimits(tokens=Quota(500_000, 499_900, 41.0)),
    ),
    "cerebras": (
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "7",
            "x-ratelimit-reset-requests-day": "33011.382867",
            "x-ratelimit-limit-requests-minute": "30",
            "x-ratelimit-remaining-requests-minute": "29",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "59500",
            "x-ratelimit-reset-tokens-minute": "11.382867",
        },
        RateLimits(Quota(14_400, 7, 33_011.382867, DAY), Quota(60_000, 59_500, 11.382867, MINUTE)),
    ),
    "together": (
        {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "9",
            "x-ratelimit-reset": "1",
            "x-tokenlimit-limit": "3000",
            "x-tokenlimit-remaining": "2000",
            "x-ratelimit-limit-dynamic": "2",
        },
        RateLimits(Quota(10, 9, 1.0), Quota(3000, 2000)),
    ),
    "fireworks": (
        {
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-remaining-requests": "598",
            "x-ratelimit-limit-tokens-prompt": "60000",
            "x-ratelimit-remaining-tokens-prompt": "59000",
            "x-ratelimit-limit-tokens-generated": "6000",
            "x-ratelimit-limit-tokens-cache-adjusted-prompt": "9",
        },
        RateLimits(
            Quota(600, 598, steady=True),
            None,
            Quota(60_000, 59_000, steady=True),
            Quota(6000, None, steady=True),
        ),
    ),
    "openrouter": (
        {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW + 30:.0f}000"},
        RateLimits(Quota(20, 0, 30.0)),
    ),
    "github": (
        {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": f"{NOW + 5:.0f}"},
        RateLimits(Quota(60, 59, 5.0)),
    ),
    "azure": (
        {"x-ratelimit-remaining-requests": "9", "x-ratelimit-remaining-tokens": "9900"},
        RateLimits(Quota(None, 9, steady=True), Quota(None, 9900, steady=True)),
    ),
    "ietf": (
        {
            "RateLimit": '"burst";r=50;t=30, "daily";r=999',
            "RateLimit-Policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
        },
        RateLimits(Quota(100, 50, 30.0, MINUTE)),
    ),
    "ietf, other units": (
        {
            "RateLimit": '"a";r=5, "b";r=70',
            "RateLimit-Policy": '"a";q=9;w=1;qu="content-bytes", "b";q=80;w=60;qu="tokens"',
        },
        RateLimits(tokens=Quota(80, 70, None, MINUTE)),
    ),
    "ietf, draft 7": (
        {"RateLimit": "limit=100, remaining=50, reset=5", "RateLimit-Policy": "100;w=60"},
        RateLimits(Quota(100, 50, 5.0, MINUTE)),
    ),
    "ietf, draft 6": (
        {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "12", "RateLimit-Reset": "7"},
        RateLimits(Quota(100, 12, 7.0, MINUTE)),
    ),
}


@pytest.mark.parametrize("provider", TOLD)
def test_what_providers_say_is_understood(provider: str) -> None:
    headers, expected = TOLD[provider]
    assert parse_rate_limit_headers({"Content-Type": "application/json", **headers}, NOW) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("1m30.951s", 90.951), ("17", 17.0), ("0", 0)]
    + [("250µs", 0.00025), ("1d", DAY), (formatdate(NOW + 9, usegmt=True), 9.0), ("2026-09-21T14:13:00Z", 0.0)]
    + [
        (text, None)
        for text in ("", "soon", "1 s", "s", "-3", "1e9", "5x", "nan", "inf", "1s!", "2026-13-41T00:00:00Z")
    ],
)
def test_times_have_many_forms(text: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-limit-requests": "9", "x-ratelimit-reset-requests": text}
    allowance = parse_rate_limit_headers(headers, NOW)
    assert allowance is not None
    assert allowance.requests is not None
    assert allowance.requests.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json", "Date": "Mon, 21 Sep 2026 14:13:10 GMT"},
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-tokens": "-5"},
        {"x-ratelimit-limit-images": "5", "x-ratelimit-remaining-images": "4"},
        {"x-ratelimit-limit": "0"},
        {"x-ratelimit-reset": "30"},
        {"x-limit": "7", "ratelimit": "; ; =", "ratelimit-policy": '"'},
    ],
)
def test_where_nothing_is_said_there_is_no_allowance(headers: dict[str, str]) -> None:
    assert parse_rate_limit_headers(headers, NOW) is None


NAMES = sorted({name for headers, _ in TOLD.values() for name in headers} | {"RateLimit", "RateLimit-Policy", "Date"})
PIECES = some.sampled_from(
    ['"a"', ";", ",", "=", "r", "q=1", "w", "9" * 40, "1s", "ms", "-", ".", " ", "T", "Z", "\x00", "½"]
)
VALUES = some.text(max_size=40) | some.lists(PIECES, max_size=12).map("".join)


@given(some.dictionaries(some.sampled_from(NAMES), VALUES), some.floats(0, 1e10))
def test_garbage_is_never_a_fault(headers: dict[str, str], now: float) -> None:
    allowance = parse_rate_limit_headers(headers, now)
    for quota in (allowance.requests, allowance.tokens) if allowance else ():
        assert quota is None or quota.seconds is None or quota.seconds >= 0
