"""Estimates the cost of a recipe for a question of a given length, layer by layer: typically, and at most.

"At most" is what a budget reserves. "Typically" is a guess: each model writes as many tokens as in its latest calls in
the store. A model without calls in the store writes half of its token limit, and no more than 700 tokens. The tokens
that a layer reads follow from what the layer before writes. Where a vote or an agreement saves calls, as many calls
count as earlier runs of the recipe made.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from partsong.events import AnyEvent, CallFinished, RunStarted
from partsong.model import Message, Text, Usage, asking
from partsong.model_info import ModelInfo
from partsong.money.costing import Calls, Costs, most_seen
from partsong.recipe import Layer, Recipe
from partsong.wire.tokens import TOKENS_A_MESSAGE, likely_tokens

RUNS = 20  # earlier runs of a recipe that tell how many of its calls are made
TYPICAL = 700  # most output tokens to assume for a model without calls in the store
MARKS = 30  # tokens of the marks around a proposal in the prompt of its reader


class Sum(Struct, frozen=True):
    """The tokens and dollars of some calls together; `dollars` is `None` if the price of one call is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    dollars: Decimal | None = Decimal(0)

    def __add__(self, other: "Sum") -> "Sum":
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Sum(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens, dollars)


class Row(Struct, frozen=True):
    """The cost of a layer, of the aggregator, or of a whole run.

    calls: number of calls
    typical: typical tokens and dollars
    most: most tokens and dollars
    """

    calls: int
    typical: Sum
    most: Sum


def is_counted(recipe: Recipe) -> bool:
    """Whether seats or the aggregator may be spared in a run, because answers are counted."""
    return recipe.aggregator.method == "vote" or any(layer.agree for layer in recipe.layers)


def shares_of(recipe: Recipe, runs: Iterable[Sequence[AnyEvent]]) -> tuple[Decimal, ...] | None:
    """The share of the planned calls that a run makes, for each layer and last for the aggregator.

    runs: the events of earlier runs; runs of other layers or of another aggregator are left out

    `None` if there is no such run.
    """
    planned = [*(len(layer.seats) for layer in recipe.layers), 1]
    asked, number = [0] * len(planned), 0
    for events in runs:
        first = events[0] if events else None
        if not isinstance(first, RunStarted):
            continue
        if (first.recipe.layers, first.recipe.aggregator) != (recipe.layers, recipe.aggregator):
            continue
        number += 1
        seats = {(event.layer, event.seat) for event in events if isinstance(event, CallFinished)}
        for layer, _ in seats:
            asked[layer] += 1
    if not number:
        return None
    return tuple(Decimal(calls) / (number * most) for calls, most in zip(asked, planned, strict=True))


class _Table(Struct, frozen=True):
    """What a layer finds: the number of proposals, and the typical tokens of the proposals and of the comments."""

    count: int = 0
    proposals: int = 0
    comments: int = 0

    def seen(self, layer: Layer | None) -> int:
        """The typical tokens that a seat of the layer reads of it; `None` stands for the aggregator."""
        seats = 1 if layer is None else sum(agent.samples for agent in layer.agents)
        shown = self.count if layer is None else most_seen(layer, self.count, seats)
        return shown and self.proposals * shown // self.count + self.comments


def is_priced(info: ModelInfo) -> bool:
    """Whether the model's price is known."""
    return info.dollars is not None and info.dollars(Usage(1, 1)) is not None


def rows_of(
    recipe: Recipe,
    tokens: int,
    info: Mapping[str, ModelInfo],
    usual: Mapping[str, int],
    shares: Sequence[Decimal] | None = None,
) -> list[Row]:
    """The cost of each layer, of the analyst if the recipe has one, and last of the aggregator.

    tokens: length of the question
    info: facts about each model of the recipe, by id
    usual: output tokens of a usual answer, by model id, for models with calls in the store
    shares: the share of its calls that a run typically makes, for each layer and last for the aggregator; `None`
        (default) for all of them
    """
    question = asking("0" * tokens)  # the estimate counts each digit as a token
    costs = Costs(
        recipe, question, {name: each if is_priced(each) else ModelInfo(each.window) for name, each in info.items()}
    )
    full = [[agent.samples for agent in layer.agents] for layer in recipe.layers]
    rows = []
    table = _Table()
    analyst = [] if costs.analyst is None else [[costs.analyst]]
    readings = [*costs.readings, *analyst, [] if costs.aggregator is None else [costs.aggregator]]
    layers = (*recipe.layers, *(None for _ in analyst), None)
    # The analyst is asked as often as the aggregator.
    made_share = (None,) * len(layers) if shares is None else (*shares, *(shares[-1] for _ in analyst))
    called_for = costs.calls(full), costs.layers(full)
    for layer, read_by, called, dollars, share in zip(layers, readings, *called_for, made_share, strict=True):
        told = table.seen(layer)
        typical, most, made = Sum(), Sum(), _Table()
        for calls, reading in zip(called, read_by, strict=True):
            said = typically(calls, usual)
            count = calls.count if share is None else calls.count * share
            read = tokens + TOKENS_A_MESSAGE + (told and told + likely(reading.brief.instruction))
            typical += times(count, read + likely(calls.agent.system), said, info[calls.agent.model])
            most += Sum(calls.most_asked, calls.most_said)
            made = _Table(made.count + calls.count, made.proposals + calls.count * (said + MARKS))
        priced = all(is_priced(info[name]) for calls in called for name in calls.agent.models)
        most += Sum(dollars=dollars.get("", Decimal(0)) if priced else None)
        rows.append(Row(made.count, typical, most))
        comments = layer is None or layer.comments  # an analysis stands beside the proposals as comments do
        table = _Table(table.count, table.proposals, table.comments + made.proposals) if comments else made
    return rows


def all_of(rows: Sequence[Row]) -> Row:
    """The sum of all rows, which is the cost of the whole run."""
    return Row(
        sum(row.calls for row in rows),
        sum((row.typical for row in rows), Sum()),
        sum((row.most for row in rows), Sum()),
    )


def typically(calls: Calls, usual: Mapping[str, int]) -> int:
    """The typical output tokens of each of these calls.

    usual: output tokens of a usual answer, by model id, for models with calls in the store
    """
    half = min(TYPICAL, -(-calls.said // 2))
    return min(usual.get(calls.agent.model, half), calls.said)


def times(count: int | Decimal, asked: int, said: int, info: ModelInfo) -> Sum:
    """The tokens and dollars of `count` calls, each with `asked` input tokens and `said` output tokens."""
    dollars = None if info.dollars is None else info.dollars(Usage(asked, said))
    return Sum(round(count * asked), round(count * said), None if dollars is None else count * dollars)


def likely(text: str) -> int:
    """The likely tokens of a system prompt or an instruction; 0 for an empty text."""
    return likely_tokens((Message("system", (Text(text),)),)) if text else 0
