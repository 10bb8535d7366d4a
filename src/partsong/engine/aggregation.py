"""Asks the aggregator and its fallbacks for the answer of a run. Only the aggregator gets the caller's tools.

The answer is always streamed. If the aggregator fails before its first word, a fallback is asked, and then the recipe's
last resort applies. If it fails later, the run fails, and the text so far is kept. An aggregator that selects does not
get the caller's sampling settings, since it writes only a number and the selected proposal is the answer.
"""

from functools import partial
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.analysis import Analysis, as_text
from partsong.briefing import AggregatorRole, Brief, brief, prompt, role_of_aggregator, system_of
from partsong.engine import look_up, waiting
from partsong.engine.citations import Citations, as_list, listed
from partsong.engine.fitting import DRAFT, Fitted, fit, fit_in_steps
from partsong.engine.performance import Performance, Proposal, failure
from partsong.engine.proposed_tool_calls import gathered
from partsong.engine.seat import Seat
from partsong.engine.selection import selected
from partsong.engine.synthesis import Synthesis, say
from partsong.engine.table import Table
from partsong.engine.unfencing import Unfencing
from partsong.errors import ModelError
from partsong.events import AggregationReplaced, AggregationStep, AnyEvent
from partsong.heavy import LIGHT_BYTES, done, is_heavy
from partsong.model import Answer, Delta, Message, Request, Sampling, TextDelta
from partsong.model_info import ModelInfo, info_of
from partsong.prompts import fenced_texts
from partsong.recipe import ANALYST_SEAT
from partsong.sources import sources_of

# The loss of an aggregator that answers without the analysis.
NO_ROOM = "the aggregator did not read the analysis: its window has no room for it"


class Aggregated(Struct, frozen=True):
    """The answer of a run.

    model: id of the model that gave the answer
    answer: the answer
    chosen: the proposal that is the answer; `None` if the answer was written
    """

    model: str
    answer: Answer
    chosen: Proposal | None = None


async def aggregate(run: Performance, table: Table, analysis: Analysis | None = None) -> Aggregated:
    """Ask the aggregator, and return the answer of the run.

    table: the proposals and comments that the layers have left; empty for a recipe without layers
    analysis: what the analyst has found in the proposals; `None` (default) for nothing

    Raises `ModelError` if the aggregator and all its fallbacks fail, or if the run's deadline passes.
    """
    texts, calls, count = table.texts, "", len(table.proposals)
    role = role_of_aggregator(run.recipe, run.conversation)
    assert role is not None, "a vote that fails the run asks no aggregator"
    heavy = is_heavy(run.conversation)
    told = await done(heavy, brief, run.recipe, run.conversation, role)
    if told.lists_calls:
        numbered, calls = await gathered(run.conversation, texts[:count], run.bounds)
        texts = (*numbered, *texts[count:])
    drafter = await done(heavy, brief, run.recipe, run.conversation, "drafter") if run.recipe.in_steps else None
    work = _Aggregating(run, role, told, table, texts, calls, analysis, drafter)
    seat = Seat(run, (len(run.recipe.layers), 0), run.recipe.aggregator.models, run.end, work)
    try:
        # A task of its own, so that a model that ignores its cancellation can be left behind.
        answer = await waiting.result_by(waiting.begin(seat.fill()), run.end)
    except waiting.TooLateError:
        error = ModelError(f"the run's deadline of {run.recipe.deadline:g} s was over", "timeout")
        seat.give_up(error)
        raise error from None
    finally:
        seat.ended = True
    seat.note_losses(None if work.role == "selector" else answer)
    return Aggregated(seat.model, answer, work.chosen)


class _Aggregating:
    """The aggregator's part of the work of its seat; see `seat.Work`.

    role: what the aggregator does
    told: the brief of this role
    texts: texts in the prompt: the proposals in seat order, and the comments on them
    tool_calls: text that lists the proposed tool calls; "" if there are none
    analysis: what the analyst has found in the proposals; `None` if there is nothing that the model should read
    drafter: the brief of the steps before the last; `None` if the recipe does not aggregate in steps
    fenced: whether the prompt has marks around proposals, which the model might copy into its answer
    chosen: the proposal that was selected; `None` if none was
    sources: what the seats have read, as far as the model is told and may cite it
    """

    def __init__(
        self,
        run: Performance,
        role: AggregatorRole,
        told: Brief,
        table: Table,
        texts: tuple[str, ...],
        calls: str,
        analysis: Analysis | None,
        drafter: Brief | None,
    ) -> None:
        self.run, self.role, self.told, self.agent, self.table = run, role, told, run.recipe.aggregator, table
        self.texts, self.tool_calls, self.drafter = texts, calls, drafter
        self.analysis = analysis if analysis is not None and (analysis.quoted or analysis.gaps) else None
        marks = self.told.fences or self.analysis is not None or self.told.has_sources
        self.fenced = bool(self.texts) and marks and self.role != "selector"
        self.chosen: Proposal | None = None
        uses = (use for use in run.tally.read if (use.layer, use.seat) != (len(run.recipe.layers), 0))
        known = sources_of(uses, len(run.recipe.layers)) if told.has_sources else ()
        self.sources = listed(known) if texts else ()

    async def fit(self, seat: Seat, model: str, info: ModelInfo) -> Fitted:
        try:
            return await self.fit_all(seat, model, info)
        except ModelError as error:
            if error.cause != "window" or self.analysis is None:
                raise
        # Without the analysis the run would have its answer, so it must have one with it, too.
        self.analysis = None
        analyst = self.run.recipe.analyst
        lacking = ModelError(NO_ROOM, "window")
        self.run.losses.add(seat.address[0], ANALYST_SEAT, analyst.model if analyst else "", lacking, "shortened")
        return await self.fit_all(seat, model, info)

    async def fit_all(self, seat: Seat, model: str, info: ModelInfo) -> Fitted:
        """The request with the proposals and the analysis. Raises `ModelError` if it does not fit."""
        write, policy = partial(self.write, model), self.run.recipe.fit
        if not self.run.recipe.in_steps:
            return await fit(info, model, write, self.texts, policy)
        write_draft, draft = partial(self.write_draft, model), partial(self.draft, seat, model)
        return await fit_in_steps(info, model, write, write_draft, self.texts, draft)

    async def ask(self, seat: Seat, model: str, fitted: Fitted, until: float | None) -> Answer:
        match self.role:
            case "selector":
                return await self.select(seat, model, fitted)
            case "synthesizer" | "actor":
                json = self.run.conversation.response_format is not None
                citations = Citations(len(self.sources)) if self.sources else None
                synthesis = Synthesis(seat, self.unfencing(fitted, json), citations)
                return await synthesis.write(model, replace(fitted.request, terms=self.run.terms(until)))
            case _:
                assert_never(self.role)

    def may_begin_again(self) -> bool:
        return not self.run.said  # the listener cannot take back the words that it has heard

    def replaced(self, seat: Seat, model: str, error: ModelError) -> AnyEvent:
        return AggregationReplaced(model, failure(error), error.usage)

    async def draft(self, seat: Seat, model: str, fitted: Fitted) -> str:
        """Ask the model to aggregate some of the proposals, and return the text, which the next step reads."""
        seat.note_cuts(fitted)
        await seat.say_cuts(fitted)
        answer = await seat.call(model, fitted.request, None)
        seat.begun()  # the model works, though nobody hears it yet
        if (unfencing := self.unfencing(fitted, last=False)) is not None:
            answer = replace(answer, parts=await unfencing.cleaned(answer.parts))
        indexes = tuple(index for index in fitted.indexes if index != DRAFT)
        await self.run.say_end(AggregationStep(indexes, fitted.after, answer))
        return answer.text

    async def select(self, seat: Seat, model: str, fitted: Fitted) -> Answer:
        """Ask the model to name the best proposal, and return that proposal with the usage of this call.

        Raises `ModelError` with the cause "invalid" if the answer names no single proposal.
        """

        async def heard(delta: Delta) -> None:
            seat.begun(delta)

        said = await look_up.ask(seat, self.agent, model, fitted.request, heard)
        count = len(self.table.proposals)
        if (named := await done(len(said.text) > LIGHT_BYTES, selected, said.text, count)) is None:
            words = said.text.strip()[:100]
            raise ModelError(f'{model} was to name one proposal, but said "{words}"', "invalid", usage=said.usage)
        self.chosen = best = self.table.proposals[named]
        await say(seat, TextDelta(best.answer.text))
        return replace(best.answer, usage=said.usage, stored=said.stored)

    def unfencing(self, fitted: Fitted, json: bool = False, last: bool = True) -> Unfencing | None:
        """What removes copied marks of the prompt's fence from an answer; `None` if there is nothing to remove.

        json: whether the answer must be JSON, so that a Markdown code fence around it is removed too (default: no)
        last: whether it is the answer of the run, and no draft (default: yes)
        """
        if not self.fenced and not json:
            return None
        analysis = self.analysis_of(fitted.indexes) if last else ""
        sources = as_list(self.sources) if last else ""
        return Unfencing(fenced_texts(fitted.texts, self.tool_calls, analysis, sources), json)

    def write(self, model: str, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        """The request for the answer.

        texts: texts to read, which may be shortened proposals or a draft
        indexes: for each text, the index of its proposal, or `DRAFT`
        """
        conversation = self.run.conversation
        request = Request(
            self.messages(self.told, texts, indexes, self.analysis_of(indexes), as_list(self.sources)),
            tools=conversation.tools or self.run.offered_to(self.agent),
            tool_choice=conversation.tool_choice,
            parallel_tool_calls=conversation.parallel_tool_calls if conversation.tools else None,
            response_format=conversation.response_format,
            sampling=self.sampling(model),
            terms=self.run.terms(self.run.end),
            extra=self.agent.extra,
        )
        return self.run.for_model(request, info_of(self.run.models[model]))

    def left_out(self, model: str) -> str:
        return self.run.left_out(model, self.run.conversation)

    def write_draft(self, model: str, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        """The request for a draft, which is prose without tools. See `write` for the parameters."""
        assert self.drafter is not None, "only a recipe that aggregates in steps has drafts"
        messages = self.messages(self.drafter, texts, indexes)
        terms = self.run.terms(self.run.end)
        request = Request(messages, sampling=self.sampling(model), terms=terms, extra=self.agent.extra)
        return self.run.for_model(request, info_of(self.run.models[model]))

    def messages(
        self, told: Brief, texts: tuple[str, ...], indexes: tuple[int, ...], analysis: str = "", sources: str = ""
    ) -> tuple[Message, ...]:
        truncated, marks = self.table.truncated_at(indexes), self.table.marks(indexes)
        system = self.agent.system if self.run.conversation.tools else system_of(self.agent)
        return prompt(told, system, texts, truncated, self.tool_calls, marks, analysis, sources)

    def analysis_of(self, indexes: tuple[int, ...]) -> str:
        """The analysis for a prompt with the proposals at these indexes; "" if there is none."""
        return "" if self.analysis is None else analysis_for(self.analysis, self.table, indexes)

    def sampling(self, model: str) -> Sampling:
        """The recipe's sampling for the aggregator, with the caller's settings in their place unless it selects."""
        sampling = self.run.sampling(self.agent, len(self.run.recipe.layers), 0, 0)
        if self.role == "selector":
            return self.run.limited(model, sampling)
        return self.run.limited(model, as_asked(sampling, self.run.conversation.sampling))


def analysis_for(analysis: Analysis, table: Table, indexes: tuple[int, ...]) -> str:
    """The analysis for a prompt with the proposals at these indexes, which are named by their numbers in it.

    A proposal that only a draft stands for is called "earlier".
    """
    marked = bool(table.marks(indexes))
    numbers = {
        table.proposals[index].seat: f"{index + 1 if marked else place}"
        for place, index in enumerate(indexes, 1)
        if index != DRAFT and index < len(table.proposals)
    }
    return as_text(analysis, lambda seat: numbers.get(seat, "earlier"))


def as_asked(sampling: Sampling, caller: Sampling) -> Sampling:
    """The sampling of an aggregator, with the caller's settings in place of its own."""
    asked = {name: value for name in caller.__struct_fields__ if (value := getattr(caller, name)) not in (None, ())}
    return replace(sampling, **asked) if asked else sampling
