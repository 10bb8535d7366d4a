"""The price of a run for a question of a few sentences: the typical one and the highest one."""

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from partsong.assembly import info_without_model
from partsong.errors import ConfigurationError, InputError, StoreError
from partsong.money.typical import RUNS, all_of, is_counted, rows_of, shares_of
from partsong.recipe import Recipe
from partsong.server.service import Service

QUESTION = 300  # tokens of a question of a few sentences


class Price(Struct, frozen=True):
    """The price of a run in dollars: the typical and the highest one. `None` if the price of a model is unknown."""

    typical: Decimal | None
    worst: Decimal | None


async def price_of(
    service: Service, recipe: Recipe, tokens: int = QUESTION, shares: Sequence[Decimal] | None = None
) -> Price:
    """The price of a run of the recipe. No model is called.

    tokens: tokens of the question (default: 300)
    shares: the share of the calls that are made, for each layer and last for the aggregator; `None` (default) for as
        many as earlier runs of the recipe have made
    """
    try:
        info = {name: info_without_model(name, service.configuration) for name in recipe.models}
    except ConfigurationError:  # the recipe names an unknown provider
        return Price(None, None)
    try:
        throughputs = await service.store.throughputs(recipe.models)
        known = await service.store.runs_of(recipe.name, RUNS) if is_counted(recipe) else []
    except (StoreError, InputError):
        throughputs, known = {}, []
    usual = {name: throughput.tokens for name, throughput in throughputs.items()}
    made = shares_of(recipe, known) if shares is None else shares
    whole = all_of(rows_of(recipe, tokens, info, usual, made))
    return Price(whole.typical.dollars, whole.most.dollars)
