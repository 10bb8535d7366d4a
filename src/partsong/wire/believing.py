"""Which reported usages are believed: a count that is higher than the call can have used is replaced by an estimate.

Providers read more than they are sent (searches, the results of tools of their own), and write reasoning that nobody
sees. So the limits are far above honest counts, but a count beyond them would be billed as money that no call can cost.
A count that is not believed counts as not reported: an estimate takes its place, and the usage is marked as estimated.
"""

from collections.abc import Callable

from partsong.model import Request, Usage
from partsong.wire.tokens import estimate_tokens

ERROR = 4  # times that a text may have as many tokens as partsong estimates
READ_BESIDE = 2_000_000  # input tokens beside the request: what a provider's own tools may have read
HIDDEN = 1_000_000  # output tokens that nobody sees, for a request without `max_tokens`
HIDDEN_BESIDE = 131_072  # output tokens that nobody sees beside `max_tokens`
TOKENS_A_CHARACTER = 4  # at most: the bytes of a character in UTF-8


class Believable:
    """The most tokens that one call can have used.

    request: the call's request
    written: returns the text, the reasoning and the tool calls that have come
    """

    __slots__ = ("_request", "_written")

    def __init__(self, request: Request, written: Callable[[], str]) -> None:
        self._request, self._written = request, written

    def asked(self, tokens: int) -> bool:
        """Return whether the call can have had so many input tokens."""
        return tokens <= READ_BESIDE or tokens <= READ_BESIDE + ERROR * estimate_tokens(self._request)

    def said(self, tokens: int) -> bool:
        """Return whether the call can have had so many output tokens."""
        if tokens <= HIDDEN_BESIDE:
            return True
        sampling = self._request.sampling
        limit = sampling.max_tokens
        hidden = HIDDEN if limit is None else HIDDEN_BESIDE + ERROR * (limit + (sampling.thinking or 0))
        return tokens <= hidden + TOKENS_A_CHARACTER * len(self._written())


def believed(usage: Usage, believable: Believable) -> tuple[Usage, bool]:
    """Return a usage without the counts that are not believed, and whether there were any. Prices are not checked."""
    asked, said = believable.asked(usage.input_tokens), believable.said(usage.output_tokens)
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    thought = usage.reasoning_tokens if believable.said(usage.reasoning_tokens) else 0
    usage = Usage(
        usage.input_tokens if asked else 0,
        usage.output_tokens if said else 0,
        cached if asked else 0,
        thought if said else 0,
        usage.dollars,
        usage.estimated,
        written if asked else 0,
    )
    return usage, not (asked and said)
