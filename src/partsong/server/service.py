"""What all requests share: recipes, models, the store, keys and limits; and how a request becomes a recipe to perform.

Nothing of a request changes anything here: its options make a recipe of its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from partsong.assembly import Assembly, assembling, daily_funds, keys_path, open_journal
from partsong.configuration import Configuration, Serving, StoreMode
from partsong.errors import RecipeError, RequestError
from partsong.keys import Key, Keys
from partsong.money.funding import DailyFunds
from partsong.recipe import Recipe, overridden, replace, single
from partsong.server.concurrency import ConcurrencyLimiter
from partsong.server.limits import Limits
from partsong.server.log import Log
from partsong.server.metrics import Metrics
from partsong.server.offered import Found, found, usable
from partsong.server.problems import ProblemError
from partsong.server.response import SLOWEST
from partsong.server.spans import Telemetry, open_telemetry
from partsong.server.staying import Staying
from partsong.store import Store
from partsong.wire.parsed import ParsedRequest
from partsong.wire.reply import Problem

LOG = logging.getLogger("partsong.server")


@dataclass(slots=True, eq=False)
class Service:
    """`recipes` by name, those that can be asked; `unusable` says of the others why not. `shelf` holds both."""

    configuration: Configuration
    store: Store
    assembly: Assembly
    keys: Keys
    limiter: ConcurrencyLimiter
    recipes: dict[str, Recipe]
    unusable: dict[str, str]
    shelf: dict[str, Found]
    log: Log
    metrics: Metrics
    telemetry: Telemetry | None = None
    slowest: float = SLOWEST  # seconds that a body, or a reader of what was sent, may take
    working: set[asyncio.Task[None]] = field(default_factory=set)
    staying: Staying = field(default_factory=Staying)
    stopping: bool = False
    draining: asyncio.Task[None] | None = None

    @property
    def serving(self) -> Serving:
        return self.configuration.server

    @property
    def stays(self) -> bool:
        """Whether a run may go on without its client: only where it can be found again, and stopped."""
        return self.serving.workers == 1 and self.store.mode == "full"

    def recipe_for(self, parsed: ParsedRequest, key: Key | None) -> Recipe:
        """The recipe of a request, with its options. Raises `ProblemError`, `RequestError` or `RecipeError`."""
        name, options = parsed.model, parsed.options
        if key is not None and key.recipes and name not in key.recipes:
            raise ProblemError(Problem(403, "permission", f'the key "{key.name}" may not use "{name}"', "model"))
        if name in self.recipes:
            recipe = self.recipes[name]
        elif name in self.unusable:
            message = f'the recipe "{name}" cannot be used: {self.unusable[name]}'
            raise ProblemError(Problem(503, "overloaded", message, retryable=False))
        elif ":" in name and self.serving.models:
            recipe = single(name)
        else:
            known = ", ".join(self.recipes)
            more = " (or provider:model)" if self.serving.models else ""
            message = f'there is no model "{name}"; known: {known}{more}'
            raise ProblemError(Problem(404, "not_found", message, "model", "model_not_found"))
        if options.recipe:
            chosen = (not self.serving.models or (key is not None and key.recipes)) and sorted(
                {"layers", "aggregator"} & options.recipe.keys()
            )
            if chosen:
                raise ProblemError(
                    Problem(403, "permission", "models may not be chosen here", f"partsong.recipe.{chosen[0]}")
                )
            try:
                recipe = overridden(recipe, options.recipe)
            except RecipeError as problem:
                raise RequestError(f"partsong.recipe: {problem}", "partsong.recipe") from None
        dollars = [recipe.max_dollars, options.max_dollars, self.configuration.dollars_per_run, self.limit(name)]
        deadlines = [recipe.deadline, options.deadline]
        if caps := [cap for cap in dollars if cap is not None]:
            recipe = replace(recipe, max_dollars=min(caps))
        if ends := [deadline for deadline in deadlines if deadline is not None]:
            recipe = replace(recipe, deadline=min(ends))
        return replace(recipe, strict=True) if options.strict else recipe

    def limit(self, name: str) -> Decimal | None:
        """What a run of the recipe of that name may cost, as the recipe's author has it, whatever a request says."""
        return self.recipes[name].max_dollars if name in self.recipes else None

    def funds_for(self, key: Key | None) -> DailyFunds | None:
        """The day's money that a key's run is paid from."""
        funds = daily_funds(self.configuration, self.store)
        if key is None or key.dollars_per_day is None:
            return funds
        caps = {} if funds is None else funds.caps
        return DailyFunds(self.store, caps, {f"key:{key.name}": key.dollars_per_day})

    def stop(self) -> None:
        """Begin to drain: the process was told to stop, and waits for its connections to be closed."""
        if self.draining is None:
            self.draining = asyncio.create_task(self.drain())

    async def drain(self) -> None:
        """Let the runs that go on finish, for as long as that may take; then cut them."""
        self.stopping = True
        if self.working:
            await asyncio.wait(self.working, timeout=self.serving.drain)
        for task in self.working:
            task.cancel()
        if self.working:
            await asyncio.wait(self.working, timeout=5)


def caller_of(key: Key | None) -> str:
    """Whose a run is: a key's name, or nobody's in particular."""
    return "" if key is None else key.name


@asynccontextmanager
async def open_service(
    configuration: Configuration, mode: StoreMode | None = None, slowest: float = SLOWEST
) -> AsyncIterator[Service]:
    """The service, until the block is left; then its runs have ended and store and log are written out."""
    async with AsyncExitStack() as stack:
        log = Log(configuration.server.log)
        stack.push_async_callback(asyncio.to_thread, log.close)
        stack.enter_context(log.taking(LOG))
        store = await stack.enter_async_context(open_journal(configuration, mode))
        assembly = await stack.enter_async_context(assembling(configuration, store=store))
        known, broken = found(configuration)
        recipes, unusable = usable(known, assembly)
        shelf = {each.recipe.name: each for each in reversed(known)}
        serving = configuration.server
        shared = store if serving.workers > 1 and store.mode != "off" else None
        limits = Limits(shared, serving.workers)
        limiter = ConcurrencyLimiter(serving.at_once, serving.waiting, serving.patience, limits)
        telemetry = open_telemetry()
        if telemetry is not None:
            stack.push_async_callback(telemetry.close)
        keys, metrics = Keys(keys_path()), Metrics(recipes.values())
        service = Service(
            configuration,
            store,
            assembly,
            keys,
            limiter,
            recipes,
            broken | unusable,
            shelf,
            log,
            metrics,
            telemetry,
            slowest,
        )
        try:
            yield service
        finally:
            await service.drain()
            if service.draining is not None:
                await service.draining
