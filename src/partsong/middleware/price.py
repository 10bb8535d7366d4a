"""Write the dollars of a call, once, from the tokens that the provider reported. Nobody else knows a price."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Send, Usage

Pricing = Callable[[Usage], Decimal | None]


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


def fixed(input_dollars: Decimal, output_dollars: Decimal) -> Pricing:
    """Prices that the user gave, in dollars per million tokens."""

    def dollars(usage: Usage) -> Decimal:
        return (usage.input_tokens * input_dollars + usage.output_tokens * output_dollars) / 1_000_000

    return dollars


def listed(base_url: str, model: str) -> Pricing:
    """List prices, from the table that genai-prices ships; unknown for a model or an address that is not in it.

    The table is imported here, when models are put together: a fifth of a second, which no running call should pay.
    """
    import genai_prices

    def dollars(usage: Usage) -> Decimal | None:
        tokens = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_input_tokens or None,
            output_tokens=usage.output_tokens,
        )
        try:
            return genai_prices.calc_price(tokens, model, provider_api_url=base_url).total_price
        except LookupError:
            return None

    return dollars
