"""Counts the calls of one run: the usage, the start and the duration of each, and the usage of all together.

A call that is cut off or cancelled still costs its prompt and the tokens that the model had written. Both are
estimated, rather too high, so that no run looks cheaper than it was.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.events import CallFinished, Failure, ToolUsed
from partsong.model import NOTHING_USED, Answer, Model, Request, Usage
from partsong.model_info import info_of
from partsong.wire.tokens import BYTES_A_TOKEN, estimate_tokens

LONGEST_ARGUMENTS = 2000  # characters of a tool call's arguments that its event keeps


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


@dataclass(slots=True, eq=False)
class OpenUse:
    """A tool call that has not ended. See `ToolUsed` for the fields that are not explained here.

    address: index of the layer (the number of layers for the aggregator), and index of the seat in it
    started: when the tool call began, by the running loop's clock
    """

    address: tuple[int, int]
    model: str
    server: str
    tool: str
    arguments: str
    started: float
    dollars: Decimal = Decimal(0)


class Tally:
    """Counts the calls of one run, and its tool calls.

    models: the models, by id; their prices are used for estimates
    started: when the run began, by the running loop's clock
    finished: queue to which the event of each ended call is appended
    used: sum of the usages of all ended calls, and of the dollars of all ended tool calls
    open: the calls that have not ended
    uses: the tool calls that have not ended
    read: the tool calls that have ended
    """

    def __init__(self, models: Mapping[str, Model], started: float, finished: deque[CallFinished | ToolUsed]) -> None:
        self.models, self.started, self.finished = models, started, finished
        self.clock = asyncio.get_running_loop().time
        self.used = NOTHING_USED
        self.open: set[OpenCall] = set()
        self.uses: set[OpenUse] = set()
        self.read: list[ToolUsed] = []
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

    def begin_use(self, address: tuple[int, int], model: str, server: str, tool: str, arguments: str) -> OpenUse:
        """Open a tool call, right before the tool is called."""
        use = OpenUse(address, model, server, tool, arguments[:LONGEST_ARGUMENTS], self.clock())
        self.uses.add(use)
        return use

    def end_use(self, use: OpenUse, size: int = 0, error: str = "", sources: tuple[str, ...] = ()) -> None:
        """Count a tool call that has ended. Nothing happens if it was given up, and so counted, before."""
        if use not in self.uses:
            return
        self.uses.discard(use)
        if use.dollars:
            self.used += Usage(dollars=use.dollars)
        times = round(use.started - self.started, 6), round(self.clock() - use.started, 6)
        what = use.model, use.server, use.tool, use.arguments
        self.read.append(ToolUsed(*use.address, *what, *times, size, error, use.dollars, sources))
        self.finished.append(self.read[-1])

    def recall_use(self, address: tuple[int, int], use: ToolUsed) -> None:
        """Tell a tool call of an earlier run again, which costs nothing now and takes no time."""
        layer, seat = address
        before = max((each.started for each in self.read if (each.layer, each.seat) == address), default=-1.0)
        now = round(max(self.clock() - self.started, before + 1e-6), 6)  # so that they keep their order
        again = replace(use, layer=layer, seat=seat, started=now, seconds=0.0, dollars=Decimal(0))
        self.read.append(again)
        self.finished.append(again)

    def give_up_uses(self, error: ModelError, address: tuple[int, int] | None = None) -> None:
        """Count the open tool calls of a seat (`None`, the default: of all seats) as given up because of `error`."""
        for use in sorted(self.uses, key=lambda use: (use.address, use.started)):
            if address in (None, use.address):
                self.end_use(use, error=f"it was given up: {error}")

    def give_up_all(self, error: ModelError) -> None:
        """Count every open call and tool call as given up because of `error`, since the run ends."""
        self.give_up_uses(error)
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
