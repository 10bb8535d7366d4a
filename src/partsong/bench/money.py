"""The money of a study: counts dollars against a cap, in a file that later starts read.

A payment is one run of a contestant, or one call to the judge. The most that it may cost is written to the file before
the payment begins, and its price after the payment has ended. If the process dies in between, the most counts, since
the real price is unknown.
"""

import asyncio
from decimal import Decimal
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from partsong.bench.lines import Lines
from partsong.errors import BudgetError, ModelError
from partsong.model import Answer, Model, Request, Terms
from partsong.model_info import info_of
from partsong.money.budget import Dollars, known, limit_of, shown, spent_on, worst_case
from partsong.money.committing import Hold
from partsong.money.funding import Funds


class Payment(Struct, frozen=True, omit_defaults=True):
    """A line of the file: a payment has begun or ended.

    number: identifies the payment in the file; counted from 1
    held: most dollars that the payment may cost, if it has begun
    spent: dollars that the payment has cost, if it has ended
    """

    number: int
    held: Decimal | None = None
    spent: Decimal | None = None


class Money:
    """The dollars of one study.

    path: file of the payments
    cap: most dollars that all payments may cost together; `None` for no cap

    spent: dollars of all payments: the price of each ended payment, and the most of each open payment

    Payments are counted without a cap too, because a later start may have a cap.
    """

    def __init__(self, path: Path, cap: Decimal | None) -> None:
        self.cap = cap
        self._lines = Lines(path, Payment)
        self._amounts: dict[int, Decimal] = {}
        for line in self._lines.all:
            self._amounts[line.number] = next(each for each in (line.spent, line.held, Decimal(0)) if each is not None)
        self._number = max(self._amounts, default=0)
        self.spent = sum(self._amounts.values(), Decimal(0))
        self._open: set[int] = set()  # payments that this process has begun and not ended
        self._ended = asyncio.Event()  # set and replaced when a payment ends

    @property
    def settled(self) -> Decimal:
        """Dollars that are spent: `spent` without the payments that this process has under way."""
        return self.spent - sum((self._amounts.get(number, Decimal(0)) for number in self._open), Decimal(0))

    async def room_for(self, dollars: Decimal | None) -> None:
        """Wait until the cap allows a payment of so many dollars, or until no open payment can make room for it.

        A payment holds the most that it may cost, and mostly costs far less. So a payment that does not fit beside the
        open ones may fit after them. Call `hold` at once after this.
        """
        while self.cap is not None and dollars is not None and self._open:
            if self.cap - self.spent >= dollars or self.cap - self.settled < dollars:
                return
            await self._ended.wait()

    def hold(self, dollars: Decimal | None, what: str) -> int:
        """Begin a payment, and return its number for `settle`.

        dollars: the most that the payment may cost; `None` if the price is unknown
        what: name of the payment for an error message

        Raises `BudgetError` if there is a cap, and `dollars` is unknown or more than is left of the cap.
        """
        if self.cap is not None:
            if dollars is None:
                raise BudgetError(f"{what}: there is a budget, but its price is unknown")
            left = max(self.cap - self.spent, Decimal(0))
            if dollars > left:
                raise BudgetError(
                    f"{what}: the next answer may cost {shown(dollars)} dollars, but {shown(left)} are left"
                )
        self._number += 1
        self._open.add(self._number)
        if dollars:
            self._amounts[self._number] = dollars
            self.spent += dollars
            self._lines.add(Payment(self._number, held=dollars))
        return self._number

    def settle(self, number: int, dollars: Decimal | None) -> None:
        """End a payment.

        number: the number that `hold` returned
        dollars: price of the payment; `None` if the price is unknown, so that the whole held amount stays counted
        """
        held = self._amounts.get(number, Decimal(0))
        self._open.discard(number)
        self._ended.set()
        self._ended = asyncio.Event()
        if dollars is not None and dollars != held:
            self._amounts[number] = dollars
            self.spent += dollars - held
            self._lines.add(Payment(number, spent=dollars))

    async def pay(self, model: Model, request: Request, what: str) -> Answer:
        """Make one call to a model as a payment, and return the answer. An answer from the store costs nothing.

        request: the request; its terms may forbid answers from the store, which are else used
        what: name of the payment for an error message

        Raises `BudgetError` if the cap does not allow the call, and `ModelError` if the call fails.
        """
        info = info_of(model)
        sampling = request.sampling
        if self.cap is not None:
            sampling = replace(sampling, max_tokens=limit_of(info, sampling))
        terms = Terms(cache=request.terms.cache is not False, once=self.cap is not None)
        request = replace(request, sampling=sampling, terms=terms)
        worst, spent = worst_case(info, request), None
        await self.room_for(worst)
        number = self.hold(worst, what)
        try:
            answer = await model(request, None)
            spent = known(answer.usage)
        except ModelError as error:
            spent = spent_on(error)
            raise
        finally:
            self.settle(number, spent)
        return answer

    def close(self) -> None:
        """Close the file of the payments."""
        self._lines.close()


class RunFunds:
    """The funds of one run: the dollars that the study holds for the run, limited by the rest of the day's budget.

    dollars: the most that the run may cost
    daily: funds of the day; `None` if there is no daily budget
    spent: dollars that the run has cost; `None` until the run has ended
    """

    def __init__(self, dollars: Decimal, daily: Funds | None) -> None:
        self.dollars, self.daily = dollars, daily
        self.spent: Decimal | None = None
        self._day: Hold | None = None

    async def left(self) -> Dollars:
        """Return the dollars that may still be spent, by scope: "" is the run, other scopes are those of the day."""
        day = {} if self.daily is None else await self.daily.left()
        return {**day, "": min(self.dollars, day.get("", self.dollars))}

    async def hold(self, amounts: Dollars) -> Hold | None:
        """Hold the amounts in the day's budget; `None` if the rest of the day's budget is less."""
        if self.daily is not None:
            self._day = await self.daily.hold(amounts)
            if self._day is None:
                return None
        return self

    async def begin(self, amounts: Dollars) -> bool:
        return self._day is None or await self._day.begin(amounts)

    def lower(self, amounts: Dollars) -> None:
        if self._day is not None:
            self._day.lower(amounts)

    async def settle(self, amounts: Dollars) -> None:
        """Take the price of the run from `amounts`, and settle the hold in the day's budget."""
        self.spent = amounts.get("", Decimal(0))
        if self._day is not None:
            await self._day.settle(amounts)
