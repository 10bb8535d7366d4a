"""The conversation that `ask --continue` goes on from: an earlier run's messages, its answer, and its recipe."""

from msgspec import Struct

from partsong.cli.journal import stored_run
from partsong.errors import InputError
from partsong.events import RunFinished, RunStarted
from partsong.model import Message, Text
from partsong.recipe import Recipe
from partsong.store import AFTER, CONVERSATION


class Earlier(Struct, frozen=True):
    """An earlier run.

    messages: its conversation with its answer
    recipe: the recipe that it was performed with
    labels: labels of a run that continues the conversation
    """

    messages: tuple[Message, ...]
    recipe: Recipe
    labels: dict[str, str]


async def earlier(name: str) -> Earlier:
    """Read the run to go on from. `name`: the run's id, the first letters of the id, or "last".

    Raises `InputError` if there is no such run, if its words were not stored, or if it has no answer.
    """
    run, events = await stored_run(name)
    if not events:
        raise InputError(f"the run {run.id} was stored without its words, so nothing can go on from it")
    first, last = events[0][1], events[-1][1]
    if not isinstance(first, RunStarted) or not isinstance(last, RunFinished):
        raise InputError(f"the run {run.id} has no answer to go on from")
    answer = Message("assistant", (Text(last.answer.text),))
    labels = {CONVERSATION: run.labels.get(CONVERSATION, run.id), AFTER: run.id}
    return Earlier((*first.conversation.messages, answer), first.recipe, labels)
