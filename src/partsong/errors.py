"""What can go wrong, sorted by what the caller can do about it.

    PartsongError
    ├── InputError            change what you asked for; nothing was spent
    │   ├── RecipeError       … in a recipe: says file and field
    │   ├── ConfigurationError… in partsong.toml or the environment: says file and field, or the variable
    │   ├── QuestionError     … in the conversation: empty, too long, a picture or document that cannot be read
    │   ├── RequestError      … in a request of a client's, over HTTP: says the field
    │   └── BudgetError       … or allow more money: it would not have been enough, or a price is unknown
    ├── BusyError             this process has too much to do for now: ask again a little later
    ├── WeightsError          a local model's file cannot be had: no source, no room, the wrong bytes
    ├── StoreError            the store cannot be opened, read or written
    ├── ModelError            one call failed: says the cause; some causes pass, so that trying again makes sense
    └── RunError              the run ended without an answer: carries the transcript of what there was

A `ModelError` never ends a mixture by itself: the seat is lost, the layer goes on.
"""

from typing import TYPE_CHECKING, Literal, get_args

from partsong.model import Usage

if TYPE_CHECKING:
    from partsong.transcript import Transcript

Cause = Literal[
    "auth",  # the key is missing, wrong, or may not use this model
    "billing",  # the account is out of money
    "rate",  # too many requests or tokens for now
    "timeout",  # it took longer than allowed
    "refused",  # the provider does not accept the request as it is, or does not know the model
    "window",  # the request is longer than the model can read
    "content_filter",  # the provider's filter stopped the request or the answer
    "empty",  # it answered without a word
    "truncated",  # the answer broke off before its end was announced
    "server",  # the provider is broken, or answered what nobody can read
    "network",  # the provider was not reached, or the connection broke
    "resting",  # the provider has failed too often of late, so it was not asked
    "budget",  # the money that was allowed would not have been enough
    "invalid",  # what it answered is not what was asked for: an undeclared tool, arguments or JSON against the schema
    "cut_off",  # we stopped it: the layer's quorum had answered and the grace was over
    "cancelled",  # the caller left
    "no_proposals",  # every seat of a layer was lost
]
# What was turned away before a model worked on it, or never asked.
TURNED_AWAY: frozenset[Cause] = frozenset({"auth", "billing", "rate", "refused", "window", "resting", "budget"})
# Refused on this machine, before a model was asked.
NEVER_ASKED: frozenset[Cause] = frozenset({"resting", "budget", "window"})
# Every other run of the same recipe fails for the same reason.
HOPELESS: frozenset[Cause] = frozenset({"auth", "billing"})
PASSING: frozenset[Cause] = frozenset({"rate", "timeout", "server", "network", "truncated"})
CAUSES: tuple[Cause, ...] = get_args(Cause)


class PartsongError(Exception):
    """Everything that partsong raises on purpose."""


class InputError(PartsongError):
    """What was asked for cannot be done as it stands. Raised before any model is called."""


class RecipeError(InputError):
    """A recipe is wrong: the message names the file, the field and what would be right."""


class ConfigurationError(InputError):
    """The configuration is wrong or lacks something: the message names the file and field, or the variable."""


class QuestionError(InputError):
    """The conversation cannot be sent: it is empty, too long, or has a picture or document that cannot be read.

    `field` is the field of the conversation where it is not the messages: `tools[0]` or `response_format`.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestError(InputError):
    """A client's request cannot be read, or asks for what a mixture cannot do. `field` says where: `tools[0].name`."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BudgetError(InputError):
    """The money that was allowed is not enough for any of it, or a price is unknown: says what would be."""


class BusyError(PartsongError):
    """This process has too much to do for now, and nothing was spent: ask again a little later."""


class StoreError(PartsongError):
    """The store of runs and calls cannot be opened, read or written: the message names the file."""


class WeightsError(PartsongError):
    """A local model's weights cannot be had: the message says which source failed, and how."""


class ModelError(PartsongError):
    """One call to one model failed.

    status: the HTTP status, where there was one
    retry_after: seconds that the provider asked us to wait
    usage: what the call has cost all the same, where that is known
    window: how many tokens the model reads, where the provider said so
    sent: of a network fault, whether the request was on its way, so that the provider may have done its work
    again: whether the same call may be made again, where the provider said so; `None` leaves that to the cause
    wrote: what the model had written that could not be used, where the provider showed it
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
                return self.status is not None  # in place of an answer; without one, nobody could read the answer
            case cause:
                return cause in TURNED_AWAY


class RunError(PartsongError):
    """The run ended without an answer. `transcript` holds everything there was until then."""

    def __init__(self, message: str, transcript: "Transcript") -> None:
        super().__init__(message)
        self.transcript = transcript
