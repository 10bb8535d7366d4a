"""Performs a recipe on a conversation: the layers in turn, the seats of a layer at the same time, the aggregator last.

Between the last layer and the aggregator, an analyst may compare the proposals.

The engine calls models and emits events; it knows no provider, no price and no screen. Inside, coroutines push: each
delta of a model becomes an event, and the listener is awaited. A slow listener therefore slows the models, and nothing
piles up. Only `stream` is an iterator.

    perform              checks the request, and holds the run's money
      _perform_to_the_end    emits the run's last event in every case, and settles the money
        _perform_recipe      the layers one after the other, the aggregator, and the last resort
          perform_layer, analyse, aggregate    the seats of a layer at the same time; the seats of the other two
            Seat.fill        the models of one seat in turn, down to `Performance.call`: one call, counted

A `ModelError` in a seat of a layer costs only this seat: the layer goes on, and the loss is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import assert_never

from msgspec.structs import replace

from partsong.bounds import DEFAULTS, Bounds
from partsong.briefing import Brief, Role, brief, role_of_layer
from partsong.documents.reader import DocumentReader
from partsong.engine import waiting
from partsong.engine.aggregation import Aggregated, aggregate
from partsong.engine.analyst import analyse
from partsong.engine.emitter import Emit, Emitter
from partsong.engine.layers import perform_layer
from partsong.engine.likeness import most_alike_beside_others
from partsong.engine.losses import Losses
from partsong.engine.offering import note_lacking, offers_for
from partsong.engine.performance import Performance, Proposal, failure
from partsong.engine.recalled import Again, free_of
from partsong.engine.request_checks import check
from partsong.engine.table import Table
from partsong.engine.tracebacks import cut
from partsong.engine.voting import Ballots, ballots_of
from partsong.errors import ModelError, RunError
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    Loss,
    RunFailed,
    RunFinished,
    RunStarted,
    VotesCounted,
)
from partsong.heavy import done, is_heavy
from partsong.model import NOTHING_USED, Conversation, Model, TextDelta, asking
from partsong.money.funding import Funded, Funds, fund
from partsong.prompts import documents_of
from partsong.recipe import Recipe
from partsong.toolbox import NO_OFFERS, Offers, Toolbox
from partsong.transcript import Transcript

# Most events that wait for a reader of `stream`: few, so that a slow reader slows the models and memory stays small.
AHEAD = 64


async def perform(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    emit: Emit,
    *,
    watch: bool = True,
    live: bool = True,
    cache: bool | None = None,
    funds: Funds | None = None,
    documents: DocumentReader | None = None,
    record: str = "",
    bounds: Bounds = DEFAULTS,
    again: Again | None = None,
    tools: Toolbox | None = None,
) -> None:
    """Perform `recipe` on `conversation`, and await `emit` with each event, one at a time.

    models: a model for each id in `recipe.models`
    watch: whether the listener wants the deltas of proposals (default: yes). If not, proposals are not streamed, which
        takes less time
    live: whether the listener wants the answer while it is written (default: yes). If not, an answer that must fit a
        schema is checked before its text is emitted, and the aggregator is asked once more if it does not fit
    cache: whether answers from the store may be used; `None` (default): only for calls at a temperature of 0
    funds: money that several runs share, such as a day's; `None` (default) for none. With `funds` or with
        `recipe.max_dollars`, seats are dropped until the worst case of the run can be paid
    documents: reads the documents of the conversation; `None` (default) for a reader with the default limits
    record: id under which a store keeps the run, so that its calls can be deleted with it; "" (default) for none
    bounds: bounds on the conversation and its schemas; by default those of a configuration that sets none
    again: what the run finds of an earlier one (see `begin_again`), so that only the rest is asked and paid; `None`
        (default) for nothing
    tools: the servers with tools that agents of the recipe may use; `None` (default) for none

    The last event is `RunFinished` or `RunFailed`. A cancelled run also ends with `RunFailed`, and then raises
    `CancelledError`.

    Raises `QuestionError`, `RecipeError` or `BudgetError` before the first event if the run is not possible, and
    `StoreError` if the store that keeps `funds` fails.
    """
    conversation = await _read(conversation, documents)
    await check(recipe, conversation, models, bounds)
    offers = await offers_for(recipe, tools, bounds)
    free = None if again is None else free_of(recipe, again)
    funded = await fund(recipe, conversation, models, funds, free, offers)
    await _perform_to_the_end(
        recipe, conversation, models, funded, emit, watch, cache, live, bounds, record, again, tools, offers
    )


@asynccontextmanager
async def stream(
    recipe: Recipe,
    conversation: Conversation | str,
    models: Mapping[str, Model],
    *,
    watch: bool = True,
    cache: bool | None = None,
    funds: Funds | None = None,
    documents: DocumentReader | None = None,
    bounds: Bounds = DEFAULTS,
    tools: Toolbox | None = None,
) -> AsyncIterator[AsyncIterator[AnyEvent]]:
    """Perform `recipe`, and yield an asynchronous iterator over the events. Leaving the block cancels the run.

        async with partsong.stream(recipe, "Why is the sky blue?", models) as events:
            async for event in events: ...

    See `perform` for the parameters. Raises `QuestionError`, `RecipeError` or `BudgetError` when the block is entered,
    if the run is not possible.
    """
    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    conversation = await _read(conversation, documents)
    await check(recipe, conversation, models, bounds)
    offers = await offers_for(recipe, tools, bounds)
    funded = await fund(recipe, conversation, models, funds, offers=offers)
    heard: asyncio.Queue[AnyEvent | None] = asyncio.Queue()
    room = asyncio.Event()

    async def tell() -> None:
        try:
            await _perform_to_the_end(
                recipe, conversation, models, funded, put, watch, cache, True, bounds, tools=tools, offers=offers
            )
        finally:
            await put(None)

    async def put(event: AnyEvent | None) -> None:
        if leaving:
            return
        # Put into the queue before anything waits, so that a seat that is cancelled here does not lose its event.
        heard.put_nowait(event)
        while heard.qsize() > AHEAD and not leaving:
            room.clear()
            await room.wait()

    async def events() -> AsyncIterator[AnyEvent]:
        while (event := await heard.get()) is not None:
            room.set()
            yield event
        await task  # raises an exception of the run that no event reports

    leaving = False
    task = asyncio.create_task(tell())
    try:
        yield events()
    finally:
        leaving = True
        room.set()
        task.cancel()
        await asyncio.wait([task])
        waiting.look_at(task)
        if funded is not None:  # a task that was cancelled before its first step has not settled its money
            await funded.settle()


async def run(
    recipe: Recipe,
    conversation: Conversation | str,
    models: Mapping[str, Model],
    *,
    watch: bool = False,
    cache: bool | None = None,
    funds: Funds | None = None,
    documents: DocumentReader | None = None,
    bounds: Bounds = DEFAULTS,
    tools: Toolbox | None = None,
) -> Transcript:
    """Perform `recipe`, and return the transcript of the whole run. See `perform` for the parameters.

    Raises `QuestionError`, `RecipeError` or `BudgetError` before any call if the run is not possible, and `RunError`,
    which has the transcript, if the run ends without an answer.
    """
    transcript = Transcript()

    async def hear(event: AnyEvent) -> None:
        transcript.hear(event)

    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    await perform(
        recipe,
        conversation,
        models,
        hear,
        watch=watch,
        live=False,
        cache=cache,
        funds=funds,
        documents=documents,
        bounds=bounds,
        tools=tools,
    )
    if transcript.error is not None:
        raise RunError(transcript.error.message, transcript)
    return transcript


async def _read(conversation: Conversation, reader: DocumentReader | None) -> Conversation:
    """The conversation with the text of its documents filled in. Raises `QuestionError` if a document is unreadable.

    reader: reads documents; `None` for a reader with the default limits
    """
    if not documents_of(conversation.messages):
        return conversation
    return await (DocumentReader() if reader is None else reader).read(conversation)


async def _perform_to_the_end(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    funded: Funded | None,
    emit: Emit,
    watch: bool,
    cache: bool | None,
    live: bool,
    bounds: Bounds,
    record: str = "",
    again: Again | None = None,
    tools: Toolbox | None = None,
    offers: Offers = NO_OFFERS,
) -> None:
    """Perform the recipe, or the part of it that `funded` pays for, emit the run's last event, and settle the money."""
    dropped: tuple[Loss, ...] = ()
    if funded is not None:
        recipe, dropped = funded.plan.recipe, funded.plan.dropped
    losses = Losses(recipe, dropped)
    run = Performance(
        *(recipe, conversation, models, Emitter(emit), watch, live, cache, losses, funded, record, bounds, again),
        toolbox=tools,
        offers=offers,
    )
    try:
        await _perform_recipe(run)
    except ModelError as error:
        cut(error)
        await _fail(run, error)
    except asyncio.CancelledError:
        await _fail(run, ModelError("the run was cancelled", "cancelled"))
        raise
    finally:
        if funded is not None:
            await funded.settle()


async def _perform_recipe(run: Performance) -> None:
    """Perform the layers and the aggregator, and emit `RunFinished`. Raises `ModelError` if there is no answer."""
    recipe, losses = run.recipe, run.losses
    earlier = "" if run.again is None else run.again.run
    await run.say(RunStarted(recipe, run.conversation, tuple(losses), earlier))
    note_lacking(recipe, run.conversation, run.offers, losses)
    table, told = Table(()), dict[Role, Brief]()
    for index, layer in enumerate(recipe.layers):
        await _begin(run, index)
        if (role := role_of_layer(layer)) not in told:
            told[role] = await done(is_heavy(run.conversation), brief, recipe, run.conversation, role)
        ballots = ballots_of(recipe, run.conversation, index)
        made = await perform_layer(run, index, told[role], table, ballots)
        if ballots is not None and (elected := await _elect(run, ballots, made)) is not None:
            await _finish(run, elected)
            return
        table = Table((*table.all, *made) if layer.comments else made)
    if run.again is not None and (why := run.again.unasked) is not None:
        losses.add(len(recipe.layers), 0, recipe.aggregator.model, ModelError(why.message, why.cause))
        await _finish(run, await _most_alike(table.proposals), last_resort=True)
        return
    analysis = await analyse(run, table.proposals)
    await run.say(AggregationStarted(recipe.aggregator.model))
    last_resort = False
    try:
        await _begin(run, run.turn((len(recipe.layers), 0)))
        given = await aggregate(run, table, analysis)
    except ModelError as error:
        if not _may_stand_in(run, table.proposals):
            raise
        cut(error)
        losses.add(len(recipe.layers), 0, recipe.aggregator.model, error)
        last_resort, given = True, await _most_alike(table.proposals)
    await _finish(run, given, last_resort)


async def _finish(run: Performance, given: Aggregated, last_resort: bool = False) -> None:
    """Emit `RunFinished`."""
    run.tally.give_up_all(ModelError("the run has ended", "cancelled"))
    losses = run.losses
    end = RunFinished(
        given.answer,
        run.tally.used,
        tuple(losses),
        given.model,
        losses.planned,
        losses.answered,
        last_resort,
        None if given.chosen is None else given.chosen.seat,
        None if given.chosen is None else given.chosen.layer,
        losses.spared,
    )
    await run.say_end(end)


async def _elect(run: Performance, ballots: Ballots, proposals: tuple[Proposal, ...]) -> Aggregated | None:
    """Emit the count of a layer, and say the elected proposal as the answer of the run; `None` if none is elected.

    Raises `ModelError` if none is elected in a vote, and the recipe then fails the run.
    """
    result = ballots.result()
    if result.seat is None:
        await run.say_end(result)
        if result.rule == "majority" and ballots.fails:
            raise ModelError(_no_majority(result, ballots.seats), "no_majority")
        return None
    winners = result.groups[0].seats
    given = await _most_alike(tuple(proposal for proposal in proposals if proposal.seat in winners))
    await run.say_end(replace(result, seat=None if given.chosen is None else given.chosen.seat))
    run.losses.spared += sum(len(layer.seats) for layer in run.recipe.layers[ballots.layer + 1 :])
    run.said.append(given.answer.text)
    await run.say(AggregationDelta(TextDelta(given.answer.text)))
    return given


def _no_majority(result: VotesCounted, seats: int) -> str:
    counts = ", ".join(f'{len(group.seats)} for "{group.answer}"' for group in result.groups[:3])
    more = f" and {len(result.groups) - 3} more answers" if len(result.groups) > 3 else ""
    return (
        f"the vote has no majority: of {seats} seats {result.needed} must state the same; {counts or 'none did'}{more}"
    )


async def _begin(run: Performance, layer: int) -> None:
    """Commit the money of a layer or of the aggregator, where money is held. Raises `ModelError` if this fails.

    layer: see `Performance.turn`
    """
    if run.funded is not None:
        await run.funded.begin(layer)


async def _fail(run: Performance, error: ModelError) -> None:
    run.tally.give_up_all(_given_up(error))
    losses = run.losses
    text = "".join(run.said)
    spent = run.tally.used
    end = RunFailed(failure(error), spent, tuple(losses), losses.planned, losses.answered, text, losses.spared)
    await run.say_end(end)


def _given_up(error: ModelError) -> ModelError:
    """The error with which the open calls end when the run fails with `error`."""
    return error if error.cause == "cancelled" else ModelError(f"the run has failed: {error}", "cancelled")


def _may_stand_in(run: Performance, proposals: tuple[Proposal, ...]) -> bool:
    """Whether a proposal may replace the answer of an aggregator that has failed.

    The recipe must allow it, there must be a proposal, and the listener must not have heard any of the answer. With
    tools or a schema a proposal is no answer, since it only gives advice about one.
    """
    match run.recipe.last_resort:
        case "fail":
            return False
        case "best_proposal":
            prose = run.conversation.response_format is None and not run.conversation.tools
            return bool(proposals) and not run.said and prose
        case _:
            assert_never(run.recipe.last_resort)


async def _most_alike(proposals: tuple[Proposal, ...]) -> Aggregated:
    """The proposal that is most like the others, with a usage of zero, because its call is counted already."""
    best = proposals[await most_alike_beside_others([proposal.answer.text for proposal in proposals])]
    return Aggregated(best.model, replace(best.answer, usage=NOTHING_USED), best)
