"""Converts every failure of a request into a `Problem`, which each API writes in its own format.

The status says what the client can do: change the request or the key (4xx), retry later (429, 503), or allow more time
(504). A provider's complaint about its key or account is a fault of the server (500), and never a 401 for the client.
"""

from collections.abc import Mapping
from typing import Any

from partsong.errors import (
    BudgetError,
    Cause,
    ConfigurationError,
    PartsongError,
    QuestionError,
    RecipeError,
    RequestError,
    StoreError,
)
from partsong.events import Failure
from partsong.wire.reply import Kind, Problem

# The status and the kind of error for each cause of a failed run.
STATUSES: Mapping[Cause, tuple[int, Kind]] = {
    "auth": (500, "server"),
    "billing": (500, "server"),
    "rate": (429, "rate_limit"),
    "timeout": (504, "timeout"),
    "refused": (400, "invalid_request"),
    "window": (400, "invalid_request"),
    "content_filter": (400, "invalid_request"),
    "empty": (502, "server"),
    "truncated": (502, "server"),
    "server": (502, "server"),
    "network": (502, "server"),
    "resting": (503, "overloaded"),
    "budget": (402, "billing"),
    "invalid": (502, "server"),
    "cut_off": (504, "timeout"),
    "cancelled": (503, "overloaded"),
    "no_proposals": (502, "server"),
}


class ProblemError(Exception):
    """A request is answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def unusable(error: PartsongError) -> Problem:
    """The problem of a request whose run could not start."""
    match error:
        case RequestError():
            return Problem(400, "invalid_request", str(error), field=error.field)
        case BudgetError():
            return Problem(402, "billing", str(error), code="budget")
        case QuestionError():
            return Problem(400, "invalid_request", str(error), field=error.field or "messages")
        case RecipeError():
            return Problem(400, "invalid_request", str(error), field="model")
        case ConfigurationError():
            return Problem(404, "not_found", str(error), field="model", code="model_not_found")
        case StoreError():
            return Problem(503, "overloaded", str(error), retry_after=5.0)
        case _:
            return Problem(500, "server", str(error))


def failed(error: Failure, report: dict[str, Any]) -> Problem:
    """The problem of a run that ended without an answer."""
    status, kind = STATUSES[error.cause]
    after = 5.0 if status in (429, 503) else None
    return Problem(status, kind, error.message, code=error.cause, retry_after=after, partsong=report)
