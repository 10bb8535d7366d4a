"""Performs one layer: asks its seats, each with its fallbacks, until all end, the time is up, or no seat is needed.

A `ModelError` in a seat costs only this seat: the layer goes on, and the loss is reported. An answer that comes too
late is dropped, and nothing waits for it. A seat that is not needed any more is spared, which is no loss.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from msgspec.structs import replace

from partsong.briefing import Brief, prompt, prompts
from partsong.engine import waiting
from partsong.engine.fitting import Fitted, fit
from partsong.engine.performance import Performance, Proposal, failure, truncated_of
from partsong.engine.seat import Seat
from partsong.engine.voting import Ballots
from partsong.errors import ModelError
from partsong.events import (
    AnyEvent,
    LayerFinished,
    LayerStarted,
    LossKind,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalSpared,
    ProposalStarted,
)
from partsong.heavy import LIGHT_BYTES, done
from partsong.model import Answer, Delta, Message, Request, Terms
from partsong.model_info import ModelInfo
from partsong.recipe import Agent

MANY = 8  # seats that begin without a turn for others in between


async def perform_layer(
    run: Performance, index: int, told: Brief, before: tuple[Proposal, ...], ballots: Ballots | None = None
) -> tuple[Proposal, ...]:
    """Ask the seats of a layer, all at the same time or `at_once`, and return their proposals in seat order.

    index: index of the layer in the recipe
    told: the brief of the proposers
    before: proposals of the layer before; empty for the first layer
    ballots: counts what the seats state, and may end the layer early; `None` (default) if nothing is counted

    Raises `ModelError` if every seat is lost.
    """
    layer = _Layer(run, index, _Reading(told, before), ballots)
    return await layer.perform()


class _Reading:
    """What the prompts of a layer are made from: the brief of proposers, and the proposals of the layer before.

    texts: texts of these proposals, in seat order
    truncated: indexes of the proposals that stopped at their token limit
    """

    def __init__(self, told: Brief, before: tuple[Proposal, ...]) -> None:
        self.told = told
        self.texts = tuple(proposal.answer.text for proposal in before)
        self.truncated = truncated_of(before)

    def messages(self, texts: tuple[str, ...], indexes: tuple[int, ...], agent: Agent) -> tuple[Message, ...]:
        """The messages for an agent that reads `texts`; `indexes` holds the index of the proposal of each text."""
        truncated = frozenset(place for place, index in enumerate(indexes) if index in self.truncated)
        return prompt(self.told, agent.system, texts, truncated)

    async def whole(self, agents: Iterable[Agent]) -> dict[str, tuple[Message, ...]]:
        """The messages with all texts, by the agent's system prompt. Agents with the same one share their messages."""
        systems = tuple(dict.fromkeys(agent.system for agent in agents))
        length = sum(map(len, self.texts)) * (1 if self.told.fences else len(systems))
        return await done(length > LIGHT_BYTES, prompts, self.told, systems, self.texts, self.truncated)


class _Proposing:
    """A proposer's part of the work of its seat; see `seat.Work`.

    request: the request with all proposals in full
    streamed: whether the call is streamed
    """

    def __init__(self, run: Performance, reading: _Reading, agent: Agent, request: Request) -> None:
        self.run, self.reading, self.agent, self.request = run, reading, agent, request
        # With fallbacks, a model must begin within its share of the time, and only a stream shows that it has begun.
        self.streamed = run.watch or len(agent.models) > 1

    async def fit(self, seat: Seat, model: str, info: ModelInfo) -> Fitted:
        request, sampling = self.request, self.run.limited(model, self.request.sampling)
        if sampling is not request.sampling:
            request = replace(request, sampling=sampling)
        return await fit(info, model, partial(self.write, request, info), self.reading.texts, self.run.recipe.fit)

    def write(self, request: Request, info: ModelInfo, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        """The request with `texts` as the proposals, for a model with the facts `info`.

        indexes: index of the proposal of each text
        """
        if texts != self.reading.texts:
            request = replace(request, messages=self.reading.messages(texts, indexes, self.agent))
        return self.run.for_model(request, info)

    def left_out(self, model: str) -> str:
        return self.run.left_out(model, self.reading.told.conversation)

    async def ask(self, seat: Seat, model: str, fitted: Fitted, until: float | None) -> Answer:
        run, (layer, index) = self.run, seat.address

        async def send(delta: Delta) -> None:
            seat.begun(delta)
            if run.watch and not seat.ended:
                await run.say(ProposalDelta(layer, index, delta))

        request = fitted.request
        if until != seat.until:
            request = replace(request, terms=replace(request.terms, until=until))
        return await seat.call(model, request, send if self.streamed else None)

    def may_begin_again(self) -> bool:
        return True

    def replaced(self, seat: Seat, model: str, error: ModelError) -> AnyEvent:
        return ProposalReplaced(*seat.address, model, failure(error), error.usage)


class _Layer:
    """One layer while it is performed; see `waiting.Asking`.

    seats: the seats that have been asked so far
    unbegun: the seats that have not been asked yet
    """

    def __init__(self, run: Performance, index: int, reading: _Reading, ballots: Ballots | None) -> None:
        self.run, self.index, self.reading, self.ballots = run, index, reading, ballots
        self.layer = run.recipe.layers[index]
        self.counts = ballots is not None
        self.seats: list[Seat] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.unbegun: Iterator[Seat] = iter(())
        self.spared = False  # whether any seat was spared

    async def perform(self) -> tuple[Proposal, ...]:
        """Ask the seats, and return the proposals in seat order. Raises `ModelError` if every seat is lost."""
        run, layer = self.run, self.layer
        await run.say(LayerStarted(self.index, tuple(agent.model for agent in layer.seats)))
        until, too_late = waiting.end_of(layer, run.layer_end(self.index))
        self.unbegun = self.seats_until(until, await self.reading.whole(layer.agents))
        try:
            ended = await waiting.wait(self, layer, until, too_late)
            closed = {index for index, seat in enumerate(self.seats) if not seat.ended}
            for index in closed:
                self.tasks[index].cancel()
            opened, unbegun = [self.seats[index] for index in sorted(closed)], list(self.unbegun)
            spared = [*([] if ended.late else opened), *(unbegun if ended.spares else [])]
            late = [*(opened if ended.late else []), *([] if ended.spares else unbegun)]
            self.spared = bool(spared)
            await self.close(spared, late, ended.late or too_late)
            await asyncio.gather(*(task for index, task in enumerate(self.tasks) if index not in closed))
        finally:
            for seat in self.seats:
                seat.ended = True
            await waiting.end(self.tasks)
        return await self.finish()

    async def begin(self) -> bool:
        """Begin the next seat. `False` if every seat has begun."""
        if (seat := next(self.unbegun, None)) is None:
            return False
        # Emitted here and not in the seat's task. A slow listener could otherwise hold the task up until the seat is
        # cut off, and its end would come without a beginning.
        await self.run.say(ProposalStarted(*seat.address, seat.model))
        if len(self.seats) >= MANY:
            await asyncio.sleep(0)  # so that not all of many seats begin in one turn of the event loop
        self.seats.append(seat)
        self.tasks.append(asyncio.create_task(self.perform_seat(seat)))
        return True

    def is_decided(self) -> bool:
        """Whether no open seat is needed any more, because the votes of the others decide."""
        closed = {seat.address[1] for seat in self.seats if seat.ended}
        return self.ballots is not None and self.ballots.is_decided(
            [index for index in range(len(self.layer.seats)) if index not in closed]
        )

    def seats_until(self, until: float | None, told: Mapping[str, tuple[Message, ...]]) -> Iterator[Seat]:
        """The seats of the layer with their requests, in seat order.

        until: when the layer must end, by the running loop's clock; `None` for no limit
        told: the messages, by the agent's system prompt
        """
        run, reading, terms, index = self.run, self.reading, self.terms(until), 0
        for agent in self.layer.agents:
            for sample in range(agent.samples):
                sampling = run.sampling(agent, self.index, index, sample)
                request = Request(told[agent.system], sampling=sampling, sample=index, terms=terms)
                yield Seat(run, (self.index, index), agent.models, until, _Proposing(run, reading, agent, request))
                index += 1

    def terms(self, until: float | None) -> Terms:
        """The terms of the layer's calls. Its seats share the room for answers, which the next prompt has in full."""
        room = self.run.bounds.layer_characters // len(self.layer.seats)
        return replace(self.run.terms_of_advice(until), room=max(1, room))

    async def perform_seat(self, seat: Seat) -> None:
        """Fill one seat, and emit how it ended. Nothing is emitted if the seat was cut off in the meantime."""
        try:
            answer = await seat.fill()
        except ModelError as error:
            if not seat.ended:
                seat.ended = True
                await self.lose(seat, error)
            return
        if seat.ended:
            return
        seat.ended, seat.answer = True, answer
        self.run.losses.answered += 1
        if self.ballots is not None:
            self.ballots.hear(seat.address[1], answer)
        await self.run.say_end(ProposalFinished(*seat.address, answer, seat.model))
        seat.note_losses(answer)

    async def close(self, spared: list[Seat], late: list[Seat], too_late: ModelError) -> None:
        """End the seats that are not done, and emit that some are spared, and that the others are lost.

        All seats end before the first event, since a listener may wait and a seat could finish in between.
        """
        stopped = [(seat, ModelError("the seat was spared", "cancelled")) for seat in spared]
        lost = [(seat, ModelError(str(too_late), too_late.cause)) for seat in late]
        for seat, error in (*stopped, *lost):
            seat.ended = True
            seat.give_up(error)
        self.run.losses.spared += len(stopped)
        for seat, error in stopped:
            await self.run.say_end(ProposalSpared(*seat.address, error.usage))
        for seat, error in lost:
            await self.lose(seat, error, "cut_off")

    async def lose(self, seat: Seat, error: ModelError, kind: LossKind = "failed") -> None:
        """Emit that a seat is lost, and note the loss. If several models failed, the cause is that of the first."""
        await self.run.say_end(ProposalFailed(*seat.address, failure(error), error.usage))
        if before := seat.failures:
            told = "; its fallback: ".join(str(each) for each in (*before, error))
            error, kind = ModelError(told, before[0].cause, status=before[0].status), "failed"
        self.run.losses.add(*seat.address, seat.models[0], error, kind)

    async def finish(self) -> tuple[Proposal, ...]:
        """Emit that the layer is done, and return its proposals.

        Raises `ModelError` if there are none, unless seats were spared because no vote could be won any more.
        """
        proposals = tuple(
            Proposal(seat.address[1], seat.model, seat.answer) for seat in self.seats if seat.answer is not None
        )
        await self.run.say(LayerFinished(self.index, len(proposals)))
        if not proposals and not self.spared:
            lost = (loss for loss in self.run.losses if loss.layer == self.index and loss.kind != "dropped")
            causes = "; ".join(f"seat {loss.seat}, {loss.model}: {loss.message}" for loss in lost)
            raise ModelError(f"every seat of layer {self.index} was lost: {causes}", "no_proposals")
        return proposals
