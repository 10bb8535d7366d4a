"""The life of one seat, of a layer or the aggregator: its models are asked in turn until one of them answers.

    fill                 the agent's models in turn: its own first, then its fallbacks
      _within_share      a model that says nothing within its share of the time has failed, too
        _fitted          the prompt is fitted to the model's window, and once more if a refusal tells the window
          Work.ask       the layer's or the aggregator's own part: which request, and what becomes of the deltas
            call         one call to the model, which is counted however it ends

The first word matters because of the listener and of the clock. A model that has begun gets all the time there is. A
model that hangs must leave its fallbacks some of it.
"""

import asyncio
from typing import Protocol

from partsong.engine.fitting import Fitted, learnt
from partsong.engine.performance import Performance
from partsong.engine.tally import OpenCall
from partsong.errors import Cause, ModelError
from partsong.events import AnyEvent, PromptFitted
from partsong.model import Answer, Request, Send
from partsong.model_info import ModelInfo, info_of


class Work(Protocol):
    """What a seat is there for."""

    async def fit(self, seat: "Seat", model: str, info: ModelInfo) -> Fitted:
        """The seat's request, made to fit the model's window. Raises `ModelError` if it cannot be made to fit."""

    async def ask(self, seat: "Seat", model: str, fitted: Fitted, until: float | None) -> Answer:
        """Call the model with the fitted request. `until` is when the model must have begun to answer."""

    def left_out(self, model: str) -> str:
        """What the model is not shown of the conversation's documents, in words; "" for nothing."""

    def may_begin_again(self) -> bool:
        """Whether another model may answer from the beginning."""

    def replaced(self, seat: "Seat", model: str, error: ModelError) -> AnyEvent:
        """The event that says that `model` is asked next, because the one before it failed with `error`."""


class Seat:
    """One seat at work.

    address: index of the layer (the number of layers for the aggregator), and index of the seat
    models: ids of the agent's own model and of its fallbacks
    until: when the seat must be done, by the running loop's clock; `None` for no limit
    model: id of the model that is asked now; at the end, of the model that has answered
    answer: the answer, from the moment it is known
    ended: whether the seat has its answer, is lost, or is cut off: whatever comes later is dropped
    failures: why the models failed that were replaced
    """

    __slots__ = (
        "_call",
        "_first_word",
        "_shortened",
        "_work",
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
        self._call: OpenCall | None = None  # the last that was made
        self._first_word: asyncio.Timeout | None = None
        self._shortened: ModelError | None = None

    async def fill(self) -> Answer:
        """The answer of the first model that gives one. Raises the last model's `ModelError`."""
        for index, model in enumerate(self.models[:-1]):
            self.model = model
            try:
                return await self._within_share(model, len(self.models) - index)
            except ModelError as error:
                await self._replace(self.models[index + 1], error)
        self.model = self.models[-1]
        return await self._fitted(self.model, self.until)

    def begun(self) -> None:
        """The model has said something, so it may take all the time that is left."""
        if (limit := self._first_word) is not None:
            self._first_word = None
            if not limit.expired():
                limit.reschedule(None)

    async def call(self, model: str, request: Request, send: Send | None) -> Answer:
        """Call a model. Raises `ModelError` if it fails, or if the seat has ended before or meanwhile."""
        self._check_wanted()
        self._call = self.run.tally.begin(self.address, model, request)
        answer = await self.run.call(self._call, send)
        self._check_wanted()
        return answer

    def give_up(self, error: ModelError) -> None:
        """Nobody waits for the open call any more: it is counted, and `error` gets its usage."""
        if error.usage is None and self._call is not None:
            error.usage = self.run.tally.fail(self._call, error, given_up=True)

    async def say_cuts(self, fitted: Fitted) -> None:
        """Say which proposals were shortened for the prompt, if any was."""
        self._check_wanted()
        if fitted.cuts:
            await self.run.say(PromptFitted(*self.address, self.model, fitted.before, fitted.after, fitted.cuts))

    def note_cuts(self, fitted: Fitted) -> None:
        """Keep in mind that the model reads a shortened prompt: a loss, if its answer is the seat's."""
        if fitted.cuts and self._shortened is None:
            read = f"it read {fitted.after:,} of {fitted.before:,} tokens, to fit its window"
            self._shortened = ModelError(read, "window")

    def note_losses(self, answer: Answer | None) -> None:
        """Note what the seat is short of. Raises `ModelError` if the recipe is strict.

        `answer` is what the model itself has written; `None` where it chose another seat's. An answer's caveats tell
        more of an early end than its finish reason does.
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
        """Ask a model that must begin to answer within its share of the time that is left."""
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
        """Ask a model with a prompt that fits its window; once more, if its refusal tells how much it reads."""
        known = info_of(self.run.models[model])
        try:
            return await self._ask(model, await self._work.fit(self, model, known), until)
        except ModelError as error:
            now = info_of(self.run.models[model])
            if error.cause != "window" or not learnt(known, now):
                raise
        return await self._ask(model, await self._work.fit(self, model, now), until)

    async def _ask(self, model: str, fitted: Fitted, until: float | None) -> Answer:
        """Ask a model with a prompt that fits, and say first what was cut for it."""
        await self.say_cuts(fitted)
        answer = await self._work.ask(self, model, fitted, until)
        self.note_cuts(fitted)
        return answer

    async def _replace(self, model: str, error: ModelError) -> None:
        """Say that `model` is asked next, after one that failed. Raises the error if there must be no next model."""
        self.give_up(error)
        if self.ended or self.run.losses.strict or not self._work.may_begin_again():
            raise error
        self.failures.append(error)
        self._shortened = None
        await self.run.say_end(self._work.replaced(self, model, error))

    def _check_wanted(self) -> None:
        """Raise `ModelError` if the seat has ended: a model that would not be cancelled comes too late."""
        if self.ended:
            raise ModelError("the seat has ended", "cut_off")
