"""The usage that servers report: OpenAI's fields, and fields that compatible servers leave out, rename or add.

Costs err high: an implausible count is ignored, and an estimate replaces the count.
"""

from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from partsong.model import Usage, billed
from partsong.wire.believing import Believable
from partsong.wire.counts import MOST_USAGE, fields_of, first_count, parse_count
from partsong.wire.json import UNREADABLE

MOST_DOLLARS = 1_000  # for one call; a higher number is no price
LONGEST_PRICE = 64  # characters of a price; a longer number is no price
TICKS_A_DOLLAR = 10_000_000_000  # unit of xAI's `cost_in_usd_ticks`


class Counted(Struct, frozen=True):
    """A usage as the server reported it. Counts are in tokens.

    asked: input tokens; `None` if not reported
    said: output tokens, reasoning included; `None` if not reported
    cached: input tokens that were read from the provider's prompt cache
    written: input tokens that were written to the provider's prompt cache
    thought: output tokens of reasoning
    dollars: price of the call; `None` if not reported
    """

    asked: int | None
    said: int | None
    cached: int = 0
    written: int = 0
    thought: int = 0
    dollars: Decimal | None = None

    def after(self, earlier: "Counted | None") -> "Counted":
        """Merge this usage with an earlier usage of the same call: a count of 0 or `None` replaces nothing.

        Of two prices, the higher one counts.
        """
        if earlier is None:
            return self
        return Counted(
            self.asked or earlier.asked,
            self.said or earlier.said,
            self.cached or earlier.cached,
            self.written or earlier.written,
            self.thought or earlier.thought,
            earlier.dollars if self.dollars is None else max(self.dollars, earlier.dollars or self.dollars),
        )

    def believed(self, believable: Believable) -> "Counted":
        """Return the usage without the counts that are higher than the call can have used."""
        whole = self._counted(0, 0)
        asked, said = believable.asked(whole.input_tokens), believable.said(whole.output_tokens)
        return Counted(
            self.asked if asked else None,
            self.said if said else None,
            self.cached if asked else 0,
            self.written if asked else 0,
            self.thought if said and believable.said(self.thought) else 0,
            self.dollars,
        )

    def usage(self, asked: int, said: int) -> Usage:
        """Return a `Usage`, marked as estimated if a count is missing.

        asked, said: estimates of the input and output tokens, used for missing counts
        """
        estimated = self.asked is None or self.said is None
        return replace(self._counted(asked, said), estimated=estimated)

    def _counted(self, asked: int, said: int) -> Usage:
        read = asked if self.asked is None else self.asked
        # Some servers do not count cached tokens among the tokens of the prompt.
        read += self.cached if self.cached > read else 0
        read += self.written if self.written > read else 0
        wrote = said if self.said is None else self.said
        return Usage(read, wrote, self.cached, self.thought, self.dollars, cache_write_tokens=self.written)


def parse_usage(raw: Raw | bytes) -> Counted | None:
    """Return the counts in the JSON of a usage; `None` if it has no input or output tokens.

    If the total exceeds the sum of input and output, the difference is reasoning that the server did not count.
    """
    with suppress(*UNREADABLE):
        return parse_fields(msgspec.json.decode(raw))
    with suppress(*UNREADABLE):  # a number is too large to be decoded, so that each field is decoded alone
        return parse_fields({name: _value(field) for name, field in _fields(raw).items()})
    return None


def _fields(raw: Raw | bytes) -> dict[str, Raw]:
    return msgspec.json.decode(raw, type=dict[str, Raw])


def _value(field: Raw) -> Any:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(field)
    return None


def parse_fields(value: Any) -> Counted | None:
    """Return the counts in a decoded usage; `None` if it has no input or output tokens."""
    told = fields_of(value)
    asked, said = parse_count(told.get("prompt_tokens")), parse_count(told.get("completion_tokens"))
    if not asked and not said:
        return None
    prompt, completion = fields_of(told.get("prompt_tokens_details")), fields_of(told.get("completion_tokens_details"))
    total = parse_count(told.get("total_tokens"))
    if total is not None and asked is not None:
        said = max(said or 0, total - asked)
    return Counted(
        asked,
        said,
        first_count(
            (
                prompt.get("cached_tokens"),
                told.get("prompt_cache_hit_tokens"),
                told.get("cached_tokens"),
                told.get("num_cached_tokens"),
                told.get("cache_read_input_tokens"),
            )
        ),
        first_count((prompt.get("cache_write_tokens"), told.get("cache_creation_input_tokens"))),
        first_count((completion.get("reasoning_tokens"), told.get("reasoning_tokens"))),
    )


def parse_dollars(raw: Raw | bytes) -> Decimal | None:
    """Return the exact price of the call in the JSON of a usage, as OpenRouter, Perplexity and xAI report it.

    Returns `None` if the usage has no price.
    """
    with suppress(*UNREADABLE, InvalidOperation):
        told = _fields(raw)
        cost = _number(told.get("cost"))
        if cost is None:
            cost = _number(_fields(told.get("cost", b"{}")).get("total_cost"))
        elif bytes(told.get("is_byok", b"")) == b"true":
            # With the user's own key, `cost` is the router's fee alone, and the model's provider bills separately.
            details = _fields(told.get("cost_details", b""))
            upstream = _number(details.get("upstream_inference_cost"))
            cost = None if upstream is None else cost + upstream
        if cost is None and (ticks := _number(told.get("cost_in_usd_ticks"))) is not None:
            cost = ticks / TICKS_A_DOLLAR
        if cost is not None and 0 <= cost < MOST_DOLLARS:
            return billed(cost)
    return None


def _number(raw: Raw | bytes | None) -> Decimal | None:
    with suppress(*UNREADABLE):
        if raw is not None and len(bytes(raw)) <= LONGEST_PRICE:
            return msgspec.json.decode(raw, type=Decimal)
    return None


def count(raw: Raw | bytes) -> Counted | None:
    """Return the counts and the price in the JSON of a usage; `None` if it has no input or output tokens."""
    if len(bytes(raw)) > MOST_USAGE:
        return None
    counted = parse_usage(raw)
    dollars = parse_dollars(raw) if b'"cost' in bytes(raw) else None
    return counted if counted is None or dollars is None else replace(counted, dollars=dollars)
