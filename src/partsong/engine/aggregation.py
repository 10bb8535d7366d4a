"""The aggregator asked, with its fallbacks: it alone gets the tools, and it is always streamed.

Until its first word it can be replaced, and where the recipe allows it the proposal most like the others stands in for
it; after that a failure is the run's, with what was said kept. One that selects is told nothing of the caller's limits:
it writes a number, and the proposal is the answer.
"""

import asyncio
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from partsong.engine import waiting
from partsong.engine.acting import Acting, deltas_of
from partsong.engine.fallback import Begun, ask_in_turn
from partsong.engine.fitting import DRAFT, Fitted, fit, fit_in_steps
from partsong.engine.performance import Performance, Proposal, ended_early, failure, shortened, truncated_of
from partsong.engine.proposed_tool_calls import gathered
from partsong.engine.selection import selected
from partsong.engine.tally import OpenCall
from partsong.engine.tool_calls import fault_of, kept
from partsong.engine.unfencing import Unfencing
from partsong.errors import ModelError
from partsong.events import AggregationDelta, AggregationReplaced, AggregationStep, PromptFitted
from partsong.model import (
    Answer,
    Conversation,
    Delta,
    Message,
    Part,
    Request,
    Sampling,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from partsong.model_info import ModelInfo
from partsong.prompts import acting_instruction, advised, compose, proposing, selecting_instruction


class Aggregated(Struct, frozen=True):
    """The answer, and the id of the model that gave it; of one that was selected, the seat whose proposal it is."""

    model: str
    answer: Answer
    seat: int | None = None


async def aggregate(run: Performance, proposals: tuple[Proposal, ...]) -> Aggregated:
    """The answer. Raises `ModelError`."""
    aggregation = _Aggregation(run, proposals)
    return await aggregation.perform()


class _Aggregation:
    def __init__(self, run: Performance, proposals: tuple[Proposal, ...]) -> None:
        self.run, self.agent, self.proposals = run, run.recipe.aggregator, proposals
        self.selects = self.agent.method == "select"
        self.seat: int | None = None  # whose proposal was selected
        self.texts = tuple(proposal.answer.text for proposal in proposals)
        self.calls = ""  # those that are proposed
        if proposing(run.conversation, run.recipe.advice):
            self.texts, self.calls = gathered(run.conversation, self.texts)
        self.truncated = truncated_of(proposals)
        self.address = len(run.recipe.layers), 0
        self.failures: list[ModelError] = []
        self.call: OpenCall | None = None
        self.over = False
        self.shortened: ModelError | None = None
        self.fenced = bool(self.texts) and run.recipe.layout == "tail" and not self.selects

    async def perform(self) -> Aggregated:
        run, agent = self.run, self.agent
        # A task of its own, so that one that will not stop can be left behind.
        task = asyncio.create_task(ask_in_turn(agent.models, self.ask, self.replace, run.end))
        try:
            model, answer = await waiting.result_by(task, run.end)
        except waiting.TooLateError:
            error = ModelError(f"the run's deadline of {run.recipe.deadline:g} s was over", "timeout")
            if self.call is not None:
                error.usage = run.tally.give_up(self.call)
            raise error from None
        finally:
            self.over = True
        if self.failures:
            run.losses.add(*self.address, agent.model, self.failures[0], "replaced", model)
        if self.shortened is not None:
            run.losses.add(*self.address, model, self.shortened, "shortened")
        if answer.finish_reason == "length" and not self.selects:
            run.losses.add(*self.address, model, ended_early(), "truncated")
        return Aggregated(model, answer, self.seat)

    async def ask(self, name: str, share: float | None, begun: Begun) -> Answer:
        async def fit_to(info: ModelInfo) -> Fitted:
            write, write_draft = partial(self.write, name), partial(self.write_draft, name)
            if self.run.recipe.fit != "window" or self.selects:
                return await fit(info, name, write, self.texts, self.run.recipe.fit)
            return await fit_in_steps(info, name, write, write_draft, self.texts, draft)

        async def draft(fitted: Fitted) -> str:
            self.note_cuts(fitted)
            if fitted.cuts:
                await self.run.say(PromptFitted(*self.address, name, fitted.before, fitted.after, fitted.cuts))
            answer = await self.run.ask(name, self.address[0], fitted.request, None, self.opened)
            begun()  # it works, though nobody has heard it yet
            if self.fenced:
                answer = replace(answer, parts=self.unfencing(fitted).cleaned(answer.parts))
            positions = tuple(position for position in fitted.positions if position != DRAFT)
            await self.run.say(AggregationStep(positions, fitted.after, answer))
            return answer.text

        async def ask_it(fitted: Fitted) -> Answer:
            if self.selects:
                return await self.ask_for_the_best(name, fitted, begun)
            return await self.ask_for_the_answer(name, fitted, share, begun)

        fitted, answer = await self.run.ask_fitted(name, self.address, fit_to, ask_it)
        self.note_cuts(fitted)
        return answer

    def unfencing(self, fitted: Fitted, json: bool = False) -> Unfencing:
        return Unfencing((*fitted.texts, self.calls) if self.calls else fitted.texts, json)

    def note_cuts(self, fitted: Fitted) -> None:
        if fitted.cuts:
            self.shortened = self.shortened or shortened(fitted)

    def opened(self, call: OpenCall) -> None:
        self.call = call

    async def ask_for_the_best(self, name: str, fitted: Fitted, begun: Begun) -> Answer:
        """The proposal whose number the model names, as it stands, with what it cost to have it named."""

        async def heard(delta: Delta) -> None:
            begun()  # it works, though nobody else hears it

        said = await self.run.ask(name, self.address[0], fitted.request, heard, self.opened)
        if (place := selected(said.text, len(fitted.positions))) is None:
            words = said.text.strip()[:100]
            raise ModelError(f'{name} was to name one proposal, but said "{words}"', "invalid", usage=said.usage)
        best = self.proposals[fitted.positions[place]]
        self.seat = best.seat
        await self.say(TextDelta(best.answer.text))
        return replace(best.answer, usage=said.usage, stored=said.stored)

    async def ask_for_the_answer(self, name: str, fitted: Fitted, share: float | None, begun: Begun) -> Answer:
        run = self.run
        json = run.conversation.response_format is not None
        unfencing = self.unfencing(fitted, json) if self.fenced or json else None

        acting = Acting(run.conversation, self.say)
        kept_back = run.conversation.response_format is not None and not run.live

        async def send(delta: Delta) -> None:
            begun()
            if type(delta) is ToolCallDelta:
                if unfencing is not None and not kept_back and (rest := unfencing.rest()):
                    await self.say(TextDelta(rest))
                await acting.take(delta)
                return
            if unfencing is not None and type(delta) is TextDelta:
                if not (text := unfencing.take(delta.text)):
                    return
                delta = TextDelta(text)
            if not kept_back or type(delta) is not TextDelta:
                await self.say(delta)

        request = replace(fitted.request, terms=run.terms(share))
        answer = await run.ask(name, self.address[0], request, send, self.opened)
        if unfencing is not None:
            if (rest := unfencing.rest()) and not kept_back:
                await self.say(TextDelta(rest))
            answer = replace(answer, parts=unfencing.cleaned(answer.parts))
        whole = replace(answer, parts=kept(run.conversation, answer.parts))
        if (fault := fault_of(run.conversation, whole)) is not None:
            return await self.repair(name, request, whole, fault, heard=acting.heard)
        if kept_back and whole.text:
            await self.say(TextDelta(whole.text))
        await acting.finish(whole)
        return whole

    async def repair(self, name: str, request: Request, wrong: Answer, fault: str, *, heard: bool) -> Answer:
        """Ask once more for what was not right. Raises `ModelError`."""
        conversation = self.run.conversation
        again = ModelError(f"{name} did not answer as it was to: {fault}", "invalid", usage=wrong.usage)
        said = Message("assistant", (Text("\n".join(_in_text(part) for part in wrong.parts).strip() or "(nothing)"),))
        told = Message("user", (Text(f"That cannot be used. {fault} Write it again, and nothing else."),))
        if heard or (conversation.response_format is not None and any(self.run.said)):
            raise again  # what is wrong has been heard
        request = replace(request, messages=(*request.messages, said, told))
        answer = await self.run.ask(name, self.address[0], request, None, self.opened)
        usage = wrong.usage + answer.usage
        parts = kept(conversation, answer.parts)
        if any(self.run.said):  # what was said before the calls stands
            before = tuple(part for part in wrong.parts if not isinstance(part, ToolCall))
            parts = (*before, *(part for part in parts if isinstance(part, ToolCall)))
        answer = replace(answer, parts=parts, usage=usage)
        if (fault_left := fault_of(conversation, answer)) is not None:
            raise ModelError(f"{name} did not answer as it was to, twice: {fault_left}", "invalid", usage=answer.usage)
        if not any(self.run.said) and answer.text:
            await self.say(TextDelta(answer.text))
        for delta in deltas_of(answer):
            await self.say(delta)
        return answer

    async def say(self, delta: Delta) -> None:
        if self.over:
            return
        self.run.said.append(delta.text if type(delta) is TextDelta else "")
        await self.run.say(AggregationDelta(delta))

    async def replace(self, model: str, error: ModelError) -> None:
        run = self.run
        # Once the listener has heard words, another beginning would contradict them.
        if run.said or run.losses.strict or self.over:
            raise error
        self.failures.append(error)
        if error.usage is None and self.call is not None:
            error.usage = run.tally.give_up(self.call)
        await run.say(AggregationReplaced(model, failure(error), error.usage))

    def write(self, name: str, texts: tuple[str, ...], positions: tuple[int, ...]) -> Request:
        """The request for the answer, out of these texts of the proposals at these positions."""
        conversation = self.run.conversation
        return Request(
            self.messages(conversation, texts, positions),
            tools=conversation.tools,
            tool_choice=conversation.tool_choice,
            parallel_tool_calls=conversation.parallel_tool_calls if conversation.tools else None,
            response_format=conversation.response_format,
            sampling=self.sampling(name),
            terms=self.run.terms(self.run.end),
        )

    def write_draft(self, name: str, texts: tuple[str, ...], positions: tuple[int, ...]) -> Request:
        """The request for a draft: prose, and no tools."""
        messages = self.messages(advised(self.run.conversation, self.run.recipe.advice), texts, positions)
        return Request(messages, sampling=self.sampling(name), terms=self.run.terms(self.run.end))

    def messages(
        self, conversation: Conversation, texts: tuple[str, ...], positions: tuple[int, ...]
    ) -> tuple[Message, ...]:
        run = self.run
        truncated = frozenset(place for place, position in enumerate(positions) if position in self.truncated)
        if self.selects:
            # The paper shows no prompt for its ranker: this is ours, and stands at the end in both layouts.
            return compose(conversation, texts, "tail", selecting_instruction(), self.agent.system, truncated)
        instruction = run.instruction
        if conversation.tools and run.recipe.instruction is None and run.recipe.layout == "tail":
            instruction = acting_instruction()
        return compose(conversation, texts, run.recipe.layout, instruction, self.agent.system, truncated, self.calls)

    def sampling(self, name: str) -> Sampling:
        """The aggregator's sampling, with what the caller asked for in its place (for an answer, not for a number)."""
        if self.selects:
            return self.run.limited(name, self.run.sampling(self.agent, *self.address, 0))
        caller = self.run.conversation.sampling
        asked = {name: value for name in caller.__struct_fields__ if (value := getattr(caller, name)) not in (None, ())}
        sampling = self.run.sampling(self.agent, *self.address, 0)
        return self.run.limited(name, replace(sampling, **asked) if asked else sampling)


def _in_text(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"[called the tool {name} with {arguments}]"
        case _:
            return ""
