"""The money of a study: what may be spent and what is spent. Both are kept in a file for the next start.

The worst case of a run, or of a call to the judge, is written before it begins, and the price after it has ended. If
the process dies in between, the worst case counts, since the real price is unknown.
"""

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
    """A line of the file: payment `number` began and may cost `held` dollars, or it has ended and cost `spent`."""

    number: int
    held: Decimal | None = None
    spent: Decimal | None = None


class Money:
    """The dollars of one study. They are counted without a `cap` too, for a later start that has one."""

    def __init__(self, path: Path, cap: Decimal | None) -> None:
        self.cap = cap
        self._lines = Lines(path, Payment)
        self._amounts: dict[int, Decimal] = {}
        for line in self._lines.all:
            self._amounts[line.number] = next(each for each in (line.spent, line.held, Decimal(0)) if each is not None)
        self._number = max(self._amounts, default=0)

    @property
    def spent(self) -> Decimal:
        """Dollars that are spent or held."""
        return sum(self._amounts.values(), Decimal(0))

    def hold(self, dollars: Decimal | None, what: str) -> int:
        """Hold the most that a payment may cost, in dollars, and return its number; `None` is an unknown price.

        `what` names the payment in the error. Raises `BudgetError` if the cap does not allow it.
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
        if dollars:
            self._amounts[self._number] = dollars
            self._lines.add(Payment(self._number, held=dollars))
        return self._number

    def settle(self, number: int, dollars: Decimal | None) -> None:
        """End a payment at its price in dollars. With `None` the price is unknown, and all that was held counts."""
        held = self._amounts.get(number, Decimal(0))
        if dollars is not None and dollars != held:
            self._amounts[number] = dollars
            self._lines.add(Payment(number, spent=dollars))

    async def pay(self, model: Model, request: Request, what: str) -> Answer:
        """Make one call with this money; a stored answer costs nothing. Raises `BudgetError` and `ModelError`."""
        info = info_of(model)
        sampling = request.sampling
        if self.cap is not None:
            sampling = replace(sampling, max_tokens=limit_of(info, sampling))
        request = replace(request, sampling=sampling, terms=Terms(cache=True, once=self.cap is not None))
        number, spent = self.hold(worst_case(info, request), what), None
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
        self._lines.close()


class RunFunds:
    """The funds of one run: the dollars that the study holds for it, within what is left of the day's budget.

    After the run `spent` is what the run has cost, in dollars.
    """

    def __init__(self, dollars: Decimal, daily: Funds | None) -> None:
        self.dollars, self.daily = dollars, daily
        self.spent: Decimal | None = None
        self._day: Hold | None = None

    async def left(self) -> Dollars:
        day = {} if self.daily is None else await self.daily.left()
        return {**day, "": min(self.dollars, day.get("", self.dollars))}

    async def hold(self, amounts: Dollars) -> Hold | None:
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
        self.spent = amounts.get("", Decimal(0))
        if self._day is not None:
            await self._day.settle(amounts)
