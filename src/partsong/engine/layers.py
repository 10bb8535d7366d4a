"""Performs one layer: asks its seats, each with its fallbacks, until all end, the time is up, or no seat is needed.

A `ModelError` in a seat costs only this seat: the layer goes on, and the loss is reported. An answer that comes too
late is dropped, and nothing waits for it. A seat that is not needed any more is spared, which is no loss.
"""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial

from msgspec.structs import replace

from partsong.briefing import Brief, instructed, prompt, system_of
from partsong.engine import look_up, waiting
from partsong.engine.fitting import Fitted, fit
from partsong.engine.performance import Performance, Proposal, failure
from partsong.engine.recalled import RecalledSeat
from partsong.engine.seat import Seat
from partsong.engine.table import Table
from partsong.engine.voting import Ballots
from partsong.errors import ModelError
from partsong.events import (
    AnyEvent,
    Failure,
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
    run: Performance, index: int, told: Brief, before: Table, ballots: Ballots | None = None
) -> tuple[Proposal, ...]:
    """Ask the seats of a layer, all at the same time or `at_once`; return their proposals or comments in seat order.

    index: index of the layer in the recipe
    told: the brief of the layer's role
    before: what the layer finds; empty for the first layer
    ballots: counts what the seats state, and may end the layer early; `None` (default) if nothing is counted

    Raises `ModelError` if every seat is lost, unless the layer comments: the proposals are still there then.
    """
    layer = _Layer(run, index, _Reading(run, index, told, before), ballots)
    return await layer.perform()


class _Reading:
    """What the prompts of a layer are made from: the brief of its role, and what is on the table.

    told: the brief, before an agent or the layer puts an instruction of its own in
    table: the proposals of an earlier layer, and the comments on them
    """

    def __init__(self, run: Performance, index: int, told: Brief, before: Table) -> None:
        self.run, self.index, self.told, self.table = run, index, told, before
        self.layer = run.recipe.layers[index]
        self._everything = before.everything
        self._seen: dict[int, tuple[int, ...]] = {}
        self._messages: dict[tuple[str, str | None, tuple[int, ...]], tuple[Message, ...]] = {}

    def seen(self, seat: int) -> tuple[int, ...]:
        """The indexes on the table of what a seat reads."""
        if self.layer.sees == "all":
            return self._everything
        if seat not in self._seen:
            self._seen[seat] = self.table.seen(self.layer, self.index, seat, self.run.recipe.seed)
        return self._seen[seat]

    def saw(self, seat: int) -> tuple[tuple[int, int], ...] | None:
        """The layer and the seat of everything that a seat reads; `None` if that is all there is."""
        if (seen := self.seen(seat)) == self._everything:
            return None
        return tuple((item.layer, item.seat) for item in map(self.table.all.__getitem__, seen))

    def about(self, seat: int) -> frozenset[int] | None:
        """The seats of the proposals that a seat reads; `None` if it reads all of them."""
        if (seen := self.seen(seat)) == self._everything:
            return None
        return frozenset(item.seat for item in map(self.table.all.__getitem__, seen) if not item.comment)

    def texts(self, seen: tuple[int, ...]) -> tuple[str, ...]:
        return self.table.texts if seen == self._everything else tuple(map(self.table.texts.__getitem__, seen))

    def whole(self, agent: Agent, seat: int) -> tuple[Message, ...]:
        """The messages for a seat, with all texts in full. Seats that are told the same share them."""
        key = system_of(agent), agent.instruction, self.seen(seat)
        if key not in self._messages:
            self._messages[key] = self.messages(self.texts(key[2]), key[2], agent)
        return self._messages[key]

    async def prepare(self, agents: Iterable[Agent]) -> None:
        """Write the messages of all agents beside the event loop, if the texts on the table are long."""
        if self.layer.sees == "all" and sum(map(len, self.table.texts)) > LIGHT_BYTES:
            for agent in agents:
                await done(True, self.whole, agent, 0)

    def messages(self, texts: tuple[str, ...], indexes: tuple[int, ...], agent: Agent) -> tuple[Message, ...]:
        """The messages for an agent that reads `texts`; `indexes` holds the index on the table of each text."""
        told, table = instructed(self.told, self.layer, agent), self.table
        return prompt(told, system_of(agent), texts, table.truncated_at(indexes), marks=table.marks(indexes))


class _Proposing:
    """A proposer's part of the work of its seat; see `seat.Work`.

    request: the request with all texts in full
    seen: indexes on the table of the texts that the seat reads
    streamed: whether the call is streamed
    """

    def __init__(self, run: Performance, reading: _Reading, agent: Agent, request: Request, seat: int) -> None:
        self.run, self.reading, self.agent, self.request = run, reading, agent, request
        self.seen = reading.seen(seat)
        self.texts = reading.texts(self.seen)
        # With fallbacks, a model must begin within its share of the time, and only a stream shows that it has begun.
        self.streamed = run.watch or len(agent.models) > 1

    async def fit(self, seat: Seat, model: str, info: ModelInfo) -> Fitted:
        request, sampling = self.request, self.run.limited(model, self.request.sampling)
        if sampling is not request.sampling:
            request = replace(request, sampling=sampling)
        write, policy = partial(self.write, request, info), self.run.recipe.fit
        return await fit(info, model, write, self.texts, policy, self.seen)

    def write(self, request: Request, info: ModelInfo, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        """The request with `texts` as the proposals, for a model with the facts `info`.

        indexes: index on the table of each text
        """
        if texts != self.texts:
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
        return await look_up.ask(seat, self.agent, model, request, send if self.streamed else None)

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
        await self.reading.prepare(layer.agents)
        self.unbegun = self.seats_until(until)
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
            self.tasks.clear()  # a cancelled task has its error, whose traceback has frames that have this layer
        return await self.finish()

    async def begin(self) -> bool:
        """Begin the next seat. `False` if every seat has begun."""
        if (seat := next(self.unbegun, None)) is None:
            return False
        # Emitted here and not in the seat's task. A slow listener could otherwise hold the task up until the seat is
        # cut off, and its end would come without a beginning.
        if self.layer.at_once is not None and self.run.funded is not None:
            self.run.funded.begin_seat(*seat.address)
        await self.run.say(ProposalStarted(*seat.address, seat.model, self.reading.saw(seat.address[1])))
        if len(self.seats) >= MANY:
            await asyncio.sleep(0)  # so that not all of many seats begin in one turn of the event loop
        self.seats.append(seat)
        self.tasks.append(waiting.begin(self.perform_seat(seat)))
        return True

    def is_decided(self) -> bool:
        """Whether no open seat is needed any more, because the votes of the others decide."""
        closed = {seat.address[1] for seat in self.seats if seat.ended}
        return self.ballots is not None and self.ballots.is_decided(
            [index for index in range(len(self.layer.seats)) if index not in closed]
        )

    def seats_until(self, until: float | None) -> Iterator[Seat]:
        """The seats of the layer with their requests, in seat order.

        until: when the layer must end, by the running loop's clock; `None` for no limit
        """
        run, reading = self.run, self.reading
        terms = self.terms(until)
        index = 0
        for agent in self.layer.agents:
            tools = run.offered_to(agent)
            for sample in range(agent.samples):
                sampling = run.sampling(agent, self.index, index, sample)
                messages = reading.whole(agent, index)
                request = Request(
                    messages, tools=tools, sampling=sampling, sample=index, terms=terms, extra=agent.extra
                )
                yield Seat(
                    run, (self.index, index), agent.models, until, _Proposing(run, reading, agent, request, index)
                )
                index += 1

    def terms(self, until: float | None) -> Terms:
        """The terms of the layer's calls. Its seats share the room for answers, which the next prompt has in full."""
        room = self.run.bounds.layer_characters // len(self.layer.seats)
        return replace(self.run.terms_of_advice(until), room=max(1, room))

    async def perform_seat(self, seat: Seat) -> None:
        """Fill one seat, and emit how it ended. Nothing is emitted if the seat was cut off in the meantime."""
        if self.run.again is not None and (found := self.run.again.seats.get(seat.address)) is not None:
            await self.recall(seat, found)
            return
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

    async def recall(self, seat: Seat, found: RecalledSeat) -> None:
        """Emit how the seat ended in an earlier run. An answer is told as a call that came from the store."""
        run = self.run
        seat.ended, seat.answer, seat.model = True, found.answer, found.model
        for use in found.uses:
            run.tally.recall_use(seat.address, use)
        if found.model != seat.models[0]:
            why = next((loss for loss in found.losses if loss.kind == "replaced"), None)
            before = Failure("cancelled", "") if why is None else Failure(why.cause, why.message)
            await run.say_end(ProposalReplaced(*seat.address, found.model, before))
        if found.answer is None and found.error is None:
            run.losses.spared += 1
            await run.say_end(ProposalSpared(*seat.address))
        elif found.answer is None:
            await run.say_end(ProposalFailed(*seat.address, found.error or Failure("cancelled", "")))
        else:
            run.tally.answer(run.tally.begin(seat.address, found.model, Request(())), found.answer)
            run.losses.answered += 1
            if self.ballots is not None:
                self.ballots.hear(seat.address[1], found.answer)
            await run.say_end(ProposalFinished(*seat.address, found.answer, found.model))
        for loss in found.losses:
            run.losses.add(*seat.address, loss.model, ModelError(loss.message, loss.cause), loss.kind, loss.replaced_by)
        if found.losses:
            return
        # The earlier run has not told its losses, since it did not come to its end.
        if found.answer is not None:
            seat.note_losses(found.answer)
        elif found.error is not None:
            error = ModelError(found.error.message, found.error.cause, status=found.error.status)
            run.losses.add(*seat.address, found.model, error)

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

        Raises `ModelError` if there are none, unless the layer comments, or seats were spared because no vote could be
        won any more.
        """
        proposals = tuple(self.proposal_of(seat, seat.answer) for seat in self.seats if seat.answer is not None)
        await self.run.say(LayerFinished(self.index, len(proposals)))
        if not proposals and not self.layer.comments and not self.spared:
            lost = (loss for loss in self.run.losses if loss.layer == self.index and loss.kind != "dropped")
            causes = "; ".join(f"seat {loss.seat}, {loss.model}: {loss.message}" for loss in lost)
            raise ModelError(f"every seat of layer {self.index} was lost: {causes}", "no_proposals")
        return proposals

    def proposal_of(self, seat: Seat, answer: Answer) -> Proposal:
        """The answer of a seat as the next layer finds it."""
        index, comments = seat.address[1], self.layer.comments
        about = self.reading.about(index) if comments else None
        return Proposal(index, seat.model, answer, self.index, comments, about)
