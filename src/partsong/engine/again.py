"""Begins a new run with what an earlier one has: its proposals are found again, and only what is new is asked.

Whatever has read a proposal depends on it. If a lost seat of a layer is asked again, or a seat is left out, all later
layers are asked anew. The other seats of the layer, and those of the layers before, are found: each is told as a call
that came from the store, at the price of nothing. A seat that was lost stays lost unless it is asked again.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from partsong.analysis import LEAST_PROPOSALS
from partsong.engine.analyst import Comparison
from partsong.engine.performance import Proposal
from partsong.engine.recalled import Address, Again, RecalledAnalysis, RecalledSeat
from partsong.errors import InputError
from partsong.events import Failure
from partsong.model import NOTHING_USED, Conversation
from partsong.recipe import ANALYST_SEAT, Agent, Aggregator, Analyst, Layer, Method, Recipe
from partsong.recipe import replace as checked
from partsong.transcript import Seat, Transcript


class Changes(Struct, frozen=True, forbid_unknown_fields=True):
    """What a new run does otherwise than the earlier one.

    aggregator: id of the model that aggregates; `None` (default) for the earlier one
    method: the aggregator's method; `None` (default) for the earlier one
    without: seats of the earlier run that are left out (default: none)
    retry: lost seats of the earlier run that are asked again (default: none)
    best: whether the answer is the proposal that is most like the others, and no aggregator is asked (default: no)
    """

    aggregator: str | None = None
    method: Method | None = None
    without: tuple[Address, ...] = ()
    retry: tuple[Address, ...] = ()
    best: bool = False


def begin_again(run: str, earlier: Transcript, changes: Changes) -> tuple[Recipe, Conversation, Again]:
    """The recipe and the conversation of a new run, and what it finds again.

    run: id of the earlier run
    earlier: the earlier run, as far as it has come

    Raises `InputError` if the changes name no seat of the earlier run, or if the new run would be no run.
    """
    if earlier.recipe is None or earlier.conversation is None:
        raise InputError(f"run {run} has not begun, so there is nothing to go on from")
    before = earlier.recipe
    _check(before, earlier, changes)
    # The first layer in which something is new. All layers after it are asked anew.
    new = min((layer for layer, _ in (*changes.without, *changes.retry)), default=len(before.layers))
    seats: dict[Address, RecalledSeat] = {}
    layers: list[Layer] = []
    for index, layer in enumerate(before.layers):
        kept = [seat for seat in range(len(layer.seats)) if (index, seat) not in changes.without]
        found = _found(earlier, index, kept, changes.retry) if index <= new else {}
        if found and len(found) == len(kept) and not any(seat.answer for seat in found.values()):
            raise InputError(f"every seat of layer {index} was lost in run {run}; ask some of them again")
        if len(found) < len(kept):
            new = min(new, index)
        seats |= {(index, seat): recalled for seat, recalled in found.items()}
        layers.append(_without(layer, kept, partly=0 < len(found) < len(kept)))
    recipe = checked(before, layers=tuple(layers), aggregator=_aggregator(before.aggregator, changes))
    analysis = _analysis(earlier) if new == len(layers) else None
    if not changes.best:
        return recipe, earlier.conversation, Again(run, seats, analysis)
    # Nobody reads an analysis then, and what the reader wants is no loss that a strict recipe refuses.
    recipe = checked(recipe, analyst=None, strict=False)
    return recipe, earlier.conversation, Again(run, seats, unasked=_why_unasked(earlier))


def models_asked(recipe: Recipe, again: Again) -> tuple[str, ...]:
    """The ids of the models that the new run may ask."""
    return tuple(dict.fromkeys(name for agent in agents_asked(recipe, again) for name in agent.models))


def agents_asked(recipe: Recipe, again: Again) -> tuple[Agent, ...]:
    """The agents that the new run asks, one a seat: those of the seats that are not found, and the aggregator."""
    agents: list[Agent] = [
        agent
        for index, layer in enumerate(recipe.layers)
        for seat, agent in enumerate(layer.seats)
        if (index, seat) not in again.seats
    ]
    if recipe.analyst is not None and again.analysis is None:
        agents.append(recipe.analyst)
    if again.unasked is None:
        agents.append(recipe.aggregator)
    return tuple(agents)


class Compared(Struct, frozen=True):
    """What an analyst is asked to compare of an earlier run.

    recipe, conversation: those of the earlier run
    analyst: the analyst that is asked
    layer: index of the layer whose proposals are compared
    proposals: these proposals, in seat order
    """

    recipe: Recipe
    conversation: Conversation
    analyst: Analyst
    layer: int
    proposals: tuple[Proposal, ...]


def to_compare(run: str, earlier: Transcript, model: str | None = None) -> Compared:
    """What an analyst is asked: to compare the last layer that has two proposals or more.

    run: id of the earlier run, for the error
    model: id of the analyst's model; `None` (default) for the recipe's analyst, or else for its aggregator's model

    Raises `InputError` if no layer has two proposals, or if `model` is no id.
    """
    if earlier.recipe is None or earlier.conversation is None:
        raise InputError(f"run {run} has not begun, so there is nothing to compare")
    recipe, aggregator = earlier.recipe, earlier.recipe.aggregator
    try:
        analyst = recipe.analyst or Analyst(aggregator.model, fallback=aggregator.fallback)
        analyst = analyst if model is None else Analyst(model)
    except ValueError as problem:
        raise InputError(f"the model of the analyst: {problem}") from None
    for index in reversed(range(len(earlier.layers))):
        proposals = tuple(
            Proposal(place, seat.model, seat.answer, index)
            for place, seat in enumerate(earlier.layers[index])
            if seat.answer is not None
        )
        if not recipe.layers[index].comments and len(proposals) >= LEAST_PROPOSALS:
            return Compared(recipe, earlier.conversation, analyst, index, proposals)
    raise InputError(f"no layer of run {run} has two proposals, so there is nothing to compare")


def stored_analysis(earlier: Transcript, model: str | None = None) -> tuple[int, Comparison] | None:
    """The analysis that the run has made itself, after the index of the layer that it compares.

    `None` if there is none, or none of this model.

    model: id of a model; `None` (default) for whichever model
    """
    known = _analysis(earlier)
    if earlier.recipe is None or known is None or model not in (None, known.model):
        return None
    return earlier.recipe.last_proposers or 0, Comparison(known.analysis, known.model, NOTHING_USED, stored=True)


def _check(recipe: Recipe, earlier: Transcript, changes: Changes) -> None:
    """Raise `InputError` if a seat does not exist, is named twice, or is to be asked again although it has answered."""
    named = (*changes.without, *changes.retry)
    for layer, seat in named:
        seats = len(recipe.layers[layer].seats) if 0 <= layer < len(recipe.layers) else 0
        if not 0 <= seat < seats:
            known = (
                ", ".join(f"({index}, 0-{len(each.seats) - 1})" for index, each in enumerate(recipe.layers)) or "none"
            )
            raise InputError(f"there is no seat ({layer}, {seat}); known seats: {known}")
    if len(set(named)) < len(named):
        raise InputError("a seat is named twice; it can be left out or asked again, and only once")
    for layer, seat in changes.retry:
        if layer < len(earlier.layers) and earlier.layers[layer][seat].answer is not None:
            raise InputError(f"seat ({layer}, {seat}) has a proposal; only a lost seat can be asked again")
    if changes.best:
        _check_best(recipe, earlier, changes)
    for index, each in enumerate(recipe.layers):
        if {(index, seat) for seat in range(len(each.seats))} <= set(changes.without):
            raise InputError(f"layer {index} would have no seat left")


def _check_best(recipe: Recipe, earlier: Transcript, changes: Changes) -> None:
    """Raise `InputError` if no proposal can be the answer, or if an aggregator is named that is not to be asked."""
    if changes.aggregator is not None or changes.method is not None:
        raise InputError("the best proposal is taken without an aggregator; leave out its model and its method")
    conversation = earlier.conversation
    if conversation is not None and (conversation.tools or conversation.response_format is not None):
        raise InputError("with tools or a schema a proposal is advice about an answer, and cannot be the answer")
    if recipe.last_proposers is None:
        raise InputError("the recipe has no proposers, so there is no proposal to take")


def _why_unasked(earlier: Transcript) -> Failure:
    """Why the aggregator is not asked: what it failed with, or that nobody wants it."""
    if earlier.aggregator and earlier.error is not None:
        return earlier.error
    return Failure("cancelled", "the best proposal was taken in place of an aggregation")


def _found(earlier: Transcript, index: int, kept: Sequence[int], retry: Collection[Address]) -> dict[int, RecalledSeat]:
    """The seats of a layer that are found, by their indexes in the new run.

    kept: indexes of the seats in the earlier run that stay
    retry: addresses of seats that are asked again
    """
    if index >= len(earlier.layers):
        return {}
    seats = ((place, seat, earlier.layers[index][seat]) for place, seat in enumerate(kept))
    return {
        place: _recalled(earlier, index, seat, known)
        for place, seat, known in seats
        if (index, seat) not in retry and (known.answer is not None or known.error is not None or known.spared)
    }


def _recalled(earlier: Transcript, index: int, seat: int, known: Seat) -> RecalledSeat:
    losses = tuple(loss for loss in earlier.losses if (loss.layer, loss.seat) == (index, seat))
    uses = tuple(use for use in earlier.uses if (use.layer, use.seat) == (index, seat))
    if known.answer is None:
        return RecalledSeat(known.model, None, known.error, losses, uses)
    answer = replace(known.answer, usage=NOTHING_USED, stored=known.answer.stored or known.answer.usage)
    return RecalledSeat(known.model, answer, None, losses, uses)


def _without(layer: Layer, kept: Sequence[int], *, partly: bool) -> Layer:
    """The layer with only the seats whose indexes are in `kept`.

    partly: whether only some of them are found. Then there is no quorum, which the found ones would reach at once
    """
    agents: list[Agent] = []
    if len(kept) == len(layer.seats):
        agents = list(layer.agents)
    else:
        seat = 0
        for agent in layer.agents:
            samples = [sample for sample in range(agent.samples) if seat + sample in kept]
            seat += agent.samples
            if agent.seed is None and samples:
                agents.append(replace(agent, samples=len(samples)))
            else:  # each sample keeps its own seed
                agents += (replace(agent, samples=1, seed=(agent.seed or 0) + sample) for sample in samples)
    quorum = None if partly or layer.quorum is None else min(layer.quorum, len(kept))
    return replace(layer, agents=tuple(agents), quorum=quorum, grace=None if quorum is None else layer.grace)


def _aggregator(before: Aggregator, changes: Changes) -> Aggregator:
    model = changes.aggregator or before.model
    fallback = tuple(name for name in before.fallback if name != model)
    try:
        changed = replace(before, model=model, fallback=fallback, method=changes.method or before.method)
        changed.__post_init__()
    except ValueError as problem:
        raise InputError(f"the aggregator: {problem}") from None
    return changed


def _analysis(earlier: Transcript) -> RecalledAnalysis | None:
    address = (len(earlier.layers), ANALYST_SEAT)
    calls = [call for call in earlier.calls if (call.layer, call.seat) == address and call.error is None]
    if earlier.analysis is None or not calls:
        return None
    usage = calls[-1].stored_usage or calls[-1].usage or NOTHING_USED
    return RecalledAnalysis(earlier.analysis, calls[-1].model, usage)
