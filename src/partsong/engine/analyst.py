"""Asks the analyst and its fallbacks to compare the proposals of the last layer, before the aggregator is asked.

An analyst that fails costs only the analysis: the run goes on without one, and the loss is reported. An analyst has
failed, too, if what it wrote is no analysis, or if none of its entries stands.
"""

from collections.abc import Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from partsong.analysis import LEAST_PROPOSALS, SCHEMA, Analysis
from partsong.briefing import brief, prompt, system_of
from partsong.engine import look_up, waiting
from partsong.engine.emitter import Emitter
from partsong.engine.findings import UnusableError, read_analysis
from partsong.engine.fitting import Fitted, fit
from partsong.engine.losses import Losses
from partsong.engine.performance import Performance, Proposal, failure, truncated_of
from partsong.engine.recalled import RecalledAnalysis
from partsong.engine.seat import Seat
from partsong.engine.tracebacks import cut
from partsong.errors import ModelError
from partsong.events import (
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    LossKind,
)
from partsong.model import NOTHING_USED, Answer, Conversation, Delta, Model, Request, Usage
from partsong.model_info import ModelInfo, info_of
from partsong.money.funding import Funds, fund_analysis
from partsong.recipe import ANALYST_SEAT, Agent, Aggregator, Analyst, Layer, Recipe


async def analyse(run: Performance, proposals: tuple[Proposal, ...]) -> Analysis | None:
    """Ask the recipe's analyst, and return the analysis of the proposals of the last layer.

    Returns `None` without an analyst, with a single proposal, or if the analyst and its fallbacks fail. Raises
    `ModelError` if the recipe is strict and the analyst is lost.
    """
    analyst = run.recipe.analyst
    if analyst is None or len(proposals) < LEAST_PROPOSALS:
        return None
    address, until = (len(run.recipe.layers), ANALYST_SEAT), run.analyst_end
    if run.again is not None and (found := run.again.analysis) is not None:
        return await _recall(run, address, analyst, found)
    work = _Analysing(run, analyst, proposals, until)
    seat = Seat(run, address, analyst.models, until, work)
    await run.say(AnalysisStarted(analyst.model))
    kind: LossKind = "failed"
    try:
        # A task of its own, so that a model that ignores its cancellation can be left behind.
        answer = await waiting.result_by(waiting.begin(_fill(seat)), until)
    except waiting.TooLateError:
        error, kind = ModelError("the run's deadline leaves the analyst no more time", "timeout"), "cut_off"
        seat.give_up(error)
    except ModelError as problem:
        cut(problem)
        error = problem
    else:
        await run.say_end(AnalysisFinished(work.analysis, seat.model))
        seat.note_losses(answer)
        return work.analysis
    finally:
        seat.ended = True
    await run.say_end(AnalysisFailed(failure(error), error.usage))
    if before := seat.failures:
        told = "; its fallback: ".join(str(each) for each in (*before, error))
        error, kind = ModelError(told, before[0].cause, status=before[0].status), "failed"
    run.losses.add(*address, analyst.model, error, kind)
    return None


class Comparison(Struct, frozen=True):
    """The analysis of the proposals of a run that is stored.

    analysis: the analysis
    model: id of the model that wrote it
    usage: tokens and dollars of all calls that were made for it; zero if it was found in the store
    stored: whether it was found in the store
    """

    analysis: Analysis
    model: str
    usage: Usage
    stored: bool


async def compare(
    recipe: Recipe,
    analyst: Analyst,
    conversation: Conversation,
    proposals: tuple[Proposal, ...],
    models: Mapping[str, Model],
    *,
    funds: Funds | None = None,
    record: str = "",
) -> Comparison:
    """Ask an analyst to compare proposals of a run that has ended. An equal call in the store is not made again.

    recipe: the recipe of the run, whose limits apply
    analyst: the analyst, whichever the recipe has
    models: a model for each id of the analyst
    funds, record: see `perform`

    Raises `ModelError` if the analyst fails, and `BudgetError` if the money does not allow its call.
    """
    # The layer and the aggregator of this recipe are not asked.
    layer = Layer((Agent(analyst.model, samples=LEAST_PROPOSALS),))
    alone = Recipe(
        recipe.name,
        (layer,),
        Aggregator(analyst.model),
        max_dollars=recipe.max_dollars,
        fit=recipe.fit,
        seed=recipe.seed,
        advice=recipe.advice,
        analyst=analyst,
    )
    funded = await fund_analysis(alone, conversation, models, [each.answer.text for each in proposals], funds)
    heard: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        heard.append(event)

    losses = Losses(alone)
    run = Performance(alone, conversation, models, Emitter(hear), False, False, True, losses, funded, record)
    try:
        await analyse(run, proposals)
    finally:
        run.tally.give_up_all(ModelError("nobody waits for the analysis", "cancelled"))
        if funded is not None:
            await funded.settle()
    for event in reversed(heard):
        if isinstance(event, AnalysisFinished):
            last = next(call for call in reversed(heard) if isinstance(call, CallFinished))
            return Comparison(event.analysis, event.model, run.tally.used, last.stored)
        if isinstance(event, AnalysisFailed):
            raise ModelError(event.error.message, event.error.cause, status=event.error.status, usage=run.tally.used)
    raise ModelError("there are no two proposals to compare", "no_proposals")


async def _recall(run: Performance, address: tuple[int, int], analyst: Analyst, found: RecalledAnalysis) -> Analysis:
    """Emit the analysis of an earlier run, told as a call that came from the store."""
    await run.say(AnalysisStarted(analyst.model))
    answer = Answer((), usage=NOTHING_USED, stored=found.usage)
    run.tally.answer(run.tally.begin(address, found.model, Request(())), answer)
    await run.say_end(AnalysisFinished(found.analysis, found.model))
    return found.analysis


async def _fill(seat: Seat) -> Answer:
    """Commit the money of the analyst, where money is held, and ask its models."""
    if seat.run.funded is not None:
        await seat.run.funded.begin(seat.run.turn(seat.address))
    return await seat.fill()


class _Analysing:
    """The analyst's part of the work of its seat; see `seat.Work`.

    until: when the analyst must be done, by the running loop's clock; `None` for no limit
    analysis: the result of the model that has answered
    """

    def __init__(
        self, run: Performance, analyst: Analyst, proposals: tuple[Proposal, ...], until: float | None
    ) -> None:
        self.run, self.analyst, self.until = run, analyst, until
        self.told = brief(run.recipe, run.conversation, "analyst")
        self.proposals = {proposal.seat: proposal.answer.text for proposal in proposals}
        self.truncated = truncated_of(proposals)
        self.analysis = Analysis()

    async def fit(self, seat: Seat, model: str, info: ModelInfo) -> Fitted:
        write, texts = partial(self.write, model), tuple(self.proposals.values())
        return await fit(info, model, write, texts, self.run.recipe.fit)

    def write(self, model: str, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        """The request for the analysis of `texts`, which may be shortened proposals."""
        messages = prompt(self.told, system_of(self.analyst), texts, self.truncated)
        sampling = self.run.sampling(self.analyst, len(self.run.recipe.layers), ANALYST_SEAT, 0)
        request = Request(
            messages,
            tools=self.run.offered_to(self.analyst),
            response_format=SCHEMA,
            sampling=self.run.limited(model, sampling),
            terms=self.run.terms_of_advice(self.until),
            extra=self.analyst.extra,
        )
        return self.run.for_model(request, info_of(self.run.models[model]))

    async def ask(self, seat: Seat, model: str, fitted: Fitted, until: float | None) -> Answer:
        """Call the model, and read its analysis. Raises `ModelError` if it fails, or if its words are no analysis."""

        async def heard(delta: Delta) -> None:
            seat.begun()

        request = replace(fitted.request, terms=self.run.terms_of_advice(until))
        try:
            answer = await look_up.ask(seat, self.analyst, model, request, heard)
        except ModelError as error:
            if error.cause != "refused":
                raise
            # Not every provider takes a schema. The form is in the instruction as well.
            answer = await look_up.ask(seat, self.analyst, model, replace(request, response_format=None), heard)
        try:
            self.analysis = read_analysis(answer.text, self.proposals)
        except UnusableError as problem:
            raise ModelError(f"{model}: {problem}", "invalid", usage=answer.usage) from None
        return answer

    def left_out(self, model: str) -> str:
        return self.run.left_out(model, self.told.conversation)

    def may_begin_again(self) -> bool:
        return True

    def replaced(self, seat: Seat, model: str, error: ModelError) -> AnyEvent:
        return AnalysisReplaced(model, failure(error), error.usage)
