"""The baselines that a mixture must beat: its best member, and that member asked as often as the same money allows.

They are part of every comparison unless the user refuses them. A mixture costs many calls, and as many calls to one
good model are its real competitor (Self-MoA, arXiv 2502.00674). The best member is chosen on the prompts of the
comparison itself, which favours the baselines a little, and never the mixture.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from msgspec.structs import replace as with_fields

from partsong.bench.contestant import Contestant, alone, picking, proposing, sampling_anew
from partsong.bench.task import Output
from partsong.recipe import Agent, Layer, Recipe
from partsong.recipe import replace as changed

WRITTEN = 4  # input tokens that an output token counts as, where prices are unknown
MOST_SAMPLES = 64  # of a baseline; more samples change almost nothing


def members(recipe: Recipe) -> dict[str, Agent]:
    """The agents of a recipe by model id. A model that occurs several times has the settings of its first occurrence.

    A recipe without layers has none.
    """
    if not recipe.layers:
        return {}
    agents = [*(agent for layer in recipe.layers for agent in layer.agents), recipe.aggregator]
    return {agent.model: proposing(agent) for agent in reversed(agents)}


def singles(recipes: Iterable[Recipe]) -> dict[str, dict[str, Contestant]]:
    """For each recipe, its members as contestants of their own, by name. Recipes with equal members share them."""
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
    """The best member asked as often as the recipe's price allows, and a Self-MoA of that member.

    `price` is the price of an answer of the recipe, and `prices` that of each member alone, in the same unit. With
    `votes` the majority of the final answers is taken; otherwise the member picks the best of its own answers.
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


def self_mixed(recipe: Recipe, best: Agent, prices: Mapping[str, float]) -> Recipe:
    """The recipe with its best member in all seats; each layer has as many seats as cost the same as before."""
    layers = []
    for layer in recipe.layers:
        whole = sum(prices[agent.model] * agent.samples for agent in layer.agents)
        seats = _as_many(whole, prices[best.model])
        layers.append(Layer((with_fields(sampling_anew(best), samples=seats),), deadline=layer.deadline))
    return changed(recipe, name=f"Self-MoA of {best.model} for {recipe.name}", layers=tuple(layers))


def reading(recipe: Recipe, price: float, prices: Mapping[str, float]) -> float:
    """The price of reading a proposal and choosing, as a share of the price of the same model's own answer."""
    proposed = sum(prices[agent.model] * agent.samples for layer in recipe.layers for agent in layer.agents)
    seats = len(recipe.layers[-1].seats)
    return max(0.0, price - proposed) / seats / prices[recipe.aggregator.model]


def _as_many(price: float, each: float) -> int:
    return min(MOST_SAMPLES, max(2, round(price / each)))


def price_of(outputs: Sequence[Output], in_dollars: bool) -> float:
    """The mean price of an answer: in dollars, or in tokens if prices are unknown or zero.

    An output token then counts as four input tokens, which is about the ratio of most price lists, and of the time.
    """
    if in_dollars:
        return float(sum((each.usage.dollars or Decimal(0) for each in outputs), Decimal(0))) / len(outputs)
    return sum(each.usage.input_tokens + WRITTEN * each.usage.output_tokens for each in outputs) / len(outputs)


def in_dollars(outputs: Iterable[Output]) -> bool:
    """Whether every output has a price above zero."""
    return all(each.usage.dollars for each in outputs)


def family(model: str) -> str:
    """The family of a model, as far as its name shows. Judges favour models of their own family."""
    name = model.partition(":")[2].partition("?")[0].lower().rpartition("/")[2]
    for word, owner in FAMILIES.items():
        if word in name:
            return owner
    return name.split("-")[0].rstrip("0123456789.")


FAMILIES = {  # part of a name, and the family that it belongs to
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
    """The models of the recipes that are of the same family as the judge."""
    models = dict.fromkeys(model for recipe in recipes for model in recipe.models)
    return [model for model in models if family(model) == family(judge)]


def _same_agents(one: Recipe, other: Recipe) -> bool:
    """Whether the same models are in the same seats."""
    return [[agent.model for agent in layer.seats] for layer in one.layers] == [
        [agent.model for agent in layer.seats] for layer in other.layers
    ]
