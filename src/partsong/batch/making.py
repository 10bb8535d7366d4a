"""Makes the calls of a round by asking the models, one model after the other, so that a local model is loaded once."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from functools import partial

from msgspec.structs import replace

from partsong.batch.answers import Answers
from partsong.batch.calls import Calls, Made, Wanted
from partsong.batch.purse import EmptyError, Purse
from partsong.batch.rounds import Round
from partsong.batch.workers import together
from partsong.call import Call
from partsong.errors import HOPELESS, ModelError, StoreError
from partsong.events import Failure
from partsong.middleware.cache import has_content
from partsong.model import Answer, Model, Terms
from partsong.model_info import ModelInfo
from partsong.money.budget import known, provider_of, spent_on, worst_case
from partsong.money.committing import Hold
from partsong.money.funding import Funds
from partsong.store import Store

NOTHING = Decimal(0)
# Opens the model with this id: the model without its cache, and what is known of it.
Opening = Callable[[str], AbstractAsyncContextManager[tuple[Model, ModelInfo]]]


class StoppedError(Exception):
    """The batch goes no further; the message says why."""


class Money:
    """The money of single calls: the purse of the batch, and the funds of the day. Either may be missing."""

    def __init__(self, answers: Answers, purse: Purse | None, funds: Funds | None) -> None:
        self._answers, self._purse, self._funds = answers, purse, funds

    @property
    def limited(self) -> bool:
        """Whether anything limits the spending."""
        return self._purse is not None or self._funds is not None

    @property
    def room(self) -> Decimal:
        """Dollars of the purse that nothing holds; infinite without a purse."""
        return Decimal("Infinity") if self._purse is None else self._purse.left

    async def take(self, number: int, provider: str, worst: Decimal) -> Hold | None:
        """Take the most that a call, or several together, can cost. Raises `StoppedError` if it is not there.

        number: tells this from what else is taken at the same time
        """
        if self._purse is not None:
            try:
                await self._purse.take(worst)
            except EmptyError as empty:
                raise StoppedError(
                    f"the next call could cost ${empty.needed:f}, and ${max(NOTHING, empty.left):f} of --max-dollars "
                    "are left; allow more"
                ) from None
            self._answers.hold(number, worst)
        if self._funds is None:
            return None
        hold = await self._funds.hold({"": worst, provider: worst})
        if hold is None:
            self.give_back(number, worst, NOTHING)
            raise StoppedError("today's money does not pay for the next call; go on tomorrow, or allow more")
        await hold.begin({"": worst, provider: worst})
        return hold

    async def settle(self, number: int, provider: str, hold: Hold | None, worst: Decimal, spent: Decimal) -> None:
        """Give back what was taken and not spent."""
        self.give_back(number, worst, spent)
        if hold is not None:
            await hold.settle({"": spent, provider: spent})

    def give_back(self, number: int, worst: Decimal, spent: Decimal) -> None:
        self._answers.spend(number, spent)
        if self._purse is not None:
            self._purse.give_back(worst - spent)


class Making:
    """Makes calls at once, several at the same time.

    opening: opens a model
    store: keeps the answers
    """

    def __init__(self, calls: Calls, store: Store, opening: Opening, money: Money, at_once: int) -> None:
        self.calls, self.store, self.opening, self.money, self.at_once = calls, store, opening, money, at_once

    async def __call__(self, current: Round) -> None:
        """Make all calls that wait. Raises `StoppedError` if no further call can be made."""
        for model in list(self.calls.models()):
            async with self.opening(model) as (asked, info):
                work = partial(self._work, asked, info, self.calls.waiting(model), current)
                await together(self.at_once, work)

    async def _work(self, model: Model, info: ModelInfo, waiting: Iterator[Wanted], current: Round) -> None:
        for wanted in waiting:
            await self.make(model, info, wanted)
            current.made += 1

    async def make(self, model: Model, info: ModelInfo, wanted: Wanted) -> None:
        """Make a call and note how it has ended. Raises `StoppedError` if the other calls would fare no better."""
        provider, number = provider_of(wanted.model), int.from_bytes(wanted.key[:7], "big")
        worst = self.worst(info, wanted)
        hold = await self.money.take(number, provider, worst)
        spent: Decimal | None = None  # the worst case, unless more is known
        began, started = time.perf_counter(), time.time()
        # As under any limit of money, a call that may have cost something is not made again.
        request = replace(wanted.request, terms=Terms(once=self.money.limited))
        try:
            answer = await model(request, None)
            spent = known(answer.usage)
        except ModelError as error:
            spent = spent_on(error)
            if error.cause in HOPELESS:
                raise StoppedError(f"no other call of {wanted.model} would fare better: {error}") from None
            self.calls.end(wanted.key, Made(error=Failure(error.cause, str(error)), usage=error.usage))
        else:
            await keep(self.calls, self.store, wanted, answer, started, time.perf_counter() - began)
        finally:
            await self.money.settle(number, provider, hold, worst, worst if spent is None else spent)

    def worst(self, info: ModelInfo, wanted: Wanted) -> Decimal:
        """The most that a call can cost. Raises `StoppedError` if money is limited and the price is unknown."""
        worst = worst_case(info, wanted.request)
        if worst is None and self.money.limited:
            raise StoppedError(f"the price of {wanted.model} is unknown, so no limit of money can be kept")
        return worst or NOTHING


async def keep(calls: Calls, store: Store, wanted: Wanted, answer: Answer, started: float, seconds: float) -> None:
    """Keep the answer of a call: in the store, or in the batch if the store keeps no words or takes no such answer.

    Raises `StoppedError` if the store fails.
    """
    if store.mode == "full" and has_content(answer):
        call = Call(wanted.key, wanted.model, wanted.request, answer, started, seconds, None)
        try:
            await store.keep_call(call)
        except StoreError as problem:
            raise StoppedError(f"the store fails, and without it a batch cannot be continued: {problem}") from None
        calls.end(wanted.key, None)
    else:
        calls.end(wanted.key, Made(answer))
