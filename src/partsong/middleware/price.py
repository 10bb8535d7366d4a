"""The dollars of a call, computed once from the tokens that the provider reported. No other module knows a price.

Prices come from the configuration or from the table that genai-prices ships. Cached input and cache writes have prices
of their own. Reasoning is billed as output unless the table says otherwise. Pictures are input tokens like any other,
as providers of chat models bill them. Each call is rounded once, so that sums are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Send, Usage, billed

Pricing = Callable[[Usage], Decimal | None]
CACHE_WRITE = Decimal("1.25")  # of the input's price: what providers that bill for writing to their cache take


@dataclass(frozen=True, slots=True)
class Price:
    """A model whose usage is priced. Dollars that the model reported itself stand; an unknown price stays unknown."""

    model: Model
    pricing: Pricing

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        try:
            answer = await self.model(request, send)
        except ModelError as error:
            error.usage = error.usage and self.priced(error.usage)
            raise
        return replace(answer, usage=self.priced(answer.usage))

    def priced(self, usage: Usage) -> Usage:
        return usage if usage.dollars is not None else replace(usage, dollars=self.pricing(usage))


def fixed(input_dollars: Decimal, output_dollars: Decimal, cached_dollars: Decimal | None = None) -> Pricing:
    """Prices that the user gave, in dollars per million tokens; cached input costs like any other, if not said."""
    reading = input_dollars if cached_dollars is None else cached_dollars

    def dollars(usage: Usage) -> Decimal:
        cached, written = _parts_of_input(usage)
        asked = (usage.input_tokens - cached - written + written * CACHE_WRITE) * input_dollars
        return billed((asked + cached * reading + usage.output_tokens * output_dollars) / 1_000_000)

    return dollars


def listed(base_url: str, model: str) -> Pricing:
    """List prices, from the table that genai-prices ships; unknown for a model or an address that is not in it.

    The table is imported here, when models are put together: a fifth of a second, which no running call should pay, and
    no run whose models are all priced otherwise.
    """
    import genai_prices

    def dollars(usage: Usage) -> Decimal | None:
        cached, written = _parts_of_input(usage)
        tokens = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=cached or None,
            cache_write_tokens=written or None,
            output_tokens=usage.output_tokens,
            output_reasoning_tokens=min(usage.reasoning_tokens, usage.output_tokens) or None,
        )
        try:
            price = genai_prices.calc_price(tokens, model, provider_api_url=base_url)
        except LookupError:
            return None
        known = price.model_price
        if known.input_mtok is None or (known.output_mtok is None and usage.output_tokens):
            # It is billed by the minute or the request, or nobody has said how; `:free` is how routers say that it is.
            return Decimal(0) if model.endswith(":free") else None
        return billed(price.total_price)

    return dollars


def _parts_of_input(usage: Usage) -> tuple[int, int]:
    """The input tokens that were read from a cache, and those written to a cache; never more than all input tokens."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    return cached, min(usage.cache_write_tokens, usage.input_tokens - cached)
