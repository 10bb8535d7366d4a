"""The baselines that a mixture must beat: its best member alone, and several answers of this member for the same price.

A member is a model of the mixture with its settings. Every comparison includes the baselines, unless the user refuses
them. A mixture costs many calls, and as many calls to one good model are the real alternative (Self-MoA, arXiv
2502.00674). The best member is chosen on the prompts of the comparison, which favours the baselines a little.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from msgspec.structs import replace as with_fields

from partsong.bench.contestant import Contestant, alone, picking, proposing, sampling_anew
from partsong.bench.task import Output
from partsong.recipe import Agent, Layer, Recipe
from partsong.recipe import replace as changed

WRITTEN = 4  # number of input tokens that an output token counts as, if prices are unknown
MOST_SAMPLES = 64  # answers of one model in a baseline; more answers change almost nothing


def members(recipe: Recipe) -> dict[str, Agent]:
    """Return the members of a recipe by model id, as agents that propose once; empty for a recipe without layers.

    The aggregator's model is a member too. A model that occurs several times has the settings of its first occurrence.
    """
    if not recipe.layers:
        return {}
    agents = [*(agent for layer in recipe.layers for agent in layer.agents)]
    agents += [recipe.aggregator] if recipe.aggregator.models else []
    return {agent.model: proposing(agent) for agent in reversed(agents)}


def singles(recipes: Iterable[Recipe]) -> dict[str, dict[str, Contestant]]:
    """Return the members of each recipe as contestants that answer alone, by name of the recipe and of the contestant.

    Recipes that have a member with the same settings share one contestant. The name of a contestant is the model id. If
    another recipe has the model with other settings, the recipe's name is added.
    """
    taken: dict[str, Contestant] = {}
    found: dict[str, dict[str, Contestant]] = {}
    for recipe in recipes:
        mine = found[recipe.name] = {}
        for model, agent in members(recipe).items():
            name = model
            if name in taken and taken[name] != Contestant(alone(name, agent)):
                name = f"{model} of {recipe.name}"
            mine[name] = taken[name] = Contestant(alone(name, agent))
    return found


def baselines(
    recipe: Recipe, best: Agent, price: float, prices: Mapping[str, float], votes: bool
) -> dict[str, Contestant]:
    """Return the baselines of a recipe: several answers of its best member, and a Self-MoA of that member, by name.

    best: the best member
    price: price of one answer of the recipe, as from `price_of`
    prices: price of one answer of each member alone, by model id, in the unit of `price`
    votes: whether a vote over the final answers chooses the answer; if not, the member selects the best of its answers

    The number of answers is the number that costs as much as one answer of the recipe, from 2 to `MOST_SAMPLES`. The
    Self-MoA is left out if it is the recipe itself.
    """
    if votes:
        count = _as_many(price, prices[best.model])
        name = f"{best.model} × {count}, majority"
        found = {name: Contestant(alone(name, sampling_anew(best)), samples=count)}
    else:
        count = _as_many(price, prices[best.model] * (1 + reading(recipe, price, prices)))
        name = f"best of {best.model} × {count}"
        found = {name: picking(name, best, count)}
    itself = self_mixed(recipe, best, prices)
    if not _same_agents(itself, recipe):
        found[itself.name] = Contestant(itself)
    return found


def baselines_of(recipe: Recipe) -> int:
    """Return the number of baselines that several answers of one member give: 1 if the recipe is a Self-MoA, else 2."""
    return 1 if len(members(recipe)) == 1 else 2


def self_mixed(recipe: Recipe, best: Agent, prices: Mapping[str, float]) -> Recipe:
    """Return the recipe with its best member in all seats (Self-MoA). The aggregator stays the same.

    prices: price of one answer of each member alone, by model id

    Each layer gets the number of seats that costs the same as before, from 2 to `MOST_SAMPLES`.
    """
    layers = []
    for layer in recipe.layers:
        whole = sum(prices[agent.model] * agent.samples for agent in layer.agents)
        seats = _as_many(whole, prices[best.model])
        layers.append(Layer((with_fields(sampling_anew(best), samples=seats),), deadline=layer.deadline))
    return changed(recipe, name=f"Self-MoA of {best.model} for {recipe.name}", layers=tuple(layers))


def reading(recipe: Recipe, price: float, prices: Mapping[str, float]) -> float:
    """Return the price of selecting among answers, for each answer read, divided by the price of writing an answer.

    price: price of one answer of the recipe
    prices: price of one answer of each member alone, by model id, in the unit of `price`

    The result is estimated from the recipe's own aggregation: the part of `price` that its proposals do not cost. For a
    vote that asks no aggregator, it is a quarter, since a token that is read costs about a quarter of a written one.
    """
    if not recipe.aggregator.models:
        return 0.25
    proposed = sum(prices[agent.model] * agent.samples for layer in recipe.layers for agent in layer.agents)
    seats = len(recipe.layers[-1].seats)
    return max(0.0, price - proposed) / seats / prices[recipe.aggregator.model]


def _as_many(price: float, each: float) -> int:
    """Return the number of answers at the price `each` that cost `price` together, from 2 to `MOST_SAMPLES`."""
    return min(MOST_SAMPLES, max(2, round(price / each)))


def price_of(outputs: Sequence[Output], in_dollars: bool) -> float:
    """Return the mean price of an output.

    in_dollars: whether the unit is dollars; if not, the unit is input tokens

    In tokens, an output token counts as four input tokens, which is about the ratio of most price lists, and of the
    time that the tokens take.
    """
    if in_dollars:
        return float(sum((each.usage.dollars or Decimal(0) for each in outputs), Decimal(0))) / len(outputs)
    return sum(each.usage.input_tokens + WRITTEN * each.usage.output_tokens for each in outputs) / len(outputs)


def in_dollars(outputs: Iterable[Output]) -> bool:
    """Return whether every output has a known price above zero, so that prices can be compared in dollars."""
    return all(each.usage.dollars for each in outputs)


def family(model: str) -> str:
    """Return the family of a model, such as "Llama", guessed from the model's id.

    The family is needed because judges favour models of their own family. An unknown name gives the beginning of the
    name.
    """
    name = model.partition(":")[2].partition("?")[0].lower().rpartition("/")[2]
    for word, owner in FAMILIES.items():
        if word in name:
            return owner
    return name.split("-")[0].rstrip("0123456789.")


FAMILIES = {  # part of a model's name: family of the model
    "gpt": "OpenAI",
    "chatgpt": "OpenAI",
    "o1": "OpenAI",
    "o3": "OpenAI",
    "o4": "OpenAI",
    "claude": "Claude",
    "gemini": "Google",
    "gemma": "Google",
    "llama": "Llama",
    "qwen": "Qwen",
    "qwq": "Qwen",
    "mistral": "Mistral",
    "mixtral": "Mistral",
    "magistral": "Mistral",
    "wizardlm": "WizardLM",
    "deepseek": "DeepSeek",
    "grok": "Grok",
    "command": "Cohere",
    "phi": "Phi",
    "smollm": "SmolLM",
    "dbrx": "DBRX",
}


def related(judge: str, recipes: Iterable[Recipe]) -> list[str]:
    """Return the ids of the recipes' models that belong to the judge's family. `judge` is a model id."""
    models = dict.fromkeys(model for recipe in recipes for model in recipe.models)
    return [model for model in models if family(model) == family(judge)]


def _same_agents(one: Recipe, other: Recipe) -> bool:
    """Return whether the two recipes have the same models in the same seats; aggregators are not compared."""
    return [[agent.model for agent in layer.seats] for layer in one.layers] == [
        [agent.model for agent in layer.seats] for layer in other.layers
    ]
