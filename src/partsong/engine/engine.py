"""A recipe performed on a conversation: layers one after another, seats of a layer at once, the aggregator last.

The engine calls models and says what happens; it knows no provider, no price, no screen. Inside, coroutines push:
a model's `send` becomes an event, and the listener is awaited, so a slow listener slows the models and nothing piles
up. Only `stream`, at the edge, is an iterator.

An expected failure is caught where it happens, in the seat: the seat is lost, the layer goes on, and the loss is told.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import assert_never

from msgspec.structs import replace

from partsong.briefing import brief
from partsong.engine import waiting
from partsong.engine.aggregation import Aggregated, aggregate
from partsong.engine.layers import perform_layer
from partsong.engine.likeness import most_alike
from partsong.engine.losses import Losses
from partsong.engine.performance import Emit, Performance, Proposal, failure
from partsong.engine.request_checks import check
from partsong.errors import ModelError, RunError
from partsong.events import AggregationStarted, AnyEvent, Loss, RunFailed, RunFinished, RunStarted
from partsong.model import NOTHING_USED, Conversation, Model, asking
from partsong.money.funding import Funded, Funds, fund
from partsong.recipe import Recipe
from partsong.transcript import Transcript


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
) -> None:
    """Perform `recipe` on `conversation` and say everything that happens to `emit`, one event at a time.

    `models` holds a model for each id in `recipe.models`. With `watch=False` nobody wants the proposals' deltas, and
    proposers are asked by plain calls, which cost a fraction. With `live=False` nobody hears the answer before it is
    whole: then one that must fit a schema is said when it does, and written again once if it does not. `cache` says
    whether stored answers will do, where there is a store; `None`: at a temperature of 0. `funds` is money that runs
    share; with them, or with `recipe.max_dollars`, the run is made smaller until its worst case can be paid. Ends with
    `RunFinished` or `RunFailed`; a run that is cancelled says so in a `RunFailed` and then lets the cancellation pass.

    Raises `QuestionError`, `RecipeError` or `BudgetError` before the first event, and nothing else that is expected
    (`StoreError` where the funds are kept in a store that fails).
    """
    check(recipe, conversation, models)
    funded = await fund(recipe, conversation, models, funds)
    await _perform(recipe, conversation, models, funded, emit, watch, cache, live)


@asynccontextmanager
async def stream(
    recipe: Recipe,
    conversation: Conversation | str,
    models: Mapping[str, Model],
    *,
    watch: bool = True,
    cache: bool | None = None,
    funds: Funds | None = None,
) -> AsyncIterator[AsyncIterator[AnyEvent]]:
    """The events of a run, to iterate over; leaving the block ends the run and closes every call.

        async with partsong.stream(recipe, "Why is the sky blue?", models) as events:
            async for event in events: ...

    Raises `QuestionError`, `RecipeError` or `BudgetError` on entering.
    """
    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    check(recipe, conversation, models)
    funded = await fund(recipe, conversation, models, funds)
    # Small, so that a reader who falls behind slows the models instead of filling the memory.
    heard: asyncio.Queue[AnyEvent | None] = asyncio.Queue(64)

    async def tell() -> None:
        try:
            await _perform(recipe, conversation, models, funded, put, watch, cache, live=True)
        finally:
            await put(None)

    async def put(event: AnyEvent | None) -> None:
        if not leaving:
            await heard.put(event)

    async def events() -> AsyncIterator[AnyEvent]:
        while (event := await heard.get()) is not None:
            yield event
        await task  # a fault that is no event is raised here

    leaving = False
    task = asyncio.create_task(tell())
    try:
        yield events()
    finally:
        leaving = True
        task.cancel()
        await asyncio.wait([task])
        waiting.look_at(task)
        if funded is not None:  # one that was ended before it began has not given its money back
            await funded.settle()


async def run(
    recipe: Recipe,
    conversation: Conversation | str,
    models: Mapping[str, Model],
    *,
    watch: bool = False,
    cache: bool | None = None,
    funds: Funds | None = None,
) -> Transcript:
    """Perform the recipe and return the transcript of the whole run.

    Raises `QuestionError`, `RecipeError` or `BudgetError` before any call, and `RunError`, which carries the
    transcript, when the run ended without an answer.
    """
    transcript = Transcript()

    async def hear(event: AnyEvent) -> None:
        transcript.hear(event)

    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    await perform(recipe, conversation, models, hear, watch=watch, live=False, cache=cache, funds=funds)
    if transcript.error is not None:
        raise RunError(transcript.error.message, transcript)
    return transcript


def one_at_a_time(emit: Emit) -> Emit:
    """`emit`, with the promise that it hears one event at a time, though seats speak at once.

    This runs for every delta, and listeners seldom make it wait, so the usual way through is a plain awaited call:
    only seats that really meet pay for waiting.
    """
    busy = False
    turn: asyncio.Future[None] | None = None

    async def say(event: AnyEvent) -> None:
        nonlocal busy, turn
        while busy:
            turn = turn or asyncio.get_running_loop().create_future()
            await asyncio.shield(turn)
        busy = True
        try:
            await emit(event)
        finally:
            busy = False
            if turn is not None:
                turn.set_result(None)
                turn = None

    return say


async def _perform(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    funded: Funded | None,
    emit: Emit,
    watch: bool,
    cache: bool | None,
    live: bool,
) -> None:
    """Perform what can be performed and paid, to its end, whatever that is."""
    dropped: tuple[Loss, ...] = ()
    if funded is not None:
        recipe, dropped = funded.plan.recipe, funded.plan.dropped
    losses = Losses(recipe, dropped)
    run = Performance(recipe, conversation, models, one_at_a_time(emit), watch, live, cache, losses, funded)
    try:
        await _answer(run)
    except ModelError as error:
        await _fail(run, error)
    except asyncio.CancelledError:
        await _fail(run, ModelError("the run was cancelled", "cancelled"))
        raise
    finally:
        if funded is not None:
            await funded.settle()


async def _answer(run: Performance) -> None:
    recipe = run.recipe
    await run.say(RunStarted(recipe, run.conversation, tuple(run.losses)))
    proposals: tuple[Proposal, ...] = ()
    told = brief(recipe, run.conversation, "proposer")
    for number in range(len(recipe.layers)):
        proposals = await perform_layer(run, number, told, proposals)
    await run.say(AggregationStarted(recipe.aggregator.model))
    last_resort = False
    try:
        given = await aggregate(run, proposals)
    except ModelError as error:
        if not _may_stand_in(run, proposals):
            raise
        run.losses.add(len(recipe.layers), 0, recipe.aggregator.model, error)
        last_resort, given = True, _most_alike(proposals)
    losses = run.losses
    await run.say(
        RunFinished(
            given.answer,
            run.tally.used,
            tuple(losses),
            given.model,
            losses.planned,
            losses.answered,
            last_resort,
            given.seat,
        )
    )


async def _fail(run: Performance, error: ModelError) -> None:
    run.tally.give_up_all()
    losses = run.losses
    text = "".join(run.said)
    await run.say(RunFailed(failure(error), run.tally.used, tuple(losses), losses.planned, losses.answered, text))


def _may_stand_in(run: Performance, proposals: tuple[Proposal, ...]) -> bool:
    """Whether a proposal may be the answer: the recipe says so, nothing was said yet, and prose will do.

    Beside tools, proposers advise: what they write is about an answer, and is none.
    """
    match run.recipe.last_resort:
        case "fail":
            return False
        case "best_proposal":
            prose = run.conversation.response_format is None and not run.conversation.tools
            return bool(proposals) and not run.said and prose
        case _:
            assert_never(run.recipe.last_resort)


def _most_alike(proposals: tuple[Proposal, ...]) -> Aggregated:
    """The proposal that is most like the others. It has been paid for already."""
    best = proposals[most_alike([proposal.answer.text for proposal in proposals])]
    return Aggregated(best.model, replace(best.answer, usage=NOTHING_USED), best.seat)
