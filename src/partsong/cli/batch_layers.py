"""A batch that goes layer by layer: assembles the models that note, make and recall calls."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from partsong.assembly import assembling
from partsong.batch.answers import Answers
from partsong.batch.calls import Calls
from partsong.batch.making import Making, Money, StoppedError
from partsong.batch.noting import Limited, Notes, Noting, Recalling
from partsong.batch.questions import Questions
from partsong.batch.rounds import Rounds, awaited
from partsong.batch.submitting import Submitting
from partsong.cli.progress import say
from partsong.configuration import Configuration
from partsong.model import Conversation, Model
from partsong.model_info import ModelInfo, info_of
from partsong.providers.batches import Jobs, jobs_of
from partsong.recipe import Recipe
from partsong.store import Store


class ByLayer:
    """The calls of a batch, layer by layer.

    recipe: the recipe with all seats awaited
    words: how far the batch is, as a line of text
    """

    def __init__(
        self,
        recipe: Recipe,
        questions: Questions,
        answers: Answers,
        key_of: Callable[[Conversation], bytes],
        configuration: Configuration,
        store: Store,
        money: Money,
        *,
        jobs: bool = False,
    ) -> None:
        self.recipe = awaited(recipe)
        self._questions, self._answers, self._key_of, self._store = questions, answers, key_of, store
        self._configuration, self._money, self._jobs = configuration, money, jobs
        self._notes = Notes(Calls(answers.connection))
        self._notes.calls.forget_failures()
        self._rounds: Rounds | None = None

    @property
    def words(self) -> str:
        if self._rounds is None:
            return "reading what is stored"
        current = self._rounds.current
        wanted = sum(current.wanted.values())
        made = f", {current.made:,} of {wanted:,} calls made" if wanted else ""
        return f"round {current.number}: {current.looked:,} questions looked at{made}"

    async def perform(self, at_once: int) -> str:
        """Make all calls. Returns why this stopped before; empty if nothing is missing any more."""
        making = Making(self._notes.calls, self._store, self._opened, self._money, at_once)
        make = Submitting(making, self._jobs_opened, say) if self._jobs else making
        async with self._assembled(Noting) as models:
            bounds = self._configuration.bounds
            self._rounds = Rounds(
                self.recipe, models, self._notes, self._questions, self._answers, self._key_of, make, bounds
            )
            try:
                await self._rounds.perform(at_once)
            except StoppedError as stopped:
                return str(stopped)
        return ""

    def recalled(self) -> AbstractAsyncContextManager[Mapping[str, Model]]:
        """The models that find every call, by id."""
        return self._assembled(Recalling)

    @asynccontextmanager
    async def _assembled(self, kind: type[Noting] | type[Recalling]) -> AsyncIterator[Mapping[str, Model]]:
        def inside(identity: str, address: str, model: Model) -> Model:
            return kind(identity, address, self._notes, info_of(model))

        async with assembling(self._configuration, store=self._store, inside=inside) as assembly:
            models = await assembly.models(self.recipe.models)
            yield {name: Limited(model) for name, model in models.items()} if self._money.limited else models

    @asynccontextmanager
    async def _jobs_opened(self, identity: str) -> AsyncIterator[tuple[Jobs | None, Model, ModelInfo]]:
        """The jobs of a model at its provider, and the model for single calls without its cache."""
        async with assembling(self._configuration) as assembly:
            model = (await assembly.models([identity]))[identity]
            yield jobs_of(innermost(model)), model, info_of(model)

    @asynccontextmanager
    async def _opened(self, identity: str) -> AsyncIterator[tuple[Model, ModelInfo]]:
        """A model without its cache. Only one is open at a time, so only one local model is loaded."""
        async with assembling(self._configuration) as assembly:
            model = (await assembly.models([identity]))[identity]
            yield model, info_of(model)


def innermost(model: Model) -> Model:
    """The model of a provider inside its middleware, each wrapper of which has a field `model`."""
    while (inner := getattr(model, "model", None)) is not None:
        model = inner
    return model
