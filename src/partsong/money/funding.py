"""Prepares the money of one run: finds what is left of the day, makes a plan that fits, and fills the purse that pays.

    funded = await fund(recipe, conversation, models, funds)      # None: no cap applies
    try:     perform funded.plan.recipe with funded.models(layer)
    finally: await funded.settle()

The worst case of the plan is held from the day's money while the run goes on. So runs at the same time, in any number
of processes, cannot overdraw a day together. If the process dies, only what has begun stays counted; see `committing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from partsong.errors import BudgetError
from partsong.heavy import done, is_heavy
from partsong.model import Conversation, Model
from partsong.money.budget import Budget, Dollars, Purse, provider_of
from partsong.money.committing import Commitment, Hold
from partsong.money.costing import Free, added
from partsong.money.planning import Plan, plan, plan_analysis
from partsong.recipe import Recipe
from partsong.toolbox import NO_OFFERS, Offers

MANY = 16  # agents of a recipe that is planned in a thread
ATTEMPTS = 5  # attempts to hold money that other runs may take at the same moment


class Funds(Protocol):
    """Money that several runs share, such as a day's. Amounts are dollars by scope; see `budget.Dollars`."""

    async def left(self) -> Dollars:
        """Dollars that may still be spent, for each scope that has a cap."""

    async def hold(self, amounts: Dollars) -> Hold | None:
        """Hold the most dollars that a run costs, by scope; `None`, and nothing is held, if a cap would be exceeded."""


class Ledger(Protocol):
    """The methods of `Store` that `DailyFunds` needs: they count the dollars that are spent and held on this day."""

    async def left(self, caps: Dollars) -> Dollars: ...

    async def hold(self, amounts: Dollars, caps: Dollars) -> int | None: ...

    async def begin(self, hold: int, amounts: Dollars, caps: Dollars) -> bool: ...

    def lower(self, hold: int, amounts: Dollars) -> None: ...

    async def settle(self, hold: int, amounts: Dollars) -> None: ...


@dataclass(frozen=True, slots=True)
class DailyFunds:
    """The money of a day (UTC), which a store counts. Implements `Funds`.

    ledger: the store
    caps: most dollars a day, by scope
    keys: most dollars a day in scopes of the caller, such as `"key:alice"` (default: none). The whole cost of a run
        counts in each of them.
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
    """Money of a day that is held for one run. Implements `Hold`; `id` identifies the hold in the store."""

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
    """The plan and the money of one run.

    plan: the recipe that is performed, and the seats that were dropped
    purse: pays for the calls
    hold: the money of the day that is held; `None` if no cap of a day applies
    committed: counts the part of the hold that has begun; `None` without a hold
    unfunded: the models by id, without a budget around them
    """

    plan: Plan
    purse: Purse
    hold: Hold | None
    unfunded: Mapping[str, Model]
    committed: Commitment | None = None
    _models: dict[int, dict[str, Model]] = field(default_factory=dict)
    _kept: dict[int, dict[str, Decimal]] = field(default_factory=dict)

    def models(self, layer: int) -> Mapping[str, Model]:
        """The models by id, each with a budget around it that leaves enough money for the later layers.

        layer: index of a layer of the plan's recipe; the analyst, if there is one, counts as the next layer, and the
            aggregator as the last
        """
        if layer not in self._models:
            kept = self._kept_for(layer)
            self._models[layer] = {
                name: Budget(model, self.purse, provider_of(name), kept, self.committed)
                for name, model in self.unfunded.items()
            }
        return self._models[layer]

    def begin_seat(self, layer: int, seat: int) -> None:
        """Let the next seat of a layer with `at_once` use the money that was kept for its planned call.

        Until then no fallback of an earlier seat, which nobody has planned, may use this money.
        """
        kept = self._kept_for(layer)
        for scope, dollars in self.plan.seats[layer][seat].items():
            kept[scope] -= dollars

    def _kept_for(self, layer: int) -> dict[str, Decimal]:
        """The dollars by scope that a layer must leave: for later layers, and for its seats that have not begun."""
        if layer not in self._kept:
            seats = self.plan.seats[layer] if layer < len(self.plan.seats) else ()
            self._kept[layer] = added([self.plan.later[layer], *seats])
        return self._kept[layer]

    async def begin(self, layer: int) -> None:
        """Let the worst case of a layer count, also if this process dies. Must come before the layer's first call.

        layer: as for `models`

        Raises `ModelError` if the money is no longer there, or if nobody can count it now.
        """
        if self.committed is not None:
            before = self.plan.later[layer - 1] if layer else self.plan.worst
            after = self.plan.later[layer]
            await self.committed.begin({scope: most - after.get(scope, Decimal(0)) for scope, most in before.items()})

    async def pay(self, layer: int, scope: str, dollars: Decimal) -> None:
        """Spend the price of something that is no call to a model, such as a tool call, before it is used.

        layer: as for `models`
        scope: the scope of the price beside that of the run

        Raises `ModelError` if the money does not allow it, or if nobody can count it now.
        """
        kept = self._kept_for(layer)
        if self.committed is not None:
            while not self.committed.covers(dollars, scope):
                if dollars > self.purse.left(scope, kept):
                    break  # the purse will refuse it, so it must not count
                await self.committed.cover(dollars, scope)
        self.purse.settle(self.purse.reserve(dollars, scope, kept), dollars)

    async def settle(self) -> None:
        """Release the money that was held and not spent. An open call counts with its whole reservation.

        Further calls of this method have no effect.
        """
        if self.purse.closed:
            return
        spent = self.purse.close()
        if self.hold is not None:
            await self.hold.settle(spent)


async def fund(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    funds: Funds | None = None,
    free: Free | None = None,
    offers: Offers = NO_OFFERS,
) -> Funded | None:
    """Make the plan that `recipe.max_dollars` and `funds` allow, and hold its money; `None` if neither sets a cap.

    free: what is found of an earlier run and costs nothing; `None` (default) for nothing
    offers: the tools that agents may use (default: none)

    Raises `BudgetError` if no plan fits, or if other runs took the rest of the day's money in each of 5 attempts.
    """
    return await _funded(
        recipe, conversation, models, funds, lambda caps: plan(recipe, conversation, models, caps, free, offers)
    )


async def fund_analysis(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    proposals: Sequence[str],
    funds: Funds | None = None,
) -> Funded | None:
    """Hold the money for the recipe's analyst alone, which compares these proposals; see `fund`.

    Raises `BudgetError` like `fund`.
    """
    return await _funded(
        recipe, conversation, models, funds, lambda caps: plan_analysis(recipe, conversation, models, proposals, caps)
    )


async def _funded(
    recipe: Recipe,
    conversation: Conversation,
    models: Mapping[str, Model],
    funds: Funds | None,
    planner: Callable[[Dollars], Plan],
) -> Funded | None:
    """Hold the money of the plan that `planner` makes for the caps; `None` if there is no cap."""
    of_run = {} if recipe.max_dollars is None else {"": recipe.max_dollars}
    for _ in range(ATTEMPTS):
        left = {} if funds is None else await funds.left()
        if not left and not of_run:
            return None
        heavy = is_heavy(conversation) or sum(len(layer.agents) for layer in recipe.layers) > MANY
        planned = await done(heavy, planner, _lower(of_run, left))
        hold = await funds.hold(planned.worst) if funds is not None and left else None
        if hold is not None or not left:
            # The run may spend no more of the day's money than it holds.
            held = {scope: planned.worst.get(scope, Decimal(0)) for scope in left}
            purse = Purse(_lower(of_run, held))
            return Funded(planned, purse, hold, models, None if hold is None else Commitment(hold, purse))
    raise BudgetError(f"{recipe.name}: other runs took what was left of today's money; ask again")


def _lower(some: Dollars, others: Dollars) -> dict[str, Decimal]:
    """The caps of both, by scope; the lower cap if both have the scope."""
    return {**some, **{scope: min(cap, some.get(scope, cap)) for scope, cap in others.items()}}
