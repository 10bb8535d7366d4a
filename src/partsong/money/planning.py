"""Makes a recipe fit the allowed money before anything is spent, by dropping seats until the worst case can be paid.

The order of dropping is fixed and described in docs/money.md, so that users can foresee it. No model is replaced by a
cheaper one, and the seats that stay are asked as the recipe says. Every plan is a valid recipe: an aggregator that
selects or takes a vote keeps a layer of at least two proposals, and so does a recipe with an analyst, or the run is
refused. A layer keeps as many seats as must agree, or is dropped. Comments are dropped together with the proposals that
they are about, and a layer that becomes the first has no proposals to see.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from msgspec.structs import replace

from partsong.errors import BudgetError
from partsong.events import Loss
from partsong.model import Conversation, Model
from partsong.model_info import ModelInfo, info_of
from partsong.money.budget import Dollars, dearest, provider_of, shown
from partsong.money.costing import Costs, Free, Read, Shape, added
from partsong.recipe import Agent, Layer, Recipe, needs_proposals
from partsong.recipe import replace as checked
from partsong.toolbox import NO_OFFERS, Offers
from partsong.wire.tokens import estimate

LEAST_SEATS = 2  # a layer keeps this many seats or is dropped as a whole: one proposal leaves nothing to compare

Drop = tuple[int, int]  # drops one sample of an agent: index of the layer, and index of the agent in it


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe whose worst case can be paid.

    recipe: the recipe without the dropped seats
    dropped: a loss for each dropped seat, with its layer and seat in the original recipe
    worst: most dollars that the run costs, by scope
    later: for each layer of `recipe`, for its analyst if it has one, and last for the aggregator, the dollars by scope
        to leave for later calls
    seats: for each layer of `recipe` that has `at_once`, the most dollars by scope of each seat; empty for others
    """

    recipe: Recipe
    dropped: tuple[Loss, ...]
    worst: Dollars
    later: tuple[Dollars, ...]
    seats: tuple[tuple[Dollars, ...], ...] = ()


def plan(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    caps: Dollars,
    free: Free | None = None,
    offers: Offers = NO_OFFERS,
) -> Plan:
    """The largest part of the recipe, in the fixed order of dropping, whose worst case the caps allow.

    models: a model for each id in `recipe.models`
    caps: most dollars by scope: "" for the whole run, a provider's name for its calls
    free: what is found of an earlier run; `None` (default) for nothing. Then no seat is dropped, since the seats that
        are found cost nothing, and keep their addresses
    offers: the tools that agents may use; where they are not known (default), they are taken to return much

    Raises `BudgetError` if a price is unknown, or if a strict recipe would lose a seat. Also raises `BudgetError` if
    not even the smallest part can be paid: the aggregator alone or, if it selects or takes a vote, or if an analyst
    compares, the aggregator with two proposals.
    """
    info = {name: info_of(models[name]) for name in recipe.models}
    _check_prices(recipe, info)
    costs = Costs(recipe, conversation, info, free, offers)
    full = [[agent.samples for agent in layer.agents] for layer in recipe.layers]
    if free is not None:
        if _over(costs.total(full), caps) is not None:
            raise BudgetError(f"{recipe.name}: {_comparison(costs.total(full), caps, 'what is asked again')}")
        return _planned(recipe, full, full, costs, caps)
    shape = _shrunk(full, recipe, costs, caps)
    if _over(costs.total(shape), caps) is not None or not (shape == full or _can_choose(recipe, shape)):
        raise BudgetError(_refusal(recipe, costs, full, shape, caps))
    if recipe.strict and shape != full:
        whole = _comparison(costs.total(full), caps)
        raise BudgetError(
            f"{recipe.name}: {whole}, and strict allows nothing to be dropped; allow more, or ask for less"
        )
    return _planned(recipe, full, shape, costs, caps)


def plan_analysis(
    recipe: Recipe, conversation: Conversation, models: Mapping[str, Model], proposals: Sequence[str], caps: Dollars
) -> Plan:
    """The plan of the recipe's analyst alone, which compares these proposals.

    models, caps: see `plan`

    Raises `BudgetError` if the caps do not allow the call, or if a price is unknown.
    """
    info = {name: info_of(models[name]) for name in recipe.models}
    _check_prices(recipe, info)
    costs = Costs(recipe, conversation, info)
    calls = costs.analysis(Read(len(proposals), sum(map(estimate, proposals))))
    worst = {} if calls is None else costs.cost(calls, calls.agent.sampling)
    if _over(worst, caps) is not None:
        raise BudgetError(f"{recipe.name}: {_comparison(worst, caps, 'the analysis')}")
    # Its turn comes after the layers: see `Funded.begin`.
    return Plan(recipe, (), worst, (*(worst for _ in recipe.layers), {}))


def _check_prices(recipe: Recipe, info: Mapping[str, ModelInfo]) -> None:
    """Raise `BudgetError` if the price of a model is unknown."""
    if unknown := [name for name in info if dearest(info[name], 1, 1) is None]:
        raise BudgetError(
            f"{recipe.name}: there is a budget, but the price of {', '.join(unknown)} is unknown; in partsong.toml, "
            f"say what a million tokens cost:{''.join(map(lines_for, unknown))}"
        )


def lines_for(name: str) -> str:
    """The lines of partsong.toml, with gaps to fill in, that give the price of the model with this id."""
    return f'\n\n[models."{name}"]\ninput_dollars_per_million = …\noutput_dollars_per_million = …'


def _shrunk(full: Shape, recipe: Recipe, costs: Costs, caps: Dollars) -> Shape:
    """The first shape that the caps allow, in the order of dropping; the smallest shape if they allow none."""

    def fits(shape: Shape, scopes: Dollars = caps) -> bool:
        return _over(costs.total(shape), scopes) is None

    if fits(full):
        return full
    shape = full
    # If a provider's own cap is too low, its seats are dropped, since dropping seats of other providers would not help.
    for provider in sorted(caps.keys() - {""}):
        its_own = {provider: caps[provider]}
        if not fits(shape, its_own):
            drops = list(_of_provider(recipe, shape, provider))
            shape = _agreeing(recipe, _fewest(shape, drops, partial(fits, scopes=its_own)))
    shape = _without_orphans(recipe, shape)
    if fits(shape) and _can_choose(recipe, shape):
        return shape
    least = [max(LEAST_SEATS, layer.agree or 0) for layer in recipe.layers]
    samples = list(_samples(shape, least))
    shape = _agreeing(recipe, _fewest(shape, [*samples, *_seats(_after(shape, samples), least)], fits))
    kept = _to_choose_from(recipe, shape) if _chooses(recipe) else None
    for index in reversed(range(len(shape))):
        if fits(shape) and (kept is None or _can_choose(recipe, shape)):
            break
        if index != kept:
            shape = [*shape[:index], [0] * len(shape[index]), *shape[index + 1 :]]
    return shape


def _without_orphans(recipe: Recipe, shape: Shape) -> Shape:
    """The shape without the layers of comments before which no proposal is left."""
    layers = enumerate(recipe.layers)
    first = next((index for index, layer in layers if any(shape[index]) and not layer.comments), len(shape))
    return [[0] * len(counts) if index < first else counts for index, counts in enumerate(shape)]


def _agreeing(recipe: Recipe, shape: Shape) -> Shape:
    """The shape without the layers that have too few seats left, or too few that can differ, to `agree`."""
    return [
        [0] * len(counts) if layer.agree and (sum(counts) < layer.agree or _voices(layer, counts) < 2) else counts
        for layer, counts in zip(recipe.layers, shape, strict=True)
    ]


def _voices(layer: Layer, counts: Sequence[int]) -> int:
    """The number of the layer's remaining seats that can differ."""
    agents = _agents(layer, counts)
    return Layer(agents).voices if agents else 0


def _chooses(recipe: Recipe) -> bool:
    """Whether two proposals are needed: to select, to take a vote, or for an analyst to compare."""
    return recipe.analyst is not None or needs_proposals(recipe.aggregator)


def _can_choose(recipe: Recipe, shape: Shape) -> bool:
    """Whether the aggregator has two proposals to choose from, which can differ if it counts votes, or needs none."""
    if not _chooses(recipe):
        return True
    proposing = (index for index, layer in enumerate(recipe.layers) if any(shape[index]) and not layer.comments)
    last = max(proposing, default=None)
    return last is not None and _is_choice(recipe, shape, last)


def _is_choice(recipe: Recipe, shape: Shape, index: int) -> bool:
    layer, counts = recipe.layers[index], shape[index]
    proposals = _voices(layer, counts) if recipe.aggregator.method == "vote" else sum(counts)
    return proposals >= LEAST_SEATS and not layer.comments


def _to_choose_from(recipe: Recipe, shape: Shape) -> int | None:
    """The first layer that is enough to choose from, which is never dropped; `None` if there is none."""
    return next((index for index in range(len(shape)) if _is_choice(recipe, shape, index)), None)


def _fewest(shape: Shape, drops: Sequence[Drop], enough: Callable[[Shape], bool]) -> Shape:
    """The shape after as few drops as are enough; after all drops if even these are not enough.

    drops: the drops, in their order
    enough: whether a shape is small enough
    """
    least, most = 0, len(drops)
    while least < most:
        middle = (least + most) // 2
        if enough(_after(shape, drops[:middle])):
            most = middle
        else:
            least = middle + 1
    return _after(shape, drops[:least])


def _after(shape: Shape, drops: Sequence[Drop]) -> Shape:
    """The shape after all these drops."""
    changed = [list(counts) for counts in shape]
    for layer, agent in drops:
        changed[layer][agent] -= 1
    return changed


def _of_provider(recipe: Recipe, shape: Shape, provider: str) -> Iterator[Drop]:
    """Drops for all seats that a model of the provider may have to answer, from the last seat to the first."""
    for layer_index in reversed(range(len(shape))):
        for agent_index, agent in reversed(list(enumerate(recipe.layers[layer_index].agents))):
            if any(provider_of(name) == provider for name in agent.models):
                yield from [(layer_index, agent_index)] * shape[layer_index][agent_index]


def _samples(shape: Shape, least: Sequence[int]) -> Iterator[Drop]:
    """Drops of repeated samples, while the layer has more than its least number of seats.

    least: number of seats that each layer keeps: two, or as many as must agree

    Each drop takes a sample of the agent with the most samples; if several agents have the most, of the last of them.
    """
    seats = [sum(counts) for counts in shape]
    # Negative numbers, since a heap gives its smallest entry first.
    most = [
        (-count, -layer_index, -agent_index)
        for layer_index, counts in enumerate(shape)
        for agent_index, count in enumerate(counts)
        if count > 1
    ]
    heapq.heapify(most)
    while most:
        count, layer_index, agent_index = heapq.heappop(most)
        if seats[-layer_index] <= least[-layer_index]:
            continue
        yield -layer_index, -agent_index
        seats[-layer_index] -= 1
        if count < -2:
            heapq.heappush(most, (count + 1, layer_index, agent_index))


def _seats(shape: Shape, least: Sequence[int]) -> Iterator[Drop]:
    """Drops of seats, until every layer has at most its least number of seats; see `_samples`.

    Each drop takes the last seat of the layer with the most seats; if several layers have the most, of the last layer.
    """
    counts = [list(layer) for layer in shape]
    seats = {index: sum(layer) for index, layer in enumerate(counts)}
    while larger := [(count, index) for index, count in seats.items() if count > least[index]]:
        count, index = max(larger)
        seats[index] = count - 1
        while not counts[index][-1]:
            counts[index].pop()
        counts[index][-1] -= 1
        yield index, len(counts[index]) - 1


def _planned(recipe: Recipe, full: Shape, shape: Shape, costs: Costs, caps: Dollars) -> Plan:
    layers = costs.layers(shape)
    backwards: list[Dollars] = [{}]  # from the aggregator, the last layer, to the first
    for dollars in reversed(layers[1:]):
        backwards.append(added([dollars, backwards[-1]]))
    later = tuple(reversed(backwards))
    left = recipe
    if shape != full:
        kept = [_smaller(layer, counts) for layer, counts in zip(recipe.layers, shape, strict=True) if any(counts)]
        if kept:
            kept[0] = replace(kept[0], sees="all")  # the first layer has no proposals to see
        left = checked(recipe, layers=tuple(kept))
    seats: tuple[tuple[Dollars, ...], ...] = ((),) * len(left.layers)
    if any(layer.at_once for layer in left.layers):
        # Where some seats are found, and cost nothing, no money is kept for single seats.
        found: list[list[dict[str, Decimal]]] = [[{}] * len(layer.seats) for layer in left.layers]
        each = costs.seats(shape) if costs.free is None else found
        seats = tuple(tuple(most) if layer.at_once else () for layer, most in zip(left.layers, each, strict=True))
    if shape == full:
        return Plan(recipe, (), added(layers), later, seats)
    message = f"it was not asked: {_comparison(costs.total(full), caps)}"
    dropped = tuple(_dropped(recipe, shape, message))
    return Plan(left, dropped, added(layers), later, seats)


def _dropped(recipe: Recipe, shape: Shape, message: str) -> Iterator[Loss]:
    for index, (layer, counts) in enumerate(zip(recipe.layers, shape, strict=True)):
        seat = 0
        for agent, count in zip(layer.agents, counts, strict=True):
            for sample in range(count, agent.samples):
                yield Loss(index, seat + sample, agent.model, "budget", message, "dropped")
            seat += agent.samples


def _agents(layer: Layer, counts: Sequence[int]) -> tuple[Agent, ...]:
    return tuple(
        agent if count == agent.samples else replace(agent, samples=count)
        for agent, count in zip(layer.agents, counts, strict=True)
        if count
    )


def _smaller(layer: Layer, counts: Sequence[int]) -> Layer:
    agents = _agents(layer, counts)
    quorum = None if layer.quorum is None else min(layer.quorum, sum(counts))
    return replace(layer, agents=agents, quorum=quorum)


def _refusal(recipe: Recipe, costs: Costs, full: Shape, smallest: Shape, caps: Dollars) -> str:
    """The error message that says why not even the smallest part of the recipe can be paid, with the worst cases."""
    whole = _comparison(costs.total(full), caps)
    if not recipe.layers:
        return f"{recipe.name}: {whole}; allow more, or ask for a shorter answer with max_tokens"
    if not _chooses(recipe):
        alone = [[0] * len(counts) for counts in full]
        return f"{recipe.name}: {_comparison(costs.total(alone), caps, 'the aggregator alone')}; {whole}"
    doing = {"select": "its aggregator selects one of", "vote": "its aggregator takes a vote among"}
    who = f"{recipe.name}: {doing.get(recipe.aggregator.method, 'its analyst compares')} the proposals"
    if not _can_choose(recipe, smallest):
        paid = max((sum(counts) for counts in smallest if any(counts)), default=0)
        can = "no proposal" if not paid else "only one proposal" if paid == 1 else "only seats that say the same"
        return f"{who} and needs two, but {can} can be paid; {whole}"
    part = f"{who}; with {sum(map(sum, smallest))} of them the run"
    return f"{_comparison(costs.total(smallest), caps, part)}; {whole}"


def _comparison(total: Dollars, caps: Dollars, what: str = "the whole recipe") -> str:
    """A clause that compares the most dollars of `what` with the first cap that they exceed."""
    scope = _over(total, caps) or ""
    where = f" with {scope}" if scope else ""
    return (
        f"{what} may cost {shown(total.get(scope, Decimal(0)))} dollars{where}, "
        f"but {shown(max(caps.get(scope, Decimal(0)), Decimal(0)))} are allowed"
    )


def _over(total: Dollars, caps: Dollars) -> str | None:
    """The first scope, by name, whose cap is exceeded; `None` if no cap is exceeded."""
    return next((scope for scope in sorted(caps) if total.get(scope, Decimal(0)) > caps[scope]), None)
