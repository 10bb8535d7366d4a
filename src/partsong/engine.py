"""A recipe performed on a conversation: layers one after another, seats of a layer at once, the aggregator last.

The engine calls models and says what happens; it knows no provider, no price, no screen. Inside, coroutines push:
a model's `send` becomes an event, and the listener is awaited, so a slow listener slows the models and nothing piles
up. Only `stream`, at the edge, is an iterator.

An expected failure is caught where it happens, in the seat: the seat is lost, the layer goes on, and the loss is told.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

from msgspec.structs import replace

from partsong import waiting
from partsong.admission import check
from partsong.errors import ModelError, RunError
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    Failure,
    LayerFinished,
    LayerStarted,
    Loss,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import (
    NOTHING_USED,
    Answer,
    Conversation,
    Delta,
    Message,
    Model,
    Request,
    Sampling,
    TextDelta,
    ToolCall,
    asking,
)
from partsong.prompts import advised, compose, instruction_for
from partsong.recipe import Agent, Layer, Recipe
from partsong.transcript import Transcript
from partsong.unfencing import Unfencing

Emit = Callable[[AnyEvent], Awaitable[None]]


async def perform(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    emit: Emit,
    *,
    watch: bool = True,
) -> None:
    """Perform `recipe` on `conversation` and say everything that happens to `emit`, one event at a time.

    `models` holds a model for each id in `recipe.models`. With `watch=False` nobody wants the proposals' deltas, and
    proposers are asked by plain calls, which cost a fraction. Ends with `RunFinished` or `RunFailed`; a run that is
    cancelled says so in a `RunFailed` and then lets the cancellation pass.

    Raises `QuestionError` or `RecipeError` before the first event, and nothing else that is expected.
    """
    check(recipe, conversation, models)
    run = _Run(recipe, conversation, models, one_at_a_time(emit), watch)
    try:
        await run.perform()
    except ModelError as error:
        await run.fail(error)
    except asyncio.CancelledError:
        await run.fail(ModelError("the run was cancelled", "cancelled"))
        raise


@asynccontextmanager
async def stream(
    recipe: Recipe, conversation: Conversation | str, models: Mapping[str, Model], *, watch: bool = True
) -> AsyncIterator[AsyncIterator[AnyEvent]]:
    """The events of a run, to iterate over; leaving the block ends the run and closes every call.

        async with partsong.stream(recipe, "Why is the sky blue?", models) as events:
            async for event in events: ...

    Raises `QuestionError` or `RecipeError` on entering.
    """
    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    check(recipe, conversation, models)
    # Small, so that a reader who falls behind slows the models instead of filling the memory.
    heard: asyncio.Queue[AnyEvent | None] = asyncio.Queue(64)

    async def tell() -> None:
        try:
            await perform(recipe, conversation, models, put, watch=watch)
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


async def run(
    recipe: Recipe, conversation: Conversation | str, models: Mapping[str, Model], *, watch: bool = False
) -> Transcript:
    """Perform the recipe and return the transcript of the whole run.

    Raises `QuestionError` or `RecipeError` before any call, and `RunError`, which carries the transcript, when the run
    ended without an answer.
    """
    transcript = Transcript()

    async def hear(event: AnyEvent) -> None:
        transcript.hear(event)

    conversation = asking(conversation) if isinstance(conversation, str) else conversation
    await perform(recipe, conversation, models, hear, watch=watch)
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


class _Run:
    """One performance: what it was given, and the money and the losses so far."""

    def __init__(
        self, recipe: Recipe, conversation: Conversation, models: Mapping[str, Model], say: Emit, watch: bool
    ) -> None:
        self.recipe, self.conversation, self.models, self.say, self.watch = recipe, conversation, models, say, watch
        self.usage = NOTHING_USED
        self.losses: list[Loss] = []
        self.instruction = instruction_for(recipe.layout) if recipe.instruction is None else recipe.instruction
        self.started = asyncio.get_running_loop().time()

    async def perform(self) -> None:
        await self.say(RunStarted(self.recipe, self.conversation))
        proposals: tuple[str, ...] = ()
        advice = advised(self.conversation)
        for number, layer in enumerate(self.recipe.layers):
            proposals = await self.perform_layer(number, layer, advice, proposals)
        await self.say(AggregationStarted(self.recipe.aggregator.model))
        answer = await self.aggregate(proposals)
        self.usage += answer.usage
        await self.say(RunFinished(answer, self.usage, tuple(self.losses)))

    async def fail(self, error: ModelError) -> None:
        if error.usage is not None:
            self.usage += error.usage
        await self.say(RunFailed(_failure(error), self.usage, tuple(self.losses)))

    async def perform_layer(
        self, number: int, layer: Layer, conversation: Conversation, proposals: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Ask all seats at once; return what they proposed, in seat order, whoever finished first."""
        agents = layer.seats
        await self.say(LayerStarted(number, tuple(agent.model for agent in agents)))
        answers: dict[int, Answer | None] = {}
        tasks: list[asyncio.Task[None]] = []
        try:
            for seat, (agent, request) in enumerate(self.requests(number, layer, conversation, proposals)):
                # Said here and not by the seat: one that is cut off while a slow listener keeps it waiting has begun.
                await self.say(ProposalStarted(number, seat, agent.model))
                tasks.append(asyncio.create_task(self.perform_seat(number, seat, agent.model, request, answers)))
            cut = await waiting.wait(tasks, answers, layer, self.proposals_end(number))
            for seat in cut:
                tasks[seat].cancel()
                answers[seat] = None
            for seat, error in cut.items():
                await self.lose(number, seat, agents[seat].model, error)
            await asyncio.gather(*(task for seat, task in enumerate(tasks) if seat not in cut))
        finally:
            await waiting.end(tasks)
        texts = tuple(answer.text for _, answer in sorted(answers.items()) if answer is not None)
        await self.say(LayerFinished(number, len(texts)))
        if not texts:
            lost = (loss for loss in self.losses if loss.layer == number)
            causes = "; ".join(f"seat {loss.seat}, {loss.model}: {loss.message}" for loss in lost)
            raise ModelError(f"every seat of layer {number} was lost: {causes}", "no_proposals")
        return texts

    def requests(
        self, number: int, layer: Layer, conversation: Conversation, proposals: tuple[str, ...]
    ) -> Iterator[tuple[Agent, Request]]:
        """Each seat's agent and what it is asked, in seat order. Seats that are told the same share the messages."""
        told: dict[str, tuple[Message, ...]] = {}
        seat = 0
        for agent in layer.agents:
            if agent.system not in told:
                told[agent.system] = compose(
                    conversation, proposals, self.recipe.layout, self.instruction, agent.system
                )
            for sample in range(agent.samples):
                sampling = agent.sampling
                if sampling.seed is not None:
                    sampling = replace(sampling, seed=sampling.seed + sample)
                elif self.recipe.seed is not None:
                    sampling = replace(sampling, seed=derived_seed(self.recipe.seed, number, seat))
                yield agent, Request(told[agent.system], sampling=sampling, sample=seat)
                seat += 1

    async def perform_seat(
        self, layer: int, seat: int, model: str, request: Request, answers: dict[int, Answer | None]
    ) -> None:
        """Ask one model. What it answered stands in `answers` from the moment it is known; `None` is a lost seat."""

        async def send(delta: Delta) -> None:
            if seat not in answers:  # a seat that was cut off is silent from then on
                await self.say(ProposalDelta(layer, seat, delta))

        try:
            answer = await self.models[model](request, send if self.watch else None)
            if not answer.text.strip():
                raise ModelError("it answered without a word", "empty", usage=answer.usage)
        except ModelError as error:
            if seat not in answers:
                answers[seat] = None
                await self.lose(layer, seat, model, error)
            return
        if seat not in answers:
            answers[seat] = answer
            self.usage += answer.usage
            await self.say(ProposalFinished(layer, seat, answer))

    async def lose(self, layer: int, seat: int, model: str, error: ModelError) -> None:
        if error.usage is not None:
            self.usage += error.usage
        self.losses.append(Loss(layer, seat, model, error.cause, str(error)))
        await self.say(ProposalFailed(layer, seat, _failure(error), error.usage))

    async def aggregate(self, proposals: tuple[str, ...]) -> Answer:
        recipe, conversation = self.recipe, self.conversation
        aggregator = recipe.aggregator
        sampling = _overridden(aggregator.sampling, conversation.sampling)
        if sampling.seed is None and recipe.seed is not None:
            sampling = replace(sampling, seed=derived_seed(recipe.seed, len(recipe.layers), 0))
        request = Request(
            compose(conversation, proposals, recipe.layout, self.instruction, aggregator.system),
            tools=conversation.tools,
            tool_choice=conversation.tool_choice,
            response_format=conversation.response_format,
            sampling=sampling,
        )

        unfencing = Unfencing(proposals) if proposals and recipe.layout == "tail" else None

        async def send(delta: Delta) -> None:
            if unfencing is not None and type(delta) is TextDelta:
                if not (text := unfencing.take(delta.text)):
                    return
                delta = TextDelta(text)
            await self.say(AggregationDelta(delta))

        end = None if recipe.deadline is None else self.started + recipe.deadline
        try:
            async with asyncio.timeout_at(end):
                answer = await self.models[aggregator.model](request, send)
        except TimeoutError:
            raise ModelError(f"the run's deadline of {recipe.deadline:g} s was over", "timeout") from None
        if unfencing is not None:
            if rest := unfencing.rest():
                await self.say(AggregationDelta(TextDelta(rest)))
            answer = replace(answer, parts=unfencing.cleaned(answer.parts))
        if not answer.text.strip() and not any(isinstance(part, ToolCall) for part in answer.parts):
            raise ModelError(f"{aggregator.model} answered without a word", "empty", usage=answer.usage)
        return answer

    def proposals_end(self, number: int) -> float | None:
        """When the layer `number` must be done, so that the later layers and the aggregator keep their share."""
        if self.recipe.deadline is None:
            return None
        now = asyncio.get_running_loop().time()
        end = self.started + self.recipe.deadline * (1 - self.recipe.reserve)
        return now + (end - now) / (len(self.recipe.layers) - number)


def derived_seed(seed: int, layer: int, seat: int) -> int:
    """A seed of its own for each seat (31 bits: some providers take no more), the same in every run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{layer}/{seat}".encode()).digest()[:4], "big") >> 1


def _overridden(sampling: Sampling, caller: Sampling) -> Sampling:
    """The aggregator's sampling, with what the caller asked for in place of it."""
    asked = {name: value for name in caller.__struct_fields__ if (value := getattr(caller, name)) not in (None, ())}
    return replace(sampling, **asked) if asked else sampling


def _failure(error: ModelError) -> Failure:
    return Failure(error.cause, str(error), error.status)
