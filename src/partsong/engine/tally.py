"""The calls of one run: what each has used, when it began and how long it took, and what all of them have used.

A call that is cut off or cancelled has cost something all the same: its prompt, and the tokens it had written. Both
are estimated, high rather than low, so that no run looks cheaper than it was.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.events import CallFinished, Failure
from partsong.model import NOTHING_USED, Answer, Model, Request, Usage
from partsong.model_info import info_of
from partsong.wire.tokens import BYTES_A_TOKEN, estimate_tokens


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call under way.

    address: index of the layer (the number of layers for the aggregator), and index of the seat
    model: id of the model that is asked
    request: the prompt and its settings
    started: when the call began, by the running loop's clock
    letters: characters of the answer that have been heard so far
    """

    address: tuple[int, int]
    model: str
    request: Request
    started: float
    letters: int = 0


class Tally:
    """The usage of one run, call by call.

    models: by id; each may know what a usage costs
    started: when the run began, by the running loop's clock
    finished: where the event of each call that has ended is put
    used: the sum of the usages of all calls that have ended
    """

    def __init__(self, models: Mapping[str, Model], started: float, finished: deque[CallFinished]) -> None:
        self.models, self.started, self.finished = models, started, finished
        self.clock = asyncio.get_running_loop().time
        self.used = NOTHING_USED
        self.open: set[OpenCall] = set()

    def begin(self, address: tuple[int, int], model: str, request: Request) -> OpenCall:
        """A model is about to be asked."""
        call = OpenCall(address, model, request, self.clock())
        self.open.add(call)
        return call

    def answer(self, call: OpenCall, answer: Answer) -> None:
        """Count a call that was answered. A call that was given up before is counted already."""
        if call in self.open:
            self._end(call, answer.usage, None, answer.stored)

    def fail(self, call: OpenCall, error: ModelError, *, given_up: bool = False) -> Usage | None:
        """Count a call that failed, or that nobody waits for any more; return its usage.

        Without a usage in the error, the usage is estimated if the call was given up or its model was heard. Returns
        `None` if nothing is known to have been used, or if the call is counted already.
        """
        if call not in self.open:
            return None
        usage = error.usage
        if usage is None and (given_up or call.letters):
            usage = self._estimated(call)
        self._end(call, usage, Failure(error.cause, str(error), error.status))
        return usage

    def give_up_all(self, error: ModelError) -> None:
        """Count every call that is still open: the run ends."""
        for call in sorted(self.open, key=lambda call: call.address):
            self.fail(call, error, given_up=True)

    def _end(self, call: OpenCall, usage: Usage | None, error: Failure | None, stored: Usage | None = None) -> None:
        self.open.discard(call)
        if usage is not None:
            self.used += usage
        started, seconds = call.started - self.started, self.clock() - call.started
        times = round(started, 6), round(seconds, 6)
        self.finished.append(
            CallFinished(*call.address, call.model, *times, usage, error, stored is not None, stored_usage=stored)
        )

    def _estimated(self, call: OpenCall) -> Usage:
        usage = Usage(estimate_tokens(call.request), -(-call.letters // BYTES_A_TOKEN), estimated=True)
        dollars = info_of(self.models[call.model]).dollars
        return usage if dollars is None else replace(usage, dollars=dollars(usage))
