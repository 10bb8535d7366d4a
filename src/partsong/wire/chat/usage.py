"""What a call has used, as servers count: OpenAI's fields, and what compatible servers leave out, rename or add.

Money errs high: a count that cannot be right is not counted, and an estimate stands in its place.
"""

from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from partsong.model import Usage, billed
from partsong.wire.counts import fields_of, first_count, parse_count
from partsong.wire.json import UNREADABLE

MOST_DOLLARS = 1_000_000  # for one call: what is more was no price
TICKS_A_DOLLAR = 10_000_000_000  # of xAI's `cost_in_usd_ticks`


class Counted(Struct, frozen=True):
    """A usage as it came. `asked` and `said` are `None` where they were not counted."""

    asked: int | None
    said: int | None
    cached: int = 0
    written: int = 0
    thought: int = 0
    dollars: Decimal | None = None

    def after(self, earlier: "Counted | None") -> "Counted":
        """This count where something was counted, else the earlier one: a later 0 replaces nothing."""
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

    def usage(self, asked: int, said: int) -> Usage:
        """The usage, with estimates of the tokens read and written for what was not counted."""
        estimated = self.asked is None or self.said is None
        return replace(self._counted(asked, said), estimated=estimated)

    def _counted(self, asked: int, said: int) -> Usage:
        read = asked if self.asked is None else self.asked
        # Some servers count what their cache holds apart from the prompt.
        read += self.cached if self.cached > read else 0
        read += self.written if self.written > read else 0
        wrote = said if self.said is None else self.said
        return Usage(read, wrote, self.cached, self.thought, self.dollars, cache_write_tokens=self.written)


def parse_usage(raw: Raw | bytes) -> Counted | None:
    """What a usage counts, if anything.

    Where the total is more than its parts, the difference is reasoning that was left out.
    """
    with suppress(*UNREADABLE):
        return parse_fields(msgspec.json.decode(raw))
    with suppress(*UNREADABLE):  # a number in it is beyond all numbers
        return parse_fields({name: _value(field) for name, field in _fields(raw).items()})
    return None


def _fields(raw: Raw | bytes) -> dict[str, Raw]:
    return msgspec.json.decode(raw, type=dict[str, Raw])


def _value(field: Raw) -> Any:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(field)
    return None


def parse_fields(value: Any) -> Counted | None:
    """What a usage that was decoded counts, if anything."""
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
    """What the call has cost, to the digit, where the server says so: OpenRouter, Perplexity and xAI do."""
    with suppress(*UNREADABLE, InvalidOperation):
        told = _fields(raw)
        cost = _number(told.get("cost"))
        if cost is None:
            cost = _number(_fields(told.get("cost", b"{}")).get("total_cost"))
        elif bytes(told.get("is_byok", b"")) == b"true":
            # The router was only paid its fee, and the model's provider elsewhere.
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
        return None if raw is None else msgspec.json.decode(raw, type=Decimal)
    return None


def count(raw: Raw | bytes) -> Counted | None:
    """What a usage counts and costs, if anything was counted."""
    counted = parse_usage(raw)
    dollars = parse_dollars(raw) if b'"cost' in bytes(raw) else None
    return counted if counted is None or dollars is None else replace(counted, dollars=dollars)
