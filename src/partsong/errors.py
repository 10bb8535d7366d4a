"""The exceptions that partsong raises, sorted by what the caller can do about them.

    PartsongError
    ├── InputError            the input must be changed; no model was called and no money spent
    │   ├── RecipeError       a recipe is wrong: the message has file and field
    │   ├── ConfigurationError partsong.toml or the environment is wrong: the message has file and field, or variable
    │   ├── QuestionError     the conversation is empty, too long, or has an image or document that cannot be read
    │   ├── RequestError      a client's HTTP request is wrong: the message has the field
    │   └── BudgetError       the allowed money is not enough for any part of the recipe, or a price is unknown
    ├── BusyError             this process has too much to do; the same request may succeed a little later
    ├── WeightsError          a local model's file cannot be fetched: no source, no disk space, or a wrong checksum
    ├── StoreError            the store cannot be opened, read or written
    ├── ModelError            one call to a model failed: `cause` says why, `passing` whether a retry makes sense
    └── RunError              the run ended without an answer: `transcript` holds what had happened until then

A `ModelError` in one seat does not end a run: the seat is lost, and its layer goes on with the other seats.
"""

from typing import TYPE_CHECKING, Literal, get_args

from partsong.model import Usage

if TYPE_CHECKING:
    from partsong.transcript import Transcript

Cause = Literal[
    "auth",  # the key is missing, wrong, or may not use this model
    "billing",  # the account is out of money
    "rate",  # too many requests or tokens for now
    "timeout",  # the answer took longer than allowed
    "refused",  # the provider rejects the request, or does not know the model
    "window",  # the request is longer than the model's context window
    "content_filter",  # the provider's filter stopped the request or the answer
    "empty",  # the answer has neither text nor a tool call
    "truncated",  # the stream broke off before the provider announced its end
    "server",  # the provider reported a fault of its own, or sent a response that cannot be parsed
    "network",  # the provider was not reached, or the connection broke
    "resting",  # the circuit breaker is open: the provider has failed too often of late, so no request was sent
    "budget",  # the call could have cost more than the allowed money, so no request was sent
    "invalid",  # the answer calls an undeclared tool, or its arguments or its JSON do not fit the schema
    "cut_off",  # the layer's quorum had answered and the grace was over, so the call was stopped
    "cancelled",  # the caller left, or the run ended before the call did
    "no_proposals",  # every seat of a layer was lost
    "no_majority",  # a vote had no majority, and the recipe says that the run then fails
]
# The request was rejected before a model worked on it, or was never sent, so the call has cost nothing.
TURNED_AWAY: frozenset[Cause] = frozenset({"auth", "billing", "rate", "refused", "window", "resting", "budget"})
# partsong itself refused the call, so no request was sent.
NEVER_ASKED: frozenset[Cause] = frozenset({"resting", "budget", "window"})
# Every other run of the same recipe would fail for the same reason.
HOPELESS: frozenset[Cause] = frozenset({"auth", "billing"})
# The same call may succeed a little later.
PASSING: frozenset[Cause] = frozenset({"rate", "timeout", "server", "network", "truncated"})
CAUSES: tuple[Cause, ...] = get_args(Cause)


class PartsongError(Exception):
    """The base of all exceptions that partsong raises on purpose."""


class InputError(PartsongError):
    """The input must be changed before a run is possible. Raised before any model is called."""


class RecipeError(InputError):
    """A recipe is wrong: the message names the file, the field and a correct value."""


class ConfigurationError(InputError):
    """The configuration is wrong or lacks something: the message names the file and field, or the variable."""


class QuestionError(InputError):
    """The conversation cannot be sent: it is empty, too long, or has an image or document that cannot be read.

    field: the wrong field, such as `tools[0]` or `response_format`; `None` (default) for the messages
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestError(InputError):
    """A client's HTTP request cannot be parsed, or asks for a feature that partsong does not have.

    field: path of the wrong field in the body, such as `tools[0].name`; `None` if no single field is wrong
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BudgetError(InputError):
    """The allowed money does not even pay for the smallest part of the recipe, or the price of a model is unknown.

    The message says what the run may cost, or which price is missing.
    """


class BusyError(PartsongError):
    """This process has too much to do, and no money was spent. The same request may succeed a little later."""


class StoreError(PartsongError):
    """The store of runs and calls cannot be opened, read or written: the message names the file."""


class WeightsError(PartsongError):
    """The weights of a local model cannot be fetched or read: the message says which source failed, and why."""


class ModelError(PartsongError):
    """One call to one model failed.

    status: the HTTP status of the response; `None` if there was no response
    retry_after: seconds that the provider asked the client to wait; `None` if the provider did not say
    usage: tokens and dollars of the failed call; `None` if they are not known
    window: the model's context window in tokens, if the provider's refusal names it; else `None`
    sent: for the cause "network", whether the request had been sent, so that the provider may charge for it
    again: whether the provider allows a retry; `None` if the provider did not say, so that the cause decides
    wrote: the unusable text of the model, if the provider's error shows it; else ""
    """

    def __init__(
        self,
        message: str,
        cause: Cause,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
        window: int | None = None,
        sent: bool = False,
        again: bool | None = None,
        wrote: str = "",
    ) -> None:
        super().__init__(message)
        self.cause: Cause = cause
        self.status = status
        self.retry_after = retry_after
        self.usage = usage
        self.window = window
        self.sent = sent
        self.again = again
        self.wrote = wrote

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.cause in PASSING if self.again is None else self.again

    @property
    def unpaid(self) -> bool:
        """Whether the call has certainly cost nothing."""
        if self.usage is not None:
            return self.usage.dollars == 0
        match self.cause:
            case "network":
                return not self.sent
            case "server":
                # A status means that an error came instead of an answer. Without one, an answer came that could not
                # be parsed, and the provider may charge for it.
                return self.status is not None
            case cause:
                return cause in TURNED_AWAY


class RunError(PartsongError):
    """The run ended without an answer. `transcript` holds the proposals, calls and losses until then."""

    def __init__(self, message: str, transcript: "Transcript") -> None:
        super().__init__(message)
        self.transcript = transcript
