"""The local models that are being fetched or loaded: told in the log, in `/readyz`, and to the page."""

import time
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from partsong.weights.fetch import Fetching, State
from partsong.weights.part import in_words

OFTEN = 10.0  # seconds between two lines of the log about the same file
Doing = Literal["fetching", "waiting", "checking", "loading"]
DOING: dict[State, Doing] = {
    "starting": "fetching",
    "trying": "fetching",
    "failed": "fetching",
    "altered": "fetching",
    "moving": "fetching",
    "waiting": "waiting",
    "checking": "checking",
    "loading": "loading",
}


class Prepared(Struct, frozen=True):
    """A model that is being fetched or loaded.

    model: id of the model
    state: "fetching", "waiting" for another process that fetches the file, "checking" its hash, or "loading"
    done: bytes that have arrived or have been checked; 0 while a file is loaded
    total: size of the file in bytes; `None` if it is not known
    """

    model: str
    state: Doing
    done: int = 0
    total: int | None = None


class Preparing:
    """The models that are being fetched or loaded.

    tell: writes a line of the log, from its level and its text
    clock: seconds of a monotonic clock
    waiting: number of requests that wait for a model to be fetched
    """

    def __init__(self, tell: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.tell, self.clock = tell, clock
        self.waiting = 0
        self._models: dict[str, Prepared] = {}
        self._told: dict[str, float] = {}  # when the log last had a line about a model that is being fetched

    def all(self) -> list[Prepared]:
        """The models, in the order in which they began."""
        return list(self._models.values())

    def hear(self, event: Fetching) -> None:
        """Take in how the fetching or the loading of a model goes on. Called on the event loop."""
        model = f"local:{event.name}"
        doing = DOING.get(event.state)
        before = self._models.pop(model, None) if doing is None else self._models.get(model)
        if doing is not None:
            self._models[model] = Prepared(model, doing, event.done, event.total)
        match event.state:
            case "loading":
                self.tell("info", f"loading {model}")
            case "loaded":
                self.tell("info", f"{model}: the loading has ended")
            case "starting" | "waiting":
                size = f" ({in_words(event.total)})" if event.total else ""
                said = f"fetching {model}{size}" if event.state == "starting" else f"{model}{size}: {event.note}"
                self.tell("info", said)
                self._told[model] = self.clock()
            case "moving" | "checking":
                self._progress(model, event)
            case "failed" | "altered":
                self.tell("warning", f"{model}: {event.source}{': ' if event.source else ''}{event.note}")
            case "ended":
                self._ended(model, event, before)
            case "trying" | "ready":
                pass

    def _progress(self, model: str, event: Fetching) -> None:
        now = self.clock()
        if now - self._told.setdefault(model, now) >= OFTEN:
            self._told[model] = now
            whole = f" of {in_words(event.total)}" if event.total else ""
            self.tell("info", f"{DOING[event.state]} {model}: {in_words(event.done)}{whole}")

    def _ended(self, model: str, event: Fetching, before: Prepared | None) -> None:
        told = self._told.pop(model, None)
        if event.note:
            self.tell("warning", f"{model}: cannot be used: {event.note}")
        elif told is not None or before is not None:
            self.tell("info", f"{model}: the file is there")
