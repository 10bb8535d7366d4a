"""Counts the calls of one run: the usage, the start and the duration of each, and the usage of all together.

A call that is cut off or cancelled still costs its prompt and the tokens that the model had written. Both are
estimated, rather too high, so that no run looks cheaper than it was.
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
    """A call that has not ended.

    address: index of the layer (the number of layers for the aggregator), and index of the seat in it
    model: id of the model that is asked
    request: the prompt and its settings
    started: when the call began, by the running loop's clock
    letters: number of characters of the answer that have arrived so far
    """

    address: tuple[int, int]
    model: str
    request: Request
    started: float
    letters: int = 0


class Tally:
    """Counts the calls of one run.

    models: the models, by id; their prices are used for estimates
    started: when the run began, by the running loop's clock
    finished: queue to which the event of each ended call is appended
    used: sum of the usages of all ended calls
    open: the calls that have not ended
    """

    def __init__(self, models: Mapping[str, Model], started: float, finished: deque[CallFinished]) -> None:
        self.models, self.started, self.finished = models, started, finished
        self.clock = asyncio.get_running_loop().time
        self.used = NOTHING_USED
        self.open: set[OpenCall] = set()
        self._measured: tuple[Request, int] | None = None  # the last request whose tokens were estimated

    def begin(self, address: tuple[int, int], model: str, request: Request) -> OpenCall:
        """Open a call, right before the model is asked."""
        call = OpenCall(address, model, request, self.clock())
        self.open.add(call)
        return call

    def answer(self, call: OpenCall, answer: Answer) -> None:
        """Count a call that was answered. Nothing happens if the call was given up, and so counted, before."""
        if call in self.open:
            self._end(call, answer.usage, None, answer.stored)

    def fail(self, call: OpenCall, error: ModelError, *, given_up: bool = False) -> Usage | None:
        """Count a call that failed, and return its usage; `None` if no usage is known or the call is counted already.

        given_up: whether the call did not fail itself but is no longer waited for (default: no)

        If `error` has no usage, the usage is estimated for a call that was given up or had begun to answer.
        """
        if call not in self.open:
            return None
        usage = error.usage
        if usage is None and (given_up or call.letters):
            usage = self._estimated(call)
        self._end(call, usage, Failure(error.cause, str(error), error.status))
        return usage

    def give_up_all(self, error: ModelError) -> None:
        """Count every open call as given up because of `error`, since the run ends."""
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
        usage = Usage(self._asked(call.request), -(-call.letters // BYTES_A_TOKEN), estimated=True)
        dollars = info_of(self.models[call.model]).dollars
        return usage if dollars is None else replace(usage, dollars=dollars(usage))

    def _asked(self, request: Request) -> int:
        """The estimated input tokens. Seats of a layer share their messages, which are then measured once."""
        if self._measured is None or not _alike(self._measured[0], request):
            self._measured = request, estimate_tokens(request)
        return self._measured[1]


def _alike(one: Request, other: Request) -> bool:
    """Whether two requests consist of the same objects, as far as their input tokens are concerned."""
    return one.messages is other.messages and one.tools is other.tools and one.response_format is other.response_format
