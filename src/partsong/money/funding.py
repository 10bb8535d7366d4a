"""The money of one run put together: what is left of the day, the plan that fits it, and the purse that pays.

    funded = await fund(recipe, conversation, models, funds)      # None: no cap applies
    try:     perform funded.plan.recipe with funded.models(layer)
    finally: await funded.settle()

The day's money is held at the plan's worst case while the run goes on, so that runs at the same time, in one process or
several, cannot overdraw a day together. If the process dies, only what has begun stays counted (`committing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from partsong.errors import BudgetError
from partsong.model import Conversation, Model
from partsong.money.budget import Budget, Dollars, Purse, provider_of
from partsong.money.committing import Commitment, Hold
from partsong.money.planning import Plan, plan
from partsong.recipe import Recipe

ATTEMPTS = 5  # at holding what others may be taking at the same moment


class Funds(Protocol):
    """Money that runs share, such as a day's: by scope, "" for all of it, a provider's name for its part."""

    async def left(self) -> Dollars:
        """What may still be spent, in each scope that has a cap."""

    async def hold(self, amounts: Dollars) -> Hold | None:
        """Hold what a run costs at most; `None` where that would pass a cap."""


class Ledger(Protocol):
    """What `DailyFunds` needs of a store: the sums of this day, and what is held of them. See `Store`."""

    async def left(self, caps: Dollars) -> Dollars: ...

    async def hold(self, amounts: Dollars, caps: Dollars) -> int | None: ...

    async def begin(self, hold: int, amounts: Dollars, caps: Dollars) -> bool: ...

    def lower(self, hold: int, amounts: Dollars) -> None: ...

    async def settle(self, hold: int, amounts: Dollars) -> None: ...


@dataclass(frozen=True, slots=True)
class DailyFunds:
    """The money of a day, as a store keeps it.

    ledger: the store that counts
    caps: dollars a day, by scope
    keys: dollars a day of the caller's own scopes, such as `"key:alice"`; the whole cost of a run counts in each
    """

    ledger: Ledger
    caps: Dollars
    keys: Dollars = field(default_factory=dict)

    async def left(self) -> Dollars:
        left = dict(await self.ledger.left({**self.caps, **self.keys}))
        for key in self.keys:
            room = left.pop(key)
            left[""] = min(room, left.get("", room))
        return left

    async def hold(self, amounts: Dollars) -> "DailyHold | None":
        hold = await self.ledger.hold(self.with_keys(amounts), {**self.caps, **self.keys})
        return None if hold is None else DailyHold(self, hold)

    def with_keys(self, amounts: Dollars) -> Dollars:
        whole = amounts.get("", Decimal(0))
        return {**amounts, **dict.fromkeys(self.keys, whole)}


@dataclass(frozen=True, slots=True)
class DailyHold:
    """Money of a day that is held for one run. `id` is the ledger's own for the hold."""

    funds: DailyFunds
    id: int

    async def begin(self, amounts: Dollars) -> bool:
        funds = self.funds
        return await funds.ledger.begin(self.id, funds.with_keys(amounts), {**funds.caps, **funds.keys})

    def lower(self, amounts: Dollars) -> None:
        self.funds.ledger.lower(self.id, self.funds.with_keys(amounts))

    async def settle(self, amounts: Dollars) -> None:
        await self.funds.ledger.settle(self.id, self.funds.with_keys(amounts))


@dataclass(slots=True)
class Funded:
    """A run with its money.

    plan: the recipe that is performed
    purse: pays for the calls
    hold: money that is held of the day, `None` if no cap of a day applies
    committed: what of the hold has begun, `None` without a hold
    unfunded: the models, by id, which `models` lets pay from the purse
    """

    plan: Plan
    purse: Purse
    hold: Hold | None
    unfunded: Mapping[str, Model]
    committed: Commitment | None = None
    _models: dict[int, dict[str, Model]] = field(default_factory=dict)

    def models(self, layer: int) -> Mapping[str, Model]:
        """The models for a layer of the plan's recipe, by its index; the aggregator's index is the number of layers."""
        if layer not in self._models:
            kept = self.plan.later[layer]
            self._models[layer] = {
                name: Budget(model, self.purse, provider_of(name), kept, self.committed)
                for name, model in self.unfunded.items()
            }
        return self._models[layer]

    async def begin(self, layer: int) -> None:
        """Let the worst case of a layer count, also if this process dies. Must come before the layer's first call.

        Raises `ModelError` if the money is no longer there, or if nobody can count it now.
        """
        if self.committed is not None:
            before = self.plan.later[layer - 1] if layer else self.plan.worst
            after = self.plan.later[layer]
            await self.committed.begin({scope: most - after.get(scope, Decimal(0)) for scope, most in before.items()})

    async def settle(self) -> None:
        """Give back what was held and is not spent. A call that is still open counts in full. Once is enough."""
        if self.purse.closed:
            return
        spent = self.purse.close()
        if self.hold is not None:
            await self.hold.settle(spent)


async def fund(
    recipe: Recipe, conversation: Conversation, models: Mapping[str, Model], funds: Funds | None = None
) -> Funded | None:
    """The plan that `recipe.max_dollars` and the funds allow, with its money held; `None` if neither sets a cap.

    Raises `BudgetError` if no plan fits, or if other runs keep taking what is left of the day.
    """
    of_run = {} if recipe.max_dollars is None else {"": recipe.max_dollars}
    for _ in range(ATTEMPTS):
        left = {} if funds is None else await funds.left()
        if not left and not of_run:
            return None
        planned = plan(recipe, conversation, models, _lower(of_run, left))
        hold = await funds.hold(planned.worst) if funds is not None and left else None
        if hold is not None or not left:
            # What was held of a day is all that this run may take from it.
            held = {scope: planned.worst.get(scope, Decimal(0)) for scope in left}
            purse = Purse(_lower(of_run, held))
            return Funded(planned, purse, hold, models, None if hold is None else Commitment(hold, purse))
    raise BudgetError(f"{recipe.name}: other runs took what was left of today's money; ask again")


def _lower(some: Dollars, others: Dollars) -> dict[str, Decimal]:
    """The lower cap of each scope."""
    return {**some, **{scope: min(cap, some.get(scope, cap)) for scope, cap in others.items()}}
