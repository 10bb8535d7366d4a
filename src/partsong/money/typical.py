"""Estimates the cost of a recipe for a question of a given length, layer by layer: typically, and at most.

"At most" is what a budget reserves. "Typically" is a guess: each model writes as many tokens as in its latest calls in
the store. A model without calls in the store writes half of its token limit, and no more than 700 tokens. The tokens
that a layer reads follow from what the layer before writes.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from msgspec import Struct

from partsong.model import Message, Text, Usage, asking
from partsong.model_info import ModelInfo
from partsong.money.costing import Calls, Costs
from partsong.recipe import Recipe
from partsong.wire.tokens import TOKENS_A_MESSAGE, likely_tokens

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


def is_priced(info: ModelInfo) -> bool:
    """Whether the model's price is known."""
    return info.dollars is not None and info.dollars(Usage(1, 1)) is not None


def rows_of(recipe: Recipe, tokens: int, info: Mapping[str, ModelInfo], usual: Mapping[str, int]) -> list[Row]:
    """The cost of each layer, of the analyst if the recipe has one, and last of the aggregator.

    tokens: length of the question
    info: facts about each model of the recipe, by id
    usual: output tokens of a usual answer, by model id, for models with calls in the store
    """
    question = asking("0" * tokens)  # the estimate counts each digit as a token
    costs = Costs(
        recipe, question, {name: each if is_priced(each) else ModelInfo(each.window) for name, each in info.items()}
    )
    full = [[agent.samples for agent in layer.agents] for layer in recipe.layers]
    analyst = () if costs.analyst is None else (costs.analyst,)
    readings = [*(costs.proposer for _ in recipe.layers), *analyst, costs.aggregator]
    rows = []
    told = 0  # typical tokens of what is read beside the question: the proposals of the layer before, and the analysis
    for reading, layer, dollars in zip(readings, costs.calls(full), costs.layers(full), strict=True):
        instruction = "" if reading is None else reading.brief.instruction
        read = tokens + TOKENS_A_MESSAGE + (told and told + likely(instruction))
        before, told = told, 0
        typical, most = Sum(), Sum()
        for calls in layer:
            said = typically(calls, usual)
            typical += times(calls.count, read + likely(calls.agent.system), said, info[calls.agent.model])
            most += Sum(calls.count * calls.asked, calls.count * calls.said)
            told += calls.count * (said + MARKS)
        if reading is not None and reading is costs.analyst:
            told += before  # the aggregator reads the proposals as well
        priced = all(is_priced(info[name]) for calls in layer for name in calls.agent.models)
        most += Sum(dollars=dollars.get("", Decimal(0)) if priced else None)
        rows.append(Row(sum(calls.count for calls in layer), typical, most))
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


def times(count: int, asked: int, said: int, info: ModelInfo) -> Sum:
    """The tokens and dollars of `count` calls, each with `asked` input tokens and `said` output tokens."""
    dollars = None if info.dollars is None else info.dollars(Usage(asked, said))
    return Sum(count * asked, count * said, None if dollars is None else count * dollars)


def likely(text: str) -> int:
    """The likely tokens of a system prompt or an instruction; 0 for an empty text."""
    return likely_tokens((Message("system", (Text(text),)),)) if text else 0
