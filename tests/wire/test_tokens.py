"""The estimate of tokens: high for whatever people send."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.model import Image, Message, Reasoning, Request, Text, Tool, ToolCall, ToolResult, asking
from partsong.wire.tokens import _PIECE, MOST_TOKENS_AN_IMAGE, TOKENS_A_MESSAGE, estimate, estimate_tokens

CODE = "for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; if (!p->q) return -1; }\n"
GERMAN = "Die Donaudampfschifffahrtsgesellschaft veröffentlichte gestern überraschend ihre Geschäftszahlen. "
RIGHTS = {
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। ",
    "am": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። ",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. ",
}


# What a vocabulary of 2023 to 2025 made of each text, the one of five that makes most of it: cl100k, o200k, DeepSeek's,
# Mistral's Tekken, Qwen's.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The quick brown fox jumps over the lazy dog, and nobody knows why it does so. " * 10, 181),
        (CODE * 10, 380),
        ("0123456789" * 100, 1000),
        ("3.14159,-2.71828;\n" * 100, 1600),
        ("😀😂🥲👍🏽🧑🏿‍🚀❤️🔥" * 10, 430),
        (GERMAN * 10, 301),
        *zip(
            (text * 10 for text in RIGHTS.values()),
            (841, 1041, 402, 520, 450, 351),
            strict=True,
        ),
    ],
)
def test_it_is_high_for_what_people_send(text: str, tokens: int) -> None:
    assert tokens <= estimate(text) <= 3 * tokens


def test_numbers_and_signs_are_a_token_each() -> None:
    assert estimate("1234567890") == 10
    assert estimate("{}[]();\n\t") == 9
    assert estimate("ABC") == 3
    assert estimate("") == 0
    assert estimate("a") == 1
    assert estimate("five a") == 3


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens_and_none_has_more_than_bytes(one: str, other: str) -> None:
    whole = estimate(one + other)
    assert max(estimate(one), estimate(other)) <= whole <= estimate(one) + estimate(other)
    assert estimate(one) <= len(one.encode("utf-8", "surrogatepass"))


def test_a_long_text_is_counted_in_pieces_to_the_same_sum() -> None:
    text = "".join(random.Random(1).choices("abc 1é漢😀", k=3 * _PIECE + 17))
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    assert estimate(text) == sum(map(estimate, pieces))
    assert estimate("\ud800") == 2  # half a pair is no text, and no reason to fail


def test_a_request_counts_all_that_is_sent() -> None:
    plain = estimate_tokens(Request(asking("Why?").messages))
    assert plain == estimate("Why?") + TOKENS_A_MESSAGE
    schema = json.dumps({"type": "object", "properties": {"town": {"type": "string"}}}).encode()
    for part, least in (
        (Image(b"x", "image/png"), MOST_TOKENS_AN_IMAGE),
        (Reasoning("Hm. " * 50), estimate("Hm. " * 50)),
        (Reasoning("", "c2ln" * 100), 200),
        (ToolCall("1", "weather", "{}" * 20), 40),
        (ToolResult("1", (Text("rain " * 9), Image(url="x"))), MOST_TOKENS_AN_IMAGE + estimate("rain " * 9)),
    ):
        assert estimate_tokens(Request((Message("user", (part,)),))) >= least
    tools = Request(asking("Why?").messages, tools=(Tool("weather", "It tells.", schema),))
    assert estimate_tokens(tools) > plain + estimate(schema.decode())
    shaped = Request(asking("Why?").messages, response_format=schema)
    assert estimate_tokens(shaped) == plain + estimate(schema.decode())
