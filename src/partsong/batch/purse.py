"""The money of a batch: one purse for all its questions.

Each question takes its worst case before it begins, and gives back what it did not spend. So a batch never spends more
than its cap, and no question has less than another. A question whose worst case is not there waits for those under way.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from partsong.money.budget import Dollars
from partsong.money.committing import Hold
from partsong.money.funding import Funds

NOTHING = Decimal(0)


class EmptyError(Exception):
    """The purse cannot pay for a question, and no question is under way that could give something back."""

    def __init__(self, needed: Decimal, left: Decimal) -> None:
        super().__init__(needed, left)
        self.needed, self.left = needed, left


class Purse:
    """A purse with `left` dollars, for questions of one event loop."""

    def __init__(self, left: Decimal) -> None:
        self.left = left
        self._under_way = 0
        self._changed = asyncio.Event()

    async def take(self, dollars: Decimal) -> None:
        """Take the most that a question can cost. Raises `EmptyError` if the money will never be there."""
        while dollars > self.left:
            if not self._under_way:
                raise EmptyError(dollars, self.left)
            self._changed.clear()
            await self._changed.wait()
        self.left -= dollars
        self._under_way += 1

    def give_back(self, dollars: Decimal) -> None:
        """Give back what a question has taken and not spent, at its end."""
        self.left += dollars
        self._under_way -= 1
        self._changed.set()


@dataclass(slots=True)
class Allowance:
    """The money of one question, which is taken from the purse already. Implements `Funds`.

    dollars: most dollars of the question
    others: funds that must have the money too, such as those of the day; `None` for none
    spent: what the question has spent, once it is settled
    """

    dollars: Decimal
    others: Funds | None = None
    spent: Decimal = field(default=NOTHING)

    async def left(self) -> Dollars:
        left: Mapping[str, Decimal] = {} if self.others is None else await self.others.left()
        return {**left, "": min(self.dollars, left.get("", self.dollars))}

    async def hold(self, amounts: Dollars) -> "AllowanceHold | None":
        if self.others is None:
            return AllowanceHold(self, None)
        held = await self.others.hold(amounts)
        return None if held is None else AllowanceHold(self, held)


@dataclass(frozen=True, slots=True)
class AllowanceHold:
    """What is held of an allowance, and of the other funds. Implements `Hold`."""

    allowance: Allowance
    others: Hold | None

    async def begin(self, amounts: Dollars) -> bool:
        return self.others is None or await self.others.begin(amounts)

    def lower(self, amounts: Dollars) -> None:
        if self.others is not None:
            self.others.lower(amounts)

    async def settle(self, amounts: Dollars) -> None:
        self.allowance.spent += amounts.get("", NOTHING)
        if self.others is not None:
            await self.others.settle(amounts)
