"""What a call has used, as servers count it: OpenAI's fields, and what compatible ones leave out of them or add."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw, Struct

from partsong.model import Usage, billed

MOST_DOLLARS = 1_000_000  # for one call: what is more was no price


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | float | None = None
    cache_write_tokens: int | float | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | float | None = None


class Counted(Struct, gc=False):
    """A usage as it came."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | float | None = None
    cost: Raw = Raw()  # some mean dollars by it, others a table
    cost_details: Raw = Raw()
    is_byok: Any = None


class _CostDetails(Struct):
    upstream_inference_cost: Decimal


def count(counted: Counted) -> Usage | None:
    """What was counted, if anything was.

    Where the total is more than its parts, the difference is reasoning that was left out.
    """
    asked, said = int(counted.prompt_tokens or 0), int(counted.completion_tokens or 0)
    if not asked and not said:
        return None
    cached = counted.prompt_tokens_details.cached_tokens if counted.prompt_tokens_details else None
    written = counted.prompt_tokens_details.cache_write_tokens if counted.prompt_tokens_details else None
    thought = counted.completion_tokens_details.reasoning_tokens if counted.completion_tokens_details else None
    return Usage(
        asked,
        max(said, int(counted.total_tokens or 0) - asked),
        int(cached or counted.prompt_cache_hit_tokens or 0),
        int(thought or 0),
        _dollars(counted),
        cache_write_tokens=int(written or 0),
    )


def _dollars(counted: Counted) -> Decimal | None:
    """What the call has cost, to the digit, where the server says so, as OpenRouter does."""
    with suppress(msgspec.DecodeError):  # not there, or no number
        cost = msgspec.json.decode(counted.cost, type=Decimal)
        if counted.is_byok is True:  # the router was only paid its fee, and the model's provider elsewhere
            cost += msgspec.json.decode(counted.cost_details, type=_CostDetails).upstream_inference_cost
        if 0 <= cost < MOST_DOLLARS:
            return billed(cost)
    return None
