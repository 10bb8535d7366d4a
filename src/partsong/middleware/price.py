"""Computes the price of a call in dollars from the tokens that the provider reported. No other module knows prices.

Prices come from the configuration or from the table in the package genai-prices. Cached input and cache writes have
prices of their own. Reasoning is billed as output unless the table says otherwise. Images count as input tokens, as
providers of chat models bill them. The price of each call is rounded once, so that sums are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Send, Usage, billed

Pricing = Callable[[Usage], Decimal | None]  # from a usage to dollars; `None` for an unknown price
CACHE_WRITE = Decimal("1.25")  # price of a token written to the cache, as a multiple of the price of an input token


@dataclass(frozen=True, slots=True)
class Price:
    """A model whose usages have a price in dollars, also those of failed calls.

    A price that the provider reported is kept. A price that `pricing` does not know stays `None`.
    """

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
        """Return the usage with its price."""
        return usage if usage.dollars is not None else replace(usage, dollars=self.pricing(usage))


def fixed(input_dollars: Decimal, output_dollars: Decimal, cached_dollars: Decimal | None = None) -> Pricing:
    """Return the pricing of prices that the user has configured, in dollars per million tokens.

    cached_dollars: price of input from the provider's prompt cache; `None` (default) for the price of other input
    """
    reading = input_dollars if cached_dollars is None else cached_dollars

    def dollars(usage: Usage) -> Decimal:
        cached, written = _parts_of_input(usage)
        asked = (usage.input_tokens - cached - written + written * CACHE_WRITE) * input_dollars
        return billed((asked + cached * reading + usage.output_tokens * output_dollars) / 1_000_000)

    return dollars


def listed(base_url: str, model: str) -> Pricing:
    """Return the pricing of list prices, from the table in the package genai-prices.

    base_url: the address of the provider's API
    model: the model's name at the provider

    The price is `None` if the table has no such model or address. The table is imported when models are made, and only
    if a model needs it. The import takes a fifth of a second, by which no call may be delayed.
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
            # The price is not by the token, or unknown. Routers end the names of free models in `:free`.
            return Decimal(0) if model.endswith(":free") else None
        return billed(price.total_price)

    return dollars


def _parts_of_input(usage: Usage) -> tuple[int, int]:
    """Return the input tokens read from the prompt cache and those written to it; together at most all input tokens."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    return cached, min(usage.cache_write_tokens, usage.input_tokens - cached)
