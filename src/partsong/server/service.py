"""The service that all requests share: recipes, models, the store, keys and limits.

The service also finds the recipe of a request. The options of a request make a new recipe, and never change a shared
one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from partsong.assembly import Assembly, assembling, daily_funds, open_journal
from partsong.configuration import Configuration, Serving, StoreMode
from partsong.documents.reader import DocumentReader
from partsong.errors import RecipeError, RequestError, StoreError, WeightsError
from partsong.folders import keys_path
from partsong.ids import check, shown, suggested
from partsong.keys import Key, Keys, KnownKeys
from partsong.middleware.retry import ATTEMPTS
from partsong.model import Model
from partsong.money.funding import DailyFunds
from partsong.recipe import Recipe, replace, single
from partsong.recipes.bounding import for_caller, most_calls
from partsong.server.bodies import Bodies
from partsong.server.concurrency import ConcurrencyLimiter
from partsong.server.incoming import headers_of, secret_of
from partsong.server.limits import Limits
from partsong.server.log import Log
from partsong.server.metrics import Metrics
from partsong.server.naming import Naming, check_ids
from partsong.server.offered import Found, found, usable
from partsong.server.preparing import Prepared, Preparing
from partsong.server.problems import ProblemError
from partsong.server.response import SLOWEST, Scope
from partsong.server.retention import retain
from partsong.server.shared_keys import SharedKeys
from partsong.server.shared_recipes import SharedRecipes
from partsong.server.spans import Telemetry, open_telemetry
from partsong.server.staying import Staying, stop_asked
from partsong.store import Store
from partsong.wire.parsed import Options, ParsedRequest
from partsong.wire.reply import Problem

LOG = logging.getLogger("partsong.server")
STOPPING = "the server is shutting down"
READY = 0.5  # seconds that making a model of a hosted provider may take; they do not count


@dataclass(slots=True, eq=False)
class Service:
    """The shared state of a server.

    recipes: the usable recipes, by name
    unusable: the reasons why the other recipes are unusable, by name
    shelf: all recipes with their sources, by name
    saved: the recipes that servers on several hosts share; `None` (default) if saved recipes are files of this host
    telemetry: makes spans; `None` (default) if no endpoint for spans is configured
    bodies: counts the bodies of requests under way
    documents: reads the documents of requests, and remembers the last ones
    naming: decides which models a request may name
    preparing: the local models that are being fetched or loaded
    slowest: seconds that a client may take to send a body, or to read what was sent (default 60)
    working: the tasks of requests under way
    staying: the runs that continue without their client
    stopping: whether the server is shutting down, so that it refuses new requests
    draining: the task that drains the server; `None` before a signal to stop
    """

    configuration: Configuration
    store: Store
    assembly: Assembly
    keys: KnownKeys
    limiter: ConcurrencyLimiter
    recipes: dict[str, Recipe]
    unusable: dict[str, str]
    shelf: dict[str, Found]
    log: Log
    metrics: Metrics
    documents: DocumentReader
    bodies: Bodies
    naming: Naming
    preparing: Preparing
    saved: SharedRecipes | None = None
    telemetry: Telemetry | None = None
    slowest: float = SLOWEST
    working: set[asyncio.Task[Any]] = field(default_factory=set)
    staying: Staying = field(default_factory=Staying)
    stopping: bool = False
    draining: asyncio.Task[None] | None = None

    @property
    def serving(self) -> Serving:
        return self.configuration.server

    @property
    def stays(self) -> bool:
        """Whether a run may continue without its client: its events are stored, and every process can stop it."""
        return (self.serving.workers == 1 or self.store.shared) and self.store.mode == "full"

    async def recipe_for(self, parsed: ParsedRequest, key: Key | None) -> Recipe:
        """The recipe of a request, with the options of the request.

        Raises `ProblemError`, `RequestError` or `RecipeError` if there is none, if the key may not use it, or if the
        request may not name one of its models.
        """
        check_ids(parsed, self.configuration.bounds)
        if parsed.model not in self.recipes and ":" not in parsed.model:
            await self.look_for_saved()  # another server may just have saved the recipe
        recipe = self._recipe_of(parsed, key)
        if parsed.model not in self.recipes or parsed.options.recipe:
            named_by = "partsong.recipe" if parsed.options.recipe else "model"
            await self.naming.check(recipe.models, named_by)
            self.assembly.check(recipe.models)
        return recipe

    def check_id(self, name: str, field: str) -> str:
        """The id of a run, a response, or anything else that a request looks up. Raises `RequestError` for a wrong one.

        field: field of the request, or the part of its path, that has the id
        """
        check(name, field, self.configuration.bounds.id_bytes)
        return name

    async def ready(self, recipe: Recipe, names: Collection[str]) -> tuple[Recipe, Mapping[str, Model]]:
        """The recipe with the time that is left of its deadline when its models are ready, and these models.

        names: ids of the models that may be asked

        Raises `ProblemError` if they are not ready within the deadline; see also `models_of`.
        """
        if recipe.deadline is None or self.assembly.has(names):
            return recipe, await self.models_of(recipe.name, names)
        clock = asyncio.get_running_loop().time
        end = clock() + recipe.deadline
        try:
            async with asyncio.timeout_at(end) as limit:
                models = await self.models_of(recipe.name, names)
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"the models of the recipe were not ready within its deadline of {recipe.deadline:g} s"
            raise ProblemError(Problem(504, "timeout", message, code="timeout", retry_after=60.0)) from None
        left = end - clock()
        return (recipe if left > recipe.deadline - READY else replace(recipe, deadline=max(left, 0.01))), models

    async def refresh_keys(self, scope: Scope) -> None:
        """Read the keys that servers share, if they may have changed for the sender of the request."""
        if isinstance(self.keys, SharedKeys):
            with suppress(ProblemError):  # headers that are refused: whoever answers the request says so
                await self.keys.refresh(secret_of(headers_of(scope)))

    async def look_for_saved(self) -> None:
        """Read the recipes that servers share, if they share any."""
        if self.saved is not None:
            await self.saved.refresh()

    async def models_of(self, recipe: str, names: Collection[str]) -> Mapping[str, Model]:
        """The models of a recipe that may be asked, whose weights are fetched first if they are missing.

        recipe: name of the recipe, for the log
        names: ids of the models

        A request that waits for a file is no run yet, and takes no place of a run. Raises `ProblemError` if as many
        requests wait as may be under way and in the queue.
        """
        if self.assembly.has(names):
            return await self.assembly.models(names)
        if self.preparing.waiting >= self.serving.at_once + self.serving.waiting:
            message = "the server is busy: many requests wait for models that are being fetched"
            raise ProblemError(Problem(503, "overloaded", message, retry_after=30.0))
        self.preparing.waiting += 1
        try:
            return await self.assembly.models(names)
        except WeightsError as error:
            if self.stopping:
                raise ProblemError(Problem(503, "overloaded", STOPPING, retry_after=5.0)) from None
            # The error names folders of the server, which are for its log alone.
            LOG.warning("the models of the recipe %s cannot be used: %s", recipe, error)
            message = "the weights of a model cannot be had now; the log of the server says why"
            raise ProblemError(Problem(503, "overloaded", message, code="weights", retry_after=60.0)) from None
        finally:
            self.preparing.waiting -= 1

    def prepared(self, key: Key | None) -> list[Prepared]:
        """The models that are being fetched or loaded, without those of which the key may not know."""
        if key is None or not key.recipes:
            return self.preparing.all()
        seen = {
            model
            for name in key.recipes
            for model in (name, *(self.recipes[name].models if name in self.recipes else ()))
        }
        return [each for each in self.preparing.all() if each.model in seen]

    def _recipe_of(self, parsed: ParsedRequest, key: Key | None) -> Recipe:
        name, options = parsed.model, parsed.options
        if key is not None and key.recipes and name not in key.recipes:
            raise ProblemError(Problem(403, "permission", f'the key "{key.name}" may not use "{shown(name)}"', "model"))
        if name in self.recipes:
            recipe = self.recipes[name]
        elif name in self.unusable:
            message = f'the recipe "{name}" cannot be used: {self.unusable[name]}'
            raise ProblemError(Problem(503, "overloaded", message, retryable=False))
        elif ":" in name and self.serving.models:
            recipe = single(name)
        else:
            # A key with recipes of its own has been refused above, so whoever reads this may use all of them.
            known = ", ".join(self.recipes)
            more = " (or provider:model)" if self.serving.models else ""
            meant = suggested(name) if self.serving.models else ""
            message = f'there is no model "{shown(name)}"; known: {known}{more}{meant}'
            raise ProblemError(Problem(404, "not_found", message, "model", "model_not_found"))
        served = recipe
        if options.recipe:
            chosen = (not self.serving.models or (key is not None and key.recipes)) and sorted(
                {"layers", "analyst", "aggregator"} & options.recipe.keys()
            )
            if chosen:
                raise ProblemError(
                    Problem(
                        403,
                        "permission",
                        "clients may not choose the models on this server",
                        f"partsong.recipe.{chosen[0]}",
                    )
                )
            try:
                recipe = for_caller(recipe, options.recipe, self.configuration.bounds, owner=key is None)
            except RecipeError as problem:
                raise RequestError(f"partsong.recipe: {problem}", "partsong.recipe") from None
            self.check_calls(recipe, served, parsed.samples)
        elif parsed.samples > 1:
            self.check_calls(recipe, served, parsed.samples)
        if recipe.tools and key is not None and not key.tools:
            message = f'the key "{key.name}" may not use "{shown(name)}", whose agents look things up with tools'
            raise ProblemError(Problem(403, "permission", message, "model"))
        return self.limited(recipe, name, options)

    def limited(self, recipe: Recipe, name: str, options: Options) -> Recipe:
        """The recipe with the limits of the server and of a request.

        name: name of the served recipe, whose limit applies too
        """
        dollars = [recipe.max_dollars, options.max_dollars, self.configuration.dollars_per_run, self.limit(name)]
        deadlines = [recipe.deadline, options.deadline]
        if caps := [cap for cap in dollars if cap is not None]:
            recipe = replace(recipe, max_dollars=min(caps))
        if ends := [deadline for deadline in deadlines if deadline is not None]:
            recipe = replace(recipe, deadline=min(ends))
        return replace(recipe, strict=True) if options.strict else recipe

    def check_models(self, models: Collection[str], name: str, key: Key | None) -> None:
        """Raise `ProblemError` if a key may not use the recipe called `name`, or models that are not of this recipe."""
        if key is not None and key.recipes and name not in key.recipes:
            raise ProblemError(Problem(403, "permission", f'the key "{key.name}" may not use "{name}"', "run"))
        if self.serving.models and (key is None or not key.recipes):
            return
        offered = self.recipes[name].models if name in self.recipes else ()
        if others := sorted(set(models) - set(offered)):
            message = f"clients may not choose the models on this server: {', '.join(others)}"
            raise ProblemError(Problem(403, "permission", message, "model"))

    def check_calls(self, recipe: Recipe, served: Recipe, answers: int) -> None:
        """Raise `RequestError` if a request can lead to too many calls to models.

        served: the recipe that the request names. One answer of it is always allowed.
        answers: number of answers that the request asks for
        """
        most = max(self.configuration.bounds.request_calls, most_calls(served, ATTEMPTS))
        if (calls := answers * most_calls(recipe, ATTEMPTS)) > most:
            field = "n" if answers > 1 else "partsong.recipe"
            message = f"{field}: the request can lead to {calls:,} calls to models, but at most {most:,} are allowed"
            raise RequestError(message, field)

    def limit(self, name: str) -> Decimal | None:
        """The limit of dollars of the served recipe called `name`, which no request can raise; `None` for no limit."""
        return self.recipes[name].max_dollars if name in self.recipes else None

    def funds_for(self, key: Key | None) -> DailyFunds | None:
        """The daily funds from which the runs of a key are paid; `None` if no cap applies."""
        funds = daily_funds(self.configuration, self.store)
        if key is None or key.dollars_per_day is None:
            return funds
        caps = {} if funds is None else funds.caps
        return DailyFunds(self.store, caps, {f"key:{key.owner}": key.dollars_per_day})

    def stop(self) -> None:
        """Start to drain. Called when the process gets a signal to stop, while its connections are still open."""
        if self.draining is None:
            self.draining = asyncio.create_task(self.drain())

    async def drain(self) -> None:
        """Wait for the runs under way, for `drain` seconds at most. Then cancel the remaining ones."""
        self.stopping = True
        await self.assembly.close()  # nobody waits for a file that takes minutes
        if self.working:
            await asyncio.wait(self.working, timeout=self.serving.drain)
        for task in self.working:
            task.cancel()
        if self.working:
            await asyncio.wait(self.working, timeout=5)


def caller_of(key: Key | None) -> str:
    """The owner under which the store keeps a run: `Key.owner`, or an empty string on a server without keys."""
    return "" if key is None else key.owner


def _open_store(configuration: Configuration, mode: StoreMode | None) -> AbstractAsyncContextManager[Store]:
    """The store, also if it cannot be opened: the server then answers without it, and tries again."""
    return open_journal(configuration, mode, patience=configuration.bounds.store_seconds, must_open=False)


@asynccontextmanager
async def _open_keys(store: Store) -> AsyncIterator[KnownKeys]:
    """The keys in the database that servers share, or those in this user's file."""
    if not store.shared:
        yield Keys(keys_path())
        return
    keys = SharedKeys(store)
    try:
        await keys.refresh()
        yield keys
    finally:
        await keys.close()


def _limiter(serving: Serving, store: Store) -> ConcurrencyLimiter:
    """The limiter, which counts the requests of keys in the store where several processes answer them."""
    shared = store if (serving.workers > 1 or store.shared) and store.mode != "off" else None
    return ConcurrencyLimiter(serving.at_once, serving.waiting, serving.patience, Limits(shared, serving.workers))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def _heeding_others(service: Service) -> AsyncIterator[None]:
    """Heed what servers that share the database save, delete and want to be stopped, until the block is left."""
    async with AsyncExitStack() as stack:
        if service.saved is not None:
            await service.saved.refresh()
            for following in (service.saved.follow(), stop_asked(service.store, service.staying)):
                stack.push_async_callback(_end, asyncio.create_task(following))
        yield


def tell_health(metrics: Metrics, failing: StoreError | None) -> None:
    """Tell the log and the metrics that the store begins to fail, or works again."""
    metrics.store(failing=failing is not None)
    if failing is None:
        LOG.warning("the store works again: runs and calls are kept")
    else:
        LOG.warning("the store fails, so that runs and calls are not kept: %s", failing)


@asynccontextmanager
async def open_service(
    configuration: Configuration, mode: StoreMode | None = None, slowest: float = SLOWEST
) -> AsyncIterator[Service]:
    """Open the service, and yield it. When the block is left, its runs end, and the store and the log are written.

    mode: what the store keeps; by default `configuration.mode`
    slowest: seconds that a client may take to send a body, or to read what was sent (default 60)
    """
    async with AsyncExitStack() as stack:
        log = Log(configuration.server.log)
        stack.push_async_callback(asyncio.to_thread, log.close)
        stack.enter_context(log.taking(LOG))
        store = await stack.enter_async_context(_open_store(configuration, mode))
        preparing = Preparing(log.message)
        assembly = await stack.enter_async_context(assembling(configuration, fetching=preparing.hear, store=store))
        assembly.load()
        known, broken = found(configuration)
        recipes, unusable = usable(known, assembly)
        shelf = {each.recipe.name: each for each in reversed(known)}
        limiter = _limiter(configuration.server, store)
        telemetry = open_telemetry()
        if telemetry is not None:
            stack.push_async_callback(telemetry.close)
        keys, metrics = await stack.enter_async_context(_open_keys(store)), Metrics(recipes.values())
        if store.mode != "off":
            stack.push_async_callback(_end, asyncio.create_task(retain(store, keys, caller_of)))
        store.health.listen(partial(tell_health, metrics))
        unusable = broken | unusable
        naming = Naming(configuration, assembly, recipes)
        bounds = configuration.bounds
        saved = SharedRecipes(store, assembly, naming, bounds, recipes, unusable, shelf) if store.shared else None
        service = Service(
            configuration,
            store,
            assembly,
            keys,
            limiter,
            recipes,
            unusable,
            shelf,
            log,
            metrics,
            DocumentReader(configuration.documents),
            Bodies(bounds),
            naming,
            preparing,
            saved,
            telemetry,
            slowest,
        )
        await stack.enter_async_context(_heeding_others(service))
        try:
            yield service
        finally:
            await service.drain()
            if service.draining is not None:
                await service.draining
