"""A batch layer by layer: all calls of the first layer, then all of the second, and the aggregators last.

The engine is the same as for a batch that goes question by question. In each round, every question is performed with
models that answer from what is stored and note what is missing. A run that can go no further is dropped. Then all
missing calls are made, those of one model after those of another. When nothing is missing any more, every question is
performed as usual, and finds all its calls.

Nobody waits for the seats of one question, so a `quorum`, a `grace` and a `deadline` have no meaning: all seats are
awaited.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from partsong.batch.answers import Answers
from partsong.batch.calls import Calls
from partsong.batch.noting import Counting, Notes
from partsong.batch.questions import ParsedRequest, Questions
from partsong.batch.workers import together
from partsong.bounds import Bounds
from partsong.engine import perform
from partsong.errors import PartsongError
from partsong.events import AnyEvent
from partsong.model import Conversation, Model
from partsong.recipe import Recipe
from partsong.store import new_id

MOST_ROUNDS = 200  # far more than a recipe has layers, steps and fallbacks
LOOK = 0.002  # seconds between two looks at a run
IDLE = 1.0  # seconds without any change after which a run that lacks a call is dropped


def awaited(recipe: Recipe) -> Recipe:
    """The recipe whose seats are all awaited, however long they take."""
    layers = tuple(replace(layer, quorum=None, grace=None, deadline=None) for layer in recipe.layers)
    return replace(recipe, layers=layers, deadline=None)


@dataclass(slots=True)
class Round:
    """How far a round is. `number` counts from 1.

    looked: questions that were performed
    complete: those of them that lack nothing
    wanted: missing calls, by model
    made: calls that were made
    """

    number: int
    looked: int = 0
    complete: int = 0
    wanted: Mapping[str, int] = field(default_factory=dict)
    made: int = 0


class Rounds:
    """The rounds of a batch.

    recipe: the recipe, as `awaited` makes it
    models: the models that answer from what is stored, by id; see `noting`
    notes: what they have noted
    questions, answers, key_of: as for `work.Batch`
    make: makes all calls that wait; tells the round how many it has made
    bounds: bounds on the conversations
    current: the round under way
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Mapping[str, Model],
        notes: Notes,
        questions: Questions,
        answers: Answers,
        key_of: Callable[[Conversation], bytes],
        make: Callable[[Round], Awaitable[None]],
        bounds: Bounds,
    ) -> None:
        self.recipe, self.notes, self.questions, self.answers, self.key_of = recipe, notes, questions, answers, key_of
        self.models = {name: Counting(model, notes) for name, model in models.items()}
        self.make, self.bounds = make, bounds
        self.current = Round(1)

    @property
    def calls(self) -> Calls:
        return self.notes.calls

    async def perform(self, at_once: int) -> None:
        """Make all calls that the questions need, of which `at_once` are performed at the same time."""
        if self.calls.models() or self.calls.jobs():  # of an earlier start
            await self._make()
        for number in range(1, MOST_ROUNDS + 1):
            self.current = Round(number)
            await together(at_once, partial(self._look, self._open()))
            if not self.calls.models():
                return
            await self._make()

    async def _make(self) -> None:
        self.current.wanted = dict(self.calls.models())
        await self.make(self.current)

    def _open(self) -> Iterator[ParsedRequest]:
        """The questions that have no answer yet."""
        for request, _ in self.questions.read(self.questions.begin()):
            if not request.wrong and self.answers.find(self.key_of(request.conversation)) is None:
                yield request

    async def _look(self, requests: Iterator[ParsedRequest]) -> None:
        for request in requests:
            self.current.complete += await self._ends(request)
            self.current.looked += 1

    async def _ends(self, request: ParsedRequest) -> bool:
        """Perform a question as far as its stored calls lead. Returns whether the run has come to its end."""
        run = new_id()
        performing = asyncio.create_task(
            perform(
                self.recipe,
                request.conversation,
                self.models,
                _ignore,
                watch=False,
                cache=True,
                bounds=self.bounds,
                record=run,
            )
        )
        seen, since = (0, 0), asyncio.get_running_loop().time()
        try:
            while not performing.done():
                await asyncio.wait((performing,), timeout=LOOK)
                now, found = asyncio.get_running_loop().time(), (self.notes.open[run], self.notes.noted[run])
                if found != seen:
                    seen, since = found, now
                elif self.notes.stuck(run) or (found[1] and now - since > IDLE):
                    break
        finally:
            ended = performing.done()
            performing.cancel()
            await asyncio.wait((performing,))
            self.notes.forget(run)
        with suppress(PartsongError, asyncio.CancelledError):  # the last look at the question says what is wrong
            performing.result()
        return ended


async def _ignore(event: AnyEvent) -> None:
    pass
