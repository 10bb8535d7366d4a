"""What a run finds of an earlier run: seats with their proposals or failures, and the analysis. All of it is free."""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from partsong.analysis import Analysis
from partsong.errors import ModelError
from partsong.events import Failure, Loss, ToolUsed
from partsong.model import Answer, Request, Send, Usage
from partsong.model_info import ModelInfo
from partsong.money.costing import Free
from partsong.recipe import Recipe

Address = tuple[int, int]  # index of a layer, and of a seat in it


class RecalledSeat(Struct, frozen=True):
    """A seat of an earlier run.

    model: id of the model that answered, or that was asked last
    answer: the proposal, with a usage of zero and the original usage in `stored`; `None` for a lost seat
    error: why the seat was lost; `None` for a seat with an answer, and for one that was not needed
    losses: losses of the seat that do not show in its answer
    uses: tool calls of the seat, whose sources are sources of the new run too
    """

    model: str
    answer: Answer | None
    error: Failure | None = None
    losses: tuple[Loss, ...] = ()
    uses: tuple[ToolUsed, ...] = ()


class RecalledAnalysis(Struct, frozen=True):
    """The analysis of an earlier run: its result, the id of the model that wrote it, and what that had used."""

    analysis: Analysis
    model: str
    usage: Usage


class Again(Struct, frozen=True):
    """What a new run finds of an earlier one.

    run: id of the earlier run
    seats: the seats that are found, by their addresses in the new run; all others are asked
    analysis: the analysis, if the proposals that it compares are all found; else `None`
    unasked: why no aggregator is asked, so that the answer is the proposal that is most like the others; `None`
        (default) to ask it
    """

    run: str
    seats: Mapping[Address, RecalledSeat]
    analysis: RecalledAnalysis | None = None
    unasked: Failure | None = None


def free_of(recipe: Recipe, again: Again) -> Free:
    """What of the recipe is found, for the planning of costs."""
    free: list[list[int]] = []
    for index, layer in enumerate(recipe.layers):
        owners = [place for place, agent in enumerate(layer.agents) for _ in range(agent.samples)]
        found = [owner for seat, owner in enumerate(owners) if (index, seat) in again.seats]
        free.append([found.count(place) for place in range(len(layer.agents))])
    return Free(free, again.analysis is not None)


class Unasked:
    """Stands for a model of the recipe that is not asked, because all its seats are found. Nothing of it is needed."""

    info = ModelInfo(dollars=lambda usage: Decimal(0))

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        raise ModelError("its seats were found again, so it cannot be asked", "refused")
