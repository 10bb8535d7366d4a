"""One layer performed: all its seats at once, each with its fallbacks, until all are done or the time is up.

An expected failure is caught where it happens, in the seat: the seat is lost, the layer goes on, and the loss is told.
What comes too late is dropped, never awaited.
"""

import asyncio
from collections.abc import Iterator

import msgspec

from partsong.briefing import Brief, prompt
from partsong.engine import waiting
from partsong.engine.fallback import Begun, ask_in_turn
from partsong.engine.fitting import Fitted, fit
from partsong.engine.performance import Performance, Proposal, ended_early, failure, shortened, truncated_of
from partsong.engine.tally import OpenCall
from partsong.errors import ModelError
from partsong.events import (
    LayerFinished,
    LayerStarted,
    LossKind,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalStarted,
)
from partsong.model import Answer, Delta, Message, Request
from partsong.model_info import ModelInfo
from partsong.recipe import Agent, Layer


async def perform_layer(
    run: Performance, number: int, told: Brief, before: tuple[Proposal, ...]
) -> tuple[Proposal, ...]:
    """Ask all seats at once; return what they proposed, in seat order, whoever finished first."""
    layer = _Layer(run, number, told, before)
    return await layer.perform()


class _Layer:
    """A layer at work. What a seat answered stands in `answers` from the moment it is known; `None` is a lost seat."""

    def __init__(self, run: Performance, number: int, told: Brief, before: tuple[Proposal, ...]) -> None:
        self.run, self.number, self.told, self.before = run, number, told, before
        self.layer: Layer = run.recipe.layers[number]
        self.texts = tuple(proposal.answer.text for proposal in before)
        self.truncated = truncated_of(before)
        self.answers: dict[int, Answer | None] = {}
        self.models: dict[int, str] = {}  # that answered
        self.calls: dict[int, OpenCall] = {}
        self.failures: dict[int, list[ModelError]] = {}  # of models that were replaced

    async def perform(self) -> tuple[Proposal, ...]:
        run, number, layer, answers = self.run, self.number, self.layer, self.answers
        agents = layer.seats
        await run.say(LayerStarted(number, tuple(agent.model for agent in agents)))
        until, too_late = waiting.end_of(layer, run.layer_end(number))
        tasks: list[asyncio.Task[None]] = []
        try:
            for seat, (agent, request) in enumerate(self.requests(until)):
                # Said here and not by the seat: one that is cut off while a slow listener keeps it waiting has begun.
                await run.say(ProposalStarted(number, seat, agent.model))
                tasks.append(asyncio.create_task(self.perform_seat(seat, agent, request, until)))
            cut = await waiting.wait(tasks, answers, layer, until, too_late)
            for seat in cut:
                tasks[seat].cancel()
                answers[seat] = None
            for seat, error in cut.items():
                late = ModelError(str(error), error.cause)
                if seat in self.calls:
                    late.usage = run.tally.give_up(self.calls[seat])
                await self.lose(seat, agents[seat].model, late, kind="cut_off")
            await asyncio.gather(*(task for seat, task in enumerate(tasks) if seat not in cut))
        finally:
            for seat in range(len(tasks)):
                answers.setdefault(seat, None)  # whoever comes now comes too late
            await waiting.end(tasks)
        proposals = tuple(
            Proposal(seat, self.models[seat], answer) for seat, answer in sorted(answers.items()) if answer is not None
        )
        await run.say(LayerFinished(number, len(proposals)))
        if not proposals:
            lost = (loss for loss in run.losses if loss.layer == number and loss.kind != "dropped")
            causes = "; ".join(f"seat {loss.seat}, {loss.model}: {loss.message}" for loss in lost)
            raise ModelError(f"every seat of layer {number} was lost: {causes}", "no_proposals")
        return proposals

    def requests(self, until: float | None) -> Iterator[tuple[Agent, Request]]:
        """Each seat's agent and what it is asked, in seat order. Seats that are told the same share the messages."""
        run = self.run
        told: dict[str, tuple[Message, ...]] = {}
        terms = run.terms_of_advice(until)
        seat = 0
        for agent in self.layer.agents:
            if agent.system not in told:
                told[agent.system] = self.messages(self.texts, tuple(range(len(self.texts))), agent)
            for sample in range(agent.samples):
                sampling = run.sampling(agent, self.number, seat, sample)
                yield agent, Request(told[agent.system], sampling=sampling, sample=seat, terms=terms)
                seat += 1

    def messages(self, texts: tuple[str, ...], positions: tuple[int, ...], agent: Agent) -> tuple[Message, ...]:
        """What the agent is told, with these texts of the proposals at these positions."""
        truncated = frozenset(place for place, position in enumerate(positions) if position in self.truncated)
        return prompt(self.told, agent.system, texts, truncated)

    async def perform_seat(self, seat: int, agent: Agent, request: Request, until: float | None) -> None:
        """Ask the agent's models in turn."""
        run, number, answers = self.run, self.number, self.answers
        failures = self.failures[seat] = []
        fitted: Fitted | None = None

        async def fit_to(info: ModelInfo, name: str) -> Fitted:
            whole = request
            if (sampling := run.limited(name, request.sampling)) is not request.sampling:
                whole = msgspec.structs.replace(request, sampling=sampling)

            def write(texts: tuple[str, ...], positions: tuple[int, ...]) -> Request:
                if texts == self.texts:
                    return whole
                return msgspec.structs.replace(whole, messages=self.messages(texts, positions, agent))

            return await fit(info, name, write, self.texts, run.recipe.fit)

        async def ask(name: str, share: float | None, begun: Begun) -> Answer:
            nonlocal fitted

            async def send(delta: Delta) -> None:
                begun()
                # A seat that was cut off is silent from then on.
                if run.watch and seat not in answers:
                    await run.say(ProposalDelta(number, seat, delta))

            def opened(call: OpenCall) -> None:
                self.calls[seat] = call

            # Whether a model has begun can only be seen in a stream.
            streamed = run.watch or len(agent.models) > 1

            async def ask_it(prompt: Fitted) -> Answer:
                asked = (
                    prompt.request
                    if share == until
                    else msgspec.structs.replace(prompt.request, terms=run.terms_of_advice(share))
                )
                return await run.ask(name, number, asked, send if streamed else None, opened)

            fitted, answer = await run.ask_fitted(name, (number, seat), lambda info: fit_to(info, name), ask_it)
            return answer

        async def replace(model: str, error: ModelError) -> None:
            if run.losses.strict:
                raise error
            failures.append(error)
            if seat not in answers:
                if error.usage is None and seat in self.calls:
                    error.usage = run.tally.give_up(self.calls[seat])
                await run.say(ProposalReplaced(number, seat, model, failure(error), error.usage))

        try:
            model, answer = await ask_in_turn(agent.models, ask, replace, until)
        except ModelError as error:
            if seat not in answers:
                answers[seat] = None
                await self.lose(seat, agent.model, error)
            return
        if seat in answers:
            return
        answers[seat], self.models[seat] = answer, model
        run.losses.answered += 1
        await run.say(ProposalFinished(number, seat, answer, model))
        if failures:
            run.losses.add(number, seat, agent.model, failures[0], "replaced", model)
        if fitted is not None and fitted.cuts:
            run.losses.add(number, seat, model, shortened(fitted), "shortened")
        if answer.finish_reason == "length":
            run.losses.add(number, seat, model, ended_early(), "truncated")

    async def lose(self, seat: int, model: str, error: ModelError, kind: LossKind = "failed") -> None:
        """Say that a seat is lost. Of several models that failed in it, the agent's own gives the cause."""
        await self.run.say(ProposalFailed(self.number, seat, failure(error), error.usage))
        if before := self.failures.get(seat):
            told = "; its fallback: ".join(str(each) for each in (*before, error))
            error, kind = ModelError(told, before[0].cause, status=before[0].status), "failed"
        self.run.losses.add(self.number, seat, model, error, kind)
