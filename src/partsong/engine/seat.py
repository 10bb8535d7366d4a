"""The life of one seat, of a layer or of the aggregator: its models are asked in turn until one of them answers.

    fill                 the agent's models in turn: its own first, then its fallbacks
      _within_share      a model that does not begin within its share of the time has failed
        _fitted          the prompt is fitted to the model's window, and once more if a refusal names the window
          Work.ask       the layer's or the aggregator's own part: makes the request and handles the deltas
            call         one call to the model, which is counted however it ends

A model that has begun to answer may take all the time that is left. A model that has not begun must leave time for its
fallbacks.
"""

import asyncio
from typing import Protocol

from partsong.engine.fitting import Fitted, learnt
from partsong.engine.performance import Performance
from partsong.engine.tally import OpenCall
from partsong.engine.tracebacks import cut
from partsong.errors import Cause, ModelError
from partsong.events import AnyEvent, PromptFitted
from partsong.model import NOTHING_USED, Answer, Delta, Request, Send, Usage
from partsong.model_info import ModelInfo, info_of
from partsong.wire.deltas import is_progress


class Work(Protocol):
    """The part of a seat's work in which proposers and the aggregator differ."""

    async def fit(self, seat: "Seat", model: str, info: ModelInfo) -> Fitted:
        """The seat's request, shortened to fit the model's window. Raises `ModelError` if no request can fit.

        model: id of the model that will be asked
        info: the facts about this model, among them its window
        """

    async def ask(self, seat: "Seat", model: str, fitted: Fitted, until: float | None) -> Answer:
        """Call the model with the fitted request, and return its answer. Raises `ModelError` if the call fails.

        until: when the model must have begun to answer, by the running loop's clock; `None` for no limit
        """

    def left_out(self, model: str) -> str:
        """A clause that names the parts of documents that the model's prompt leaves out; "" if there are none."""

    def may_begin_again(self) -> bool:
        """Whether a fallback may be asked after a failure: not if the listener has heard some of the answer."""

    def replaced(self, seat: "Seat", model: str, error: ModelError) -> AnyEvent:
        """The event that reports that the model before failed with `error`, and that `model` is asked next."""


class Seat:
    """One seat while its models are asked.

    address: index of the layer (the number of layers for the aggregator), and index of the seat in it
    models: ids of the agent's own model and of its fallbacks, in the order in which they are asked
    until: when the seat must be done, by the running loop's clock; `None` for no limit
    work: the part that differs between proposers and the aggregator
    model: id of the model that is asked now; at the end, of the model that has answered
    answer: the answer; `None` until there is one
    ended: whether the seat has its answer, is lost, or is cut off; an answer that comes later is dropped
    failures: errors of the models that were replaced, in order
    """

    __slots__ = (
        "_call",
        "_first_word",
        "_shortened",
        "_work",
        "_wrong",
        "address",
        "answer",
        "ended",
        "failures",
        "model",
        "models",
        "run",
        "until",
    )

    def __init__(
        self, run: Performance, address: tuple[int, int], models: tuple[str, ...], until: float | None, work: Work
    ) -> None:
        self.run, self.address, self.models, self.until, self._work = run, address, models, until, work
        self.model = models[0]
        self.answer: Answer | None = None
        self.ended = False
        self.failures: list[ModelError] = []
        self._call: OpenCall | None = None  # the latest call
        self._first_word: asyncio.Timeout | None = None
        self._shortened: ModelError | None = None
        self._wrong: Usage | None = None  # of an answer that is being written again

    async def fill(self) -> Answer:
        """Ask the models in turn, and return the first answer. Raises the last model's `ModelError` if all fail."""
        for index, model in enumerate(self.models[:-1]):
            self.model = model
            try:
                return await self._within_share(model, len(self.models) - index)
            except ModelError as error:
                await self._replace(self.models[index + 1], error)
        self.model = self.models[-1]
        return await self._fitted(self.model, self.until)

    def begun(self, delta: Delta | None = None) -> None:
        """Note that the model has begun to answer, so that it may take all the time that is left.

        delta: what the model said; white space alone is no beginning. `None` (default) for an answer that nobody hears
        """
        if (limit := self._first_word) is not None and (delta is None or is_progress(delta)):
            self._first_word = None
            if not limit.expired():
                limit.reschedule(None)

    async def call(self, model: str, request: Request, send: Send | None) -> Answer:
        """Call a model. Raises `ModelError` if the call fails, or if the seat ends before the answer comes.

        send: hears the deltas; `None` for an answer that is not streamed
        """
        self._check_wanted()
        self._call = self.run.tally.begin(self.address, model, request)
        answer = await self.run.call(self._call, send)
        self._check_wanted()
        return answer

    def give_up(self, error: ModelError) -> None:
        """Count the open calls, if there are any, as given up because of `error`, and set the usage in `error`."""
        if self.run.tally.uses:
            self.run.tally.give_up_uses(error, self.address)
        if error.usage is None and self._call is not None:
            error.usage = self.run.tally.fail(self._call, error, given_up=True)
            if self._wrong is not None:
                error.usage = self._wrong + (error.usage or NOTHING_USED)

    def note_wrong(self, usage: Usage) -> None:
        """Remember the usage of a wrong answer, which counts with the next one if the model is then too late."""
        self._wrong = usage

    async def say_cuts(self, fitted: Fitted) -> None:
        """Emit which proposals were shortened for the prompt, if any."""
        self._check_wanted()
        if fitted.cuts:
            await self.run.say(PromptFitted(*self.address, self.model, fitted.before, fitted.after, fitted.cuts))

    def note_cuts(self, fitted: Fitted) -> None:
        """Remember that the model read a shortened prompt, which is a loss if its answer becomes the seat's."""
        if fitted.cuts and self._shortened is None:
            read = f"it read {fitted.after:,} of {fitted.before:,} tokens, to fit its window"
            self._shortened = ModelError(read, "window")

    def note_losses(self, answer: Answer | None) -> None:
        """Note the losses of a seat that has an answer: replaced models, a shortened prompt, a truncated answer.

        answer: the answer that the seat's model wrote; `None` if the model selected a proposal

        A caveat about an early end replaces the loss for the finish reason, since it says more. Raises `ModelError` if
        there is a loss and the recipe is strict.
        """
        losses = self.run.losses
        if self.failures:
            losses.add(*self.address, self.models[0], self.failures[0], "replaced", self.model)
        if self._shortened is not None:
            losses.add(*self.address, self.model, self._shortened, "shortened")
        if lacking := self._work.left_out(self.model):
            error = ModelError(f"without {lacking}", "refused")
            losses.add(*self.address, self.model, error, "shortened")
        caveats = () if answer is None else answer.caveats or ()
        for caveat in caveats:
            cause: Cause = "truncated" if caveat.kind == "truncated" else "refused"
            losses.add(*self.address, self.model, ModelError(caveat.message, cause), caveat.kind)
        if (
            answer is not None
            and answer.finish_reason == "length"
            and not any(caveat.kind == "truncated" for caveat in caveats)
        ):
            error = ModelError("it stopped at its limit of tokens", "truncated")
            losses.add(*self.address, self.model, error, "truncated")

    async def _within_share(self, model: str, models_left: int) -> Answer:
        """Ask a model that must begin to answer within its share of the time that is left.

        models_left: number of models that have not failed, this one included; they share the time equally
        """
        if self.until is None:
            return await self._fitted(model, None)
        clock = asyncio.get_running_loop().time
        share = max(0.0, self.until - clock()) / models_left
        until = clock() + share
        try:
            async with asyncio.timeout_at(until) as limit:
                self._first_word = limit
                return await self._fitted(model, until)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._first_word = None
        raise ModelError(f"it said nothing for {share:.3g} s, its share of the time that was left", "timeout")

    async def _fitted(self, model: str, until: float | None) -> Answer:
        """Ask a model with a prompt that fits its window, and once more if its refusal names a window not yet known."""
        known = info_of(self.run.models[model])
        try:
            return await self._ask(model, await self._work.fit(self, model, known), until)
        except ModelError as error:
            now = info_of(self.run.models[model])
            if error.cause != "window" or not learnt(known, now):
                raise
        return await self._ask(model, await self._work.fit(self, model, now), until)

    async def _ask(self, model: str, fitted: Fitted, until: float | None) -> Answer:
        """Emit what was cut from the prompt, and then ask a model with it."""
        await self.say_cuts(fitted)
        answer = await self._work.ask(self, model, fitted, until)
        self.note_cuts(fitted)
        return answer

    async def _replace(self, model: str, error: ModelError) -> None:
        """Emit that `model` is asked next, after a model that failed with `error`.

        Raises `error` if no other model may be asked: the seat has ended, the recipe is strict, or words were heard.
        """
        self.give_up(error)
        if self.ended or self.run.losses.strict or not self._work.may_begin_again():
            raise error
        cut(error)
        self.failures.append(error)
        self._shortened = self._wrong = None
        await self.run.say_end(self._work.replaced(self, model, error))

    def _check_wanted(self) -> None:
        """Raise `ModelError` if the seat has ended, so that a model that ignored its cancellation has no effect."""
        if self.ended:
            raise ModelError("the seat has ended", "cut_off")
