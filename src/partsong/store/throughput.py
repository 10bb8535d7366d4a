"""How fast a model has been in its latest calls."""

import statistics
from collections.abc import Sequence

from msgspec import Struct

RECENT = 20  # calls: enough for a median, and few enough to follow a provider's busy hours


class Throughput(Struct, frozen=True):
    """The speed of a model.

    first: seconds to the first token; `None` if no call was streamed
    each: seconds for each output token after the first one
    tokens: output tokens of a usual answer
    """

    first: float | None
    each: float
    tokens: int

    def seconds(self, tokens: int | None = None) -> float:
        """How long an answer of `tokens` output tokens takes; by default an answer of the usual length."""
        return (self.first or 0.0) + self.each * (self.tokens if tokens is None else tokens)


def throughput_of(calls: Sequence[tuple[float, float | None, int]]) -> Throughput:
    """The throughput of one call or more, each given as seconds, seconds to the first token, and output tokens.

    Medians are taken, because one call that hung or was cut short says little about the next one.
    """
    streamed = [(seconds, first, tokens) for seconds, first, tokens in calls if first is not None]
    tokens = round(statistics.median(tokens for _, _, tokens in calls))
    if not streamed:
        return Throughput(None, statistics.median(seconds / tokens for seconds, _, tokens in calls), tokens)
    return Throughput(
        statistics.median(first for _, first, _ in streamed),
        statistics.median((seconds - first) / tokens for seconds, first, tokens in streamed),
        tokens,
    )
