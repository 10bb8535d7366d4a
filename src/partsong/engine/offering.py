"""Which tools the agents of a run are offered, asked once before the run begins, and what is lacking told as losses."""

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from partsong.bounds import Bounds
from partsong.engine.losses import Losses
from partsong.engine.schemas import refused
from partsong.errors import ModelError, RecipeError
from partsong.ids import shown
from partsong.model import Conversation
from partsong.recipe import ANALYST_SEAT, Agent, Recipe
from partsong.toolbox import NO_OFFERS, Offer, Offers, Toolbox


async def offers_for(recipe: Recipe, toolbox: Toolbox | None, bounds: Bounds) -> Offers:
    """What the servers that the recipe names offer. A tool whose schema cannot be used is left out.

    Raises `RecipeError` if no tools were given to the run, or if a server is not configured.
    """
    if not recipe.tools:
        return NO_OFFERS
    if toolbox is None:
        names = ", ".join(map(shown, recipe.tools))
        raise RecipeError(f"{recipe.name}: its agents use the tools of {names}, but this run was given no tools")
    if unknown := [name for name in recipe.tools if name not in toolbox.names]:
        known = ", ".join(toolbox.names) or "none"
        raise RecipeError(
            f'{recipe.name}: tools: there is no server "{shown(unknown[0])}"; known: {known} (others go into'
            f" partsong.toml as [tools.{shown(unknown[0])}])"
        )
    offers = await asyncio.gather(*(_offer(toolbox, name, recipe.deadline) for name in recipe.tools))
    return {name: await _usable(offer, bounds) for name, offer in zip(recipe.tools, offers, strict=True)}


async def _offer(toolbox: Toolbox, name: str, seconds: float | None) -> Offer:
    """What a server offers. A server that takes longer to start than a run may take is started for later runs."""
    try:
        async with asyncio.timeout(seconds):
            return (await toolbox.offers((name,)))[name]
    except TimeoutError:
        return Offer(problem=f"it had not started within {seconds:g} s, the deadline of the run")


def note_lacking(recipe: Recipe, conversation: Conversation, offers: Offers, losses: Losses) -> None:
    """Note a loss for each seat whose agent must do without a server. Raises `ModelError` if the recipe is strict."""
    for (layer, seat), agent in _seats(recipe).items():
        if layer == len(recipe.layers) and seat == 0 and conversation.tools:
            continue  # the caller's tools stand in their place
        for name in agent.tools:
            if why := offers[name].problem:
                error = ModelError(f"without the tools of {name}: {why}", "refused")
                losses.add(layer, seat, agent.model, error, "shortened")


def _seats(recipe: Recipe) -> Mapping[tuple[int, int], Agent]:
    seats = {
        (index, seat): agent for index, layer in enumerate(recipe.layers) for seat, agent in enumerate(layer.seats)
    }
    last: dict[int, Any] = {0: recipe.aggregator, ANALYST_SEAT: recipe.analyst}
    return seats | {(len(recipe.layers), seat): agent for seat, agent in last.items() if agent is not None}


async def _usable(offer: Offer, bounds: Bounds) -> Offer:
    """The offer without tools whose schema is wrong, or would take too long to check."""
    tools = list(offer.tools)
    while (problem := await refused([each.tool.parameters for each in tools], bounds)) is not None:
        del tools[problem.index]
    if offer.tools and not tools:
        return Offer(problem="no schema of its tools can be used")
    return replace(offer, tools=tuple(tools))
