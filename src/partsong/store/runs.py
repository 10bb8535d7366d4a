"""Runs as the store knows them: a summary of each, its events with their times, and what a search asks for."""

import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from partsong.events import AnyEvent

CONVERSATION = "conversation"  # the label that names the conversation of a run: the id of its first run, or any name
AGAIN = "again"  # the label that names the earlier run of a run that was made from it
AFTER = "after"  # the label that names the run whose answer a run goes on from; empty for the first of a conversation
Status = Literal["open", "finished", "failed"]
Source = Literal["", "batch", "bench"]  # who asked: "" for a person or a program
Timed = tuple[float, AnyEvent]  # seconds since the run's start, and the event


class StoredRun(Struct, frozen=True):
    """The summary of a run.

    id: twelve letters and digits that sort by time
    mode: "full", or "metadata" for a run that was stored without words and events
    started: when the run began
    seconds: time from the start to the latest event
    recipe: name of the recipe
    model: id of the model that wrote the answer, or of the recipe's aggregator until then
    question: first line of the question; empty in mode "metadata"
    status: "open" for a run that goes on or whose process died, else "finished" or "failed"
    cause: why the run failed; empty otherwise
    calls: calls that reached a model
    stored: answers that came from the store, not counted in `calls`
    tokens: input and output tokens of all calls
    dollars: price of all calls; `None` if the price of one is unknown
    losses: losses of the run
    caller: owner of the run: `Key.owner` of the key that asked for it; empty for the user of the command line
    labels: what the caller called the run
    layers: number of layers, counting the aggregator; 0 for a run that was stored before layers were counted
    source: whether a batch or a bench made the run; such runs are apart from those that somebody asks
    """

    id: str
    mode: str
    started: datetime.datetime
    seconds: float
    recipe: str
    model: str
    question: str
    status: Status
    cause: str
    calls: int
    stored: int
    tokens: int
    dollars: Decimal | None
    losses: int
    caller: str = ""
    labels: dict[str, str] = {}
    layers: int = 0
    source: Source = ""


class Search(Struct, frozen=True):
    """Which runs of one caller to find. An empty field restricts nothing.

    caller: owner of the runs (`Key.owner`); empty for the user of the command line
    text: words that the question must contain, in any order and either case
    recipe: name of the recipe
    model: id of a model that wrote the answer, was asked in the run, or was to be asked
    min_dollars: least price
    lost: only runs with losses
    after: Unix time; only runs that began then or later
    before: id of a run; only runs older than this one, so that new runs never shift a page
    limit: most runs to find
    apart: whether runs of batches and benches are found too
    """

    caller: str = ""
    text: str = ""
    recipe: str = ""
    model: str = ""
    min_dollars: float | None = None
    lost: bool = False
    after: float | None = None
    before: str = ""
    limit: int = 50
    apart: bool = False


class Pruned(Struct, frozen=True):
    """What pruning has deleted, and by how many bytes it made the store smaller."""

    runs: int
    calls: int
    bytes: int


class Deleted(Struct, frozen=True):
    """How many runs, and how many calls of these runs, were deleted."""

    runs: int
    calls: int
