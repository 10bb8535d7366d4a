"""Usages that a call cannot have had are not believed, in both wire formats, and honest ones are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong import Request, Usage, asking
from partsong.model import Sampling
from partsong.wire import chat, messages
from partsong.wire.believing import HIDDEN, HIDDEN_BESIDE, READ_BESIDE
from partsong.wire.tokens import estimate, estimate_tokens

ANSWER = "Yes."
MOST = HIDDEN + 100 * estimate_tokens(Request(asking("Why?").messages)) + READ_BESIDE


def asked(max_tokens: int | None = None) -> Request:
    return Request(asking("Why?").messages, sampling=Sampling(max_tokens=max_tokens))


def of_chat(request: Request, **usage: Any) -> Usage:
    said = chat.Said()
    document = {"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}], "usage": usage}
    said.hear_whole(json.dumps(document).encode())
    return said.used(request)


def of_messages(request: Request, **usage: Any) -> Usage:
    said = messages.Said()
    document = {"content": [{"type": "text", "text": ANSWER}], "stop_reason": "end_turn", "usage": usage}
    said.hear_whole(json.dumps(document).encode())
    return said.used(request)


def used(api: str, request: Request, read: Any, wrote: Any) -> Usage:
    if api == "chat":
        return of_chat(request, prompt_tokens=read, completion_tokens=wrote)
    return of_messages(request, input_tokens=read, output_tokens=wrote)


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize(
    ("read", "wrote", "max_tokens"),
    [
        (9, 7, None),
        (494_549, 2_000, 4096),  # a provider's own search
        (9, 128_000, 100),  # reasoning that nobody sees, and no limit counts
        (9, 900_000, None),
        (1_900_000, 7, None),
        (9, HIDDEN_BESIDE + 4 * 50_000, 50_000),
    ],
)
def test_an_honest_usage_is_believed(api: str, read: int, wrote: int, max_tokens: int | None) -> None:
    assert used(api, asked(max_tokens), read, wrote) == Usage(read, wrote)


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("wrote", [HIDDEN_BESIDE + 1_000, 10**7, 10**9, 2**63, 2**64, 10**30, -1])
def test_more_output_than_can_be_is_estimated(api: str, wrote: int) -> None:
    usage = used(api, asked(max_tokens=100), 9, wrote)
    assert usage.output_tokens == estimate(ANSWER)
    assert usage.estimated
    assert usage.input_tokens == 9


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("read", [READ_BESIDE + 5_000, 10**7, 10**9, 10**30])
def test_more_input_than_can_be_is_estimated(api: str, read: int) -> None:
    usage = used(api, asked(), read, 7)
    assert usage.input_tokens == estimate_tokens(asked())
    assert usage.estimated


def test_cached_tokens_alone_do_not_make_an_absurd_prompt() -> None:
    usage = of_chat(asked(), prompt_tokens=9, completion_tokens=7, prompt_tokens_details={"cached_tokens": 10**8})
    assert (usage.input_tokens, usage.cached_input_tokens) == (estimate_tokens(asked()), 0)
    assert usage.estimated
    usage = of_messages(asked(), input_tokens=9, output_tokens=7, cache_read_input_tokens=10**8)
    assert (usage.input_tokens, usage.cached_input_tokens) == (estimate_tokens(asked()), 0)
    assert usage.estimated


@pytest.mark.parametrize("cost", [999_999, 1_000, 1e300, -1, True, "many"])
def test_a_price_that_no_call_has_is_none(cost: Any) -> None:
    assert of_chat(asked(), prompt_tokens=9, completion_tokens=7, cost=cost) == Usage(9, 7)


NUMBERS = st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5) | st.none() | st.booleans() | st.just([1])
CHAT = ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"]
MESSAGES = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]


@given(st.dictionaries(st.sampled_from(CHAT), NUMBERS), st.none() | st.integers(1, 1000))
def test_no_chat_usage_is_beyond_what_can_be(usage: dict[str, Any], max_tokens: int | None) -> None:
    check(of_chat(asked(max_tokens), **usage), max_tokens)


@given(st.dictionaries(st.sampled_from(MESSAGES), NUMBERS), st.none() | st.integers(1, 1000))
def test_no_usage_of_a_message_is_beyond_what_can_be(usage: dict[str, Any], max_tokens: int | None) -> None:
    check(of_messages(asked(max_tokens), **usage), max_tokens)


def check(usage: Usage, max_tokens: int | None) -> None:
    assert 0 <= usage.cached_input_tokens <= usage.input_tokens <= MOST
    assert 0 <= usage.cache_write_tokens <= usage.input_tokens
    most = HIDDEN if max_tokens is None else HIDDEN_BESIDE + 4 * max_tokens
    assert 0 <= usage.output_tokens <= most + 4 * len(ANSWER)
    assert 0 <= usage.reasoning_tokens <= most + 4 * len(ANSWER)
