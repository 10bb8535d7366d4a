"""What a run has used: what its calls report, and an estimate for those that were given up before they could.

A call that is cut off or cancelled has cost something all the same: what it was asked, and what it had said so far. So
that no run looks cheaper than it was, both are counted, high rather than low, and marked as estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import NOTHING_USED, Model, Request, Usage
from partsong.model_info import info_of
from partsong.wire.tokens import BYTES_A_TOKEN, estimate_tokens


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call under way; `letters` counts what was heard of it."""

    model: str
    request: Request
    letters: int = 0


class Tally:
    """The usage of one run, call by call. `models` say what a usage costs, where they know."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self.used = NOTHING_USED
        self.calls: set[OpenCall] = set()

    def begin(self, model: str, request: Request) -> OpenCall:
        """A model is about to be asked."""
        call = OpenCall(model, request)
        self.calls.add(call)
        return call

    def finish(self, call: OpenCall, usage: Usage) -> None:
        """It has answered."""
        if call in self.calls:
            self.calls.discard(call)
            self.used += usage

    def fail(self, call: OpenCall, error: ModelError) -> Usage | None:
        """It has failed: returns what that has cost, as far as the model says so, or as it was heard speaking."""
        if call not in self.calls:
            return None
        usage = self.estimated(call) if error.usage is None and call.letters else error.usage
        self.calls.discard(call)
        if usage is not None:
            self.used += usage
        return usage

    def give_up(self, call: OpenCall) -> Usage | None:
        """Nobody waits for it any more: returns what it has cost so far, `None` if that is counted already."""
        if call not in self.calls:
            return None
        self.calls.discard(call)
        usage = self.estimated(call)
        self.used += usage
        return usage

    def give_up_all(self) -> None:
        """The run ends while calls are open."""
        for call in list(self.calls):
            self.give_up(call)

    def estimated(self, call: OpenCall) -> Usage:
        usage = Usage(estimate_tokens(call.request), -(-call.letters // BYTES_A_TOKEN), estimated=True)
        dollars = info_of(self.models[call.model]).dollars
        return usage if dollars is None else replace(usage, dollars=dollars(usage))
