"""`partsong cost`: what a question costs, layer by layer, before anybody is asked.

"At most" is what a budget reserves. "Typically" is a guess, and says of what: each model writes as much as it did of
late, as the store remembers, or else half of what it may, and no more than 700 tokens; what it reads follows from that.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from msgspec import Struct

from partsong.assembly import find_configuration, pricing
from partsong.budget import shown
from partsong.cli.journal import reading
from partsong.cli.loop import complete
from partsong.cli.table import print_table
from partsong.configuration import Configuration, Known
from partsong.costing import Calls, Costs
from partsong.errors import InputError, StoreError
from partsong.facts import Facts
from partsong.model import Message, Text, Usage, asking
from partsong.planning import lines_for
from partsong.prompts import instruction_for
from partsong.recipe import Recipe, find_recipe
from partsong.wire.tokens import TOKENS_A_MESSAGE, likely_tokens

TYPICAL = 700  # tokens of an answer that nothing more is known of
MARKS = 30  # tokens around a proposal, where another model reads it
MOST_PROMPT_TOKENS = 100_000_000


class Sum(Struct, frozen=True):
    """What some calls use; `dollars` is `None` where a price is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    dollars: Decimal | None = Decimal(0)

    def __add__(self, other: "Sum") -> "Sum":
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Sum(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens, dollars)


class Row(Struct, frozen=True):
    """A layer, the aggregator, or all of them."""

    calls: int
    typical: Sum
    most: Sum


def cost(
    recipe: Annotated[str, Parameter(help="A shipped recipe, or a TOML file.")],
    /,
    *,
    prompt_tokens: Annotated[int, Parameter(metavar="N", help="How many tokens the question has.")],
    json: Annotated[bool, Parameter(help="Print it as JSON.")] = False,
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Say what a question would cost, typically and at most; nobody is asked, and no key is needed."""
    if not 1 <= prompt_tokens <= MOST_PROMPT_TOKENS:
        raise InputError(f"--prompt-tokens is {prompt_tokens:,}, but must be from 1 to {MOST_PROMPT_TOKENS:,}")
    configuration = find_configuration(config)
    chosen = find_recipe(recipe)
    facts = {name: known_of(name, configuration) for name in chosen.models}
    rows = rows_of(chosen, prompt_tokens, facts, complete(usual_tokens(chosen.models)))
    everything = Row(
        sum(row.calls for row in rows),
        sum((row.typical for row in rows), Sum()),
        sum((row.most for row in rows), Sum()),
    )
    unknown = [name for name in chosen.models if not is_priced(facts[name])]
    if json:
        print(as_json(chosen, prompt_tokens, rows, everything, unknown))
        return 0
    names = [*(f"layer {number}" for number in range(len(rows) - 1)), "aggregator", "all"]
    print_table(
        ("", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"),
        [
            (name, f"{row.calls:,}", *cells(row.typical), *cells(row.most))
            for name, row in zip(names, (*rows, everything), strict=True)
        ],
    )
    if unknown:
        print(f"\nThe price of {', '.join(unknown)} is unknown. In partsong.toml, say what a million tokens cost:")
        print("".join(map(lines_for, unknown)).removeprefix("\n"))
    return 0


def cells(part: Sum) -> tuple[str, str, str]:
    dollars = "unknown" if part.dollars is None else shown(part.dollars)
    return f"{part.input_tokens:,}", f"{part.output_tokens:,}", dollars


def as_json(recipe: Recipe, tokens: int, rows: Sequence[Row], everything: Row, unknown: Sequence[str]) -> str:
    document: dict[str, Any] = {
        "recipe": recipe.name,
        "prompt_tokens": tokens,
        "layers": rows[:-1],
        "aggregator": rows[-1],
        "all": everything,
        "unknown_prices": unknown,
    }
    return msgspec.json.encode(document).decode()


def known_of(name: str, configuration: Configuration) -> Facts:
    """What is known of a model without making it."""
    known = configuration.models.get(name, Known())
    return Facts(window=known.window, dollars=pricing(name, configuration))


def is_priced(facts: Facts) -> bool:
    return facts.dollars is not None and facts.dollars(Usage(1, 1)) is not None


async def usual_tokens(names: Sequence[str]) -> Mapping[str, int]:
    """How much the models have written of late, as far as the store remembers."""
    try:
        async with reading() as store:
            paces = {} if store is None else await store.paces(names)
    except StoreError:
        return {}
    return {name: pace.tokens for name, pace in paces.items()}


def rows_of(recipe: Recipe, tokens: int, facts: Mapping[str, Facts], usual: Mapping[str, int]) -> list[Row]:
    """The layers, and last the aggregator."""
    question = asking("0" * tokens)  # each digit is a token, by our estimate
    costs = Costs(
        recipe, question, {name: each if is_priced(each) else Facts(each.window) for name, each in facts.items()}
    )
    full = [[agent.samples for agent in layer.agents] for layer in recipe.layers]
    instruction = instruction_for(recipe.layout) if recipe.instruction is None else recipe.instruction
    rows = []
    told = 0  # tokens of what the layer before has typically proposed
    for layer, dollars in zip(costs.calls(full), costs.layers(full), strict=True):
        read = tokens + TOKENS_A_MESSAGE + (told and told + likely(instruction))
        told, typical, most = 0, Sum(), Sum()
        for calls in layer:
            said = typically(calls, usual)
            typical += times(calls.number, read + likely(calls.agent.system), said, facts[calls.agent.model])
            most += Sum(calls.number * calls.asked, calls.number * calls.said)
            told += calls.number * (said + MARKS)
        priced = all(is_priced(facts[name]) for calls in layer for name in calls.agent.models)
        most += Sum(dollars=dollars[""] if priced else None)
        rows.append(Row(sum(calls.number for calls in layer), typical, most))
    return rows


def typically(calls: Calls, usual: Mapping[str, int]) -> int:
    """The tokens of an answer, if nothing is unusual."""
    half = min(TYPICAL, -(-calls.said // 2))
    return min(usual.get(calls.agent.model, half), calls.said)


def times(number: int, asked: int, said: int, facts: Facts) -> Sum:
    dollars = None if facts.dollars is None else facts.dollars(Usage(asked, said))
    return Sum(number * asked, number * said, None if dollars is None else number * dollars)


def likely(text: str) -> int:
    return likely_tokens((Message("system", (Text(text),)),)) if text else 0
