"""What a run of a recipe costs for a question of a few sentences: typically, and at most. Unknown is `None`."""

from decimal import Decimal

from msgspec import Struct

from partsong.assembly import info_without_model
from partsong.errors import ConfigurationError, StoreError
from partsong.money.typical import all_of, rows_of
from partsong.recipe import Recipe
from partsong.server.service import Service

QUESTION = 300  # tokens: a few sentences; what is typed here is mostly as long


class Price(Struct, frozen=True):
    """Dollars."""

    typical: Decimal | None
    worst: Decimal | None


async def price_of(service: Service, recipe: Recipe) -> Price:
    """What it costs; nobody is asked."""
    try:
        info = {name: info_without_model(name, service.configuration) for name in recipe.models}
    except ConfigurationError:  # of a provider that there is not
        return Price(None, None)
    try:
        throughputs = await service.store.throughputs(recipe.models)
    except StoreError:
        throughputs = {}
    usual = {name: pace.tokens for name, pace in throughputs.items()}
    whole = all_of(rows_of(recipe, QUESTION, info, usual))
    return Price(whole.typical.dollars, whole.most.dollars)
