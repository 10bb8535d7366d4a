"""What of a run's hold counts even if its process dies: what was spent, and the worst case of what has begun.

The worst case of a layer is committed before its first call. A call that needs more than that, such as a fallback, is
committed on its own. When a call has ended, its price takes the place of its worst case.
"""

import asyncio
from decimal import Decimal
from typing import Protocol

from partsong.errors import ModelError, StoreError
from partsong.money.budget import Dollars, Purse

NOTHING = Decimal(0)


class Hold(Protocol):
    """Money that is held for a run."""

    async def begin(self, amounts: Dollars) -> bool:
        """Let these amounts count even if this process dies, in place of earlier amounts.

        Returns `False` if the money is no longer there. Raises `StoreError` if nobody can know.
        """

    def lower(self, amounts: Dollars) -> None:
        """Let less count if this process dies. Returns at once."""

    async def settle(self, amounts: Dollars) -> None:
        """The run has spent so much in each scope; the rest is free again."""


class Commitment:
    """The part of a run's hold that has begun. `counted` is how many dollars that is, by scope."""

    def __init__(self, hold: Hold, purse: Purse) -> None:
        self.counted: dict[str, Decimal] = {}
        self._hold, self._purse = hold, purse
        self._turn = asyncio.Lock()
        self._saved: dict[str, Decimal] = {}  # not told to the hold yet

    def covers(self, dollars: Decimal, provider: str) -> bool:
        """Whether a call may be made without committing more."""
        return all(self.counted.get(scope, NOTHING) - self._used(scope) >= dollars for scope in {"", provider})

    async def begin(self, worst: Dollars) -> None:
        """Commit the worst case of a layer. Raises `ModelError` if the money is not there or cannot be counted."""
        async with self._turn:
            scopes = {*self.counted, *worst, *self._purse.spent, *self._purse.held}
            await self._count({scope: self._used(scope) + worst.get(scope, NOTHING) for scope in scopes})

    async def cover(self, dollars: Decimal, provider: str) -> None:
        """Commit one call that needs more than was committed. Raises `ModelError` like `begin`."""
        async with self._turn:
            if not self.covers(dollars, provider):
                more = {scope: self._used(scope) + dollars for scope in {"", provider}}
                await self._count(
                    {
                        scope: max(self.counted.get(scope, NOTHING), more.get(scope, NOTHING))
                        for scope in {*self.counted, *more}
                    }
                )

    def save(self, dollars: Decimal, provider: str) -> None:
        """A call has cost so many dollars less than was committed for it, or more if the number is negative."""
        for scope in {"", provider}:
            self._saved[scope] = self._saved.get(scope, NOTHING) + dollars
        if not self._turn.locked():
            self._lower()

    def _used(self, scope: str) -> Decimal:
        """Dollars that are spent, or reserved for calls under way."""
        return self._purse.spent.get(scope, NOTHING) + self._purse.held.get(scope, NOTHING)

    async def _count(self, amounts: dict[str, Decimal]) -> None:
        there = False
        try:
            there = await self._hold.begin(amounts)
        except StoreError as problem:
            raise ModelError(f"today's money cannot be counted: {problem}", "resting") from None
        finally:
            if there:
                self.counted = amounts
            self._lower()
        if not there:
            raise ModelError(
                "other runs took what was left of today's money, after this one had not been seen", "budget"
            )

    def _lower(self) -> None:
        """Tell the hold what was saved. What was saved while amounts were counted is not in the amounts."""
        if self._saved:
            for scope, dollars in self._saved.items():
                self.counted[scope] = self.counted.get(scope, NOTHING) - dollars
            self._saved.clear()
            self._hold.lower(dict(self.counted))
