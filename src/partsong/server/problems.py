"""Converts every failure of a request into a `Problem`, which each API writes in its own format.

The status says what the client can do: change the request or the key (4xx), retry later (429, 503), or allow more time
(504). A provider's complaint about its key or account is a fault of the server (500), and never a 401 for the client.
"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from partsong.errors import (
    BudgetError,
    BusyError,
    Cause,
    ConfigurationError,
    PartsongError,
    QuestionError,
    RecipeError,
    RequestError,
    StoreError,
)
from partsong.events import Failure
from partsong.store import StoreOffError
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
    "no_majority": (502, "server"),
}
# The same request would fail again, and cost as much again.
HOPELESS: frozenset[Cause] = frozenset(
    {"auth", "billing", "refused", "window", "content_filter", "budget", "invalid", "timeout", "cut_off", "no_majority"}
)
LONGEST = 4000  # characters of a message
REPEATED = frozenset({408, 409, 429})  # statuses below 500 after which the official SDKs ask again


class ProblemError(Exception):
    """Ends a request: the response is the `Problem`, in the format of the request's API."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def unusable(error: PartsongError) -> Problem:
    """The problem that tells the client why its run could not start."""
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
        case StoreOffError() | BusyError():
            return Problem(503, "overloaded", str(error), retry_after=5.0)
        case StoreError():
            # The error names a file of the server, which is for its log alone.
            message = "the store of the server does not work now, and this request needs it"
            return Problem(503, "overloaded", message, code="store", retry_after=5.0)
        case _:
            return Problem(500, "server", str(error), retryable=False)


def internal() -> Problem:
    """The problem of an error that nobody foresaw. Its traceback belongs into the log, and nowhere else."""
    return Problem(500, "server", "the server has an internal error; see its log", retryable=False)


def presentable(problem: Problem) -> Problem:
    """The problem with a message that is not too long, since it may repeat what the client has sent."""
    if len(problem.message) <= LONGEST:
        return problem
    return replace(problem, message=f"{problem.message[: LONGEST // 2]} […] {problem.message[-LONGEST // 2 :]}")


def failed(error: Failure, report: dict[str, Any], strict: bool = False) -> Problem:
    """The problem that tells the client why its run ended without an answer.

    error: why the run failed
    report: the report on the run, as plain values
    strict: whether a loss ended the run of a strict recipe (default: no). Its calls were already retried, so the client
        is told not to retry.
    """
    status, kind = STATUSES[error.cause]
    if error.status is not None and 300 <= error.status < 400:
        status, kind = 502, "server"  # the provider answered with a redirection, which is no fault of the client
    hopeless = error.cause in HOPELESS or strict
    after = 5.0 if status in (429, 503) and not hopeless else None
    return Problem(
        status, kind, error.message, code=error.cause, retry_after=after, retryable=not hopeless, partsong=report
    )


def problem_headers(problem: Problem) -> dict[str, str]:
    """The HTTP headers of a problem's response: when a client should retry, or that it should not retry."""
    headers = {"cache-control": "no-store"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, round(problem.retry_after)))
    if not problem.retryable or (problem.status < 500 and problem.status not in REPEATED):
        headers["x-should-retry"] = "false"
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers
